package rollout

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/ownership"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// burstReplicas is how many pods one plan creates or deletes at most (replicaset/replica_set.go
// BurstReplicas). The change that the plan makes asks for the next one.
const burstReplicas = 500

// ReplicaSetSnapshot is everything that a decision about a ReplicaSet is made on. Its objects are
// read and never altered.
type ReplicaSetSnapshot struct {
	ReplicaSet *appsv1.ReplicaSet
	// Pods are those of the namespace that the ReplicaSet controls, and those that its selector
	// matches and nobody controls.
	Pods []*corev1.Pod
	// SiblingPods are the pods that the other ReplicaSets of the same controller select. Pods that
	// share a node with them are the first to go. They are looked at when replicas have to go, and
	// are a preference: they are no part of the read set.
	SiblingPods []*corev1.Pod
	Now         time.Time
}

// replicaSetDecision is a decision in the making.
type replicaSetDecision struct {
	snapshot ReplicaSetSnapshot
	set      *appsv1.ReplicaSet
	now      metav1.Time
	// claim holds the active pods; terminating those that are on their way out.
	claim       ownership.Claimed[*corev1.Pod]
	terminating int32
	plan        plan.Plan
	*form
}

// form is what ReplicaSets and ReplicationControllers differ in.
type form struct {
	kind      schema.GroupVersionKind
	resource  schema.GroupVersionResource
	component string
	// terminating is set where the status counts the pods that go away.
	terminating bool
	// stored is what is written for a set.
	stored func(*appsv1.ReplicaSet) runtime.Object
}

var ofReplicaSets = &form{
	kind: replicaSetKind, resource: plan.ReplicaSets, component: replicaSetComponent, terminating: true,
	stored: func(rs *appsv1.ReplicaSet) runtime.Object { return rs },
}

// ReplicaSet decides one step of a ReplicaSet: replicaset/replica_set.go syncReplicaSet. An empty
// plan means that it has settled. The status write comes last: when a write before it was refused,
// the status belongs to ReplicaSetFailed and must not be written.
func ReplicaSet(s ReplicaSetSnapshot) plan.Plan { return ofReplicaSets.decide(s) }

func (f *form) decide(s ReplicaSetSnapshot) plan.Plan {
	r, ok := f.newDecision(s)
	if !ok {
		return r.plan
	}
	r.plan.Writes = r.claim.Writes
	if r.set.DeletionTimestamp == nil {
		r.manageReplicas()
	}
	status := r.calculateStatus("")
	r.writeStatus(status)
	r.checkAvailableLater(status)
	return r.plan
}

// ReplicaSetFailed decides what to do when the server refused to create or to delete a pod that a
// plan from this snapshot asked for: the ReplicaFailure condition says so, with the server's message
// (replicaset/replica_set_utils.go calculateStatus with an error). A condition that is there already
// stays as it is. Not to be called for a namespace that is terminating, or a pod that is gone.
func ReplicaSetFailed(s ReplicaSetSnapshot, message string) plan.Plan {
	return ofReplicaSets.failed(s, message)
}

func (f *form) failed(s ReplicaSetSnapshot, message string) plan.Plan {
	r, ok := f.newDecision(s)
	if ok {
		r.writeStatus(r.calculateStatus(message))
	}
	return r.plan
}

// newDecision sorts the pods. It is not ok when the selector is invalid.
func (f *form) newDecision(s ReplicaSetSnapshot) (*replicaSetDecision, bool) {
	rs := s.ReplicaSet
	r := &replicaSetDecision{snapshot: s, set: rs, now: metav1.NewTime(s.Now).Rfc3339Copy(), form: f}
	r.plan.Reads = []plan.Read{
		{Resource: f.resource, Namespace: rs.Namespace, Name: rs.Name},
		{Resource: plan.Pods, Namespace: rs.Namespace, Owner: rs.UID},
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return r, false
	}
	r.plan.Reads = append(r.plan.Reads, plan.Read{Resource: plan.Pods, Namespace: rs.Namespace, Selector: selector})

	var activePods []*corev1.Pod
	for _, pod := range s.Pods {
		switch {
		case podstate.IsActive(pod):
			activePods = append(activePods, pod)
		case podstate.IsTerminating(pod) && metav1.IsControlledBy(pod, rs) && selector.Matches(labels.Set(pod.Labels)):
			r.terminating++
		}
	}
	r.claim = ownership.Claim(ownership.Controller{Object: rs, Kind: f.kind}, plan.Pods, activePods, func(pod *corev1.Pod) bool {
		return selector.Matches(labels.Set(pod.Labels))
	})
	return r, true
}

// manageReplicas creates what is missing and deletes what is too much: replicaset/replica_set.go
// manageReplicas. (Upstream creates in batches of growing size, so that a refusal does not come 500
// times over. How a plan is committed is up to whoever commits it.)
func (r *replicaSetDecision) manageReplicas() {
	notices := podcontrol.NoticesOf(r.set, r.kind, r.component)
	missing := int(sizeOf(r.set)) - len(r.claim.Objects)
	for range min(missing, burstReplicas) {
		r.plan.Writes = append(r.plan.Writes, notices.Create(podcontrol.New(&r.set.Spec.Template, r.set, r.kind), "too few replicas"))
	}
	if missing >= 0 {
		return
	}
	for _, pod := range podsToDelete(r.claim.Objects, r.relatedPods(), min(-missing, burstReplicas), r.snapshot.Now) {
		if r.claim.Adopted[pod.UID] {
			continue // this plan patches it; the next one deletes it
		}
		r.plan.Writes = append(r.plan.Writes, notices.Delete(pod, "too many replicas"))
	}
}

// relatedPods are the pods by which nodes count as crowded: replicaset/replica_set.go
// getIndirectlyRelatedPods. A ReplicaSet without a controller has none.
func (r *replicaSetDecision) relatedPods() []*corev1.Pod {
	if metav1.GetControllerOfNoCopy(r.set) == nil {
		return nil
	}
	return append(append([]*corev1.Pod{}, r.claim.Objects...), r.snapshot.SiblingPods...)
}

// checkAvailableLater asks to be called when the next ready pod becomes available.
func (r *replicaSetDecision) checkAvailableLater(status appsv1.ReplicaSetStatus) {
	before := r.set.Status
	subject := plan.Ref{Resource: r.resource, Namespace: r.set.Namespace, Name: r.set.Name, UID: r.set.UID}
	r.plan.Later = append(r.plan.Later, podcontrol.AvailableLater(subject, r.claim.Objects, r.set.Spec.MinReadySeconds,
		podcontrol.Counts{Ready: before.ReadyReplicas, Available: before.AvailableReplicas},
		podcontrol.Counts{Ready: status.ReadyReplicas, Available: status.AvailableReplicas}, r.snapshot.Now)...)
}
