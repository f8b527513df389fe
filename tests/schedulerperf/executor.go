package schedulerperf

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// clientRate is the limit of upstream's client, in requests per second (mustSetupCluster in util.go).
	clientRate = 5000
	// workers create at once (CreatePod in runners.go).
	workers = 30
	// readyTimeout bounds how long nodes and namespaces may take to be usable.
	readyTimeout = 2 * time.Minute
	// readyInterval is the pause between two looks at them.
	readyInterval = 20 * time.Millisecond
	// quietFor is how long nothing is written about nodes before what controllers do about new ones counts as done.
	quietFor = 500 * time.Millisecond
)

// Options of a run.
type Options struct {
	// Kubeconfig is an admin's file of a cluster without nodes and pods.
	Kubeconfig string
	// Timeout bounds each wait for pods; 10 minutes if zero, as upstream's.
	Timeout time.Duration
	// CreateOnly gives the pods that are measured to a scheduler that does not exist: what is measured then is how quickly
	// they are created.
	CreateOnly bool
	// Log gets lines of progress; nil for none.
	Log io.Writer
}

// executor runs one workload.
//
// Upstream: WorkloadExecutor in executor.go.
type executor struct {
	w       *Workload
	options Options
	client  kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
	pods    *watcher
	// awaited counts, for each namespace that exists, the pods that a barrier has to wait for.
	awaited   map[string]int
	nextNode  int
	collector *collector
	results   []Throughput
	// background is what goes on beside the operations, until the last has ended or one of them has failed.
	background sync.WaitGroup
	failures   chan error

	classesLock sync.Mutex
	classes     map[int32]bool
}

// clientGrowth is by how much the client's heap grows between two collections, in per cent. Upstream's client lives in the heap of its API
// server, of which it adds little; ours alone is so small that it would be collected ten times a second, on the server's processors.
const clientGrowth = 1000

// Run runs a workload to its end and gives what its collectors measured. It fails when an operation does, among others when
// pods that are waited for do not get a node.
func Run(ctx context.Context, w *Workload, options Options) (results []Throughput, err error) {
	ops, err := w.operations()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.ID(), err)
	}
	if options.Timeout == 0 {
		options.Timeout = 10 * time.Minute
	}
	defer debug.SetGCPercent(debug.SetGCPercent(clientGrowth))
	e, err := newExecutor(options)
	if err != nil {
		return nil, err
	}
	e.w = w
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		e.background.Wait()
	}()
	if e.pods, err = watchPods(ctx, e.client); err != nil {
		return nil, err
	}
	for i, op := range ops {
		e.logf("operation %d: %T", i, op)
		if err := op.run(ctx, e, i); err != nil {
			return e.results, fmt.Errorf("%s: operation %d (%T): %w", w.ID(), i, op, err)
		}
		select {
		case err := <-e.failures:
			return e.results, fmt.Errorf("%s: beside operation %d: %w", w.ID(), i, err)
		default:
		}
	}
	return e.results, nil
}

func newExecutor(options Options) (*executor, error) {
	config, err := clientcmd.BuildConfigFromFlags("", options.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = clientRate, clientRate
	// client-go shares connections among equal configurations, and one workload's would outlive its server.
	config.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	e := &executor{options: options, awaited: map[string]int{}, classes: map[int32]bool{}, failures: make(chan error, 1)}
	if e.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	typed := rest.CopyConfig(config)
	typed.ContentType = runtime.ContentTypeProtobuf
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, err
	}
	e.client = client
	e.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	return e, nil
}

func (e *executor) logf(format string, arguments ...any) {
	if e.options.Log != nil {
		line := fmt.Sprintf(format, arguments...)
		_, _ = fmt.Fprintf(e.options.Log, "%s %s: %s\n", time.Now().Format("15:04:05.000"), e.w.ID(), line)
	}
}

// inBackground runs what an operation does not wait for. What fails because the workload has ended does not count.
func (e *executor) inBackground(ctx context.Context, do func() error) {
	e.background.Go(func() {
		if err := do(); err != nil && ctx.Err() == nil {
			select {
			case e.failures <- err:
			default:
			}
		}
	})
}

// namespace makes a namespace if it is not there, and waits until pods can be made in it.
//
// Upstream: createNamespaceIfNotPresent in executor.go.
func (e *executor) namespace(ctx context.Context, namespace *corev1.Namespace) error {
	if _, known := e.awaited[namespace.Name]; known {
		return nil
	}
	_, err := e.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s: %w", namespace.Name, err)
	}
	err = poll(ctx, readyTimeout, func() (bool, error) {
		_, err := e.client.CoreV1().ServiceAccounts(namespace.Name).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the default account of namespace %s: %w", namespace.Name, err)
	}
	e.awaited[namespace.Name] = 0
	return nil
}

func (e *executor) namespaceNamed(ctx context.Context, name string) error {
	return e.namespace(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// class makes sure that there is a PriorityClass of a value, as admission lets pods name no priority themselves.
func (e *executor) class(ctx context.Context, value int32) error {
	e.classesLock.Lock()
	defer e.classesLock.Unlock()
	if e.classes[value] {
		return nil
	}
	_, err := e.client.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{
		ObjectMeta: metav1.ObjectMeta{Name: className(value)}, Value: value,
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating a class of priority %d: %w", value, err)
	}
	e.classes[value] = true
	return nil
}

func className(value int32) string { return fmt.Sprintf("priority-%d", value) }

// parallel calls do for 0 to n-1, so many at once as upstream's workqueue.ParallelizeUntil does, and gives the first error.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var group sync.WaitGroup
	for range min(n, workers) {
		group.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	group.Wait()
	return context.Cause(ctx)
}

// poll looks until done, or no longer than the timeout.
func poll(ctx context.Context, timeout time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if err := pause(ctx, readyInterval); err != nil {
			return err
		}
	}
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// paced calls do for 0 to n-1, so many times a second, or as quickly as it goes if that is 0.
func paced(ctx context.Context, n, perSecond int, do func(i int) error) error {
	var tick <-chan time.Time
	if perSecond > 0 {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		tick = ticker.C
	}
	for i := range n {
		if tick != nil {
			select {
			case <-tick:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}
