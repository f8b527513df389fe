package consumer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/plan"
)

// Row keys of a cluster's ledger partition.
const (
	cursorClass = "c-"
	dueClass    = "d-"
	dueEnd      = "d."
	subjectHash = 12 // bytes of the hash that names a subject in a key
)

// ledger keeps the cursors of a cluster's functions and what they put off, in one partition, so
// that a cursor moves in the transaction that stores what the batch put off.
type ledger struct {
	store     table.Store
	partition string
	functions map[string]bool

	mu     sync.Mutex
	loaded bool
	due    agenda
	// paused are the functions that failed, and when they are called again.
	paused map[string]time.Time
	// taken are, by subject, the times of what batches have been given and not settled yet.
	taken map[string]time.Time
}

// dueRow is something put off.
type dueRow struct {
	Function string     `json:"function"`
	Later    plan.Later `json:"later"`
	key      string
	// former are the keys of rows that this one replaced and that a crash left.
	former []string
	// id names its subject, and place is where it stands in its function's timeline.
	id    string
	place int
}

func newLedger(store table.Store, cluster string, functions []Function) *ledger {
	l := &ledger{
		store: store, partition: kubestorage.Partition(cluster, "cursors"), functions: map[string]bool{},
		due: newAgenda(), paused: map[string]time.Time{}, taken: map[string]time.Time{},
	}
	for _, f := range functions {
		l.functions[f.Name] = true
	}
	return l
}

// subject names what a Later is about; a later one for the same subject replaces it.
func subject(function string, l plan.Later) string {
	sum := sha256.Sum256([]byte(function + "\x00" + l.Kind + "\x00" + l.Subject.Resource.String() + "\x00" +
		l.Subject.Namespace + "\x00" + l.Subject.Name + "\x00" + string(l.Subject.UID)))
	return hex.EncodeToString(sum[:subjectHash])
}

func dueKey(at time.Time, id string) string {
	return fmt.Sprintf("%s%016x-%s", dueClass, max(at.UnixMilli(), 0), id)
}

// load reads what is due, once in the life of the instance. Callers hold mu.
func (l *ledger) load(ctx context.Context) error {
	if l.loaded {
		return nil
	}
	var broken error
	err := table.All(ctx, l.store, l.partition, table.Query{From: dueClass, To: dueEnd}, func(row table.Row) bool {
		d := &dueRow{key: row.Key}
		if broken = json.Unmarshal(row.Value, d); broken != nil {
			broken = fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, broken)
			return false
		}
		if !l.functions[d.Function] {
			return true // of another version of the program
		}
		id := subject(d.Function, d.Later)
		if earlier := l.due.get(id); earlier != nil {
			earlier.former = append(earlier.former, d.key)
			return true
		}
		l.due.set(id, d)
		return true
	})
	if err = errors.Join(err, broken); err != nil {
		l.due = newAgenda()
		return fmt.Errorf("reading what is due: %w", err)
	}
	l.loaded = true
	return nil
}

// reload has what is due be read again: other instances put things off, too.
func (l *ledger) reload() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded, l.due = false, newAgenda()
}

// cursor returns a function's cursor: the revision up to which it has seen each log.
func (l *ledger) cursor(ctx context.Context, function string) (map[string]uint64, error) {
	out := map[string]uint64{}
	row, err := l.store.Get(ctx, l.partition, cursorClass+function)
	if errors.Is(err, table.ErrNotFound) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(row.Value, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cursor of %s: %w", function, err)
	}
	return out, nil
}

// pause keeps a function from being rung for what is due before a time; resume ends that.
func (l *ledger) pause(function string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused[function] = until
}

func (l *ledger) resume(function string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.paused, function)
}

// first is when to ring for the first thing that a function put off. The caller holds mu.
func (l *ledger) first(function string) (at time.Time, found bool) {
	if at, found = l.due.first(function); found && l.paused[function].After(at) {
		at = l.paused[function]
	}
	return at, found
}

// next returns when the next thing is due, and whether there is any.
func (l *ledger) next(ctx context.Context) (time.Time, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return time.Time{}, false, err
	}
	var first time.Time
	earlier := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	for function := range l.due.byFunction {
		if at, found := l.first(function); found {
			earlier(at)
		}
	}
	for _, until := range l.paused {
		earlier(until)
	}
	return first, !first.IsZero(), nil
}

// dueFor returns what a function put off until now or earlier, in the order of time.
func (l *ledger) dueFor(ctx context.Context, function string, now time.Time) ([]plan.Later, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	var out []plan.Later
	l.due.until(function, now, func(d *dueRow) {
		out = append(out, d.Later)
		l.taken[d.id] = d.Later.At
	})
	sort.Slice(out, func(i, j int) bool { return out[i].At.Before(out[j].At) })
	return out, nil
}

// pending returns what a function put off for a subject, of a kind.
func (l *ledger) pending(ctx context.Context, function string, of plan.Ref, kind string) (plan.Later, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return plan.Later{}, false, err
	}
	if d := l.due.get(subject(function, plan.Later{Subject: of, Kind: kind})); d != nil {
		return d.Later, true, nil
	}
	return plan.Later{}, false, nil
}

// functionsDue returns the names of the functions for which something is due, or whose pause is over.
func (l *ledger) functionsDue(ctx context.Context, now time.Time) (map[string]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for function, until := range l.paused {
		if !until.After(now) {
			out[function] = true
		}
	}
	for function := range l.due.byFunction {
		if at, found := l.first(function); found && !at.After(now) {
			out[function] = true
		}
	}
	return out, nil
}

// settle stores what was put off, removes what was due and has been handled, and moves a function's
// cursor, in as few transactions as they fit in and in this order: a crash in between leaves too much,
// never too little.
func (l *ledger) settle(ctx context.Context, function string, cursor map[string]uint64, handled, later []plan.Later) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return err
	}
	if err := l.commit(ctx, function, cursor, handled, later); err != nil {
		return err
	}
	for _, h := range handled {
		delete(l.taken, subject(function, h))
	}
	return nil
}

// ask stores what is put off from outside of a function's batches. What is due already, and no batch has been given
// yet, is not put off again.
func (l *ledger) ask(ctx context.Context, function string, later []plan.Later) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return err
	}
	var wanted []plan.Later
	for _, p := range later {
		id := subject(function, p)
		waiting := l.due.get(id)
		if waiting == nil || waiting.Later.At.After(p.At) || waiting.Later.At.Equal(l.taken[id]) {
			wanted = append(wanted, p)
		}
	}
	return l.commit(ctx, function, nil, nil, wanted)
}

// commit does what settle says. The caller holds mu.
func (l *ledger) commit(ctx context.Context, function string, cursor map[string]uint64, handled, later []plan.Later) error {
	ops, after, err := l.dueOps(function, handled, later)
	if err != nil {
		return err
	}
	if cursor != nil {
		value, err := json.Marshal(cursor)
		if err != nil {
			return fmt.Errorf("encoding a cursor: %w", err)
		}
		ops = append(ops, table.Op{Kind: table.Put, Key: cursorClass + function, Value: value})
	}
	for len(ops) > 0 {
		n := min(len(ops), table.MaxOps)
		if err := l.store.Commit(ctx, l.partition, ops[:n]); err != nil {
			l.loaded, l.due = false, newAgenda() // what is stored is not known any more
			return fmt.Errorf("moving the cursor of %s: %w", function, err)
		}
		ops = ops[n:]
	}
	for id, d := range after {
		l.due.set(id, d)
	}
	return nil
}

// dueOps returns the operations that make the stored due rows what they shall be, and what changes
// in memory once they are committed.
func (l *ledger) dueOps(function string, handled, later []plan.Later) ([]table.Op, map[string]*dueRow, error) {
	want, order := l.wanted(function, handled, later)
	var puts, deletes []table.Op
	after := map[string]*dueRow{}
	for _, id := range order {
		d, current := want[id], l.due.get(id)
		if d.same(current) {
			continue
		}
		if d != nil {
			value, err := json.Marshal(d)
			if err != nil {
				return nil, nil, fmt.Errorf("encoding what is due: %w", err)
			}
			puts = append(puts, table.Op{Kind: table.Put, Key: d.key, Value: value})
		}
		after[id] = d
		for _, key := range current.keys() {
			if d == nil || key != d.key {
				deletes = append(deletes, table.Op{Kind: table.Delete, Key: key, ETag: table.Any})
			}
		}
	}
	return append(puts, deletes...), after, nil
}

// wanted returns the rows that shall be, nil for none, by the ids of what was handled and put off, and
// the order in which these came. The caller holds mu.
func (l *ledger) wanted(function string, handled, later []plan.Later) (want map[string]*dueRow, order []string) {
	want = map[string]*dueRow{}
	set := func(id string, d *dueRow) {
		if _, seen := want[id]; !seen {
			order = append(order, id)
		}
		want[id] = d
	}
	for _, h := range handled {
		id := subject(function, h)
		if current := l.due.get(id); current != nil && !current.Later.At.Equal(h.At) {
			continue // it was asked for again meanwhile
		}
		set(id, nil)
	}
	for _, p := range later {
		id := subject(function, p)
		if p.At.IsZero() {
			set(id, nil)
			continue
		}
		earlier, decided := want[id]
		if !decided {
			earlier = l.due.get(id)
		}
		if p.Keep && earlier != nil {
			continue
		}
		set(id, &dueRow{Function: function, Later: p, key: dueKey(p.At, id)})
	}
	return want, order
}

// same reports whether nothing is to be done for d to replace the current row; either may be nil.
func (d *dueRow) same(current *dueRow) bool {
	if d == nil || current == nil {
		return d == nil && current == nil
	}
	return d.key == current.key && d.Later.At.Equal(current.Later.At) && len(current.former) == 0
}

// keys are those under which a row is stored, none for nil.
func (d *dueRow) keys() []string {
	if d == nil {
		return nil
	}
	return append([]string{d.key}, d.former...)
}

// storeCursors stores cursors, by function.
func (l *ledger) storeCursors(ctx context.Context, cursors map[string]map[string]uint64) error {
	ops := make([]table.Op, 0, len(cursors))
	for function, cursor := range cursors {
		value, err := json.Marshal(cursor)
		if err != nil {
			return fmt.Errorf("encoding a cursor: %w", err)
		}
		ops = append(ops, table.Op{Kind: table.Put, Key: cursorClass + function, Value: value})
	}
	if len(ops) == 0 {
		return nil
	}
	if err := table.Repeat(ctx, l.store, l.partition, ops); err != nil {
		return fmt.Errorf("storing cursors: %w", err)
	}
	return nil
}
