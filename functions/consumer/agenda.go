package consumer

import (
	"container/heap"
	"time"
)

// agenda is what is put off, by its subject and by its time: a cluster with thousands of nodes has a row for each node's
// next moment, and each batch asks whether anything is due.
type agenda struct {
	bySubject  map[string]*dueRow
	byFunction map[string]*timeline
}

func newAgenda() agenda {
	return agenda{bySubject: map[string]*dueRow{}, byFunction: map[string]*timeline{}}
}

func (a agenda) get(id string) *dueRow { return a.bySubject[id] }

// set puts a row in the place of what was put off for a subject; nil removes that.
func (a agenda) set(id string, d *dueRow) {
	if former := a.bySubject[id]; former != nil {
		heap.Remove(a.byFunction[former.Function], former.place)
		delete(a.bySubject, id)
	}
	if d == nil {
		return
	}
	t := a.byFunction[d.Function]
	if t == nil {
		t = &timeline{}
		a.byFunction[d.Function] = t
	}
	d.id = id
	a.bySubject[id] = d
	heap.Push(t, d)
}

// first is when the first thing is due for a function.
func (a agenda) first(function string) (at time.Time, found bool) {
	if t := a.byFunction[function]; t != nil && t.Len() > 0 {
		return (*t)[0].Later.At, true
	}
	return time.Time{}, false
}

// until calls do for what is due for a function at a time or before, in no order.
func (a agenda) until(function string, at time.Time, do func(*dueRow)) {
	if t := a.byFunction[function]; t != nil {
		t.until(0, at, do)
	}
}

// timeline is a heap of one function's rows, the earliest first.
type timeline []*dueRow

func (t timeline) Len() int           { return len(t) }
func (t timeline) Less(i, j int) bool { return t[i].Later.At.Before(t[j].Later.At) }

func (t timeline) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

func (t *timeline) Push(x any) {
	d := x.(*dueRow)
	d.place = len(*t)
	*t = append(*t, d)
}

func (t *timeline) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return last
}

// until looks below a row only if the row itself is due: nothing below is earlier.
func (t timeline) until(i int, at time.Time, do func(*dueRow)) {
	if i >= len(t) || t[i].Later.At.After(at) {
		return
	}
	do(t[i])
	t.until(2*i+1, at, do)
	t.until(2*i+2, at, do)
}
