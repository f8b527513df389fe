package rules

import (
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// endpoints compares the endpoints of each Service, once all has come to rest, with the pods that it selects: each is there once, ready
// or not as it is.
func (h *History) endpoints(say func(string, ...any)) {
	held := map[types.NamespacedName][]string{}
	All(h, plan.EndpointSlices, func(s *discoveryv1.EndpointSlice) {
		name := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.TargetRef != nil {
				held[name] = append(held[name], fmt.Sprintf("%s at %s ready %t", e.TargetRef.Name, e.Addresses[0], *e.Conditions.Ready))
			}
		}
	})
	All(h, plan.Services, func(s *corev1.Service) {
		if s.Spec.Selector == nil {
			return
		}
		h.asked(Endpoints)
		var want []string
		All(h, plan.Pods, func(p *corev1.Pod) {
			if p.Namespace == s.Namespace && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) && !isOver(p) && p.Status.PodIP != "" {
				want = append(want, fmt.Sprintf("%s at %s ready %t", p.Name, p.Status.PodIP, isReady(p) && p.DeletionTimestamp == nil))
			}
		})
		got := held[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}]
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			say("endpoints of %s (-pods +slices):\n%s", id(s), diff)
		}
	})
}
