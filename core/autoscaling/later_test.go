package autoscaling

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"pgregory.net/rapid"
)

// TestNothingChangesBeforeItIsDue asks for the limits of one recommendation second by second: they give what was
// decided until a millisecond before the moment that is due, and not at that moment.
func TestNothingChangesBeforeItIsDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, s := anyLimits(t), anyState(t)
		wanted := rapid.Int32Range(0, 20).Draw(t, "wanted")
		d := &decision{in: Input{Now: now}, state: s}
		out := l.apply(&d.state, wanted, now)
		decided := out.replicas
		d.reconsider(l, wanted, out)

		after := d.state.clone()
		if decided != l.current {
			after.scaled(l.behavior, l.current, decided, now)
		}
		l.current = decided
		at := func(when time.Time) int32 {
			state := after.clone()
			return l.apply(&state, wanted, when).replicas
		}
		end := d.state.Due
		if end.IsZero() {
			end = now.Add(time.Hour)
		} else if got := at(end); got == decided || end.Before(now.Add(syncPeriod)) {
			t.Fatalf("%d replicas at %s, when another number is due after %d", got, end, decided)
		}
		for when := now.Add(syncPeriod); when.Before(end.Add(-past)); when = when.Add(time.Second) {
			if got := at(when); got != decided {
				t.Fatalf("%d replicas at %s, %d decided, due %s", got, when, decided, d.state.Due)
			}
		}
	})
}

func anyLimits(t *rapid.T) limits {
	l := limits{current: rapid.Int32Range(0, 20).Draw(t, "current"), least: rapid.Int32Range(0, 3).Draw(t, "least"), most: rapid.Int32Range(4, 20).Draw(t, "most")}
	if rapid.Bool().Draw(t, "no behavior") {
		return l
	}
	rules := rapid.Custom(func(t *rapid.T) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: new(rapid.Int32Range(0, 600).Draw(t, "window")),
			SelectPolicy:               new(rapid.SampledFrom([]autoscalingv2.ScalingPolicySelect{autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect}).Draw(t, "select")),
			Policies: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) autoscalingv2.HPAScalingPolicy {
				return autoscalingv2.HPAScalingPolicy{
					Type:  rapid.SampledFrom([]autoscalingv2.HPAScalingPolicyType{autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy}).Draw(t, "type"),
					Value: rapid.Int32Range(1, 100).Draw(t, "value"), PeriodSeconds: rapid.Int32Range(1, 600).Draw(t, "period"),
				}
			}), 1, 3).Draw(t, "policies"),
		}
	})
	l.behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules.Draw(t, "up"), ScaleDown: rules.Draw(t, "down")}
	return l
}

func anyState(t *rapid.T) State {
	ago := func(t *rapid.T) time.Time {
		return now.Add(-time.Duration(rapid.IntRange(0, 700).Draw(t, "ago")) * time.Second)
	}
	scalings := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Scaling {
		return Scaling{Change: rapid.Int32Range(1, 5).Draw(t, "change"), At: ago(t)}
	}), 0, 4)
	return State{
		Recommendations: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Recommendation {
			return Recommendation{rapid.Int32Range(0, 20).Draw(t, "replicas"), ago(t)}
		}), 0, 5).Draw(t, "recommendations"),
		ScaleUps: scalings.Draw(t, "ups"), ScaleDowns: scalings.Draw(t, "downs"),
	}
}

func TestAStateIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var bounded State
		var all []Recommendation
		behavior := &autoscalingv2.HorizontalPodAutoscalerBehavior{}
		spread := rapid.Int32Range(1, 100).Draw(t, "spread")
		at := now
		for i := range int32(3 * maxHistory) {
			at = at.Add(time.Second)
			replicas := (i * 7919) % spread
			bounded.recommend(replicas, at, -1)
			all = append(all, Recommendation{replicas, at})
			bounded.scaled(behavior, 0, 1, now)
			bounded.scaled(behavior, 1, 0, now)
		}
		if len(bounded.Recommendations) > maxHistory || len(bounded.ScaleUps) > maxHistory || len(bounded.ScaleDowns) > maxHistory {
			t.Fatalf("%d recommendations, %d and %d scalings", len(bounded.Recommendations), len(bounded.ScaleUps), len(bounded.ScaleDowns))
		}
		if got := changes(bounded.ScaleUps, now.Add(-time.Second)); got != 3*maxHistory {
			t.Fatalf("%d replicas were added, want %d", got, 3*maxHistory)
		}
		window := time.Duration(rapid.IntRange(1, 3*maxHistory).Draw(t, "window")) * time.Second
		ours, theirs := bounded.clone(), State{Recommendations: all}.clone()
		if got, want := ours.between(50, 50, window, window, at), theirs.between(50, 50, window, window, at); got != want {
			t.Fatalf("%d replicas, without a bound %d", got, want)
		}
		ours, theirs = bounded.clone(), State{Recommendations: all}.clone()
		if got, want := ours.highest(-1, at), theirs.highest(-1, at); got != want {
			t.Fatalf("the highest is %d, without a bound %d", got, want)
		}
	})
}
