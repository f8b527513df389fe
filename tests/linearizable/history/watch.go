package history

import (
	"fmt"
	"maps"
	"sort"
	"strings"
	"sync"
)

// Request is what a watch asks for.
type Request struct {
	// Log is the index of the log, Prefix the first part of the keys, Colour the label selected by, empty for all.
	Log    int    `json:"log"`
	Prefix string `json:"prefix"`
	Colour string `json:"colour,omitempty"`
	// From is the revision that the client has seen. With Initial the state is sent first.
	From      uint64 `json:"from"`
	Initial   bool   `json:"initial,omitempty"`
	Bookmarks bool   `json:"bookmarks,omitempty"`
}

// The types of what a watch delivers.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Removed  = "DELETED"
	Bookmark = "BOOKMARK"
)

// Delivery is one event of a watch.
type Delivery struct {
	Type  string `json:"type"`
	Rev   uint64 `json:"rev"`
	Key   string `json:"key,omitempty"`
	Token string `json:"token,omitempty"`
	// InitialEnd is set on the bookmark after the initial state.
	InitialEnd bool `json:"initialEnd,omitempty"`
	// At is when it was received, in nanoseconds since the history began.
	At int64 `json:"at"`
}

// Segment is one connection of a watch.
type Segment struct {
	Request
	Instance int `json:"instance"`
	// Opened is when it was asked for.
	Opened     int64      `json:"opened"`
	Deliveries []Delivery `json:"deliveries"`
	// Gone is set when the watch ended with 410.
	Gone bool `json:"gone,omitempty"`
	// Error is what else the watch said at its end.
	Error string `json:"error,omitempty"`
}

// Watch is one reader's sequence of connections, each from what the one before had come to.
type Watch struct {
	Name string
	mu   sync.Mutex
	// Segments in order.
	Segments []*Segment
	// whole is set when the watch began and still goes on: it must have come to the end of the log.
	whole bool
	reach uint64
}

// Begin adds a connection.
func (w *Watch) Begin(r Request, instance int, now int64) *Segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &Segment{Request: r, Instance: instance, Opened: now}
	w.Segments = append(w.Segments, s)
	w.whole = !r.Initial
	if w.whole {
		w.reach = r.From
	}
	return s
}

// Add adds what a connection delivered.
func (w *Watch) Add(s *Segment, d Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Deliveries = append(s.Deliveries, d)
	if w.whole = w.whole || d.InitialEnd; w.whole {
		w.reach = max(w.reach, d.Rev)
	}
}

// End notes how a connection ended.
func (w *Watch) End(s *Segment, gone bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Gone = gone
	if gone {
		w.whole = false
	}
	if err != nil {
		s.Error = err.Error()
	}
}

// Reach is the revision up to which a watch got everything, and whether it has begun.
func (w *Watch) Reach() (uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reach, w.whole
}

// Lacks reports whether a watch has not got what the log holds for it, or never began.
func (w *Watch) Lacks(log *Log) bool {
	reach, whole := w.Reach()
	if !whole {
		return true
	}
	w.mu.Lock()
	r := w.Segments[len(w.Segments)-1].Request
	w.mu.Unlock()
	return next(log, r, reach) != nil
}

// expected returns what a change is to a watch, nil if nothing.
func expected(log *Log, r Request, c *Change) *Delivery {
	if !strings.HasPrefix(c.Key, r.Prefix) {
		return nil
	}
	before := ""
	if p := log.At(c.Prev); p != nil {
		before = p.Token
	}
	matches := func(t string) bool { return r.Colour == "" || ColourOf(t) == r.Colour }
	is, was := c.Type != Deleted && matches(c.Token), c.Prev != 0 && matches(before)
	switch {
	case is && was:
		return &Delivery{Type: Modified, Rev: c.Rev, Key: c.Key, Token: c.Token}
	case is:
		return &Delivery{Type: Added, Rev: c.Rev, Key: c.Key, Token: c.Token}
	case was:
		return &Delivery{Type: Removed, Rev: c.Rev, Key: c.Key, Token: before}
	default:
		return nil
	}
}

// next returns the first event that a watch must get after a revision, nil if there is none.
func next(log *Log, r Request, after uint64) *Delivery {
	from := sort.Search(len(log.Changes), func(i int) bool { return log.Changes[i].Rev > after })
	for i := from; i < len(log.Changes); i++ {
		if d := expected(log, r, &log.Changes[i]); d != nil {
			return d
		}
	}
	return nil
}

// checker follows one watch through its connections.
type checker struct {
	log  *Log
	name string
	// cursor is the revision up to which everything was delivered.
	cursor uint64
	// initial is the state that is being sent, nil when it was, or none was asked for.
	initial map[string]Seen
	events  int
	// bookmarks and initials that were right.
	bookmarks, initials int
	wrong               []Violation
}

func (c *checker) report(rule string, s *Segment, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.wrong = append(c.wrong, violation("watch "+rule, "%s at instance %d (%+v): %s", c.name, s.Instance, s.Request, text))
}

// checkWatch follows a watch. With settled it must have got everything, if it goes on.
func checkWatch(log *Log, w *Watch, settled bool) *checker {
	c := &checker{log: log, name: w.Name}
	for _, s := range w.Segments {
		c.segment(s)
	}
	if settled && len(w.Segments) > 0 {
		last := w.Segments[len(w.Segments)-1]
		switch lost := next(log, last.Request, c.cursor); {
		case !w.whole:
			c.report("reliable", last, "it never began")
		case lost != nil:
			c.report("reliable", last, "after revision %d nothing came, %+v should have", c.cursor, *lost)
		}
	}
	return c
}

func (c *checker) segment(s *Segment) {
	if !s.Initial {
		c.cursor, c.initial = s.From, nil
	} else {
		c.initial = map[string]Seen{}
	}
	for _, d := range s.Deliveries {
		if len(c.wrong) > 0 {
			return // what follows a first fault follows from it
		}
		switch {
		case d.Type == Bookmark:
			c.bookmark(s, d)
		case c.initial != nil:
			if d.Type != Added {
				c.report("initial", s, "%+v before the end of the initial state", d)
			}
			c.initial[d.Key] = Seen{Rev: d.Rev, Token: d.Token}
		default:
			c.event(s, d)
		}
	}
	if s.Gone && max(c.cursor, s.From) >= c.log.Floor {
		c.report("resumable", s, "410 after revision %d, though everything from %d on is kept", c.cursor, c.log.Floor)
	}
	if s.Error != "" {
		c.report("error", s, "%s", s.Error)
	}
}

func (c *checker) bookmark(s *Segment, d Delivery) {
	if d.InitialEnd {
		c.initialEnd(s, d)
		return
	}
	if c.initial != nil {
		c.report("bookmarkable", s, "a bookmark at %d before the end of the initial state", d.Rev)
		return
	}
	if d.Rev < c.cursor {
		c.report("bookmarkable", s, "a bookmark at %d after revision %d", d.Rev, c.cursor)
	}
	if d.Rev > c.log.Head() {
		c.report("bookmarkable", s, "a bookmark at %d, the log ends at %d", d.Rev, c.log.Head())
	}
	if missed := next(c.log, s.Request, c.cursor); missed != nil && missed.Rev <= d.Rev {
		c.report("bookmarkable", s, "a bookmark at %d before %+v", d.Rev, *missed)
	}
	c.cursor = d.Rev
	c.bookmarks++
}

func (c *checker) initialEnd(s *Segment, d Delivery) {
	if c.initial == nil {
		c.report("initial", s, "it ended twice")
		return
	}
	want := c.log.StateAt(s.Prefix, d.Rev)
	for key, o := range want {
		if s.Colour != "" && ColourOf(o.Token) != s.Colour {
			delete(want, key)
		}
	}
	if !maps.Equal(want, c.initial) {
		c.report("initial", s, "the state at %d was sent as %v, and was %v", d.Rev, c.initial, want)
	}
	c.events += len(c.initial)
	c.initials++
	c.initial, c.cursor = nil, d.Rev
}

func (c *checker) event(s *Segment, d Delivery) {
	at := d.At
	d.At = 0
	if d.Rev <= c.cursor {
		c.report("ordered", s, "%+v at %d after revision %d", d, at, c.cursor)
		return
	}
	switch want := next(c.log, s.Request, c.cursor); {
	case want == nil:
		c.report("unique", s, "%+v after revision %d, the log has nothing more", d, c.cursor)
	case want.Rev != d.Rev:
		c.report("reliable", s, "after revision %d came %+v, want %+v", c.cursor, d, *want)
	case *want != d:
		c.report("atomic", s, "%+v, want %+v", d, *want)
	}
	c.events++
	c.cursor = d.Rev
}
