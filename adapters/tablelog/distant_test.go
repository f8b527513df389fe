package tablelog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

// distant is a log with more changes than anyone keeps in memory, and what its objects were after each transaction.
type distant struct {
	store *contract.Counting
	// values by key, at the revisions after some transactions.
	at map[uint64]map[string]string
	// what the change of a revision replaced, empty for nothing.
	before map[uint64]string
	head   uint64
}

// newDistant writes changes to a few hundred objects: they are made, altered, deleted and made again.
func newDistant(t *testing.T, changes int) distant {
	t.Helper()
	const objects = 300
	d := distant{store: contract.NewCounting(memory.New()), at: map[uint64]map[string]string{}, before: map[uint64]string{}}
	l := New(d.store, partition, Options{SoleWriter: true})
	values := map[string]string{}
	for n := 0; n < changes; n += maxChanges {
		batch := make([]Change, 0, maxChanges)
		s := current(t, l)
		for i := n; i < n+maxChanges; i++ {
			c := Change{Key: fmt.Sprintf("%c-%03d", "ab"[i%2], i*7%objects), Value: fmt.Appendf(nil, "%d", i)}
			d.before[s.Rev+uint64(len(batch))+1] = values[c.Key]
			if e := s.Get(c.Key); e != nil {
				c.Expect, c.Delete = e.Rev, i%11 == 0
			}
			if delete(values, c.Key); !c.Delete {
				values[c.Key] = string(c.Value)
			}
			batch = append(batch, c)
		}
		_, rev, err := l.Commit(t.Context(), batch, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.head = rev
		d.at[rev] = maps.Clone(values)
	}
	return d
}

func TestAWatchResumesFromAnyRevisionThatIsKept(t *testing.T) {
	d := newDistant(t, maxReplay+5000)
	for _, prefix := range []string{"", "b-"} {
		l := New(d.store, partition, Options{})
		sub, err := l.Subscribe(t.Context(), prefix, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Unsubscribe(sub)
		seen, last := 0, uint64(2)
		for upTo := uint64(0); upTo < d.head; {
			<-sub.Wake()
			var events []Event
			if events, upTo, err = sub.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(events) > replayPart {
				t.Fatalf("%d events at once", len(events))
			}
			for _, ev := range events {
				before := ""
				if ev.Prev != nil {
					before = string(ev.Prev.Value)
				}
				if ev.Rev <= last || prefix == "" && ev.Rev != last+1 || before != d.before[ev.Rev] {
					t.Fatalf("%q: event %d after %d replaces %q, want %q", prefix, ev.Rev, last, before, d.before[ev.Rev])
				}
				last = ev.Rev
				seen++
			}
		}
		if want := int(d.head) - 2; prefix == "" && seen != want || seen < want/3 {
			t.Errorf("%q: %d events of %d", prefix, seen, want)
		}
		if _, _, err := New(d.store, partition, Options{}).Commit(t.Context(), []Change{{Key: prefix + "new", Value: []byte("x")}}, nil); err != nil {
			t.Fatal(err)
		}
		d.head++
		current(t, l)
		if events, _, err := sub.Next(t.Context()); err != nil || len(events) != 1 || events[0].Rev != d.head {
			t.Errorf("%q: the change after those was delivered as %v, %v", prefix, events, err)
		}
	}
}

func TestAStateOfThePastIsReadHoweverFarBack(t *testing.T) {
	d := newDistant(t, maxReplay+5000)
	l := New(d.store, partition, Options{})
	revs := slices.Sorted(maps.Keys(d.at))
	for _, rev := range []uint64{revs[0], revs[3], revs[len(revs)/2], revs[len(revs)-1]} {
		past, err := l.At(t.Context(), rev)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		past.Ascend("", "", func(e *Entry) bool {
			got[e.Key] = string(e.Value)
			return true
		})
		if past.Rev != rev || !maps.Equal(got, d.at[rev]) {
			t.Errorf("revision %d: %d objects at %d, want %d", rev, len(got), past.Rev, len(d.at[rev]))
		}
		before := d.store.Queries()
		if again, err := l.At(t.Context(), rev); err != nil || again != past && rev != d.head {
			t.Errorf("revision %d was read again: %v", rev, err)
		}
		if n := d.store.Queries() - before; n > 1 {
			t.Errorf("the next page of a list at revision %d costs %d queries", rev, n)
		}
	}
}

func TestAWatchOfALogThatIsFarBehindGoesOnElsewhere(t *testing.T) {
	store := memory.New()
	l, other := New(store, partition, Options{}), New(store, partition, Options{})
	sub := &Subscription{log: l, rev: current(t, l).Rev, wake: make(chan struct{}, 1)}
	l.subs[sub] = struct{}{} // it is told of changes, but nobody looks for them
	for n := 0; n < maxReplay+100; n += maxChanges {
		batch := make([]Change, maxChanges)
		for i := range batch {
			batch[i] = Change{Key: fmt.Sprintf("%06d", n+i), Value: []byte("1")}
		}
		if _, _, err := other.Commit(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	current(t, l)
	if _, _, err := sub.Next(t.Context()); !errors.Is(err, ErrSlow) {
		t.Errorf("it ended with %v", err)
	}
}

// held keeps transactions waiting until it is released.
type held struct {
	table.Store
	arrived, release chan struct{}
	once             sync.Once
}

func (s *held) Commit(ctx context.Context, partition string, ops []table.Op) error {
	s.once.Do(func() { close(s.arrived) })
	<-s.release
	return s.Store.Commit(ctx, partition, ops)
}

func TestACommitDoesNotOutlastItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 500 * time.Millisecond
		store := &held{Store: memory.New(), arrived: make(chan struct{}), release: make(chan struct{})}
		l := New(store, partition, Options{})
		began := time.Now()
		commit := func(ctx context.Context, key string) error {
			_, _, err := l.Commit(ctx, []Change{{Key: key, Value: []byte(key)}}, nil)
			return err
		}
		hasty, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		leader, waiting, patient := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() { leader <- commit(hasty, "leads") }()
		<-store.arrived
		go func() { waiting <- commit(hasty, "waits") }()
		go func() { patient <- commit(t.Context(), "stays") }()
		for _, ended := range []chan error{leader, waiting} {
			if err := <-ended; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != patience {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		}
		close(store.release)
		if err := <-patient; err != nil {
			t.Errorf("the caller with time: %v", err)
		}
		synctest.Wait()
		for key, want := range map[string]bool{"leads": true, "waits": false, "stays": true} {
			s, err := New(store.Store, partition, Options{}).Current(t.Context())
			if err != nil || (s.Get(key) != nil) != want {
				t.Errorf("%s was written: %v, %v", key, !want, err)
			}
		}
	})
}
