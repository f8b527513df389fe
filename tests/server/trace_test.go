package server_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/tracing"
	"github.com/zeroplane/zeroplane/adapters/trail"
	"github.com/zeroplane/zeroplane/tests/local"
)

// spans collects what a server sends to it, as a collector of OpenTelemetry does: the parents of spans, by "TRACE/SPAN".
type spans struct {
	collector.UnimplementedTraceServiceServer

	mu      sync.Mutex
	parents map[string]string
	calls   int
}

// Export implements collector.TraceServiceServer.
func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for _, of := range req.GetResourceSpans() {
		for _, scope := range of.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.parents[hex.EncodeToString(span.GetTraceId())+"/"+hex.EncodeToString(span.GetSpanId())] = hex.EncodeToString(span.GetParentSpanId())
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (s *spans) parent(trace, span string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, ok := s.parents[trace+"/"+span]
	return parent, ok
}

func collect(t *testing.T) *spans {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &spans{parents: map[string]string{}}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	t.Setenv(tracing.EndpointEnv, "http://"+listener.Addr().String())
	return s
}

// The trace in which the request of the test is sent.
const (
	sentTrace = "0af7651916cd43dd8448eb211c80319c"
	sentSpan  = "b7ad6b7169203331"
)

func follow(t *testing.T, s *local.Server, arguments ...string) trail.Trail {
	t.Helper()
	got := local.Run(t, append([]string{"events", "trace", "-o", "json", "--kubeconfig=" + s.Kubeconfig}, arguments...)...)
	var out trail.Trail
	if err := json.Unmarshal([]byte(got.Stdout), &out); err != nil {
		t.Fatalf("events trace %q: %v\n%+v", arguments, err, got)
	}
	return out
}

// does finds the step of a trail that is by somebody, does something to a resource and has a parent, and returns its span.
func does(t *testing.T, all trail.Trail, by, what, resource, parent string) string {
	t.Helper()
	for _, s := range all.Steps {
		if s.By == by && s.Resource == resource && s.Parent == parent && (s.Type == what || strings.Contains(strings.Join(s.Changes, ","), what)) {
			return s.Span
		}
	}
	t.Fatalf("no %s of %s by %s because of %s in %+v", what, resource, by, parent, all.Steps)
	return ""
}

// TestAScaleIsFollowedToItsPods from the request, whose trace it keeps, to the last status, in the logs and in what a
// collector gets.
func TestAScaleIsFollowedToItsPods(t *testing.T) {
	collected := collect(t)
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	kubectl(t, s, "create", "deployment", "web", "--image=example.com/web")
	available(t, s, 1)
	err := s.Client.AppsV1().RESTClient().Patch(types.MergePatchType).Namespace(namespace).Resource("deployments").Name("web").
		SetHeader("Traceparent", "00-"+sentTrace+"-"+sentSpan+"-01").SetHeader("User-Agent", "test/1.0").
		Body([]byte(`{"spec":{"replicas":3}}`)).Do(t.Context()).Error()
	if err != nil {
		t.Fatal(err)
	}
	available(t, s, 3)

	all := follow(t, s, "deploy/web")
	if all.Trace != sentTrace || len(all.Traces) != 2 || all.Truncated {
		t.Errorf("trace %s of %d, truncated %t", all.Trace, len(all.Traces), all.Truncated)
	}
	checkScale(t, all)
	local.Eventually(t, waitTimeout, "the collector to have every span", func() error {
		for _, step := range all.Steps {
			if parent, ok := collected.parent(step.Trace, step.Span); !ok || step.Parent != "" && parent != step.Parent {
				return fmt.Errorf("%s of %s by %s: exported with the parent %q, stored with %q", step.Type, step.Name, step.By, parent, step.Parent)
			}
		}
		return nil
	})
	drawn := local.Run(t, "events", "trace", "deployment", "web", "--kubeconfig="+s.Kubeconfig).Stdout
	for _, want := range []string{"Trace " + sentTrace, "test", "└─ deployment-controller", "spec.replicas: 1 -> 3", "simulated-kubelet", "Other traces"} {
		if !strings.Contains(drawn, want) {
			t.Errorf("no %q in\n%s", want, drawn)
		}
	}
	s.Kill(t)
	again := s.Again(t)
	if after := follow(t, again, "deploy/web", "--trace="+sentTrace); len(after.Steps) < len(all.Steps) {
		t.Errorf("after a crash %d steps are left of %d", len(after.Steps), len(all.Steps))
	}
	refusesOthers(t, again)
}

// checkScale checks that each part of a scale from 1 to 3 is there, and because of the one before.
func checkScale(t *testing.T, all trail.Trail) {
	t.Helper()
	request := ""
	for _, s := range all.Steps {
		if s.By == "test" {
			request = s.Span
		}
	}
	set := does(t, all, "deployment-controller", "spec.replicas: 1 -> 3", "replicasets", request)
	pods := does(t, all, "replicaset-controller", "created", "pods", set)
	bound := does(t, all, "system:kube-scheduler", "spec.nodeName: none -> node-", "pods", pods)
	does(t, all, "simulated-kubelet", "status.phase: Pending -> Running", "pods", bound)
	does(t, all, "replicaset-controller", "status.observedGeneration: 1 -> 2", "replicasets", set)
}

func refusesOthers(t *testing.T, s *local.Server) {
	t.Helper()
	for arguments, want := range map[string]string{
		"deploy/none": "no change is kept", "deploy": "KIND/NAME", "nonsense/x": `the server doesn't have a resource type "nonsense"`,
	} {
		if got := local.Run(t, "events", "trace", arguments, "--kubeconfig="+s.Kubeconfig); got.Code == 0 || !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: %+v", arguments, got)
		}
	}
}

func kubectl(t *testing.T, s *local.Server, arguments ...string) {
	t.Helper()
	if got := local.Run(t, append([]string{"kubectl", "--kubeconfig=" + s.Kubeconfig}, arguments...)...); got.Code != 0 {
		t.Fatalf("kubectl %q: %+v", arguments, got)
	}
}

// available waits until the Deployment "web" has so many available replicas and no other pods.
func available(t *testing.T, s *local.Server, n int32) {
	t.Helper()
	local.Eventually(t, waitTimeout, "the replicas", func() error {
		d, err := s.Client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err == nil && (d.Status.AvailableReplicas != n || d.Status.ObservedGeneration != d.Generation) {
			err = fmt.Errorf("the status is %+v", d.Status)
		}
		return err
	})
}

// TestACollectorThatIsGoneKeepsNobodyWaiting and nothing is sent to it while nothing happens.
func TestACollectorThatIsGoneKeepsNobodyWaiting(t *testing.T) {
	t.Setenv(tracing.EndpointEnv, "http://127.0.0.1:1")
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 1})
	s.WaitForNodes(t)
	kubectl(t, s, "create", "deployment", "web", "--image=example.com/web")
	available(t, s, 1)
	s.Stop(t)
}
