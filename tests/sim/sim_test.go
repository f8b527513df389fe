package sim

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/instances"
	"github.com/zeroplane/zeroplane/tests/sim/rules"
)

const (
	// The short form has the same seeds each time, from 1, so that what fails is due to what was changed.
	shortRounds, longRounds = 120, 20_000
	// actions of users and of nature in a round, and at least how many faults are seen in it.
	actions, leastFaults = 200, 20
	// running is how many instances do at a time at most.
	running = 2
	// lastWritten is how many of the last changes are told of where a round fails.
	lastWritten = 20
	// rest is for how long nothing may be written once a cluster has settled.
	rest = 2 * time.Hour
)

var (
	seed   = flag.Uint64("sim.seed", 0, "run the one round of this seed")
	rounds = flag.Int("sim.rounds", 0, "how many rounds to run, 0 for 120, or 20,000 in the long form")
)

// turbulence is what goes wrong in a round.
var turbulence = instances.Faults{Drop: 0.1, Double: 0.1, Kills: 4, Busy: 0.01, Lost: 0.01, Short: 0.02}

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(1000) // a round makes much and keeps little
	if err := os.Setenv("ZEROPLANE_SEAL_KEY", instances.SealKey); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestRoundsEndAsTheirSpecsAsk runs rounds of seeds that follow each other, and checks all rules in each.
func TestRoundsEndAsTheirSpecsAsk(t *testing.T) {
	instances.Quiet(t)
	first, n := uint64(time.Now().UnixNano()), *rounds
	switch {
	case *seed != 0:
		first, n = *seed, max(n, 1)
	case n > 0:
	case os.Getenv("ZEROPLANE_LONG") != "":
		n = longRounds
	default:
		first, n = 1, shortRounds
	}
	var sum tally
	t.Run("rounds", func(t *testing.T) {
		for i := range n {
			s := first + uint64(i)
			t.Run(fmt.Sprintf("seed %d", s), func(t *testing.T) {
				t.Parallel()
				sum.add(round(t, s, turbulence))
				if t.Failed() {
					t.Errorf("again with -sim.seed=%d", s)
				}
			})
		}
	})
	fmt.Printf("figure: %s\n", &sum)
	for _, rule := range rules.AtRevisions {
		if sum.asked[rule] == 0 && n >= shortRounds {
			t.Errorf("nothing was asked of the rule %q", rule)
		}
	}
}

// tally is what rounds came to.
type tally struct {
	mu                       sync.Mutex
	rounds, actions, changes int
	faults                   int64
	asked                    map[string]int
}

func (t *tally) add(o outcome) {
	if o.history == nil {
		return // it failed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked == nil {
		t.asked = map[string]int{}
	}
	t.rounds, t.actions, t.changes, t.faults = t.rounds+1, t.actions+o.actions, t.changes+o.history.Changes, t.faults+o.faults
	for rule, n := range o.history.Asked {
		t.asked[rule] += n
	}
}

func (t *tally) String() string {
	var asked []string
	for _, rule := range slices.Sorted(maps.Keys(t.asked)) {
		asked = append(asked, fmt.Sprintf("%s %d", rule, t.asked[rule]))
	}
	return fmt.Sprintf("%d seeds, %d actions, %d faults, %d changes; asked of the rules: %s", t.rounds, t.actions, t.faults, t.changes, strings.Join(asked, ", "))
}

// outcome is what a round came to.
type outcome struct {
	history *rules.History
	actions int
	faults  int64
}

// game is one round.
type game struct {
	t      *testing.T
	world  *instances.World
	client *kubernetes.Clientset
	seen   *observer
	r      *rand.Rand
	// actions are what may happen.
	actions []action
	out     outcome
}

// round runs the actions of a seed, lets the cluster settle and rest, and checks the rules.
func round(t *testing.T, seed uint64, f instances.Faults) (out outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &game{t: t, seen: newObserver(t), r: rand.New(rand.NewPCG(seed, 1))}
		g.actions = repertoire(g.r)
		g.world = instances.New(t, seed, instances.Options{Instances: 1 + g.r.IntN(running), Faults: f, Committed: g.seen.committed})
		g.seen.store = g.world.Store
		ticking, stop := context.WithCancel(t.Context())
		var under sync.WaitGroup
		under.Go(func() { g.world.Timer(ticking) })
		defer func() {
			if t.Failed() {
				t.Logf("written last: %s", g.seen.last(lastWritten))
			}
			stop()
			under.Wait()
			g.world.Close()
		}()
		g.client = g.world.Client()
		if err := g.seen.open(); err != nil {
			t.Fatal(err)
		}
		g.begin()
		for g.out.actions < actions {
			g.act()
		}
		g.out.faults += g.world.Counts.Faults()
		g.world.Calm()
		g.mend()
		g.world.Settle()
		g.check()
		t.Logf("%s, %d changes, %d actions", &g.world.Counts, g.seen.history.Changes, g.out.actions)
		g.out.history = g.seen.history
		out = g.out
	})
	return out
}

// act does one thing, and often waits a while.
func (g *game) act() {
	a := g.choose()
	do := a.plan(g)
	if do == nil {
		return
	}
	g.log(a.name)
	g.out.actions++
	g.insist(a.name, do)
	if g.r.IntN(2) == 0 {
		time.Sleep(time.Duration(g.r.Int64N(int64(10 * time.Second))))
	}
}

// log says what happens, where one seed is looked at.
func (g *game) log(format string, args ...any) {
	if *seed != 0 {
		g.t.Logf(time.Now().Format(time.TimeOnly)+" "+format, args...)
	}
}

// notReady is what upstream's admission says while it cannot read what it goes by.
const notReady = "not yet ready to handle request"

// insist does something until it is done, or cannot be.
func (g *game) insist(what string, do func(context.Context) error) {
	g.t.Helper()
	g.world.Insist(what, func(ctx context.Context) error {
		err := do(ctx)
		switch {
		case apierrors.IsForbidden(err) && strings.Contains(err.Error(), notReady):
			return err
		case apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			g.t.Errorf("%s: %v", what, err)
		case apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err), apierrors.IsForbidden(err), apierrors.IsTooManyRequests(err):
			return nil // somebody was first, or it may not be
		}
		return err
	})
}

// check looks at all rules once more, waits, and sees that nothing is written.
func (g *game) check() {
	g.t.Helper()
	settled := g.seen.rest()
	g.seen.history.Settle(time.Now(), tight)
	g.seen.history.Still(time.Now(), settled)
	if g.seen.broken != nil {
		g.t.Fatal(g.seen.broken)
	}
	if failing, err := g.world.Failing(); err != nil || len(failing) > 0 {
		g.t.Errorf("functions still fail at rest: %v, %v", failing, err)
	}
	if g.out.actions < actions || g.out.faults < leastFaults {
		g.t.Errorf("%d actions and %d faults are too few", g.out.actions, g.out.faults)
	}
	for i, v := range g.seen.history.Violations {
		g.t.Error(v)
		if i == 0 {
			g.t.Logf("before that:\n%s", g.seen.about(v))
		}
	}
}

// begin makes what every round has.
func (g *game) begin() {
	for i := range nodes {
		g.world.Insist("register a node", func(ctx context.Context) error { return made(g.register(ctx, i)) })
	}
	for _, name := range []string{team, tight, side} {
		g.world.Insist("make a namespace", func(ctx context.Context) error { return made(g.makeNamespace(ctx, name)) })
	}
	g.world.Insist("make a quota", func(ctx context.Context) error { return made(g.setQuota(ctx, 4)) })
}

// made is for what somebody made whose answer was lost.
func made(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (g *game) register(ctx context.Context, i int) error {
	node := kubelet.NewNode(fmt.Sprint("node-", i), i, kubelet.NodeOptions{Pods: 32, Now: time.Now()})
	_, err := g.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	return err
}
