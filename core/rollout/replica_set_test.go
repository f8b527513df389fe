package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

func replicaSetReads() []plan.Read {
	selector, _ := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}})
	return []plan.Read{
		{Resource: plan.ReplicaSets, Namespace: "default", Name: "web"},
		{Resource: plan.Pods, Namespace: "default", Owner: "uid-web"},
		{Resource: plan.Pods, Namespace: "default", Selector: selector},
	}
}

func aboutReplicaSet(eventType, reason, message string) *plan.Notice {
	return &plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "ReplicaSet", APIVersion: "apps/v1", Namespace: "default", Name: "web", UID: "uid-web", ResourceVersion: "7"},
		Type:      eventType, Reason: reason, Message: message, Component: "replicaset-controller",
	}
}

func replicaSetStatusWrite(rs *appsv1.ReplicaSet) plan.Write {
	return plan.Write{Verb: plan.UpdateStatus, Resource: plan.ReplicaSets, Namespace: "default", Name: "web", Object: rs, Reason: "report the replicas"}
}

func deleteWrite(name string) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: "default", Name: name, UID: types.UID("uid-" + name), Reason: "too many replicas",
		OnSuccess: aboutReplicaSet("Normal", "SuccessfulDelete", "Deleted pod: "+name),
		IfFailed:  aboutReplicaSet("Warning", "FailedDelete", "Error deleting: %v"),
	}
}

func TestReplicaSetPlans(t *testing.T) {
	yes := true
	one := observed(newReplicaSet("web", 1), 1, 1, 1)
	pod := readySince(newPodOf(one, "a"), time.Minute)
	young := readySince(newPodOf(one, "b"), time.Second)
	orphan := changed(young, func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	doomed := deleteWrite("web-b")
	adopt := plan.Write{
		Verb: plan.Patch, Resource: plan.Pods, Namespace: "default", Name: "web-b", Reason: "adopt",
		PatchType: "application/strategic-merge-patch+json",
		PatchBody: []byte(`{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"uid-web","controller":true,"blockOwnerDeletion":true}],"uid":"uid-web-b"}}`),
	}
	release := plan.Write{
		Verb: plan.Patch, Resource: plan.Pods, Namespace: "default", Name: "web-b", Reason: "release",
		PatchType: "application/strategic-merge-patch+json",
		PatchBody: []byte(`{"metadata":{"uid":"uid-web-b","ownerReferences":[{"$patch":"delete","uid":"uid-web"}]}}`),
	}
	withStatus := func(replicas, ready, available int32) plan.Write {
		return replicaSetStatusWrite(observed(changed(one, func(*appsv1.ReplicaSet) {}), replicas, ready, available))
	}
	waiting := changed(one, func(rs *appsv1.ReplicaSet) { rs.Spec.MinReadySeconds = 30 })
	ref := plan.Ref{Resource: plan.ReplicaSets, Namespace: "default", Name: "web", UID: "uid-web"}

	tests := map[string]struct {
		set  *appsv1.ReplicaSet
		pods []*corev1.Pod
		want plan.Plan
	}{
		"a settled one asks for nothing": {set: one, pods: []*corev1.Pod{pod}},
		"a missing pod is created from the template": {
			set: observed(newReplicaSet("web", 1), 0, 0, 0),
			want: plan.Plan{Writes: []plan.Write{{
				Verb: plan.Create, Resource: plan.Pods, Namespace: "default", Reason: "too few replicas",
				Object: &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{
						GenerateName: "web-", Namespace: "default", Labels: map[string]string{"app": "web"},
						OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "uid-web", Controller: &yes, BlockOwnerDeletion: &yes}},
					},
					Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
				},
				OnSuccess: aboutReplicaSet("Normal", "SuccessfulCreate", "Created pod: {{name}}"),
				IfFailed:  aboutReplicaSet("Warning", "FailedCreate", "Error creating: %v"),
			}}},
		},
		"the younger pod goes": {
			set: one, pods: []*corev1.Pod{pod, young},
			want: plan.Plan{Writes: []plan.Write{doomed, withStatus(2, 2, 2)}},
		},
		"an orphan is adopted and deleted only by the next plan": {
			set: one, pods: []*corev1.Pod{pod, orphan},
			want: plan.Plan{Writes: []plan.Write{adopt, withStatus(2, 2, 2)}},
		},
		"a pod that no longer matches is released": {
			set: one, pods: []*corev1.Pod{pod, changed(young, func(pod *corev1.Pod) { pod.Labels = nil })},
			want: plan.Plan{Writes: []plan.Write{release}},
		},
		"a pod of someone else is left alone": {
			set: one, pods: []*corev1.Pod{pod, changed(young, func(pod *corev1.Pod) { pod.OwnerReferences[0].UID = "other" })},
		},
		"while it is deleted it only counts": {
			set:  changed(one, func(rs *appsv1.ReplicaSet) { rs.DeletionTimestamp = &metav1.Time{Time: epoch} }),
			pods: []*corev1.Pod{orphan},
			want: plan.Plan{Writes: []plan.Write{replicaSetStatusWrite(observed(changed(one, func(rs *appsv1.ReplicaSet) { rs.DeletionTimestamp = &metav1.Time{Time: epoch} }), 0, 0, 0))}},
		},
		"pods on their way out are counted apart": {
			set: one, pods: []*corev1.Pod{pod, changed(young, func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: epoch} })},
			want: plan.Plan{Writes: []plan.Write{replicaSetStatusWrite(changed(one, func(rs *appsv1.ReplicaSet) { *rs.Status.TerminatingReplicas = 1 }))}},
		},
		"a pod that is not ready for long enough is waited for": {
			set: waiting, pods: []*corev1.Pod{young},
			want: plan.Plan{
				Writes: []plan.Write{replicaSetStatusWrite(changed(waiting, func(rs *appsv1.ReplicaSet) { rs.Status.AvailableReplicas = 0 }))},
				Later:  []plan.Later{{At: epoch.Add(29 * time.Second), Kind: "available", Subject: ref}},
			},
		},
		"the wait is taken back when all are available": {
			set: changed(waiting, func(rs *appsv1.ReplicaSet) { rs.Status.AvailableReplicas = 0 }), pods: []*corev1.Pod{pod},
			want: plan.Plan{
				Writes: []plan.Write{replicaSetStatusWrite(waiting)},
				Later:  []plan.Later{{Kind: "available", Subject: ref}},
			},
		},
		"a failure that has passed is taken back": {
			set: changed(one, func(rs *appsv1.ReplicaSet) {
				rs.Status.Conditions = []appsv1.ReplicaSetCondition{newReplicaFailure(metav1.NewTime(epoch), "FailedCreate", "quota")}
			}),
			pods: []*corev1.Pod{pod},
			want: plan.Plan{Writes: []plan.Write{replicaSetStatusWrite(one)}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.want.Reads = replicaSetReads()
			got := ReplicaSet(ReplicaSetSnapshot{ReplicaSet: test.set, Pods: test.pods, Now: epoch})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusedPodIsReportedOnceWithWhatItMeant(t *testing.T) {
	few := observed(newReplicaSet("web", 2), 1, 0, 0)
	many := observed(newReplicaSet("web", 0), 1, 0, 0)
	tests := map[string]struct {
		set    *appsv1.ReplicaSet
		reason string
	}{
		"creating": {few, "FailedCreate"},
		"deleting": {many, "FailedDelete"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := ReplicaSetSnapshot{ReplicaSet: test.set, Pods: []*corev1.Pod{newPodOf(test.set, "a")}, Now: epoch}
			failing := changed(test.set, func(rs *appsv1.ReplicaSet) {
				rs.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: "ReplicaFailure", Status: "True", LastTransitionTime: metav1.NewTime(epoch), Reason: test.reason, Message: "no"}}
			})
			want := plan.Plan{Reads: replicaSetReads(), Writes: []plan.Write{replicaSetStatusWrite(failing)}}
			if diff := cmp.Diff(want, ReplicaSetFailed(s, "no")); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			s.ReplicaSet = failing
			if again := ReplicaSetFailed(s, "no again"); !again.Empty() {
				t.Errorf("reported again: %+v", again)
			}
		})
	}
}

func TestPodsBesideSiblingsGoFirst(t *testing.T) {
	rs := observed(newReplicaSet("web", 1), 2, 2, 2)
	rs.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "d", UID: "d"}, deploymentKind)}
	old, young := readySince(newPodOf(rs, "old"), time.Hour), readySince(newPodOf(rs, "young"), time.Second)
	old.Spec.NodeName = "crowded"
	sibling := newPodOf(newReplicaSet("web-2", 1), "x")
	sibling.Spec.NodeName = "crowded"
	p := ReplicaSet(ReplicaSetSnapshot{ReplicaSet: rs, Pods: []*corev1.Pod{old, young}, SiblingPods: []*corev1.Pod{sibling}, Now: epoch})
	if got := p.Writes[0].Name; got != old.Name {
		t.Errorf("deletes %s, want the pod that shares a node", got)
	}
}
