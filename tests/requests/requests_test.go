// Package requests_test sends the same HTTP requests to kube-apiserver and to zeroplane, and compares the answers: status,
// headers and body, warnings included.
//
// A script is a file under testdata/scripts: requests, and what upstream answered, recorded with -rewrite.
//
//	ZEROPLANE_TARGET=upstream go test ./tests/requests -rewrite    # record upstream
//	ZEROPLANE_TARGET=upstream go test ./tests/requests             # does upstream answer the same again?
//	go test ./tests/requests                                       # does zeroplane?
//	go test ./tests/requests -run Requests/pods                    # one script
//
// The form of scripts, and what is made equal before comparing: docs/requests.md.
//
//	script_test.go       requests
//	answer_test.go       what is answered, made equal
//	differences_test.go  the differences that are known
//	documents_test.go    discovery and OpenAPI
package requests_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// leastRequests is how many requests the scripts have together, at least.
const leastRequests = 200

var cluster *rest.Config

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	stop, err := start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = stop() }()
	return m.Run()
}

// start starts what is asked. Of upstream that is the API server alone: the scripts make nothing that a controller alters.
func start(ctx context.Context) (stop func() error, err error) {
	if !isUpstream() {
		c, err := target.Start(ctx, 0)
		if err != nil {
			return nil, err
		}
		cluster, err = c.RESTConfig()
		return c.Stop, err
	}
	binaries, err := upstream.Binaries(ctx, upstream.Etcd, upstream.APIServer)
	if err != nil {
		return nil, err
	}
	c, err := upstream.Start(ctx, upstream.Options{APIOnly: true, Binaries: binaries})
	if err != nil {
		return nil, err
	}
	cluster, err = c.RESTConfig()
	return c.Stop, err
}

func isUpstream() bool { return os.Getenv("ZEROPLANE_TARGET") == target.Upstream }

func isRecording() bool { return flag.Lookup("rewrite").Value.String() == "true" }

// TestRequestsAreAnsweredAsUpstream compares zeroplane, or what ZEROPLANE_TARGET names, with the recording.
func TestRequestsAreAnsweredAsUpstream(t *testing.T) {
	paths, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := readDifferences(t, "testdata/differences.txt")
	requests, scripts := 0, 0
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		t.Run(name, func(t *testing.T) {
			s := newScript(t, name, known)
			datadriven.RunTest(t, path, s.step)
			for _, failure := range s.failures {
				t.Error(failure)
			}
			scripts, requests = scripts+1, requests+s.sent
			if !isUpstream() && !isRecording() {
				known.checkStale(t, name)
			}
		})
	}
	if scripts < len(paths) {
		return // one was named, or failed
	}
	if requests < leastRequests {
		t.Errorf("the scripts have %d requests, want %d or more", requests, leastRequests)
	}
	if !isUpstream() && !isRecording() {
		known.checkStale(t, "*")
	}
}
