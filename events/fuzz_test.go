package events

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/events/internal/mutation"
)

// checkSurvives checks that an event is refused as documented, or that what it says is the same once it has
// been sent on. It reports whether the event was read.
func checkSurvives(t *testing.T, e cloudevents.Event) bool {
	t.Helper()
	m, err := Parse(e)
	if err != nil {
		if m != nil || errors.Is(err, ErrMalformed) == errors.Is(err, ErrUnknownType) {
			t.Fatalf("got %+v and %v for %v", m, err, e)
		}
		return false
	}
	wire, err := json.Marshal(m.Event())
	if err != nil {
		t.Fatalf("%+v cannot be sent: %v", m, err)
	}
	again, err := Parse(ofWire(t, wire))
	if err != nil {
		t.Fatalf("%+v is refused when it comes back: %v", m, err)
	}
	if d := cmp.Diff(m, again); d != "" {
		t.Fatalf("it comes back changed: %s", d)
	}
	return true
}

func TestMutatedEventsAreRefusedOrSurvive(t *testing.T) {
	rounds, seed := 10_000, uint64(20261124)
	if os.Getenv("ZEROPLANE_LONG") != "" {
		rounds, seed = 1_000_000, uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	var corpus [][]byte
	for _, eventType := range Types() {
		corpus = append(corpus, example(t, eventType))
	}
	r := rand.New(rand.NewPCG(seed, 0))
	read, refused := 0, 0
	for range rounds {
		var e cloudevents.Event
		if json.Unmarshal(mutation.Of(r, corpus), &e) != nil {
			continue
		}
		if checkSurvives(t, e) {
			read++
		} else {
			refused++
		}
	}
	if read < rounds/100 || refused < rounds/10 {
		t.Errorf("%d of %d were read and %d refused: too few to say much", read, rounds, refused)
	}
}

// fuzzDoorbell fuzzes the attributes of a type without data.
func fuzzDoorbell(f *testing.F, eventType string) {
	e := ofWire(f, example(f, eventType))
	key, _ := e.Extensions()[partitionKey].(string)
	number, _ := e.Extensions()[sequence].(string)
	f.Add(e.Source(), e.Subject(), key, number, e.Time().Unix())
	f.Add(e.Source(), "", key, "-1", int64(0))
	f.Add("/clusters/", "a b", "", "00000000000000000000", int64(1)<<62)
	f.Fuzz(func(t *testing.T, source, subject, key, number string, at int64) {
		e := cloudevents.NewEvent()
		e.SetType(eventType)
		e.SetID("1")
		e.SetSource(source)
		e.SetSubject(subject)
		e.SetExtension(partitionKey, key)
		e.SetExtension(sequence, number)
		e.SetTime(time.Unix(at, 0))
		checkSurvives(t, e)
	})
}

func FuzzChanged(f *testing.F) { fuzzDoorbell(f, ChangedType) }

func FuzzDue(f *testing.F) { fuzzDoorbell(f, DueType) }

func FuzzTimer(f *testing.F) { fuzzDoorbell(f, TimerType) }

func FuzzSamples(f *testing.F) {
	good := ofWire(f, example(f, SamplesType))
	f.Add(good.Data())
	f.Add([]byte(`{"external": [{"name": "m", "time": "2026-11-24T08:00:00Z", "value": 1e9}]}`))
	f.Add([]byte(`{"nodes": [{"name": "n", "time": "2026-11-24T08:00:00Z", "windowSeconds": 1, "usage": {"cpu": "NaN", "memory": "-1Ki"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e := good.Clone()
		e.DataEncoded = data
		checkSurvives(t, e)
	})
}

func FuzzStructured(f *testing.F) {
	for _, eventType := range Types() {
		f.Add(example(f, eventType))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var e cloudevents.Event
		if json.Unmarshal(wire, &e) == nil {
			checkSurvives(t, e)
		}
	})
}
