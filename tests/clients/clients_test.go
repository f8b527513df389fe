// Package clients_test runs unmodified clients against a cluster: client-go's informers, and an operator on
// controller-runtime (tests/operator). Which cluster, says the environment: see tests/upstream/target.
//
//	go test ./tests/clients
//	ZEROPLANE_TARGET=upstream go test ./tests/clients
package clients_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// nodes is enough for the operator's pods.
	nodes = 2
	// waitTimeout bounds every wait in these tests.
	waitTimeout = 60 * time.Second
	// waitInterval is the pause between two looks.
	waitInterval = 50 * time.Millisecond
)

var cluster *target.Cluster

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if cluster, err = target.Start(context.Background(), nodes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

// newClient is an admin's client without client-side limits.
func newClient(t *testing.T) kubernetes.Interface {
	t.Helper()
	config, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// newNamespace makes a namespace that goes with the test.
func newNamespace(t *testing.T, client kubernetes.Interface, name string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}
	namespace, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		_ = client.CoreV1().Namespaces().Delete(ctx, namespace.Name, metav1.DeleteOptions{})
	})
	return namespace.Name
}

// eventually fails the test when done still has a reason to wait at the end of waitTimeout.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		reason := done()
		if reason == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("waiting for %s: %v", what, reason)
		case <-ticker.C:
		}
	}
}
