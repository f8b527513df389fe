package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// tableClients write at once. Of each kind tableWarm calls warm the instance, and tableSamples are counted.
	tableClients, tableWarm, tableSamples = 64, 3, 30
	// tableRest is how long nothing happens before calls are counted.
	tableRest = 2 * time.Second
)

// tables are two instances on one table in Azurite, behind what counts their requests.
type tables struct {
	counter *limits.Transport
	clients [][]kubernetes.Interface
	stops   []func() error
}

// measureTable counts what calls ask of a table in Azure: queries and transactions, not time, since Azurite takes
// as long as it likes.
func measureTable(ctx context.Context, p platform, s sizes) (values []value, err error) {
	t, err := startTables(ctx, p.(*zeroplanePlatform).binary)
	defer func() { err = errors.Join(err, t.stop()) }()
	if err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context, sizes) ([]value, error){t.calls, t.writes, t.ownWatch, t.otherWatch} {
		more, err := measure(ctx, s)
		if err != nil {
			return nil, err
		}
		values = append(values, more...)
	}
	return values, nil
}

func startTables(ctx context.Context, binary string) (*tables, error) {
	t := &tables{}
	server, err := azurite.Run()
	if err != nil {
		return t, err
	}
	t.stops = append(t.stops, func() error { server.Stop(); return nil })
	endpoint, err := url.Parse(server.Endpoint)
	if err != nil {
		return t, err
	}
	t.counter = limits.New(nil, limits.Options{RowsPerSecond: -1})
	proxy := httptest.NewServer(t.counter.Proxy(endpoint))
	t.stops = append(t.stops, func() error { proxy.Close(); return nil })
	for name, v := range map[string]string{
		"AZURE_STORAGE_CONNECTION_STRING": azurite.ConnectionString(proxy.URL + endpoint.Path),
		"ZEROPLANE_SEAL_KEY":              base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", 32))),
	} {
		if err := os.Setenv(name, v); err != nil {
			return t, err
		}
		t.stops = append(t.stops, func() error { return os.Unsetenv(name) })
	}
	for range 2 {
		dir, err := os.MkdirTemp("", "bench-table-")
		if err != nil {
			return t, err
		}
		t.stops = append(t.stops, func() error { return os.RemoveAll(dir) })
		s, err := target.StartServer(ctx, target.ServerOptions{Binary: binary, Dir: dir, Arguments: []string{"--store=azure"}})
		if err != nil {
			return t, err
		}
		t.stops = append(t.stops, s.Stop)
		clients, err := newClients(ctx, s.Kubeconfig, tableClients)
		if err != nil {
			return t, err
		}
		t.clients = append(t.clients, clients)
	}
	return t, nil
}

func (t *tables) stop() error {
	var errs []error
	for _, stop := range slices.Backward(t.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// count returns the queries for an origin, all if it is empty, and the transactions of one log that were made while
// call ran. What functions write meanwhile, cursors and marks, is in partitions of its own.
func (t *tables) count(origin, group string, call func() error) (queries, transactions float64, err error) {
	log := kubestorage.Partition("", group)
	counts := func() (q, x int) {
		c := t.counter.Counts()
		q = c.Requests - c.Transactions
		if origin != "" {
			q = t.counter.QueriesOf(origin)
		}
		return q, t.counter.TransactionsOn(log)
	}
	queriesBefore, transactionsBefore := counts()
	err = call()
	queriesAfter, transactionsAfter := counts()
	return float64(queriesAfter - queriesBefore), float64(transactionsAfter - transactionsBefore), err
}

// most is the most that a call was seen to ask for, once the instance was warm. What functions ask meanwhile is told
// apart by its origin.
func (t *tables) most(group string, call func(i int) error) (queries, transactions float64, err error) {
	for i := range tableWarm + tableSamples {
		q, x, err := t.count("request", group, func() error { return call(i) })
		if err != nil {
			return 0, 0, err
		}
		if i >= tableWarm {
			queries, transactions = max(queries, q), max(transactions, x)
		}
	}
	return queries, transactions, nil
}

func (t *tables) calls(ctx context.Context, _ sizes) (values []value, err error) {
	core := t.clients[0][0].CoreV1()
	pod := func(i int) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("table-", i)},
			Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "c", Image: "nginx"}},
				// No function writes to it.
				SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/bench"}},
			},
		}
	}
	for _, c := range []struct {
		name                  string
		queries, transactions float64
		call                  func(i int) error
	}{
		{"pod create", 3, 1, func(i int) error {
			_, err := core.Pods(namespace).Create(ctx, pod(i), metav1.CreateOptions{})
			return err
		}},
		{"pod get", 2, 0, func(i int) error {
			_, err := core.Pods(namespace).Get(ctx, pod(i).Name, metav1.GetOptions{})
			return err
		}},
		{"pod list", 2, 0, func(int) error { _, err := core.Pods(namespace).List(ctx, metav1.ListOptions{}); return err }},
	} {
		queries, transactions, err := t.most(kubestorage.PodsGroup, c.call)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		values = append(values, value{name: "table, warm " + c.name, unit: "queries", amount: queries, ask: ask{amount: c.queries}})
		if c.transactions > 0 {
			values = append(values, value{name: "table, warm " + c.name + ", commits", unit: "transactions", amount: transactions, ask: ask{amount: c.transactions}})
		}
	}
	return values, nil
}

// writes has many clients of one instance write a thousand objects.
func (t *tables) writes(ctx context.Context, s sizes) (values []value, err error) {
	objects := s.replicas
	for _, w := range []struct {
		name string
		call func(kubernetes.Interface, int) error
	}{
		{"creates", func(c kubernetes.Interface, i int) error {
			_, err := c.CoreV1().ConfigMaps(namespace).Create(ctx, configMap("table", i), metav1.CreateOptions{})
			return err
		}},
		{"updates", func(c kubernetes.Interface, i int) error {
			cm := configMap("table", i)
			cm.Data["value"] = "changed"
			_, err := c.CoreV1().ConfigMaps(namespace).Update(ctx, cm, metav1.UpdateOptions{})
			return err
		}},
	} {
		if err := letPass(ctx, tableRest); err != nil {
			return nil, err
		}
		_, transactions, err := t.count("", kubestorage.ObjectsGroup, func() error { _, err := rate(t.clients[0], objects, w.call); return err })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		values = append(values, value{
			name: fmt.Sprintf("table, %d %s of %d clients", objects, w.name, tableClients), unit: "transactions", amount: transactions,
			ask: ask{amount: float64(objects) / 25},
		})
	}
	return values, nil
}

// ownWatch counts what a watch asks for while its own instance makes the writes.
func (t *tables) ownWatch(ctx context.Context, _ sizes) ([]value, error) {
	client := t.clients[0][0]
	w, err := client.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	queries, _, err := t.count("watch", kubestorage.ObjectsGroup, func() error {
		for i := range tableSamples {
			if _, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, configMap("own", i), metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
	return []value{{
		name: fmt.Sprintf("table, watch during %d writes of its own instance", tableSamples), unit: "queries", amount: queries, ask: ask{amount: 1},
	}}, err
}

// otherWatch measures how soon a watch of one instance hears of what another writes, and what it asks meanwhile
// and at rest.
func (t *tables) otherWatch(ctx context.Context, s sizes) ([]value, error) {
	here, there := t.clients[0][0], t.clients[1][0]
	w, err := here.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	var delays []time.Duration
	for i := range s.single {
		cm := configMap("other", i)
		if _, err := there.CoreV1().ConfigMaps(namespace).Create(ctx, cm, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
		replied := time.Now()
		if err := awaitConfigMap(ctx, w, cm.Name); err != nil {
			return nil, err
		}
		delays = append(delays, max(time.Since(replied), 0))
		// Writes come at times that have nothing to do with the looks.
		if err := letPass(ctx, time.Duration(i*37%1000)*time.Millisecond); err != nil {
			return nil, err
		}
	}
	slices.Sort(delays)
	if err := letPass(ctx, 2*tableRest); err != nil { // looks grow rare
		return nil, err
	}
	queries, _, err := t.count("", kubestorage.ObjectsGroup, func() error { return letPass(ctx, s.idle) })
	if err != nil {
		return nil, err
	}
	return []value{
		{name: "table, watch of another instance's writes, median", unit: "ms", amount: milliseconds(delays[len(delays)/2])},
		{name: "table, watch of another instance's writes, p99", unit: "ms", amount: milliseconds(delays[len(delays)*99/100]), ask: ask{amount: 1000}},
		{name: "table, a watch while nothing happens", unit: "queries/min", amount: queries / s.idle.Minutes(), ask: ask{amount: 80}},
	}, nil
}

func awaitConfigMap(ctx context.Context, w watch.Interface, name string) error {
	timeout := time.NewTimer(eventTimeout)
	defer timeout.Stop()
	for {
		select {
		case ev, ok := <-w.ResultChan():
			if !ok {
				return errors.New("the watch ended")
			}
			if cm, is := ev.Object.(*corev1.ConfigMap); is && ev.Type == watch.Added && cm.Name == name {
				return nil
			}
		case <-timeout.C:
			return fmt.Errorf("no event of %s after %s", name, eventTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
