package linearizable_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
	"github.com/zeroplane/zeroplane/tests/linearizable/history"
	"github.com/zeroplane/zeroplane/tests/linearizable/workload"
	"github.com/zeroplane/zeroplane/tests/local"
	"github.com/zeroplane/zeroplane/tests/upstream/process"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	processes = 3
	clients   = 15

	normalLength = time.Minute
	longLength   = 30 * time.Minute
	// calmLength is the phase without faults, in which delays are taken.
	calmLength = 20 * time.Second

	// killEvery is the pause between two kills on average. Of those that run at least one is left.
	killEvery = time.Second
	// startTimeout bounds the start of a process, which faults may have fail a few times.
	startTimeout = 90 * time.Second
	stopGrace    = 15 * time.Second
	// checkTime bounds porcupine.
	normalCheckTime = time.Minute
	longCheckTime   = 20 * time.Minute
)

// faults of every request to the table, in a run that is not calm.
var faults = limits.Faults{
	ShortPages: 0.05, EmptyPages: 0.02, Busy: 0.01, Unconnected: 0.005,
	FailedBefore: 0.005, FailedAfter: 0.01, ResetBefore: 0.005, LostReplies: 0.01,
}

// rowsPerSecond of a partition through one process's proxy: little enough to be met.
const rowsPerSecond = 600

// platform is processes that share a table, each behind a proxy of its own.
type platform struct {
	t       *testing.T
	store   table.Store
	table   string
	rng     *rand.Rand
	servers [processes]*server
	kills   int
	// failedStarts are those that a fault of the table ended.
	failedStarts atomic.Int64
}

type server struct {
	dir       string
	transport *limits.Transport
	endpoint  string
	process   *process.Process
	client    atomic.Pointer[client]
	// up is set while the process runs and was seen to answer.
	up atomic.Bool
}

var _ workload.Site = (*platform)(nil)

func startPlatform(t *testing.T, seed uint64) *platform {
	t.Helper()
	service := azurite.Start(t)
	p := &platform{t: t, table: azurite.TableName(t), rng: rand.New(rand.NewPCG(seed, 7))}
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "")
	t.Setenv("AZURE_STORAGE_ACCOUNT", azurite.Account)
	t.Setenv("AZURE_STORAGE_KEY", azurite.Key)
	t.Setenv(localhost.SealKeyEnv, base64.StdEncoding.EncodeToString(make([]byte, cluster.SealBytes)))
	store, err := azure.Open(t.Context(), azure.Options{
		Endpoint: service.Endpoint, Table: p.table, AccountName: azurite.Account, AccountKey: azurite.Key,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.store = store
	endpoint, err := url.Parse(service.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.servers {
		s := &server{dir: t.TempDir()}
		s.transport = limits.New(&http.Transport{MaxIdleConnsPerHost: clients * 4}, limits.Options{Seed: seed + uint64(i), RowsPerSecond: rowsPerSecond})
		proxy := httptest.NewServer(s.transport.Proxy(endpoint))
		t.Cleanup(proxy.Close)
		s.endpoint = proxy.URL + endpoint.Path
		p.servers[i] = s
		p.start(s)
		if !s.up.Load() {
			t.FailNow()
		}
	}
	t.Cleanup(p.stop)
	return p
}

// start starts a process and returns when it answers. One that a fault of the table ends is started again.
func (p *platform) start(s *server) {
	binary, err := target.Build(context.Background())
	if err != nil {
		p.t.Error(err)
		return
	}
	kubeconfig := filepath.Join(s.dir, "kubeconfig")
	arguments := []string{
		"serve", "--listen=127.0.0.1:0", "--data=" + local.DataDir(s.dir), "--kubeconfig=" + kubeconfig,
		"--store=azure", "--azure-endpoint=" + s.endpoint, "--azure-table=" + p.table,
	}
	for deadline := time.Now().Add(startTimeout); ; p.failedStarts.Add(1) {
		if err := os.Remove(kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.t.Error(err)
			return
		}
		if s.process, err = process.Start(binary, arguments, filepath.Join(s.dir, "zeroplane.log")); err != nil {
			p.t.Error(err)
			return
		}
		for s.process.Failure() == nil {
			if c := ready(kubeconfig); c != nil {
				s.client.Store(c)
				s.up.Store(true)
				return
			}
			if time.Now().After(deadline) {
				p.t.Errorf("a process is not ready after %s", startTimeout)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			p.t.Errorf("a process does not start: %v", s.process.Failure())
			return
		}
	}
}

// ready returns a client of a process that answers, nil if it does not yet.
func ready(kubeconfig string) *client {
	c, err := newClient(kubeconfig)
	if err != nil {
		return nil
	}
	resp, err := c.http.Get(c.base + "/readyz")
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	return c
}

// stop ends the processes.
func (p *platform) stop() {
	for _, s := range p.servers {
		if err := s.process.Stop(stopGrace); err != nil {
			p.t.Error(err)
		}
	}
}

// Instance implements workload.Site.
func (p *platform) Instance(i int) workload.Instance { return p.servers[i].client.Load() }

// Disturb implements workload.Site.
func (p *platform) Disturb(ctx context.Context) {
	for _, s := range p.servers {
		s.transport.SetFaults(faults)
	}
	var starting sync.WaitGroup
	defer starting.Wait()
	for {
		pause := time.NewTimer(killEvery/2 + time.Duration(p.rng.Int64N(int64(killEvery))))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		up := slices.DeleteFunc(slices.Clone(p.servers[:]), func(s *server) bool { return !s.up.Load() })
		if len(up) < 2 {
			continue
		}
		s := up[p.rng.IntN(len(up))]
		s.up.Store(false)
		if err := s.process.Kill(); err != nil {
			p.t.Error(err)
			return
		}
		p.kills++
		starting.Go(func() { p.start(s) })
	}
}

// Calm implements workload.Site.
func (p *platform) Calm() {
	for _, s := range p.servers {
		s.transport.SetFaults(limits.Faults{})
	}
	// What a process sent before it was killed has arrived by then.
	time.Sleep(time.Second)
}

// Compact implements workload.Site: the processes do so themselves.
func (p *platform) Compact(context.Context, int, uint64) {}

// targets are the kinds as a workload knows them.
func (p *platform) targets() []workload.Target {
	info, err := (&cluster.Registry{Store: p.store}).Get(p.t.Context(), cluster.Default)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []workload.Target
	for _, k := range kinds {
		group := "core"
		if k.apiVersion != "v1" {
			group = filepath.Dir(k.apiVersion)
		}
		out = append(out, workload.Target{
			Partition: kubestorage.Partition(info.Partition(), k.group), Prefix: group + "/" + k.resource + "/",
		})
	}
	return out
}

// namespaces makes the namespaces that clients work in.
func (p *platform) namespaces() []string {
	var out []string
	for i := range 3 {
		name := "lin-" + strconv.Itoa(i)
		body := &object{APIVersion: "v1", Kind: "Namespace", Metadata: meta{Name: name}}
		if _, err := p.servers[0].client.Load().ask(p.t.Context(), http.MethodPost, "/api/v1/namespaces", "application/json", body); err != nil {
			p.t.Fatal(err)
		}
		out = append(out, name)
	}
	return out
}

func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64() >> 1
	if text := os.Getenv("ZEROPLANE_LINEARIZABLE_SEED"); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ZEROPLANE_LINEARIZABLE_SEED: %v", err)
		}
		s = given
	}
	fmt.Printf("figure: ZEROPLANE_LINEARIZABLE_SEED=%d\n", s)
	return s
}

// length of the run, and how long porcupine may take.
func length(t *testing.T) (run, check time.Duration) {
	t.Helper()
	run, check = normalLength, normalCheckTime
	if os.Getenv("ZEROPLANE_LONG") != "" {
		run, check = longLength, longCheckTime
	}
	if text := os.Getenv("ZEROPLANE_LINEARIZABLE_TIME"); text != "" {
		given, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("ZEROPLANE_LINEARIZABLE_TIME: %v", err)
		}
		run = given
	}
	return run, check
}

func TestThreeProcessesAreOneStore(t *testing.T) {
	n := seed(t)
	run, check := length(t)
	p := startPlatform(t, n)
	o := workload.Options{
		Seed: n, Instances: processes, Clients: clients, Length: run, Epoch: 5 * time.Second, Pause: 10 * time.Millisecond,
		Timeout: 10 * time.Second, Settle: 30 * time.Second, Targets: p.targets(), Namespaces: p.namespaces(),
		Store: p.store, Poll: 200 * time.Millisecond,
	}
	h, err := workload.Run(t.Context(), p, o)
	if err != nil {
		t.Error(err)
	}
	began := time.Now()
	r := h.Check(check)
	p.print(r, h, time.Since(began))
	if len(r.Violations) > 0 {
		writeViolations(t, h, r)
	}
	if r.Operations < 100 || r.Events < 100 || r.Bookmarks == 0 || r.Initials == 0 || p.kills == 0 {
		t.Error("the workload did next to nothing")
	}
	if err == nil {
		p.measureDelay(o.Targets[0], o.Namespaces[0])
	}
}

func (p *platform) print(r *history.Report, h *history.History, took time.Duration) {
	fmt.Printf("figure: %d violations in %d operations (%d ambiguous, of which %d were carried out) on %d changes in %d pieces, checked in %.1f s\n",
		len(r.Violations), r.Operations, r.Ambiguous, r.Applied, r.Changes, r.Pieces, took.Seconds())
	fmt.Printf("figure: %d watch events, %d bookmarks and %d initial states in %d connections of %d watches\n", r.Events, r.Bookmarks, r.Initials, r.Segments, len(h.Watches))
	fmt.Printf("figure: outcomes %v\n", outcomes(h))
	fmt.Printf("figure: %d kills with SIGKILL, %d starts that a fault of the table ended\n", p.kills, p.failedStarts.Load())
	for i, s := range p.servers {
		fmt.Printf("figure: faults for process %d: %+v\n", i, s.transport.Counts())
	}
	fmt.Printf("figure: from a writer's reply to a watch at another process, with faults: %s\n", spread(delays(h)))
}

func outcomes(h *history.History) map[string]int {
	out := map[string]int{}
	for _, o := range h.Operations {
		out[string(o.Verb)+" "+string(o.Outcome)]++
	}
	return out
}

// delays are how long after a writer's reply watches at other processes, that were open by then, heard of it.
func delays(h *history.History) []time.Duration {
	replied := map[string]*history.Operation{}
	for _, o := range h.Operations {
		if o.Outcome == history.OK && o.Token != "" {
			replied[o.Token] = o
		}
	}
	var out []time.Duration
	for _, w := range h.Watches {
		for _, s := range w.Segments {
			for _, d := range s.Deliveries {
				o := replied[d.Token]
				if o == nil || d.Type == history.Removed || o.Instance == s.Instance || o.Invoked < s.Opened {
					continue
				}
				out = append(out, time.Duration(d.At-o.Returned))
			}
		}
	}
	return out
}

func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "nothing came"
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("%d events, p50 %s, p99 %s, most %s", len(all), at(0.5), at(0.99), at(1))
}

func writeViolations(t *testing.T, h *history.History, r *history.Report) {
	t.Helper()
	const mostShown = 10
	dir, err := os.MkdirTemp("", "zeroplane-linearizable-")
	if err == nil {
		err = h.Write(dir, r)
	}
	for _, v := range r.Violations[:min(len(r.Violations), mostShown)] {
		fmt.Println("VIOLATION", v)
	}
	t.Errorf("%d violations; the history and porcupine's pictures are in %s (%v)", len(r.Violations), dir, err)
}

// measureDelay has one process write now and then, and another watch, without faults.
func (p *platform) measureDelay(to workload.Target, namespace string) {
	const writer, reader = 0, 1
	ctx, cancel := context.WithTimeout(p.t.Context(), calmLength+startTimeout)
	defer cancel()
	rec := history.NewRecorder()
	space := to.Prefix + namespace + "/calm-"
	now := &history.Operation{Verb: history.List, Space: space}
	if p.Instance(reader).Do(ctx, now); now.Outcome != history.OK {
		p.t.Errorf("without faults: %v: %s", now, now.Error)
	}
	w := &history.Watch{Name: "calm"}
	request := history.Request{Prefix: to.Prefix + namespace + "/", From: now.Revision}
	seg := w.Begin(request, reader, rec.Now())
	watching, endWatch := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := p.Instance(reader).Watch(watching, request, func(d history.Delivery) {
			d.At = rec.Now()
			w.Add(seg, d)
		})
		w.End(seg, false, err)
	}()
	time.Sleep(time.Second) // the watch begins
	before, start := p.servers[reader].transport.Counts().Requests, time.Now()
	h := &history.History{Watches: []*history.Watch{w}}
	for n := int64(0); time.Since(start) < calmLength; n++ {
		o := &history.Operation{Verb: history.Create, Instance: writer, Key: fmt.Sprintf("%s%d", space, n), Token: history.Token(n)}
		o.Invoked = rec.Now()
		p.Instance(writer).Do(ctx, o)
		if o.Returned = rec.Now(); o.Outcome != history.OK {
			p.t.Errorf("without faults: %v: %s", o, o.Error)
		}
		h.Operations = append(h.Operations, o)
		// From one write after another to pauses in which the watching process looks seldom.
		time.Sleep(time.Duration(p.rng.Int64N(int64([]time.Duration{50 * time.Millisecond, 2 * time.Second}[p.rng.IntN(2)]))))
	}
	queries := float64(p.servers[reader].transport.Counts().Requests-before) / time.Since(start).Minutes()
	time.Sleep(2 * time.Second) // what is under way comes
	endWatch()
	<-ended
	all := delays(h)
	fmt.Printf("figure: from a writer's reply to a watch at another process, in calm: %s of %d writes; %.0f queries a minute of the watching process\n",
		spread(all), len(h.Operations), queries)
	if len(all) < len(h.Operations) {
		p.t.Errorf("%d of %d writes came", len(all), len(h.Operations))
	}
}
