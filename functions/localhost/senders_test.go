package localhost

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/webhook"
	"github.com/zeroplane/zeroplane/core/departure"
	"github.com/zeroplane/zeroplane/core/registry"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
)

const senderKey = "0123456789abcdef01234567"

// outside is a host, seen by senders.
type outside struct {
	*Host
	store  *memorytable.Store
	admin  *kubernetes.Clientset
	token  string
	server *httptest.Server
}

// hurried lets bodies take a moment only.
type hurried struct{ http.ResponseWriter }

func (h hurried) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		at = time.Now().Add(100 * time.Millisecond)
	}
	return http.NewResponseController(h.ResponseWriter).SetReadDeadline(at)
}

func (h hurried) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// newOutside opens a host whose cluster lets "shop", who signs with senderKey, and nobody else but the admin send events.
func newOutside(t *testing.T) *outside {
	t.Helper()
	store := memorytable.New()
	return outsideOf(t, store, behind(t, store, 0))
}

// outsideOf is newOutside of a host that is open.
func outsideOf(t *testing.T, store *memorytable.Store, h *Host) *outside {
	t.Helper()
	o := &outside{store: store, Host: h}
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { o.route(hurried{w}, req) }))
	t.Cleanup(o.server.Close)
	config, err := o.Kubeconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.RESTConfigFromKubeConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	o.token = rest.BearerToken
	a := o.awake(t)
	if o.admin, err = kubernetes.NewForConfig(a.server.ClientConfig(identity("signals"), "test")); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Type: webhook.SecretType,
		StringData: map[string]string{"user": "shop", "secret": senderKey},
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"post"}, NonResourceURLs: []string{"/events", "/events/" + foreign.ImagePushedType}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "shop"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "shop"}},
	}
	_, err1 := o.admin.CoreV1().Secrets("kube-system").Create(t.Context(), secret, metav1.CreateOptions{})
	_, err2 := o.admin.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{})
	_, err3 := o.admin.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *outside) awake(t *testing.T) *awake {
	t.Helper()
	a, err := o.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.leave() })
	return a
}

// rows waits until the cluster has settled and returns the ETags of all rows.
func (o *outside) rows(t *testing.T) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := o.awake(t).settle(ctx); err != nil {
		t.Fatal(err)
	}
	names, err := o.store.Partitions(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range names {
		err := table.All(ctx, o.store, name, table.Query{From: " ", To: "\x7f"}, func(r table.Row) bool {
			out[name+"/"+r.Key] = r.ETag
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// request of a sender.
type delivery struct {
	contentType string
	body        io.Reader
	header      map[string]string
}

func (o *outside) send(t *testing.T, d delivery) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.server.URL+"/events", d.body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", d.contentType)
	for k, v := range d.header {
		req.Header.Set(k, v)
	}
	return exchange(t, req)
}

// exchange sends a request and returns the code and the body of the answer.
func exchange(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// signed is the header of who signs a body at a time.
func signed(key, body string, at time.Time) map[string]string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "msg.%d.%s", at.Unix(), body)
	return map[string]string{
		"webhook-id": "msg", "webhook-timestamp": fmt.Sprint(at.Unix()), "webhook-signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}
}

func encoded(t *testing.T, e cloudevents.Event) string {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func pushed(n int, at time.Time) foreign.RegistryChange {
	return foreign.RegistryChange{
		Origin: foreign.Origin{Source: "/registries/example", ID: fmt.Sprint("push-", n), Time: at.UTC()}, Type: foreign.ImagePushedType,
		Registry: "example.azurecr.io", Repository: "web", Tag: "v1", Digest: "sha256:" + strings.Repeat(fmt.Sprint(n), 64),
	}
}

// TestRefusedRequestsGetTheRightAnswerAndChangeNothing compares every row of the store before and after.
func TestRefusedRequestsGetTheRightAnswerAndChangeNothing(t *testing.T) {
	o := newOutside(t)
	const ce = cloudevents.ApplicationCloudEventsJSON
	now := time.Now()
	push := encoded(t, pushed(1, now).Event())
	timer := encoded(t, events.Timer{Cluster: cluster.Default, Time: now}.Event())
	samples := encoded(t, events.Samples{Cluster: "other", Reporter: "r", Time: now, External: []events.ExternalSample{{Name: "m", Window: events.Window{End: now}}}}.Event())
	large := strings.Repeat(" ", webhook.MaxBytes+1)
	bearer := func(token string) map[string]string { return map[string]string{"Authorization": "Bearer " + token} }
	unknownLength := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	never := func() io.Reader { r, w := io.Pipe(); t.Cleanup(func() { _ = w.Close() }); return r }
	for name, tt := range map[string]struct {
		d    delivery
		code int
	}{
		"forged, another key":              {delivery{ce, strings.NewReader(push), signed("xxxxxxxxxxxxxxxxxxxxxxxx", push, now)}, http.StatusUnauthorized},
		"forged, another body":             {delivery{ce, strings.NewReader(push), signed(senderKey, push+" ", now)}, http.StatusUnauthorized},
		"forged, a token":                  {delivery{ce, strings.NewReader(push), bearer("forged")}, http.StatusUnauthorized},
		"replayed after the window":        {delivery{ce, strings.NewReader(push), signed(senderKey, push, now.Add(-6*time.Minute))}, http.StatusUnauthorized},
		"no credential":                    {delivery{ce, strings.NewReader(push), nil}, http.StatusForbidden},
		"no credential, malformed":         {delivery{ce, strings.NewReader("hello"), nil}, http.StatusForbidden},
		"unauthorised type":                {delivery{ce, strings.NewReader(timer), signed(senderKey, timer, now)}, http.StatusForbidden},
		"another cluster's samples":        {delivery{ce, strings.NewReader(samples), bearer(o.token)}, http.StatusForbidden},
		"oversized":                        {delivery{ce, strings.NewReader(large), bearer(o.token)}, http.StatusRequestEntityTooLarge},
		"oversized, of unknown length":     {delivery{ce, unknownLength(large), bearer(o.token)}, http.StatusRequestEntityTooLarge},
		"oversized and signed":             {delivery{ce, unknownLength(large), signed(senderKey, large, now)}, http.StatusRequestEntityTooLarge},
		"wrong content type":               {delivery{"text/plain", strings.NewReader("hello"), bearer(o.token)}, http.StatusUnsupportedMediaType},
		"wrong content type and signed":    {delivery{"application/xml", strings.NewReader("<e/>"), signed(senderKey, "<e/>", now)}, http.StatusUnsupportedMediaType},
		"JSON that is no known envelope":   {delivery{"application/json", strings.NewReader(`{"a": 1}`), bearer(o.token)}, http.StatusUnsupportedMediaType},
		"a slow body":                      {delivery{ce, never(), bearer(o.token)}, http.StatusRequestTimeout},
		"a slow body that would be signed": {delivery{ce, never(), signed(senderKey, push, now)}, http.StatusRequestTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			before := o.rows(t)
			if code, body := o.send(t, tt.d); code != tt.code || !strings.Contains(body, `"kind":"Status"`) {
				t.Errorf("%d %.300s, want %d", code, body, tt.code)
			}
			if diff := cmp.Diff(before, o.rows(t)); diff != "" {
				t.Errorf("rows (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAPushIsRolledOutOnceHoweverOftenItComes(t *testing.T) {
	o := newOutside(t)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{registry.FollowAnnotation: "web=example.azurecr.io/web:v1"}},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: podTemplate("web")},
	}
	if _, err := o.admin.AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	deliver := func(n int, at time.Time) {
		t.Helper()
		body := encoded(t, pushed(n, at).Event())
		if code, answer := o.send(t, delivery{cloudevents.ApplicationCloudEventsJSON, strings.NewReader(body), signed(senderKey, body, time.Now())}); code != http.StatusAccepted {
			t.Fatalf("%d %s", code, answer)
		}
	}
	image := func() string {
		t.Helper()
		d, err := o.admin.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return d.Spec.Template.Spec.Containers[0].Image
	}
	deliver(2, now)
	want := "example.azurecr.io/web:v1@" + pushed(2, now).Digest
	if got := image(); got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
	before := o.rows(t)
	deliver(2, now)                   // again
	deliver(1, now.Add(-time.Minute)) // late
	if diff := cmp.Diff(before, o.rows(t)); diff != "" {
		t.Errorf("rows of the webhook's work (-before +after):\n%s", diff)
	}
}

func podTemplate(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.azurecr.io/web:v1"}}},
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() (bool, error)) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ok, err := holds()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestAMachineThatGoesIsDrainedAsBudgetsAllow announces that the machine of the only node goes.
func TestAMachineThatGoesIsDrainedAsBudgetsAllow(t *testing.T) {
	o := newOutside(t)
	ctx := t.Context()
	if err := o.simulateNodes(ctx, 1); err != nil {
		t.Fatal(err)
	}
	nodes, err := o.admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	node := nodes.Items[0].Name
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate("web")},
	}
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}
	_, err1 := o.admin.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{})
	_, err2 := o.admin.PolicyV1().PodDisruptionBudgets("default").Create(ctx, budget, metav1.CreateOptions{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	onNode := func() (names []string) {
		t.Helper()
		pods, err := o.admin.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods.Items {
			if p.Spec.NodeName == node && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
				names = append(names, p.Name)
			}
		}
		return names
	}
	eventually(t, "the pod runs and its budget counts it", func() (bool, error) {
		b, err := o.admin.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "web", metav1.GetOptions{})
		return err == nil && len(onNode()) == 1 && b.Status.CurrentHealthy == 1, err
	})
	document := func(incarnation int64, list ...foreign.ScheduledEvent) {
		t.Helper()
		body := encoded(t, foreign.ScheduledEvents{
			Origin: foreign.Origin{Source: "/agent", ID: fmt.Sprint(incarnation), Time: time.Now().UTC()}, Incarnation: incarnation, Events: list,
		}.Event())
		header := map[string]string{"Authorization": "Bearer " + o.token}
		if code, answer := o.send(t, delivery{cloudevents.ApplicationCloudEventsJSON, bytes.NewReader([]byte(body)), header}); code != http.StatusAccepted {
			t.Fatalf("%d %s", code, answer)
		}
	}
	reboot := foreign.ScheduledEvent{ID: "e1", Kind: foreign.Reboot, Resources: []string{node}, Status: "Scheduled", NotBefore: time.Now().Add(10 * time.Minute).UTC().Truncate(time.Second), DurationSeconds: -1}
	document(5, reboot)
	departing := func() bool {
		t.Helper()
		n, err := o.admin.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return n.Spec.Unschedulable && departure.Departing(n)
	}
	if !departing() {
		t.Fatal("the node takes pods")
	}
	before := o.rows(t)
	if len(onNode()) != 1 {
		t.Fatal("the pod left against its budget")
	}
	document(5, reboot)
	if diff := cmp.Diff(before, o.rows(t)); diff != "" {
		t.Errorf("the same document again (-before +after):\n%s", diff)
	}
	if err := o.admin.PolicyV1().PodDisruptionBudgets("default").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod leaves once nothing protects it", func() (bool, error) { return len(onNode()) == 0, nil })
	document(6)
	if departing() {
		t.Error("the node takes no pods after the announcement was withdrawn")
	}
	eventually(t, "the next pod runs on the node", func() (bool, error) { return len(onNode()) == 1, nil })
}

func TestAnAlertBecomesOneEvent(t *testing.T) {
	o := newOutside(t)
	a := foreign.Alert{
		Origin: foreign.Origin{Source: "alert", ID: "1", Time: time.Now().UTC()}, AlertID: "/alerts/1", Rule: "too slow", Severity: "Sev2", Signal: "Metric",
		Condition: "Fired", FiredAt: time.Now().UTC(),
	}
	for range 3 {
		header := map[string]string{"Authorization": "Bearer " + o.token}
		if code, body := o.send(t, delivery{cloudevents.ApplicationCloudEventsJSON, strings.NewReader(encoded(t, a.Event())), header}); code != http.StatusAccepted {
			t.Fatalf("%d %s", code, body)
		}
	}
	list, err := o.admin.CoreV1().Events("kube-system").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=AlertFired"})
	if err != nil || len(list.Items) != 1 || !strings.Contains(list.Items[0].Message, "too slow") || list.Items[0].Count != 1 {
		t.Errorf("%+v, %v", list.Items, err)
	}
}

func TestWhatATriggerCannotDoIsKept(t *testing.T) {
	o := newOutside(t)
	ctx := t.Context()
	info, _, err := o.maker.Create(ctx, "dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	reason := &events.FieldError{Field: "time", Reason: "is missing"}
	for _, raw := range []string{
		"hello", encoded(t, events.Timer{Cluster: "dev", Time: time.Now()}.Event()), encoded(t, events.Timer{Cluster: "gone", Time: time.Now()}.Event()),
	} {
		if err := o.Bury(ctx, deadletter.Queue, []byte(raw), reason); err != nil {
			t.Error(err)
		}
	}
	all, err := deadletter.New(o.store, info.Partition()).List(ctx)
	if err != nil || len(all) != 1 || all[0].Field != "time" || all[0].Via != deadletter.Queue {
		t.Errorf("of the cluster that is named: %+v, %v", all, err)
	}
	if all, err := o.awake(t).letters.List(ctx); err != nil || len(all) != 2 {
		t.Errorf("of the default cluster: %+v, %v", all, err)
	}
	if _, err := o.deleteCluster(httptest.NewRequest(http.MethodDelete, "/", nil), "dev"); err != nil {
		t.Fatal(err)
	}
	if all, err := deadletter.New(o.store, info.Partition()).List(ctx); err != nil || len(all) != 0 {
		t.Errorf("of a cluster that was deleted: %d, %v", len(all), err)
	}
	if err := o.admin.RESTClient().Get().AbsPath("/events/dead-letters").Do(ctx).Error(); err != nil {
		t.Error(err)
	}
	err = o.admin.RESTClient().Post().AbsPath("/events/dead-letters/0000000000000000/replay").Do(ctx).Error()
	if !apierrors.IsNotFound(err) {
		t.Errorf("replaying what is not there: %v", err)
	}
}
