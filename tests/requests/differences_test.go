package requests_test

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// difference is one that is known: a line of testdata/differences.txt.
type difference struct {
	// request is a pattern of SCRIPT/NAME, part what of the answer differs.
	request, part, reason string
	found                 bool
}

type differences struct{ list []*difference }

// readDifferences reads lines of
//
//	explained REQUEST PART: REASON
//
// where REQUEST is SCRIPT/NAME with * for any, and PART is status, header:NAME, body, or body:/POINTER with * for any key
// or element. Of documents/PATH the PART is one of the document's.
func readDifferences(t *testing.T, file string) *differences {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out differences
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		head, reason, ok := strings.Cut(line, ": ")
		words := strings.Fields(head)
		if !ok || len(words) != 3 || words[0] != "explained" {
			t.Fatalf("%s: cannot read %q", file, line)
		}
		out.list = append(out.list, &difference{request: words[1], part: words[2], reason: reason})
	}
	return &out
}

// of returns the differences that a request may have.
func (d *differences) of(request string) (out []*difference) {
	for _, known := range d.list {
		if match, _ := path.Match(known.request, request); match {
			out = append(out, known)
		}
	}
	return out
}

// checkStale fails for differences of a script, or of any, that did not occur.
func (d *differences) checkStale(t *testing.T, script string) {
	t.Helper()
	for _, known := range d.list {
		if !known.found && strings.HasPrefix(known.request, script+"/") {
			t.Errorf("%s %s is as upstream's: take it out of testdata/differences.txt", known.request, known.part)
		}
	}
}

// isOf reports whether two answers differ in the part.
func (d *difference) isOf(want, got answer) bool {
	kind, what, _ := strings.Cut(d.part, ":")
	switch kind {
	case "status":
		return want.status != got.status
	case "header":
		return want.header[what] != got.header[what]
	default:
		return !cmp.Equal(collect(want.body, pointer(what)), collect(got.body, pointer(what)))
	}
}

// leaveOut returns an answer without the part.
func (d *difference) leaveOut(a answer) answer {
	kind, what, _ := strings.Cut(d.part, ":")
	switch kind {
	case "status":
		a.status = ""
	case "header":
		a.header = maps.Clone(a.header)
		delete(a.header, what)
	case "body":
		a.body = without(a.body, pointer(what))
	}
	return a
}

// pointer splits /a/b: none is all of the body.
func pointer(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimPrefix(text, "/"), "/")
}

// below returns the keys of a value that the first part of a pointer names, in order, and what is there.
func below(v any, part string) (keys []string, values []any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if part == "*" || part == strings.ReplaceAll(k, "/", "~1") {
				keys, values = append(keys, k), append(values, v[k])
			}
		}
	case []any:
		return make([]string, len(v)), v
	}
	return keys, values
}

// collect returns what is at a pointer.
func collect(v any, pointer []string) (out []any) {
	if len(pointer) == 0 {
		return []any{v}
	}
	_, values := below(v, pointer[0])
	for _, e := range values {
		out = append(out, collect(e, pointer[1:])...)
	}
	return out
}

// without returns a value without what is at a pointer.
func without(v any, pointer []string) any {
	if len(pointer) == 0 {
		return nil
	}
	keys, values := below(v, pointer[0])
	switch v := v.(type) {
	case map[string]any:
		out := maps.Clone(v)
		for i, k := range keys {
			if out[k] = without(values[i], pointer[1:]); out[k] == nil {
				delete(out, k)
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, without(e, pointer[1:]))
		}
		return out
	}
	return v
}
