package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// ErrNoReply is returned by an Unknown store after a transaction that was applied, was not, or will be.
var ErrNoReply = errors.New("no reply")

// Fate is what becomes of a transaction whose outcome its caller is not told.
type Fate string

// The fates. A Late transaction is applied when Land is called.
const (
	Applied Fate = "applied"
	Lost    Fate = "lost"
	Late    Fate = "late"
)

// Fates are all of them.
var Fates = []Fate{Applied, Lost, Late}

// Unknown is a store that leaves the outcomes of chosen transactions open.
type Unknown struct {
	table.Store

	mu    sync.Mutex
	seen  int
	fates map[int]Fate
	late  []func() error
}

// NewUnknown returns a store whose transactions fare well until Fail is called.
func NewUnknown(s table.Store) *Unknown { return &Unknown{Store: s, fates: map[int]Fate{}} }

// Fail gives a fate to a transaction, counted from 0.
func (u *Unknown) Fail(transaction int, fate Fate) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fates[transaction] = fate
}

// Commits is the number of transactions that were sent.
func (u *Unknown) Commits() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen
}

// Commit implements table.Store.
func (u *Unknown) Commit(ctx context.Context, partition string, ops []table.Op) error {
	u.mu.Lock()
	n, fate := u.seen, u.fates[u.seen]
	u.seen++
	if fate == Late {
		ops := slices.Clone(ops)
		u.late = append(u.late, func() error { return u.Store.Commit(context.WithoutCancel(ctx), partition, ops) })
	}
	u.mu.Unlock()
	switch fate {
	case Applied:
		if err := u.Store.Commit(ctx, partition, ops); err != nil {
			return err
		}
	case Lost, Late:
	default:
		return u.Store.Commit(ctx, partition, ops)
	}
	return fmt.Errorf("%w to transaction %d", ErrNoReply, n)
}

// Land applies the late transactions, as far as they still can be, and returns how many could.
func (u *Unknown) Land() (applied int, err error) {
	u.mu.Lock()
	late := u.late
	u.late = nil
	u.mu.Unlock()
	for _, commit := range late {
		switch failed := commit(); {
		case failed == nil:
			applied++
		case table.OutcomeUnknown(failed):
			err = errors.Join(err, failed)
		}
	}
	return applied, err
}
