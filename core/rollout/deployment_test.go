package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// served is a Deployment as the API serves it.
func served(d *appsv1.Deployment) *appsv1.Deployment {
	d.UID, d.ResourceVersion, d.Generation = "uid-"+"web", "5", 1
	return d
}

// setOf is the ReplicaSet that the Deployment made for its template, all available and annotated.
func setOf(d *appsv1.Deployment) *appsv1.ReplicaSet {
	p := Deployment(DeploymentSnapshot{Deployment: d, Now: epoch.Add(-time.Hour)})
	rs := p.Writes[0].Object.(*appsv1.ReplicaSet)
	rs.UID, rs.ResourceVersion, rs.Generation = "uid-set", "6", 1
	rs.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Hour))
	return observed(rs, sizeOf(rs), sizeOf(rs), sizeOf(rs))
}

// settled is a Deployment with its set, both at rest.
func settled() (*appsv1.Deployment, *appsv1.ReplicaSet) {
	d := served(newDeployment("web", 3))
	rs := setOf(d)
	p := Deployment(DeploymentSnapshot{Deployment: d, ReplicaSets: []*appsv1.ReplicaSet{rs}, Now: epoch.Add(-time.Hour)})
	return p.Writes[0].Object.(*appsv1.Deployment), rs
}

func deploymentReads(extra ...plan.Read) []plan.Read {
	selector, _ := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}})
	return append([]plan.Read{
		{Resource: plan.Deployments, Namespace: "default", Name: "web"},
		{Resource: plan.ReplicaSets, Namespace: "default", Owner: "uid-web"},
		{Resource: plan.ReplicaSets, Namespace: "default", Selector: selector},
	}, extra...)
}

func aboutDeployment(eventType, reason, message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "Deployment", APIVersion: "apps/v1", Namespace: "default", Name: "web", UID: "uid-web", ResourceVersion: "5"},
		Type:      eventType, Reason: reason, Message: message, Component: "deployment-controller",
	}
}

func statusWrite(d *appsv1.Deployment) plan.Write {
	return plan.Write{Verb: plan.UpdateStatus, Resource: plan.Deployments, Namespace: "default", Name: "web", Object: d, Reason: "report the rollout"}
}

func changed[T any](object *T, change func(*T)) *T {
	copied := stored(object)
	change(copied)
	return copied
}

var webRef = plan.Ref{Resource: plan.Deployments, Namespace: "default", Name: "web", UID: "uid-web"}

func TestDeploymentPlans(t *testing.T) {
	d, rs := settled()
	type test struct {
		snapshot DeploymentSnapshot
		want     plan.Plan
	}
	tests := map[string]test{
		"a settled one asks for nothing": {
			snapshot: DeploymentSnapshot{Deployment: d, ReplicaSets: []*appsv1.ReplicaSet{rs}},
			want:     plan.Plan{Reads: deploymentReads()},
		},
		"an orphan is adopted and nothing else is done": {
			snapshot: DeploymentSnapshot{Deployment: d, ReplicaSets: []*appsv1.ReplicaSet{
				changed(rs, func(rs *appsv1.ReplicaSet) { rs.OwnerReferences = nil }),
			}},
			want: plan.Plan{Reads: deploymentReads(), Writes: []plan.Write{{
				Verb: plan.Patch, Resource: plan.ReplicaSets, Namespace: "default", Name: rs.Name, Reason: "adopt",
				PatchType: "application/strategic-merge-patch+json",
				PatchBody: []byte(`{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"web","uid":"uid-web","controller":true,"blockOwnerDeletion":true}],"uid":"uid-set"}}`),
			}}},
		},
		"one that no longer matches is released": {
			snapshot: DeploymentSnapshot{Deployment: d, ReplicaSets: []*appsv1.ReplicaSet{
				changed(rs, func(rs *appsv1.ReplicaSet) { rs.Labels = nil }),
			}},
			want: plan.Plan{Reads: deploymentReads(), Writes: []plan.Write{{
				Verb: plan.Patch, Resource: plan.ReplicaSets, Namespace: "default", Name: rs.Name, Reason: "release",
				PatchType: "application/strategic-merge-patch+json",
				PatchBody: []byte(`{"metadata":{"uid":"uid-set","ownerReferences":[{"$patch":"delete","uid":"uid-web"}]}}`),
			}}},
		},
		"while it is deleted only its status is kept": {
			snapshot: DeploymentSnapshot{
				Deployment:  changed(d, func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{Time: epoch}; *d.Spec.Replicas = 9 }),
				ReplicaSets: []*appsv1.ReplicaSet{changed(rs, func(rs *appsv1.ReplicaSet) { rs.Status.ReadyReplicas = 2 })},
			},
			want: plan.Plan{Reads: deploymentReads(), Writes: []plan.Write{statusWrite(changed(d, func(d *appsv1.Deployment) {
				d.DeletionTimestamp = &metav1.Time{Time: epoch}
				*d.Spec.Replicas = 9
				d.Status.ReadyReplicas = 2
				d.Status.Conditions = []appsv1.DeploymentCondition{
					d.Status.Conditions[1],
					{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, LastUpdateTime: metav1.NewTime(epoch), LastTransitionTime: metav1.NewTime(epoch), Reason: "MinimumReplicasUnavailable", Message: "Deployment does not have minimum availability."},
				}
			}))}},
		},
		"a selector of everything is warned about once": {
			snapshot: DeploymentSnapshot{Deployment: changed(d, func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{}; d.Generation = 2 })},
			want: plan.Plan{
				Reads:   deploymentReads()[:2],
				Notices: []plan.Notice{aboutDeployment("Warning", "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")},
				Writes: []plan.Write{statusWrite(changed(d, func(d *appsv1.Deployment) {
					d.Spec.Selector = &metav1.LabelSelector{}
					d.Generation, d.Status.ObservedGeneration = 2, 2
				}))},
			},
		},
		"a name that is taken makes another one": {
			snapshot: DeploymentSnapshot{Deployment: d, SameName: changed(rs, func(rs *appsv1.ReplicaSet) { rs.OwnerReferences[0].UID = "other" })},
			want: plan.Plan{
				Reads: deploymentReads(plan.Read{Resource: plan.ReplicaSets, Namespace: "default", Name: rs.Name}),
				Writes: []plan.Write{statusWrite(changed(d, func(d *appsv1.Deployment) {
					d.Status.CollisionCount = new(int32)
					*d.Status.CollisionCount = 1
				}))},
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.snapshot.Now = epoch
			if diff := cmp.Diff(test.want, Deployment(test.snapshot)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFirstPlanCreatesTheReplicaSet(t *testing.T) {
	d := served(newDeployment("web", 3))
	d.Annotations = map[string]string{"kubernetes.io/change-cause": "first", corev1.LastAppliedConfigAnnotation: "{}"}
	p := Deployment(DeploymentSnapshot{Deployment: d, Now: epoch})

	const hash = "646f5574db"
	three, yes := int32(3), true
	labels := map[string]string{"app": "web", "pod-template-hash": hash}
	now := metav1.NewTime(epoch)
	failed := aboutDeployment("Warning", "ReplicaSetCreateError", `Failed to create new replica set "web-646f5574db": %v`)
	template := *d.Spec.Template.DeepCopy()
	template.Labels = labels
	want := plan.Plan{
		Reads:   deploymentReads(plan.Read{Resource: plan.ReplicaSets, Namespace: "default", Name: "web-" + hash}),
		Notices: []plan.Notice{aboutDeployment("Normal", "ScalingReplicaSet", "Scaled up replica set web-646f5574db from 0 to 3")},
		Later:   []plan.Later{{At: epoch.Add(601 * time.Second), Kind: "progress", Subject: webRef}},
		Writes: []plan.Write{
			{
				Verb: plan.Create, Resource: plan.ReplicaSets, Namespace: "default", Name: "web-" + hash,
				Reason: "start the rollout of a new template", IfFailed: &failed,
				Object: &appsv1.ReplicaSet{
					ObjectMeta: metav1.ObjectMeta{
						Name: "web-" + hash, Namespace: "default", Labels: labels,
						OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "uid-web", Controller: &yes, BlockOwnerDeletion: &yes}},
						Annotations: map[string]string{
							"kubernetes.io/change-cause": "first", "deployment.kubernetes.io/revision": "1",
							"deployment.kubernetes.io/desired-replicas": "3", "deployment.kubernetes.io/max-replicas": "4",
						},
					},
					Spec: appsv1.ReplicaSetSpec{Replicas: &three, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
				},
			},
			statusWrite(changed(d, func(d *appsv1.Deployment) {
				d.Annotations["deployment.kubernetes.io/revision"] = "1"
				d.Status = appsv1.DeploymentStatus{
					ObservedGeneration: 1, UnavailableReplicas: 3, TerminatingReplicas: new(int32),
					Conditions: []appsv1.DeploymentCondition{
						{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, LastUpdateTime: now, LastTransitionTime: now, Reason: "NewReplicaSetCreated", Message: `Created new replica set "web-646f5574db"`},
						{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, LastUpdateTime: now, LastTransitionTime: now, Reason: "MinimumReplicasUnavailable", Message: "Deployment does not have minimum availability."},
					},
				}
			})),
		},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestRefusedReplicaSetIsReportedOnce(t *testing.T) {
	d := served(newDeployment("web", 3))
	first := NewReplicaSetRefused(DeploymentSnapshot{Deployment: d, Now: epoch}, "quota")
	if len(first.Writes) != 1 {
		t.Fatalf("want one write, got %+v", first.Writes)
	}
	reported := first.Writes[0].Object.(*appsv1.Deployment)
	want := []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ReplicaSetCreateError",
		Message:        `Failed to create new replica set "web-646f5574db": quota`,
		LastUpdateTime: metav1.NewTime(epoch), LastTransitionTime: metav1.NewTime(epoch),
	}}
	if diff := cmp.Diff(want, reported.Status.Conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	again := NewReplicaSetRefused(DeploymentSnapshot{Deployment: reported, Now: epoch.Add(time.Hour)}, "quota still")
	if !again.Empty() {
		t.Errorf("reported again: %+v", again)
	}
}

func TestRecreateWaitsForOldPodsThatStillRun(t *testing.T) {
	d, rs := settled()
	d = changed(d, func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		d.Spec.Template.Spec.Containers[0].Image = "v2"
	})
	rs = changed(rs, func(rs *appsv1.ReplicaSet) { *rs.Spec.Replicas = 0 })
	observed(rs, 0, 0, 0)
	terminating := newPodOf(rs, "1")
	terminating.DeletionTimestamp = &metav1.Time{Time: epoch}
	ended := changed(terminating, func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded })

	tests := map[string]struct {
		pods  []*corev1.Pod
		waits bool
	}{
		"one terminates":  {[]*corev1.Pod{terminating}, true},
		"all have ended":  {[]*corev1.Pod{ended}, false},
		"all are gone":    {nil, false},
		"of someone else": {[]*corev1.Pod{changed(terminating, func(pod *corev1.Pod) { pod.OwnerReferences = nil })}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := Deployment(DeploymentSnapshot{Deployment: d, ReplicaSets: []*appsv1.ReplicaSet{rs}, Pods: test.pods, Now: epoch})
			if waits := p.Writes[0].Verb != plan.Create; waits != test.waits {
				t.Errorf("waits: %t, want %t", waits, test.waits)
			}
			if diff := cmp.Diff(plan.Read{Resource: plan.Pods, Namespace: "default", Owner: "uid-set"}, p.Reads[3]); diff != "" {
				t.Errorf("read of the pods (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNameIsCutToMakeRoomForTheHash(t *testing.T) {
	long := ""
	for len(long) < 253 {
		long += "a"
	}
	if got := replicaSetName(long, "646f5574db"); len(got) != 253 || got[242:] != "-646f5574db" {
		t.Errorf("got %q (%d characters)", got, len(got))
	}
}
