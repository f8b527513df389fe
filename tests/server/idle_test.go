package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	idleNodes = 100
	// restTimeout is what the server has to come to rest, idle how long it must then rest.
	restTimeout = 30 * time.Second
	quiet       = 2 * time.Second
	idle        = 8 * time.Second
	// waitTimeout bounds every other wait.
	waitTimeout = time.Minute
	namespace   = metav1.NamespaceDefault
)

// kinds has one of every log.
var kinds = []string{
	"/api/v1/pods", "/api/v1/nodes", "/apis/coordination.k8s.io/v1/leases", "/api/v1/events", "/api/v1/endpoints",
	"/apis/apps/v1/deployments", "/api/v1/namespaces", "/api/v1/configmaps",
}

// TestNothingIsWrittenWhileNothingHappens looks at the logs' revisions, and at the files of the store.
func TestNothingIsWrittenWhileNothingHappens(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: idleNodes})
	s.WaitForNodes(t)
	store := filepath.Join(local.DataDir(s.Dir), "store")
	last, since := files(t, store), time.Now()
	local.Eventually(t, restTimeout, "the server to come to rest", func() error {
		if now := files(t, store); !cmp.Equal(now, last) {
			last, since = now, time.Now()
		}
		if rested := time.Since(since); rested < quiet {
			return fmt.Errorf("it rests for %v", rested)
		}
		return nil
	})
	before := revisions(t, s.Client)
	last = files(t, store)
	local.Always(t, idle, "while nothing happened", func() error {
		if diff := cmp.Diff(last, files(t, store)); diff != "" {
			return fmt.Errorf("something was written (-before +after):\n%s", diff)
		}
		return nil
	})
	if diff := cmp.Diff(before, revisions(t, s.Client)); diff != "" {
		t.Errorf("logs moved (-before +after):\n%s", diff)
	}
}

// files are the sizes and times of change of the files of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = fmt.Sprintf("%d bytes at %v", info.Size(), info.ModTime())
	}
	return out
}

func revisions(t *testing.T, client *kubernetes.Clientset) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, path := range kinds {
		var list metav1.PartialObjectMetadataList
		err := client.CoreV1().RESTClient().Get().AbsPath(path).
			SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").Do(t.Context()).Into(&list)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = list.ResourceVersion
	}
	return out
}
