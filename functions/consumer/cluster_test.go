package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/events"
)

// waitLimit bounds every wait of these tests.
const waitLimit = 10 * time.Second

// noAPI is an API that is not asked: the functions of these tests write to the logs.
type noAPI struct{}

func (noAPI) ClientConfig(user.Info, string) *rest.Config {
	return &rest.Config{Host: "https://none", Transport: http.NewFileTransport(http.Dir("."))}
}
func (noAPI) Decoder() kubestorage.Decoder             { return kubestorage.Decoder{} }
func (noAPI) Discover() (*apiserver.Discovered, error) { return nil, errors.ErrUnsupported }

// fixture is a cluster with one function, whose batches are noted.
type fixture struct {
	*Cluster
	store   table.Store
	settled chan time.Time

	mu      sync.Mutex
	batches []*Batch
	handle  func(context.Context, *Batch) error
}

// newFixture wires logs and functions as a host does.
func newFixture(t *testing.T, store table.Store, handle func(context.Context, *Batch) error) *fixture {
	t.Helper()
	f := &fixture{store: store, settled: make(chan time.Time, 100), handle: handle}
	logs := kubestorage.NewLogs(store, "c.1", func(group string) tablelog.Options {
		return tablelog.Options{SoleWriter: true, Committed: func(rev uint64, _ *tablelog.Cause) {
			f.Ring(events.Changed{Cluster: "c", Group: group, Revision: rev, Time: time.Now()}.Event())
		}}
	})
	f.Cluster = New(Options{
		Name: "c", Partition: "c.1", Store: store, Logs: logs, API: noAPI{},
		Functions: []Function{{Name: "jobs", Groups: []string{kubestorage.PodsGroup}, Handle: f.note}},
		Identity:  func(string) user.Info { return nil }, Now: time.Now,
		Settled: func(next time.Time) bool { f.settled <- next; return true },
	})
	t.Cleanup(f.Stop)
	return f
}

func (f *fixture) note(ctx context.Context, b *Batch) error {
	f.mu.Lock()
	f.batches = append(f.batches, b)
	f.mu.Unlock()
	return f.handle(ctx, b)
}

func (f *fixture) seen() []*Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Batch(nil), f.batches...)
}

func (f *fixture) write(t *testing.T, group, name string) {
	t.Helper()
	c := tablelog.Change{Key: "core/pods/default/" + name, Value: []byte("v")}
	if _, _, err := f.Logs[group].Commit(t.Context(), []tablelog.Change{c}, nil); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the cluster says that it has settled, and returns when something is due.
func (f *fixture) settle(t *testing.T) time.Time {
	t.Helper()
	timeout := time.NewTimer(waitLimit)
	defer timeout.Stop()
	select {
	case next := <-f.settled:
		return next
	case <-timeout.C:
		t.Fatal("the cluster does not settle")
		return time.Time{}
	}
}

// changes are the names of what all batches were told of.
func changes(batches []*Batch) string {
	var out []string
	for _, b := range batches {
		for _, c := range b.Changes {
			_, _, name := kubestorage.ParseKey(c.Key)
			out = append(out, name)
		}
	}
	return fmt.Sprint(out)
}

func nothing(context.Context, *Batch) error { return nil }

func TestAFunctionBeginsWithAResyncAndGoesOnFromItsCursor(t *testing.T) {
	store := newFlaky()
	f := newFixture(t, store, nothing)
	f.write(t, kubestorage.PodsGroup, "a")
	f.settle(t)
	if b := f.seen(); len(b) != 1 || !b[0].Resync {
		t.Fatalf("%d batches", len(b))
	}
	f.write(t, kubestorage.PodsGroup, "b")
	f.settle(t)
	if got := changes(f.seen()); got != "[b]" {
		t.Errorf("after the resync the function sees %s", got)
	}
	f.Stop()
	again := newFixture(t, store, nothing)
	again.write(t, kubestorage.PodsGroup, "c")
	again.settle(t)
	if b := again.seen(); changes(b) != "[c]" || b[0].Resync {
		t.Errorf("after a restart the function sees %s, resync %t", changes(b), b[0].Resync)
	}
}

func TestAFunctionThatIsToldSomethingElseBeginsAnew(t *testing.T) {
	store := newFlaky()
	f := newFixture(t, store, nothing)
	f.write(t, kubestorage.PodsGroup, "a")
	f.settle(t)
	f.Stop()
	for i, c := range []struct {
		told   uint64
		resync bool
	}{{7, true}, {7, false}, {1<<63 + 1, true}, {1<<63 + 1, false}, {0, true}, {0, false}} {
		again := newFixture(t, store, nothing)
		again.runners[0].fn.Told = c.told
		if err := again.Wake(t.Context()); err != nil {
			t.Fatal(err)
		}
		again.settle(t)
		again.Stop()
		b := again.seen()
		if c.resync && (len(b) != 1 || !b[0].Resync) || !c.resync && len(b) != 0 {
			t.Errorf("step %d, told %d: %d batches", i, c.told, len(b))
		}
	}
}

func TestWhatWasLeftBehindIsFoundAtTheNextWake(t *testing.T) {
	store := newFlaky()
	f := newFixture(t, store, nothing)
	f.write(t, kubestorage.PodsGroup, "a")
	f.settle(t)
	f.Stop()
	f.write(t, kubestorage.PodsGroup, "b") // rings nobody
	again := newFixture(t, store, nothing)
	if err := again.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.settle(t)
	if got := changes(again.seen()); got != "[b]" {
		t.Errorf("the function sees %s", got)
	}
	if err := again.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.settle(t)
	if got := len(again.seen()); got != 1 {
		t.Errorf("a wake with nothing to do makes %d batches of 1", got)
	}
}

func TestWhatIsPutOffComesWhenItIsDue(t *testing.T) {
	store := newFlaky()
	at := time.Now().Add(time.Second)
	f := newFixture(t, store, func(_ context.Context, b *Batch) error {
		if b.Resync {
			b.Later(plan.Later{At: at, Kind: "wake", Subject: plan.Ref{Resource: plan.Pods, Name: "a"}})
		}
		return nil
	})
	f.write(t, kubestorage.PodsGroup, "a")
	if next := f.settle(t); !next.Equal(at) {
		t.Errorf("the next thing is due at %v, not %v", next, at)
	}
	if next := f.settle(t); !next.IsZero() {
		t.Errorf("something is due at %v after it came", next)
	}
	b := f.seen()
	if len(b) != 2 || len(b[1].Due) != 1 || b[1].Due[0].Subject.Name != "a" || b[1].Now.Before(at) {
		t.Errorf("%d batches, the last with %v", len(b), b[len(b)-1].Due)
	}
}

func TestAFailedBatchComesAgainAfterAPauseThatGrows(t *testing.T) {
	store := newFlaky()
	var times []time.Time
	f := newFixture(t, store, func(_ context.Context, b *Batch) error {
		times = append(times, time.Now())
		switch {
		case b.Resync && len(times) == 1:
			// Something is due all the time that the function fails.
			b.Later(plan.Later{At: time.Now().Add(2 * firstRetry), Kind: "due", Subject: plan.Ref{Resource: plan.Pods, Name: "a"}})
			return nil
		case len(times) <= 5:
			return errDisk
		}
		return nil
	})
	f.write(t, kubestorage.PodsGroup, "a")
	timeout := time.Now().Add(waitLimit)
	for next := f.settle(t); !next.IsZero(); next = f.settle(t) {
		if time.Now().After(timeout) {
			t.Fatal("it does not end")
		}
	}
	f.Stop()
	if len(times) != 6 {
		t.Fatalf("%d calls, want 6", len(times))
	}
	for i := 2; i < len(times); i++ {
		want := firstRetry << (i - 2)
		if pause := times[i].Sub(times[i-1]); pause < want*9/10 {
			t.Errorf("call %d came after %v, want %v", i, pause, want)
		}
	}
}

func TestAWriteThatNobodyHearsSettlesToo(t *testing.T) {
	f := newFixture(t, newFlaky(), nothing)
	f.write(t, kubestorage.ObjectsGroup, "a")
	f.settle(t)
	if n := len(f.seen()); n != 0 {
		t.Errorf("%d batches", n)
	}
}

func TestACursorThatCouldNotBeStoredIsStoredLater(t *testing.T) {
	store := newFlaky()
	f := newFixture(t, store, func(context.Context, *Batch) error {
		store.fail.Store(0)
		return nil
	})
	f.write(t, kubestorage.PodsGroup, "a")
	timeout := time.NewTimer(3 * quietPeriod)
	defer timeout.Stop()
	select {
	case <-f.settled:
		t.Error("it settles although its cursor is not stored")
	case <-timeout.C:
	}
	store.fail.Store(-1)
	f.settle(t)
	cursor, err := open(store).cursor(t.Context(), "jobs")
	if err != nil || cursor[kubestorage.PodsGroup] != 2 {
		t.Errorf("the cursor is %v, %v", cursor, err)
	}
}

// TestWakingWhileOthersWriteDoesNotBlock writes to a log while the functions find out where it is.
func TestWakingWhileOthersWriteDoesNotBlock(t *testing.T) {
	for round := range 20 {
		f := newFixture(t, newFlaky(), nothing)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := f.Wake(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		f.write(t, kubestorage.PodsGroup, fmt.Sprint(round))
		timeout := time.NewTimer(waitLimit)
		select {
		case <-done:
		case <-timeout.C:
			t.Fatal("it blocks")
		}
		timeout.Stop()
		f.Stop()
	}
}

func TestStopWaitsForWhatRunsAndEndsWhatDoesNotEnd(t *testing.T) {
	entered := make(chan struct{})
	var ended bool
	f := newFixture(t, newFlaky(), func(ctx context.Context, _ *Batch) error {
		close(entered)
		<-ctx.Done()
		ended = true
		return ctx.Err()
	})
	f.write(t, kubestorage.PodsGroup, "a")
	<-entered
	began := time.Now()
	f.Stop()
	if took := time.Since(began); !ended || took < stopGrace || took > stopGrace+waitLimit {
		t.Errorf("stopped after %v, ended %t", took, ended)
	}
	f.write(t, kubestorage.PodsGroup, "b")
	if n := len(f.seen()); n != 1 {
		t.Errorf("%d batches of a stopped cluster", n)
	}
}

func TestOneSubjectThatFailsDoesNotKeepOthersFromBeingDecided(t *testing.T) {
	var mu sync.Mutex
	decided := map[int]bool{}
	subjects := make([]int, 50)
	for i := range subjects {
		subjects[i] = i
	}
	err := Each(t.Context(), subjects, func(ctx context.Context, i int) error {
		if i == 0 {
			return errDisk
		}
		mu.Lock()
		defer mu.Unlock()
		decided[i] = ctx.Err() == nil
		return nil
	})
	if !errors.Is(err, errDisk) || len(decided) != len(subjects)-1 {
		t.Errorf("%d were decided, %v", len(decided), err)
	}
}

// held are functions that run only from a Wake to the end of Settle.
func held(t *testing.T, handle func(context.Context, *Batch) error) *fixture {
	t.Helper()
	f := newFixture(t, memory.New(), handle)
	f.held = true
	return f
}

func TestHeldFunctionsHaveDoneAllWhenTheyHaveSettled(t *testing.T) {
	f := held(t, func(_ context.Context, b *Batch) error {
		if len(b.Due) == 0 {
			b.Later(plan.Later{At: time.Now().Add(time.Hour), Kind: "look"})
		}
		return nil
	})
	f.held = false
	f.write(t, kubestorage.PodsGroup, "a")
	if err := f.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := changes(f.seen()); len(f.seen()) == 0 {
		t.Errorf("they saw %s", got)
	}
	if next := f.settle(t); time.Until(next) < 50*time.Minute {
		t.Errorf("they are to be called at %s", next)
	}
	if f.Busy() || !f.isHeld() || !f.armed.IsZero() {
		t.Error("something is under way or armed")
	}
	other := New(Options{Name: "c", Partition: "c.1", Store: f.store, Logs: f.Logs, API: noAPI{}, Functions: []Function{{Name: "jobs", Groups: []string{kubestorage.PodsGroup}, Handle: f.note}}, Now: time.Now})
	t.Cleanup(other.Stop)
	if behind, err := other.runners[0].behind(t.Context()); behind || err != nil {
		t.Errorf("the cursor was not stored: %v", err)
	}
}

func TestHeldFunctionsThatDoNotSettleInTimeSaySo(t *testing.T) {
	f := held(t, func(ctx context.Context, _ *Batch) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if err := f.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("they settled: %v", err)
	}
	f.Stop()
	if f.Busy() {
		t.Error("something is under way")
	}
}

func TestWhatIsAskedForFromOutsideIsDurableAndRings(t *testing.T) {
	store := newFlaky()
	f := newFixture(t, store, nothing)
	f.write(t, kubestorage.PodsGroup, "a")
	f.settle(t)
	ask := plan.Later{At: time.Now(), Kind: "asked", Subject: plan.Ref{Name: "b"}}
	if err := f.Ask(t.Context(), "jobs", ask); err != nil {
		t.Fatal(err)
	}
	if next := f.settle(t); !next.IsZero() {
		t.Errorf("something is due at %v still", next)
	}
	if b := f.seen(); len(b) != 2 || len(b[1].Due) != 1 || b[1].Due[0].Subject.Name != "b" {
		t.Fatalf("%d batches", len(b))
	}
	f.Stop()
	if err := f.Ask(t.Context(), "jobs", ask); err != nil {
		t.Fatal(err)
	}
	again := newFixture(t, store, nothing)
	if err := again.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.settle(t)
	if b := again.seen(); len(b) != 1 || len(b[0].Due) != 1 {
		t.Errorf("another instance has %d batches", len(b))
	}
}
