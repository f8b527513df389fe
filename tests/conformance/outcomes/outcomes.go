// Package outcomes is how tests of a suite ended on two control planes, and what is to be made of the difference.
//
//	outcomes.go  one test's end
//	junit.go     reading it from the suite's report
//	kept.go      the file that keeps what was run
//	compare.go   the difference
//	explained.go what is known to fail, and why
package outcomes

// State is how a test ended.
type State string

// The states. Anything but Passed is no pass; the rest say why.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	Skipped State = "skipped"
	// TimedOut is a test that was ended because its time was over: as a rule one that waits for a real container.
	TimedOut State = "timed out"
)

// Outcome is how one test ended on one control plane.
type Outcome struct {
	State State `json:"state"`
	// Reason is the failure's message, of a skipped test what it lacks.
	Reason string `json:"reason,omitempty"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
	// Limit is how many seconds it had.
	Limit float64 `json:"limit,omitempty"`
	// Attempts is how often it was run until it passed, or was given up.
	Attempts int `json:"attempts,omitempty"`
	// Build says what it was run on: the binary of the control plane, the suite and what simulates nodes, as one hash.
	Build string `json:"build"`
}
