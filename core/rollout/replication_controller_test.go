package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsconversion "k8s.io/kubernetes/pkg/apis/apps/v1"
	coreconversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

func drawController(t *rapid.T) *corev1.ReplicationController {
	template, replicas := drawTemplate(t), rapid.Int32Range(0, 9).Draw(t, "replicas")
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "uid-web", Generation: 2, CreationTimestamp: drawTime(t, "created")},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &replicas, MinReadySeconds: rapid.Int32Range(0, 9).Draw(t, "minReadySeconds"),
			Selector: rapid.MapOfN(rapid.SampledFrom([]string{"app", "tier"}), rapid.SampledFrom([]string{"a", "b"}), 1, 2).Draw(t, "selector"),
			Template: &template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rapid.Int32Range(0, 9).Draw(t, "status.replicas"), FullyLabeledReplicas: rapid.Int32Range(0, 9).Draw(t, "labelled"),
			ReadyReplicas: rapid.Int32Range(0, 9).Draw(t, "ready"), AvailableReplicas: rapid.Int32Range(0, 9).Draw(t, "available"),
			ObservedGeneration: rapid.Int64Range(0, 2).Draw(t, "observed"),
		},
	}
	if rapid.Bool().Draw(t, "failed") {
		rc.Status.Conditions = []corev1.ReplicationControllerCondition{{
			Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
			LastTransitionTime: drawTime(t, "since"), Reason: "FailedCreate", Message: "no room",
		}}
	}
	return rc
}

func TestReplicationControllersAreConvertedAsUpstream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rc := drawController(t)
		var internal apps.ReplicaSet
		if err := coreconversion.Convert_v1_ReplicationController_To_apps_ReplicaSet(rc.DeepCopy(), &internal, nil); err != nil {
			t.Fatal(err)
		}
		var want appsv1.ReplicaSet
		if err := appsconversion.Convert_apps_ReplicaSet_To_v1_ReplicaSet(&internal, &want, nil); err != nil {
			t.Fatal(err)
		}
		got := ReplicaSetLike(rc)
		if diff := cmp.Diff(stored(&want), stored(got)); diff != "" {
			t.Fatalf("as a ReplicaSet (-upstream +ours):\n%s", diff)
		}
		if diff := cmp.Diff(stored(rc), stored(controllerLike(got))); diff != "" {
			t.Fatalf("and back (-was +is):\n%s", diff)
		}
	})
}

func TestAReplicationControllerMakesItsPods(t *testing.T) {
	three := int32(3)
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "uid-web", Generation: 1},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &three, Selector: map[string]string{"app": "web"},
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}},
		},
	}
	orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", UID: "uid-orphan", Labels: map[string]string{"app": "web"}}}
	p := ReplicationController(ReplicaSetSnapshot{ReplicaSet: ReplicaSetLike(rc), Pods: []*corev1.Pod{orphan}, Now: time.Now()})
	var created, adopted int
	for _, w := range p.Writes {
		switch w.Verb {
		case plan.Create:
			created++
			owner := metav1.GetControllerOf(w.Object.(*corev1.Pod))
			if owner == nil || owner.Kind != "ReplicationController" || owner.APIVersion != "v1" || owner.UID != rc.UID {
				t.Errorf("owned by %v", owner)
			}
			if n := w.OnSuccess; n.Component != "replication-controller" || n.Regarding.Kind != "ReplicationController" || n.Regarding.APIVersion != "v1" {
				t.Errorf("told about %v by %s", n.Regarding, n.Component)
			}
		case plan.Patch:
			adopted++
		case plan.UpdateStatus:
			if _, ok := w.Object.(*corev1.ReplicationController); !ok || w.Resource != plan.ReplicationControllers {
				t.Errorf("the status of a %T is written to %v", w.Object, w.Resource)
			}
		default:
			t.Errorf("%s %s", w.Verb, w.Name)
		}
	}
	if created != 2 || adopted != 1 {
		t.Errorf("%d created, %d adopted", created, adopted)
	}
}
