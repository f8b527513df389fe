package schedulerperf

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// recountInterval is the pause between two counts of pods that events have changed: many come at once.
const recountInterval = 10 * time.Millisecond

// stage is how far scheduling has come with a pod.
type stage int

const (
	// unattempted pods have not been looked at by a scheduler.
	unattempted stage = iota
	// attempted pods could not be placed.
	attempted
	// scheduled pods have a node.
	scheduled
)

// seen is what is known of a pod.
type seen struct {
	labels map[string]string
	stage  stage
	reason string
}

// watcher follows all pods, by a list and watch events.
type watcher struct {
	mu         sync.Mutex
	namespaces map[string]map[string]seen
	// counts are the pods of each namespace by their stage.
	counts map[string]*[3]int
	// changed has something to be taken when an event came since it was last.
	changed chan struct{}
	// placed are called when a pod gets its node.
	placed map[any]func(pod *corev1.Pod)
}

func newWatcher() *watcher {
	return &watcher{
		namespaces: map[string]map[string]seen{}, counts: map[string]*[3]int{},
		changed: make(chan struct{}, 1), placed: map[any]func(*corev1.Pod){},
	}
}

// watchPods begins to follow the pods, until the context ends.
func watchPods(ctx context.Context, client kubernetes.Interface) (*watcher, error) {
	w := newWatcher()
	source := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", "", fields.Everything())
	informer := cache.NewSharedInformer(source, &corev1.Pod{}, 0)
	if err := informer.SetTransform(slim); err != nil {
		return nil, err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    w.set,
		UpdateFunc: func(_, pod any) { w.set(pod) },
		DeleteFunc: w.remove,
	})
	if err != nil {
		return nil, err
	}
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, fmt.Errorf("listing pods: %w", context.Cause(ctx))
	}
	return w, nil
}

// slim keeps of a pod what is looked at.
func slim(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	out := &corev1.Pod{}
	out.Name, out.Namespace, out.UID, out.Labels = pod.Name, pod.Namespace, pod.UID, pod.Labels
	out.ResourceVersion = pod.ResourceVersion
	out.Spec.NodeName, out.Status.Conditions = pod.Spec.NodeName, pod.Status.Conditions
	return out, nil
}

// stageOf is upstream's getScheduledPods in util.go.
func stageOf(pod *corev1.Pod) (stage, string) {
	if pod.Spec.NodeName != "" {
		return scheduled, ""
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return attempted, c.Message
		}
	}
	return unattempted, ""
}

func (w *watcher) set(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.namespaces[pod.Namespace] == nil {
		w.namespaces[pod.Namespace], w.counts[pod.Namespace] = map[string]seen{}, &[3]int{}
	}
	before, known := w.namespaces[pod.Namespace][pod.Name]
	now := seen{labels: pod.Labels}
	now.stage, now.reason = stageOf(pod)
	w.namespaces[pod.Namespace][pod.Name] = now
	if known {
		w.counts[pod.Namespace][before.stage]--
	}
	w.counts[pod.Namespace][now.stage]++
	if now.stage == scheduled && (!known || before.stage != scheduled) {
		for _, call := range w.placed {
			call(pod)
		}
	}
	w.ring()
}

func (w *watcher) remove(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if before, known := w.namespaces[pod.Namespace][pod.Name]; known {
		w.counts[pod.Namespace][before.stage]--
		delete(w.namespaces[pod.Namespace], pod.Name)
	}
	w.ring()
}

func (w *watcher) ring() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// onPlaced has a function called, with the watcher locked, for each pod that gets a node, until the one returned is called.
func (w *watcher) onPlaced(call func(pod *corev1.Pod)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := new(int)
	w.placed[key] = call
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.placed, key)
	}
}

// names are those of the pods of a namespace that have some labels, sorted.
func (w *watcher) names(namespace string, selector map[string]string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name, pod := range w.namespaces[namespace] {
		if matches(pod.labels, selector) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func matches(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// count gives how many pods of a namespace have come how far, and what is said of one that has no node.
func (w *watcher) count(namespace string, selector map[string]string) (counts [3]int, pending string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(selector) == 0 && w.counts[namespace] != nil {
		counts = *w.counts[namespace]
		if counts[attempted] == 0 {
			return counts, ""
		}
	}
	counts = [3]int{}
	for name, pod := range w.namespaces[namespace] {
		if !matches(pod.labels, selector) {
			continue
		}
		counts[pod.stage]++
		if pod.stage == attempted {
			pending = name + ": " + pod.reason
		}
	}
	return counts, pending
}

// awaitScheduled waits until so many pods of a namespace have a node.
//
// Upstream: waitUntilPodsScheduledInNamespace in executor.go.
func (w *watcher) awaitScheduled(
	ctx context.Context, timeout time.Duration, namespace string, selector map[string]string, want int,
) error {
	return w.await(ctx, timeout, namespace, selector, want, "have a node", func(c [3]int) int { return c[scheduled] })
}

// awaitAttempted waits until so many pods of a namespace have a node or were found to have none.
//
// Upstream: waitUntilPodsAttemptedInNamespace in executor.go.
func (w *watcher) awaitAttempted(
	ctx context.Context, timeout time.Duration, namespace string, selector map[string]string, want int,
) error {
	return w.await(ctx, timeout, namespace, selector, want, "were tried", func(c [3]int) int {
		return c[scheduled] + c[attempted]
	})
}

func (w *watcher) await(ctx context.Context, timeout time.Duration, namespace string, selector map[string]string, want int,
	what string, of func([3]int) int) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		counts, pending := w.count(namespace, selector)
		if of(counts) >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods of namespace %s %s (%w); %s", of(counts), want, namespace, what, context.Cause(ctx), pending)
		case <-w.changed:
		}
		if err := pause(ctx, recountInterval); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
