package disruption

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// expectation is how many pods a budget covers, and how many of them must be healthy.
type expectation struct{ pods, healthy int32 }

// expected returns what the budget asks for, and the pods without a controller, whose number cannot
// be told.
//
// Upstream: getExpectedPodCount.
func (in Input) expected() (want expectation, unmanaged []string, err error) {
	maximum, minimum := in.Budget.Spec.MaxUnavailable, in.Budget.Spec.MinAvailable
	switch {
	case maximum != nil:
		if want.pods, unmanaged, err = in.scale(); err != nil {
			return want, nil, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(maximum, int(want.pods), true)
		want.healthy = max(want.pods-int32(n), 0) //nolint:gosec // upstream's arithmetic
		return want, unmanaged, err
	case minimum == nil:
		return want, nil, nil
	case minimum.Type == intstr.Int:
		return expectation{pods: int32(len(in.Pods)), healthy: minimum.IntVal}, nil, nil //nolint:gosec // a number of pods
	default:
		if want.pods, unmanaged, err = in.scale(); err != nil {
			return want, nil, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(minimum, int(want.pods), true)
		want.healthy = int32(n) //nolint:gosec // upstream's arithmetic
		return want, unmanaged, err
	}
}

// scale adds up the replicas of the pods' controllers, each once.
//
// Upstream: getExpectedScale.
func (in Input) scale() (total int32, unmanaged []string, err error) {
	counted := map[types.UID]bool{}
	for _, pod := range in.Pods {
		ref := metav1.GetControllerOf(pod)
		if ref == nil {
			unmanaged = append(unmanaged, pod.Name)
			continue
		}
		c, found := in.Controllers[ref.UID]
		switch {
		case !found:
			return 0, nil, fmt.Errorf("found no controllers for pod %q", pod.Name)
		case c.Err != nil:
			return 0, nil, c.Err
		case !counted[c.UID]:
			counted[c.UID] = true
			total += c.Replicas
		}
	}
	return total, unmanaged, nil
}
