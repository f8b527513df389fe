package foreign

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/internal/mutation"
)

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, events.ErrMalformed) == errors.Is(err, events.ErrUnknownType) {
		t.Fatalf("got %v", err)
	}
}

// checkSurvives checks that an event is refused as documented, or that what it says is the same once it has
// been sent on. It reports whether the event was read.
func checkSurvives(t *testing.T, e cloudevents.Event) bool {
	t.Helper()
	m, err := Parse(e)
	if err != nil {
		checkRefusal(t, err)
		return false
	}
	wire, err := json.Marshal(m.Event())
	if err != nil {
		t.Fatalf("%+v cannot be sent: %v", m, err)
	}
	again, err := parseBody(wire)
	if err != nil {
		t.Fatalf("%+v is refused when it comes back: %v", m, err)
	}
	if d := cmp.Diff(m, again); d != "" {
		t.Fatalf("it comes back changed: %s", d)
	}
	return true
}

func checkBody(t *testing.T, body []byte) bool {
	t.Helper()
	list, err := Read(body)
	if err != nil {
		checkRefusal(t, err)
		return false
	}
	for _, e := range list {
		if err := e.Validate(); err != nil {
			t.Fatalf("made of %q: %v", body, err)
		}
		checkSurvives(t, e)
	}
	return true
}

func TestMutatedEventsAreRefusedOrSurvive(t *testing.T) {
	rounds, seed := 10_000, uint64(20261124)
	if os.Getenv("ZEROPLANE_LONG") != "" {
		rounds, seed = 1_000_000, uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	all := bodies(t)
	var corpus [][]byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		corpus = append(corpus, all[name])
	}
	r := rand.New(rand.NewPCG(seed, 0))
	read, refused := 0, 0
	for range rounds {
		body := mutation.Of(r, corpus)
		ok := checkBody(t, body)
		var e cloudevents.Event
		if json.Unmarshal(body, &e) == nil {
			ok = checkSurvives(t, e)
		}
		if ok {
			read++
		} else {
			refused++
		}
	}
	if read < rounds/20 || refused < rounds/20 {
		t.Errorf("%d of %d were read and %d refused: too few to say much", read, rounds, refused)
	}
}

// fuzz fuzzes the data of the sample's type.
func fuzz(f *testing.F, names ...string) {
	for i, name := range names {
		f.Add(i, samples[name].Event().Data())
	}
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		if i < 0 || i >= len(names) {
			return
		}
		e := samples[names[i]].Event()
		e.DataEncoded = data
		checkSurvives(t, e)
	})
}

func FuzzAlert(f *testing.F) { fuzz(f, "alert.cloudevents") }

func FuzzRegistryChange(f *testing.F) { fuzz(f, "image-pushed", "image-deleted", "chart-pushed") }

func FuzzHealth(f *testing.F) { fuzz(f, "availability-changed", "resource-annotated") }

func FuzzScheduledEvents(f *testing.F) { fuzz(f, "scheduled-events") }

func FuzzSpot(f *testing.F) { fuzz(f, "spot-interruption", "rebalance-recommendation") }

func FuzzSubscription(f *testing.F) { fuzz(f, "subscription-validation", "subscription-deleted") }

func FuzzRead(f *testing.F) {
	for _, body := range bodies(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkBody(t, body) })
}
