package clusters_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/local"
)

// runSeconds is how long the pod runs: longer than its cluster needs to fall asleep.
const runSeconds = 8

// TestASleepingClusterWakesWhenSomethingIsDue puts a cluster to sleep in which a pod is to end, by the use of
// others, and asks nothing of it until it is awake again.
func TestASleepingClusterWakesWhenSomethingIsDue(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Arguments: []string{"--max-awake=2"}})
	m := create(t, s.Config, "sleeper")
	started := runPod(t, m)
	due := started.Add(runSeconds * time.Second)
	wakesFor(t, s, m, due)

	// The same over a restart: the process that put it to sleep is gone.
	if err := m.client.CoreV1().Pods(namespace).Delete(t.Context(), "job", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, settleTimeout, "the pod to go", func() error {
		list, err := m.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d pods", len(list.Items))
		}
		return err
	})
	due = runPod(t, m).Add(runSeconds * time.Second)
	local.Pass(time.Second) // it settles
	s.Stop(t)
	s = s.Again(t)
	m.moveTo(t, s)
	wakesFor(t, s, m, due)
}

// wakesFor waits until the cluster sleeps, and then until it is awake, which must not be before something is due.
func wakesFor(t *testing.T, s *local.Server, m *member, due time.Time) {
	t.Helper()
	other := create(t, s.Config, fmt.Sprintf("other-%d", time.Now().UnixNano()))
	local.Eventually(t, settleTimeout, "the cluster to fall asleep", func() error {
		if err := touch(t, other); err != nil {
			return err
		}
		if names(t, s.Config)[m.name] {
			return fmt.Errorf("it is awake")
		}
		return nil
	})
	if time.Now().After(due) {
		t.Fatal("it fell asleep too late for the test")
	}
	local.Eventually(t, settleTimeout, "the cluster to wake", func() error {
		if !names(t, s.Config)[m.name] {
			return fmt.Errorf("it sleeps")
		}
		return nil
	})
	if early := time.Until(due); early > time.Second { // what is due has whole seconds
		t.Errorf("it woke %v before something was due", early)
	}
	local.Eventually(t, settleTimeout, "the pod to end", func() error {
		pod, err := m.client.CoreV1().Pods(namespace).Get(t.Context(), "job", metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
}

// touch uses a cluster.
func touch(t *testing.T, m *member) error {
	_, err := m.client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	return err
}

// runPod gives a cluster a simulated node and a pod that ends after runSeconds, and returns when it started.
func runPod(t *testing.T, m *member) time.Time {
	t.Helper()
	ctx := t.Context()
	nodes, err := m.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) == 0 {
		node := kubelet.NewNode("simulated", 0, kubelet.NodeOptions{Now: time.Now()})
		if _, err := m.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "job", Annotations: map[string]string{kubelet.RunSeconds: fmt.Sprint(runSeconds)}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "job", Image: "example.com/job"}},
		},
	}
	if _, err := m.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var started time.Time
	local.Eventually(t, settleTimeout, "the pod to run", func() error {
		got, err := m.client.CoreV1().Pods(namespace).Get(ctx, "job", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !local.PodReady(got) {
			return fmt.Errorf("it is %s", got.Status.Phase)
		}
		started = got.Status.ContainerStatuses[0].State.Running.StartedAt.Time
		return nil
	})
	return started
}
