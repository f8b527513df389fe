package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/census"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/instances"
)

const (
	// idleClusters sleep in the store beside the default one.
	idleClusters = 8
	// mostTimerOperations of one run of the timer, from no instance at all; one of them is the look at the table that opening
	// it costs on Azure (adapters/table/azure), which this store does not have.
	mostTimerOperations = 2
	openOperations      = 1
)

// counted counts operations.
type counted struct {
	table.Store
	operations atomic.Int64
}

func (c *counted) Commit(ctx context.Context, partition string, ops []table.Op) error {
	c.operations.Add(1)
	return c.Store.Commit(ctx, partition, ops)
}

func (c *counted) Get(ctx context.Context, partition, key string) (table.Row, error) {
	c.operations.Add(1)
	return c.Store.Get(ctx, partition, key)
}

func (c *counted) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	c.operations.Add(1)
	return c.Store.Range(ctx, partition, q)
}

// rows counts all rows.
func rows(t *testing.T, w *instances.World) int {
	t.Helper()
	n := 0
	for after := ""; ; {
		partitions, err := w.Lister.Partitions(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		if len(partitions) == 0 {
			return n
		}
		for _, p := range partitions {
			after = p
			if err := table.All(t.Context(), w.Store, p, table.Query{From: " ", To: "\x7f"}, func(table.Row) bool { n++; return true }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestADayWithoutTrafficIsTheTimersAlone puts clusters to sleep that have worked, and starts an instance for each run of the
// timer.
func TestADayWithoutTrafficIsTheTimersAlone(t *testing.T) {
	instances.Quiet(t)
	t.Setenv("ZEROPLANE_SEAL_KEY", instances.SealKey)
	synctest.Test(t, func(t *testing.T) {
		w := instances.New(t, 1, instances.Options{Instances: running})
		ticking, stop := context.WithCancel(t.Context())
		go w.Timer(ticking)
		employ(t, w)
		rest(t, w)
		stop()
		w.Close()

		store := &counted{Store: w.Store}
		w.Store = store
		bells := w.Counts.Sent.Load()
		before, began := rows(t, w), time.Now()
		runs, most, total := 0, int64(0), int64(0)
		for ; time.Since(began) < 24*time.Hour; time.Sleep(instances.TimerInterval) {
			made := store.operations.Load()
			if err := w.StartForTimer(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := store.operations.Load() - made + openOperations
			runs, most, total = runs+1, max(most, n), total+n
		}
		left, err := w.Left()
		if err != nil {
			t.Fatal(err)
		}
		rang, now := w.Counts.Sent.Load()-bells, rows(t, w)
		var text strings.Builder
		out := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
		fmt.Fprintf(out, "\na day of %d clusters without traffic\t\n", 1+idleClusters)
		fmt.Fprintf(out, "runs of the timer\t%d\nother calls\t%d\n", runs, rang)
		fmt.Fprintf(out, "table operations of a run, at most\t%d\nin a day\t%d\n", most, total)
		fmt.Fprintf(out, "rows, before and after\t%d, %d\nrows with work left\t%d\n", before, now, len(left))
		fmt.Fprintf(out, "table operations in 30 days\t$%.4f\n", 30*float64(total)*census.DollarsPerOperation)
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
		t.Log(text.String())
		if runs > 288 || rang > 0 || most > mostTimerOperations || now != before || len(left) > 0 {
			t.Errorf("want at most 288 runs of at most %d operations and nothing else", mostTimerOperations)
		}
	})
}

// rest waits until nothing is due any more, now or later: the last is that Events expire.
func rest(t *testing.T, w *instances.World) {
	t.Helper()
	for deadline := time.Now().Add(6 * time.Hour); ; {
		w.Settle()
		page, err := w.Store.Range(t.Context(), "_dirty", table.Query{From: " ", To: "\x7f"})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Rows) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still to come: %q", page.Rows)
		}
	}
}

// employ has the clusters do some work.
func employ(t *testing.T, w *instances.World) {
	t.Helper()
	c := w.Client()
	for n := range idleClusters {
		name := fmt.Sprint("idle-", n)
		answer, err := c.RESTClient().Post().AbsPath("/zeroplane/v1/clusters").Body(fmt.Appendf(nil, `{"name":%q}`, name)).DoRaw(t.Context())
		var made struct{ Kubeconfig string }
		if err = errors.Join(err, json.Unmarshal(answer, &made)); err != nil {
			t.Fatal(err)
		}
		config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
		if _, err := w.ClientFor([]byte(made.Kubeconfig)).CoreV1().ConfigMaps("default").Create(t.Context(), config, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range nodes {
		node := kubelet.NewNode(fmt.Sprint("node-", i), i, kubelet.NodeOptions{Pods: 32, Now: time.Now()})
		if _, err := c.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), deployment("web", 10), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Insist("see the replicas ready", func(ctx context.Context) error {
		d, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != 10 {
			err = fmt.Errorf("%d are", d.Status.ReadyReplicas)
		}
		return err
	})
}
