// Package differential_test runs the same user scripts against upstream (kube-apiserver, etcd, kube-controller-manager,
// kube-scheduler and kwok) and against zeroplane with simulated nodes, lets each settle, and compares what is there then, object
// by object and event by event.
//
// A script is a file under testdata: what a user does, and the state that upstream settles in, recorded with -rewrite.
//
//	ZEROPLANE_TARGET=upstream go test ./tests/differential -rewrite    # record upstream
//	ZEROPLANE_TARGET=upstream go test ./tests/differential             # does upstream do the same again?
//	go test ./tests/differential                                       # does zeroplane do the same?
//	go test ./tests/differential -run Scripts/together/rollout         # one script
//	ZEROPLANE_LONG=1 go test ./tests/differential                      # both, upstream live
//
// The language of the scripts, what is normalised and why, and which script covers what: docs/differential.md.
//
//	script_test.go      the verbs
//	settle_test.go      when a script's objects have settled
//	dump_test.go        what is there
//	normalize_test.go   what differs from run to run
//	usual_test.go       what is the same nearly everywhere
//	compare_test.go     object by object, and the differences that are known
package differential_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// nodes is how many nodes the scripts are written for.
	nodes = 3
	// parallel scripts: they wait more than they compute.
	parallel = "20"
)

// groups are the folders of scripts. Those of "nodes" make and lose nodes, and so have a cluster of their own.
var groups = []string{"together", "nodes"}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestScriptsSettleAsUpstream compares zeroplane, or what ZEROPLANE_TARGET names, with the recording.
func TestScriptsSettleAsUpstream(t *testing.T) {
	runScripts(t, os.Getenv("ZEROPLANE_TARGET"))
}

// TestTheRecordingIsUpstreams compares upstream with its recording, so that the long form compares the two live.
func TestTheRecordingIsUpstreams(t *testing.T) {
	if os.Getenv("ZEROPLANE_LONG") == "" {
		t.Skip("upstream itself is run in the long form")
	}
	if os.Getenv("ZEROPLANE_TARGET") == target.Upstream {
		t.Skip("the other test does")
	}
	runScripts(t, target.Upstream)
}

func runScripts(t *testing.T, name string) {
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			// Two upstream control planes at once are too slow to be a model; two of ours share two cores well.
			if name != target.Upstream {
				t.Parallel()
			}
			runGroup(t, name, group)
		})
	}
}

func runGroup(t *testing.T, name, group string) {
	paths, err := filepath.Glob(filepath.Join("testdata", group, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no script in testdata/%s", group)
	}
	config := start(t, name)
	c := newClients(t, config)
	differences := readDifferences(t)
	t.Run("scripts", func(t *testing.T) {
		for _, path := range paths {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
				t.Parallel()
				script := strings.TrimSuffix(filepath.Base(path), ".txt")
				if name != target.Upstream {
					skipUnserved(t, script, differences)
				}
				s := newScript(t, c, script)
				s.upstream, s.group, s.differences = name == target.Upstream, group, differences
				datadriven.RunTest(t, path, s.step)
				if name != target.Upstream && flag.Lookup("rewrite").Value.String() != "true" {
					for _, reason := range stale(script, differences, s.found) {
						t.Error(reason)
					}
				}
			})
		}
	})
}

// skipUnserved skips a script whose steps are known not to come to their end.
func skipUnserved(t *testing.T, script string, differences []difference) {
	t.Helper()
	for _, d := range differences {
		if d.script == script && d.object == "*" {
			t.Skip(d.reason)
		}
	}
}

// start starts what a name says, and stops it with the test.
func start(t *testing.T, name string) *rest.Config {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var kubeconfig string
	if name == target.Upstream {
		// Only the nodes with our annotation are kwok's, as only those are simulated by zeroplane.
		cluster, err := upstream.Start(ctx, upstream.Options{Nodes: nodes, Annotated: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stop(t, cluster.Stop) })
		kubeconfig = cluster.Kubeconfig
	} else {
		cluster, err := target.Start(ctx, nodes)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stop(t, cluster.Stop) })
		kubeconfig = cluster.Kubeconfig
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	return config
}

func stop(t *testing.T, f func() error) {
	t.Helper()
	if err := f(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
