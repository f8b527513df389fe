package localhost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
)

func TestRequestsWithoutAnEndAreKnown(t *testing.T) {
	for target, want := range map[string]bool{
		"/api/v1/pods":                                   false,
		"/api/v1/pods?watch=true":                        true,
		"/api/v1/pods?watch=1&limit=5":                   true,
		"/api/v1/pods?watch=false":                       false,
		"/api/v1/pods?labelSelector=watch":               false,
		"/api/v1/watch/pods":                             true,
		"/api/v1/namespaces/default/pods/a/log":          true,
		"/api/v1/namespaces/default/pods/a/exec?x=y":     true,
		"/api/v1/namespaces/default/services/a/proxy":    true,
		"/api/v1/namespaces/default/services/a/proxy/to": true,
		"/api/v1/namespaces/default/pods/a/status":       false,
		"/": false,
	} {
		if got := endless(httptest.NewRequest(http.MethodGet, target, nil)); got != want {
			t.Errorf("%s: %t, want %t", target, got, want)
		}
	}
}

func TestTheSealKeyIsMadeOnceAndNeverReplaced(t *testing.T) {
	t.Setenv(SealKeyEnv, "")
	dir := t.TempDir()
	if _, err := sealKey(dir, false); err == nil {
		t.Error("a key is made for data that was sealed with another")
	}
	first, err := sealKey(dir, true)
	if err != nil || len(first) != cluster.SealBytes {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if again, err := sealKey(dir, true); err != nil || string(again) != string(first) {
		t.Errorf("the second key is another, %v", err)
	}
	t.Setenv(SealKeyEnv, "c2hvcnQ=")
	if _, err := sealKey(dir, true); err == nil {
		t.Error("a short key of the environment is taken")
	}
}

func TestTheCAIsKeptAndServingCertificatesAreItsOwn(t *testing.T) {
	dir := t.TempDir()
	first, err := loadPKI(dir, []string{"192.0.2.1", "api.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadPKI(dir, nil)
	if err != nil || string(second.caPEM) != string(first.caPEM) {
		t.Errorf("the second CA is another, %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadPKI(dir, nil); err == nil {
		t.Error("a damaged CA is taken")
	}
}

func TestASecretIsWrittenWholeOrNotAtAll(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if err := WriteSecret(path, []byte(path)); err != nil {
			t.Error(err)
		}
		content, err := os.ReadFile(file)
		if err != nil || string(content) != path {
			t.Errorf("after writing %s the file has %q, %v", path, content, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("after writing %s the file is %v, %v", path, info, err)
		}
	}
	for path, want := range map[string]string{
		dir:                                "it is a directory",
		os.DevNull:                         "it is not a regular file",
		filepath.Join(dir, "none", "file"): "no such file or directory",
		filepath.Join(file, "below"):       "not a directory",
	} {
		if err := WriteSecret(path, nil); err == nil || !strings.Contains(err.Error(), "writing "+path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("writing %s: %v", path, err)
		}
	}
	for _, d := range []string{outer, dir} {
		entries, err := os.ReadDir(d)
		if err != nil || len(entries) != map[string]int{outer: 1, dir: 2}[d] {
			t.Errorf("left in %s: %v, %v", d, entries, err)
		}
	}
}

// serve runs a host on a free port, with its kubeconfig in its data directory, until the test ends or stop is called.
func serve(t *testing.T, o Options) (h *Host, stop func()) {
	t.Helper()
	o.Listen, o.Kubeconfig = "127.0.0.1:0", filepath.Join(o.Data, "kubeconfig")
	ctx, cancel := context.WithCancel(context.Background())
	h, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Serve(ctx, func() { close(ready) }); err != nil {
			t.Error(err)
		}
	}()
	<-ready
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return h, stop
}

// client makes a cluster and returns its admin's client.
func client(t *testing.T, h *Host, name string) *kubernetes.Clientset {
	t.Helper()
	info, keys, err := h.maker.Create(t.Context(), name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := h.kubeconfig(info, keys)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClustersAnswerWhileTheyArePutToSleepAndWoken uses more clusters at once than are kept awake, one of which is
// deleted meanwhile, and stops the host in the middle of it.
func TestClustersAnswerWhileTheyArePutToSleepAndWoken(t *testing.T) {
	const members, writes = 5, 30
	dir := t.TempDir()
	h, stop := serve(t, Options{Data: dir, MaxAwake: 2})
	var clients []*kubernetes.Clientset
	for i := range members {
		clients = append(clients, client(t, h, fmt.Sprintf("c%d", i)))
	}
	ctx := t.Context()
	var wg sync.WaitGroup
	for n, c := range clients {
		wg.Go(func() {
			for i := range writes {
				cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("cm-", i)}}
				if _, err := c.CoreV1().ConfigMaps("default").Create(ctx, cm, metav1.CreateOptions{}); err != nil {
					t.Errorf("cluster %d, write %d: %v", n, i, err)
					return
				}
				list, err := c.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
				if err != nil || len(list.Items) != i+2 { // and kube-root-ca.crt
					t.Errorf("cluster %d, after write %d there are %d, %v", n, i, len(list.Items), err)
					return
				}
				go h.clusters.sleepExcess()
			}
		})
	}
	wg.Wait()
	if _, err := h.deleteCluster(httptest.NewRequest(http.MethodDelete, "/", nil), "c0"); err != nil {
		t.Error(err)
	}
	if _, err := h.clusters.get(ctx, "c0"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("the deleted cluster: %v", err)
	}
	go func() { _, _ = clients[1].CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{}) }()
	stop()
	if _, err := h.clusters.get(ctx, "c1"); !errors.Is(err, errStopping) {
		t.Errorf("a stopped host: %v", err)
	}
	again, _ := serve(t, Options{Data: dir, MaxAwake: 2})
	infos, err := again.maker.Registry.List(ctx)
	if err != nil || len(infos) != members { // and default
		t.Errorf("after a restart there are %d clusters, %v", len(infos), err)
	}
}
