package consumer

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// recording is a new cluster whose recorder writes to a real API, at a time that the test sets.
type recording struct {
	*recorder
	t      *testing.T
	client kubernetes.Interface
	time   time.Time
}

func newRecording(t *testing.T) *recording {
	t.Helper()
	born := clustertest.New(t)
	logs := born.Logs(tablelog.Options{SoleWriter: true})
	server, err := born.Server(logs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(server.ClientConfig(apiserver.System, "test"))
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{t: t, client: client, time: time.Now().Truncate(time.Second)}
	c := New(Options{
		Name: born.Info.Name, Partition: born.Info.Partition(), Store: born.Store, Logs: logs, API: server,
		Identity: func(string) user.Info { return apiserver.System }, Now: func() time.Time { return r.time },
	})
	t.Cleanup(c.Stop)
	r.recorder = c.recorder
	return r
}

// give writes notices in one batch.
func (r *recording) give(notices ...plan.Notice) {
	batch := make([]observed, len(notices))
	for i, n := range notices {
		batch[i] = observed{n, r.time}
	}
	r.write(r.t.Context(), batch)
}

// times records a notice n times, a second apart and each in its batch.
func (r *recording) times(n int, notice plan.Notice) {
	r.t.Helper()
	for range n {
		r.give(notice)
		r.time = r.time.Add(time.Second)
	}
}

// stored are the Events of the default namespace.
func (r *recording) stored() []corev1.Event {
	r.t.Helper()
	list, err := r.client.CoreV1().Events(metav1.NamespaceDefault).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return list.Items
}

// counts are how often the stored Events were observed, by message.
func (r *recording) counts() map[string]int32 {
	r.t.Helper()
	out := map[string]int32{}
	for _, ev := range r.stored() {
		count := ev.Count
		if ev.Series != nil {
			count = ev.Series.Count
		}
		if _, twice := out[ev.Message]; twice {
			r.t.Errorf("%q is in two events", ev.Message)
		}
		out[ev.Message] = count
	}
	return out
}

func (r *recording) forget() {
	r.t.Helper()
	if err := r.client.CoreV1().Events(metav1.NamespaceDefault).DeleteCollection(r.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func scaling(message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "Deployment", APIVersion: "apps/v1", Namespace: "default", Name: "web", UID: "uid-web"},
		Type:      corev1.EventTypeNormal, Reason: "ScalingReplicaSet", Message: message, Component: "deployment-controller",
	}
}

func failedScheduling(version string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "default", Name: "p", UID: "uid-p", ResourceVersion: version},
		Type:      corev1.EventTypeWarning, Reason: "FailedScheduling", Message: "no room at " + version,
		Action: "Scheduling", Component: "default-scheduler",
	}
}

func TestTheSameNoticeIsOneEventThatIsCounted(t *testing.T) {
	r := newRecording(t)
	began := r.time
	r.times(3, scaling("up"))
	r.give(scaling("up"), scaling("up")) // in one batch, too
	events := r.stored()
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	if ev := events[0]; ev.Count != 5 || !ev.FirstTimestamp.Time.Equal(began) || !ev.LastTimestamp.Time.Equal(began.Add(3*time.Second)) {
		t.Errorf("observed %d times from %v to %v", ev.Count, ev.FirstTimestamp, ev.LastTimestamp)
	}
}

func TestTheSameNoticeInOneBatchIsCreatedWithItsCount(t *testing.T) {
	r := newRecording(t)
	up, full := scaling("up"), failedScheduling("1")
	r.give(up, full, up, full, full, up, up)
	if diff := cmp.Diff(map[string]int32{"up": 4, full.Message: 3}, r.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// Upstream's aggregator combines from the tenth of one object and reason on.
func TestSimilarNoticesAreCombinedFromTheTenthOn(t *testing.T) {
	r := newRecording(t)
	want := map[string]int32{"(combined from similar events): to 12": 3}
	for i := range 12 {
		r.times(1, scaling(fmt.Sprintf("to %d", i+1)))
		if i < 9 {
			want[fmt.Sprintf("to %d", i+1)] = 1
		}
	}
	if diff := cmp.Diff(want, r.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestOneSourceIsLimitedForEachObject(t *testing.T) {
	r := newRecording(t)
	r.times(40, scaling("up"))
	other := scaling("up elsewhere")
	other.Regarding.Name, other.Regarding.UID = "db", "uid-db"
	r.times(1, other)
	if diff := cmp.Diff(map[string]int32{"up": 25, "up elsewhere": 1}, r.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	r.time = r.time.Add(5 * time.Minute)
	r.times(2, scaling("up"))
	if got := r.counts()["up"]; got != 41 {
		t.Errorf("five minutes later the event is counted to %d, want 41", got)
	}
}

func TestFailuresToScheduleAPodAsItIsAreASeries(t *testing.T) {
	r := newRecording(t)
	r.times(3, failedScheduling("1"))
	last := r.time.Add(-time.Second)
	events := r.stored()
	if len(events) != 1 || events[0].Series == nil {
		t.Fatalf("%+v", events)
	}
	if s := events[0].Series; s.Count != 3 || !s.LastObservedTime.Time.Equal(last) || !events[0].EventTime.Time.Equal(last.Add(-2*time.Second)) {
		t.Errorf("the series is %+v, from %v", s, events[0].EventTime)
	}
	r.times(1, failedScheduling("2")) // the pod has changed
	if diff := cmp.Diff(map[string]int32{"no room at 1": 3, "no room at 2": 0}, r.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestASeriesEndsSixMinutesAfterItsLast(t *testing.T) {
	r := newRecording(t)
	for range 3 {
		r.times(1, failedScheduling("1"))
		r.time = r.time.Add(seriesEnd - time.Second)
	}
	if got := r.counts(); !maps.Equal(got, map[string]int32{"no room at 1": 3}) {
		t.Errorf("counts: %v", got)
	}
	r.time = r.time.Add(time.Second)
	r.times(1, failedScheduling("1"))
	if n := len(r.stored()); n != 2 {
		t.Errorf("%d events, want the series and a new one", n)
	}
}

func TestAnEventThatIsGoneIsCreatedAgain(t *testing.T) {
	r := newRecording(t)
	batch := []plan.Notice{scaling("up"), scaling("down"), failedScheduling("1")}
	r.give(batch...)
	r.forget()
	r.give(append(batch, scaling("sideways"))...)
	if diff := cmp.Diff(map[string]int32{"up": 2, "down": 2, "no room at 1": 2, "sideways": 1}, r.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestARefusedEventDoesNotTakeOthersWithIt(t *testing.T) {
	r := newRecording(t)
	astray := scaling("astray")
	astray.Regarding.Namespace = "absent"
	r.give(astray, scaling("up"))
	if diff := cmp.Diff(map[string]int32{"up": 1}, r.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestARecorderIsIdleAfterItsNoticesAreWritten(t *testing.T) {
	r := newRecording(t)
	r.record([]plan.Notice{scaling("up"), scaling("up")})
	if !r.cluster.Busy() {
		t.Error("nobody will write")
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for r.cluster.Busy() && ctx.Err() == nil {
		time.Sleep(recordDelay / 10)
	}
	if got := r.counts(); !maps.Equal(got, map[string]int32{"up": 2}) || r.cluster.Busy() || r.running {
		t.Errorf("counts: %v", got)
	}
}

// settled waits until nothing runs.
func (r *recording) settled() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), waitLimit)
	defer cancel()
	if err := r.cluster.rest(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func TestNoticesGiveWayToAFunctionThatRuns(t *testing.T) {
	r := newRecording(t)
	if !r.cluster.enter() {
		t.Fatal("the cluster has stopped")
	}
	began := r.time
	r.record([]plan.Notice{scaling("up")})
	time.Sleep(2 * recordDelay) // for long enough that it would be written
	if got := r.counts(); len(got) > 0 {
		t.Errorf("written beside a function: %v", got)
	}
	r.time = began.Add(time.Second)
	r.cluster.leave()
	r.settled()
	events := r.stored()
	if len(events) != 1 || !events[0].FirstTimestamp.Time.Equal(began) {
		t.Errorf("want one event of %v: %v", began, events)
	}
}

func TestNoticesDoNotGiveWayForever(t *testing.T) {
	r := newRecording(t)
	if !r.cluster.enter() {
		t.Fatal("the cluster has stopped")
	}
	defer r.cluster.leave()
	r.queue = append(r.queue, observed{scaling("up"), r.time.Add(-maxRecordDelay)})
	r.record([]plan.Notice{scaling("up")})
	deadline := time.Now().Add(waitLimit)
	for len(r.stored()) == 0 && time.Now().Before(deadline) {
		time.Sleep(recordDelay / 10)
	}
	if got := r.counts(); !maps.Equal(got, map[string]int32{"up": 2}) {
		t.Errorf("counts: %v", got)
	}
}
