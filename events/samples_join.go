package events

import cloudevents "github.com/cloudevents/sdk-go/v2"

// Bounds of what JoinSamples makes one event of: less than MaxSamples and MaxBytes, however the values are written.
const (
	maxJoined      = 1000
	maxJoinedBytes = MaxBytes / 4
)

// JoinSamples makes one event of samples that follow each other in a list and are of one cluster and one trace: each
// event is stored by itself, and one of a batch may hold a single sample. Beside each event it returns how many it
// stands for. Other events, and what cannot be read, stay as they are.
func JoinSamples(list []cloudevents.Event) (joined []cloudevents.Event, stand []int) {
	for len(list) > 0 {
		s, n := leading(list)
		e := list[0]
		if n > 1 {
			e = s.Event()
			if of := TraceOf(list[0]); of != "" {
				e.SetExtension(traceparent, of)
			}
		}
		joined, stand, list = append(joined, e), append(stand, n), list[n:]
	}
	return joined, stand
}

// leading returns the samples of the first events of a list that can be one, and how many events those are, at least 1.
func leading(list []cloudevents.Event) (Samples, int) {
	s, err := ParseSamples(list[0])
	if err != nil {
		return s, 1
	}
	size := len(list[0].Data())
	for n, e := range list[1:] {
		next, err := ParseSamples(e)
		size += len(e.Data())
		if err != nil || next.Cluster != s.Cluster || TraceOf(e) != TraceOf(list[0]) || s.Count()+next.Count() > maxJoined || size > maxJoinedBytes {
			return s, n + 1
		}
		s.Nodes, s.Pods, s.External = append(s.Nodes, next.Nodes...), append(s.Pods, next.Pods...), append(s.External, next.External...)
	}
	return s, len(list)
}
