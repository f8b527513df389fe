package disruption

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/plan"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(noon.Add(-d)) }

func budget(spec policyv1.PodDisruptionBudgetSpec, status ...policyv1.PodDisruptionBudgetStatus) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b", UID: "uid-b", ResourceVersion: "7", Generation: 3}, Spec: spec,
	}
	if len(status) > 0 {
		b.Status = status[0]
	}
	return b
}

func minimum(v intstr.IntOrString) policyv1.PodDisruptionBudgetSpec {
	return policyv1.PodDisruptionBudgetSpec{MinAvailable: &v}
}

func maximum(v intstr.IntOrString) policyv1.PodDisruptionBudgetSpec {
	return policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &v}
}

func pod(name string, alter ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "5", Generation: 2}}
	for _, f := range alter {
		f(p)
	}
	return p
}

func says(kind corev1.PodConditionType, reason string, at metav1.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: at})
	}
}

var ready = says(corev1.PodReady, "", ago(time.Hour))

func deleting(p *corev1.Pod) { p.DeletionTimestamp = new(ago(0)) }

func of(controller string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(controller), Controller: new(true)}}
	}
}

func counts(healthy, desired, pods, allowed int32) policyv1.PodDisruptionBudgetStatus {
	s := policyv1.PodDisruptionBudgetStatus{
		CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: pods, DisruptionsAllowed: allowed, ObservedGeneration: 3,
	}
	c := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
		ObservedGeneration: 3, LastTransitionTime: ago(0),
	}
	if allowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	s.Conditions = []metav1.Condition{c}
	return s
}

// TestBudget checks the status that a budget is given, nil for none.
func TestBudget(t *testing.T) {
	two, half := intstr.FromInt32(2), intstr.FromString("50%")
	three := []*corev1.Pod{pod("a", ready, of("rs")), pod("b", ready, of("rs")), pod("c", of("other"))}
	scales := map[types.UID]Controller{"rs": {UID: "d", Replicas: 4}, "other": {UID: "d", Replicas: 4}}
	evicted := counts(2, 2, 3, 0)
	evicted.DisruptedPods = map[string]metav1.Time{"a": ago(time.Minute), "b": ago(3 * time.Minute), "gone": ago(0)}
	stillEvicted := counts(1, 2, 3, 0)
	stillEvicted.DisruptedPods = map[string]metav1.Time{"a": ago(time.Minute)}
	failed := policyv1.PodDisruptionBudgetStatus{Conditions: []metav1.Condition{{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: "jobs.batch does not implement the scale subresource", LastTransitionTime: ago(0),
	}}}
	for claim, tc := range map[string]struct {
		budget      *policyv1.PodDisruptionBudget
		pods        []*corev1.Pod
		controllers map[types.UID]Controller
		want        *policyv1.PodDisruptionBudgetStatus
		notices     []string
		later       time.Time
	}{
		"a number that must be available is taken as it is": {
			budget: budget(minimum(two)), pods: append(three[:2:2], pod("d", ready), pod("e", ready, deleting)), want: new(counts(3, 2, 4, 1)),
		},
		"a share that must be available is of what controllers ask for, each counted once": {
			budget: budget(minimum(half)), pods: three, controllers: scales, want: new(counts(2, 2, 4, 0)),
		},
		"a share that may be unavailable is rounded up": {
			budget: budget(maximum(intstr.FromString("30%"))), pods: three, controllers: scales, want: new(counts(2, 2, 4, 0)),
		},
		"a number that may be unavailable": {
			budget: budget(maximum(intstr.FromInt32(3))), pods: three, controllers: scales, want: new(counts(2, 1, 4, 1)),
		},
		"without pods nothing is allowed": {
			budget: budget(minimum(intstr.FromInt32(0))), want: new(counts(0, 0, 0, 0)), notices: []string{"NoPods"},
		},
		"pods that nobody controls are reported": {
			budget: budget(maximum(two)), pods: []*corev1.Pod{pod("a", ready)}, want: new(counts(1, 0, 0, 0)), notices: []string{"UnmanagedPods"},
		},
		"a status that is right is left alone": {budget: budget(minimum(two), counts(2, 2, 3, 0)), pods: three},
		"evicted pods do not count until they turn out to stay": {
			budget: budget(minimum(two), evicted), pods: three, want: &stillEvicted, notices: []string{"NotDeleted"}, later: noon.Add(time.Minute),
		},
		"what cannot be scaled forbids every disruption": {
			budget: budget(maximum(two)), pods: three, want: &failed, notices: []string{"CalculateExpectedPodCountFailed"},
			controllers: map[types.UID]Controller{"rs": {Err: errors.New("jobs.batch does not implement the scale subresource")}},
		},
		"a failure that the status tells is not told again": {
			budget: budget(maximum(two), failed), pods: three,
			controllers: map[types.UID]Controller{"rs": {Err: errors.New("jobs.batch does not implement the scale subresource")}},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			p := Budget(Input{Budget: tc.budget, Pods: tc.pods, Controllers: tc.controllers, Now: noon})
			var got *policyv1.PodDisruptionBudgetStatus
			if len(p.Writes) > 0 {
				got = &p.Writes[0].Object.(*policyv1.PodDisruptionBudget).Status
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong status (-want +got):\n%s", diff)
			}
			var reasons []string
			for _, n := range p.Notices {
				reasons = append(reasons, n.Reason)
			}
			if diff := cmp.Diff(tc.notices, reasons); diff != "" {
				t.Errorf("wrong notices (-want +got):\n%s", diff)
			}
			var later time.Time
			if len(p.Later) > 0 {
				later = p.Later[0].At
			}
			if !later.Equal(tc.later) {
				t.Errorf("put off until %v, want %v", later, tc.later)
			}
		})
	}
}

func TestStale(t *testing.T) {
	announced := func(at metav1.Time, alter ...func(*corev1.Pod)) *corev1.Pod {
		return pod("a", append([]func(*corev1.Pod){says(corev1.DisruptionTarget, "EvictionByEvictionAPI", at)}, alter...)...)
	}
	takenBack := announced(ago(0))
	takenBack.Status.Conditions[0] = corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, LastTransitionTime: ago(0), ObservedGeneration: 2,
	}
	ref := plan.Ref{Resource: plan.Pods, Namespace: "ns", Name: "a", UID: "uid-a"}
	for claim, tc := range map[string]struct {
		pod  *corev1.Pod
		want plan.Plan
	}{
		"an announcement that is fresh stands, for now": {
			pod:  announced(ago(time.Minute)),
			want: plan.Plan{Later: []plan.Later{{At: noon.Add(time.Minute), Kind: StaleKind, Subject: ref}}},
		},
		"an announcement that is stale is taken back": {
			pod: announced(ago(2 * time.Minute)),
			want: plan.Plan{
				Writes: []plan.Write{{
					Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "ns", Name: "a", Object: takenBack, UID: "uid-a", ResourceVersion: "5",
					Reason: "its disruption was announced and did not come",
				}},
				Reads: []plan.Read{{Resource: plan.Pods, Namespace: "ns", Name: "a"}},
			},
		},
		"a pod that is being deleted keeps it":    {pod: announced(ago(time.Hour), deleting)},
		"a pod that is over keeps it":             {pod: announced(ago(time.Hour), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })},
		"what a kubelet announced stands":         {pod: pod("a", says(corev1.DisruptionTarget, corev1.PodReasonTerminationByKubelet, ago(time.Hour)))},
		"a pod that announces nothing is skipped": {pod: pod("a", ready)},
	} {
		t.Run(claim, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Stale(tc.pod, noon)); diff != "" {
				t.Errorf("wrong plan (-want +got):\n%s", diff)
			}
		})
	}
}
