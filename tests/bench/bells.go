package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/zeroplane/zeroplane/adapters/doorbell/eventgrid"
	"github.com/zeroplane/zeroplane/adapters/doorbell/storagequeue"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/localhost"
	standin "github.com/zeroplane/zeroplane/tests/eventgrid"
	"github.com/zeroplane/zeroplane/tests/hosted"
)

const (
	// bellSamples are rung of each transport, after one that warms what hears it. Each is of a Deployment of one replica.
	bellSamples = 3
	// bellQuiet is how long nothing happens before each: the pause of a queue's reader has grown by then.
	bellQuiet = 5 * time.Second
	// bellPoll is how often it is looked whether a bell was answered.
	bellPoll = 5 * time.Millisecond
	// defaultCluster is the name of the one that hosts begin with.
	defaultCluster = "default"
)

// transport is a way for a commit to have somebody act on it.
type transport struct {
	name string
	// write makes an object whose bell travels by it, in which ring has a part if it is not nil.
	write func(context.Context, *appsv1.Deployment) error
	ring  func(context.Context) error
	// operations is what the transport itself has charged so far, in dollars.
	operations func() float64
}

// bells is how long each transport takes from a commit to the reconcile that it causes, a Deployment's ReplicaSet, and what
// the transport charges for all that a million of its bells cause: what follows rings too.
func (h *host) bells(ctx context.Context) ([]value, error) {
	w, stop, err := h.writer()
	if err != nil {
		return nil, err
	}
	defer stop()
	transports, err := h.transports(ctx, w)
	if err != nil {
		return nil, err
	}
	var values []value
	for _, t := range transports {
		more, err := h.bell(ctx, w, t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		values = append(values, more...)
	}
	return values, nil
}

// transports of a host.
func (h *host) transports(ctx context.Context, w *kubernetes.Clientset) ([]transport, error) {
	through := func(c *kubernetes.Clientset) func(context.Context, *appsv1.Deployment) error {
		return func(ctx context.Context, d *appsv1.Deployment) error {
			_, err := c.AppsV1().Deployments(namespace).Create(ctx, d, metav1.CreateOptions{})
			return err
		}
	}
	queued := func() float64 { return h.used().queues * h.prices.queueCall }
	if h.grid == nil {
		return []transport{{name: "over SQS", write: through(h.Client), operations: queued}}, nil
	}
	if err := h.Subscribe(ctx, h.grid, nil); err != nil {
		return nil, err
	}
	topic, err := eventgrid.Open(eventgrid.Options{Endpoint: h.grid.Topic(), Key: standin.Key})
	if err != nil {
		return nil, err
	}
	queue, err := storagequeue.Open(storagequeue.Options{ConnectionString: h.variable("AZURE_STORAGE_CONNECTION_STRING")})
	if err != nil {
		return nil, err
	}
	bell := func() cloudevents.Event { return events.Timer{Cluster: defaultCluster, Time: time.Now()}.Event() }
	return []transport{
		{name: "in process", write: through(h.Client), operations: func() float64 { return 0 }},
		{
			name: "pushed over Event Grid", write: through(w),
			ring: func(ctx context.Context) error { return topic.Publish(ctx, []cloudevents.Event{bell()}) },
			operations: func() float64 {
				c := h.grid.Counts()
				return float64(c.Events+c.Deliveries) * gridOperation
			},
		},
		{
			name: fmt.Sprintf("over a Storage Queue that was quiet for %s", bellQuiet), write: through(w), operations: queued,
			ring: func(ctx context.Context) error { return queue.Send(ctx, bell(), time.Now()) },
		},
	}, nil
}

// bell measures a transport.
func (h *host) bell(ctx context.Context, w *kubernetes.Clientset, t transport) ([]value, error) {
	var took []time.Duration
	var operations float64
	for n := range 1 + bellSamples {
		if err := letPass(ctx, bellQuiet); err != nil {
			return nil, err
		}
		d := hosted.Deployment(1)
		d.Name = strings.ToLower(strings.ReplaceAll(fmt.Sprintf("bell-%.9s-%d", t.name, n), " ", "-"))
		d.Spec.Selector.MatchLabels, d.Spec.Template.Labels = map[string]string{"app": d.Name}, map[string]string{"app": d.Name}
		before := t.operations()
		if err := t.write(ctx, d); err != nil {
			return nil, err
		}
		one, err := timed(func() error {
			if t.ring != nil {
				if err := t.ring(ctx); err != nil {
					return err
				}
			}
			return awaitReplicaSet(ctx, w, d.Name)
		})
		if err != nil {
			return nil, err
		}
		if err := letPass(ctx, hostSettle); err != nil { // it is acknowledged
			return nil, err
		}
		if n > 0 {
			took = append(took, one)
			operations += t.operations() - before
		}
	}
	name := h.label + ", a bell " + t.name + ": "
	return []value{
		{name: name + "commit to reconcile", unit: "ms", amount: medianOf(took)},
		{name: name + "what the transport charges for a million, bells of what follows included", unit: "$", amount: 1e6 * operations / bellSamples},
	}, nil
}

// awaitReplicaSet returns when a Deployment has its ReplicaSet.
func awaitReplicaSet(ctx context.Context, c *kubernetes.Clientset, deployment string) error {
	for deadline := time.Now().Add(hostTimeout); time.Now().Before(deadline); {
		sets, err := c.AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + deployment})
		if err != nil {
			return err
		}
		if len(sets.Items) > 0 {
			return nil
		}
		if err := letPass(ctx, bellPoll); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s has no ReplicaSet after %s", deployment, hostTimeout)
}

// variable is what a handler's environment says.
func (h *host) variable(name string) string {
	for _, v := range h.Environment() {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// writer is an instance in this process that only writes and reads: what it writes nobody hears of but by a bell that
// somebody else sends.
func (h *host) writer() (c *kubernetes.Clientset, stop func(), err error) {
	var stops hosted.Stops
	defer func() {
		if err != nil {
			stops.Stop()
		}
	}()
	klog.SetLogger(logr.Discard()) // the API server says much when it is made
	if err := os.Setenv(localhost.SealKeyEnv, h.variable(localhost.SealKeyEnv)); err != nil {
		return nil, nil, err
	}
	stops = append(stops, func() { _ = os.Unsetenv(localhost.SealKeyEnv) })
	store, err := azure.Open(context.Background(), azure.Options{ConnectionString: h.variable("AZURE_STORAGE_CONNECTION_STRING"), Table: azure.DefaultTable})
	if err != nil {
		return nil, nil, err
	}
	w, err := localhost.OpenBehind(localhost.Options{
		Store: localhost.Store{Store: store, Close: func() error { return nil }, Shared: true}, MaxAwake: 1,
		Front: localhost.Front{Address: h.variable("ZEROPLANE_ADDRESS"), Freezes: true},
	})
	if err != nil {
		return nil, nil, err
	}
	server := httptest.NewTLSServer(w.Handler())
	stops = append(stops, func() { server.Close(); err = errors.Join(err, w.Close()) })
	config, err := clientcmd.BuildConfigFromFlags("", h.Kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	config.Host, config.QPS, config.Insecure, config.CAData = server.URL, -1, true, nil
	c, err = kubernetes.NewForConfig(config)
	return c, stops.Stop, err
}
