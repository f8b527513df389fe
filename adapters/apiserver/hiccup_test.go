package apiserver_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// hiccup is a store of which one read is refused.
type hiccup struct {
	table.Store
	// before is how many reads are answered before it, and reads how many there were.
	before, reads atomic.Int64
}

// leastNamespaced is how many resources in namespaces there are at least.
const leastNamespaced = 30

func namespaced(s *apiserver.Server) (int, error) {
	d, err := s.Discover()
	if err != nil {
		return 0, err
	}
	all, err := d.Namespaced()
	return len(all), err
}

var errBusy = errors.New("the table is busy")

func (h *hiccup) read() error {
	if h.reads.Add(1) == h.before.Load()+1 {
		return errBusy
	}
	return nil
}

func (h *hiccup) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if err := h.read(); err != nil {
		return table.Row{}, err
	}
	return h.Store.Get(ctx, partition, key)
}

func (h *hiccup) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if err := h.read(); err != nil {
		return table.Page{}, err
	}
	return h.Store.Range(ctx, partition, q)
}

// TestAServerOutlivesAReadThatWasRefused, whichever it was: what it assembles when it is first asked for is not without what it reads.
func TestAServerOutlivesAReadThatWasRefused(t *testing.T) {
	c := clustertest.New(t)
	store := &hiccup{Store: c.Store}
	c.Store = store
	make1 := func(client kubernetes.Interface) error {
		_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "c-"}}, metav1.CreateOptions{})
		return err
	}
	refused := 0
	for before := int64(0); ; before++ {
		store.before.Store(before)
		store.reads.Store(0)
		server, err := c.Server(c.Logs(tablelog.Options{}))
		if err != nil {
			refused++ // its host tries again
			continue
		}
		client, err := kubernetes.NewForConfig(server.ClientConfig(apiserver.System, "test"))
		if err != nil {
			t.Fatal(err)
		}
		if make1(client) != nil {
			refused++
		}
		if _, err := server.Discover(); err != nil {
			refused++
		}
		met := store.reads.Load() > before
		store.before.Store(-1)
		if err := make1(client); err != nil {
			t.Errorf("after read %d was refused: %v", before+1, err)
		}
		if n, err := namespaced(server); err != nil || n < leastNamespaced {
			t.Errorf("after read %d was refused, discovery: %d resources in namespaces, %v", before+1, n, err)
		}
		server.Close()
		if !met {
			t.Logf("of %d reads, %d were noticed by who asked", before, refused)
			break
		}
	}
	if refused == 0 {
		t.Error("no refused read was noticed")
	}
}
