package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// manyReplicas are those of each of many Deployments.
const manyReplicas = 10

// perPod is how many table transactions a pod may cost from apply to Running, with all that its Deployment costs.
const perPod = 0.5

// half is what the controllers are asked for.
var half = ask{ratio: 0.5}

// measureControllers is a cluster with simulated nodes at rest, whose controllers get work: a large Deployment is put on it,
// updated and taken away, and then many small ones are put on it.
func measureControllers(ctx context.Context, p platform, s sizes) (values []value, err error) {
	if u, ok := p.(*upstreamPlatform); ok { // its pods must start too
		p = &upstreamPlatform{binaries: u.binaries, kwok: true}
	}
	c, err := p.start(ctx, s.nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	clients, err := newClients(ctx, c.kubeconfig(), s.clients)
	if err != nil {
		return nil, err
	}
	watcher, err := newClient(c.kubeconfig())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := watchWork(ctx, watcher)
	if err != nil {
		return nil, err
	}
	m := &controllersMeasure{clients: clients, seen: w, sizes: s, pids: c.pids(), counts: p.name() == target.Zeroplane}
	if err := letPass(ctx, s.settle); err != nil {
		return nil, err
	}
	for _, phase := range []func(context.Context) error{m.apply, m.update, m.remove, m.applyMany} {
		if err := phase(ctx); err != nil {
			return nil, err
		}
	}
	return m.values, nil
}

type controllersMeasure struct {
	clients []kubernetes.Interface
	seen    *work
	sizes   sizes
	pids    []int
	// counts says whether table transactions can be counted.
	counts bool
	values []value
}

// phase is work for the controllers.
type phase struct {
	name string
	// pods that it is about.
	pods  int
	begin func() error
	ends  []end
	// perPod is what is asked for as table transactions for each pod.
	perPod ask
}

// end is something that comes of a phase.
type end struct {
	name string
	is   func(*work) bool
}

func (m *controllersMeasure) apply(ctx context.Context) error {
	s := m.sizes
	return m.take(ctx, phase{
		name: fmt.Sprintf("%d replicas on %d nodes", s.replicas, s.nodes), pods: s.replicas, perPod: ask{amount: perPod},
		begin: func() error { return create(ctx, m.clients[0], deployment("load", s.replicas)) },
		ends: []end{
			{"all bound", func(w *work) bool { return w.bound >= s.replicas }},
			{"all running", func(w *work) bool { return w.running >= s.replicas }},
		},
	})
}

// update is over as for `kubectl rollout status`.
func (m *controllersMeasure) update(ctx context.Context) error {
	var generation int64
	return m.take(ctx, phase{
		name: fmt.Sprintf("rolling update of %d replicas", m.sizes.replicas), pods: m.sizes.replicas,
		begin: func() error {
			const patch = `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"registry.example/load:2"}]}}}}`
			d, err := m.clients[0].AppsV1().Deployments(namespace).Patch(ctx, "load", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			if err == nil {
				generation = d.Generation
			}
			return err
		},
		ends: []end{{"completed", func(w *work) bool { return rolledOut(w.deployments["load"], generation) }}},
	})
}

func rolledOut(d *appsv1.Deployment, generation int64) bool {
	return d != nil && d.Status.ObservedGeneration >= generation && d.Status.UpdatedReplicas == *d.Spec.Replicas &&
		d.Status.Replicas == d.Status.UpdatedReplicas && d.Status.AvailableReplicas == d.Status.UpdatedReplicas
}

func (m *controllersMeasure) remove(ctx context.Context) error {
	return m.take(ctx, phase{
		name: fmt.Sprintf("cascade delete of %d replicas", m.sizes.replicas), pods: m.sizes.replicas,
		begin: func() error {
			background := metav1.DeletePropagationBackground
			return m.clients[0].AppsV1().Deployments(namespace).Delete(ctx, "load", metav1.DeleteOptions{PropagationPolicy: &background})
		},
		ends: []end{{"nothing left", func(w *work) bool { return len(w.deployments)+len(w.replicaSets)+len(w.pods) == 0 }}},
	})
}

func (m *controllersMeasure) applyMany(ctx context.Context) error {
	many := m.sizes.deployments
	return m.take(ctx, phase{
		name: fmt.Sprintf("%d Deployments of %d", many, manyReplicas), pods: many * manyReplicas, perPod: ask{amount: perPod},
		begin: func() error {
			_, err := rate(m.clients, many, func(client kubernetes.Interface, i int) error {
				return create(ctx, client, deployment(fmt.Sprint("load-", i), manyReplicas))
			})
			return err
		},
		ends: []end{{"all running", func(w *work) bool { return w.running >= many*manyReplicas }}},
	})
}

func create(ctx context.Context, client kubernetes.Interface, d *appsv1.Deployment) error {
	_, err := client.AppsV1().Deployments(namespace).Create(ctx, d, metav1.CreateOptions{})
	return err
}

// take measures a phase, from the first call until what was to come of it is seen. Its CPU time and its transactions are those until
// all is at rest.
func (m *controllersMeasure) take(ctx context.Context, p phase) error {
	before, err := m.transactions(ctx)
	if err != nil {
		return err
	}
	busy, err := cpuSeconds(m.pids)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := p.begin(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	for _, e := range p.ends {
		took, err := m.seen.until(ctx, start, e.is)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", p.name, e.name, err)
		}
		m.values = append(m.values, value{name: p.name + ": " + e.name, unit: "s", amount: took.Seconds(), ask: half})
	}
	if err := letPass(ctx, m.sizes.settle); err != nil {
		return err
	}
	used, err := cpuSeconds(m.pids)
	if err != nil {
		return err
	}
	m.values = append(m.values, value{name: p.name + ": CPU", unit: "s", amount: used - busy})
	if !m.counts {
		return nil
	}
	after, err := m.transactions(ctx)
	if err != nil {
		return err
	}
	var all float64
	var by []string
	for _, of := range slices.Sorted(maps.Keys(after)) {
		n := after[of] - before[of]
		all += n
		by = append(by, fmt.Sprintf("%s %.0f", of, n))
	}
	progress("%s: %.0f table transactions: %s", p.name, all, strings.Join(by, ", "))
	m.values = append(m.values,
		value{name: p.name + ": table transactions", amount: all},
		value{name: p.name + ": table transactions for each pod", amount: all / float64(p.pods), ask: p.perPod})
	return nil
}

var transactionsLine = regexp.MustCompile(`(?m)^zeroplane_table_transactions_total{partition="(\w+)"} (\S+)$`)

// transactions are those so far, by the kind of partition.
func (m *controllersMeasure) transactions(ctx context.Context) (map[string]float64, error) {
	if !m.counts {
		return nil, nil
	}
	text, err := m.clients[0].CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	counts := map[string]float64{}
	for _, line := range transactionsLine.FindAllSubmatch(text, -1) {
		if counts[string(line[1])], err = strconv.ParseFloat(string(line[2]), 64); err != nil {
			return nil, err
		}
	}
	if len(counts) == 0 {
		return nil, errors.New("the metrics count no transactions")
	}
	return counts, nil
}

// work is what watches have shown of the namespace.
type work struct {
	mu      sync.Mutex
	changed chan struct{}

	pods           map[string]*corev1.Pod
	replicaSets    map[string]*appsv1.ReplicaSet
	deployments    map[string]*appsv1.Deployment
	bound, running int
}

// watchWork watches until the context ends.
func watchWork(ctx context.Context, client kubernetes.Interface) (*work, error) {
	w := &work{
		changed: make(chan struct{}, 1), pods: map[string]*corev1.Pod{}, replicaSets: map[string]*appsv1.ReplicaSet{},
		deployments: map[string]*appsv1.Deployment{},
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	for _, watched := range []struct {
		informer cache.SharedIndexInformer
		set      func(key string, object any)
	}{
		{factory.Core().V1().Pods().Informer(), w.pod},
		{factory.Apps().V1().ReplicaSets().Informer(), func(key string, object any) { put(w.replicaSets, key, object) }},
		{factory.Apps().V1().Deployments().Informer(), func(key string, object any) { put(w.deployments, key, object) }},
	} {
		if _, err := watched.informer.AddEventHandler(w.handler(watched.set)); err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("there is no list of %v", kind)
		}
	}
	return w, nil
}

// handler sets what changes, nil for what is gone, by its name.
func (w *work) handler(set func(name string, object any)) cache.ResourceEventHandler {
	seen := func(object, now any) {
		if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = last.Obj
		}
		w.mu.Lock()
		set(object.(metav1.Object).GetName(), now)
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { seen(object, object) },
		UpdateFunc: func(_, object any) { seen(object, object) },
		DeleteFunc: func(object any) { seen(object, nil) },
	}
}

func put[T any](all map[string]T, name string, object any) {
	if object == nil {
		delete(all, name)
		return
	}
	all[name] = object.(T)
}

func (w *work) pod(name string, object any) {
	for _, count := range []int{-1, 1} {
		if pod := w.pods[name]; pod != nil {
			if pod.Spec.NodeName != "" {
				w.bound += count
			}
			if pod.Status.Phase == corev1.PodRunning {
				w.running += count
			}
		}
		put(w.pods, name, object)
	}
}

// until gives the time from start until it is so.
func (w *work) until(ctx context.Context, start time.Time, is func(*work) bool) (time.Duration, error) {
	timer := time.NewTimer(rolloutTimeout)
	defer timer.Stop()
	for {
		w.mu.Lock()
		done := is(w)
		state := fmt.Sprintf("%d pods, %d bound, %d running, %d ReplicaSets", len(w.pods), w.bound, w.running, len(w.replicaSets))
		w.mu.Unlock()
		if done {
			return time.Since(start), nil
		}
		select {
		case <-w.changed:
		case <-timer.C:
			return 0, fmt.Errorf("%s after %v", state, rolloutTimeout)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
