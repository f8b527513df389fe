package localhost

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// lent is a store that outlives its hosts.
func lent(store table.Store) Store { return Store{Store: store, Close: func() error { return nil }} }

// shareStore runs a host on a store that others use, with the given seal key in the environment.
func shareStore(t *testing.T, store table.Store, nodes int) *Host {
	t.Helper()
	t.Setenv(SealKeyEnv, base64.StdEncoding.EncodeToString(make([]byte, cluster.SealBytes)))
	shared := lent(store)
	shared.Shared = true
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 4, SimulateNodes: nodes, Store: shared})
	return h
}

// admin returns the default cluster's admin at a host, with what another host's kubeconfig says.
func admin(t *testing.T, at, of *Host) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", of.opts.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Host, config.QPS = "https://"+at.Address(), -1
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func webDeployment(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(replicas), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}}},
			},
		},
	}
}

// awaitReady waits until a Deployment has its replicas, and checks that there were never more pods than that.
func awaitReady(t *testing.T, c *kubernetes.Clientset, want int32) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		d, err := c.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Status.ReadyReplicas == want && d.Status.Replicas == want && d.Status.ObservedGeneration == d.Generation {
			pods, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
			if err != nil || len(pods.Items) != int(want) {
				t.Fatalf("%d pods for %d replicas: %v", len(pods.Items), want, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %d replicas after %s: %+v", want, patience, d.Status)
		}
	}
}

func TestTwoInstancesServeOneCluster(t *testing.T) {
	store := memorytable.New()
	first := shareStore(t, store, 3)
	second := shareStore(t, store, 3)
	here, there := admin(t, first, first), admin(t, second, first)
	ctx := t.Context()
	w, err := there.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := here.AppsV1().Deployments("default").Create(ctx, webDeployment(5), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, there, 5)
	seen := map[string]bool{}
	for timeout := time.After(patience); len(seen) < 5; {
		select {
		case ev := <-w.ResultChan():
			if pod, ok := ev.Object.(*corev1.Pod); ok && ev.Type == watch.Added {
				seen[pod.Name] = true
			}
		case <-timeout:
			t.Fatalf("the watch at the other instance saw %d pods", len(seen))
		}
	}
	for i, replicas := range []int32{8, 2, 6} {
		c := []*kubernetes.Clientset{there, here}[i%2]
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
		if _, err := c.AppsV1().Deployments("default").Patch(ctx, "web", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		awaitReady(t, []*kubernetes.Clientset{here, there}[i%2], replicas)
	}
}

func TestWhatAnInstanceThatIsGoneLeftIsTakenOver(t *testing.T) {
	store := memorytable.New()
	gone := shareStore(t, store, 3)
	a, err := gone.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	defer a.leave()
	awaitNoMarks(t, store)
	a.functions.Stop() // as if it had died after the commit
	if _, err := admin(t, gone, gone).AppsV1().Deployments("default").Create(t.Context(), webDeployment(3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	heir := shareStore(t, store, 0)
	n, now := &neighbours{host: heir}, time.Now()
	for _, after := range []time.Duration{0, takeOverAfter - time.Second} {
		if err := n.visit(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		if keys := marksOf(t, store, gone.instance); len(keys) != 1 {
			t.Fatalf("after %s the rows of the instance are %v", after, keys)
		}
	}
	if err := n.visit(t.Context(), now.Add(takeOverAfter)); err != nil {
		t.Fatal(err)
	}
	if keys := marksOf(t, store, gone.instance); len(keys) != 0 {
		t.Errorf("after it was taken over there are %v", keys)
	}
	awaitReady(t, admin(t, heir, gone), 3)
	awaitNoMarks(t, store)
}

func marksOf(t *testing.T, store table.Store, instance string) (keys []string) {
	t.Helper()
	marks, err := dirtyMarks(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range marks {
		if m.instance == instance {
			keys = append(keys, m.key)
		}
	}
	return keys
}

// awaitNoMarks waits until nothing is to be done at once.
func awaitNoMarks(t *testing.T, store table.Store) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		marks, err := dirtyMarks(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		atOnce := 0
		for _, m := range marks {
			if m.wake.IsZero() {
				atOnce++
			}
		}
		if atOnce == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still dirty: %+v", marks)
		}
	}
}

func TestAClusterDeletedElsewhereIsNotServed(t *testing.T) {
	store := memorytable.New()
	first, second := shareStore(t, store, 0), shareStore(t, store, 0)
	info, keys, err := first.maker.Create(t.Context(), "dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := second.kubeconfig(info, keys)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.deleteCluster(httptest.NewRequest(http.MethodDelete, "/", nil), "dev"); err != nil {
		t.Fatal(err)
	}
	a, err := second.clusters.get(t.Context(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.verified = time.Time{} // its time is over
	a.mu.Unlock()
	a.leave()
	if _, err := c.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a request to the deleted cluster: %v", err)
	}
	// Its partitions are known until nobody can write to them any more.
	if err := first.maker.Sweep(t.Context(), time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	row, err := store.Range(t.Context(), "_clusters", table.Query{From: "x-", To: "x."})
	if err != nil || len(row.Rows) != 1 || !strings.Contains(row.Rows[0].Key, info.Partition()) {
		t.Errorf("the note of what is left: %v, %v", row.Rows, err)
	}
	if err := first.maker.Sweep(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if row, err = store.Range(t.Context(), "_clusters", table.Query{From: "x-", To: "x."}); err != nil || len(row.Rows) != 0 {
		t.Errorf("after the sweep: %v, %v", row.Rows, err)
	}
}

func TestAServerRemovesTheRowOfAClusterThatWasLeftHalfMade(t *testing.T) {
	store := memorytable.New()
	h := shareStore(t, store, 0)
	if _, err := h.beforeHalf(t.Context()); err != nil { // and it never came to the end
		t.Fatal(err)
	}
	n, now := &neighbours{host: h, swept: time.Now()}, time.Now()
	for i, want := range []int{1, 1, 0} {
		after := time.Duration(i) * (sweepAfter + time.Minute)
		if err := n.visit(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		if _, sweeps, err := leftRows(t.Context(), store); err != nil || len(sweeps) != want {
			t.Errorf("after %s there are %v, %v", after, sweeps, err)
		}
	}
}

func TestInstancesWithDifferentSealKeysAreTold(t *testing.T) {
	store := memorytable.New()
	shareStore(t, store, 0)
	t.Setenv(SealKeyEnv, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", cluster.SealBytes))))
	_, err := Open(t.Context(), Options{
		Listen: "127.0.0.1:0", Data: t.TempDir(), Kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"), MaxAwake: 1,
		Store: Store{Store: store, Close: func() error { return nil }, Shared: true},
	})
	if err == nil || !strings.Contains(err.Error(), SealKeyEnv) {
		t.Errorf("another seal key: %v", err)
	}
}
