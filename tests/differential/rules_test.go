package differential_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestTextLosesWhatDiffersFromRunToRun(t *testing.T) {
	t.Parallel()
	const known, unknown = "0e0b2a0e-1111-4222-8333-444444444444", "0e0b2a0e-1111-4222-8333-555555555555"
	tests := map[string]struct{ in, want string }{
		"a uid of something that is there": {known, "UID"},
		"a uid of nothing":                 {unknown, "UID-OF-NOTHING"},
		"a time":                           {"at 2026-01-02T03:04:05Z and 2026-01-02T03:04:05.678901Z", "at TIME and TIME"},
		"a generated name":                 {"pod/web-6d4cf56db6-x2x4z", "pod/web-6d4cf56db6-xxxxx"},
		"a name that only looks like one":  {"my-first-pod", "my-first-pod"},
		"a job of a CronJob":               {"nightly-29412345", "nightly-MINUTE"},
		"an address":                       {"10.96.0.10/32", "IP/32"},
		"an address of the script's own":   {"203.0.113.9", "203.0.113.9"},
		"a node":                           {"node-12", "NODE"},
		"a node of the script's own":       {"node-lost-a", "node-lost-a"},
		"a certificate":                    {"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", "PEM"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := &normalizer{uids: map[string]bool{known: true}}
			if got := n.text(test.in); got != test.want {
				t.Errorf("%q becomes %q, want %q", test.in, got, test.want)
			}
		})
	}
}

func TestPodsThatDifferInNameAndNodeAloneAreAlike(t *testing.T) {
	t.Parallel()
	const pod = `
kind: Pod
metadata: {name: web-SUFFIX, generateName: web-, uid: "0e0b2a0e-1111-4222-8333-444444444444", resourceVersion: "7"}
spec: {nodeName: NODE}
status:
  phase: Running
  podIP: 10.1.2.3
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-02T03:04:05Z"}, {type: PodScheduled, status: "True"}]
  containerStatuses: [{name: web, ready: true, state: {running: {startedAt: "2026-01-02T03:04:05Z"}}}]
`
	var documents []document
	for _, names := range [][2]string{{"aaaaa", "node-0"}, {"bbbbb", "node-1"}} {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(strings.NewReplacer("SUFFIX", names[0], "NODE", names[1]).Replace(pod)), &content); err != nil {
			t.Fatal(err)
		}
		documents = append(documents, (&normalizer{}).object(&unstructured.Unstructured{Object: content}))
	}
	want := `copies: 2
kind: Pod
metadata:
  generateName: web-
  name: web-xxxxx
spec:
  nodeName: NODE
status:
  conditions:
  - status: "True"
    type: Ready
  containerStatuses:
  - name: web
    ready: true
    state: running
  phase: Running
`
	if diff := cmp.Diff(want, text(merge(documents))); diff != "" {
		t.Error(diff)
	}
}

func TestADifferenceIsToldUnlessItIsKnown(t *testing.T) {
	t.Parallel()
	one, other := document{"kind": "Pod", "metadata": map[string]any{"name": "a"}}, document{"kind": "Pod", "metadata": map[string]any{"name": "a"}, "x": "y"}
	known := []difference{{script: "s", object: "Pod/a"}}
	tests := map[string]struct {
		want, got   []document
		differences []difference
		told        int
	}{
		"alike":                 {[]document{one}, []document{one}, nil, 0},
		"other content":         {[]document{one}, []document{other}, nil, 1},
		"missing":               {[]document{one}, nil, nil, 1},
		"one too many":          {[]document{one}, []document{one, other}, nil, 1},
		"known":                 {[]document{one}, []document{other}, known, 0},
		"known of other script": {[]document{one}, []document{other}, []difference{{script: "t", object: "Pod/a"}}, 1},
		"known, and no more":    {[]document{one}, []document{one}, known, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := map[string]bool{}
			got := append(compare("s", test.want, test.got, test.differences, found), stale("s", test.differences, found)...)
			if len(got) != test.told {
				t.Errorf("%d differences are told, want %d: %v", len(got), test.told, got)
			}
		})
	}
}
