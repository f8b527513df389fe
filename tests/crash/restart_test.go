package crash_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

// kinds are lists whose objects must come through a restart as they are.
var kinds = []string{
	"/api/v1/namespaces", "/api/v1/configmaps", "/api/v1/secrets", "/api/v1/serviceaccounts", "/api/v1/services",
	"/api/v1/pods", "/api/v1/nodes", "/apis/apps/v1/deployments", "/apis/apps/v1/replicasets",
	"/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"/apis/rbac.authorization.k8s.io/v1/roles", "/apis/scheduling.k8s.io/v1/priorityclasses", "/api/v1/events",
}

// list returns the objects of a kind, by UID, as they are written, and the list's revision.
func list(t *testing.T, client *kubernetes.Clientset, path string) (map[string]string, uint64) {
	t.Helper()
	var answer struct {
		Metadata metav1.ListMeta
		Items    []json.RawMessage
	}
	raw, err := client.RESTClient().Get().AbsPath(path).DoRaw(t.Context())
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]string{}
	for _, item := range answer.Items {
		var o metav1.PartialObjectMetadata
		if err := json.Unmarshal(item, &o); err != nil {
			t.Fatal(err)
		}
		objects[string(o.UID)] = string(item)
	}
	revision, err := strconv.ParseUint(answer.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return objects, revision
}

// TestASecondStartOnTheSameDataHasEverything stops the server as Ctrl-C does.
func TestASecondStartOnTheSameDataHasEverything(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 3})
	s.WaitForNodes(t)
	create(t, s.Client, deployment("web", 20))
	waitForRollout(t, s.Client, "web", 20)
	settled(t, s.Client)
	objects, revisions := map[string]map[string]string{}, map[string]uint64{}
	for _, path := range kinds {
		objects[path], revisions[path] = list(t, s.Client, path)
		if len(objects[path]) == 0 && path != "/api/v1/secrets" {
			t.Errorf("there is nothing at %s to compare", path)
		}
	}
	s.Stop(t)
	s = s.Again(t)
	for _, path := range kinds {
		again, revision := list(t, s.Client, path)
		if diff := cmp.Diff(objects[path], again); diff != "" {
			t.Errorf("%s changed over a restart (-before +after):\n%s", path, diff)
		}
		if revision < revisions[path] {
			t.Errorf("%s went back from revision %d to %d", path, revisions[path], revision)
		}
	}
	goesOn(t, s.Client, revisions["/api/v1/configmaps"])
}

// settled waits until nothing is written any more.
func settled(t *testing.T, client *kubernetes.Clientset) {
	t.Helper()
	var last string
	since := time.Now()
	local.Eventually(t, settleTimeout, "the cluster to come to rest", func() error {
		var now strings.Builder
		for _, path := range kinds {
			_, revision := list(t, client, path)
			fmt.Fprintln(&now, path, revision)
		}
		if now.String() != last {
			last, since = now.String(), time.Now()
		}
		if quiet := time.Since(since); quiet < time.Second {
			return fmt.Errorf("quiet for %v", quiet)
		}
		return nil
	})
}

// goesOn writes, and watches from a revision of before the restart.
func goesOn(t *testing.T, client kubernetes.Interface, from uint64) {
	t.Helper()
	made, err := client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if revision, err := strconv.ParseUint(made.ResourceVersion, 10, 64); err != nil || revision <= from {
		t.Errorf("an object made after the restart has revision %s, and %d was before (%v)", made.ResourceVersion, from, err)
	}
	w, err := client.CoreV1().ConfigMaps(namespace).Watch(t.Context(), metav1.ListOptions{
		ResourceVersion: strconv.FormatUint(from, 10), FieldSelector: "metadata.name=after",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	timeout := time.NewTimer(settleTimeout)
	defer timeout.Stop()
	select {
	case e := <-w.ResultChan():
		if cm, ok := e.Object.(*corev1.ConfigMap); e.Type != watch.Added || !ok || cm.UID != made.UID {
			t.Errorf("the watch says %s %v", e.Type, e.Object)
		}
	case <-timeout.C:
		t.Error("a watch from a revision of before the restart says nothing")
	}
}

// TestACleanStopEndsWatchesAndLosesNoAnswer stops the server while clients write and watch.
func TestACleanStopEndsWatchesAndLosesNoAnswer(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	var ended []<-chan watch.Event
	for range 10 {
		w, err := s.Client.CoreV1().ConfigMaps(metav1.NamespaceAll).Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		ended = append(ended, w.ResultChan())
	}
	known := &ledger{of: map[string]fate{}}
	writeAlong(t, s.Client, namespace, known)
	local.Pass(300 * time.Millisecond)
	start := time.Now()
	s.Stop(t)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	known.end()
	timeout := time.NewTimer(settleTimeout)
	defer timeout.Stop()
	for _, events := range ended {
		for open := true; open; {
			select {
			case _, open = <-events:
			case <-timeout.C:
				t.Fatal("a watch of a stopped server has not ended")
			}
		}
	}
	known.check(t, s.Again(t).Client, namespace)
}

// TestASecondProcessOnTheSameDataIsRefused and does not disturb the first.
func TestASecondProcessOnTheSameDataIsRefused(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	before, err := os.ReadFile(s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	second := local.Run(t, "serve", "--listen=127.0.0.1:0", "--data="+local.DataDir(s.Dir), "--kubeconfig="+s.Kubeconfig)
	if second.Code != 1 || !strings.Contains(second.Stderr, "Another zeroplane works on "+local.DataDir(s.Dir)) {
		t.Errorf("exit code %d, and it says %q", second.Code, second.Stderr)
	}
	after, err := os.ReadFile(s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("the second process changed the kubeconfig:\n%s", diff)
	}
	if _, err := s.Client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("the first server: %v", err)
	}
}

// TestAPortThatIsTakenIsSaid by its address.
func TestAPortThatIsTakenIsSaid(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	address := strings.TrimPrefix(s.Config.Host, "https://")
	second := local.Run(t, "serve", "--listen="+address, "--data="+filepath.Join(t.TempDir(), "data"))
	if second.Code != 1 || !strings.Contains(second.Stderr, address) || !strings.Contains(second.Stderr, "address already in use") {
		t.Errorf("exit code %d, and it says %q", second.Code, second.Stderr)
	}
}

// TestSecretsAreForTheirOwnerOnly looks at the modes of what the server writes.
func TestSecretsAreForTheirOwnerOnly(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	for _, path := range []string{s.Kubeconfig, filepath.Join(local.DataDir(s.Dir), "seal.key"), filepath.Join(local.DataDir(s.Dir), "ca.pem")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", path, mode)
		}
	}
	info, err := os.Stat(filepath.Join(local.DataDir(s.Dir), "store"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("the store has mode %o", mode)
	}
}

// TestALostSealKeyIsNotReplaced by one that opens nothing.
func TestALostSealKeyIsNotReplaced(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	s.Stop(t)
	path := filepath.Join(local.DataDir(s.Dir), "seal.key")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	lost := local.Run(t, "serve", "--listen=127.0.0.1:0", "--data="+local.DataDir(s.Dir))
	if lost.Code != 1 || !strings.Contains(lost.Stderr, path) {
		t.Errorf("exit code %d, and it says %q", lost.Code, lost.Stderr)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	s.Again(t)
}
