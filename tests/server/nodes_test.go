package server_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	// left of the grace when a test stops a node: it says that it stopped a while ago.
	left = 5 * time.Second
	// tolerated is for how long the pods stay on a lost node, in seconds.
	tolerated = 4
)

// TestASimulatedNodeThatStopsIsLostAndComesBack follows one through: Ready until the grace is over, then Unknown and
// tainted, its pods evicted when they tolerate it no longer and replaced elsewhere; and all of it undone.
func TestASimulatedNodeThatStopsIsLostAndComesBack(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 3})
	s.WaitForNodes(t)
	const replicas = 6
	spread(t, s.Client, replicas)
	node := podsByNode(t, s.Client).busiest()

	// 1. It stops, and nobody knows yet.
	stop(t, s.Client, node)
	local.Always(t, left/2, "before the grace is over", func() error { return unlike(t, s.Client, node, corev1.ConditionTrue, 0) })

	// 2. It is lost.
	local.Eventually(t, waitTimeout, "the node to be lost", func() error { return unlike(t, s.Client, node, corev1.ConditionUnknown, 2) })
	lost := time.Now()
	checkLost(t, s.Client, node)

	// 3. Its pods leave when they tolerate it no longer, and others come.
	before := podsByNode(t, s.Client)[node]
	local.Eventually(t, waitTimeout, "the pods to be evicted", func() error {
		for _, p := range podsByNode(t, s.Client)[node] {
			if p.DeletionTimestamp == nil {
				return fmt.Errorf("pod %s stays", p.Name)
			}
		}
		return ready(t, s.Client, replicas, node)
	})
	if took := time.Since(lost); took < (tolerated-2)*time.Second {
		t.Errorf("the pods left after %v, and tolerate the node for %d s", took, tolerated)
	}
	if gone := podsByNode(t, s.Client)[node]; len(gone) != len(before) {
		t.Errorf("%d of %d pods are gone from a node that cannot say that they stopped", len(before)-len(gone), len(before))
	}

	// 4. It comes back.
	annotate(t, s.Client, node, "null")
	local.Eventually(t, waitTimeout, "the node to come back", func() error { return unlike(t, s.Client, node, corev1.ConditionTrue, 0) })
	local.Eventually(t, waitTimeout, "the evicted pods to go", func() error {
		if n := len(podsByNode(t, s.Client)[node]); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return ready(t, s.Client, replicas, "")
	})
}

// spread runs a Deployment whose pods tolerate a lost node for a short time.
func spread(t *testing.T, client kubernetes.Interface, replicas int32) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	seconds := int64(tolerated)
	var tolerations []corev1.Toleration
	for _, key := range []string{corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady} {
		tolerations = append(tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Tolerations: tolerations, Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}},
			},
		},
	}
	if _, err := client.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, waitTimeout, "the pods", func() error { return ready(t, client, int(replicas), "") })
}

// ready returns nil when so many pods are ready that are not on a node and do not go.
func ready(t *testing.T, client kubernetes.Interface, want int, except string) error {
	t.Helper()
	n := 0
	for node, pods := range podsByNode(t, client) {
		for _, p := range pods {
			if node != except && p.DeletionTimestamp == nil && local.PodReady(&p) {
				n++
			}
		}
	}
	if n != want {
		return fmt.Errorf("%d of %d pods are ready", n, want)
	}
	return nil
}

type byNode map[string][]corev1.Pod

func podsByNode(t *testing.T, client kubernetes.Interface) byNode {
	t.Helper()
	list, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	out := byNode{}
	for _, p := range list.Items {
		out[p.Spec.NodeName] = append(out[p.Spec.NodeName], p)
	}
	return out
}

func (b byNode) busiest() string {
	var name string
	for node, pods := range b {
		if len(pods) > len(b[name]) || len(pods) == len(b[name]) && node < name {
			name = node
		}
	}
	return name
}

// stop says that a node stopped so long ago that left remains of its grace.
func stop(t *testing.T, client kubernetes.Interface, node string) {
	t.Helper()
	annotate(t, client, node, fmt.Sprintf("%q", time.Now().Add(left-nodes.MonitorGracePeriod).UTC().Format(time.RFC3339)))
}

func annotate(t *testing.T, client kubernetes.Interface, node, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, kubelet.StoppedAt, value)
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// unlike returns nil when a node's condition Ready has the status and the node has so many taints.
func unlike(t *testing.T, client kubernetes.Interface, name string, status corev1.ConditionStatus, taints int) error {
	t.Helper()
	node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if c := local.NodeReady(node); c.Status != status || len(node.Spec.Taints) != taints {
		return fmt.Errorf("Ready is %s, taints %v", c.Status, node.Spec.Taints)
	}
	return nil
}

// checkLost checks what people see of a lost node.
func checkLost(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := local.NodeReady(node); c.Reason != "NodeStatusUnknown" || c.Message != "Kubelet stopped posting node status." {
		t.Errorf("Ready is %+v", c)
	}
	effects := map[corev1.TaintEffect]bool{}
	for _, taint := range node.Spec.Taints {
		effects[taint.Effect] = taint.Key == corev1.TaintNodeUnreachable
	}
	if !effects[corev1.TaintEffectNoExecute] || !effects[corev1.TaintEffectNoSchedule] {
		t.Errorf("taints are %v", node.Spec.Taints)
	}
	local.Eventually(t, waitTimeout, "the pods to be not ready", func() error {
		for _, p := range podsByNode(t, client)[name] {
			if local.PodReady(&p) {
				return fmt.Errorf("pod %s on the lost node is ready", p.Name)
			}
		}
		return nil
	})
}
