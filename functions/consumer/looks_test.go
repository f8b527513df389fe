package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/events"
)

// TestAllWhoAreRungForOneThingLookAtALogOnce has five functions hear of a change that another instance made.
func TestAllWhoAreRungForOneThingLookAtALogOnce(t *testing.T) {
	store := contract.NewCounting(memory.New())
	shared := func(string) tablelog.Options { return tablelog.Options{} }
	other := kubestorage.NewLogs(store, "c.1", shared)
	heard := make(chan string, 100)
	var functions []Function
	for i := range 5 {
		functions = append(functions, Function{
			Name: fmt.Sprint("f", i), Groups: []string{kubestorage.PodsGroup, kubestorage.NodesGroup},
			Handle: func(_ context.Context, b *Batch) error {
				heard <- changes([]*Batch{b})
				return nil
			},
		})
	}
	settled := make(chan time.Time, 100)
	c := New(Options{
		Name: "c", Partition: "c.1", Store: store, Logs: kubestorage.NewLogs(store, "c.1", shared), API: noAPI{}, Functions: functions,
		Identity: func(string) user.Info { return nil }, Now: time.Now, Settled: func(next time.Time) bool { settled <- next; return true },
	})
	t.Cleanup(c.Stop)
	ring := func(name, want string) {
		change := tablelog.Change{Key: "core/pods/default/" + name, Value: []byte("v")}
		if _, _, err := other[kubestorage.PodsGroup].Commit(t.Context(), []tablelog.Change{change}, nil); err != nil {
			t.Fatal(err)
		}
		before := store.Ranges.Load()
		c.Ring(events.Changed{Cluster: "c", Group: kubestorage.PodsGroup, Revision: other[kubestorage.PodsGroup].Seen(), Time: time.Now()}.Event())
		for range functions {
			if got := <-heard; got != want {
				t.Errorf("a function hears of %s, not of %s", got, want)
			}
		}
		<-settled
		if looks := store.Ranges.Load() - before; name != "first" && looks != 2 {
			t.Errorf("the two logs were looked at %d times for %s", looks, name)
		}
	}
	ring("first", "[]") // all begin with a resync
	ring("second", "[second]")
	ring("third", "[third]")
}

// TestWhoSeesAPodSeesItsOwner: a state that was looked at long ago is looked at again where another log holds a later change.
func TestWhoSeesAPodSeesItsOwner(t *testing.T) {
	store := memory.New()
	shared := func(string) tablelog.Options { return tablelog.Options{} }
	other := kubestorage.NewLogs(store, "c.1", shared)
	c := New(Options{Name: "c", Partition: "c.1", Store: store, Logs: kubestorage.NewLogs(store, "c.1", shared), API: noAPI{}, Now: time.Now})
	t.Cleanup(c.Stop)
	for _, groups := range [][]string{{kubestorage.WorkloadsGroup, kubestorage.PodsGroup}, {kubestorage.PodsGroup, kubestorage.WorkloadsGroup}} {
		rung := tablelog.BeginAt(t.Context(), tablelog.Now())
		if _, err := c.snapshot(rung, groups); err != nil {
			t.Fatal(err)
		}
		owner, pod := "apps/replicasets/default/"+groups[0], "core/pods/default/"+groups[0]
		for group, key := range map[string]string{kubestorage.WorkloadsGroup: owner, kubestorage.PodsGroup: pod} {
			if _, _, err := other[group].Commit(t.Context(), []tablelog.Change{{Key: key, Value: []byte("v")}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		// Somebody else in this instance looks at the pods.
		if _, err := c.Logs[kubestorage.PodsGroup].Current(tablelog.Begin(t.Context())); err != nil {
			t.Fatal(err)
		}
		s, err := c.snapshot(rung, groups)
		if err != nil {
			t.Fatal(err)
		}
		if s.States[kubestorage.PodsGroup].Get(pod) == nil || s.States[kubestorage.WorkloadsGroup].Get(owner) == nil {
			t.Errorf("with the logs %v a snapshot has the pod %t and its owner %t", groups,
				s.States[kubestorage.PodsGroup].Get(pod) != nil, s.States[kubestorage.WorkloadsGroup].Get(owner) != nil)
		}
	}
}

// unanswered is a store that keeps the answer to one commit of the pods to itself.
type unanswered struct {
	table.Store
	armed atomic.Bool
}

var errNoAnswer = errors.New("no answer")

func (u *unanswered) Commit(ctx context.Context, partition string, ops []table.Op) error {
	err := u.Store.Commit(ctx, partition, ops)
	if partition == kubestorage.Partition("c.1", kubestorage.PodsGroup) && u.armed.Load() {
		return errNoAnswer
	}
	return err
}

func (u *unanswered) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if u.armed.Load() {
		return table.Row{}, errNoAnswer
	}
	return u.Store.Get(ctx, partition, key)
}

func (u *unanswered) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if u.armed.Load() {
		return table.Page{}, errNoAnswer
	}
	return u.Store.Range(ctx, partition, q)
}

// TestAClusterDoesNotSettleOnACommitWhoseOutcomeIsUnknown: it landed, nobody was rung, and nobody but this instance can know.
func TestAClusterDoesNotSettleOnACommitWhoseOutcomeIsUnknown(t *testing.T) {
	store := &unanswered{Store: memory.New()}
	heard := make(chan string, 100)
	settled := make(chan time.Time, 100)
	c := New(Options{
		Name: "c", Partition: "c.1", Store: store, Logs: kubestorage.NewLogs(store, "c.1", func(string) tablelog.Options { return tablelog.Options{} }), API: noAPI{},
		Functions: []Function{{Name: "jobs", Groups: []string{kubestorage.PodsGroup}, Handle: func(_ context.Context, b *Batch) error {
			heard <- changes([]*Batch{b})
			return nil
		}}},
		Identity: func(string) user.Info { return nil }, Now: time.Now, Settled: func(next time.Time) bool { settled <- next; return true },
	})
	t.Cleanup(c.Stop)
	c.Ring(events.Changed{Cluster: "c", Group: kubestorage.PodsGroup, Revision: 1, Time: time.Now()}.Event())
	<-heard // the resync
	<-settled
	store.armed.Store(true)
	if _, _, err := c.Logs[kubestorage.PodsGroup].Commit(t.Context(), []tablelog.Change{{Key: "core/pods/default/a", Value: []byte("v")}}, nil); err == nil {
		t.Fatal("the commit was answered")
	}
	store.armed.Store(false)
	// Something else that is written has the cluster settle.
	c.Ring(events.Changed{Cluster: "c", Group: kubestorage.LeasesGroup, Revision: 1, Time: time.Now()}.Event())
	<-settled
	select {
	case got := <-heard:
		if got != "[a]" {
			t.Errorf("the function hears of %s", got)
		}
	default:
		t.Error("the cluster has settled, and the function has not heard of the change")
	}
}
