package tablelog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Change is one change that a caller asks for.
type Change struct {
	Key string
	// Expect is the revision of the entry that the change was decided on, 0 for none.
	Expect uint64
	// Delete removes the object; what follows is then unused.
	Delete  bool
	Value   []byte
	Expires int64
	Owners  []string
	// Cause of the change, nil for none.
	Cause *Cause
}

// Guard is the condition under which a plan's changes may be committed: nothing that Conflicts
// reports was changed after revision Since.
type Guard struct {
	Since     uint64
	Conflicts func(Event) bool
}

// submission is what one caller waits for.
type submission struct {
	changes []Change
	guard   *Guard
	// entries made by the changes, nil for deletions, and the revision of the last one.
	entries []*Entry
	rev     uint64
	err     error
	done    chan struct{}
}

func (s *submission) finish(err error) {
	s.err = err
	close(s.done)
}

// size is the number of rows and of value bytes that changes add to a transaction.
func size(changes []Change) (rows, bytes int) {
	for _, c := range changes {
		r, b := c.size()
		rows, bytes = rows+r, bytes+b
	}
	return rows, bytes
}

// size is that of one change: its log row, its object row, and the rows of a large value.
func (c Change) size() (rows, bytes int) {
	record := fixedFields + len(c.Key)
	for _, o := range c.Owners {
		record += len(o) + 2
	}
	parts := valueParts(len(c.Value))
	if parts == 0 {
		record += len(c.Value)
	} else {
		bytes = len(c.Value)
	}
	return 2 + parts, bytes + 2*record
}

// valueParts is the number of value rows of a value, 0 if it stands in its object and log row.
func valueParts(bytes int) int {
	if bytes <= maxInlineValue {
		return 0
	}
	return (bytes + table.MaxRowBytes - 1) / table.MaxRowBytes
}

// Split cuts changes, in their order, into as few pieces as fit in a transaction each.
func Split(changes []Change) [][]Change {
	var out [][]Change
	start, rows, bytes := 0, 0, 0
	for i, c := range changes {
		r, b := c.size()
		if i > start && (rows+r > table.MaxOps || bytes+b > maxBatchBytes) {
			out = append(out, changes[start:i])
			start, rows, bytes = i, 0, 0
		}
		rows, bytes = rows+r, bytes+b
	}
	if start < len(changes) {
		out = append(out, changes[start:])
	}
	return out
}

// valid returns why changes cannot be committed whatever the state: others share their transaction,
// so what the table would refuse must not get that far.
func valid(changes []Change) error {
	if rows, bytes := size(changes); rows > table.MaxOps || bytes > maxBatchBytes {
		return fmt.Errorf("%w: %d rows and %d bytes", ErrTooLarge, rows, bytes)
	}
	for i, c := range changes {
		if c.Key == "" {
			return fmt.Errorf("%w: change without a key", table.ErrInvalid)
		}
		if c.Delete && c.Expect == 0 {
			return fmt.Errorf("%w: %q is deleted and expected not to exist", table.ErrInvalid, c.Key)
		}
		for _, before := range changes[:i] {
			if before.Key == c.Key {
				return fmt.Errorf("%w: %q is changed twice in a transaction", table.ErrInvalid, c.Key)
			}
		}
	}
	return nil
}

// Commit makes the changes of one caller durable in one transaction, and returns the entries they
// made, in order, nil for deletions, and the revision of the last. It shares its transaction with
// whoever commits at the same time. It fails with a *ConflictError, with ErrReadSetMoved, or with
// ErrTooLarge; nothing was written then. After any other error the outcome is unknown: a transaction
// goes on to its end when the context of one of its callers ends. Without changes it only checks the
// guard. Guard.Conflicts must not call the log.
func (l *Log) Commit(ctx context.Context, changes []Change, guard *Guard) ([]*Entry, uint64, error) {
	s := &submission{changes: changes, guard: guard, done: make(chan struct{})}
	if err := valid(changes); err != nil {
		return nil, 0, err
	}
	l.queueMu.Lock()
	l.queue = append(l.queue, s)
	l.queueMu.Unlock()
	select {
	case l.queued <- struct{}{}:
	default:
	}
	select {
	case <-s.done:
		return s.entries, s.rev, s.err
	case <-ctx.Done():
		return nil, 0, l.abandon(ctx, s)
	case l.lead <- struct{}{}:
		// On its own: whoever shares the transaction waits for it, when this caller no longer does.
		go l.commitQueued(ctx, s)
	}
	select {
	case <-s.done:
		return s.entries, s.rev, s.err
	case <-ctx.Done():
		return nil, 0, l.abandon(ctx, s)
	}
}

// abandon says what became of a submission whose caller waits no longer. It leaves the queue, if it is still there.
func (l *Log) abandon(ctx context.Context, s *submission) error {
	l.queueMu.Lock()
	l.queue = slices.DeleteFunc(l.queue, func(q *submission) bool { return q == s })
	l.queueMu.Unlock()
	return fmt.Errorf("committing to partition %q: %w", l.partition, ctx.Err())
}

// commitQueued leads rounds until one has settled the leader's own submission, or it was abandoned, and gives the
// lead up.
func (l *Log) commitQueued(ctx context.Context, own *submission) {
	defer l.release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	for {
		select {
		case <-own.done:
			return
		default:
		}
		if l.waiting() == 0 {
			return
		}
		l.gather()
		l.round(ctx)
	}
}

// gather waits a moment for others where many write: until two thirds of those who wrote lately wait, while the
// others are on their way. On a table in the network that makes a transaction of what would be ten, and takes
// no longer. The caller leads.
func (l *Log) gather() {
	if l.opts.SoleWriter || l.crowd < 4 {
		return
	}
	timer := time.NewTimer(min(max(3*l.lasted, gatherLeast), gatherMost))
	defer timer.Stop()
	for l.waiting() < min(l.crowd*2/3, maxChanges) {
		select {
		case <-l.queued:
		case <-timer.C:
			l.crowd = l.waiting()
			return
		}
	}
}

func (l *Log) waiting() int {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	return len(l.queue)
}

// round commits one transaction of what is queued. A look at the log before it is saved where the state in
// memory lets every change pass: inserting the next revision proves that the state was current.
func (l *Log) round(ctx context.Context) {
	taken := l.take()
	var err error
	look := !l.promising(ctx, taken)
	for attempt := range maxAttempts {
		s := l.state.Load()
		if look || attempt > 0 {
			if s, err = l.refresh(ctx); err != nil {
				break
			}
		}
		if taken = l.settle(ctx, s, taken); len(taken) == 0 {
			return
		}
		if err = l.transact(ctx, s, taken); err == nil {
			return
		}
		if _, ok := errors.AsType[*table.ConflictError](err); !ok {
			break
		}
		l.contended = true
		if attempt > 0 {
			pause(ctx, attempt)
		}
	}
	for _, sub := range taken {
		sub.finish(fmt.Errorf("committing to partition %q: %w", l.partition, err))
	}
}

// promising reports whether submissions may be tried on the state in memory as it is: it was seen to be current not long
// ago, nobody else was seen to write, and it refuses none of them, since an older state may refuse what the newest would not.
func (l *Log) promising(ctx context.Context, taken []*submission) bool {
	s := l.state.Load()
	if s == nil || l.trusted() {
		return s != nil
	}
	// The wall clock: the other one may stand still while a host has the process frozen.
	unproven := time.Since(time.Unix(0, l.proven.Load()))
	if l.contended || l.doubt.Load() || unproven < 0 || unproven > maxUnproven {
		return false
	}
	for _, sub := range taken {
		if len(sub.changes) == 0 || l.check(ctx, s, sub, nil) != nil {
			return false
		}
	}
	return true
}

// pause waits a moment, longer and with more jitter the more attempts were lost.
func pause(ctx context.Context, attempt int) {
	const unit = 200 * time.Microsecond
	t := time.NewTimer(time.Duration(rand.Int64N(int64(unit) << min(attempt, 8)))) //nolint:gosec // jitter
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// rest waits before a transaction is sent again, longer each time and at least what the service asks for. It returns
// false, at once, where that would not end before the deadline.
func rest(ctx context.Context, attempt int, err error) bool {
	const unit = 4 * time.Millisecond
	d := time.Duration(rand.Int64N(int64(unit) << (2 * attempt))) //nolint:gosec // jitter
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(err, &asks) {
		d += asks.RetryAfter()
	}
	return table.Wait(ctx, d)
}

// take removes from the queue, in order, what fits in one transaction.
func (l *Log) take() []*submission {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	keys := map[string]bool{}
	rows, bytes, n := 0, 0, 0
	for _, s := range l.queue {
		r, b := size(s.changes)
		if n > 0 && (rows+r > table.MaxOps || bytes+b > maxBatchBytes) {
			break
		}
		twice := false
		for _, c := range s.changes {
			twice = twice || keys[c.Key]
		}
		if twice {
			break
		}
		for _, c := range s.changes {
			keys[c.Key] = true
		}
		rows, bytes, n = rows+r, bytes+b, n+1
	}
	taken := append([]*submission(nil), l.queue[:n]...)
	l.queue = append(l.queue[:0], l.queue[n:]...)
	return taken
}

// settle finishes the submissions that cannot be committed on a state and returns the rest. Those
// in one transaction touch different keys, so that one cannot invalidate another's expectations;
// a guard, though, must also hold against the changes that go before it.
func (l *Log) settle(ctx context.Context, s *State, taken []*submission) []*submission {
	kept := taken[:0]
	var before []Event
	for _, sub := range taken {
		if err := l.check(ctx, s, sub, before); err != nil {
			sub.finish(err)
			continue
		}
		if len(sub.changes) == 0 {
			sub.rev = s.Rev
			sub.finish(nil)
			continue
		}
		kept = append(kept, sub)
		before = append(before, preview(s, sub)...)
	}
	return kept
}

func (l *Log) check(ctx context.Context, s *State, sub *submission, before []Event) error {
	for _, c := range sub.changes {
		current := s.Get(c.Key)
		if current == nil && c.Expect != 0 || current != nil && current.Rev != c.Expect {
			return &ConflictError{Key: c.Key, Current: current}
		}
	}
	if sub.guard == nil {
		return nil
	}
	events, err := l.eventsFor(ctx, sub.guard, s.Rev)
	if errors.Is(err, ErrCompacted) {
		return fmt.Errorf("%w, or may have: %w", ErrReadSetMoved, err)
	}
	if err != nil {
		return err
	}
	for _, list := range [][]Event{events, before} {
		for _, ev := range list {
			if sub.guard.Conflicts(ev) {
				return fmt.Errorf("%w: %s was %s", ErrReadSetMoved, ev.Key, ev.Type)
			}
		}
	}
	return nil
}

// preview returns the events that a submission would make, without their revisions.
func preview(s *State, sub *submission) []Event {
	out := make([]Event, 0, len(sub.changes))
	for _, c := range sub.changes {
		ev := Event{Key: c.Key, Type: Updated, Prev: s.Get(c.Key)}
		switch {
		case c.Delete:
			ev.Type = Deleted
		case ev.Prev == nil:
			ev.Type = Created
		}
		if !c.Delete {
			ev.Entry = &Entry{Key: c.Key, Expires: c.Expires, Owners: c.Owners, Value: c.Value}
		}
		out = append(out, ev)
	}
	return out
}

// transact commits the submissions as one transaction on a state, applies it, and finishes them.
func (l *Log) transact(ctx context.Context, s *State, subs []*submission) error {
	if l.opts.BeforeWrite != nil {
		ended, err := l.opts.BeforeWrite(ctx)
		if err != nil {
			return err
		}
		defer ended()
	}
	id := l.writeID.Add(1)
	tick, now := ticks.Add(1), time.Now()
	next := s.clone()
	next.written = max(s.written, l.opts.now().UnixMilli())
	changes := 0
	for _, sub := range subs {
		changes += len(sub.changes)
	}
	ops := make([]table.Op, 0, 2*changes)
	events := make([]Event, 0, changes)
	for _, sub := range subs {
		sub.entries = make([]*Entry, len(sub.changes))
		for i, c := range sub.changes {
			ev := l.apply(next, c)
			sub.entries[i], sub.rev = ev.Entry, ev.Rev
			ops = appendRows(ops, ev, id, next.written)
			events = append(events, ev)
		}
	}
	if err := l.send(ctx, ops, s.Rev+1, id); err != nil {
		l.doubt.Store(true)
		return err
	}
	l.lasted, l.crowd = time.Since(now), max(len(subs)+l.waiting(), l.crowd*7/8)
	l.publish(next, events)
	l.confirmed(tick, now)
	for _, sub := range subs {
		sub.finish(nil)
	}
	if l.opts.Committed != nil {
		l.opts.Committed(next.Rev, events[len(events)-1].Cause)
	}
	return nil
}

// send commits the rows of a transaction that begins at a revision. One whose outcome is unknown is sent again as it
// is: should the first arrive after all, the second meets the log row that both insert, and knows it by its
// write-id.
func (l *Log) send(ctx context.Context, ops []table.Op, rev, id uint64) error {
	for attempt := 0; ; attempt++ {
		err := l.store.Commit(ctx, l.partition, ops)
		if err == nil {
			return nil
		}
		landed, unsure := l.landed(ctx, rev, id)
		_, conflict := errors.AsType[*table.ConflictError](err)
		switch {
		case landed:
			return nil
		case unsure != nil:
			// Not even a conflict counts as one: it may be with what we wrote ourselves.
			err = fmt.Errorf("%w, after: %v", unsure, err) //nolint:errorlint // so that it is not taken for a conflict
		case conflict, errors.Is(err, table.ErrInvalid):
			return err
		}
		if l.opts.SoleWriter || attempt == maxSends-1 || !rest(ctx, attempt, err) {
			return err
		}
	}
}

// landed reports whether a commit that seemed to fail was ours and did not: its reply was lost. It fails when that
// cannot be told.
func (l *Log) landed(ctx context.Context, rev, id uint64) (bool, error) {
	row, err := l.store.Get(ctx, l.partition, logKey(rev))
	if errors.Is(err, table.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking whether revision %d was written: %w", rev, err)
	}
	r, err := decodeRecord(row.Value)
	return err == nil && r.writeID == id, err
}

// apply alters a state by a change that was checked against it.
func (l *Log) apply(s *State, c Change) Event {
	s.Rev++
	ev := Event{Rev: s.Rev, Key: c.Key, Type: Updated, Cause: c.Cause}
	if c.Delete {
		ev.Type, ev.Prev = Deleted, s.remove(c.Key)
		return ev
	}
	e := &Entry{Key: c.Key, Rev: s.Rev, Created: s.Rev, Expires: c.Expires, Owners: c.Owners, Value: c.Value}
	if ev.Prev = s.Get(c.Key); ev.Prev == nil {
		ev.Type = Created
	} else {
		e.Created = ev.Prev.Created
	}
	s.set(e)
	ev.Entry = e
	return ev
}

// appendRows appends the operations that make an event durable. Written is a time in Unix milliseconds.
func appendRows(ops []table.Op, ev Event, id uint64, written int64) []table.Op {
	r := record{typ: ev.Type, writeID: id, written: written, rev: ev.Rev, cause: ev.Cause, key: ev.Key}
	if ev.Prev != nil {
		r.prev, r.created, r.prevParts = ev.Prev.Rev, ev.Prev.Created, valueParts(len(ev.Prev.Value))
	}
	if ev.Type == Deleted {
		return append(ops,
			table.Op{Kind: table.Insert, Key: logKey(ev.Rev), Value: r.encode()},
			table.Op{Kind: table.Delete, Key: objectKey(ev.Key), ETag: table.Any, Exists: true})
	}
	r.created, r.expires, r.owners, r.value = ev.Entry.Created, ev.Entry.Expires, ev.Entry.Owners, ev.Entry.Value
	ops = append(ops, r.detach()...)
	encoded := r.encode()
	return append(ops,
		table.Op{Kind: table.Insert, Key: logKey(ev.Rev), Value: encoded},
		table.Op{Kind: table.Put, Key: objectKey(ev.Key), Value: encoded})
}

// detach takes a large value out of a record, and returns the operations that write the rows it goes to.
func (r *record) detach() []table.Op {
	if valueParts(len(r.value)) == 0 {
		return nil
	}
	var ops []table.Op
	for rest := r.value; len(rest) > 0; r.parts++ {
		n := min(len(rest), table.MaxRowBytes)
		ops = append(ops, table.Op{Kind: table.Put, Key: valueKey(r.rev, r.parts), Value: rest[:n]})
		rest = rest[n:]
	}
	r.value = nil
	return ops
}
