package localhost

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
)

// rung are bells that reach 15 minutes, and only note what is sent.
type rung struct {
	mu sync.Mutex
	at []time.Time
}

func (r *rung) Reach() time.Duration { return 15 * time.Minute }

func (r *rung) Send(_ context.Context, _ cloudevents.Event, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, at)
	return nil
}

// take returns the times that were rung for, and forgets them.
func (r *rung) take() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.at
	r.at = nil
	return at
}

// frozen opens a host whose process is frozen between two calls.
func frozen(t *testing.T, store table.Store) (*Host, *rung) {
	t.Helper()
	t.Setenv(SealKeyEnv, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	bells := &rung{}
	h, err := OpenBehind(Options{
		Store: Store{Store: store, Close: func() error { return nil }, Shared: true},
		Front: Front{Address: "app.example.com", Freezes: true}, Bells: bells, MaxAwake: 2,
	})
	if err == nil {
		_, err = h.Kubeconfig(t.Context()) // the default cluster is there
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, bells
}

// answered is an answer that notes how many bells were sent when it began.
type answered struct {
	*httptest.ResponseRecorder
	bells *rung
	began *int
}

func (a answered) WriteHeader(code int) {
	if *a.began < 0 {
		a.bells.mu.Lock()
		*a.began = len(a.bells.at)
		a.bells.mu.Unlock()
	}
	a.ResponseRecorder.WriteHeader(code)
}

// ask sends a request as the admin, and returns the answer's code, and the bells that had been sent when it began.
func ask(t *testing.T, h *Host, bells *rung, method, path, body string, contentType ...string) (code, before int) {
	t.Helper()
	raw, err := h.Kubeconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(method, "https://app.example.com"+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+config.BearerToken)
	req.Header.Set("Content-Type", append(contentType, "application/json")[0])
	before = -1
	w := answered{httptest.NewRecorder(), bells, &before}
	h.Handler().ServeHTTP(w, req)
	if err := h.Rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w.Code, before
}

const (
	namespaces = "/api/v1/namespaces"
	newSpace   = `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"new"}}`
	// account is one that a function makes for a namespace.
	account = namespaces + "/new/serviceaccounts/default"
)

func timer() cloudevents.Event {
	return events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event()
}

func TestWhereTheProcessIsFrozenARequestsWorkIsLeftToABellThatIsSentBeforeTheAnswer(t *testing.T) {
	h, bells := frozen(t, memorytable.New())
	bells.take()
	if code, before := ask(t, h, bells, http.MethodPost, namespaces, newSpace); code != http.StatusCreated || before != 1 {
		t.Errorf("%d, begun after %d bells", code, before)
	}
	if sent := bells.take(); len(sent) != 1 {
		t.Errorf("%d bells were sent for one write", len(sent))
	}
	if code, _ := ask(t, h, bells, http.MethodGet, account, ""); code != http.StatusNotFound {
		t.Errorf("without a call for it, its work was done: %d", code)
	}
	if sent := bells.take(); len(sent) > 0 {
		t.Error("a request that reads sent a bell")
	}
	if err := h.Hear(t.Context(), timer()); err != nil {
		t.Fatal(err)
	}
	if code, _ := ask(t, h, bells, http.MethodGet, account, ""); code != http.StatusOK {
		t.Errorf("after the bell was heard: %d", code)
	}
}

func TestWhereTheProcessIsFrozenNothingIsWrittenBetweenTwoCalls(t *testing.T) {
	store := contract.NewCounting(memorytable.New())
	h, bells := frozen(t, store)
	ask(t, h, bells, http.MethodPost, namespaces, newSpace)
	if err := h.Hear(t.Context(), timer()); err != nil {
		t.Fatal(err)
	}
	before := store.Commits.Load()
	time.Sleep(600 * time.Millisecond) // longer than functions wait before they settle by themselves
	if n := store.Commits.Load() - before; n > 0 {
		t.Errorf("%d transactions", n)
	}
	if err := h.Hear(t.Context(), timer()); err != nil {
		t.Fatal(err)
	}
	if n := store.Commits.Load() - before; n > 0 {
		t.Errorf("a bell for nothing made %d transactions", n)
	}
}

// asked returns how often a function is to be called for samples.
func asked(t *testing.T, h *Host) (n int) {
	t.Helper()
	info, err := h.maker.Registry.Get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	err = table.All(t.Context(), h.store, kubestorage.Partition(info.Partition(), "cursors"), table.Query{From: "d-", To: "d."}, func(row table.Row) bool {
		if strings.Contains(string(row.Value), `"samples"`) {
			n++
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhereTheProcessIsFrozenWhatSamplesAskForIsLeftToABellEachTime(t *testing.T) {
	store := memorytable.New()
	h, bells := frozen(t, store)
	other, _ := frozen(t, store)
	const autoscaler = `{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"web"},"spec":{"maxReplicas":5,
		"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"},
		"metrics":[{"type":"External","external":{"metric":{"name":"queue"},"target":{"type":"Value","value":"3"}}}]}}`
	if code, _ := ask(t, h, bells, http.MethodPost, "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", autoscaler); code != http.StatusCreated {
		t.Fatal(code)
	}
	a, err := h.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	a.leave()
	for i := range 2 {
		if err := other.Hear(t.Context(), timer()); err != nil || asked(t, h) != 0 {
			t.Fatalf("sample %d, before: asked for %d times, %v", i, asked(t, h), err)
		}
		bells.take()
		now := time.Now().UTC().Format(time.RFC3339Nano)
		sample := fmt.Sprintf(`{"specversion":"1.0","type":%q,"source":"/clusters/default","id":"%d","subject":"queues","partitionkey":"default.queues",
			"time":%q,"datacontenttype":"application/json","data":{"external":[{"namespace":"default","name":"queue","time":%q,"value":"3"}]}}`,
			events.SamplesType, i, now, now)
		if code, before := ask(t, h, bells, http.MethodPost, eventsPath, sample, "application/cloudevents+json"); code != http.StatusAccepted || before != 1 {
			t.Errorf("sample %d: %d after %d bells", i, code, before)
		}
		if a.functions.Busy() || asked(t, h) != 1 {
			t.Errorf("sample %d: a function runs: %t; asked for %d times", i, a.functions.Busy(), asked(t, h))
		}
	}
}

func TestWorkThatIsNotDoneInTimeIsStoppedAndItsRowStays(t *testing.T) {
	store := memorytable.New()
	h, bells := frozen(t, store)
	ask(t, h, bells, http.MethodPost, namespaces, newSpace)
	late, cancel := context.WithCancel(t.Context())
	cancel()
	a, err := h.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.work(late, a); err == nil {
		t.Fatal("work is done that had no time")
	}
	if h.clusters.isAwake(cluster.Default) || a.functions.Busy() {
		t.Error("work is under way")
	}
	if keys := marksOf(t, store, h.instance); len(keys) != 1 {
		t.Errorf("%d rows say so", len(keys))
	}
	if err := h.Hear(t.Context(), timer()); err != nil {
		t.Fatal(err)
	}
	if code, _ := ask(t, h, bells, http.MethodGet, account, ""); code != http.StatusOK {
		t.Errorf("another call has not done it: %d", code)
	}
}

// TestAnInstanceThatWasFrozenForAnHourMarksItsClusterAgain has another instance take over a row and do the work, and the
// first go on then, as it was.
func TestAnInstanceThatWasFrozenForAnHourMarksItsClusterAgain(t *testing.T) {
	store := memorytable.New()
	first, bells := frozen(t, store)
	second, _ := frozen(t, store)
	ask(t, first, bells, http.MethodPost, namespaces, newSpace)
	if err := second.Attend(t.Context(), time.Now().Add(takeOverAfter)); err != nil {
		t.Fatal(err)
	}
	if marks, err := dirtyMarks(t.Context(), store); err != nil || slices.ContainsFunc(marks, func(m dirtyMark) bool { return m.wake.IsZero() }) {
		t.Fatalf("%v are left: %v", marks, err)
	}
	if code, _ := ask(t, first, bells, http.MethodGet, account, ""); code != http.StatusOK {
		t.Fatalf("the frozen instance does not see what was done: %d", code)
	}
	a, err := first.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	a.dirty.written = a.dirty.written.Add(-time.Hour)
	a.leave()
	bells.take()
	if code, before := ask(t, first, bells, http.MethodDelete, namespaces+"/new", ""); code != http.StatusOK || before != 1 {
		t.Errorf("%d after %d bells", code, before)
	}
	if keys := marksOf(t, store, first.instance); len(keys) != 1 {
		t.Errorf("%d rows say that there is work", len(keys))
	}
	if err := second.Hear(t.Context(), timer()); err != nil {
		t.Fatal(err)
	}
	if code, _ := ask(t, first, bells, http.MethodGet, namespaces+"/new", ""); code != http.StatusNotFound {
		t.Errorf("the namespace is not gone: %d", code)
	}
}

func TestTheFunctionsLookAtANewClusterThoughNobodyWrites(t *testing.T) {
	store := memorytable.New()
	h, bells := frozen(t, store)
	if sent := bells.take(); len(sent) != 1 {
		t.Errorf("%d bells for a new cluster", len(sent))
	}
	if err := h.Attend(t.Context(), time.Now().Add(takeOverAfter)); err != nil {
		t.Fatal(err)
	}
	if code, _ := ask(t, h, bells, http.MethodGet, namespaces+"/default/serviceaccounts/default", ""); code != http.StatusOK {
		t.Errorf("%d", code)
	}
	if marks := marksOf(t, store, born); len(marks) > 0 {
		t.Errorf("%v are left", marks)
	}
}

func TestABellForWhenSomethingIsDueIsSentOnceUnlessThatIsSoon(t *testing.T) {
	a, now := &awake{}, time.Now()
	for i, tt := range []struct {
		due  time.Duration
		want bool
	}{{time.Minute, true}, {time.Minute, false}, {time.Hour, true}, {time.Minute, true}, {time.Second, true}, {time.Second, true}} {
		if got := a.unrung(now.Add(tt.due)); got != tt.want {
			t.Errorf("%d, due in %s: %t", i, tt.due, got)
		}
	}
	if a.unrung(time.Time{}) {
		t.Error("a bell for nothing")
	}
}

func TestTheTimerRingsForWhatBellsDoNotReach(t *testing.T) {
	store := memorytable.New()
	h, bells := frozen(t, store)
	bells.take()
	now := time.Now()
	for instance, wake := range map[string]time.Duration{"near": 10 * time.Minute, "far": 3 * time.Hour, "as far": 3 * time.Hour} {
		d := &dirty{store: store, cluster: cluster.Default, instance: instance}
		if ok := clean(t, d, now.Add(wake), true); !ok {
			t.Fatal("no row")
		}
	}
	h.ring(cluster.Default, now.Add(3*time.Hour))
	if sent := bells.take(); len(sent) > 0 {
		t.Errorf("rung for %v, which is out of reach", sent)
	}
	marks, err := dirtyMarks(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Duration]int{5 * time.Minute: 0, time.Hour: 0, 175 * time.Minute: 1, 181 * time.Minute: 0} {
		h.ringSoon(marks, now.Add(at))
		if sent := bells.take(); len(sent) != want {
			t.Errorf("after %s it rang for %v", at, sent)
		}
	}
}
