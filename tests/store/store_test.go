package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	"github.com/zeroplane/zeroplane/tests/local"
)

const limit = 30 * time.Second

// store runs `zeroplane store` on a server's data.
func store(t *testing.T, dir string, code int, arguments ...string) local.Result {
	t.Helper()
	got := local.Run(t, append([]string{"store", "--data=" + local.DataDir(dir)}, arguments...)...)
	if got.Code != code {
		t.Fatalf("zeroplane store %q: exit code %d, want %d\n%s%s", arguments, got.Code, code, got.Stdout, got.Stderr)
	}
	return got
}

// refused runs a command that must fail and say why.
func refused(t *testing.T, dir, why string, arguments ...string) {
	t.Helper()
	if got := store(t, dir, 1, arguments...); !strings.Contains(got.Stderr, why) {
		t.Errorf("zeroplane store %q says %q, want %q", arguments, got.Stderr, why)
	}
}

const definition = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"sites.example.com"},
"spec":{"group":"example.com","scope":"Namespaced","names":{"kind":"Site","plural":"sites","singular":"site"},
"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},
"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

// populate makes objects as kubectl would, and waits until the functions have done their part.
func populate(t *testing.T, s *local.Server) {
	t.Helper()
	client, err := dynamic.NewForConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "web"}
	web := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}},
		},
	}}
	_, err = s.Client.AppsV1().Deployments("default").Create(t.Context(), web, metav1.CreateOptions{})
	large := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "large"}, Data: map[string]string{"x": strings.Repeat("x", 700<<10)}}
	_, err2 := s.Client.CoreV1().ConfigMaps("default").Create(t.Context(), large, metav1.CreateOptions{})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"password": []byte("hunter2")}}
	_, err3 := s.Client.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: labels, Ports: []corev1.ServicePort{{Port: 80}},
	}}
	_, err4 := s.Client.CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{})
	crd := &unstructured.Unstructured{}
	err5 := json.Unmarshal([]byte(definition), crd)
	_, err6 := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).
		Create(t.Context(), crd, metav1.CreateOptions{})
	if err := errors.Join(err, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, limit, "the rollout", func() error {
		d, err := s.Client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != 3 {
			err = fmt.Errorf("%d ready", d.Status.ReadyReplicas)
		}
		return err
	})
}

// everything lists every object of every kind, by kind, namespace and name.
func everything(t *testing.T, s *local.Server) map[string]any {
	t.Helper()
	client, err := dynamic.NewForConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := s.Client.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		if gv.Group == "metrics.k8s.io" {
			continue // made for the moment in which it is asked for, not stored
		}
		for _, r := range l.APIResources {
			if !strings.Contains(strings.Join(r.Verbs, " "), "list") {
				continue
			}
			found, err := client.Resource(gv.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if apierrors.IsMethodNotSupported(err) {
				continue
			}
			if err != nil {
				t.Fatalf("listing %s: %v", r.Name, err)
			}
			for _, o := range found.Items {
				out[r.Name+" "+o.GetNamespace()+"/"+o.GetName()] = o.Object
			}
		}
	}
	return out
}

// settled lists everything when it has not changed for a second.
func settled(t *testing.T, s *local.Server) map[string]any {
	t.Helper()
	last := everything(t, s)
	local.Eventually(t, limit, "the cluster to settle", func() error {
		local.Pass(time.Second)
		now := everything(t, s)
		defer func() { last = now }()
		if diff := cmp.Diff(last, now); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	return last
}

// copyFile copies a file of a server's data to another's.
func copyFile(t *testing.T, name, from, to string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(local.DataDir(from), name))
	if err == nil {
		err = os.MkdirAll(local.DataDir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(local.DataDir(to), name), content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAClusterIsCheckedExportedAndServedElsewhere and every object is there as it was, and goes on.
func TestAClusterIsCheckedExportedAndServedElsewhere(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	s := local.Start(t, local.Options{Dir: from, Nodes: 2})
	s.WaitForNodes(t)
	populate(t, s)
	before := settled(t, s)
	watched, err := s.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, from, "is in use by another process", "check")
	s.Stop(t)

	if got := store(t, from, 0, "check"); !strings.HasPrefix(got.Stdout, "all is well: ") {
		t.Errorf("check: %s", got.Stdout)
	}
	stats(t, from)
	file := filepath.Join(t.TempDir(), "default.snapshot")
	if got := store(t, from, 0, "export", "-f", file); !strings.Contains(got.Stdout, "revisions: pods=") {
		t.Errorf("export: %s", got.Stdout)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if piped := store(t, from, 0, "export", "-f", "-"); !strings.HasPrefix(piped.Stdout, "\x1f\x8b") || !strings.Contains(piped.Stderr, "revisions: pods=") {
		t.Errorf("export to standard output begins with %.20q and says %q", piped.Stdout, piped.Stderr)
	}
	refused(t, to, "Copy its seal.key to ", "import", "-f", file)
	copyFile(t, "ca.pem", from, to)
	got := store(t, to, 0, "import", "-f", file, "--seal-key", filepath.Join(local.DataDir(from), "seal.key"))
	if !strings.Contains(got.Stdout, "revisions: pods=") {
		t.Errorf("import: %s", got.Stdout)
	}
	refused(t, to, "Give --replace to replace it", "import", "-f", file, "--seal-key", filepath.Join(local.DataDir(from), "seal.key"))
	if got := store(t, to, 0, "check"); !strings.HasPrefix(got.Stdout, "all is well: ") {
		t.Errorf("check: %s", got.Stdout)
	}

	again := local.Start(t, local.Options{Dir: to, Nodes: 2})
	if diff := cmp.Diff(before, settled(t, again)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
	goOn(t, again, watched.ResourceVersion)
	again.Stop(t)
	if got := store(t, to, 0, "check"); !strings.HasPrefix(got.Stdout, "all is well: ") {
		t.Errorf("check at the end: %s", got.Stdout)
	}
}

// goOn watches from the last list of the server before, scales, and watches from before that.
func goOn(t *testing.T, s *local.Server, version string) {
	t.Helper()
	pods := s.Client.CoreV1().Pods("default")
	w, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: ptr.To[int64](30)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	scale, err := s.Client.AppsV1().Deployments("default").GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = 4
	if _, err := s.Client.AppsV1().Deployments("default").UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	added, ready := 0, 0
	for event := range w.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			t.Fatalf("watch: %v %v", event.Type, event.Object)
		}
		if event.Type == "ADDED" {
			added++
		}
		if local.PodReady(pod) {
			ready++
			break
		}
	}
	if added != 1 || ready != 1 {
		t.Errorf("the watch saw %d pods made, and %d ready", added, ready)
	}
	old, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "2", TimeoutSeconds: ptr.To[int64](5)})
	if err == nil {
		event := <-old.ResultChan()
		err = apierrors.FromObject(event.Object)
		old.Stop()
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("a watch from before the snapshot: %v", err)
	}
	if _, err := s.Client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

func stats(t *testing.T, dir string, arguments ...string) {
	t.Helper()
	if got := store(t, dir, 0, append([]string{"stats"}, arguments...)...); !strings.Contains(got.Stdout, "deployments.apps ") || !strings.Contains(got.Stdout, "On Azure Tables, for a month: $") {
		t.Errorf("stats: %s", got.Stdout)
	}
	var counted struct {
		Clusters []struct {
			Name    string
			Objects int
			Kinds   map[string]int
			Logs    []struct {
				Group    string
				Revision int
			}
		}
	}
	if err := json.Unmarshal([]byte(store(t, dir, 0, append([]string{"stats", "-o", "json"}, arguments...)...).Stdout), &counted); err != nil {
		t.Fatal(err)
	}
	c := counted.Clusters[0]
	if c.Name != "default" || c.Kinds["pods"] != 3 || len(c.Logs) != 8 || c.Logs[0].Revision < 4 {
		t.Errorf("stats: %+v", c)
	}
}

// TestDamageIsNamedAndRolledBack: a store that somebody wrote to is refused by check, with partition and row; an import
// in place of the cluster puts it right.
func TestDamageIsNamedAndRolledBack(t *testing.T) {
	dir := t.TempDir()
	s := local.Start(t, local.Options{Dir: dir})
	before := settled(t, s)
	s.Stop(t)
	file := filepath.Join(t.TempDir(), "s")
	store(t, dir, 0, "export", "-f", file)
	partition, row := damage(t, dir)
	got := store(t, dir, 1, "check")
	if want := partition + " " + row + " object-rows: "; !strings.HasPrefix(got.Stdout, want) || strings.Count(got.Stdout, "\n") != 1 || !strings.Contains(got.Stderr, "1 findings") {
		t.Errorf("check prints %q and %q, want %q", got.Stdout, got.Stderr, want)
	}
	var report struct {
		Findings []struct{ Partition, Row, Invariant, Message string }
	}
	if err := json.Unmarshal([]byte(store(t, dir, 1, "check", "-o", "json").Stdout), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 1 || report.Findings[0].Row != row || report.Findings[0].Invariant != "object-rows" {
		t.Errorf("check -o json: %+v", report)
	}
	store(t, dir, 0, "import", "-f", file, "--replace")
	if got := store(t, dir, 0, "check"); !strings.HasPrefix(got.Stdout, "all is well: ") {
		t.Errorf("check: %s", got.Stdout)
	}
	s = s.Again(t)
	if diff := cmp.Diff(before, settled(t, s)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
}

// damage removes an object row behind the store's back, and says which.
func damage(t *testing.T, dir string) (partition, row string) {
	t.Helper()
	db, err := pebble.Open(filepath.Join(local.DataDir(dir), "store"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var key []byte
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.Contains(it.Key(), []byte("|config\x00o-core.1namespaces.1kube-public")) {
			key = bytes.Clone(it.Key())
		}
	}
	if err := errors.Join(it.Close(), db.Delete(key, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	partition, row, _ = strings.Cut(string(key), "\x00")
	return partition, row
}

// TestWhatCannotBeDoneIsRefusedWithAdvice, and nothing is made.
func TestWhatCannotBeDoneIsRefusedWithAdvice(t *testing.T) {
	dir, empty := t.TempDir(), t.TempDir()
	s := local.Start(t, local.Options{Dir: dir})
	s.Stop(t)
	file := filepath.Join(t.TempDir(), "s")
	store(t, dir, 0, "export", "-f", file)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := file + ".cut"
	if err := os.WriteFile(cut, content[:len(content)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, empty, "there is no store in ", "check")
	refused(t, empty, "there is no store in ", "export")
	refused(t, empty, "the snapshot is damaged: record ", "import", "-f", cut)
	refused(t, empty, "name the file with -f", "import")
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("something was made: %v, %v", entries, err)
	}
	refused(t, dir, "--store must be embedded or azure", "check", "--store=paper")
	refused(t, dir, "-o must be json", "check", "-o", "yaml")
	refused(t, dir, `cluster not found: "none"`, "export", "--cluster=none")
	refused(t, dir, "--at must be a time such as 20", "export", "--at=yesterday")
	refused(t, dir, "the cluster was created at 20", "export", "--at=2020-01-01T00:00:00Z")
	wrong := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(wrong, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "Name the sealing key of the store that ", "import", "-f", file, "--cluster=two", "--seal-key="+wrong)
	store(t, dir, 0, "import", "-f", file, "--cluster=two")
	if got := store(t, dir, 0, "check"); !strings.Contains(got.Stdout, "2 clusters") {
		t.Errorf("check: %s", got.Stdout)
	}
	store(t, dir, 0, "export", "--at=0s", "-f", filepath.Join(t.TempDir(), "now"))
}
