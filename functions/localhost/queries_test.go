package localhost

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
)

// counted runs a host on a shared store that counts, whose functions do nothing, and returns its admin.
func counted(t *testing.T, under table.Store) (*contract.Counting, *kubernetes.Clientset) {
	t.Helper()
	if under == nil {
		under = memorytable.New()
	}
	store := contract.NewCounting(under)
	h := shareStore(t, store, 0)
	a, err := h.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.leave() })
	awaitNoMarks(t, store)
	a.functions.Stop()
	return store, admin(t, h, h)
}

func countedPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}}}}
}

// TestARequestCostsFewQueries counts what a warm instance asks of a table that others write to, with
// authentication, authorisation and admission.
func TestARequestCostsFewQueries(t *testing.T) {
	store, c := counted(t, memorytable.New())
	ctx := t.Context()
	core := c.CoreV1()
	n := 0
	create := func() error {
		n++
		_, err := core.Pods("default").Create(ctx, countedPod(fmt.Sprint("p", n)), metav1.CreateOptions{})
		return err
	}
	for name, tt := range map[string]struct {
		call                 func() error
		queries, transaction int64
	}{
		"get":                             {func() error { _, err := core.Pods("default").Get(ctx, "p1", metav1.GetOptions{}); return err }, 2, 0},
		"list":                            {func() error { _, err := core.Pods("default").List(ctx, metav1.ListOptions{}); return err }, 2, 0},
		"get of what authorisation reads": {func() error { _, err := core.Namespaces().Get(ctx, "default", metav1.GetOptions{}); return err }, 1, 0},
		"create":                          {create, 3, 1},
		"update": {func() error {
			_, err := core.Pods("default").Patch(ctx, "p1", "application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{"n":"%d"}}}`, n), metav1.PatchOptions{})
			n++
			return err
		}, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the first one warms, and makes p1
				if err := create(); err != nil {
					t.Fatal(err)
				}
				if err := tt.call(); err != nil {
					t.Fatal(err)
				}
			}
			queries, commits := store.Queries(), store.Commits.Load()
			if err := tt.call(); err != nil {
				t.Fatal(err)
			}
			if q, c := store.Queries()-queries, store.Commits.Load()-commits; q > tt.queries || c != tt.transaction {
				t.Errorf("it took %d queries and %d transactions, want at most %d and %d", q, c, tt.queries, tt.transaction)
			} else {
				t.Logf("%d queries, %d transactions", q, c)
			}
		})
	}
}

// slowly is a store whose transactions take as long as those of a table in the network.
type slowly struct{ table.Store }

func (s slowly) Commit(ctx context.Context, partition string, ops []table.Op) error {
	time.Sleep(10 * time.Millisecond)
	return s.Store.Commit(ctx, partition, ops)
}

// TestManyWritesShareTransactions has 64 clients of one instance make, change and delete a thousand objects. On a
// machine that does nothing else that takes some 35 transactions each (tests/bench); a busy one has fewer at a time.
func TestManyWritesShareTransactions(t *testing.T) {
	const clients, objects, most = 64, 1000, 125
	store, c := counted(t, slowly{memorytable.New()})
	maps := c.CoreV1().ConfigMaps("default")
	ctx := t.Context()
	for _, phase := range []struct {
		name string
		call func(name string) error
	}{
		{"creates", func(name string) error {
			_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			return err
		}},
		{"updates", func(name string) error {
			_, err := maps.Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"k": "v"}}, metav1.UpdateOptions{})
			return err
		}},
		{"deletes", func(name string) error { return maps.Delete(ctx, name, metav1.DeleteOptions{}) }},
	} {
		commits := store.Commits.Load()
		names := make(chan string)
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for name := range names {
					if err := phase.call(name); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range objects {
			names <- fmt.Sprint("cm-", i)
		}
		close(names)
		wg.Wait()
		n := store.Commits.Load() - commits
		t.Logf("%d %s: %d transactions", objects, phase.name, n)
		if n > most {
			t.Errorf("%d %s took %d transactions, want at most %d", objects, phase.name, n, most)
		}
	}
}
