// Package events is the vocabulary of zeroplane's CloudEvents: one type per thing that can happen,
// one parser per type and version. An event is a doorbell: it says that something changed and where
// to look, never what the state now is (docs/decisions.md, D4).
package events

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// The types of events.
const (
	// ChangedType says that a log of a cluster has moved.
	ChangedType = "dev.zeroplane.log.changed.v1"
	// DueType says that something that was put off is due.
	DueType = "dev.zeroplane.due.v1"
	// TimerType is the timer's tick: look for what was left behind.
	TimerType = "dev.zeroplane.timer.v1"
)

// Extension attributes.
const (
	partitionKey = "partitionkey"
	sequence     = "sequence"
)

var (
	// ErrUnknownType is returned for an event of a type that this program does not know. Such an
	// event is counted and acknowledged.
	ErrUnknownType = errors.New("unknown event type")
	// ErrMalformed is returned for an event that is not what its type says.
	ErrMalformed = errors.New("malformed event")
)

// Changed is the event of ChangedType.
type Changed struct {
	// Cluster is the partition name of the cluster.
	Cluster string
	// Group is the log group that moved, Revision where it has got to.
	Group    string
	Revision uint64
	Time     time.Time
}

// Due is the event of DueType: a function asked to be called at a time.
type Due struct {
	Cluster  string
	Function string
	Time     time.Time
}

// Timer is the event of TimerType.
type Timer struct {
	Cluster string
	Time    time.Time
}

// Event returns the CloudEvent.
func (t Timer) Event() cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetType(TimerType)
	e.SetSource(sourceOf(t.Cluster))
	e.SetID(fmt.Sprintf("%s/timer/%d", t.Cluster, t.Time.UnixNano()))
	e.SetTime(t.Time)
	e.SetExtension(partitionKey, t.Cluster)
	return e
}

func sourceOf(cluster string) string { return "/clusters/" + cluster }

// Event returns the CloudEvent. Its id is the same for the same change, so that repetitions show.
func (c Changed) Event() cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetType(ChangedType)
	e.SetSource(sourceOf(c.Cluster))
	e.SetSubject(c.Group)
	e.SetID(fmt.Sprintf("%s/%s/%d", c.Cluster, c.Group, c.Revision))
	e.SetTime(c.Time)
	e.SetExtension(partitionKey, c.Cluster+"."+c.Group)
	e.SetExtension(sequence, fmt.Sprintf("%020d", c.Revision))
	return e
}

// Event returns the CloudEvent.
func (d Due) Event() cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetType(DueType)
	e.SetSource(sourceOf(d.Cluster))
	e.SetSubject(d.Function)
	e.SetID(fmt.Sprintf("%s/%s/%d", d.Cluster, d.Function, d.Time.UnixNano()))
	e.SetTime(d.Time)
	e.SetExtension(partitionKey, d.Cluster)
	return e
}

// ParseChanged reads an event of ChangedType.
func ParseChanged(e cloudevents.Event) (Changed, error) {
	if e.Type() != ChangedType {
		return Changed{}, fmt.Errorf("%w: %q", ErrUnknownType, e.Type())
	}
	cluster, err := clusterOf(e)
	if err != nil {
		return Changed{}, err
	}
	raw, _ := e.Extensions()[sequence].(string)
	rev, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || e.Subject() == "" {
		return Changed{}, fmt.Errorf("%w: %s needs a subject and a numeric %q, has %q and %q", ErrMalformed, e.Type(), sequence, e.Subject(), raw)
	}
	return Changed{Cluster: cluster, Group: e.Subject(), Revision: rev, Time: e.Time()}, nil
}

// ParseDue reads an event of DueType.
func ParseDue(e cloudevents.Event) (Due, error) {
	if e.Type() != DueType {
		return Due{}, fmt.Errorf("%w: %q", ErrUnknownType, e.Type())
	}
	cluster, err := clusterOf(e)
	if err != nil {
		return Due{}, err
	}
	if e.Subject() == "" {
		return Due{}, fmt.Errorf("%w: %s needs a subject", ErrMalformed, e.Type())
	}
	return Due{Cluster: cluster, Function: e.Subject(), Time: e.Time()}, nil
}

// ClusterOf returns the cluster that an event is of. It fails with ErrMalformed.
func ClusterOf(e cloudevents.Event) (string, error) { return clusterOf(e) }

func clusterOf(e cloudevents.Event) (string, error) {
	const prefix = "/clusters/"
	if s := e.Source(); len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], nil
	}
	return "", fmt.Errorf("%w: source %q does not name a cluster", ErrMalformed, e.Source())
}
