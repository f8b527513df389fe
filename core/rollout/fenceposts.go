package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func isRollingUpdate(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType
}

// rollingUpdate are the maxSurge and maxUnavailable of the spec, nil where they are not given.
func rollingUpdate(d *appsv1.Deployment) (surge, unavailable *intstr.IntOrString) {
	if d.Spec.Strategy.RollingUpdate == nil {
		return nil, nil
	}
	return d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable
}

// resolveFenceposts resolves maxSurge (rounded up) and maxUnavailable (rounded down) together, since
// both may not be 0: deployment/util/deployment_util.go ResolveFenceposts. The error is that of a
// value which is neither a number nor a percentage.
func resolveFenceposts(surgeField, unavailableField *intstr.IntOrString, desired int32) (surge, unavailable int32, err error) {
	s, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(surgeField, intstr.FromInt32(0)), int(desired), true)
	if err != nil {
		return 0, 0, fmt.Errorf("resolving maxSurge: %w", err)
	}
	u, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(unavailableField, intstr.FromInt32(0)), int(desired), false)
	if err != nil {
		return 0, 0, fmt.Errorf("resolving maxUnavailable: %w", err)
	}
	if s == 0 && u == 0 {
		// Rounding made both 0. Surge might not work for want of quota, so unavailability gives way.
		u = 1
	}
	return int32(s), int32(u), nil //nolint:gosec // upstream's arithmetic
}

// maxUnavailable is how many of the desired replicas a rolling update may leave unavailable:
// deployment/util/deployment_util.go MaxUnavailable. Validation keeps out what cannot be resolved.
func maxUnavailable(d *appsv1.Deployment) int32 {
	if !isRollingUpdate(d) || desiredOf(d) == 0 {
		return 0
	}
	surge, unavailable := rollingUpdate(d)
	_, resolved, _ := resolveFenceposts(surge, unavailable, desiredOf(d))
	return min(resolved, desiredOf(d))
}

// maxSurge is how many replicas a rolling update may have above the desired:
// deployment/util/deployment_util.go MaxSurge.
func maxSurge(d *appsv1.Deployment) int32 {
	if !isRollingUpdate(d) {
		return 0
	}
	surge, unavailable := rollingUpdate(d)
	resolved, _, _ := resolveFenceposts(surge, unavailable, desiredOf(d))
	return resolved
}

// newReplicas is the size that the new set should have: all that fit below desired plus surge,
// deployment/util/deployment_util.go NewRSNewReplicas. all includes newSet. The error is that of a
// strategy or a maxSurge that validation would have refused.
func newReplicas(d *appsv1.Deployment, all []*appsv1.ReplicaSet, newSet *appsv1.ReplicaSet) (int32, error) {
	switch d.Spec.Strategy.Type {
	case appsv1.RecreateDeploymentStrategyType:
		return desiredOf(d), nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		surgeField, _ := rollingUpdate(d)
		surge, err := intstr.GetScaledValueFromIntOrPercent(surgeField, int(desiredOf(d)), true)
		if err != nil {
			return 0, fmt.Errorf("resolving maxSurge: %w", err)
		}
		current, limit := sizes(all), desiredOf(d)+int32(surge) //nolint:gosec // upstream's arithmetic
		if current >= limit {
			return sizeOf(newSet), nil
		}
		return sizeOf(newSet) + min(limit-current, desiredOf(d)-sizeOf(newSet)), nil
	default:
		return 0, fmt.Errorf("deployment type %v isn't supported", d.Spec.Strategy.Type)
	}
}
