package tablelog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
)

const treeDegree = 32

// Slots for decoded forms of an entry.
const (
	// SlotInternal holds the object as the API server's registries want it.
	SlotInternal = iota
	// SlotVersioned holds the object as listers, reconcilers and the core want it.
	SlotVersioned
	slots
)

// Entry is one object at one revision. It is immutable but for its decoded forms, which are made
// once, when first asked for, and shared; nobody may alter them.
type Entry struct {
	Key string
	// Rev is the revision of the change that made this entry, Created that of the object's creation.
	Rev, Created uint64
	// Expires is a Unix time in seconds, 0 for never.
	Expires int64
	// Owners are the UIDs of the object's owners.
	Owners []string
	// Value is the encoded object.
	Value []byte

	decoded [slots]atomic.Pointer[any]
}

// Decoded returns the form in a slot, made by decode if nobody asked before.
func (e *Entry) Decoded(slot int, decode func(*Entry) (any, error)) (any, error) {
	if p := e.decoded[slot].Load(); p != nil {
		return *p, nil
	}
	v, err := decode(e)
	if err != nil {
		return nil, err
	}
	if !e.decoded[slot].CompareAndSwap(nil, &v) {
		return *e.decoded[slot].Load(), nil
	}
	return v, nil
}

// ReplaceDecoded puts a form into a slot, whatever is there.
func (e *Entry) ReplaceDecoded(slot int, v any) { e.decoded[slot].Store(&v) }

// SetDecoded puts a form into a slot unless one is there.
func (e *Entry) SetDecoded(slot int, v any) {
	e.decoded[slot].CompareAndSwap(nil, &v)
}

// Expired reports whether the entry's time is over.
func (e *Entry) Expired(now time.Time) bool {
	return e.Expires != 0 && now.Unix() >= e.Expires
}

// Event is one change.
type Event struct {
	Rev  uint64
	Type Type
	Key  string
	// Entry after the change, nil for a deletion; Prev before it, nil for a creation.
	Entry, Prev *Entry
	// Cause of the change, nil if it was not noted.
	Cause *Cause
}

// State is every object of a log at one revision. It is immutable.
type State struct {
	// Rev is at least 1, so that an empty list has a revision.
	Rev uint64
	// written is when the newest change was, in Unix milliseconds.
	written int64
	// told is when this instance had heard of the newest change.
	told  Moment
	tree  *btree.BTreeG[*Entry]
	owned *btree.BTreeG[ownership]
	// expiring are the entries that will not last, soonest first.
	expiring *btree.BTreeG[*Entry]
	// size is what the entries take in memory, in bytes, as estimated.
	size int64
	// cloning guards the trees' marks of what they share, which a clone alters in both.
	cloning sync.Mutex
}

// ownership is one edge of the owner index.
type ownership struct{ owner, key string }

func newState() *State {
	return &State{
		Rev:  1,
		tree: btree.NewG(treeDegree, func(a, b *Entry) bool { return a.Key < b.Key }),
		owned: btree.NewG(treeDegree, func(a, b ownership) bool {
			if a.owner != b.owner {
				return a.owner < b.owner
			}
			return a.key < b.key
		}),
		expiring: btree.NewG(treeDegree, func(a, b *Entry) bool {
			if a.Expires != b.Expires {
				return a.Expires < b.Expires
			}
			return a.Key < b.Key
		}),
	}
}

// clone returns a state that can be altered while s is read.
func (s *State) clone() *State {
	s.cloning.Lock()
	defer s.cloning.Unlock()
	return &State{Rev: s.Rev, written: s.written, told: s.told, tree: s.tree.Clone(), owned: s.owned.Clone(), expiring: s.expiring.Clone(), size: s.size}
}

func (s *State) set(e *Entry) (prev *Entry) {
	prev, had := s.tree.ReplaceOrInsert(e)
	s.size += e.size()
	if had {
		s.disown(prev)
	}
	for _, o := range e.Owners {
		s.owned.ReplaceOrInsert(ownership{o, e.Key})
	}
	if e.Expires != 0 {
		s.expiring.ReplaceOrInsert(e)
	}
	return prev
}

func (s *State) remove(key string) (prev *Entry) {
	prev, had := s.tree.Delete(&Entry{Key: key})
	if had {
		s.disown(prev)
	}
	return prev
}

func (s *State) disown(e *Entry) {
	s.size -= e.size()
	for _, o := range e.Owners {
		s.owned.Delete(ownership{o, e.Key})
	}
	if e.Expires != 0 {
		s.expiring.Delete(e)
	}
}

// Get returns an entry, or nil.
func (s *State) Get(key string) *Entry {
	probe := probes.Get().(*Entry)
	probe.Key = key
	e, _ := s.tree.Get(probe)
	probe.Key = ""
	probes.Put(probe)
	return e
}

// probes are entries to look others up by, which would otherwise be made for every look.
var probes = sync.Pool{New: func() any { return &Entry{} }}

// Len returns the number of objects.
func (s *State) Len() int { return s.tree.Len() }

// Ascend calls yield for the entries whose key starts with prefix and is at least from, in order.
func (s *State) Ascend(prefix, from string, yield func(*Entry) bool) {
	s.tree.AscendRange(&Entry{Key: max(prefix, from)}, &Entry{Key: PrefixEnd(prefix)}, yield)
}

// OwnedBy returns the entries that name an owner, in the order of their keys.
func (s *State) OwnedBy(owner string) []*Entry {
	var out []*Entry
	s.owned.AscendRange(ownership{owner, ""}, ownership{owner + "\x00", ""}, func(o ownership) bool {
		if e := s.Get(o.key); e != nil {
			out = append(out, e)
		}
		return true
	})
	return out
}

// PrefixEnd is the first key after all that start with prefix.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return "\xff\xff\xff\xff"
}
