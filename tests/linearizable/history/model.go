package history

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// space is the state of the model: a few objects that lists read together.
type space struct {
	// last is the revision of the last change, and read the newest revision at which the space was read.
	last, read uint64
	objects    [Keys]object
}

type object struct {
	rev, created uint64
	token        string
}

// slot is the place of a key in its space.
func slot(key string) int { return int(key[len(key)-1] - '0') }

func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return space{} },
		Step: func(state, input, _ any) (bool, any) {
			s, d := state.(space), input.(deed)
			if d.change != nil {
				return s.write(d)
			}
			if d.Verb == List {
				return s.list(d)
			}
			return s.objects[slot(d.Key)].told(d), s
		},
		Hash:              func(state any) uint64 { s := state.(space); return s.last<<32 ^ s.read },
		DescribeOperation: func(input, _ any) string { return input.(deed).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

// write makes the change of a deed: it must be the next of its space, at a revision that nobody has read past,
// and its preconditions must hold.
func (s space) write(d deed) (bool, space) {
	c, o := d.change, s.objects[slot(d.Key)]
	if d.after != s.last || c.Rev <= s.read {
		return false, s
	}
	ok := false
	switch d.Verb {
	case Create, Plan:
		ok = o.rev == 0
	case Update, Delete:
		ok = o.rev == d.Expect
	case DeleteUID:
		ok = o.rev != 0 && o.created == d.created
	case Patch:
		ok = o.rev != 0
	default:
	}
	if !ok {
		return false, s
	}
	s.last = c.Rev
	if c.Type == Deleted {
		s.objects[slot(d.Key)] = object{}
	} else {
		s.objects[slot(d.Key)] = object{rev: c.Rev, created: c.Created, token: c.Token}
	}
	return true, s
}

// list compares the objects of a list with the state. No later change may have its revision, or one before.
func (s space) list(d deed) (bool, space) {
	if d.Revision < s.last || len(d.Objects) != s.count() {
		return false, s
	}
	s.read = max(s.read, d.Revision)
	for key, seen := range d.Objects {
		if !s.objects[slot(key)].is(seen) {
			return false, s
		}
	}
	return true, s
}

func (o object) is(seen Seen) bool { return o.rev == seen.Rev && o.token == seen.Token }

// told reports whether what a deed that changed nothing was told of an object is so.
func (o object) told(d deed) bool {
	switch d.Outcome {
	case OK: // a get
		return o.is(d.Objects[d.Key])
	case NotFound:
		return o.rev == 0
	case Exists:
		return o.rev != 0
	case Conflict:
		return o.conflicts(d)
	default:
		return false
	}
}

// conflicts reports whether a precondition does not hold. That others were first says nothing of the object.
func (o object) conflicts(d deed) bool {
	switch d.Verb {
	case Update, Delete:
		return o.rev != d.Expect
	case DeleteUID:
		return o.rev == 0 || o.created != d.created
	default:
		return true
	}
}

func (s space) count() (n int) {
	for _, o := range s.objects {
		if o.rev != 0 {
			n++
		}
	}
	return n
}

// piece is the history of one space.
type piece struct {
	space string
	ops   []porcupine.Operation
}

// pieces cuts deeds into what is checked on its own.
func pieces(deeds []deed) []*piece {
	var out []*piece
	byName := map[string]*piece{}
	for _, d := range deeds {
		if d.Verb == ListAt {
			continue
		}
		p := byName[d.Space]
		if p == nil {
			p = &piece{space: d.Space}
			byName[d.Space] = p
			out = append(out, p)
		}
		op := porcupine.Operation{ClientId: d.Client, Input: d, Call: d.Invoked, Return: d.Returned}
		if d.Outcome == Unknown {
			op.Return = math.MaxInt64
		}
		p.ops = append(p.ops, op)
	}
	return out
}

// check returns why a piece is not linearizable. The picture is one for porcupine to draw.
func (p *piece) check(timeout time.Duration) (*Violation, porcupine.LinearizationInfo) {
	result, info := porcupine.CheckOperationsVerbose(model(), p.ops, timeout)
	switch result {
	case porcupine.Ok:
		return nil, info
	case porcupine.Unknown:
		v := violation("linearizable", "%s: not known after %s", p.space, timeout)
		return &v, info
	default:
		v := violation("linearizable", "%s: no order of its %d operations explains their answers", p.space, len(p.ops))
		return &v, info
	}
}
