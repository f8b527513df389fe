package crash_test

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

// watcher follows the pods and the ReplicaSets of a rollout across crashes, and notes when there were more or
// fewer than the Deployment allows. It resumes from the last revision that it saw.
type watcher struct {
	namespace string
	// most pods that the ReplicaSets may ask for, and fewest that must be available.
	most, fewest int

	asked        map[string]int32
	ready        map[string]bool
	podRevision  string
	setRevision  string
	highest      int
	lowest       int
	observations []error

	cancel context.CancelFunc
	done   chan struct{}
}

// newWatcher begins with what there is.
func newWatcher(t *testing.T, client kubernetes.Interface, namespace string, most, fewest int) *watcher {
	t.Helper()
	w := &watcher{namespace: namespace, most: most, fewest: fewest, asked: map[string]int32{}, ready: map[string]bool{}}
	pods, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		w.pod(watch.Added, &pods.Items[i])
	}
	sets, err := client.AppsV1().ReplicaSets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sets.Items {
		w.set(watch.Added, &sets.Items[i])
	}
	w.podRevision, w.setRevision = pods.ResourceVersion, sets.ResourceVersion
	w.observations, w.highest, w.lowest = nil, 0, w.most
	return w
}

// follow follows until the server goes or end is called.
func (w *watcher) follow(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pods, err := client.CoreV1().Pods(w.namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: w.podRevision})
	if err != nil {
		t.Fatalf("watching pods from revision %s: %v", w.podRevision, err)
	}
	sets, err := client.AppsV1().ReplicaSets(w.namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: w.setRevision})
	if err != nil {
		t.Fatalf("watching ReplicaSets from revision %s: %v", w.setRevision, err)
	}
	w.cancel, w.done = cancel, make(chan struct{})
	go func() {
		defer close(w.done)
		defer pods.Stop()
		defer sets.Stop()
		podEvents, setEvents := pods.ResultChan(), sets.ResultChan()
		for podEvents != nil || setEvents != nil {
			select {
			case e, ok := <-podEvents:
				if !ok {
					podEvents = nil
					continue
				}
				w.event(e)
			case e, ok := <-setEvents:
				if !ok {
					setEvents = nil
					continue
				}
				w.event(e)
			}
		}
	}()
}

// end returns when nothing is followed any more.
func (w *watcher) end() {
	w.cancel()
	<-w.done
}

func (w *watcher) event(e watch.Event) {
	switch o := e.Object.(type) {
	case *corev1.Pod:
		w.podRevision = o.ResourceVersion
		w.pod(e.Type, o)
	case *appsv1.ReplicaSet:
		w.setRevision = o.ResourceVersion
		w.set(e.Type, o)
	default:
		// That the connection ended is said by an error too; that a revision is gone must not be.
		if err := apierrors.FromObject(e.Object); apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			w.observations = append(w.observations, fmt.Errorf("watch: %w", err))
		}
	}
}

func (w *watcher) pod(kind watch.EventType, pod *corev1.Pod) {
	if kind == watch.Deleted || pod.DeletionTimestamp != nil || !local.PodReady(pod) {
		delete(w.ready, pod.Name)
	} else {
		w.ready[pod.Name] = true
	}
	w.lowest = min(w.lowest, len(w.ready))
	if len(w.ready) < w.fewest {
		w.observations = append(w.observations, fmt.Errorf("%d pods are available at revision %s, %d must be", len(w.ready), pod.ResourceVersion, w.fewest))
	}
}

func (w *watcher) set(kind watch.EventType, set *appsv1.ReplicaSet) {
	w.asked[set.Name] = *set.Spec.Replicas
	if kind == watch.Deleted {
		delete(w.asked, set.Name)
	}
	sum := 0
	for _, n := range w.asked {
		sum += int(n)
	}
	w.highest = max(w.highest, sum)
	if sum > w.most {
		w.observations = append(w.observations, fmt.Errorf("the ReplicaSets ask for %d pods at revision %s, %d are allowed", sum, set.ResourceVersion, w.most))
	}
}
