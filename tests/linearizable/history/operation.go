package history

import (
	"fmt"
	"regexp"
	"sync"
	"time"
)

// Verb is what an operation asks for.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Get    Verb = "get"
	// Update names the revision that it was decided on in Expect.
	Update Verb = "update"
	// Patch does not: the server applies it to what is there.
	Patch Verb = "patch"
	// Delete has the revision Expect as its precondition, DeleteUID the UID of the object that was at that revision.
	Delete    Verb = "delete"
	DeleteUID Verb = "deleteUID"
	// List reads a space at the newest revision, ListAt exactly at revision Since.
	List   Verb = "list"
	ListAt Verb = "listAt"
	// Plan creates an object unless its space changed after revision Since.
	Plan Verb = "plan"
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes.
const (
	OK       Outcome = "ok"
	NotFound Outcome = "not found"
	Exists   Outcome = "exists"
	// Conflict is a precondition that does not hold, or a server that gave up after others were first: nothing was done.
	Conflict Outcome = "conflict"
	// Gone is a revision of the past that is said to be compacted.
	Gone Outcome = "gone"
	// Unknown is an operation that may have been carried out, or may be later.
	Unknown Outcome = "unknown"
	// Unsent is an operation that reached nobody; it is not part of the history.
	Unsent Outcome = "unsent"
)

// Keys is the number of objects of a space: they are named k0, k1, ...
const Keys = 4

// Seen is an object as a client saw it.
type Seen struct {
	Rev   uint64 `json:"rev"`
	Token string `json:"token"`
	UID   string `json:"uid,omitempty"`
}

// Operation is one request and its answer. Times are in nanoseconds since the history began.
type Operation struct {
	Client   int  `json:"client"`
	Instance int  `json:"instance"`
	Verb     Verb `json:"verb"`
	// Log is the index of the log, Space the first part of the keys that are checked together, Key the object's.
	Log   int    `json:"log"`
	Space string `json:"space"`
	Key   string `json:"key,omitempty"`
	// Token is what a write puts into the object; no two operations have one.
	Token  string `json:"token,omitempty"`
	Expect uint64 `json:"expect,omitempty"`
	UID    string `json:"uid,omitempty"`
	Since  uint64 `json:"since,omitempty"`
	// Limit on the pages of a list, 0 for none.
	Limit int `json:"limit,omitempty"`

	Invoked  int64   `json:"invoked"`
	Returned int64   `json:"returned"`
	Outcome  Outcome `json:"outcome"`
	// Error is what was said beside an outcome other than OK.
	Error string `json:"error,omitempty"`
	// Revision of the object written, or of the list.
	Revision uint64 `json:"revision,omitempty"`
	// Objects read or written, by key.
	Objects map[string]Seen `json:"objects,omitempty"`
}

// Fail notes the outcome of an operation that did not succeed.
func (o *Operation) Fail(outcome Outcome, err error) {
	o.Outcome, o.Error = outcome, err.Error()
}

// writes reports whether an operation that succeeds makes a change.
func (o *Operation) writes() bool {
	switch o.Verb {
	case Get, List, ListAt:
		return false
	default:
		return true
	}
}

// String describes an operation for a reader of a violation.
func (o *Operation) String() string {
	what := o.Key
	if what == "" {
		what = o.Space + "*"
	}
	s := fmt.Sprintf("client %d at instance %d: %s %s", o.Client, o.Instance, o.Verb, what)
	if o.Token != "" {
		s += " " + o.Token
	}
	if o.Expect != 0 {
		s += fmt.Sprintf(" expecting %d", o.Expect)
	}
	s += fmt.Sprintf(" -> %s", o.Outcome)
	if o.Revision != 0 {
		s += fmt.Sprintf(" at %d", o.Revision)
	}
	if o.Outcome == OK && !o.writes() {
		s += fmt.Sprintf(" %v", o.Objects)
	}
	return s
}

// Colours are the labels that watches select by.
var Colours = [2]string{"red", "blu"}

var token = regexp.MustCompile(`op-[0-9]{9}-(?:red|blu)`)

// Token returns what the n-th write puts into its object.
func Token(n int64) string { return fmt.Sprintf("op-%09d-%s", n, Colours[n%2]) }

// ColourOf is the label of the object that holds a token.
func ColourOf(t string) string {
	if len(t) < 3 {
		return ""
	}
	return t[len(t)-3:]
}

// Recorder collects operations as clients carry them out.
type Recorder struct {
	start time.Time
	mu    sync.Mutex
	all   []*Operation
}

// NewRecorder begins a history.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Now is the time since the history began.
func (r *Recorder) Now() int64 { return int64(time.Since(r.start)) }

// Add adds an operation that has returned, or never will.
func (r *Recorder) Add(o *Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, o)
}

// Operations returns what was added so far.
func (r *Recorder) Operations() []*Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Operation(nil), r.all...)
}
