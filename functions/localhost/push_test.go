package localhost

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	componentmetrics "k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
)

// topic keeps what is published.
type topic struct {
	mu   sync.Mutex
	list []events.Message
	// batches are when they came.
	batches []time.Time
	// fail is what publishing fails with.
	fail error
}

func (p *topic) Publish(_ context.Context, list []cloudevents.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, time.Now())
	for _, e := range list {
		m, err := events.Parse(e)
		if err != nil {
			return err
		}
		p.list = append(p.list, m)
	}
	return p.fail
}

func (p *topic) published() []events.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

// heard is how many pushes had each outcome.
func heard(t *testing.T) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, outcome := range []string{ownEcho, lookedAt, notWatched, notAwake, takenOn} {
		v, err := testutil.GetCounterMetricValue(componentmetrics.CounterMetric(pushesHeard.WithLabelValues(outcome)))
		if err != nil {
			t.Fatal(err)
		}
		out[outcome] = v
	}
	return out
}

// sinceHeard is what came to it since, without what did not change.
func sinceHeard(t *testing.T, before map[string]float64) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for outcome, v := range heard(t) {
		if v -= before[outcome]; v > 0 {
			out[outcome] = v
		}
	}
	return out
}

func TestOfTheBellsOfAClusterOneIsPushed(t *testing.T) {
	change := func(group string, rev uint64) events.Changed {
		return events.Changed{Cluster: "c", Group: group, Revision: rev, Instance: "i"}
	}
	left := events.Timer{Cluster: "c", Time: time.Unix(1, 0)}
	for name, tt := range map[string]struct{ older, newer, want events.Message }{
		"the newer of one log":       {change("pods", 1), change("pods", 2), change("pods", 2)},
		"though it came first":       {change("pods", 2), change("pods", 1), change("pods", 2)},
		"of two logs none is named":  {change("pods", 1), change("nodes", 1), events.Timer{Cluster: "c", Instance: "i"}},
		"of three neither":           {events.Timer{Cluster: "c", Instance: "i"}, change("nodes", 1), events.Timer{Cluster: "c", Instance: "i"}},
		"work that is left stays so": {left, change("pods", 1), left},
		"whenever it was left":       {change("pods", 1), left, left},
	} {
		got := mergeBells(tt.older, tt.newer)
		if timer, ok := got.(events.Timer); ok && timer.Instance != "" {
			timer.Time = time.Time{}
			got = timer
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestABurstOfCommitsIsPushedAFewTimes also sees that clients do not notice a topic that cannot be reached.
func TestABurstOfCommitsIsPushedAFewTimes(t *testing.T) {
	for name, fail := range map[string]error{"a topic": nil, "a topic that is down": fmt.Errorf("down")} {
		t.Run(name, func(t *testing.T) {
			pushes, stream := &topic{fail: fail}, &topic{fail: fail}
			h := behindWith(t, memorytable.New(), Options{Pushes: pushes, Stream: stream})
			a, c := inside(t, h)
			began := time.Now()
			for n := range 50 {
				m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("m", n)}}
				if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * pushWindow) // what waits for its window goes
			quiet := len(pushes.published())
			time.Sleep(2 * streamWindow)
			if n := len(pushes.published()) - quiet; n > 0 && fail == nil {
				t.Errorf("%d bells were pushed while nothing happened", n)
			}
			h.pushes.Close()
			h.stream.Close()
			last := time.Since(began)
			if n, most := len(pushes.batches), 2+int(last/pushWindow); n == 0 || n > most {
				t.Errorf("there were %d pushes in %s", n, last)
			}
			if n, most := len(stream.batches), 2+int(last/streamWindow); n == 0 || n > most {
				t.Errorf("there were %d batches of the stream in %s", n, last)
			}
			for _, m := range pushes.published() {
				if events.ClusterOf(m) != cluster.Default || events.SenderOf(m) != h.instance {
					t.Errorf("%+v was pushed by %s", m, h.instance)
				}
			}
			reached := map[string]uint64{}
			for _, m := range stream.published() {
				if changed, ok := m.(events.Changed); ok && changed.Revision > reached[changed.Group] {
					reached[changed.Group] = changed.Revision
					continue
				}
				t.Errorf("the stream has %+v", m)
			}
			if got, want := reached[kubestorage.ObjectsGroup], a.logs[kubestorage.ObjectsGroup].Seen(); got != want && fail == nil {
				t.Errorf("the stream reached revision %d, the log %d", got, want)
			}
		})
	}
}

// TestABellOfAnotherInstanceIsSeenAndItsWorkLeftToIt watches one log of a cluster.
func TestABellOfAnotherInstanceIsSeenAndItsWorkLeftToIt(t *testing.T) {
	store := contract.NewCounting(memorytable.New())
	h := behind(t, store, 0)
	a, _ := inside(t, h)
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	pods := a.logs["pods"]
	s, err := pods.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	change := func(group string, rev uint64, sender string) cloudevents.Event {
		return events.Changed{Cluster: cluster.Default, Group: group, Revision: rev, Time: time.Now(), Instance: sender}.Event()
	}
	timer := events.Timer{Cluster: cluster.Default, Time: time.Now(), Instance: "other"}.Event()
	check := func(name string, e cloudevents.Event, want string) {
		t.Helper()
		before := heard(t)
		if err := a.hear(t.Context(), e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(map[string]float64{want: 1}, sinceHeard(t, before)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	before := store.Queries()
	check("an echo", change("pods", s.Rev+1, h.instance), ownEcho)
	check("nobody watches", change("pods", s.Rev+1, "other"), notWatched)
	check("nobody watches any", timer, notWatched)
	if n := store.Queries() - before; n > 0 {
		t.Errorf("%d queries were made for it", n)
	}
	sub, err := pods.Subscribe(t.Context(), "", s.Rev)
	if err != nil {
		t.Fatal(err)
	}
	defer pods.Unsubscribe(sub)
	check("somebody watches", change("pods", s.Rev+1, "other"), lookedAt)
	check("it is known already", change("pods", s.Rev, "other"), notWatched)
	check("of another log", change("nodes", s.Rev+1000, "other"), notWatched)
	check("of any", timer, lookedAt)
	if a.functions.Busy() || a.dirty.marked() {
		t.Error("the functions were rung")
	}
}

func TestOthersAreLookedAfterOnceTheyHaveSaidNothingForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o others
		looked := map[time.Duration][]string{}
		began := time.Now()
		after := func(names []string) { looked[time.Since(began)] = names }
		for range 10 {
			o.atWork("a", after)
			o.atWork("b", after)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		o.atWork("c", after)
		for n := range 2 * maxOthers {
			o.atWork(fmt.Sprint("n", n), after)
		}
		time.Sleep(time.Hour)
		last := looked[10*time.Second+time.Hour+leaveAlone]
		if len(looked) != 2 || !slices.Equal(looked[9*time.Second+leaveAlone], []string{"a", "b"}) || len(last) != maxOthers || last[0] != "c" {
			t.Errorf("it was looked after %v", looked)
		}
		o.atWork("d", after)
		o.stop()
		o.atWork("e", after)
		time.Sleep(time.Hour)
		if len(looked) != 2 {
			t.Errorf("it was looked after %v when it had ended", looked)
		}
	})
}

// TestTheWorkOfAnInstanceThatIsGoneGoesOn has the row and the rollout of an instance that committed and was killed.
func TestTheWorkOfAnInstanceThatIsGoneGoesOn(t *testing.T) {
	store := memorytable.New()
	h := behind(t, store, 0)
	a, c := inside(t, h)
	gone := behindWith(t, store, Options{Front: Front{Freezes: true}}) // it commits and does nothing else
	_, theirs := inside(t, gone)
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := heard(t)
	a.lookAfter([]string{"finished"})
	if got := sinceHeard(t, before); len(got) > 0 {
		t.Errorf("there was %v after an instance that had finished", got)
	}
	if _, err := theirs.AppsV1().Deployments("default").Create(t.Context(), webDeployment(2), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.lookAfter([]string{"finished", gone.instance})
	if d := cmp.Diff(map[string]float64{takenOn: 1}, sinceHeard(t, before)); d != "" {
		t.Error(d)
	}
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sets, err := c.AppsV1().ReplicaSets("default").List(t.Context(), metav1.ListOptions{}); err != nil || len(sets.Items) != 1 {
		t.Errorf("there are %d ReplicaSets: %v", len(sets.Items), err)
	}
}

func TestAnInstanceThatEndsSaysWhatItLeaves(t *testing.T) {
	pushes := &topic{}
	h := behindWith(t, memorytable.New(), Options{Pushes: pushes})
	a, _ := inside(t, h)
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.dirty.takeOver(t.Context()); err != nil { // and nobody rings
		t.Fatal(err)
	}
	h.clusters.close()
	h.pushes.Close()
	all := pushes.published()
	last, ok := all[len(all)-1].(events.Timer)
	if !ok || last.Cluster != cluster.Default || last.Instance != "" {
		t.Errorf("the last of what was pushed is %+v", all[len(all)-1])
	}
}

// TestTheDefaultClustersWebhookTakesBellsOfOthers from who may, since a subscription has one address. That
// a cluster wakes meanwhile takes longer than a body may.
func TestTheDefaultClustersWebhookTakesBellsOfOthers(t *testing.T) {
	o := newOutside(t)
	if _, _, err := o.create(t.Context(), "team"); err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "timers"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"post"}, NonResourceURLs: []string{eventsPath + "/" + events.TimerType, eventsPath + "/" + events.ChangedType}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "timers"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "timers"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "shop"}},
	}
	roles := o.admin.RbacV1()
	if _, err := roles.ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := roles.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	shop := func(m events.Message) int {
		body := encoded(t, m.Event())
		code, _ := o.send(t, delivery{cloudevents.ApplicationCloudEventsJSON, strings.NewReader(body), signed(senderKey, body, time.Now())})
		return code
	}
	left := events.Timer{Cluster: "team", Time: time.Now()}
	if code := shop(left); code != http.StatusForbidden {
		t.Errorf("who may ring the default cluster alone is answered %d", code)
	}
	role.Rules[0].NonResourceURLs = append(role.Rules[0].NonResourceURLs, "/clusters/*")
	if _, err := roles.ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := heard(t)
	for _, sender := range []string{"other", o.instance} {
		if code := shop(events.Changed{Cluster: "team", Group: "pods", Revision: 9, Instance: sender}); code != http.StatusAccepted || o.clusters.isAwake("team") {
			t.Errorf("a bell of what %s is at is answered %d, awake: %t", sender, code, o.clusters.isAwake("team"))
		}
	}
	if d := cmp.Diff(map[string]float64{notAwake: 1, ownEcho: 1}, sinceHeard(t, before)); d != "" {
		t.Error(d)
	}
	if code := shop(left); code != http.StatusAccepted || !o.clusters.isAwake("team") {
		t.Errorf("a bell of what is left is answered %d, awake: %t", code, o.clusters.isAwake("team"))
	}
	if code := shop(events.Changed{Cluster: "team", Group: "pods", Revision: 9, Instance: "other"}); code != http.StatusAccepted {
		t.Errorf("a bell of a cluster that is awake is answered %d", code)
	}
	if d := cmp.Diff(map[string]float64{notAwake: 1, ownEcho: 1, notWatched: 1, takenOn: 1}, sinceHeard(t, before)); d != "" {
		t.Error(d)
	}
	left.Cluster = "nobodys"
	if code := shop(left); code != http.StatusAccepted {
		t.Errorf("a bell of a cluster that does not exist is answered %d", code)
	}
}
