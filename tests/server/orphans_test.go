package server_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/tests/local"
)

// orphanTimeout bounds what waits for a quarantine.
const orphanTimeout = nodes.Quarantine + waitTimeout

// TestPodsThatNoKubeletDeletesGo has pods of nodes that do not exist, side by side.
func TestPodsThatNoKubeletDeletesGo(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 3})
	s.WaitForNodes(t)
	for name, test := range map[string]func(*testing.T, kubernetes.Interface){
		"a namespace with a pod of a node that never was is deleted":      leavesNoNamespace,
		"pods of a deleted node are replaced when its quarantine is over": areReplaced,
		"a pod without a node fails when it is deleted":                   failsWithoutANode,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.Client)
		})
	}
}

func leavesNoNamespace(t *testing.T, client kubernetes.Interface) {
	const name = "orphaned"
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "orphan"},
		Spec:       corev1.PodSpec{NodeName: "nosuch", Containers: []corev1.Container{{Name: "main", Image: "example.com/main"}}},
	}
	local.Eventually(t, waitTimeout, "the pod", func() error { // the namespace's ServiceAccount comes a moment later
		_, err := client.CoreV1().Pods(name).Create(t.Context(), pod, metav1.CreateOptions{})
		return err
	})
	created := time.Now()
	watch, err := client.CoreV1().Pods(name).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if err := client.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, orphanTimeout, "the namespace to go", func() error {
		_, err := client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%w)", err)
	})
	if took := time.Since(created); took < nodes.Quarantine-time.Second {
		t.Errorf("it went after %v", took)
	}
	var last *corev1.Pod
	for event := range watch.ResultChan() {
		if last, _ = event.Object.(*corev1.Pod); event.Type == "DELETED" {
			break
		}
	}
	if last == nil || last.Status.Phase != corev1.PodFailed || !isDisrupted(last) {
		t.Errorf("the pod was last seen as %+v", last)
	}
}

// isDisrupted reports whether a pod says that it goes because its node does not exist.
func isDisrupted(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			return c.Status == corev1.ConditionTrue && c.Reason == "DeletionByPodGC" && c.Message == "PodGC: node no longer exists"
		}
	}
	return false
}

func areReplaced(t *testing.T, client kubernetes.Interface) {
	const replicas = 6
	spread(t, client, replicas)
	node := podsByNode(t, client).busiest()
	if err := client.CoreV1().Nodes().Delete(t.Context(), node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	before := podsByNode(t, client)[node]
	local.Always(t, nodes.Quarantine/2, "before the quarantine is over", func() error {
		if n := len(podsByNode(t, client)[node]); n != len(before) {
			return fmt.Errorf("%d of %d pods are left", n, len(before))
		}
		return nil
	})
	local.Eventually(t, orphanTimeout, "the pods to be replaced", func() error {
		if n := len(podsByNode(t, client)[node]); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return ready(t, client, replicas, "")
	})
}

func failsWithoutANode(t *testing.T, client kubernetes.Interface) {
	const finalizer = "example.com/keep"
	run(t, client, "without-a-node", func(p *corev1.Pod) {
		p.Finalizers = []string{finalizer}
		p.Spec.NodeSelector = map[string]string{"room": "no"}
	})
	remove(t, client, "without-a-node")
	becomes(t, client, "without-a-node", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := client.CoreV1().Pods(namespace).Patch(t.Context(), "without-a-node", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	isGone(t, client, "without-a-node")
}
