// Package kubectl_test drives real kubectl against a cluster and compares what it prints, word for word.
//
// A scenario is a file under testdata: bash commands and the output that they have. The outputs are
// upstream's: they were written by running the scenarios with -rewrite against kube-apiserver, etcd,
// kube-controller-manager and kube-scheduler, and the same run without -rewrite proves that they still are.
//
//	ZEROPLANE_TARGET=upstream go test ./tests/kubectl            # is this what upstream does?
//	go test ./tests/kubectl                                      # does zeroplane do the same?
//	go test ./tests/kubectl -run TestKubectl/together/rollout    # one scenario
//	go test ./tests/kubectl -rewrite && git diff tests/kubectl   # every difference at once
//
// See README.md for the language of the scenarios.
package kubectl_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// nodes is how many nodes the scenarios are written for.
	nodes = 5
	// parallel scenarios: they wait more than they compute, and each kubectl is a process of 100 ms.
	parallel = "4"
	// coldParallel is the same where each request of a kubectl may start a server: then they compute more than they wait.
	coldParallel = "2"
)

// fixture is what all scenarios share.
type fixture struct {
	cluster *target.Cluster
	// bin is a folder with an executable kubectl, home one for its caches.
	bin, home string
}

var shared fixture

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	atOnce := parallel
	if os.Getenv("ZEROPLANE_TARGET") == target.Lambda {
		atOnce, commandTimeout = coldParallel, coldCommandTimeout
	}
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "kubectl-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := setUp(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := shared.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

// setUp finds kubectl and starts the cluster.
func setUp(ctx context.Context, dir string) error {
	shared.bin, shared.home = filepath.Join(dir, "bin"), filepath.Join(dir, "home")
	for _, folder := range []string{shared.bin, shared.home} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
	}
	if err := installKubectl(ctx, filepath.Join(shared.bin, "kubectl")); err != nil {
		return err
	}
	cluster, err := target.Start(ctx, nodes)
	if err != nil {
		return err
	}
	shared.cluster = cluster
	return nil
}

// installKubectl puts the real kubectl at path when tests/peers/build.sh has built it, else zeroplane's own,
// which is the same code behind `zeroplane kubectl`.
func installKubectl(ctx context.Context, path string) error {
	peers, err := upstream.BinariesDir()
	if err != nil {
		return err
	}
	script := "#!/bin/sh\nexec " + filepath.Join(peers, "kubectl") + " \"$@\"\n"
	if _, err := os.Stat(filepath.Join(peers, "kubectl")); err != nil {
		binary, err := target.Build(ctx)
		if err != nil {
			return err
		}
		script = "#!/bin/sh\nexec " + binary + " kubectl \"$@\"\n"
	}
	return os.WriteFile(path, []byte(script), 0o700) // #nosec G306 -- it must be executable
}

// TestKubectl runs the scenarios of testdata/alone one by one, then those of testdata/together side by side, then those of
// testdata/ours, which are of what upstream leaves to others.
func TestKubectl(t *testing.T) {
	folders := []string{"alone", "together", "ours"}
	if shared.cluster.Name == target.Upstream {
		folders = folders[:2]
	}
	for _, folder := range folders {
		paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) == 0 {
			t.Fatalf("no scenario in testdata/%s", folder)
		}
		t.Run(folder, func(t *testing.T) {
			for _, path := range paths {
				t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
					if folder == "together" {
						t.Parallel()
					}
					runScenario(t, path)
				})
			}
		})
	}
}
