package instances

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/tests/linearizable/workload"
)

// options of a site.
type options struct {
	seed uint64
	// instances over one store; with soleWriter there is one, which takes itself for the only one.
	instances  int
	soleWriter bool
	latency    time.Duration
}

// site is instances over one store. They are killed, and cut off from it.
type site struct {
	options
	store   table.Store
	current []atomic.Pointer[instance]
	rng     *rand.Rand
	faulty  bool
	kills   int

	mu           sync.Mutex
	malfunctions []error
}

var _ workload.Site = (*site)(nil)

const (
	// killPause is how long the instances are left alone, at most; cutLength how long one cannot reach the store:
	// longer than changes are kept.
	killPause = 250 * time.Millisecond
	cutLength = 2 * compactAfter
	// compactAfter is how long changes are kept: longer than a transaction can be late.
	compactAfter = 250 * time.Millisecond
)

func newSite(store table.Store, o options) *site {
	s := &site{options: o, store: store, current: make([]atomic.Pointer[instance], o.instances), faulty: true}
	s.rng = rand.New(rand.NewPCG(o.seed, 99)) //nolint:gosec // faults, no secrets
	for i := range s.current {
		s.start(i)
	}
	return s
}

func (s *site) start(i int) {
	n := &network{Store: s.store, latency: s.latency, late: !s.soleWriter}
	f := contract.NewFaulty(n, s.rng.Uint64())
	if s.faulty {
		f.ShortPages, f.EmptyPages = 0.2, 0.05
		f.LostReplies, f.Retried, f.Unsent = 0.03, 0.03, 0.03
		n.unanswered = 0.02
	}
	s.current[i].Store(newInstance(f, n, s.soleWriter))
}

// Instance implements workload.Site.
func (s *site) Instance(i int) workload.Instance { return s.current[i].Load() }

// Disturb implements workload.Site.
func (s *site) Disturb(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(s.rng.Int64N(int64(killPause))))
		i := s.rng.IntN(s.instances)
		if s.instances > 1 && s.rng.IntN(3) == 0 {
			n := s.current[i].Load().network
			n.cut.Store(true)
			time.Sleep(cutLength)
			n.cut.Store(false)
			continue
		}
		s.kills++
		s.current[i].Load().kill()
		s.start(i)
	}
}

// Calm implements workload.Site: new instances take the place of those with faults.
func (s *site) Calm() {
	s.faulty = false
	for i := range s.current {
		s.current[i].Load().kill()
		s.start(i)
	}
	time.Sleep(2 * lateness)
}

// Compact implements workload.Site.
func (s *site) Compact(ctx context.Context, log int, before uint64) {
	const maxRows = 1000
	i := s.current[before%uint64(s.instances)].Load() //nolint:gosec // a small number
	if _, err := i.storages[log].Log.Compact(ctx, before, maxRows); errors.Is(err, table.ErrCorrupt) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.malfunctions = append(s.malfunctions, err)
	}
}
