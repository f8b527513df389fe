package endpoints_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/endpointslice/util"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/oracle/endpoints/world"
)

// recording is a client that keeps the slices of one Service.
type recording struct {
	kubernetes.Interface
	discoveryclient.DiscoveryV1Interface
	discoveryclient.EndpointSliceInterface
	slices map[string]*discoveryv1.EndpointSlice
}

func (r *recording) DiscoveryV1() discoveryclient.DiscoveryV1Interface { return r }

func (r *recording) EndpointSlices(string) discoveryclient.EndpointSliceInterface { return r }

func (r *recording) Create(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.CreateOptions) (*discoveryv1.EndpointSlice, error) {
	slice.Name = fmt.Sprintf("created-%d", len(r.slices))
	r.slices[slice.Name] = slice
	return slice, nil
}

func (r *recording) Update(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.UpdateOptions) (*discoveryv1.EndpointSlice, error) {
	r.slices[slice.Name] = slice
	return slice, nil
}

func (r *recording) Delete(_ context.Context, name string, _ metav1.DeleteOptions) error {
	delete(r.slices, name)
	return nil
}

// lister knows nodes.
type lister struct {
	corelisters.NodeLister
	nodes map[string]*corev1.Node
}

func (l lister) Get(name string) (*corev1.Node, error) {
	if node := l.nodes[name]; node != nil {
		return node, nil
	}
	return nil, apierrors.NewNotFound(plan.Nodes.GroupResource(), name)
}

// upstream returns the slices that the Reconciler leaves, and the reasons of its events about hints.
func upstream(t *rapid.T, w *world.World, svc *corev1.Service) ([]*discoveryv1.EndpointSlice, []string) {
	client := &recording{slices: map[string]*discoveryv1.EndpointSlice{}}
	var existing []*discoveryv1.EndpointSlice
	for _, slice := range w.SlicesOf(svc.Name, endpoints.SliceManager) {
		existing = append(existing, slice.DeepCopy())
		client.slices[slice.Name] = slice.DeepCopy()
	}
	zones := topologycache.NewTopologyCache()
	zones.SetNodes(logr.Discard(), slices.Collect(maps.Values(w.Nodes)))
	for _, slice := range existing {
		for i := range slice.Endpoints {
			if h := slice.Endpoints[i].Hints; h != nil && len(h.ForZones) > 0 && !prefers(svc) {
				zones.SetHints(svc.Namespace+"/"+svc.Name, slice.AddressType, topologycache.EndpointZoneInfo{})
			}
		}
	}
	events := record.NewFakeRecorder(10)
	r := endpointslice.NewReconciler(client, lister{nodes: w.Nodes}, 100, util.NewEndpointSliceTracker(), zones, events, endpoints.SliceManager,
		endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	if err := r.Reconcile(logr.Discard(), svc, w.Selected(svc), existing, w.Now); err != nil && !strings.Contains(err.Error(), "skipping Pod") {
		t.Fatal(err)
	}
	close(events.Events)
	var reasons []string
	for e := range events.Events {
		reasons = append(reasons, strings.Fields(e)[1])
	}
	slices.Sort(reasons)
	return slices.Collect(maps.Values(client.slices)), reasons
}

// prefers reports whether a Service's hints are those of its traffic distribution, which are nobody's to announce.
func prefers(svc *corev1.Service) bool {
	d := svc.Spec.TrafficDistribution
	return !endpoints.WantsZones(svc) && d != nil && strings.HasPrefix(*d, "Prefer")
}

func reasonsOf(p plan.Plan) []string {
	var out []string
	for _, n := range p.Notices {
		out = append(out, n.Reason)
	}
	slices.Sort(out)
	return out
}

// TestEveryDecisionIsTheReconcilersOwn changes a world at random. Whenever a Service's slices are decided, the Reconciler would leave the same.
func TestEveryDecisionIsTheReconcilersOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := world.New()
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			w.Step(t)
			for _, name := range slices.Sorted(maps.Keys(w.Services)) {
				svc := w.Services[name]
				if !endpoints.Selected(svc) {
					continue
				}
				want, reasons := upstream(t, w, svc)
				p, err := w.DecideSlices(name)
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(reasons, reasonsOf(p)); diff != "" && len(p.Writes) > 0 {
					t.Fatalf("events about %s (-upstream +ours):\n%s", name, diff)
				}
				got := w.SlicesOf(name, endpoints.SliceManager)
				owned := func(slice *discoveryv1.EndpointSlice) string { return encoded(slice.OwnerReferences) }
				zones := endpoints.WantsZones(svc)
				if diff := cmp.Or(gocmp.Diff(shownSlices(want, owned, zones), shownSlices(got, owned, zones)), gocmp.Diff(sizes(want), sizes(got))); diff != "" {
					t.Fatalf("%s, having written %d (-upstream +ours):\n%s", name, len(p.Writes), diff)
				}
			}
			if err := w.Settle(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
