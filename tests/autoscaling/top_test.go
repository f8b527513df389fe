package autoscaling_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loaded is a pod with two containers on a simulated node, with a load.
const loaded = `
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  labels: {app: NAME}
  annotations: {zeroplane.dev/cpu-usage: CPU, zeroplane.dev/memory-usage: 128Mi}
spec:
  nodeName: node-0
  containers: [{name: a, image: nginx}, {name: b, image: nginx}]
`

func TestKubectlTopAnswers(t *testing.T) {
	w := start(t)
	steps := func(steps [][3]string) {
		t.Helper()
		for _, step := range steps {
			out, problem := w.kubectl(t, strings.Fields(step[0])...)
			if diff := cmp.Diff([]string{step[1], step[2]}, []string{squeezed(out), problem}); diff != "" {
				t.Errorf("kubectl %s (-want +got):\n%s", step[0], diff)
			}
		}
	}
	steps([][3]string{
		{"top pods", "", "No resources found in default namespace."},
		{"top nodes --no-headers", "node-0 0m 0% 0Mi 0%\nnode-1 0m 0% 0Mi 0%\nnode-2 0m 0% 0Mi 0%", ""},
		{"top pod gone", "", `Error from server (NotFound): pods "gone" not found`},
		{"top node gone", "", `Error from server (NotFound): nodes "gone" not found`},
		{"auth can-i list pods.metrics.k8s.io --as-group=g --as=u", "no", ""},
	})
	for name, cpu := range map[string]string{"busy": "\"1\"", "lazy": "10m"} {
		w.apply(t, strings.NewReplacer("NAME", name, "CPU", cpu).Replace(loaded))
		if _, problem := w.kubectl(t, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=30s"); problem != "" {
			t.Fatal(problem)
		}
	}
	if _, problem := w.kubectl(t, "create", "clusterrolebinding", "viewer", "--clusterrole=view", "--user=viewer"); problem != "" {
		t.Fatal(problem)
	}
	steps([][3]string{
		{"top pods", "NAME CPU(cores) MEMORY(bytes)\nbusy 1000m 128Mi\nlazy 10m 128Mi", ""},
		{"top pods --containers", "POD NAME CPU(cores) MEMORY(bytes)\nbusy a 500m 64Mi\nbusy b 500m 64Mi\nlazy a 5m 64Mi\nlazy b 5m 64Mi", ""},
		{"top pods -A --sort-by=cpu --no-headers", "default busy 1000m 128Mi\ndefault lazy 10m 128Mi", ""},
		{"top pods -l app=lazy --no-headers", "lazy 10m 128Mi", ""},
		{"top pods --field-selector=metadata.name=lazy --no-headers", "lazy 10m 128Mi", ""},
		{"top pods --sum --no-headers", "busy 1000m 128Mi\nlazy 10m 128Mi\n________ ________\n1010m 256Mi", ""},
		{"top pod busy --no-headers --as=viewer", "busy 1000m 128Mi", ""},
		{"top node node-0", "NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)\nnode-0 1010m 3% 256Mi 0%", ""},
	})
	for command, want := range map[string]string{
		"get pods.metrics.k8s.io":  "NAME CPU MEMORY WINDOW\nbusy 1 128Mi",
		"get nodes.metrics.k8s.io": "NAME CPU MEMORY WINDOW\nnode-0 1010m 256Mi 15s",
	} {
		if out, problem := w.kubectl(t, strings.Fields(command)...); !strings.HasPrefix(squeezed(out), want) || problem != "" {
			t.Errorf("kubectl %s prints\n%s\n%s", command, out, problem)
		}
	}
	if out, _ := w.kubectl(t, "get", "apiservice", "v1beta1.metrics.k8s.io", "-o", "jsonpath={.status.conditions[0].status}"); out != "True" {
		t.Errorf("the APIService is available: %q", out)
	}
	if out, problem := w.kubectl(t, "explain", "pods", "--api-version=metrics.k8s.io/v1beta1"); !strings.Contains(out, "PodMetrics") {
		t.Errorf("kubectl explain prints\n%s\n%s", out, problem)
	}
}

// squeezed is text with one space between columns.
func squeezed(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}
