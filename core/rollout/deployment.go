package rollout

import (
	"reflect"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/ownership"
	"github.com/zeroplane/zeroplane/core/plan"
)

// DeploymentSnapshot is everything that a decision about a Deployment is made on. Its objects are
// read and never altered.
type DeploymentSnapshot struct {
	Deployment *appsv1.Deployment
	// ReplicaSets are those of the namespace that the Deployment controls, and those that its
	// selector matches and nobody controls.
	ReplicaSets []*appsv1.ReplicaSet
	// Pods are those that these ReplicaSets control. Only the Recreate strategy looks at them.
	Pods []*corev1.Pod
	// SameName is the ReplicaSet of the namespace that is called NewReplicaSetName(Deployment),
	// whoever controls it; nil when there is none.
	SameName *appsv1.ReplicaSet
	Now      time.Time
}

// deploymentDecision is a decision in the making.
type deploymentDecision struct {
	snapshot DeploymentSnapshot
	now      metav1.Time
	// deployment and the sets are working copies. oldSets are in order of creation.
	deployment *appsv1.Deployment
	newSet     *appsv1.ReplicaSet
	oldSets    []*appsv1.ReplicaSet
	// created is newSet when this plan creates it; changed are the sets that it updates.
	created *appsv1.ReplicaSet
	changed []*appsv1.ReplicaSet
	plan    plan.Plan
}

// Deployment decides one step of a Deployment: deployment/deployment_controller.go syncDeployment.
// An empty plan means that the Deployment has settled.
func Deployment(s DeploymentSnapshot) plan.Plan {
	working := *s.Deployment
	r := &deploymentDecision{snapshot: s, now: metav1.NewTime(s.Now).Rfc3339Copy(), deployment: &working}
	r.readSet()
	if reflect.DeepEqual(s.Deployment.Spec.Selector, &metav1.LabelSelector{}) {
		r.refuseToSelectAll()
		return r.finish()
	}

	// 1. Know the ReplicaSets.
	claim, ok := claimReplicaSets(s.Deployment, s.ReplicaSets)
	if !ok || len(claim.Writes) > 0 {
		r.plan.Writes = claim.Writes
		return r.plan
	}
	r.tellApart(claim.Objects)
	r.readPods(claim.Objects)

	// 2. Decide.
	switch {
	case s.Deployment.DeletionTimestamp != nil:
		r.syncRevision()
		r.syncStatus()
	default:
		r.checkPausedConditions()
		r.syncRevision()
		r.step()
	}

	// 3. Gather what changed.
	return r.finish()
}

// step takes the branches of syncDeployment that may change ReplicaSets.
func (r *deploymentDecision) step() {
	switch {
	case r.deployment.Spec.Paused:
		r.sync()
	case rollbackRevision(r.deployment) != nil:
		r.rollback()
	case r.isScalingEvent():
		r.sync()
	case r.deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.rolloutRecreate()
	case isRollingUpdate(r.deployment):
		r.rolloutRolling()
	}
}

// sync is deployment/sync.go sync: what a paused Deployment and one that was scaled get.
func (r *deploymentDecision) sync() {
	r.scale()
	if r.deployment.Spec.Paused && rollbackRevision(r.deployment) == nil {
		r.cleanup()
	}
	r.syncStatus()
}

// refuseToSelectAll answers the empty selector. Upstream repeats the event with every sync; here it
// is given once for each generation, so that a second decision asks for nothing.
func (r *deploymentDecision) refuseToSelectAll() {
	if r.deployment.Status.ObservedGeneration >= r.deployment.Generation {
		return
	}
	r.deployment.Status.ObservedGeneration = r.deployment.Generation
	r.plan.Notices = append(r.plan.Notices, deploymentNotice(r.snapshot.Deployment, corev1.EventTypeWarning, "SelectingAll",
		"This deployment is selecting all pods. A non-empty selector is required."))
}

// claimReplicaSets finds the sets that the Deployment controls. It is not ok when the selector is invalid.
func claimReplicaSets(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (ownership.Claimed[*appsv1.ReplicaSet], bool) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return ownership.Claimed[*appsv1.ReplicaSet]{}, false
	}
	return ownership.Claim(ownership.Controller{Object: d, Kind: deploymentKind}, plan.ReplicaSets, byCreation(sets), func(rs *appsv1.ReplicaSet) bool {
		return selector.Matches(labels.Set(rs.Labels))
	}), true
}

// tellApart splits the claimed sets into the new one, whose template is the Deployment's, and the
// old ones: deployment/util/deployment_util.go FindNewReplicaSet and FindOldReplicaSets.
func (r *deploymentDecision) tellApart(claimed []*appsv1.ReplicaSet) {
	found := findNewReplicaSet(r.snapshot.Deployment, claimed)
	for _, rs := range byCreation(claimed) {
		working := *rs
		if rs == found {
			r.newSet = &working
			continue
		}
		r.oldSets = append(r.oldSets, &working)
	}
}

// allSets are the old sets and then the new one, if there is one, as upstream orders them.
func (r *deploymentDecision) allSets() []*appsv1.ReplicaSet {
	all := make([]*appsv1.ReplicaSet, 0, len(r.oldSets)+1)
	all = append(all, r.oldSets...)
	if r.newSet != nil {
		all = append(all, r.newSet)
	}
	return all
}

// change notes that the plan updates rs. A set that the plan creates needs no update.
func (r *deploymentDecision) change(rs *appsv1.ReplicaSet) {
	if rs == r.created || r.changes(rs) {
		return
	}
	r.changed = append(r.changed, rs)
}

func (r *deploymentDecision) changes(rs *appsv1.ReplicaSet) bool {
	return slices.Contains(r.changed, rs)
}

func (r *deploymentDecision) readSet() {
	d := r.snapshot.Deployment
	r.plan.Reads = []plan.Read{
		{Resource: plan.Deployments, Namespace: d.Namespace, Name: d.Name},
		{Resource: plan.ReplicaSets, Namespace: d.Namespace, Owner: d.UID},
	}
	if selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && !selector.Empty() {
		r.plan.Reads = append(r.plan.Reads, plan.Read{Resource: plan.ReplicaSets, Namespace: d.Namespace, Selector: selector})
	}
}

// readPods adds the pods to the read set of a Recreate Deployment, the only kind whose decision
// they change.
func (r *deploymentDecision) readPods(claimed []*appsv1.ReplicaSet) {
	if r.snapshot.Deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return
	}
	for _, rs := range byCreation(claimed) {
		r.plan.Reads = append(r.plan.Reads, plan.Read{Resource: plan.Pods, Namespace: rs.Namespace, Owner: rs.UID})
	}
}

// finish turns the working copies into writes: ReplicaSets first and the Deployment's status last,
// as upstream does. The status request carries the revision annotation too (only spec and labels
// are reset by it).
func (r *deploymentDecision) finish() plan.Plan {
	var writes []plan.Write
	if r.created != nil {
		writes = append(writes, r.createWrite())
	}
	for _, rs := range r.changed {
		writes = append(writes, plan.Write{
			Verb: plan.Update, Resource: plan.ReplicaSets, Namespace: rs.Namespace, Name: rs.Name,
			Object: rs.DeepCopy(), Reason: "scale or annotate the ReplicaSet",
		})
	}
	r.plan.Writes = append(writes, r.plan.Writes...)
	r.forgetProgress()
	if r.statusChanged() {
		r.plan.Writes = append(r.plan.Writes, deploymentStatusWrite(r.deployment))
	}
	return r.plan
}

func (r *deploymentDecision) statusChanged() bool {
	before := r.snapshot.Deployment
	return !apiequality.Semantic.DeepEqual(before.Status, r.deployment.Status) ||
		before.Annotations[RevisionAnnotation] != r.deployment.Annotations[RevisionAnnotation]
}

func deploymentStatusWrite(d *appsv1.Deployment) plan.Write {
	return plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Deployments, Namespace: d.Namespace, Name: d.Name,
		Object: d.DeepCopy(), Reason: "report the rollout",
	}
}
