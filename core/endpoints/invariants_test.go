package endpoints_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/tests/oracle/endpoints/world"
)

// TestSlicesHoldThePodsOfTheirServiceAndSettle changes a world at random. Whenever it has settled, which it must, the endpoints of each Service are
// its pods, each once, with their states, and no slice is too long.
func TestSlicesHoldThePodsOfTheirServiceAndSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := world.New()
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			w.Step(t)
			if err := w.Settle(); err != nil {
				t.Fatal(err)
			}
			for name, svc := range w.Services {
				if !endpoints.Selected(svc) {
					continue
				}
				if diff := cmp.Diff(expected(w, svc), held(t, w, svc)); diff != "" {
					t.Fatalf("endpoints of %s (-pods +slices): %s", name, diff)
				}
			}
		}
	})
}

// expected are the endpoints that a Service should have, one line each.
func expected(w *world.World, svc *corev1.Service) []string {
	var out []string
	for _, pod := range w.Selected(svc) {
		if pod.Status.Phase == corev1.PodFailed || w.Nodes[pod.Spec.NodeName] == nil && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		ready, terminating := pod.Status.Conditions[0].Status == corev1.ConditionTrue, pod.DeletionTimestamp != nil
		for _, ip := range pod.Status.PodIPs {
			family := corev1.IPv4Protocol
			if ip.IP[0] == 'f' {
				family = corev1.IPv6Protocol
			}
			if slices.Contains(svc.Spec.IPFamilies, family) {
				out = append(out, fmt.Sprintf("%s %s %s ready=%t serving=%t terminating=%t", family, pod.Name, ip.IP,
					ready && !terminating || svc.Spec.PublishNotReadyAddresses, ready, terminating))
			}
		}
	}
	slices.Sort(out)
	return out
}

// held are the endpoints that its slices have.
func held(t *rapid.T, w *world.World, svc *corev1.Service) []string {
	var out []string
	for _, slice := range w.SlicesOf(svc.Name, endpoints.SliceManager) {
		if len(slice.Endpoints) > 100 {
			t.Fatalf("slice %s has %d endpoints", slice.Name, len(slice.Endpoints))
		}
		for _, e := range slice.Endpoints {
			out = append(out, fmt.Sprintf("%s %s %s ready=%t serving=%t terminating=%t", slice.AddressType, e.TargetRef.Name, e.Addresses[0],
				*e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating))
		}
	}
	slices.Sort(out)
	return out
}

// TestEveryFamilyHasASlice holds whether there are endpoints or not.
func TestEveryFamilyHasASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := world.New()
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			w.Step(t)
		}
		if err := w.Settle(); err != nil {
			t.Fatal(err)
		}
		for name, svc := range w.Services {
			if !endpoints.Selected(svc) {
				continue
			}
			have := map[discoveryv1.AddressType]bool{}
			for _, slice := range w.SlicesOf(name, endpoints.SliceManager) {
				have[slice.AddressType] = true
			}
			if len(have) != len(svc.Spec.IPFamilies) {
				t.Fatalf("%s has families %v and slices of %v", name, svc.Spec.IPFamilies, have)
			}
		}
	})
}
