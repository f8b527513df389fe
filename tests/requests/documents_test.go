package requests_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const documentsFile = "testdata/documents.txt"

// aggregatedDiscovery asks for all groups at once.
const aggregatedDiscovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// TestDocumentsAreUpstreams compares discovery and OpenAPI: every list of groups and of resources in both forms, and every
// path and definition of the OpenAPI documents of both versions. Of each part the recording has a hash.
func TestDocumentsAreUpstreams(t *testing.T) {
	s := &script{name: "documents", token: cluster.BearerToken, admin: newClient(t, cluster)}
	t.Cleanup(s.admin.CloseIdleConnections)
	got := s.documents(t)
	if isRecording() {
		if err := os.WriteFile(documentsFile, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(documentsFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	known := readDifferences(t, "testdata/differences.txt")
	for _, line := range lacking(want, got) {
		if isUpstream() || !known.document(line) {
			t.Errorf("-%s", line)
		}
	}
	for _, line := range lacking(got, want) {
		if isUpstream() || !known.document(line) {
			t.Errorf("+%s", line)
		}
	}
	if !isUpstream() {
		known.checkStale(t, s.name)
	}
}

// lacking returns the lines of one list that another has not.
func lacking(of, in []string) []string {
	there := map[string]bool{}
	for _, line := range in {
		there[line] = true
	}
	return slices.DeleteFunc(slices.Clone(of), func(line string) bool { return there[line] })
}

// document reports whether a part of a document is known to differ: a difference of documents names DOCUMENT#PART, and * is any text.
func (d *differences) document(line string) bool {
	for _, known := range d.list {
		name, ok := strings.CutPrefix(known.request, "documents/")
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(name+"#"+known.part), `\*`, ".*") + "$"
		if match, _ := regexp.MatchString(pattern, line[:strings.LastIndex(line, " ")]); ok && match {
			known.found = true
			return true
		}
	}
	return false
}

// documents returns a line DOCUMENT#PART HASH for each part of all documents.
func (s *script) documents(t *testing.T) (lines []string) {
	t.Helper()
	add := func(path, accept string) any {
		r, err := s.send(t.Context(), "GET "+path+"\nAccept: "+accept, 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.status != http.StatusOK {
			t.Fatalf("%s is answered with %d: %s", path, r.status, r.body)
		}
		value := r.value()
		r.body = []byte(s.normaliseText(string(r.body)))
		if accept == aggregatedDiscovery {
			path += "-aggregated"
		}
		all := parts(r.value())
		for _, name := range slices.Sorted(maps.Keys(all)) {
			text, err := json.Marshal(all[name])
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s#%s %x", strings.TrimPrefix(path, "/"), name, sha256.Sum256(text))[:len(path)+len(name)+1+hashLength])
		}
		return value
	}
	add("/api", "application/json")
	add("/api", aggregatedDiscovery)
	add("/api/v1", "application/json")
	add("/apis", aggregatedDiscovery)
	for _, group := range elements(add("/apis", "application/json"), "groups") {
		name := group["name"].(string)
		add("/apis/"+name, "application/json")
		for _, version := range elements(group, "versions") {
			add("/apis/"+version["groupVersion"].(string), "application/json")
		}
	}
	add("/openapi/v2", "application/json")
	documents, _ := add("/openapi/v3", "application/json").(map[string]any)["paths"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		add("/openapi/v3/"+name, "application/json")
	}
	return lines
}

// hashLength is that of what is kept of a hash, with the space before.
const hashLength = 9

// elements returns the objects of a list of an object.
func elements(of any, list string) (out []map[string]any) {
	m, _ := of.(map[string]any)
	values, _ := m[list].([]any)
	for _, v := range values {
		if e, is := v.(map[string]any); is {
			out = append(out, e)
		}
	}
	return out
}

// parts takes a document apart: OpenAPI into its paths and definitions, discovery into groups, versions and resources. The part
// "rest" has the others, and the names in lists in their order.
func parts(document any) map[string]any {
	out := map[string]any{}
	rest, _ := document.(map[string]any)
	rest = maps.Clone(rest)
	take := func(of map[string]any, key, prefix string) {
		values, _ := of[key].(map[string]any)
		for name, v := range values {
			out[prefix+name] = v
		}
		delete(of, key)
	}
	take(rest, "paths", "paths")
	take(rest, "definitions", "definitions/")
	if components, is := rest["components"].(map[string]any); is {
		rest["components"] = maps.Clone(components)
		take(rest["components"].(map[string]any), "schemas", "schemas/")
	}
	for _, list := range []string{"groups", "resources", "items"} {
		names := []string{}
		for _, e := range elements(rest, list) {
			name, is := e["name"].(string)
			if !is {
				metadata, _ := e["metadata"].(map[string]any)
				name, _ = metadata["name"].(string) // of the core group there is none
			}
			for _, version := range elements(e, "versions") {
				for _, r := range elements(version, "resources") {
					out[fmt.Sprintf("%s/%s/%v/%v", list, name, version["version"], r["resource"])] = r
				}
				if version["resources"] != nil {
					out[fmt.Sprintf("%s/%s/%v", list, name, version["version"])] = []any{version["freshness"], len(elements(version, "resources"))}
				}
			}
			if list != "items" {
				out[list+"/"+name] = e
			}
			names = append(names, name)
		}
		if len(names) > 0 {
			rest[list] = names
		}
	}
	out["rest"] = rest
	return out
}
