package events

import (
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// DueType says that something that was put off is due.
const DueType = "dev.zeroplane.due.v1"

// Due is the event of DueType, "later": a function asked to be called at a time. What it put off is a
// row of the cluster; this is its bell.
type Due struct {
	Cluster  string
	Function string
	Time     time.Time
}

// Event returns the CloudEvent. Its id is the same for the same function and time.
func (d Due) Event() cloudevents.Event {
	e := newEvent(DueType, d.Cluster, fmt.Sprintf("%s/%s/%d", d.Cluster, d.Function, d.Time.UnixNano()), d.Time)
	e.SetSubject(d.Function)
	e.SetExtension(partitionKey, d.Cluster)
	return e
}

// ParseDue reads an event of DueType. It returns ErrUnknownType or ErrMalformed.
func ParseDue(e cloudevents.Event) (Due, error) {
	cluster, err := clusterOf(e, DueType)
	if err != nil {
		return Due{}, err
	}
	function, err := subjectOf(e, "function")
	if err != nil {
		return Due{}, err
	}
	at, err := timeOf(e)
	if err != nil {
		return Due{}, err
	}
	if err := checkPartitionKey(e, cluster); err != nil {
		return Due{}, err
	}
	return Due{Cluster: cluster, Function: function, Time: at}, nil
}
