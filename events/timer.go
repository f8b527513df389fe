package events

import (
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// TimerType is the timer's tick: look for what was left behind.
const TimerType = "dev.zeroplane.timer.v1"

// Timer is the event of TimerType.
type Timer struct {
	Cluster string
	Time    time.Time
}

// Event returns the CloudEvent. Its id is the same for the same cluster and time.
func (t Timer) Event() cloudevents.Event {
	e := newEvent(TimerType, t.Cluster, fmt.Sprintf("%s/timer/%d", t.Cluster, t.Time.UnixNano()), t.Time)
	e.SetExtension(partitionKey, t.Cluster)
	return e
}

// ParseTimer reads an event of TimerType. It returns ErrUnknownType or ErrMalformed.
func ParseTimer(e cloudevents.Event) (Timer, error) {
	cluster, err := clusterOf(e, TimerType)
	if err != nil {
		return Timer{}, err
	}
	at, err := timeOf(e)
	if err != nil {
		return Timer{}, err
	}
	if err := checkPartitionKey(e, cluster); err != nil {
		return Timer{}, err
	}
	return Timer{Cluster: cluster, Time: at}, nil
}
