package history

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// checkOrder looks at a log as a whole: what was written or read at a revision when an operation began is before
// whatever it writes, and not after what it reads.
func checkOrder(deeds []deed) (wrong []Violation) {
	type moment struct {
		at     int64
		begins bool
		d      *deed
	}
	var moments []moment
	for i := range deeds {
		d := &deeds[i]
		if revisionOf(d) == 0 {
			continue
		}
		moments = append(moments, moment{at: d.Invoked, begins: true, d: d})
		if d.Outcome == OK {
			moments = append(moments, moment{at: d.Returned, d: d})
		}
	}
	slices.SortFunc(moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	var newest uint64
	var by *deed
	for _, m := range moments {
		rev := revisionOf(m.d)
		if m.begins {
			if rev < newest || rev == newest && m.d.change != nil {
				wrong = append(wrong, violation("real time", "revision %d of %v was proven before it began by %v", newest, m.d, by))
			}
			continue
		}
		if rev > newest {
			newest, by = rev, m.d
		}
	}
	return wrong
}

// revisionOf is the revision of the log that a deed proves to have been reached.
func revisionOf(d *deed) uint64 {
	switch {
	case d.change != nil:
		return d.change.Rev
	case d.Verb == List && d.Outcome == OK:
		return d.Revision
	default:
		return 0
	}
}

// checkPast compares lists of the past with the log.
func checkPast(log *Log, ops []*Operation) (wrong []Violation) {
	for _, o := range ops {
		if o.Verb != ListAt {
			continue
		}
		switch {
		case o.Outcome == Gone && o.Since >= log.Floor:
			wrong = append(wrong, violation("list of the past", "%v; only what is before %d is gone", o, log.Floor))
		case o.Outcome == OK:
			want := log.StateAt(o.Space, o.Since)
			if o.Revision != o.Since || !maps.EqualFunc(want, o.Objects, func(a, b Seen) bool { return a.Rev == b.Rev && a.Token == b.Token }) {
				wrong = append(wrong, violation("list of the past", "%v; at %d there was %v", o, o.Since, want))
			}
		}
	}
	return wrong
}

// checkPlans looks whether what plans were decided on had moved.
func checkPlans(log *Log, deeds []deed) (wrong []Violation) {
	for _, d := range deeds {
		if d.Verb != Plan || d.change == nil {
			continue
		}
		for rev := d.Since + 1; rev < d.change.Rev; rev++ {
			if c := log.At(rev); c != nil && strings.HasPrefix(c.Key, d.Space) {
				wrong = append(wrong, violation("plan", "%v was decided on revision %d, %s changed at %d", d.Operation, d.Since, c.Key, rev))
				break
			}
		}
	}
	return wrong
}
