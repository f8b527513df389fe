package doorbell

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/events"
)

const window = 200 * time.Millisecond

// sink is where a Gather sends.
type sink struct {
	began time.Time
	mu    sync.Mutex
	// batches by when they came, with the ids of their events.
	batches map[time.Duration][]string
	counts  map[string]int
	fail    error
	takes   time.Duration
}

func (s *sink) send(ctx context.Context, list []cloudevents.Event) error {
	s.mu.Lock()
	at, takes, fail := time.Since(s.began), s.takes, s.fail
	for _, e := range list {
		s.batches[at] = append(s.batches[at], e.ID())
	}
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	return fail
}

// become has sending take so long, and fail, from now on.
func (s *sink) become(takes time.Duration, fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.fail = takes, fail
}

func gathering() (*Gather, *sink) {
	s := &sink{began: time.Now(), batches: map[time.Duration][]string{}, counts: map[string]int{}}
	return NewGather(GatherOptions{
		Name: "a sink", Send: s.send, Key: events.ClusterOf, Window: window,
		Merge: func(_, newer events.Message) events.Message { return newer },
		Count: func(outcome string, n int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.counts[outcome] += n
		},
	}), s
}

func of(cluster string, rev uint64) events.Changed {
	return events.Changed{Cluster: cluster, Group: "g", Revision: rev}
}

// want checks what came.
func (s *sink) want(t *testing.T, batches map[time.Duration][]string, counts map[string]int) {
	t.Helper()
	synctest.Wait()
	if d := cmp.Diff(batches, s.batches); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(counts, s.counts); d != "" {
		t.Error(d)
	}
}

func TestTheFirstBellIsSentAtOnceAndThoseOfAWindowTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := gathering()
		g.Ring(of("a", 1))
		for rev := range uint64(10) {
			time.Sleep(window / 20)
			g.Ring(of("a", 2+rev))
			g.Ring(of("b", 2+rev))
		}
		time.Sleep(time.Hour) // nothing happens
		g.Ring(of("a", 20))
		s.want(t, map[time.Duration][]string{
			0: {"a/g/1"}, window: {"a/g/11", "b/g/11"}, window/2 + time.Hour: {"a/g/20"},
		}, map[string]int{Sent: 4, Merged: 18})
		g.Close()
		g.Ring(of("a", 21))
		if s.counts[Dropped] != 1 {
			t.Errorf("counted %v", s.counts)
		}
	})
}

func TestRingingDoesNotWaitForTheSinkAndWhatIsTooMuchIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := gathering()
		s.become(time.Hour, nil) // it hangs
		g.Ring(of("first", 1))
		synctest.Wait()
		began := time.Now()
		for n := range maxWaiting + 7 {
			g.Ring(of(fmt.Sprint("c", n), 1))
		}
		if time.Since(began) > 0 || s.counts[Dropped] != 7 {
			t.Errorf("it took %s, counted %v", time.Since(began), s.counts)
		}
		s.become(0, nil)
		time.Sleep(time.Minute)
		s.wantSum(t, map[string]int{Failed: 1, Sent: maxWaiting, Dropped: 7})
	})
}

func (s *sink) wantSum(t *testing.T, counts map[string]int) {
	t.Helper()
	synctest.Wait()
	if !maps.Equal(counts, s.counts) {
		t.Errorf("counted %v, want %v", s.counts, counts)
	}
}

func TestASinkThatFailsIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := gathering()
		s.become(0, errors.New("down"))
		for n := range uint64(36_000) { // an hour
			g.Ring(of("a", n))
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if len(s.batches) > 75 {
			t.Errorf("it was tried %d times in an hour", len(s.batches))
		}
		s.become(0, nil)
		time.Sleep(maxPause)
		synctest.Wait()
		before := len(s.batches)
		for range 10 {
			g.Ring(of("a", 1))
			time.Sleep(window)
		}
		synctest.Wait()
		if len(s.batches)-before < 9 {
			t.Errorf("after it came back it was used %d times of 10", len(s.batches)-before)
		}
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := gathering()
		g.Ring(of("a", 1))
		synctest.Wait()
		g.Ring(of("a", 2))
		g.Close()
		g.Close()
		s.want(t, map[time.Duration][]string{0: {"a/g/1", "a/g/2"}}, map[string]int{Sent: 2})
		(*Gather)(nil).Ring(of("a", 1))
		(*Gather)(nil).Close()
	})
}
