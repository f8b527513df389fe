package autoscaling

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/zeroplane/zeroplane/core/plan"
)

// ReconsiderKind is the kind of the plan.Later at which the samples that there are may lead to another
// number of replicas.
const ReconsiderKind = "reconsider"

// past is how long after the end of a window or a period to look: a window without behavior includes its
// first moment.
const past = time.Millisecond

// lookAgain asks for a decision when upstream would look next, since this one was made without samples.
func (d *decision) lookAgain() { d.state.Due = d.in.Now.Add(syncPeriod) }

// reconsider asks for a decision at the first moment, not before upstream's next look, at which the same
// recommendation would come to another number of replicas than it has now. If it was not altered, there is
// none.
func (d *decision) reconsider(l limits, wanted int32, out limited) {
	d.state.Due = time.Time{}
	decided := out.replicas
	if wanted == out.stabilized && wanted == decided {
		return
	}
	after := d.state.clone()
	if decided != l.current {
		after.scaled(l.behavior, l.current, decided, d.in.Now)
	}
	l.current = decided
	for _, at := range l.turns(after, d.in.Now) {
		s := after.clone()
		if l.apply(&s, wanted, at).replicas != decided {
			d.state.Due = at
			return
		}
	}
}

// turns are the moments, in order, at which a recommendation leaves its window or a scaling its period:
// those before upstream's next look count as that one.
func (l limits) turns(s State, now time.Time) []time.Time {
	next := now.Add(syncPeriod)
	out := []time.Time{next}
	windows := []time.Duration{downscaleStabilization}
	var policies []autoscalingv2.HPAScalingPolicy
	if l.behavior != nil {
		up, down := scaleUpRules(l.behavior), scaleDownRules(l.behavior)
		windows = []time.Duration{seconds(*up.StabilizationWindowSeconds), seconds(*down.StabilizationWindowSeconds)}
		policies = slices.Concat(up.Policies, down.Policies)
	}
	add := func(at time.Time) {
		if at = at.Add(past); at.After(next) {
			out = append(out, at)
		}
	}
	for _, r := range s.Recommendations {
		for _, window := range windows {
			add(r.At.Add(window))
		}
	}
	for _, scaling := range slices.Concat(s.ScaleUps, s.ScaleDowns) {
		for _, policy := range policies {
			add(scaling.At.Add(seconds(policy.PeriodSeconds)))
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// later states the moment to look again, or takes an earlier one back.
func (d *decision) later() {
	if !d.state.Due.After(d.in.Now) {
		d.state.Due = time.Time{}
	}
	if d.state.Due.IsZero() && d.in.State.Due.IsZero() {
		return
	}
	a := d.in.Autoscaler
	d.plan.Later = append(d.plan.Later, plan.Later{
		At: d.state.Due, Kind: ReconsiderKind,
		Subject: plan.Ref{Resource: plan.Autoscalers, Namespace: a.Namespace, Name: a.Name, UID: a.UID},
	})
}
