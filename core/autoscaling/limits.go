package autoscaling

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// What an autoscaler without behavior is limited to in one step up. Upstream: horizontal.go.
const (
	scaleUpLimitFactor  = 2
	scaleUpLimitMinimum = 4
)

// limits are what a recommendation is subject to.
type limits struct {
	current, least, most int32
	behavior             *autoscalingv2.HorizontalPodAutoscalerBehavior
}

// limited is what became of a recommendation.
type limited struct {
	replicas int32
	// stabilized is what the windows made of it, and why says which way.
	stabilized int32
	why        said
	// bound says what limits the replicas, or would.
	bound said
}

// said is the reason and the message of a condition.
type said struct{ reason, message string }

var (
	withinRange    = said{"DesiredWithinRange", "the desired count is within the acceptable range"}
	tooFew         = said{"TooFewReplicas", "the desired replica count is less than the minimum replica count"}
	tooMany        = said{"TooManyReplicas", "the desired replica count is more than the maximum replica count"}
	scaleUpLimit   = said{"ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
	scaleDownLimit = said{"ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
	heldUp         = said{"ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"}
	heldDown       = said{"ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"}
)

// limit is what remains of a recommendation, with the conditions that say so.
//
// Upstream: normalizeDesiredReplicas, normalizeDesiredReplicasWithBehaviors (horizontal.go).
func (d *decision) limit(wanted int32) int32 {
	l := limits{d.in.Scale.SpecReplicas, d.in.minReplicas(), d.in.Autoscaler.Spec.MaxReplicas, d.in.Autoscaler.Spec.Behavior}
	out := l.apply(&d.state, wanted, d.in.Now)
	able := said{"ReadyForNewScale", "recommended size matches current size"}
	if out.stabilized != wanted {
		able = out.why
	}
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, able.reason, able.message)
	status := corev1.ConditionFalse
	if out.replicas != out.stabilized {
		status = corev1.ConditionTrue
	}
	d.condition(autoscalingv2.ScalingLimited, status, out.bound.reason, out.bound.message)
	d.reconsider(l, wanted, out)
	return out.replicas
}

// apply stabilizes a recommendation, which the state gets, and then limits it.
func (l limits) apply(s *State, wanted int32, now time.Time) limited {
	out := limited{why: heldUp}
	if l.behavior == nil {
		out.stabilized = s.highest(wanted, now)
		out.replicas, out.bound = l.within(out.stabilized)
		return out
	}
	if wanted >= l.current {
		out.why = heldDown
	}
	up, down := scaleUpRules(l.behavior), scaleDownRules(l.behavior)
	out.stabilized = s.between(l.current, wanted, seconds(*up.StabilizationWindowSeconds), seconds(*down.StabilizationWindowSeconds), now)
	out.replicas, out.bound = l.atRate(s, out.stabilized, now)
	return out
}

// highest is the highest recommendation of the window.
//
// Upstream: stabilizeRecommendation (horizontal.go).
func (s *State) highest(wanted int32, now time.Time) int32 {
	out, old := wanted, -1
	cutoff := now.Add(-downscaleStabilization)
	for i, r := range s.Recommendations {
		if r.At.Before(cutoff) {
			old = i
		} else {
			out = max(out, r.Replicas)
		}
	}
	s.recommend(wanted, now, old)
	return out
}

// within is upstream's convertDesiredReplicasWithRules (horizontal.go).
func (l limits) within(wanted int32) (int32, said) {
	most, bound := l.most, tooMany
	if limit := int32(max(scaleUpLimitFactor*float64(l.current), scaleUpLimitMinimum)); most > limit {
		most, bound = limit, scaleUpLimit
	}
	switch {
	case wanted < l.least:
		return l.least, tooFew
	case wanted > most:
		return most, bound
	}
	return wanted, withinRange
}
