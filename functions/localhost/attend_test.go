package localhost

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
)

// behind opens a host that others listen for.
func behind(t *testing.T, store table.Store, longest time.Duration) *Host {
	t.Helper()
	return behindWith(t, store, Options{Front: Front{LongestAnswer: longest}})
}

func behindWith(t *testing.T, store table.Store, o Options) *Host {
	t.Helper()
	t.Setenv(SealKeyEnv, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	o.Store = Store{Store: store, Close: func() error { return nil }, Shared: true}
	o.Front.Address, o.MaxAwake = "app.example.com", 2
	h, err := OpenBehind(o)
	if err != nil {
		t.Fatal(err)
	}
	a, err := h.clusters.get(t.Context(), cluster.Default) // it is there
	if err != nil {
		t.Fatal(err)
	}
	a.leave()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestTheTimerDoesWhatAnInstanceLeftThatIsGone(t *testing.T) {
	store := memorytable.New()
	h := behind(t, store, 0)
	if err := (&dirty{store: store, cluster: cluster.Default, instance: "gone"}).put(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := (&dirty{store: store, cluster: "deleted", instance: "gone"}).put(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := h.Attend(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if keys := marksOf(t, store, "gone"); len(keys) != 2 {
		t.Fatalf("at once, %v are left of 2 rows", keys)
	}
	if err := h.Attend(t.Context(), now.Add(takeOverAfter)); err != nil {
		t.Fatal(err)
	}
	if marks, err := dirtyMarks(t.Context(), store); err != nil || len(marks) > 0 {
		t.Errorf("%v are left: %v", marks, err)
	}
}

// TestRowsOfProcessesThatAreGoneDoNotAddUp is about a cluster on which one process after the other works while something
// is due in a year.
func TestRowsOfProcessesThatAreGoneDoNotAddUp(t *testing.T) {
	store := memorytable.New()
	h := behind(t, store, 0)
	due, now := time.Now().Add(365*24*time.Hour), time.Now()
	for i := range 3 * maxNamed {
		if ok := clean(t, &dirty{store: store, cluster: cluster.Default, instance: fmt.Sprint("gone-", i)}, due, true); !ok {
			t.Fatal("no row")
		}
		if i >= maxNamed {
			continue
		}
		if err := h.Attend(t.Context(), now.Add(goneAfter+time.Minute)); err != nil {
			t.Fatal(err)
		}
		if marks, err := dirtyMarks(t.Context(), store); err != nil || len(marks) < i+1 {
			t.Fatalf("of %d rows %d are left: %v", i+1, len(marks), err)
		}
	}
	for after, want := range map[time.Duration]bool{goneAfter / 2: true, goneAfter + time.Minute: false} {
		left := leftOf(mustMarks(t, store), now.Add(after))
		if (len(left) == 0) != want {
			t.Errorf("after %s somebody is to look at %v", after, left)
		}
	}
	if err := h.Attend(t.Context(), now.Add(goneAfter+time.Minute)); err != nil {
		t.Fatal(err)
	}
	if marks := mustMarks(t, store); len(marks) > 1 {
		t.Errorf("%d rows are left", len(marks))
	}
}

func mustMarks(t *testing.T, store table.Store) []dirtyMark {
	t.Helper()
	marks, err := dirtyMarks(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

func TestAnEventOfAClusterIsHeardAndOneOfNoneIsNothing(t *testing.T) {
	h := behind(t, memorytable.New(), 0)
	for name, e := range map[string]cloudevents.Event{
		"a bell":                           events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event(),
		"a bell of a cluster that is gone": events.Timer{Cluster: "gone", Time: time.Now()}.Event(),
	} {
		if err := h.Hear(t.Context(), e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWatchEndsBeforeTheFrontCutsIt(t *testing.T) {
	h := behind(t, memorytable.New(), 230*time.Second)
	for query, want := range map[string]string{
		"watch=true":                     "215",
		"watch=true&timeoutSeconds=600":  "215",
		"watch=true&timeoutSeconds=30":   "30",
		"watch=true&timeoutSeconds=0":    "215",
		"timeoutSeconds=600&limit=500":   "600",
		"watch=1&timeoutSeconds=nothing": "215",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://app.example.com/api/v1/pods?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if h.bound(req); req.URL.Query().Get("timeoutSeconds") != want {
			t.Errorf("%s has %q", query, req.URL.RawQuery)
		}
	}
}

// TestAClusterTakesEventsOfThoseWhoMaySend sends bells to a server as people with different rights.
func TestAClusterTakesEventsOfThoseWhoMaySend(t *testing.T) {
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 1})
	c := admin(t, h, h)
	ctx := t.Context()
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "timers"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"post"}, NonResourceURLs: []string{"/events", "/events/" + events.TimerType}}},
	}
	if _, err := c.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "timers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "timers"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "clock"}},
	}
	if _, err := c.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	timer := events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event()
	due := events.Due{Cluster: cluster.Default, Function: "workloads", Time: time.Now()}.Event()
	for name, tt := range map[string]struct {
		who   string
		event cloudevents.Event
		code  int
	}{
		"the admin":             {"", timer, http.StatusAccepted},
		"who may":               {"clock", timer, http.StatusAccepted},
		"who may, another type": {"clock", due, http.StatusForbidden},
		"who may not":           {"stranger", timer, http.StatusForbidden},
		"nobody":                {"-", timer, http.StatusForbidden},
	} {
		if code := send(t, h, tt.who, tt.event); code != tt.code {
			t.Errorf("%s: %d, want %d", name, code, tt.code)
		}
	}
}

// send sends an event as somebody, the admin if empty, without a credential if "-", and returns the answer's code.
func send(t *testing.T, h *Host, who string, e cloudevents.Event) (code int) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", h.opts.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if who == "-" {
		config = rest.AnonymousClientConfig(config)
	} else if who != "" {
		config.Impersonate.UserName = who
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	c.RESTClient().Post().AbsPath("/events").SetHeader("Content-Type", cloudevents.ApplicationCloudEventsJSON).Body(body).Do(t.Context()).StatusCode(&code)
	return code
}
