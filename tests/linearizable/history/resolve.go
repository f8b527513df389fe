package history

import (
	"cmp"
	"slices"
	"strings"
)

// deed is what an operation did, as the log tells it.
type deed struct {
	*Operation
	// change that it made, nil for none.
	change *Change
	// after is the revision of the space's change before.
	after uint64
	// created is the revision of the creation of the object that Expect was read of.
	created uint64
}

// resolver finds the change that each operation made.
type resolver struct {
	log *Log
	// tokens and deletions are the changes of the spaces under test, by token and by key and previous revision.
	tokens    map[string]*Change
	deletions map[uint64]*Change
	claimed   map[uint64]*Operation
	wrong     []Violation
}

// resolve returns the operations of one log that did something or were answered. Spaces are the prefixes that
// nobody else writes to.
func resolve(log *Log, spaces map[string]bool, ops []*Operation) ([]deed, []Violation) {
	r := &resolver{log: log, tokens: map[string]*Change{}, deletions: map[uint64]*Change{}, claimed: map[uint64]*Operation{}}
	before := map[string]uint64{}
	after := map[uint64]uint64{}
	for i := range log.Changes {
		c := &log.Changes[i]
		space := spaceOf(c.Key)
		if !spaces[space] {
			continue
		}
		after[c.Rev], before[space] = before[space], c.Rev
		if c.Type == Deleted {
			r.deletions[c.Prev] = c
			continue
		}
		if twice := r.tokens[c.Token]; twice != nil {
			r.report("applied twice", "%s of %s is in the log at %d and at %d", c.Token, c.Key, twice.Rev, c.Rev)
		}
		r.tokens[c.Token] = c
	}
	// Of those who may have made a deletion the one who was answered comes first, then whoever could have been first.
	ops = slices.Clone(ops)
	slices.SortStableFunc(ops, func(a, b *Operation) int {
		if a.Outcome == OK != (b.Outcome == OK) {
			if a.Outcome == OK {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Invoked, b.Invoked)
	})
	var deeds []deed
	for _, o := range ops {
		if d, counts := r.deed(o); counts {
			if d.change != nil {
				d.after = after[d.change.Rev]
			}
			deeds = append(deeds, d)
		}
	}
	for i := range log.Changes {
		if c := &log.Changes[i]; spaces[spaceOf(c.Key)] && r.claimed[c.Rev] == nil {
			r.report("nobody's change", "revision %d of %s (%s)", c.Rev, c.Key, c.Token)
		}
	}
	return deeds, r.wrong
}

// spaceOf is the part of a key before the object's own name.
func spaceOf(key string) string { return key[:strings.LastIndexByte(key, '-')+1] }

func (r *resolver) report(rule, format string, args ...any) {
	r.wrong = append(r.wrong, violation(rule, format, args...))
}

// deed returns what an operation did, and whether it says anything of the order of things.
func (r *resolver) deed(o *Operation) (deed, bool) {
	d := deed{Operation: o}
	if seen := r.log.At(o.Expect); seen != nil {
		d.created = seen.Created
	}
	if !o.writes() {
		return d, o.Outcome == OK || o.Outcome == NotFound
	}
	c := r.changeOf(d)
	if o.Outcome != OK && o.Outcome != Unknown {
		if c != nil && o.Token != "" {
			r.report("refused and done", "%v; the log has it at %d", o, c.Rev)
		}
		return d, true
	}
	if !r.claim(o, c) {
		return d, false
	}
	d.change = c
	return d, true
}

// claim notes that an operation made a change, nil for none that is known. It returns false when it did not.
func (r *resolver) claim(o *Operation, c *Change) bool {
	var other *Operation
	if c != nil {
		other = r.claimed[c.Rev]
	}
	switch {
	case o.Outcome == OK && c == nil:
		r.report("lost write", "%v; the log does not have it", o)
	case c == nil: // it was not carried out
	case o.Outcome == OK && o.Revision != 0 && o.Revision != c.Rev, c.Key != o.Key:
		r.report("lost write", "%v; the log has %s at %d", o, c.Key, c.Rev)
	case o.Outcome == OK && other != nil:
		r.report("one change, two successes", "revision %d: %v; and %v", c.Rev, other, o)
	case other == nil:
		r.claimed[c.Rev] = o
		return true
	}
	return false
}

// changeOf returns the change that an operation made or may have made.
func (r *resolver) changeOf(d deed) *Change {
	switch d.Verb {
	case Delete:
		return r.deletions[d.Expect]
	case DeleteUID:
		for c := r.log.At(d.Expect); c != nil; c = r.next(c) {
			if c.Type == Deleted {
				return c
			}
		}
		return nil
	default:
		return r.tokens[d.Token]
	}
}

// next returns the change of an object after another, nil if it is the last.
func (r *resolver) next(c *Change) *Change {
	for rev := c.Rev + 1; ; rev++ {
		n := r.log.At(rev)
		if n == nil || n.Key == c.Key {
			return n
		}
	}
}
