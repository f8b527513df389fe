package outcomes

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// reasonLimit bounds what is kept of a failure's message (bytes): some print whole objects.
const reasonLimit = 2000

// errNotReported is a report without the test: the suite ended before it, or has no test of that name.
var errNotReported = errors.New("the suite's report does not have the test")

// testCase is one test of the report that the suite's --report-dir asks for (test/e2e/framework/internal/junit and ginkgo's
// reporters/junit_report.go).
type testCase struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"`
	Time    float64 `xml:"time,attr"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Failure *failure `xml:"failure"`
	Error   *failure `xml:"error"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// ReadReport finds a test in the suite's report, which names the other several thousand too. What the suite does before its
// first test counts for the test when it fails.
func ReadReport(report io.Reader, name string) (Outcome, error) {
	decoder := xml.NewDecoder(report)
	var found *Outcome
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Outcome{}, fmt.Errorf("reading the suite's report: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "testcase" {
			continue
		}
		var c testCase
		if err := decoder.DecodeElement(&c, &start); err != nil {
			return Outcome{}, fmt.Errorf("reading the suite's report: %w", err)
		}
		setup := strings.HasPrefix(c.Name, "[SynchronizedBeforeSuite]")
		if setup && c.state() != Passed || c.Name == "[It] "+name {
			outcome := Outcome{State: c.state(), Reason: c.reason(), Seconds: c.Time}
			if setup {
				return outcome, nil
			}
			found = &outcome
		}
	}
	if found == nil {
		return Outcome{}, errNotReported
	}
	return *found, nil
}

func (c testCase) state() State {
	switch c.Status {
	case "passed":
		return Passed
	case "skipped", "pending":
		return Skipped
	case "timedout", "interrupted":
		return TimedOut
	default:
		return Failed
	}
}

func (c testCase) reason() string {
	text := ""
	switch {
	case c.Failure != nil:
		text = c.Failure.Text
	case c.Error != nil:
		text = c.Error.Message + "\n" + c.Error.Text
	case c.Skipped != nil:
		text = strings.TrimPrefix(c.Skipped.Message, "skipped - ")
	}
	text = strings.TrimSpace(text)
	if len(text) > reasonLimit {
		text = strings.ToValidUTF8(text[:reasonLimit], "") + "..."
	}
	return text
}
