package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

var morning = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

// ofWire reads an event in structured mode.
func ofWire(t testing.TB, wire []byte) cloudevents.Event {
	t.Helper()
	var e cloudevents.Event
	if err := json.Unmarshal(wire, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func toWire(t testing.TB, m Message) []byte {
	t.Helper()
	wire, err := json.Marshal(m.Event())
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestMessagesSurviveTheirCloudEvents(t *testing.T) {
	usage := Usage{CPU: resource.MustParse("250m"), Memory: resource.MustParse("64Mi")}
	window := Window{End: morning, Seconds: 15}
	for name, want := range map[string]Message{
		"changed":             Changed{Cluster: "default.0a1b2c3d", Group: "pods", Revision: 42, Time: morning},
		"changed, no time":    Changed{Cluster: "c", Group: "pods"},
		"changed, by whom":    Changed{Cluster: "c", Group: "pods", Revision: 42, Time: morning, Instance: "5f3a"},
		"timer, by whom":      Timer{Cluster: "c", Time: morning, Instance: "5f3a"},
		"due":                 Due{Cluster: "default.0a1b2c3d", Function: "workloads", Time: morning},
		"timer":               Timer{Cluster: "default.0a1b2c3d", Time: morning},
		"one sample":          Samples{Cluster: "c", Reporter: "n", Time: morning, Nodes: []NodeSample{{Name: "n", Window: window, Usage: usage}}},
		"an instant":          Samples{Cluster: "c", Reporter: "q", Time: morning, External: []ExternalSample{{Name: "queue:length", Window: Window{End: morning}}}},
		"one of two counters": Samples{Cluster: "c", Reporter: "n", Sequence: 7, Time: morning, Nodes: []NodeSample{{Name: "n", Window: window, Usage: usage}}},
		"many samples": Samples{
			Cluster: "c", Reporter: "n", Sequence: 8, Time: morning,
			Nodes: []NodeSample{{Name: "n", Window: window, Usage: usage}, {Name: "m", Window: window, Usage: usage}},
			Pods: []PodSample{{Namespace: "default", Name: "web-0", Window: window, Containers: []ContainerSample{
				{Name: "web", Usage: usage}, {Name: "proxy", Usage: Usage{CPU: resource.MustParse("1500n"), Memory: resource.MustParse("0")}},
			}}},
			External: []ExternalSample{{Namespace: "default", Name: "queue_length", Labels: map[string]string{"queue": "orders"}, Window: window, Value: resource.MustParse("30")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(ofWire(t, toWire(t, want)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTheSameMessageHasTheSameID(t *testing.T) {
	for name, pair := range map[string][2]Message{
		"changed": {Changed{Cluster: "c", Group: "pods", Revision: 7, Time: time.Unix(1, 0)}, Changed{Cluster: "c", Group: "pods", Revision: 7, Time: time.Unix(2, 0)}},
		"samples": {Samples{Cluster: "c", Reporter: "n", Sequence: 7, Time: time.Unix(1, 0)}, Samples{Cluster: "c", Reporter: "n", Sequence: 7, Time: time.Unix(2, 0)}},
		"due":     {Due{Cluster: "c", Function: "f", Time: morning}, Due{Cluster: "c", Function: "f", Time: morning}},
		"timer":   {Timer{Cluster: "c", Time: morning}, Timer{Cluster: "c", Time: morning}},
	} {
		if a, b := pair[0].Event().ID(), pair[1].Event().ID(); a != b {
			t.Errorf("%s: ids %q and %q differ", name, a, b)
		}
	}
	if a, b := (Samples{Cluster: "c", Reporter: "n", Sequence: 7}), (Samples{Cluster: "c", Reporter: "n", Sequence: 8}); a.Event().ID() == b.Event().ID() {
		t.Errorf("two reports have one id, %q", a.Event().ID())
	}
}

func TestSequencesSortAsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		x, y := sequenceText(Changed{Cluster: "c", Group: "g", Revision: a}), sequenceText(Changed{Cluster: "c", Group: "g", Revision: b})
		if (a < b) != (x < y) {
			t.Fatalf("%d and %d become %q and %q", a, b, x, y)
		}
	})
}

func sequenceText(m Message) string { return m.Event().Extensions()[sequence].(string) }

func TestUnknownTypesAreToldFromMalformedEvents(t *testing.T) {
	e := Timer{Cluster: "c", Time: morning}.Event()
	e.SetType("com.example.else")
	for name, parse := range map[string]func(cloudevents.Event) error{
		"any":     func(e cloudevents.Event) error { _, err := Parse(e); return err },
		"changed": func(e cloudevents.Event) error { _, err := ParseChanged(e); return err },
		"due":     func(e cloudevents.Event) error { _, err := ParseDue(e); return err },
		"timer":   func(e cloudevents.Event) error { _, err := ParseTimer(e); return err },
		"samples": func(e cloudevents.Event) error { _, err := ParseSamples(e); return err },
	} {
		if err := parse(e); !errors.Is(err, ErrUnknownType) || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want %v", name, err, ErrUnknownType)
		}
	}
}

func TestAnInstanceThatHasNoNameIsRefused(t *testing.T) {
	for _, m := range []Message{Changed{Cluster: "c", Group: "g", Revision: 1}, Timer{Cluster: "c", Time: morning}} {
		for _, name := range []any{"", "a b", 7, strings.Repeat("x", maxNameBytes+1)} {
			e := m.Event()
			e.SetExtension(instance, name)
			wantRefused(t, e, instance)
		}
	}
}

func TestDataOverTheLimitIsRefused(t *testing.T) {
	for _, m := range []Message{Changed{Cluster: "c", Group: "g"}, Due{Cluster: "c", Function: "f", Time: morning}, Timer{Cluster: "c", Time: morning}, Samples{Cluster: "c", Reporter: "n", Time: morning}} {
		e := m.Event()
		if err := e.SetData(cloudevents.ApplicationJSON, strings.Repeat("x", MaxBytes)); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, e, "data")
	}
}

func TestSamplesOverTheLimitAreRefused(t *testing.T) {
	s := Samples{Cluster: "c", Reporter: "n", Time: morning}
	for i := range MaxSamples {
		s.External = append(s.External, ExternalSample{Name: fmt.Sprint("m", i), Window: Window{End: morning}})
	}
	if _, err := Parse(s.Event()); err != nil {
		t.Fatalf("%d samples: %v", s.Count(), err)
	}
	s.External = append(s.External, ExternalSample{Name: "one-more", Window: Window{End: morning}})
	wantRefused(t, s.Event(), "data")
}

// wantRefused checks that an event is refused for a field.
func wantRefused(t *testing.T, e cloudevents.Event, field string) {
	t.Helper()
	m, err := Parse(e)
	var fe *FieldError
	if !errors.Is(err, ErrMalformed) || !errors.As(err, &fe) {
		t.Fatalf("got %+v and %v, want %v", m, err, ErrMalformed)
	}
	if m != nil || fe.Field != field || fe.Reason == "" {
		t.Errorf("got %+v and %v, want an error of %s", m, err, field)
	}
	if len(err.Error()) > 500 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}
