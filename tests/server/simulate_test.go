package server_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/placement"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestSimulationsChangeNothing asks a cluster what would come of pods, nodes and both, and looks whether anything was written.
func TestSimulationsChangeNothing(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	cordon := func(yes bool) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, yes)
		if _, err := s.Client.CoreV1().Nodes().Patch(t.Context(), "node-0", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	asking := func(cpu string) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "x", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
		}}}}
	}
	// All but what fits nowhere goes to node-1.
	cordon(true)
	for name, cpu := range map[string]string{"small": "2", "large": "30"} {
		labels := map[string]string{"app": name}
		set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: asking(cpu)},
		}}
		if _, err := s.Client.AppsV1().ReplicaSets(namespace).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		local.Eventually(t, waitTimeout, name, func() error {
			now, err := s.Client.AppsV1().ReplicaSets(namespace).Get(t.Context(), name, metav1.GetOptions{})
			if err == nil && now.Status.ReadyReplicas != 1 {
				err = fmt.Errorf("its status is %+v", now.Status)
			}
			return err
		})
	}
	run(t, s.Client, "bare", func(*corev1.Pod) {})
	becomes(t, s.Client, "bare", local.PodReady)
	cordon(false)
	const full = "0/2 nodes are available: 2 Insufficient cpu."
	run(t, s.Client, "huge", func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asking("40").Containers[0].Resources })
	becomes(t, s.Client, "huge", func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && strings.HasPrefix(p.Status.Conditions[0].Message, full)
	})
	// A claim without requests is had on every node, once it is made of its template.
	devices := &resourceapi.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "gpus"}}
	if _, err := s.Client.ResourceV1().ResourceClaimTemplates(namespace).Create(t.Context(), devices, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := logsOf(t, s.Client)

	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pods := file("pods.yaml", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {
  metadata: {labels: {app: web}}, spec: {priorityClassName: system-node-critical, containers: [{name: web, image: x, resources: {requests: {cpu: 20}}}]}}}}`)
	node := file("node.yaml", `{apiVersion: v1, kind: Node, metadata: {name: big}, status: {capacity: {cpu: 64, memory: 64Gi}}}`)
	ask := func(arguments ...string) (a placement.Answer) {
		t.Helper()
		got := local.Run(t, append([]string{"simulate", "-o", "json", "--kubeconfig=" + s.Kubeconfig}, arguments...)...)
		if err := json.Unmarshal([]byte(got.Stdout), &a); err != nil {
			t.Fatalf("%v: %+v", err, got)
		}
		return a
	}

	uses := func(template string) string {
		return file(template+".yaml", `{apiVersion: v1, kind: Pod, metadata: {name: uses}, spec: {containers: [{name: a, image: x}],
  resourceClaims: [{name: g, resourceClaimTemplateName: `+template+`}]}}`)
	}

	// 0. What the exit status says. One that waits already does not count.
	for arguments, want := range map[string]int{"-f " + pods: 2, "--add-nodes 1": 0, "-f " + uses("gpus"): 0, "-f " + uses("none"): 2} {
		if got := local.Run(t, append([]string{"simulate", "--kubeconfig=" + s.Kubeconfig}, strings.Fields(arguments)...)...); got.Code != want {
			t.Errorf("%s: exit status %d, want %d: %+v", arguments, got.Code, want, got)
		}
	}

	// 1. Pods come. They are of a higher priority than what is there, and one of them has a large one go.
	come := ask("-f", pods)
	if diff := cmp.Diff([]string{"New web-0 node-0", "New web-1 node-1", "New web-2: " + full, "Waiting huge: " + full, "Moved large: " + full}, where(come)); diff != "" {
		t.Errorf("pods come (-want +got):\n%s", diff)
	}
	if len(come.Preempted) != 1 || len(come.Preempted[0].Victims) != 1 || !strings.HasPrefix(come.Preempted[0].Victims[0], "default/large-") {
		t.Errorf("preempted: %+v", come.Preempted)
	}

	// 2. A node goes.
	gone := ask("--remove-node", "node-1")
	if diff := cmp.Diff([]string{"Moved large from node-1 node-0", "Moved small from node-1 node-0", "Waiting huge: 0/1 nodes are available: 1 Insufficient cpu."}, where(gone)); diff != "" {
		t.Errorf("a node goes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"default/bare"}, gone.Lost); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}

	// 3. A node of a larger kind comes.
	added := ask("--node-template", node)
	if diff := cmp.Diff([]string{"Waiting huge big-0"}, where(added)); diff != "" {
		t.Errorf("a node comes (-want +got):\n%s", diff)
	}
	if n := added.Nodes[0]; n.Name != "big-0" || !n.Added || n.CPU != (placement.Usage{Allocatable: 64000, After: 40000}) || n.Pods.Allocatable != 110 {
		t.Errorf("the new node is %+v", n)
	}

	// 4. For people.
	if table := local.Run(t, "simulate", "-f", pods, "--kubeconfig="+s.Kubeconfig); !strings.Contains(table.Stdout, "▓ before  ▒ added  ░ free") {
		t.Errorf("the table is %+v", table)
	}
	explained := local.Run(t, "explain-placement", "huge", "--kubeconfig="+s.Kubeconfig)
	if !strings.Contains(explained.Stdout, "What would make it fit:\n  - no node is large enough: asked 40000m of cpu, and node-0 has most with 32000m\n") {
		t.Errorf("explained as\n%s", explained.Stdout)
	}
	for arguments, want := range map[string]string{
		"--remove-node none": `node "none": there is no such node`,
		"-f " + file("class.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {priorityClassName: none, containers: [{name: a, image: x}]}}"): "no PriorityClass with name none was found",
	} {
		got := local.Run(t, append([]string{"simulate", "--kubeconfig=" + s.Kubeconfig}, strings.Fields(arguments)...)...)
		if got.Code != 1 || !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: %+v", arguments, got)
		}
	}

	// 5. Not for everybody, and only by POST.
	nobody := rest.AnonymousClientConfig(s.Config)
	token, err := s.Client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nobody.BearerToken = token.Status.Token
	other, err := kubernetes.NewForConfig(nobody)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.RESTClient().Post().AbsPath(localhost.WhatIfPath).Body([]byte("{}")).Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
		t.Errorf("a service account is told %v", err)
	}
	if err := s.Client.RESTClient().Get().AbsPath(localhost.WhatIfPath).Do(t.Context()).Error(); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a GET is told %v", err)
	}
	if err := s.Client.RESTClient().Post().AbsPath(localhost.WhatIfPath).Body([]byte(`{"nodes":1}`)).Do(t.Context()).Error(); !apierrors.IsBadRequest(err) {
		t.Errorf("a body that is no question is told %v", err)
	}

	if diff := cmp.Diff(before, logsOf(t, s.Client)); diff != "" {
		t.Errorf("something was written (-before +after):\n%s", diff)
	}
}

// known is a pod's name without what the API has made up.
func known(name string) string {
	if set, _, _ := strings.Cut(name, "-"); set == "small" || set == "large" {
		return set
	}
	return name
}

// where is an answer in a line for each pod.
func where(a placement.Answer) (out []string) {
	for _, p := range a.Placements {
		from := ""
		if p.From != "" {
			from = "from " + p.From + " "
		}
		out = append(out, fmt.Sprintf("%s %s %s%s", p.Origin, known(p.Name), from, p.Node))
	}
	for _, u := range a.Unschedulable {
		message, _, _ := strings.Cut(u.Message, " preemption:")
		out = append(out, fmt.Sprintf("%s %s: %s", u.Origin, known(u.Name), message))
	}
	return out
}

// logsOf are the revisions of the logs that placement reads or may write. Events about what was before come late, and are not
// among them.
func logsOf(t *testing.T, client *kubernetes.Clientset) map[string]string {
	t.Helper()
	out := map[string]string{}
	for resource, path := range map[string]string{
		"pods": "/api/v1/pods", "nodes": "/api/v1/nodes", "claims": "/api/v1/persistentvolumeclaims", "configmaps": "/api/v1/configmaps",
		"replicasets": "/apis/apps/v1/replicasets", "priorityclasses": "/apis/scheduling.k8s.io/v1/priorityclasses",
	} {
		data, err := client.RESTClient().Get().AbsPath(path).DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var list metav1.PartialObjectMetadataList
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		out[resource] = fmt.Sprintf("%s with %d", list.ResourceVersion, len(list.Items))
	}
	return out
}
