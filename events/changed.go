package events

import (
	"fmt"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// ChangedType says that a log of a cluster has moved.
const ChangedType = "dev.zeroplane.log.changed.v1"

// sequenceDigits are enough for any revision, so that sequences sort as text.
const sequenceDigits = 20

// Changed is the event of ChangedType. Workloads, nodes, pods and all other kinds change in the log of
// their group, so one type serves them all and the subject says which.
type Changed struct {
	// Cluster is the partition name of the cluster.
	Cluster string
	// Group is the log group that moved, Revision where it has got to.
	Group    string
	Revision uint64
	// Time may be zero.
	Time time.Time
	// Trace is the W3C trace context of the change (traceparent), empty if unknown.
	Trace string
	// Instance that committed, and whose functions are at work; may be empty.
	Instance string
}

// Event returns the CloudEvent. Its id is the same for the same change, so that repetitions show.
func (c Changed) Event() cloudevents.Event {
	e := newEvent(ChangedType, c.Cluster, fmt.Sprintf("%s/%s/%d", c.Cluster, c.Group, c.Revision), c.Time)
	e.SetSubject(c.Group)
	e.SetExtension(partitionKey, c.Cluster+"."+c.Group)
	e.SetExtension(sequence, padded(c.Revision))
	if c.Trace != "" {
		e.SetExtension(traceparent, c.Trace)
	}
	if c.Instance != "" {
		e.SetExtension(instance, c.Instance)
	}
	return e
}

// ParseChanged reads an event of ChangedType. It returns ErrUnknownType or ErrMalformed.
func ParseChanged(e cloudevents.Event) (Changed, error) {
	cluster, err := clusterOf(e, ChangedType)
	if err != nil {
		return Changed{}, err
	}
	group, err := subjectOf(e, "log group")
	if err != nil {
		return Changed{}, err
	}
	revision, err := sequenceOf(e)
	if err != nil {
		return Changed{}, err
	}
	if err := checkPartitionKey(e, cluster+"."+group); err != nil {
		return Changed{}, err
	}
	c := Changed{Cluster: cluster, Group: group, Revision: revision, Trace: TraceOf(e)}
	if c.Instance, err = instanceOf(e); err != nil {
		return Changed{}, err
	}
	if !e.Time().IsZero() {
		if c.Time, err = timeOf(e); err != nil {
			return Changed{}, err
		}
	}
	return c, nil
}

func padded(n uint64) string { return fmt.Sprintf("%0*d", sequenceDigits, n) }

func sequenceOf(e cloudevents.Event) (uint64, error) {
	raw, _ := e.Extensions()[sequence].(string)
	n, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || len(raw) != sequenceDigits {
		return 0, &FieldError{sequence, fmt.Sprintf("%.80q is not a number of %d digits", raw, sequenceDigits)}
	}
	return n, nil
}
