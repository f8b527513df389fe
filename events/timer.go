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
	// Instance that is at what there is to look for, and has others only see it; may be empty.
	Instance string
}

// Event returns the CloudEvent. Its id is the same for the same cluster, time and instance.
func (t Timer) Event() cloudevents.Event {
	id := fmt.Sprintf("%s/timer/%d", t.Cluster, t.Time.UnixNano())
	if t.Instance != "" {
		id += "/" + t.Instance
	}
	e := newEvent(TimerType, t.Cluster, id, t.Time)
	e.SetExtension(partitionKey, t.Cluster)
	if t.Instance != "" {
		e.SetExtension(instance, t.Instance)
	}
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
	t := Timer{Cluster: cluster, Time: at}
	if t.Instance, err = instanceOf(e); err != nil {
		return Timer{}, err
	}
	return t, nil
}
