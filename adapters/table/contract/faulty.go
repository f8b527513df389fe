package contract

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// ErrReplyLost is returned by a Faulty store after a transaction that was made durable, or was not:
// its caller cannot know.
var ErrReplyLost = errors.New("the reply was lost")

// continuation separates, in the Next of a Faulty store's pages, where its own query of the store below began from
// where that one goes on. Callers may not read anything into it.
const continuation = "\x00"

// Faulty is a store that does all that the port allows and good stores seldom do. Each number is a
// probability from 0 to 1.
type Faulty struct {
	table.Store
	// ShortPages have fewer rows than there are, EmptyPages none; both go on.
	ShortPages, EmptyPages float64
	// LostReplies are errors after a commit; Retried are conflicts with one's own commit, as a
	// client's transport gets that sends a request again after its reply was lost.
	LostReplies, Retried float64
	// Unsent are errors before a commit.
	Unsent float64

	// Commits counts the transactions that became durable.
	Commits atomic.Int64

	mu  sync.Mutex
	rng *rand.Rand
}

// NewFaulty returns a store whose faults follow from a seed.
func NewFaulty(s table.Store, seed uint64) *Faulty {
	return &Faulty{Store: s, rng: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // faults, not secrets
}

func (f *Faulty) happens(p float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.Float64() < p
}

func (f *Faulty) below(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.IntN(n)
}

// Range implements table.Store.
func (f *Faulty) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if from, next, ok := strings.Cut(q.Continue, continuation); ok {
		q.From, q.Continue = from, next
	}
	page, err := f.Store.Range(ctx, partition, q)
	if err != nil {
		return page, err
	}
	keep := len(page.Rows)
	switch {
	case keep > 0 && f.happens(f.EmptyPages):
		keep = 0
	case keep > 1 && f.happens(f.ShortPages):
		keep = 1 + f.below(keep-1)
	}
	switch {
	case keep < len(page.Rows):
		page.Next = page.Rows[keep].Key + continuation
		page.Rows = page.Rows[:keep]
	case page.Next != "":
		page.Next = q.From + continuation + page.Next
	}
	return page, nil
}

// Commit implements table.Store.
func (f *Faulty) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if f.happens(f.Unsent) {
		return ErrReplyLost
	}
	if err := f.Store.Commit(ctx, partition, ops); err != nil {
		return err
	}
	f.Commits.Add(1)
	if f.happens(f.LostReplies) {
		return ErrReplyLost
	}
	if f.happens(f.Retried) {
		for i, op := range ops {
			if op.Kind == table.Insert {
				return &table.ConflictError{Index: i, Key: op.Key, Err: table.ErrExists}
			}
		}
	}
	return nil
}
