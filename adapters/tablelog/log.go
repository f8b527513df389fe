package tablelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Limits of a log.
const (
	// maxInlineValue is the size up to which a value stands in its object row and its log row.
	// Twice this, and the same again from other changes, fits in a transaction.
	maxInlineValue = 512 << 10
	// maxChanges in one transaction: a log row and an object row each.
	maxChanges = table.MaxOps / 2
	// maxBatchBytes of values in one transaction, below what is allowed by what rows add.
	maxBatchBytes = table.MaxCommitBytes - 64<<10
	// recentEvents kept in memory for watches that resume and for lists of the near past.
	recentEvents = 4096
	// recentBytes of them at most, as estimated, beside the newest change.
	recentBytes = 16 << 20
	// maxQueuedEvents of a watch whose reader is slow; more ends the watch, and its client resumes.
	maxQueuedEvents = 20000
	// maxReplay is the number of log rows that are read, and kept in memory, to bring a state up to date; one that
	// is further behind begins again from the object rows.
	maxReplay = 20000
	// replayPart is the number of log rows that a watch far behind, or the end of a scan, reads at a time: a page.
	replayPart = table.MaxPage
	// maxMade entries are kept for the next part: each spares a query.
	maxMade = 4 * replayPart
	// maxGap and maxSpan bound what is read together of changes that are not next to each other, in revisions: what is
	// not wanted costs less than one more query.
	maxGap, maxSpan = 32, table.MaxPage
	// pastLasts is how long a state of the past is kept for the next page of a list.
	pastLasts = time.Minute
	// maxLoads in one refresh: a load that compaction overtakes is begun again.
	maxLoads = 3
	// maxAttempts of a transaction that loses its revision to another instance.
	maxAttempts = 32
	// gatherLeast and gatherMost bound how long a transaction waits for more writers: three times as long as the
	// one before it took.
	gatherLeast, gatherMost = 10 * time.Millisecond, 60 * time.Millisecond
	// maxSends of one transaction whose outcome stays unknown.
	maxSends = 4
	// maxUnproven is how long ago a state may have been current for a transaction to be tried on it. It must be less than
	// changes are kept (functions/upkeep): the revision after an older state may have been taken, compacted, and be free.
	maxUnproven = 5 * time.Minute
	// commitTimeout bounds a transaction once it has left: its callers may have gone.
	commitTimeout = 30 * time.Second
)

var (
	// ErrCompacted is returned for a revision whose changes are no longer kept.
	ErrCompacted = errors.New("the requested revision has been compacted")
	// ErrFuture is returned for a revision that the log has not reached.
	ErrFuture = errors.New("the requested revision is in the future")
	// ErrReadSetMoved is returned by Commit when something that the decision was made on changed.
	ErrReadSetMoved = errors.New("what was decided on has changed")
	// ErrTooLarge is returned for a value that no transaction can hold.
	ErrTooLarge = errors.New("value is too large")
	// ErrSlow ends a subscription whose reader fell too far behind: what it lacks can be had by another one.
	ErrSlow = errors.New("watch fell too far behind")

	// errFarBehind is ErrCompacted to whoever would rather begin again than read so much.
	errFarBehind = fmt.Errorf("%w, or more than %d changes ago", ErrCompacted, maxReplay)
)

// ConflictError is returned by Commit when an object is not at the revision a change expects.
type ConflictError struct {
	Key string
	// Current entry, nil if there is none.
	Current *Entry
}

func (e *ConflictError) Error() string {
	if e.Current == nil {
		return fmt.Sprintf("object %q does not exist", e.Key)
	}
	return fmt.Sprintf("object %q is at revision %d", e.Key, e.Current.Rev)
}

// Options of a log.
type Options struct {
	// SoleWriter is set when nobody else can write to the store while this process has it open: the
	// state in memory is then current without a look at the log.
	SoleWriter bool
	// Committed is called, if set, after every commit of this instance, with the log's revision and the cause of its
	// change, nil if that was not noted.
	Committed func(rev uint64, cause *Cause)
	// BeforeWrite is called, if set, before a transaction leaves; an error stops it. What it returns
	// is called when the transaction has ended, one way or the other, and was rung for.
	BeforeWrite func(context.Context) (ended func(), err error)
	// Cache, if set, counts what is read and bounds the memory that states take.
	Cache *Cache
	// Now, if set, is the clock that changes are stamped with; time.Now otherwise.
	Now func() time.Time
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Log is one dense log.
type Log struct {
	store     table.Store
	partition string
	opts      Options
	writeID   atomic.Uint64

	// lead is held by the one who commits, tails or loads.
	lead  chan struct{}
	state atomic.Pointer[State]
	// doubt is set when a commit of a sole writer failed: the log may hold more than the state does.
	doubt atomic.Bool
	// looked is the tick at which the last look at the log that ended well began: the state holds all that
	// was committed before. proven is the time of that tick, in Unix nanoseconds.
	looked atomic.Uint64
	proven atomic.Int64
	// used is the tick at which the state was last read.
	used atomic.Uint64
	// contended is set while others were seen to write. It belongs to the lead.
	contended bool
	// crowd is how many wrote lately while a transaction was under way, and lasted how long the last one took.
	// They belong to the lead.
	crowd  int
	lasted time.Duration
	// window is what guards were last held against that is not in memory any more. It belongs to the lead.
	window weak.Pointer[window]
	// seen is the newest revision that this instance knows of, also when the state was dropped; 0 for none.
	seen atomic.Uint64
	// floor is the oldest revision kept, as far as this instance knows; 1 if nothing was compacted.
	floor atomic.Uint64

	queueMu sync.Mutex
	queue   []*submission
	// queued is signalled when something was added to the queue.
	queued chan struct{}

	// watchMu guards what follows, and is held while a state and its events are published.
	watchMu sync.Mutex
	recent  []Event
	// recentSize is what recent takes, in bytes.
	recentSize int64
	// past is the state that was last read back from the log rows, since pages of a list ask for it one after the
	// other; pastSize what it alone keeps in memory, in bytes, and pastUsed when it was last asked for.
	past     *State
	pastSize int64
	pastUsed time.Time
	subs     map[*Subscription]struct{}
	// following is set while a goroutine looks at the log for those who watch it.
	following bool
	// told has one thing in it when the log is to be looked at at once for those who watch it.
	told chan struct{}
}

// New returns the log of a partition. Nothing is read until it is asked for.
func New(store table.Store, partition string, opts Options) *Log {
	l := &Log{
		store: store, partition: partition, opts: opts,
		lead: make(chan struct{}, 1), queued: make(chan struct{}, 1), told: make(chan struct{}, 1),
		subs: map[*Subscription]struct{}{},
	}
	l.writeID.Store(rand.Uint64()) //nolint:gosec // tells commits apart, is no secret
	l.floor.Store(firstRevision)
	return l
}

// Seen is the newest revision that this instance knows of, 0 if it knows of none. It reads nothing.
func (l *Log) Seen() uint64 { return l.seen.Load() }

// InDoubt reports whether a transaction of this instance may have landed though it failed: the log may hold more than Seen until
// somebody looks.
func (l *Log) InDoubt() bool { return l.doubt.Load() }

// Partition of the log.
func (l *Log) Partition() string { return l.partition }

func (l *Log) acquire(ctx context.Context) error {
	select {
	case l.lead <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) release() { <-l.lead }

// Idle waits until nothing of the log is under way: no transaction, which goes on after its caller has gone, and no
// look. It fails with the context's error.
func (l *Log) Idle(ctx context.Context) error {
	if err := l.acquire(ctx); err != nil {
		return err
	}
	l.release()
	return nil
}

// ticks orders the looks at all logs and the requests that read them.
var ticks atomic.Uint64

// Moment is a point in that order.
type Moment uint64

// Now is the present moment: what was committed until now is seen by every look that begins later.
func Now() Moment { return Moment(ticks.Add(1)) }

type begunKey struct{}

// Begin marks the beginning of a request: one look at a log that began later is enough for all that the
// request reads of it.
func Begin(ctx context.Context) context.Context { return BeginAt(ctx, Now()) }

// BeginAt is Begin for what has to see no more than was committed until a moment that has passed: what was looked at since, by
// whomever, is not looked at again.
func BeginAt(ctx context.Context, m Moment) context.Context {
	return context.WithValue(ctx, begunKey{}, uint64(m))
}

// Begun reports whether the context is that of a request whose beginning was marked.
func Begun(ctx context.Context) bool { return ctx.Value(begunKey{}) != nil }

// begun is the tick at which the request of a context began, or now.
func begun(ctx context.Context) uint64 {
	if t, ok := ctx.Value(begunKey{}).(uint64); ok {
		return t
	}
	return ticks.Load()
}

// Current returns a state that holds every change committed before the call, or before the request that
// the context was marked with by Begin.
func (l *Log) Current(ctx context.Context) (*State, error) {
	if s := l.state.Load(); s != nil && l.trusted() {
		l.opts.Cache.hit(l)
		return s, nil
	}
	since := begun(ctx)
	if s := l.fresh(since); s != nil {
		l.opts.Cache.hit(l)
		return s, nil
	}
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	if s := l.fresh(since); s != nil {
		l.opts.Cache.hit(l)
		return s, nil
	}
	return l.refresh(ctx)
}

// View is a state and how old it may be.
type View struct {
	*State
	// Holds is a moment: the state holds all that was committed before. No later than Newest had its newest change been committed.
	Holds, Newest Moment
}

// View returns a view of Current.
func (l *Log) View(ctx context.Context) (View, error) {
	now := Now()
	s, err := l.Current(ctx)
	if err != nil {
		return View{}, err
	}
	if !l.trusted() {
		// In this order: the state may get newer, and never older.
		now = Moment(l.looked.Load())
		if newer := l.state.Load(); newer != nil {
			s = newer
		} else {
			now = Moment(begun(ctx)) // it was dropped meanwhile
		}
	}
	return View{State: s, Holds: now, Newest: s.told}, nil
}

// fresh returns the state in memory if a look at the log that began after a tick has confirmed it.
func (l *Log) fresh(since uint64) *State {
	if l.looked.Load() <= since || l.doubt.Load() {
		return nil
	}
	return l.state.Load()
}

// confirmed notes that the state in memory holds all that was committed before a tick.
func (l *Log) confirmed(tick uint64, at time.Time) {
	l.looked.Store(tick)
	l.proven.Store(at.UnixNano())
}

// trusted reports whether the state in memory is current without a look at the log.
func (l *Log) trusted() bool { return l.opts.SoleWriter && !l.doubt.Load() }

// Known returns the state as this instance last saw it, loading it if it never did.
func (l *Log) Known(ctx context.Context) (*State, error) {
	if s := l.state.Load(); s != nil {
		l.opts.Cache.hit(l)
		return s, nil
	}
	return l.Current(ctx)
}

// refresh makes the state current. The caller leads.
func (l *Log) refresh(ctx context.Context) (*State, error) {
	s := l.state.Load()
	if s != nil && l.trusted() {
		return s, nil
	}
	tick, now := ticks.Add(1), time.Now()
	var err error
	if s == nil {
		s, err = l.reload(ctx, ErrCompacted)
	} else {
		before := s.Rev
		l.opts.Cache.tailed(l)
		s, err = l.tail(ctx, s)
		switch {
		case errors.Is(err, errFarBehind):
			s, err = l.reload(ctx, ErrSlow)
		case errors.Is(err, ErrCompacted):
			s, err = l.reload(ctx, ErrCompacted)
		}
		l.contended = err == nil && s.Rev != before
	}
	if err != nil {
		return nil, err
	}
	l.doubt.Store(false)
	l.confirmed(tick, now)
	return s, nil
}

// reload begins again from the object rows. Watches that were told of an earlier state cannot go on, for a reason.
// The caller leads.
func (l *Log) reload(ctx context.Context, reason error) (*State, error) {
	var s *State
	var err error
	for range maxLoads {
		if s, err = l.load(ctx); !errors.Is(err, ErrCompacted) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	l.opts.Cache.loaded(l)
	l.opts.Cache.resized(l, s.size)
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	s.told = Now()
	l.state.Store(s)
	l.seen.Store(s.Rev)
	l.forgetRecent()
	l.forgetPast()
	for sub := range l.subs {
		sub.end(reason)
		delete(l.subs, sub)
	}
	return s, nil
}

// publish makes a state and the events that led to it visible together. The caller leads.
func (l *Log) publish(next *State, events []Event) {
	l.opts.Cache.resized(l, next.size+l.show(next, events))
}

// show does the publishing, and returns the size of the changes in memory.
func (l *Log) show(next *State, events []Event) int64 {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	next.told = Now()
	l.state.Store(next)
	l.seen.Store(next.Rev)
	l.remember(events)
	if l.past != nil && time.Since(l.pastUsed) > pastLasts {
		l.forgetPast()
	}
	for sub := range l.subs {
		sub.deliver(events, next.Rev)
	}
	return l.recentSize + l.pastSize
}

// forgetRecent lets go of all changes in memory. The caller leads and holds watchMu.
func (l *Log) forgetRecent() {
	l.recent, l.recentSize, l.window = nil, 0, weak.Pointer[window]{}
}

// remember keeps events in memory, and lets go of the oldest. The caller holds watchMu.
func (l *Log) remember(events []Event) {
	l.recent = append(l.recent, events...)
	for _, e := range events {
		l.recentSize += e.size()
	}
	if len(l.recent) <= recentEvents+recentEvents/4 && l.recentSize <= recentBytes {
		return
	}
	drop, size := 0, l.recentSize
	for ; drop < len(l.recent)-1 && (len(l.recent)-drop > recentEvents || size > recentBytes*3/4); drop++ {
		size -= l.recent[drop].size()
	}
	l.recent, l.recentSize = append([]Event(nil), l.recent[drop:]...), size
}

// size is what an event may alone keep in memory, in bytes, as estimated.
func (e Event) size() int64 {
	switch {
	case e.Entry != nil:
		return e.Entry.size()
	case e.Prev != nil:
		return e.Prev.size()
	}
	return 0
}

// Trim drops from memory what can be had again from the store or made anew: the recent changes, and with
// them the entries of the past, and the decoded forms of the entries of today. What stays is moved together,
// so that the memory around it can be given back.
func (l *Log) Trim(ctx context.Context) error {
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer l.release()
	s := l.state.Load()
	if s == nil {
		return nil
	}
	next := newState()
	next.Rev, next.written, next.told = s.Rev, s.written, s.told
	s.Ascend("", "", func(e *Entry) bool {
		next.set(&Entry{
			Key: strings.Clone(e.Key), Rev: e.Rev, Created: e.Created, Expires: e.Expires,
			Owners: slices.Clone(e.Owners), Value: bytes.Clone(e.Value),
		})
		return true
	})
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	l.state.Store(next)
	l.forgetRecent()
	l.forgetPast()
	return nil
}
