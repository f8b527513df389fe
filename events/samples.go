package events

import (
	"encoding/json"
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// SamplesType carries metric samples. Unlike the other types it is data.
const SamplesType = "dev.zeroplane.metrics.samples.v1"

// Bounds of an event of SamplesType. A larger report is sent as several events.
const (
	// MaxSamples is how many nodes, containers and external metrics there may be together. So many
	// fit in MaxBytes with names of common length.
	MaxSamples = 5000
	// MaxWindowSeconds is the longest time that a sample may cover: a day.
	MaxWindowSeconds = 24 * 60 * 60
)

// Samples is the event of SamplesType: what a reporter measured, of one thing or of many.
type Samples struct {
	// Cluster is the partition name of the cluster.
	Cluster string
	// Reporter is the node whose agent measured, or the name of another reporter.
	Reporter string
	// Sequence counts the reporter's events from 1; 0 if the reporter does not count.
	Sequence uint64
	// Time is when the report was made.
	Time time.Time

	Nodes    []NodeSample
	Pods     []PodSample
	External []ExternalSample
}

// Window is the time that a sample covers.
type Window struct {
	// End is when the window ended, Seconds how long it was.
	End     time.Time
	Seconds int64
}

// Usage is what was used in a window, as in metrics.k8s.io: CPU in cores, averaged over the window, exact to
// nanocores; Memory in bytes, the working set at its end. See staging/src/k8s.io/metrics/pkg/apis/metrics/v1beta1/types.go.
type Usage struct {
	CPU    resource.Quantity
	Memory resource.Quantity
}

// NodeSample is what a node used.
type NodeSample struct {
	Name string
	Window
	Usage
}

// PodSample is what the containers of a pod used.
type PodSample struct {
	Namespace string
	Name      string
	Window
	Containers []ContainerSample
}

// ContainerSample is what a container used.
type ContainerSample struct {
	Name string
	Usage
}

// ExternalSample is a value of a metric from outside the cluster, as in external.metrics.k8s.io. See
// staging/src/k8s.io/metrics/pkg/apis/external_metrics/v1beta1/types.go.
type ExternalSample struct {
	// Namespace is the one whose autoscalers may use the metric; all may if it is empty.
	Namespace string
	Name      string
	Labels    map[string]string
	// Window has 0 seconds when the value is of an instant.
	Window
	Value resource.Quantity
}

// Count returns how many samples there are: nodes, containers and external metrics.
func (s Samples) Count() int {
	n := len(s.Nodes) + len(s.External)
	for _, p := range s.Pods {
		n += len(p.Containers)
	}
	return n
}

// Event returns the CloudEvent. Its id is the same for the same reporter and sequence, or time if the
// reporter does not count.
func (s Samples) Event() cloudevents.Event {
	id := fmt.Sprintf("%s/samples/%s/t%d", s.Cluster, s.Reporter, s.Time.UnixNano())
	if s.Sequence > 0 {
		id = fmt.Sprintf("%s/samples/%s/%d", s.Cluster, s.Reporter, s.Sequence)
	}
	e := newEvent(SamplesType, s.Cluster, id, s.Time)
	e.SetSubject(s.Reporter)
	e.SetExtension(partitionKey, s.Cluster+"."+s.Reporter)
	if s.Sequence > 0 {
		e.SetExtension(sequence, padded(s.Sequence))
	}
	if err := e.SetData(cloudevents.ApplicationJSON, s.data()); err != nil {
		panic(err) // strings and whole numbers always encode
	}
	return e
}

// ParseSamples reads an event of SamplesType. It returns ErrUnknownType or ErrMalformed.
func ParseSamples(e cloudevents.Event) (Samples, error) {
	cluster, err := clusterOf(e, SamplesType)
	if err != nil {
		return Samples{}, err
	}
	reporter, err := subjectOf(e, "reporter")
	if err != nil {
		return Samples{}, err
	}
	at, err := timeOf(e)
	if err != nil {
		return Samples{}, err
	}
	s := Samples{Cluster: cluster, Reporter: reporter, Time: at}
	if _, ok := e.Extensions()[sequence]; ok {
		if s.Sequence, err = sequenceOf(e); err != nil {
			return Samples{}, err
		}
		if s.Sequence == 0 {
			return Samples{}, &FieldError{sequence, "counts from 1"}
		}
	}
	if err := checkPartitionKey(e, cluster+"."+reporter); err != nil {
		return Samples{}, err
	}
	if e.DataMediaType() != cloudevents.ApplicationJSON {
		return Samples{}, &FieldError{"datacontenttype", fmt.Sprintf("is %.80q, want %.80q", e.DataMediaType(), cloudevents.ApplicationJSON)}
	}
	var data samplesData
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return Samples{}, &FieldError{"data", err.Error()}
	}
	if err := data.read(&s); err != nil {
		return Samples{}, err
	}
	return s, nil
}
