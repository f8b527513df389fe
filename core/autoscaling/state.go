package autoscaling

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// maxHistory is how many recommendations, and how many scalings each way, a State holds: more than
// upstream gathers in the longest window (an hour), looking every 15 seconds. So a row stays below 50 KB
// however often samples arrive.
const maxHistory = 256

// State is what upstream's controller remembers of an autoscaler, as JSON. Times are exact.
type State struct {
	// Recommendations are what metrics asked for. Upstream: recommendations.
	Recommendations []Recommendation `json:"recommendations,omitempty"`
	// ScaleUps and ScaleDowns are the scalings that policies count. Upstream: scaleUpEvents,
	// scaleDownEvents.
	ScaleUps   []Scaling `json:"scaleUps,omitempty"`
	ScaleDowns []Scaling `json:"scaleDowns,omitempty"`
	// Due is when a plan has asked to look again, zero if none has.
	Due time.Time `json:"due,omitzero"`
}

// Recommendation is how many replicas metrics asked for at a time, before any limit.
type Recommendation struct {
	Replicas int32     `json:"replicas"`
	At       time.Time `json:"at"`
}

// Scaling is a change of the number of replicas.
type Scaling struct {
	// Change is how many more or fewer, never negative.
	Change int32     `json:"change"`
	At     time.Time `json:"at"`
	// Outdated ones may be replaced: no policy of the time looked back that far.
	Outdated bool `json:"outdated,omitempty"`
}

func (s State) clone() State {
	s.Recommendations, s.ScaleUps, s.ScaleDowns = slices.Clone(s.Recommendations), slices.Clone(s.ScaleUps), slices.Clone(s.ScaleDowns)
	return s
}

// begin takes the replicas that there are for the first recommendation, so that a new autoscaler does not
// take any away until a window has passed.
//
// Upstream: recordInitialRecommendation (horizontal.go).
func (s *State) begin(current int32, now time.Time) {
	if len(s.Recommendations) == 0 {
		s.Recommendations = []Recommendation{{current, now}}
	}
}

// recommend stores a recommendation in the place of an old one, or behind all.
func (s *State) recommend(replicas int32, now time.Time, old int) {
	r := Recommendation{replicas, now}
	if old >= 0 {
		s.Recommendations[old] = r
		return
	}
	s.Recommendations = append(s.Recommendations, r)
	if len(s.Recommendations) > maxHistory {
		s.Recommendations = newest(s.Recommendations)
	}
}

// newest leaves out what a newer recommendation of the same replicas makes superfluous: no window has
// another greatest or least without it. If those are too many still, the oldest go.
func newest(list []Recommendation) []Recommendation {
	slices.SortStableFunc(list, func(a, b Recommendation) int { return a.At.Compare(b.At) })
	last := map[int32]time.Time{}
	for _, r := range list {
		last[r.Replicas] = r.At
	}
	list = slices.DeleteFunc(list, func(r Recommendation) bool { return !last[r.Replicas].Equal(r.At) })
	return list[max(0, len(list)-maxHistory):]
}

// scaled remembers a scaling for the policies, if there are any.
//
// Upstream: storeScaleEvent (horizontal.go).
func (s *State) scaled(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, from, to int32, now time.Time) {
	switch {
	case behavior == nil:
	case to > from:
		s.ScaleUps = remember(s.ScaleUps, scaleUpRules(behavior), Scaling{Change: to - from, At: now})
	default:
		s.ScaleDowns = remember(s.ScaleDowns, scaleDownRules(behavior), Scaling{Change: from - to, At: now})
	}
}

// remember adds a scaling in the place of the last outdated one, or behind all. If those are too many, the
// two oldest become one, which counts for as long as the younger of them would have.
//
// Upstream: storeScaleEvent, markScaleEventsOutdated (horizontal.go).
func remember(list []Scaling, rules autoscalingv2.HPAScalingRules, added Scaling) []Scaling {
	cutoff := added.At.Add(-longestPeriod(rules.Policies))
	place := -1
	for i := range list {
		if list[i].At.Before(cutoff) {
			list[i].Outdated = true
		}
		if list[i].Outdated {
			place = i
		}
	}
	if place >= 0 {
		list[place] = added
		return list
	}
	list = append(list, added)
	if len(list) > maxHistory {
		slices.SortStableFunc(list, func(a, b Scaling) int { return a.At.Compare(b.At) })
		list[1].Change += list[0].Change
		list = list[1:]
	}
	return list
}

// longestPeriod follows getLongestPolicyPeriod (horizontal.go).
func longestPeriod(policies []autoscalingv2.HPAScalingPolicy) time.Duration {
	var longest int32
	for _, policy := range policies {
		longest = max(longest, policy.PeriodSeconds)
	}
	return seconds(longest)
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }
