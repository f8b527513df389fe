package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestPods runs pods on simulated nodes, side by side.
func TestPods(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	for name, test := range map[string]func(*testing.T, kubernetes.Interface){
		"one that does not restart completes after the seconds that it names":  completes,
		"one that is to fail fails with its exit code":                         fails,
		"a deleted one takes the seconds that it names":                        takesItsGrace,
		"one without a grace goes at once":                                     goesAtOnce,
		"an image of an invalid registry cannot be pulled":                     func(t *testing.T, c kubernetes.Interface) { cannotPull(t, c, "invalid", "x.invalid/y") },
		"an image that does not exist cannot be pulled":                        func(t *testing.T, c kubernetes.Interface) { cannotPull(t, c, "missing", "foo:non-existent") },
		"one that fits nowhere says why, and runs when a node has room for it": fitsNowhere,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.Client)
		})
	}
}

func run(t *testing.T, client kubernetes.Interface, name string, alter func(*corev1.Pod)) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/main"}}},
	}
	alter(pod)
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// becomes waits until a pod is as it should be, and returns it.
func becomes(t *testing.T, client kubernetes.Interface, name string, is func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	local.Eventually(t, waitTimeout, "pod "+name, func() (err error) {
		pod, err = client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && !is(pod) {
			err = fmt.Errorf("its status is %+v", pod.Status)
		}
		return err
	})
	return pod
}

func completes(t *testing.T, client kubernetes.Interface) {
	const seconds = 3
	run(t, client, "completes", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Annotations[kubelet.RunSeconds] = fmt.Sprint(seconds)
	})
	running := becomes(t, client, "completes", local.PodReady)
	if running.Status.PodIP == "" || running.Status.HostIP == "" {
		t.Errorf("addresses: %+v", running.Status)
	}
	done := becomes(t, client, "completes", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	end := done.Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.Reason != "Completed" || end.FinishedAt.Sub(end.StartedAt.Time) != seconds*time.Second {
		t.Errorf("its container ended as %+v", end)
	}
}

func fails(t *testing.T, client kubernetes.Interface) {
	run(t, client, "fails", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Annotations[kubelet.ExitCode] = "3"
	})
	done := becomes(t, client, "fails", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if end := done.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 3 || end.Reason != "Error" {
		t.Errorf("its container ended as %+v", end)
	}
}

func takesItsGrace(t *testing.T, client kubernetes.Interface) {
	const seconds = 3
	run(t, client, "takes-its-grace", func(p *corev1.Pod) { p.Annotations[kubelet.StopSeconds] = fmt.Sprint(seconds) })
	becomes(t, client, "takes-its-grace", local.PodReady)
	start := time.Now()
	remove(t, client, "takes-its-grace")
	if p := becomes(t, client, "takes-its-grace", func(*corev1.Pod) bool { return true }); p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
		t.Errorf("it is to be deleted at %v", p.DeletionTimestamp)
	}
	isGone(t, client, "takes-its-grace")
	if took := time.Since(start); took < (seconds-1)*time.Second || took > 30*time.Second { // times are in whole seconds
		t.Errorf("it went after %v", took)
	}
}

func goesAtOnce(t *testing.T, client kubernetes.Interface) {
	var grace int64
	run(t, client, "goes-at-once", func(p *corev1.Pod) {
		p.Annotations[kubelet.StopSeconds] = "3600"
		p.Spec.TerminationGracePeriodSeconds = &grace
	})
	becomes(t, client, "goes-at-once", local.PodReady)
	remove(t, client, "goes-at-once")
	isGone(t, client, "goes-at-once")
}

func remove(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	if err := client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func isGone(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	local.Eventually(t, waitTimeout, "pod "+name+" to go", func() error {
		_, err := client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%w)", err)
	})
}

func cannotPull(t *testing.T, client kubernetes.Interface, name, image string) {
	t.Helper()
	run(t, client, name, func(p *corev1.Pod) { p.Spec.Containers[0].Image = image })
	reason := func(want string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
				p.Status.ContainerStatuses[0].State.Waiting.Reason == want
		}
	}
	for _, want := range []string{"ErrImagePull", "ImagePullBackOff"} {
		if p := becomes(t, client, name, reason(want)); p.Status.Phase != corev1.PodPending || local.PodReady(p) {
			t.Errorf("with %s it is %s", want, p.Status.Phase)
		}
	}
	local.Eventually(t, waitTimeout, "the events", func() error { return hasEvents(t.Context(), client, name, "Failed", "BackOff") })
}

// hasEvents returns which reasons a pod's events do not have.
func hasEvents(ctx context.Context, client kubernetes.Interface, name string, reasons ...string) error {
	list, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for i := range list.Items {
		has[list.Items[i].Reason] = true
	}
	for _, reason := range reasons {
		if !has[reason] {
			return fmt.Errorf("no event %s among %v", reason, has)
		}
	}
	return nil
}

func fitsNowhere(t *testing.T, client kubernetes.Interface) {
	run(t, client, "fits-nowhere", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"room": "yes"} })
	pod := becomes(t, client, "fits-nowhere", func(p *corev1.Pod) bool { return len(p.Status.Conditions) > 0 })
	const want = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. " +
		"preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	if c := pod.Status.Conditions[0]; c.Reason != corev1.PodReasonUnschedulable || c.Message != want {
		t.Errorf("its condition is %+v", c)
	}
	local.Eventually(t, waitTimeout, "the event", func() error { return hasEvents(t.Context(), client, "fits-nowhere", "FailedScheduling") })
	label := []byte(`{"metadata":{"labels":{"room":"yes"}}}`)
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), "node-1", "application/merge-patch+json", label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if p := becomes(t, client, "fits-nowhere", local.PodReady); p.Spec.NodeName != "node-1" {
		t.Errorf("it runs on %s", p.Spec.NodeName)
	}
}
