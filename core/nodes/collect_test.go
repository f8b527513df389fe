package nodes_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/core/plan"
)

func altered(p *corev1.Pod, change ...func(*corev1.Pod)) *corev1.Pod {
	for _, f := range change {
		f(p)
	}
	return p
}

func unbound(p *corev1.Pod) { p.Spec.NodeName = "" }

func in(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func going(grace int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		at := metav1.NewTime(start)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	}
}

func kept(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} }

// orphaned is the condition of the pods of a missing node.
const orphaned = `"conditions":[{"type":"DisruptionTarget","status":"True","lastProbeTime":null,` +
	`"lastTransitionTime":"2026-09-01T12:00:00Z","reason":"DeletionByPodGC","message":"PodGC: node no longer exists"}],`

func failing(name, condition, reason string) plan.Write {
	return plan.Write{
		Verb: plan.Patch, Resource: plan.Pods, Namespace: "default", Name: name, UID: types.UID("uid-" + name), Subresource: "status",
		PatchType: types.StrategicMergePatchType, Reason: reason,
		PatchBody: []byte(`{"metadata":{"resourceVersion":"3","uid":"uid-` + name + `"},"status":{` + condition + `"observedGeneration":0,"phase":"Failed"}}`),
	}
}

func deleting(name, reason string) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "3",
		GracePeriodSeconds: new(int64(0)), Reason: reason,
	}
}

func TestPodsOfAMissingNodeGoAfterItsQuarantine(t *testing.T) {
	const reason = "the pod's node no longer exists"
	subject := plan.Ref{Resource: plan.Nodes, Name: "a"}
	quarantine := plan.Plan{Later: []plan.Later{{At: after(40), Kind: "quarantine", Subject: subject, Keep: true}}}
	pods := func() []*corev1.Pod {
		return []*corev1.Pod{pod("runs"), altered(pod("goes"), going(30)), altered(pod("over"), in("Succeeded"))}
	}
	missing := func(over bool, pods ...*corev1.Pod) nodes.Input {
		return nodes.Input{Name: "a", Pods: pods, QuarantineOver: over, Now: start}
	}
	cases := map[string]struct {
		in   nodes.Input
		want plan.Plan
	}{
		"without a pod":                {missing(true), plan.Plan{}},
		"first seen":                   {missing(false, pods()...), quarantine},
		"first seen, with a pod ended": {missing(false, altered(pod("over"), in("Failed"))), quarantine},
		"those that have not ended fail before they are deleted": {
			missing(true, pods()...),
			plan.Plan{
				Writes: []plan.Write{failing("runs", orphaned, reason), failing("goes", orphaned, reason), deleting("over", reason)},
				Later:  []plan.Later{{At: start, Kind: "quarantine", Subject: subject}},
			},
		},
		"those that failed are deleted": {
			missing(true, altered(pod("runs"), in("Failed")), altered(pod("goes"), in("Failed"), going(30))),
			plan.Plan{Writes: []plan.Write{deleting("runs", reason), deleting("goes", reason)}},
		},
		"what a finalizer keeps is waited for": {missing(false, altered(pod("kept"), in("Failed"), going(0), kept)), plan.Plan{}},
		"a pod that was bound elsewhere":       {missing(true, altered(pod("other"), unbound)), plan.Plan{}},
		"the node is back": {
			nodes.Input{Name: "a", Node: node(simulated), Pods: pods(), QuarantineOver: true, Now: start}, plan.Plan{},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, nodes.Collect(c.in)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodsThatGoLeaveANodeOutOfService(t *testing.T) {
	const reason = "the pod's node is out of service"
	out := tainted(corev1.TaintNodeOutOfService, corev1.TaintEffectNoExecute, nil)
	lost := posting(corev1.NodeReady, corev1.ConditionUnknown)
	cases := map[string]struct {
		node *corev1.Node
		want []plan.Write
	}{
		"out of service and lost":  {node(out, lost), []plan.Write{failing("goes", "", reason), deleting("failed", reason)}},
		"out of service and ready": {node(out), nil},
		"only lost":                {node(lost), nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := nodes.Collect(nodes.Input{Name: "a", Node: c.node, Now: start, Pods: []*corev1.Pod{
				pod("stays"), altered(pod("goes"), going(30)), altered(pod("failed"), in("Failed"), going(30)),
			}})
			if diff := cmp.Diff(plan.Plan{Writes: c.want}, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodsThatGoWithoutANodeFailAndAreDeleted(t *testing.T) {
	const reason = "the pod goes away and has no node"
	cases := map[string]struct {
		pod  *corev1.Pod
		want []plan.Write
	}{
		"one that waits":                  {altered(pod("p"), unbound, in("Pending")), nil},
		"one with a node":                 {altered(pod("p"), in("Pending"), going(0)), nil},
		"one that goes":                   {altered(pod("p"), unbound, in("Pending"), going(0), kept), []plan.Write{failing("p", "", reason)}},
		"one that failed, with a grace":   {altered(pod("p"), unbound, in("Failed"), going(1), kept), []plan.Write{deleting("p", reason)}},
		"one that only a finalizer keeps": {altered(pod("p"), unbound, in("Failed"), going(0), kept), nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(plan.Plan{Writes: c.want}, nodes.CollectUnscheduled(c.pod)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADisruptionKeepsItsTime(t *testing.T) {
	p := pod("p")
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager", LastTransitionTime: metav1.NewTime(start),
	})
	got := nodes.Collect(nodes.Input{Name: "a", Pods: []*corev1.Pod{p}, QuarantineOver: true, Now: after(60)})
	if diff := cmp.Diff([]plan.Write{failing("p", orphaned, "the pod's node no longer exists")}, got.Writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}
