package consumer

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// Function is one stateless function.
type Function struct {
	// Name of the function, of its cursors and of what it puts off.
	Name string
	// Groups are the log groups whose changes wake it, Also those that it reads besides.
	Groups, Also []string
	// Told is a hash of what else the function decides by: its configuration. When it is another than at the last batch, of
	// whichever instance, everything may have changed; 0 for nothing.
	Told uint64
	// Handle decides on a batch and commits. An error leaves the cursor where it is, and the batch
	// comes again after a pause.
	Handle func(context.Context, *Batch) error
}

// Batch is what a function is called with: all that changed since it was last called.
type Batch struct {
	*Cluster
	*Snapshot
	// Changes in Groups since the cursor, log by log in order.
	Changes []tablelog.Event
	// Resync is set when the changes are not known any more: everything may have changed.
	Resync bool
	// Due are the subjects that the function asked to be called for, by now.
	Due []plan.Later
	// Now is the time of the decision.
	Now time.Time

	mu      sync.Mutex
	later   []plan.Later
	reasons reasons
}

// Gather collects the subjects of the batch: all of them when it is not known what changed, those that
// each change touches, and those that were put off.
func (b *Batch) Gather(everything func() error, change func(tablelog.Event) error, due func(plan.Later)) error {
	if b.Resync {
		if err := everything(); err != nil {
			return err
		}
	}
	for _, ev := range b.Changes {
		if err := change(ev); err != nil {
			return err
		}
	}
	for _, l := range b.Due {
		due(l)
	}
	return nil
}

// subjectsAtOnce is how many subjects of a batch are decided at the same time: their commits share
// transactions.
const subjectsAtOnce = 8

// Later puts something off. It is stored with the cursor.
func (b *Batch) Later(l ...plan.Later) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.later = append(b.later, l...)
}

// Each calls decide for every subject, several at a time, and returns the first error. One that fails
// does not keep the others from being decided.
func Each[T any](ctx context.Context, subjects []T, decide func(context.Context, T) error) error {
	var g errgroup.Group
	g.SetLimit(subjectsAtOnce)
	for _, s := range subjects {
		g.Go(func() error { return decide(ctx, s) })
	}
	return g.Wait()
}

// Named is a namespace and a name.
type Named struct{ Namespace, Name string }

// Set collects the subjects of a batch.
type Set map[Named]bool

// Add adds a subject.
func (s Set) Add(namespace, name string) { s[Named{namespace, name}] = true }

// Sorted returns the subjects in order.
func (s Set) Sorted() []Named {
	out := make([]Named, 0, len(s))
	for n := range s {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Named) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Pending returns what the function put off before for a subject, of a kind, and has not handled. Another instance may
// have put off something since.
func (b *Batch) Pending(ctx context.Context, of plan.Ref, kind string) (plan.Later, bool, error) {
	return b.ledger.pending(ctx, b.function, of, kind)
}

// PutOff returns what the batch has put off so far.
func (b *Batch) PutOff() []plan.Later {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]plan.Later(nil), b.later...)
}
