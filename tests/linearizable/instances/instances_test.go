package instances

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/tests/linearizable/history"
	"github.com/zeroplane/zeroplane/tests/linearizable/workload"
)

var (
	seedFlag   = flag.Uint64("linearizable.seed", 0, "seed of the workload, 0 for another each time")
	lengthFlag = flag.Duration("linearizable.length", 0, "how long clients work, 0 for 3 s or, in the long form, 2 minutes")
	epochFlag  = flag.Duration("linearizable.epoch", 700*time.Millisecond, "how long clients work on the same objects")
	settleFlag = flag.Duration("linearizable.settle", 10*time.Second, "how long watches have, at most, to come to the end")
)

func seed(t *testing.T) uint64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()>>1 | 1
	}
	t.Logf("-linearizable.seed=%d", s)
	return s
}

// attempt runs the workload once on a store, which instances reach through another, and returns what was wrong.
func attempt(t *testing.T, length time.Duration, o options, through func(table.Store) table.Store) (*history.History, *history.Report) {
	t.Helper()
	const checkTime = time.Minute
	store := memory.New()
	o.latency = time.Millisecond
	var strangers atomic.Int64
	counted := &broken{Store: through(store), commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
		err := s.Commit(ctx, partition, ops)
		if errors.Is(err, table.ErrExists) {
			strangers.Add(1)
		}
		return err
	}}
	s := newSite(counted, o)
	h, err := workload.Run(t.Context(), s, workload.Options{
		Seed: o.seed, Instances: o.instances, Clients: 10, Length: length, Epoch: *epochFlag, Pause: 2 * time.Millisecond,
		Timeout: 5 * time.Second, Settle: *settleFlag, Targets: targets(), Namespaces: []string{"a", "b", "c"}, Plans: true,
		Store: store, Poll: 10 * time.Millisecond, CompactAfter: compactAfter,
	})
	s.Calm() // nothing may go on after the test
	r := h.Check(checkTime)
	if err != nil {
		r.Violations = append(r.Violations, history.Violation{Rule: "store", Text: err.Error()})
	}
	if n := strangers.Load(); o.soleWriter && n > 0 {
		r.Violations = append(r.Violations, history.Violation{
			Rule: "sole writer", Text: fmt.Sprintf("%d transactions met rows that only an instance of before can have written", n),
		})
	}
	for _, err := range s.malfunctions {
		r.Violations = append(r.Violations, history.Violation{Rule: "malfunction", Text: err.Error()})
	}
	t.Logf("%d operations, %d ambiguous, %d of them applied, %d changes, %d kills, %d watch events in %d connections, %d pieces",
		r.Operations, r.Ambiguous, r.Applied, r.Changes, s.kills, r.Events, r.Segments, r.Pieces)
	return h, r
}

func sound(s table.Store) table.Store { return s }

// mostShown bounds the violations that are printed.
const mostShown = 5

func requireNone(t *testing.T, h *history.History, r *history.Report) {
	t.Helper()
	if r.Operations < 100 || r.Changes < 50 || r.Events < 50 {
		t.Errorf("the workload did next to nothing: %+v", r)
	}
	if len(r.Violations) == 0 {
		return
	}
	dir, err := os.MkdirTemp("", "zeroplane-linearizable-")
	if err == nil {
		err = h.Write(dir, r)
	}
	for _, v := range r.Violations[:min(len(r.Violations), mostShown)] {
		fmt.Println("VIOLATION", v)
	}
	t.Errorf("%d violations; the history is in %s (%v)", len(r.Violations), dir, err)
}

// length of a run: the flag's, or the long form's.
func length() time.Duration {
	const normal, long = 3 * time.Second, 2 * time.Minute
	switch {
	case *lengthFlag > 0:
		return *lengthFlag
	case os.Getenv("ZEROPLANE_LONG") != "":
		return long
	default:
		return normal
	}
}

func TestThreeInstancesKeepTheirPromises(t *testing.T) {
	h, r := attempt(t, length(), options{seed: seed(t), instances: 3}, sound)
	requireNone(t, h, r)
}

func TestASoleWriterKeepsItsPromises(t *testing.T) {
	h, r := attempt(t, length(), options{seed: seed(t), instances: 1, soleWriter: true}, sound)
	requireNone(t, h, r)
}

// quiet drops what instances log.
func quiet() { slog.SetDefault(slog.New(slog.DiscardHandler)) }
