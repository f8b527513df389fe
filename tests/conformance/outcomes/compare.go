package outcomes

// Counts are the tests of one control plane by how they ended.
type Counts struct {
	Passed   int `json:"passed"`
	Failed   int `json:"failed"`
	TimedOut int `json:"timedOut"`
	Skipped  int `json:"skipped"`
	NotRun   int `json:"notRun"`
	// OtherBuild are those of the above whose outcome is of another build than the present one.
	OtherBuild int `json:"otherBuild"`
}

// Difference is a test that passed on one side alone.
type Difference struct {
	Test string `json:"test"`
	// State and Reason are those of the side on which it did not pass.
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Explained is why it is known not to pass, empty when it is not.
	Explained string `json:"explained,omitempty"`
}

// Comparison is what two control planes make of the same tests.
type Comparison struct {
	Tests     int    `json:"tests"`
	Upstream  Counts `json:"upstream"`
	Zeroplane Counts `json:"zeroplane"`
	Both      int    `json:"passedOnBoth"`
	// HereOnly failed here and passed upstream, UpstreamOnly the other way round.
	HereOnly     []Difference `json:"failedHereOnly"`
	UpstreamOnly []Difference `json:"failedUpstreamOnly"`
	// Missing passed upstream and were not run here.
	Missing []string `json:"passedUpstreamNotRunHere"`
	// Again passed here, but not at the first attempt.
	Again []string `json:"passedAtSecondAttempt"`
	// Stale are explained and pass here.
	Stale []string `json:"explainedButPassing"`
}

// Side is a control plane's outcomes and its present build.
type Side struct {
	Kept  *Kept
	Build string
}

func (s Side) count(name string, c *Counts) (Outcome, bool) {
	o, ok := s.Kept.Get(name)
	if !ok {
		c.NotRun++
		return o, false
	}
	switch o.State {
	case Passed:
		c.Passed++
	case Failed:
		c.Failed++
	case Skipped:
		c.Skipped++
	case TimedOut:
		c.TimedOut++
	}
	if o.Build != s.Build {
		c.OtherBuild++
	}
	return o, true
}

// Compare compares the outcomes of the named tests, in their order.
func Compare(tests []string, upstream, zeroplane Side, explained map[string]string) Comparison {
	c := Comparison{Tests: len(tests)}
	for _, name := range tests {
		there, ran := upstream.count(name, &c.Upstream)
		here, ranHere := zeroplane.count(name, &c.Zeroplane)
		passedThere, passedHere := ran && there.State == Passed, ranHere && here.State == Passed
		switch {
		case passedThere && passedHere:
			c.Both++
		case passedThere && ranHere:
			c.HereOnly = append(c.HereOnly, Difference{Test: name, State: here.State, Reason: here.Reason, Explained: explained[name]})
		case passedThere:
			c.Missing = append(c.Missing, name)
		case passedHere && ran:
			c.UpstreamOnly = append(c.UpstreamOnly, Difference{Test: name, State: there.State, Reason: there.Reason})
		}
		if passedHere {
			if here.Attempts > 1 {
				c.Again = append(c.Again, name)
			}
			if explained[name] != "" {
				c.Stale = append(c.Stale, name)
			}
		}
	}
	return c
}

// Unexplained are those that failed here only and are not explained.
func (c Comparison) Unexplained() []Difference {
	var unexplained []Difference
	for _, d := range c.HereOnly {
		if d.Explained == "" {
			unexplained = append(unexplained, d)
		}
	}
	return unexplained
}

// OK says that nothing failed here only without being explained, and that nothing explained passes.
func (c Comparison) OK() bool { return len(c.Unexplained()) == 0 && len(c.Stale) == 0 }
