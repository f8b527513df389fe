package kubestorage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Scope holds back the writes of one plan. They pass through the API's whole path, validated and
// admitted one by one, and are then committed together, each transaction under the condition that
// the plan's read set did not move (docs/decisions.md, D7 and D8).
//
// Inside a scope a get or an update sees the scope's own writes; lists and watches do not.
type Scope struct {
	mu    sync.Mutex
	order []*tablelog.Log
	logs  map[*tablelog.Log]*held
	// committed are the revisions of the last changes that were committed.
	committed map[*tablelog.Log]uint64
}

// held are the writes of one log, by their places and then in the order of their first appearance.
type held struct {
	keys    []string
	changes map[string]*heldChange
	// rev is the last tentative revision given out.
	rev uint64
}

type heldChange struct {
	change tablelog.Change
	entry  *tablelog.Entry
	place  int
}

type scopeKey struct{}

type placeKey struct{}

// InPlace returns a context whose writes come, in their scope, after all those of smaller places: writes that are under way at
// the same time arrive in any order, and where they do not fit in one transaction those in front are committed first.
func InPlace(ctx context.Context, place int) context.Context {
	return context.WithValue(ctx, placeKey{}, place)
}

// WithScope returns a context whose writes are held back in the scope it also returns.
func WithScope(ctx context.Context) (context.Context, *Scope) {
	s := &Scope{logs: map[*tablelog.Log]*held{}, committed: map[*tablelog.Log]uint64{}}
	return context.WithValue(ctx, scopeKey{}, s), s
}

// ScopeFrom returns the scope of a context, nil for none.
func ScopeFrom(ctx context.Context) *Scope {
	s, _ := ctx.Value(scopeKey{}).(*Scope)
	return s
}

// get returns the scope's own version of an entry, and whether it has one.
func (s *Scope) get(log *tablelog.Log, key string) (*tablelog.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.logs[log]; h != nil {
		if c := h.changes[key]; c != nil {
			return c.entry, true
		}
	}
	return nil, false
}

// hold keeps a change back and returns its entry, whose revision is tentative.
func (s *Scope) hold(ctx context.Context, log *tablelog.Log, state *tablelog.State, change tablelog.Change) *tablelog.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.logs[log]
	if h == nil {
		h = &held{changes: map[string]*heldChange{}, rev: state.Rev}
		s.logs[log] = h
		s.order = append(s.order, log)
	}
	c := h.changes[change.Key]
	if c == nil {
		c = &heldChange{change: change}
		c.place, _ = ctx.Value(placeKey{}).(int)
		h.changes[change.Key] = c
		h.keys = append(h.keys, change.Key)
	} else {
		change.Expect = c.change.Expect // what stood there before the scope's first write
		c.change = change
	}
	if change.Delete {
		c.entry = nil
		return nil
	}
	h.rev++
	c.entry = &tablelog.Entry{Key: change.Key, Rev: h.rev, Created: h.rev, Expires: change.Expires, Owners: change.Owners, Value: change.Value}
	return c.entry
}

// pending returns the changes of one log. An object that was both made and deleted in the scope
// never was.
func (h *held) pending() []tablelog.Change {
	slices.SortStableFunc(h.keys, func(a, b string) int { return cmp.Compare(h.changes[a].place, h.changes[b].place) })
	out := make([]tablelog.Change, 0, len(h.keys))
	for _, key := range h.keys {
		if c := h.changes[key].change; !c.Delete || c.Expect != 0 {
			out = append(out, c)
		}
	}
	return out
}

// Committed returns the revision of the last change that Commit made durable in each log.
func (s *Scope) Committed() map[*tablelog.Log]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.committed)
}

// Guards says, for each log, from which revision on a plan's read set must not have moved, and what
// is in it. A log without a guard is not checked beyond the objects written.
type Guards map[*tablelog.Log]tablelog.Guard

// Commit makes the held writes durable, log by log in the order of their first write, in as few
// transactions as they fit in. It fails with tablelog.ErrReadSetMoved or *tablelog.ConflictError;
// transactions that went before the failed one stay.
func (s *Scope) Commit(ctx context.Context, guards Guards) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, log := range s.order {
		var guard *tablelog.Guard
		if g, ok := guards[log]; ok {
			guard = &g
		}
		for _, chunk := range tablelog.Split(s.logs[log].pending()) {
			_, rev, err := log.Commit(ctx, chunk, guard)
			if err != nil {
				return fmt.Errorf("committing the plan: %w", err)
			}
			s.committed[log] = rev
			if guard != nil {
				// What came before was checked with this chunk, and the chunk is our own.
				guard = &tablelog.Guard{Since: rev, Conflicts: guard.Conflicts}
			}
		}
	}
	s.order, s.logs = nil, map[*tablelog.Log]*held{}
	return nil
}
