package events

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
)

func TestChangedSurvivesItsCloudEvent(t *testing.T) {
	want := Changed{Cluster: "default.0a1b2c3d", Group: "pods", Revision: 42, Time: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	wire, err := json.Marshal(want.Event())
	if err != nil {
		t.Fatal(err)
	}
	var e cloudevents.Event
	if err := json.Unmarshal(wire, &e); err != nil {
		t.Fatal(err)
	}
	got, err := ParseChanged(e)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDueSurvivesItsCloudEvent(t *testing.T) {
	want := Due{Cluster: "default.0a1b2c3d", Function: "workloads", Time: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	got, err := ParseDue(want.Event())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTheSameChangeHasTheSameID(t *testing.T) {
	a := Changed{Cluster: "c", Group: "pods", Revision: 7, Time: time.Unix(1, 0)}
	b := Changed{Cluster: "c", Group: "pods", Revision: 7, Time: time.Unix(2, 0)}
	if a.Event().ID() != b.Event().ID() {
		t.Errorf("ids %q and %q differ", a.Event().ID(), b.Event().ID())
	}
}

func TestBrokenEventsAreRefusedByKind(t *testing.T) {
	good := Changed{Cluster: "c", Group: "pods", Revision: 7}.Event()
	cases := map[string]struct {
		breakIt func(*cloudevents.Event)
		want    error
	}{
		"another type":          {func(e *cloudevents.Event) { e.SetType("com.example.else") }, ErrUnknownType},
		"no sequence":           {func(e *cloudevents.Event) { e.SetExtension(sequence, nil) }, ErrMalformed},
		"a word for a sequence": {func(e *cloudevents.Event) { e.SetExtension(sequence, "many") }, ErrMalformed},
		"a foreign source":      {func(e *cloudevents.Event) { e.SetSource("https://example.com") }, ErrMalformed},
		"no subject":            {func(e *cloudevents.Event) { e.SetSubject("") }, ErrMalformed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := good.Clone()
			c.breakIt(&e)
			if _, err := ParseChanged(e); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
