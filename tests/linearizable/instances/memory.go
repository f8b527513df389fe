// Package instances runs several instances of the storage, without an API server, over one store in memory, with
// faults, crashes and compaction. Its tests are what the mutants of package linearizable must not survive.
package instances

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

var (
	errKilled = errors.New("the instance was killed")
	errCutOff = errors.New("the store cannot be reached")

	errUnanswered = errors.New("no answer came")
)

// network is one instance's way to the store: it takes time, may be cut, and breaks for good when the instance is
// killed.
type network struct {
	table.Store
	// latency of most requests, at most, and of a few ten times that.
	latency time.Duration
	// unanswered is the probability that a request, or its answer, is lost.
	unanswered float64
	// late transactions, those under way when the instance was killed, arrive after it; else they do not.
	late bool

	killed, cut atomic.Bool
	// under is held, shared, by the requests that are at the store.
	under sync.RWMutex
}

// lateness is how long after a crash a transaction arrives, at most.
const lateness = 20 * time.Millisecond

func (n *network) travel() error {
	latency := n.latency
	if rand.IntN(30) == 0 { //nolint:gosec // a delay
		latency *= 10
	}
	time.Sleep(rand.N(latency)) //nolint:gosec // a delay
	switch {
	case n.killed.Load():
		return errKilled
	case n.cut.Load():
		return errCutOff
	case rand.Float64() < n.unanswered: //nolint:gosec // chance
		return errUnanswered
	default:
		return nil
	}
}

// Get implements table.Store.
func (n *network) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if err := n.travel(); err != nil {
		return table.Row{}, err
	}
	row, err := n.Store.Get(ctx, partition, key)
	return row, errors.Join(err, n.travel())
}

// Range implements table.Store.
func (n *network) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if err := n.travel(); err != nil {
		return table.Page{}, err
	}
	page, err := n.Store.Range(ctx, partition, q)
	return page, errors.Join(err, n.travel())
}

// Commit implements table.Store.
func (n *network) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if err := n.travel(); err != nil {
		if n.late && errors.Is(err, errKilled) && rand.IntN(2) == 0 { //nolint:gosec // chance
			time.AfterFunc(rand.N(lateness), func() { _ = n.Store.Commit(context.Background(), partition, ops) }) //nolint:gosec // chance
		}
		return err
	}
	n.under.RLock()
	defer n.under.RUnlock()
	if n.killed.Load() {
		return errKilled
	}
	if err := n.Store.Commit(ctx, partition, ops); err != nil {
		return err
	}
	if rand.IntN(10) == 0 { //nolint:gosec // a delay: others go on meanwhile
		time.Sleep(rand.N(30 * n.latency)) //nolint:gosec // a delay
	}
	return n.travel()
}

// kill breaks the way for good, and returns when nothing of it is at the store.
func (n *network) kill() {
	n.killed.Store(true)
	n.under.Lock()
	defer n.under.Unlock()
}
