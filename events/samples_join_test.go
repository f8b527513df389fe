package events

import (
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestSamplesThatComeTogetherAreOneEvent(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	sample := func(cluster, of string) cloudevents.Event {
		e := Samples{Cluster: cluster, Reporter: "r", Time: now, External: []ExternalSample{
			{Name: "queue", Labels: map[string]string{"of": of}, Window: Window{End: now}, Value: resource.MustParse("1")},
		}}.Event()
		return e
	}
	traced := sample("a", "traced")
	traced.SetExtension(traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	var many []cloudevents.Event
	for range maxJoined + 1 {
		many = append(many, sample("a", "x"))
	}
	bell := Timer{Cluster: "a", Time: now}.Event()
	broken := sample("a", "x")
	broken.SetSubject("")
	for name, tt := range map[string]struct {
		list []cloudevents.Event
		want []int
	}{
		"none":                          {},
		"one":                           {many[:1], []int{1}},
		"several":                       {many[:3], []int{3}},
		"more than one event may hold":  {many, []int{maxJoined, 1}},
		"others between":                {[]cloudevents.Event{many[0], many[1], bell, many[2]}, []int{2, 1, 1}},
		"of another cluster":            {[]cloudevents.Event{many[0], sample("b", "x"), sample("b", "x")}, []int{1, 2}},
		"of another trace":              {[]cloudevents.Event{many[0], traced, traced}, []int{1, 2}},
		"one that cannot be read is so": {[]cloudevents.Event{many[0], broken, many[1]}, []int{1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			joined, stand := JoinSamples(tt.list)
			if diff := cmp.Diff(tt.want, stand); diff != "" || len(joined) != len(stand) {
				t.Fatalf("%d events stand for %v", len(joined), stand)
			}
			at := 0
			for i, e := range joined {
				first := tt.list[at]
				at += stand[i]
				if stand[i] == 1 {
					if e.String() != first.String() {
						t.Errorf("event %d was altered", i)
					}
					continue
				}
				if s, err := ParseSamples(e); err != nil || s.Count() != stand[i] || TraceOf(e) != TraceOf(first) {
					t.Errorf("event %d has %d samples of the trace %q: %v", i, s.Count(), TraceOf(e), err)
				}
			}
		})
	}
}
