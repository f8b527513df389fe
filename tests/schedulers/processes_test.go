package schedulers_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/local"
	"github.com/zeroplane/zeroplane/tests/schedulers/rules"
)

const (
	processes = 4

	normalLength = 30 * time.Second
	longLength   = 10 * time.Minute
	// killEvery is the pause between two kills on average, and mostDown how long what was killed stays so.
	killEvery = 2 * time.Second
	mostDown  = time.Second
	pollEvery = 100 * time.Millisecond
	// settleTime is more than what a process left may wait for another to take it over.
	settleTime = 4 * time.Minute
	birthTime  = time.Minute
)

// platform is processes that share a table.
type platform struct {
	t       *testing.T
	rng     *rand.Rand
	nodes   []*corev1.Node
	log     *podLog
	servers [processes]*local.Server
	// alive are the clients of those that run.
	alive [processes]atomic.Pointer[kubernetes.Clientset]
	kills int
	// decided and stale count the plans of placement that were committed, and that were thrown away, as far as processes
	// could be asked before they were killed.
	decided, stale int
}

func startPlatform(t *testing.T, seed uint64) *platform {
	t.Helper()
	service := azurite.Start(t)
	p := &platform{t: t, rng: rand.New(rand.NewPCG(seed, 1<<32))}
	name := azurite.TableName(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", service.ConnectionString())
	t.Setenv(localhost.SealKeyEnv, base64.StdEncoding.EncodeToString(make([]byte, cluster.SealBytes)))
	store, err := azure.Open(t.Context(), azure.Options{ConnectionString: service.ConnectionString(), Table: name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.servers {
		p.servers[i] = local.Start(t, local.Options{Dir: t.TempDir(), Arguments: []string{"--store=azure", "--azure-table=" + name}})
		p.alive[i].Store(p.servers[i].Client)
	}
	p.furnish()
	if p.log, err = openLog(t.Context(), store, p.nodes); err != nil {
		t.Fatal(err)
	}
	return p
}

// furnish makes the nodes, and the namespaces with what they are born with.
func (p *platform) furnish() {
	c := p.servers[0].Client.CoreV1()
	for _, n := range fixedNodes() {
		made, err := c.Nodes().Create(p.t.Context(), n, metav1.CreateOptions{})
		if err != nil {
			p.t.Fatal(err)
		}
		p.nodes = append(p.nodes, made)
	}
	if _, err := p.servers[0].Client.SchedulingV1().PriorityClasses().Create(p.t.Context(), urgentClass(), metav1.CreateOptions{}); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if _, err := c.Namespaces().Create(p.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			p.t.Fatal(err)
		}
		local.Eventually(p.t, birthTime, "the account that pods run as", func() error {
			_, err := c.ServiceAccounts(name).Get(p.t.Context(), "default", metav1.GetOptions{})
			return err
		})
	}
}

// choose returns a client of a process that lives.
func (p *platform) choose(rng *rand.Rand) *kubernetes.Clientset {
	for _, i := range rng.Perm(processes) {
		if c := p.alive[i].Load(); c != nil {
			return c
		}
	}
	return nil
}

// disturb kills processes until the context ends, and starts them again. Mostly it is one, and at least one is left.
func (p *platform) disturb(ctx context.Context, every time.Duration) {
	for wait(ctx, every/2+time.Duration(p.rng.Int64N(int64(every)))) {
		victims := p.rng.Perm(processes)[:[]int{1, 1, 1, 2, 2, 3}[p.rng.IntN(6)]]
		for _, i := range victims {
			p.count(i)
			p.alive[i].Store(nil)
			p.servers[i].Kill(p.t)
			p.kills++
		}
		wait(ctx, time.Duration(p.rng.Int64N(int64(mostDown))))
		for _, i := range victims {
			p.servers[i] = p.servers[i].Again(p.t)
			p.alive[i].Store(p.servers[i].Client)
		}
	}
}

// wait lets time pass, and reports whether the context has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

var plansOfPlacement = regexp.MustCompile(`(?m)^zeroplane_plans_total\{result="(committed|stale)",user="system:kube-scheduler"\} (\d+)$`)

// count adds what a process says of its plans.
func (p *platform) count(i int) {
	ctx, cancel := context.WithTimeout(p.t.Context(), requestTimeout)
	defer cancel()
	text, err := p.servers[i].Client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		p.t.Logf("the metrics of process %d: %v", i, err)
		return
	}
	for _, m := range plansOfPlacement.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			p.t.Error(err)
		}
		if m[1] == "stale" {
			p.stale += n
		} else {
			p.decided += n
		}
	}
}

// work has pods come and go, and processes die, for a while, or until a rule is seen to be broken.
func (p *platform) work(l *load, length, killEvery time.Duration) {
	ctx, cancel := context.WithTimeout(p.t.Context(), length)
	defer cancel()
	loaded, followed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(loaded)
		l.run(ctx)
	}()
	go func() { followed <- p.follow(ctx, cancel) }()
	p.disturb(ctx, killEvery)
	<-loaded
	if err := <-followed; err != nil {
		p.t.Error(err)
	}
}

// follow checks the log as it grows, and stops everything when a rule is broken.
func (p *platform) follow(ctx context.Context, stop func()) error {
	for wait(ctx, pollEvery) {
		if err := p.log.poll(p.t.Context()); err != nil {
			stop()
			return err
		}
		if len(p.log.history.Violations) > 0 {
			stop()
		}
	}
	return nil
}

// settle waits until nobody would place another pod.
func (p *platform) settle() {
	local.Eventually(p.t, settleTime, "every pod that a node can take to have one", func() error {
		if err := p.log.poll(p.t.Context()); err != nil {
			return err
		}
		r := scheduling.Place(scheduling.Input{Nodes: p.nodes, Pods: p.log.history.Pods()})
		if n := len(r.Placements); n > 0 {
			return fmt.Errorf("%d pods could be placed, as %s/%s on %s", n, r.Placements[0].Pod.Namespace, r.Placements[0].Pod.Name, r.Placements[0].Node)
		}
		return nil
	})
}

func (p *platform) waiting() int {
	n := 0
	for _, pod := range p.log.history.Pods() {
		if pod.Spec.NodeName == "" {
			n++
		}
	}
	return n
}

func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64() >> 1
	if text := os.Getenv("ZEROPLANE_SCHEDULERS_SEED"); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ZEROPLANE_SCHEDULERS_SEED: %v", err)
		}
		s = given
	}
	fmt.Printf("figure: ZEROPLANE_SCHEDULERS_SEED=%d\n", s)
	return s
}

func length(t *testing.T) time.Duration {
	t.Helper()
	run := normalLength
	if os.Getenv("ZEROPLANE_LONG") != "" {
		run = longLength
	}
	if text := os.Getenv("ZEROPLANE_SCHEDULERS_TIME"); text != "" {
		given, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("ZEROPLANE_SCHEDULERS_TIME: %v", err)
		}
		run = given
	}
	return run
}

func TestFourSchedulersBreakNoRule(t *testing.T) {
	n := seed(t)
	p := startPlatform(t, n)
	l := &load{choose: p.choose, seed: n, clients: mostClients, turns: []turn{mingled, solitary}}
	p.work(l, length(t), killEvery)
	began := time.Now()
	p.settle()
	settled := time.Since(began)
	for i := range p.servers {
		p.count(i)
	}
	h := p.log.history
	fmt.Printf("figure: %d violations at %d revisions of the log of pods; %d pods bound, %d waiting at the end\n",
		len(h.Violations), h.Revisions, h.Bound, p.waiting())
	fmt.Printf("figure: %d kills with SIGKILL; all settled %.1f s after the last\n", p.kills, settled.Seconds())
	fmt.Printf("figure: %d plans committed, %d thrown away since what they were decided on had changed\n", p.decided, p.stale)
	fmt.Printf("figure: a node without CPU left at %d revisions, a constraint at its largest skew at %d, a term that rules nodes out at %d\n",
		h.Full, h.Edge, h.Refused)
	fmt.Printf("figure: requests: %s\n", l)
	requireNone(t, h)
	if len(l.wrong) > 0 {
		t.Errorf("%d requests ended as they should not: %v", len(l.wrong), l.wrong[0])
	}
	if h.Bound < 100 || h.Full == 0 || h.Edge == 0 || h.Refused == 0 || p.kills == 0 || p.stale == 0 {
		t.Error("the processes did next to nothing that could have gone wrong")
	}
}

func requireNone(t *testing.T, h *rules.History) {
	t.Helper()
	const mostShown = 10
	for _, v := range h.Violations[:min(len(h.Violations), mostShown)] {
		t.Error(errors.New(v.String()))
	}
}
