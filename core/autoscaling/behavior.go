package autoscaling

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/utils/ptr"
)

// scaleUpRules are the rules with what the API server fills in.
//
// Upstream: GenerateHPAScaleUpRules (pkg/apis/autoscaling/v2/defaults.go).
func scaleUpRules(b *autoscalingv2.HorizontalPodAutoscalerBehavior) autoscalingv2.HPAScalingRules {
	return filled(b.ScaleUp, 0, []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	})
}

// scaleDownRules are the rules with what the API server and the controller fill in.
//
// Upstream: GenerateHPAScaleDownRules (pkg/apis/autoscaling/v2/defaults.go),
// maybeInitScaleDownStabilizationWindow (horizontal.go).
func scaleDownRules(b *autoscalingv2.HorizontalPodAutoscalerBehavior) autoscalingv2.HPAScalingRules {
	return filled(b.ScaleDown, int32(downscaleStabilization/time.Second), []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	})
}

func filled(rules *autoscalingv2.HPAScalingRules, window int32, policies []autoscalingv2.HPAScalingPolicy) autoscalingv2.HPAScalingRules {
	out := ptr.Deref(rules, autoscalingv2.HPAScalingRules{})
	out.SelectPolicy = new(ptr.Deref(out.SelectPolicy, autoscalingv2.MaxChangePolicySelect))
	out.StabilizationWindowSeconds = new(ptr.Deref(out.StabilizationWindowSeconds, window))
	if out.Policies == nil {
		out.Policies = policies
	}
	return out
}

// between is the number nearest to the current one that is at least the lowest recommendation of the
// window up, and at most the highest of the window down.
//
// Upstream: stabilizeRecommendationWithBehaviors (horizontal.go).
func (s *State) between(current, wanted int32, up, down time.Duration, now time.Time) int32 {
	lowest, highest, old := wanted, wanted, -1
	upCutoff, downCutoff := now.Add(-up), now.Add(-down)
	for i, r := range s.Recommendations {
		if r.At.After(upCutoff) {
			lowest = min(lowest, r.Replicas)
		}
		if r.At.After(downCutoff) {
			highest = max(highest, r.Replicas)
		}
		if r.At.Before(upCutoff) && r.At.Before(downCutoff) {
			old = i
		}
	}
	s.recommend(wanted, now, old)
	return min(max(current, lowest), highest)
}

// atRate limits a change to what the policies allow, and to the range.
//
// Upstream: convertDesiredReplicasWithBehaviorRate (horizontal.go).
func (l limits) atRate(s *State, wanted int32, now time.Time) (int32, said) {
	switch {
	case wanted > l.current:
		most, bound := l.most, tooMany
		if limit := max(l.current, l.highestByRate(s, now)); most > limit {
			most, bound = limit, scaleUpLimit
		}
		if wanted > most {
			return most, bound
		}
	case wanted < l.current:
		least, bound := l.least, tooFew
		if limit := min(l.current, l.lowestByRate(s, now)); least < limit {
			least, bound = limit, scaleDownLimit
		}
		if wanted < least {
			return least, bound
		}
	}
	return wanted, withinRange
}

// highestByRate is the most replicas that the policies allow.
//
// Upstream: calculateScaleUpLimitWithScalingRules (horizontal.go).
func (l limits) highestByRate(s *State, now time.Time) int32 {
	rules := scaleUpRules(l.behavior)
	choose, out := larger, int32(math.MinInt32)
	switch *rules.SelectPolicy {
	case autoscalingv2.DisabledPolicySelect:
		return l.current
	case autoscalingv2.MinChangePolicySelect:
		choose, out = smaller, math.MaxInt32
	default:
	}
	for _, policy := range rules.Policies {
		start := l.periodStart(s, policy, now)
		allowed := start + policy.Value
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			// Rounded up, or few replicas would never become more.
			allowed = int32(math.Ceil(float64(start) * (1 + float64(policy.Value)/100)))
		}
		out = choose(out, allowed)
	}
	return out
}

// lowestByRate is the fewest replicas that the policies allow.
//
// Upstream: calculateScaleDownLimitWithBehaviors (horizontal.go).
func (l limits) lowestByRate(s *State, now time.Time) int32 {
	rules := scaleDownRules(l.behavior)
	choose, out := smaller, int32(math.MaxInt32)
	switch *rules.SelectPolicy {
	case autoscalingv2.DisabledPolicySelect:
		return l.current
	case autoscalingv2.MinChangePolicySelect:
		choose, out = larger, math.MinInt32
	default:
	}
	for _, policy := range rules.Policies {
		start := l.periodStart(s, policy, now)
		allowed := start - policy.Value
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			allowed = int32(float64(start) * (1 - float64(policy.Value)/100))
		}
		out = choose(out, allowed)
	}
	return out
}

// periodStart is how many replicas there were when the period of a policy began.
//
// Upstream: getReplicasChangePerPeriod (horizontal.go).
func (l limits) periodStart(s *State, policy autoscalingv2.HPAScalingPolicy, now time.Time) int32 {
	cutoff := now.Add(-seconds(policy.PeriodSeconds))
	return l.current - changes(s.ScaleUps, cutoff) + changes(s.ScaleDowns, cutoff)
}

// changes adds the scalings after a time.
func changes(list []Scaling, cutoff time.Time) int32 {
	var n int32
	for _, s := range list {
		if s.At.After(cutoff) {
			n += s.Change
		}
	}
	return n
}

func larger(a, b int32) int32 { return max(a, b) }

func smaller(a, b int32) int32 { return min(a, b) }
