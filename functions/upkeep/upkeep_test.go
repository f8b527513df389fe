package upkeep

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

func newLogs() kubestorage.Logs {
	return kubestorage.NewLogs(memory.New(), "c", func(string) tablelog.Options { return tablelog.Options{SoleWriter: true} })
}

// batch returns a batch on the present state of all logs.
func batch(t *testing.T, logs kubestorage.Logs, now time.Time, due ...plan.Later) *consumer.Batch {
	t.Helper()
	states := map[string]*tablelog.State{}
	for group, log := range logs {
		s, err := log.Current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		states[group] = s
	}
	return &consumer.Batch{
		Cluster: &consumer.Cluster{Logs: logs}, Snapshot: &consumer.Snapshot{States: states}, Now: now, Due: due,
	}
}

func commit(t *testing.T, log *tablelog.Log, changes ...tablelog.Change) {
	t.Helper()
	if _, _, err := log.Commit(context.Background(), changes, nil); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes one object n times.
func rewrite(t *testing.T, log *tablelog.Log, n int) {
	t.Helper()
	for i := range n {
		s, err := log.Current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		c := tablelog.Change{Key: "core/configmaps/default/a", Value: fmt.Append(nil, i)}
		if e := s.Get(c.Key); e != nil {
			c.Expect = e.Rev
		}
		commit(t, log, c)
	}
}

func TestALogThatHasGrownIsCompactedStepByStepAfterTheRetention(t *testing.T) {
	ctx, logs, now := context.Background(), newLogs(), time.Unix(1000, 0)
	log := logs[kubestorage.ObjectsGroup]
	rewrite(t, log, compactAfter+rowsAtOnce)
	f := &function{armed: map[string]bool{}}
	b := batch(t, logs, now)
	if err := f.handle(ctx, b); err != nil {
		t.Fatal(err)
	}
	due := b.PutOff()
	if len(due) != 1 || due[0].Kind != compactKind || !due[0].At.Equal(now.Add(retention)) {
		t.Fatalf("put off %+v, want one compaction after the retention", due)
	}
	head := due[0].Subject.UID
	steps := 0
	for len(due) == 1 {
		if steps++; steps > 20 {
			t.Fatal("the compaction does not end")
		}
		b = batch(t, logs, due[0].At, due...)
		if err := f.handle(ctx, b); err != nil {
			t.Fatal(err)
		}
		due = b.PutOff()
	}
	if steps < 2 {
		t.Errorf("compacted in %d steps, want several", steps)
	}
	if got := fmt.Sprint(log.Compacted()); got != string(head) {
		t.Errorf("compacted to %s, want %s", got, head)
	}
	if _, _, err := log.EventsSince(ctx, 1); !errors.Is(err, tablelog.ErrCompacted) {
		t.Errorf("reading old changes gives %v, want ErrCompacted", err)
	}
}

func TestNothingIsPutOffWhileLogsAreShort(t *testing.T) {
	logs := newLogs()
	rewrite(t, logs[kubestorage.ObjectsGroup], 10)
	b := batch(t, logs, time.Unix(1000, 0))
	f := &function{armed: map[string]bool{}}
	if err := f.handle(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if due := b.PutOff(); len(due) != 0 {
		t.Errorf("put off %+v", due)
	}
}

func TestExpiredEventsGoAndThenNothingIsDue(t *testing.T) {
	ctx, logs, now := context.Background(), newLogs(), time.Unix(100000, 0)
	log := logs[kubestorage.EventsGroup]
	commit(t, log, tablelog.Change{Key: "core/events/default/a", Value: []byte("a"), Expires: now.Add(time.Hour).Unix()})
	f := &function{armed: map[string]bool{}}
	b := batch(t, logs, now)
	if err := f.handle(ctx, b); err != nil {
		t.Fatal(err)
	}
	due := b.PutOff()
	for round := 0; len(due) == 1; round++ {
		if round > 10 {
			t.Fatal("expiry does not end")
		}
		b = batch(t, logs, due[0].At, due...)
		if err := f.handle(ctx, b); err != nil {
			t.Fatal(err)
		}
		due = b.PutOff()
	}
	s, err := log.Current(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 0 || len(due) != 0 {
		t.Errorf("%d events are left and %+v is due, want none", s.Len(), due)
	}
}

// TestACompactionBeyondTheLogEnds: a log that was restored to an earlier state is shorter than what was put off says.
func TestACompactionBeyondTheLogEnds(t *testing.T) {
	logs := newLogs()
	log := logs[kubestorage.ObjectsGroup]
	rewrite(t, log, 20)
	due := later(compactKind, kubestorage.ObjectsGroup, 5000, time.Unix(1, 0))
	b := batch(t, logs, time.Unix(2, 0), due)
	f := &function{armed: map[string]bool{}}
	if err := f.handle(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if left := b.PutOff(); len(left) != 0 || log.Compacted() != 21 {
		t.Errorf("compacted to %d, and put off %+v", log.Compacted(), left)
	}
}
