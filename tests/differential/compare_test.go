package differential_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
)

// difference is one that is known: a line of testdata/differences.txt.
type difference struct {
	script, object, reason string
	// explained ones are meant to be; the others are faults of ours.
	explained bool
}

// readDifferences reads lines of
//
//	explained|known SCRIPT OBJECT: REASON
//
// where an object is as identity gives it, or a part of some, as Events:REASON or KIND:ANNOTATION, and the script may be *.
func readDifferences(t *testing.T) []difference {
	t.Helper()
	text, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []difference
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		head, reason, ok := strings.Cut(line, ": ")
		words := strings.Fields(head)
		if !ok || len(words) != 3 || words[0] != "explained" && words[0] != "known" {
			t.Fatalf("testdata/differences.txt: cannot read %q", line)
		}
		out = append(out, difference{script: words[1], object: words[2], reason: reason, explained: words[0] == "explained"})
	}
	return out
}

// identity is kind/[namespace/]name.
func identity(d document) string {
	kind, _ := d["kind"].(string)
	metadata := field(d, "metadata")
	parts := []string{kind}
	for _, name := range []string{"namespace", "name"} {
		if part, _ := metadata[name].(string); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// afterPreemption is what the scheduler says of nodes where it looked for victims: which have any depends on the moment at which it looked last.
var afterPreemption = regexp.MustCompile(`(?s) preemption: 0/.*`)

// leaveOutPreemption leaves that out of all texts of a value, and texts of a list that are then alike but for one.
func leaveOutPreemption(v any) any {
	switch v := v.(type) {
	case string:
		return afterPreemption.ReplaceAllString(v, " preemption: ...")
	case []any:
		var out []any
		for _, e := range v {
			e = leaveOutPreemption(e)
			if text, is := e.(string); is && len(out) > 0 && out[len(out)-1] == any(text) {
				continue
			}
			out = append(out, e)
		}
		return out
	case document:
		out := document{}
		for k := range v {
			out[k] = leaveOutPreemption(v[k])
		}
		return out
	}
	return v
}

// byIdentity numbers those that share one.
func byIdentity(documents []document) map[string]document {
	out := map[string]document{}
	for _, d := range documents {
		d = leaveOutPreemption(d).(document)
		id := identity(d)
		for i := 2; out[id] != nil; i++ {
			id = fmt.Sprintf("%s#%d", identity(d), i)
		}
		out[id] = d
	}
	return out
}

// compare gives the differences of a script that are not in the list, and notes by object those that were found.
func compare(script string, want, got []document, differences []difference, found map[string]bool) []string {
	wants, gots := byIdentity(want), byIdentity(got)
	ids := map[string]bool{}
	for id := range wants {
		ids[id] = true
	}
	for id := range gots {
		ids[id] = true
	}
	var reasons []string
	for id := range ids {
		if cmp.Diff(wants[id], gots[id]) == "" {
			continue
		}
		found[id] = true
		if slices.ContainsFunc(differences, func(d difference) bool { return d.script == script && d.object == id }) {
			continue
		}
		if diff := cmp.Diff(without(wants[id], script, differences), without(gots[id], script, differences)); diff != "" {
			reasons = append(reasons, fmt.Sprintf("%s (-upstream +zeroplane):\n%s", id, diff))
		}
	}
	slices.Sort(reasons)
	return reasons
}

// stale gives the objects of a script that are in the list, and were as upstream's whenever it settled.
func stale(script string, differences []difference, found map[string]bool) []string {
	var out []string
	for _, d := range differences {
		if d.script == script && !found[d.object] && !strings.Contains(d.object, ":") {
			out = append(out, d.object+" is as upstream's: take it out of testdata/differences.txt")
		}
	}
	return out
}

// without leaves out what differences say of a part: Events:REASON, or KIND:ANNOTATION. The script * is any.
func without(d document, script string, differences []difference) document {
	out := runtime.DeepCopyJSON(d)
	for _, known := range differences {
		kind, part, ok := strings.Cut(known.object, ":")
		if !ok || known.script != script && known.script != "*" || kind != out["kind"] {
			continue
		}
		if kind != "Events" {
			annotations := field(field(out, "metadata"), "annotations")
			delete(annotations, part)
			if len(annotations) == 0 {
				delete(field(out, "metadata"), "annotations")
			}
			continue
		}
		list, _ := out["list"].([]any)
		list = slices.DeleteFunc(list, func(line any) bool {
			words := strings.Fields(fmt.Sprint(line))
			return len(words) > 1 && words[1] == part
		})
		if out["list"] = list; len(list) == 0 {
			out = nil
		}
	}
	return out
}
