package tokens_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/tests/instances"
)

const (
	namespace    = "default"
	day          = 24 * time.Hour
	invalidSince = "kubernetes.io/legacy-token-invalid-since"
)

// fixture is a cluster in a store. What awake clusters have that ticks would take minutes to tick for years, so the host is only there
// while something is done, and for a run of its timer after a while.
type fixture struct {
	*testing.T
	store  *memory.Store
	host   *localhost.Host
	client *kubernetes.Clientset
}

// run runs a cluster in a bubble of fake time.
func run(t *testing.T, test func(f *fixture)) {
	t.Helper()
	instances.Quiet(t)
	t.Setenv("ZEROPLANE_SEAL_KEY", instances.SealKey)
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, store: memory.New()}
		f.open()
		kubeconfig, err := f.host.Kubeconfig(t.Context())
		f.must(kubeconfig, err)
		config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
		f.must(config, err)
		config.CAData, config.Transport, config.QPS = nil, f, -1
		f.client, err = kubernetes.NewForConfig(config)
		f.must(f.client, err)
		test(f)
		f.must(nil, f.host.Close())
	})
}

func (f *fixture) open() {
	f.Helper()
	var err error
	f.host, err = localhost.OpenBehind(localhost.Options{
		Store: localhost.Store{Store: f.store, Close: func() error { return nil }, Shared: true},
		Front: localhost.Front{Address: "app.example.com", RootCA: []byte("CA")},
	})
	f.must(f.host, err)
}

// RoundTrip implements http.RoundTripper.
func (f *fixture) RoundTrip(req *http.Request) (*http.Response, error) {
	in := httptest.NewRequest(req.Method, req.URL.String(), req.Body).WithContext(req.Context())
	in.Header = req.Header.Clone()
	out := httptest.NewRecorder()
	f.host.Handler().ServeHTTP(out, in)
	return out.Result(), nil
}

func (f *fixture) must(_ any, err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// pass lets time go by, without a host but for a minute at its ends.
func (f *fixture) pass(d time.Duration) {
	f.Helper()
	time.Sleep(time.Minute)
	f.must(nil, f.host.Close())
	time.Sleep(d)
	f.open()
	f.must(nil, f.host.Attend(f.Context(), time.Now()))
	time.Sleep(time.Minute)
}

// token makes a Secret for a token of robot.
func (f *fixture) token(name string) {
	f.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}
	f.must(f.client.CoreV1().Secrets(namespace).Create(f.Context(), secret, metav1.CreateOptions{}))
}

// shown is the Secrets of a namespace: what they hold, and since when they are invalid.
func (f *fixture) shown(namespace string) map[string]string {
	f.Helper()
	all, err := f.client.CoreV1().Secrets(namespace).List(f.Context(), metav1.ListOptions{})
	f.must(all, err)
	out := map[string]string{}
	for _, s := range all.Items {
		for _, key := range []string{"ca.crt", "namespace", "token", "token-id"} {
			if len(s.Data[key]) > 0 {
				out[s.Name] += key + " "
			}
		}
		out[s.Name] += s.Labels[invalidSince]
	}
	return out
}

func (f *fixture) expect(when, namespace string, want map[string]string) {
	f.Helper()
	if diff := cmp.Diff(want, f.shown(namespace)); diff != "" {
		f.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestATokenThatNobodyUsesIsInvalidatedAndRemovedByTheCalendar has one Secret that Kubernetes may have made, one that a pod mounts
// for a while, and one that a user made.
func TestATokenThatNobodyUsesIsInvalidatedAndRemovedByTheCalendar(t *testing.T) {
	run(t, func(f *fixture) {
		core := f.client.CoreV1()
		f.must(core.ServiceAccounts(namespace).Create(f.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}))
		for _, name := range []string{"auto", "mounted", "manual"} {
			f.token(name)
		}
		f.must(core.ServiceAccounts(namespace).Patch(f.Context(), "robot", types.MergePatchType, []byte(`{"secrets":[{"name":"auto"},{"name":"mounted"}]}`), metav1.PatchOptions{}))
		f.must(core.Pods(namespace).Create(f.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}, Spec: corev1.PodSpec{
			SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/wait"}},
			Containers:      []corev1.Container{{Name: "c", Image: "nginx"}},
			Volumes:         []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mounted"}}}},
		}}, metav1.CreateOptions{}))
		f.pass(0)
		const filled = "ca.crt namespace token "
		f.expect("at first", namespace, map[string]string{"auto": filled, "mounted": filled, "manual": filled})
		f.pass(365 * day)
		f.expect("a day too early", namespace, map[string]string{"auto": filled, "mounted": filled, "manual": filled})
		f.pass(5 * day)
		f.expect("after a year", namespace, map[string]string{"auto": filled + "2001-01-05", "mounted": filled, "manual": filled})
		f.must(nil, core.Pods(namespace).Delete(f.Context(), "pod", metav1.DeleteOptions{}))
		f.pass(2 * day)
		f.expect("after the pod", namespace, map[string]string{"auto": filled + "2001-01-05", "mounted": filled + "2001-01-07", "manual": filled})
		f.pass(375 * day)
		f.expect("after another year", namespace, map[string]string{"manual": filled})
		robot, err := core.ServiceAccounts(namespace).Get(f.Context(), "robot", metav1.GetOptions{})
		if f.must(robot, err); len(robot.Secrets) > 0 {
			f.Errorf("the account lists %v", robot.Secrets)
		}
	})
}

func TestABootstrapTokenGoesWhenItExpires(t *testing.T) {
	run(t, func(f *fixture) {
		secrets := f.client.CoreV1().Secrets(metav1.NamespaceSystem)
		f.must(secrets.Create(f.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
			StringData: map[string]string{"token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": time.Now().Add(10 * day).Format(time.RFC3339)},
		}, metav1.CreateOptions{}))
		f.pass(9 * day)
		f.expect("before", metav1.NamespaceSystem, map[string]string{"bootstrap-token-abcdef": "token-id "})
		f.pass(day)
		if _, err := secrets.Get(f.Context(), "bootstrap-token-abcdef", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			f.Errorf("it is still there: %v", err)
		}
	})
}
