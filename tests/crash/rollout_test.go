package crash_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	nodes    = 10
	replicas = 300
	// surge and unavailable of a Deployment that does not say: a quarter each.
	surge, unavailable = replicas / 4, replicas / 4
	// rolloutTimeout is what a rollout has, on a machine that does other things too.
	rolloutTimeout = 2 * time.Minute
	// A rollout of 300 takes about two seconds; kills fall into it, and sometimes just behind.
	firstKill, lastKill = 50 * time.Millisecond, 1500 * time.Millisecond

	namespace = metav1.NamespaceDefault
)

// TestARolloutEndsAsIfTheServerHadNotBeenKilled kills the server in the middle of a rollout of 300 replicas,
// again and again.
func TestARolloutEndsAsIfTheServerHadNotBeenKilled(t *testing.T) {
	r := randomness(t)
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: nodes})
	s.WaitForNodes(t)
	create(t, s.Client, deployment("web", replicas))
	waitForRollout(t, s.Client, "web", replicas)
	known := &ledger{of: map[string]fate{}}
	w := newWatcher(t, s.Client, namespace, replicas+surge, replicas-unavailable)
	for round := range rounds(t) {
		at := moment(r, firstKill, lastKill)
		writeAlong(t, s.Client, namespace, known)
		w.follow(t, s.Client)
		image := fmt.Sprintf("example.com/web:%d", round+2)
		setImage(t, s.Client, "web", image)
		local.Pass(at)
		s.Kill(t)
		known.end()
		w.end()
		s = s.Again(t)
		w.follow(t, s.Client)
		waitForRollout(t, s.Client, "web", replicas)
		w.end()
		t.Logf("round %d, killed after %v: at most %d asked for, at least %d available", round, at, w.highest, w.lowest)
		known.check(t, s.Client, namespace)
		checkRollout(t, s.Client, image, round+2)
		for _, err := range w.observations {
			t.Errorf("round %d, killed after %v: %v", round, at, err)
		}
		if t.Failed() {
			return
		}
	}
}

func deployment(name string, n int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	var grace int64
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &grace,
					Containers:                    []corev1.Container{{Name: "web", Image: "example.com/web:1"}},
				},
			},
		},
	}
}

func create(t *testing.T, client kubernetes.Interface, d *appsv1.Deployment) {
	t.Helper()
	if _, err := client.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func setImage(t *testing.T, client kubernetes.Interface, name, image string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":%q}]}}}}`, image)
	if _, err := client.AppsV1().Deployments(namespace).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// waitForRollout waits as `kubectl rollout status` does, and for the last old pod.
func waitForRollout(t *testing.T, client kubernetes.Interface, name string, n int32) {
	t.Helper()
	local.Eventually(t, rolloutTimeout, "the rollout", func() error {
		d, err := client.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got := d.Status
		if got.ObservedGeneration != d.Generation || got.Replicas != n || got.UpdatedReplicas != n || got.AvailableReplicas != n || got.ReadyReplicas != n {
			return fmt.Errorf("generation %d, status %+v", d.Generation, got)
		}
		pods, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err == nil && len(pods.Items) != int(n) {
			err = fmt.Errorf("%d pods, want %d", len(pods.Items), n)
		}
		return err
	})
}

// checkRollout checks everything that a finished rollout leaves.
func checkRollout(t *testing.T, client kubernetes.Interface, image string, revision int) {
	t.Helper()
	d, err := client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Annotations["deployment.kubernetes.io/revision"], fmt.Sprint(revision); got != want {
		t.Errorf("the Deployment is at revision %s, want %s", got, want)
	}
	if d.Status.UnavailableReplicas != 0 {
		t.Errorf("%d unavailable replicas", d.Status.UnavailableReplicas)
	}
	conditions := map[appsv1.DeploymentConditionType]string{}
	for _, c := range d.Status.Conditions {
		conditions[c.Type] = string(c.Status) + " " + c.Reason
	}
	if got := conditions[appsv1.DeploymentAvailable]; got != "True MinimumReplicasAvailable" {
		t.Errorf("Available is %q", got)
	}
	if got := conditions[appsv1.DeploymentProgressing]; got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing is %q", got)
	}
	checkPods(t, client, checkSets(t, client, d, image))
}

// checkSets checks the ReplicaSets and returns the new one.
func checkSets(t *testing.T, client kubernetes.Interface, d *appsv1.Deployment, image string) *appsv1.ReplicaSet {
	t.Helper()
	sets, err := client.AppsV1().ReplicaSets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var current *appsv1.ReplicaSet
	for i := range sets.Items {
		set := &sets.Items[i]
		if !metav1.IsControlledBy(set, d) {
			t.Errorf("ReplicaSet %s is not the Deployment's", set.Name)
		}
		if set.Spec.Template.Spec.Containers[0].Image == image {
			if current != nil {
				t.Errorf("two ReplicaSets have the image %s", image)
			}
			current = set
			continue
		}
		if *set.Spec.Replicas != 0 || set.Status.Replicas != 0 {
			t.Errorf("the old ReplicaSet %s has %d replicas and asks for %d", set.Name, set.Status.Replicas, *set.Spec.Replicas)
		}
	}
	if current == nil {
		t.Fatalf("no ReplicaSet has the image %s", image)
	}
	if s := current.Status; s.Replicas != replicas || s.ReadyReplicas != replicas || s.AvailableReplicas != replicas || s.FullyLabeledReplicas != replicas {
		t.Errorf("status of the new ReplicaSet: %+v", s)
	}
	return current
}

// checkPods checks that there are the pods of one ReplicaSet and no others.
func checkPods(t *testing.T, client kubernetes.Interface, set *appsv1.ReplicaSet) {
	t.Helper()
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != replicas {
		t.Errorf("%d pods, want %d", len(pods.Items), replicas)
	}
	addresses := map[string]string{}
	for i := range pods.Items {
		p := &pods.Items[i]
		switch {
		case !metav1.IsControlledBy(p, set):
			t.Errorf("pod %s is not of the new ReplicaSet", p.Name)
		case p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != set.Labels[appsv1.DefaultDeploymentUniqueLabelKey]:
			t.Errorf("pod %s has the hash %s", p.Name, p.Labels[appsv1.DefaultDeploymentUniqueLabelKey])
		case p.DeletionTimestamp != nil || !local.PodReady(p) || p.Spec.NodeName == "":
			t.Errorf("pod %s is %s, ready %t, on node %q", p.Name, p.Status.Phase, local.PodReady(p), p.Spec.NodeName)
		case p.Status.PodIP == "" || addresses[p.Status.PodIP] != "":
			t.Errorf("pods %s and %s have the address %q", p.Name, addresses[p.Status.PodIP], p.Status.PodIP)
		}
		addresses[p.Status.PodIP] = p.Name
	}
}
