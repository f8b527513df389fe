package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// listed is the number of objects in a list.
	listed = 500
	// fillers write what a measurement reads.
	fillers = 64
)

// storageClients are the numbers of clients at once, each with the calls of each kind it takes for a figure.
var storageClients = []struct{ clients, writes, reads, lists int }{
	{1, 500, 4000, 100},
	{16, 4000, 16000, 200},
	{128, 8000, 16000, 256},
}

// measureStorage calls storage.Interface in this process: ours on the embedded engine, upstream's on etcd.
func measureStorage(ctx context.Context, p platform, s sizes) (values []value, err error) {
	opened, err := p.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.stop()) }()
	b := &storageBench{store: opened, ctx: ctx}
	if err := b.fill("list", listed); err != nil {
		return nil, err
	}
	for _, n := range storageClients {
		figures, err := b.measureClients(n.clients, n.writes/s.storageDivisor, n.reads/s.storageDivisor, n.lists/s.storageDivisor)
		if err != nil {
			return nil, fmt.Errorf("%d clients: %w", n.clients, err)
		}
		values = append(values, figures...)
	}
	cold, err := measureCold(ctx, p, s.coldObjects)
	return append(values, cold...), err
}

// storageBench is one storage under measurement.
type storageBench struct {
	*store
	ctx context.Context //nolint:containedctx // of the measurement
}

func storedPodKey(ns, name string) string { return podsPrefix + ns + "/" + name }

func storedPodName(i int) string { return fmt.Sprintf("pod-%06d", i) }

// storedPod is a pod of some 600 bytes.
func storedPod(ns string, i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: storedPodName(i), UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i)),
			CreationTimestamp: metav1.Unix(1_700_000_000, 0),
			Labels:            map[string]string{"app": "web", "tier": "front", "release": "stable"},
			Annotations:       map[string]string{"note": strings.Repeat("x", 240)},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1", RestartPolicy: corev1.RestartPolicyAlways, SchedulerName: "default-scheduler",
			Containers: []corev1.Container{{
				Name: "web", Image: "registry.example.com/web:1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
				TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
}

// measured has so many clients share n calls, and gives calls per second and the median of one.
func measured(clients, n int, call func(i int) error) (perSecond, medianMS float64, err error) {
	took := make([]time.Duration, n)
	errs := make([]error, clients)
	var next atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for c := range clients {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[c] == nil; i = int(next.Add(1)) - 1 {
				took[i], errs[c] = timed(func() error { return call(i) })
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(start).Seconds(), medianOf(took), errors.Join(errs...)
}

func (b *storageBench) fill(ns string, n int) error {
	_, _, err := measured(fillers, n, func(i int) error {
		return b.Create(b.ctx, storedPodKey(ns, storedPodName(i)), storedPod(ns, i), newPod(), 0)
	})
	return err
}

// measureClients takes the figures of one number of clients.
func (b *storageBench) measureClients(clients, writes, reads, lists int) ([]value, error) {
	ns := fmt.Sprintf("clients-%d", clients)
	last := make([]*corev1.Pod, writes)
	calls := []struct {
		name string
		n    int
		call func(i int) error
	}{
		{"create", writes, func(i int) error {
			last[i] = &corev1.Pod{}
			return b.Create(b.ctx, storedPodKey(ns, storedPodName(i)), storedPod(ns, i), last[i], 0)
		}},
		{"get", reads, func(i int) error {
			return b.Get(b.ctx, storedPodKey(ns, storedPodName(i%writes)), storage.GetOptions{}, newPod())
		}},
		{fmt.Sprintf("list of %d", listed), lists, func(int) error { return b.list("list", listed) }},
		{"update", writes, func(i int) (err error) {
			last[i], err = b.update(ns, i, last[i])
			return err
		}},
		{"delete", writes, func(i int) error {
			return b.Delete(b.ctx, storedPodKey(ns, storedPodName(i)), newPod(), nil, storage.ValidateAllObjectFunc,
				last[i].DeepCopyObject(), storage.DeleteOptions{})
		}},
	}
	var values []value
	for _, c := range calls {
		runtime.GC() // what was measured before leaves nothing to collect
		perSecond, medianMS, err := measured(clients, c.n, c.call)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		values = append(values, storageValues(clients, c.name, perSecond, medianMS)...)
	}
	perSecond, medianMS, err := b.measureEvents(clients, writes)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return append(values, storageValues(clients, "create to event", perSecond, medianMS)...), nil
}

func storageValues(clients int, call string, perSecond, medianMS float64) []value {
	name := fmt.Sprintf("storage, %d clients: %s", clients, call)
	if clients == 1 {
		name = "storage, one client: " + call
	}
	return []value{
		{name: name, unit: "/s", amount: perSecond, more: true, ask: noWorse},
		{name: name + ", median", unit: "ms", amount: medianMS, ask: noWorse},
	}
}

func (b *storageBench) list(ns string, want int) error {
	list := &corev1.PodList{}
	err := b.GetList(b.ctx, podsPrefix+ns, storage.ListOptions{Predicate: storage.Everything, Recursive: true}, list)
	if err == nil && len(list.Items) != want {
		return fmt.Errorf("a list has %d of %d objects", len(list.Items), want)
	}
	return err
}

// update changes an object whose current form the caller has at hand, as upstream's cache has.
func (b *storageBench) update(ns string, i int, current *corev1.Pod) (*corev1.Pod, error) {
	out := &corev1.Pod{}
	err := b.GuaranteedUpdate(b.ctx, storedPodKey(ns, storedPodName(i)), out, false, nil, storage.SimpleUpdate(func(obj apiruntime.Object) (apiruntime.Object, error) {
		obj.(*corev1.Pod).Annotations["note"] = strings.Repeat("y", 240)
		return obj, nil
	}), current.DeepCopyObject())
	return out, err
}

// measureEvents is the time from a creation's call to its event, on one watch, as upstream's cache has one.
func (b *storageBench) measureEvents(clients, n int) (perSecond, medianMS float64, err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	rev, err := b.GetCurrentResourceVersion(ctx)
	if err != nil {
		return 0, 0, err
	}
	ns := fmt.Sprintf("watch-%d", clients)
	w, err := b.Watch(ctx, podsPrefix+ns, storage.ListOptions{ResourceVersion: strconv.FormatUint(rev, 10), Predicate: storage.Everything, Recursive: true})
	if err != nil {
		return 0, 0, err
	}
	defer w.Stop()
	began := make([]time.Time, n)
	seen := make([]chan time.Time, n)
	for i := range seen {
		seen[i] = make(chan time.Time, 1)
	}
	go noteEvents(w, seen)
	took := make([]time.Duration, n)
	perSecond, _, err = measured(clients, n, func(i int) error {
		pod := storedPod(ns, i)
		began[i] = time.Now()
		if err := b.Create(ctx, storedPodKey(ns, pod.Name), pod, newPod(), 0); err != nil {
			return err
		}
		timeout := time.NewTimer(eventTimeout)
		defer timeout.Stop()
		select {
		case at := <-seen[i]:
			took[i] = at.Sub(began[i])
			return nil
		case <-timeout.C:
			return fmt.Errorf("no event for %s after %v", pod.Name, eventTimeout)
		}
	})
	return perSecond, medianOf(took), err
}

// noteEvents notes when each object's event came.
func noteEvents(w watch.Interface, seen []chan time.Time) {
	for ev := range w.ResultChan() {
		now := time.Now()
		pod, ok := ev.Object.(*corev1.Pod)
		if !ok || ev.Type != watch.Added {
			continue
		}
		if i, err := strconv.Atoi(strings.TrimPrefix(pod.Name, "pod-")); err == nil {
			seen[i] <- now
		}
	}
}

// measureCold is a list of many objects by a server that has just been started, and what they take in memory.
func measureCold(ctx context.Context, p platform, n int) (values []value, err error) {
	const ns = "cold"
	opened, err := p.openStore(ctx) // with nothing else in it
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.stop()) }()
	b := &storageBench{store: opened, ctx: ctx}
	if err := b.fill(ns, n); err != nil {
		return nil, err
	}
	const starts = 5
	took := make([]time.Duration, 0, starts)
	for range starts {
		if err := b.reopen(); err != nil {
			return nil, err
		}
		runtime.GC()
		d, err := timed(func() error { return b.list(ns, n) })
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	values = []value{{
		name: fmt.Sprintf("storage, median of %d: list of %d after a start", starts, n), unit: "ms", amount: medianOf(took), ask: noWorse,
	}}
	if p.name() != target.Zeroplane {
		return values, nil
	}
	cached, err := b.measureMemory(ns, n)
	return append(values, cached...), err
}

// measureMemory is what an object takes in memory once it is loaded, and once it was read.
func (b *storageBench) measureMemory(ns string, n int) ([]value, error) {
	if err := b.reopen(); err != nil {
		return nil, err
	}
	if err := b.close(); err != nil { // what the engine holds is no part of this
		return nil, err
	}
	before := heapBytes()
	if err := b.reopen(); err != nil {
		return nil, err
	}
	stats, err := b.Stats(b.ctx) // loads all
	if err != nil {
		return nil, err
	}
	if err := b.close(); err != nil {
		return nil, err
	}
	loaded := heapBytes()
	if err := b.list(ns, n); err != nil {
		return nil, err
	}
	read := heapBytes()
	size := float64(stats.EstimatedAverageObjectSizeBytes)
	values := []value{
		{name: "storage: size of a pod as stored", unit: "bytes", amount: size},
		{name: "storage: memory of a pod loaded", unit: "bytes", amount: float64(loaded-before) / float64(stats.ObjectCount)},
		{name: "storage: memory of a pod read", unit: "bytes", amount: float64(read-before) / float64(stats.ObjectCount)},
	}
	runtime.KeepAlive(b.store)
	return values, nil
}

// heapBytes in use after a collection.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // finalizers of the first free more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // a size of memory
}
