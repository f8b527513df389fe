package rollout

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/plan"
)

// burstReplicas is how many pods one plan creates or deletes at most (replicaset/replica_set.go
// BurstReplicas). The change that the plan makes asks for the next one.
const burstReplicas = 500

// LaterAvailable is the Kind of the plan.Later that looks for pods which have become available.
const LaterAvailable = "available"

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
	claim       claimedPods
	terminating int32
	plan        plan.Plan
}

// ReplicaSet decides one step of a ReplicaSet: replicaset/replica_set.go syncReplicaSet. An empty
// plan means that it has settled. The status write comes last: when a write before it was refused,
// the status belongs to ReplicaSetFailed and must not be written.
func ReplicaSet(s ReplicaSetSnapshot) plan.Plan {
	r, ok := newReplicaSetDecision(s)
	if !ok {
		return r.plan
	}
	r.plan.Writes = r.claim.writes
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
	r, ok := newReplicaSetDecision(s)
	if ok {
		r.writeStatus(r.calculateStatus(message))
	}
	return r.plan
}

// newReplicaSetDecision sorts the pods. It is not ok when the selector is invalid.
func newReplicaSetDecision(s ReplicaSetSnapshot) (*replicaSetDecision, bool) {
	rs := s.ReplicaSet
	r := &replicaSetDecision{snapshot: s, set: rs, now: metav1.NewTime(s.Now).Rfc3339Copy()}
	r.plan.Reads = []plan.Read{
		{Resource: plan.ReplicaSets, Namespace: rs.Namespace, Name: rs.Name},
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
		case isActive(pod):
			activePods = append(activePods, pod)
		case isTerminating(pod) && metav1.IsControlledBy(pod, rs) && selector.Matches(labels.Set(pod.Labels)):
			r.terminating++
		}
	}
	r.claim = claimPods(rs, selector, activePods)
	return r, true
}

// manageReplicas creates what is missing and deletes what is too much: replicaset/replica_set.go
// manageReplicas. (Upstream creates in batches of growing size, so that a refusal does not come 500
// times over. How a plan is committed is up to whoever commits it.)
func (r *replicaSetDecision) manageReplicas() {
	missing := int(sizeOf(r.set)) - len(r.claim.pods)
	for range min(missing, burstReplicas) {
		r.plan.Writes = append(r.plan.Writes, r.createPod())
	}
	if missing >= 0 {
		return
	}
	for _, pod := range podsToDelete(r.claim.pods, r.relatedPods(), min(-missing, burstReplicas), r.snapshot.Now) {
		if r.claim.adopted[pod.UID] {
			continue // this plan patches it; the next one deletes it
		}
		r.plan.Writes = append(r.plan.Writes, r.deletePod(pod))
	}
}

// relatedPods are the pods by which nodes count as crowded: replicaset/replica_set.go
// getIndirectlyRelatedPods. A ReplicaSet without a controller has none.
func (r *replicaSetDecision) relatedPods() []*corev1.Pod {
	if metav1.GetControllerOfNoCopy(r.set) == nil {
		return nil
	}
	return append(append([]*corev1.Pod{}, r.claim.pods...), r.snapshot.SiblingPods...)
}

// createPod is controller_utils.go createPods, with its events.
func (r *replicaSetDecision) createPod() plan.Write {
	pod := newPod(r.set)
	return plan.Write{
		Verb: plan.Create, Resource: plan.Pods, Namespace: pod.Namespace, Object: pod,
		Reason:    "too few replicas",
		OnSuccess: replicaSetNotice(r.set, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: {{name}}"),
		IfFailed:  replicaSetNotice(r.set, corev1.EventTypeWarning, failedCreate, "Error creating: %v"),
	}
}

// deletePod is controller_utils.go DeletePod, with its events.
func (r *replicaSetDecision) deletePod(pod *corev1.Pod) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		Reason:    "too many replicas",
		OnSuccess: replicaSetNotice(r.set, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name),
		IfFailed:  replicaSetNotice(r.set, corev1.EventTypeWarning, failedDelete, "Error deleting: %v"),
	}
}

// checkAvailableLater asks to be called when the next ready pod becomes available, for as long as
// there is one that is not: the end of syncReplicaSet. Upstream falls back to minReadySeconds from
// now for pods whose ready time is unknown; those become available only by changing, which calls
// anyway.
func (r *replicaSetDecision) checkAvailableLater(status appsv1.ReplicaSetStatus) {
	minReady, before := r.set.Spec.MinReadySeconds, r.set.Status
	var due time.Time
	for _, pod := range r.claim.pods {
		at := availableAt(pod, minReady)
		if minReady > 0 && at.After(r.snapshot.Now) && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	waited := minReady > 0 && before.ReadyReplicas != before.AvailableReplicas
	waits := !due.IsZero()
	if !waits && (!waited || status.ReadyReplicas != status.AvailableReplicas) {
		return
	}
	r.plan.Later = append(r.plan.Later, plan.Later{
		At: due, Kind: LaterAvailable,
		Subject: plan.Ref{Resource: plan.ReplicaSets, Namespace: r.set.Namespace, Name: r.set.Name, UID: r.set.UID},
	})
}
