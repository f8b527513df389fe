package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/functions/placement"
)

const shop = `# the shop
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, resources: {requests: {cpu: 900m, memory: 2Gi}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: data}
spec:
  serviceName: db
  replicas: 2
  ordinals: {start: 4}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - {name: db, image: postgres, resources: {limits: {cpu: 2, memory: 6Gi}}}
---
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: Job
  metadata: {name: job}
  spec:
    parallelism: 5
    completions: 1
    template:
      spec:
        restartPolicy: Never
        nodeSelector: {disk: ssd}
        containers: [{name: a, image: x}]
- apiVersion: v1
  kind: Pod
  metadata: {generateName: one-}
  spec:
    nodeName: elsewhere
    containers: [{name: a, image: x}]
`

// simulate runs the command.
func simulate(t *testing.T, stdin string, arguments ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := simulateCommand()
	var out, errs strings.Builder
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(arguments)
	err = cmd.Execute()
	return out.String(), errs.String(), err
}

func TestSimulationFromNothing(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "picture.svg")
	got, asides, err := simulate(t, shop, "-f", "-", "--from", "nothing", "--add-nodes", "2", "--svg", picture)
	if !errors.Is(err, errNoFit) {
		t.Fatal(err)
	}
	const want = `6 pods placed on 2 nodes, 2 fit nowhere

NODE    PODS
new-0   data/db-5, web-1, web-2
new-1   data/db-4, web-0, web-3

default/job-0 fits nowhere:
  0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.
What would make it fit:
  - label disk=ssd is on no node; new-0 or new-1 would take it with disk=ssd
  - without its nodeSelector, new-0 and new-1 would take it

default/web-4 fits nowhere:
  0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.
What would make it fit:
  - new-0 lacks 700m of cpu: free 200m, asked 900m
  - a new node like new-0 would take it

default/one is not placed: spec.nodeName has it on elsewhere already

NODE   CPU                             MEMORY                             PODS
new-0  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░ 95% of 4  ▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░ 62% of 16Gi  3/110
new-1  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░ 95% of 4  ▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░ 62% of 16Gi  3/110
▓ before  ▒ added  ░ free
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if asides != "left out: Service web, which has no pods that are placed\n" {
		t.Errorf("asides %q", asides)
	}
	drawn, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	svg, _, err := simulate(t, shop, "-f", "-", "--from", "nothing", "--add-nodes", "2", "-o", "svg")
	if !errors.Is(err, errNoFit) || svg != string(drawn) {
		t.Errorf("-o svg differs from --svg, %v", err)
	}
	again, _, err := simulate(t, shop, "-f", "-", "--from", "nothing", "--add-nodes", "2")
	if !errors.Is(err, errNoFit) || again != got {
		t.Errorf("the same question has another answer (%v):\n%s", err, again)
	}
}

// A claim without requests is had on every node.
func TestASimulationMakesClaimsOfTemplates(t *testing.T) {
	const template = `
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpus}
spec: {spec: {devices: {}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: shared}
spec: {devices: {}}
`
	const pods = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {
  metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: x}], resourceClaims: [{name: g, resourceClaimTemplateName: gpus}, {name: s, resourceClaimName: shared}]}}}}`
	ask := func(stdin string) (a placement.Answer, err error) {
		t.Helper()
		out, asides, err := simulate(t, stdin, "-f", "-", "--from", "nothing", "--add-nodes", "1", "-o", "json")
		if broken := json.Unmarshal([]byte(out), &a); broken != nil || asides != "" {
			t.Fatalf("%v, %s: %s", broken, asides, out)
		}
		return a, err
	}
	if got, err := ask(pods + template); err != nil || !got.Fits || len(got.Placements) != 2 {
		t.Errorf("with the template: %+v, %v", got, err)
	}
	if got, err := ask(pods); !errors.Is(err, errNoFit) || got.Fits || len(got.Unasked) != 2 {
		t.Errorf("without: %+v, %v", got, err)
	}
}

// TestBadInputIsNamed with its file, document and field.
func TestBadInputIsNamed(t *testing.T) {
	change := func(from, to string) string { return strings.Replace(shop, from, to, 1) }
	const pods = "-f - --from nothing --add-nodes 1"
	const node = "--from nothing --node-template -"
	for name, c := range map[string]struct{ stdin, arguments, want string }{
		"unknown field":     {change("image: nginx", "imagee: nginx"), pods, `standard input: document 2: strict decoding error: unknown field "spec.template.spec.containers[0].imagee"`},
		"bad quantity":      {change("900m", "9x"), pods, `standard input: document 2: spec.template.spec.containers[0].resources.requests[cpu]: quantities must match`},
		"negative quantity": {change("900m", "'-9'"), pods, `standard input: document 2: Deployment web: spec.template.spec.containers[0].resources.requests[cpu]: Invalid value: "-9"`},
		"wrong type":        {change("replicas: 5", "replicas: five"), pods, `standard input: document 2: `},
		"negative replicas": {change("replicas: 5", "replicas: -5"), pods, `standard input: document 2: Deployment web: spec.replicas: Invalid value: -5`},
		"no name":           {change("metadata: {generateName: one-}", "metadata: {}"), pods, `standard input: document 4, item 1: Pod : metadata.name: Required value`},
		"no YAML":           {"a: [", pods, "standard input: document 1: "},
		"in braces":         {"{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {x: 1}}", pods, `standard input: document 1: strict decoding error: unknown field "spec.x"`},
		"no kind":           {"a: b", pods, "standard input: document 1: Object 'Kind' is missing"},
		"no file":           {"", "-f none.yaml --from nothing --add-nodes 1", "open none.yaml: no such file"},
		"nothing to do":     {"", "", "nothing would change"},
		"no nodes":          {shop, "-f - --from nothing", "--from nothing has no nodes"},
		"nodes of nothing":  {shop, "--remove-node a --from nothing --add-nodes 1", "no nodes that could be removed"},
		"another origin":    {shop, "--from here --add-nodes 1", `--from must be cluster or nothing, and is "here"`},
		"another format":    {shop, "-o yaml --from nothing --add-nodes 1", `-o must be table, json or svg, and is "yaml"`},
		"twice":             {shop, "-f - -f - --from nothing --add-nodes 1", "standard input (-) can be read once only"},
		"fewer than none":   {shop, "--add-nodes -1", "--add-nodes must not be negative"},
		"a class":           {change("nodeSelector: {disk: ssd}", "priorityClassName: none"), pods, "pod default/job: spec.priorityClassName: no PriorityClass with name none was found"},
		"no Node":           {shop, node, "standard input: document 1: kind: a Node is wanted, and this is a Service"},
		"an empty template": {"# none", node, "there is no Node in it"},
		"no resources":      {"apiVersion: v1\nkind: Node\nmetadata: {name: m}", node, "standard input: document 1: Node m: status.allocatable[cpu]: Required value"},
		"a bad resource":    {"apiVersion: v1\nkind: Node\nstatus: {capacity: {cpu: x}}", node, "standard input: document 1: status.capacity[cpu]: quantities must match"},
		"a bad taint":       {"apiVersion: v1\nkind: Node\nspec: {taints: [{key: k, effect: x}]}\nstatus: {capacity: {cpu: 1, memory: 1Gi}}", node, "taints[0].effect"},
	} {
		if got, _, err := simulate(t, c.stdin, strings.Fields(c.arguments)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// usage of nodes that come, go, fill and empty.
var someNodes = []placement.Node{
	{Name: "node-10", CPU: placement.Usage{Allocatable: 32000, Before: 8000, After: 16000}, Memory: placement.Usage{Allocatable: 128 << 30, Before: 1, After: 2}, Pods: placement.Usage{Allocatable: 110, Before: 3, After: 9}},
	{Name: "node-2", CPU: placement.Usage{Allocatable: 4000, Before: 4000, After: 1000}, Memory: placement.Usage{Allocatable: 8 << 30, Before: 8 << 30, After: 8 << 30}, Pods: placement.Usage{Allocatable: 10, Before: 11, After: 11}},
	{Name: "node-1", Removed: true, CPU: placement.Usage{Allocatable: 4000, Before: 4000}},
	{Name: "<a>-very-long-name-of-a-node-0", Added: true, CPU: placement.Usage{Allocatable: 1500, After: 1499}, Memory: placement.Usage{Allocatable: 512 << 20, After: 1}, Pods: placement.Usage{}},
}

func TestBarsFitATerminal(t *testing.T) {
	const want = `0 pods placed on 0 nodes, no pod looks for a node

NODE                  CPU                        MEMORY                    PODS
…ng-name-of-a-node-0  ▒▒▒▒▒▒▒▒▒▒▒░ 99% of 1500m  ▒░░░░░░░░░░░ 0% of 512Mi  0/0
node-1                goes
node-2                ▓▓▓░░░░░░░░░ 25% of 4      ▓▓▓▓▓▓▓▓▓▓▓▓ 100% of 8Gi  11/10
node-10               ▓▓▓▒▒▒░░░░░░ 50% of 32     ▓░░░░░░░░░░░ 0% of 128Gi  9/110
▓ before  ▒ added  ░ free
`
	got := simulationText(placement.Answer{Nodes: append([]placement.Node(nil), someNodes...)})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bars (-want +got):\n%s", diff)
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > textWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestThePictureIsXMLWithTooltips(t *testing.T) {
	svg := simulationSVG(placement.Answer{Nodes: append([]placement.Node(nil), someNodes...)})
	var titles []string
	for dec := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "title" {
			var text string
			if err := dec.DecodeElement(&text, &start); err != nil {
				t.Fatal(err)
			}
			titles = append(titles, text)
		}
	}
	want := []string{
		"0 pods placed, 0 fit nowhere",
		"<a>-very-long-name-of-a-node-0 (added)",
		"<a>-very-long-name-of-a-node-0 cpu: 0 before, 1499m after, of 1500m",
		"<a>-very-long-name-of-a-node-0 memory: 0Mi before, 0Mi after, of 512Mi",
		"<a>-very-long-name-of-a-node-0 pods: 0 before, 0 after, of 0",
		"node-1 (goes)",
		"node-2",
		"node-2 cpu: 4 before, 1 after, of 4",
		"node-2 memory: 8Gi before, 8Gi after, of 8Gi",
		"node-2 pods: 11 before, 11 after, of 10",
		"node-10",
		"node-10 cpu: 8 before, 16 after, of 32",
		"node-10 memory: 0Mi before, 0Mi after, of 128Gi",
		"node-10 pods: 3 before, 9 after, of 110",
	}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Errorf("titles (-want +got):\n%s", diff)
	}
	if strings.Contains(svg, "href") || strings.Contains(svg, "url(") {
		t.Error("the picture needs other files")
	}
}

func TestASuspendedJobHasNoPods(t *testing.T) {
	m := &manifests{namespace: "default"}
	err := m.take("here", []byte("---\n"+`{apiVersion: batch/v1, kind: Job, metadata: {name: later}, spec: {suspend: true, parallelism: 3, template: {
  spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Job later (suspended)"}, m.ignored); diff != "" || len(m.question.Pods) != 0 {
		t.Errorf("%d pods, ignored (-want +got):\n%s", len(m.question.Pods), diff)
	}
}
