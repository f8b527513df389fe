package rollout

import (
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	labelsutil "k8s.io/kubernetes/pkg/util/labels"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// equalIgnoreHash compares two templates but for the pod-template-hash label:
// deployment/util/deployment_util.go EqualIgnoreHash.
func equalIgnoreHash(a, b *corev1.PodTemplateSpec) bool {
	withoutHash := func(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
		bare := *t
		bare.Labels = labelsutil.CloneAndRemoveLabel(t.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		return &bare
	}
	return apiequality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

// findNewReplicaSet finds the oldest set with the Deployment's template, nil when there is none:
// deployment/util/deployment_util.go FindNewReplicaSet.
func findNewReplicaSet(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range byCreation(sets) {
		if equalIgnoreHash(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

// syncRevision brings the annotations and minReadySeconds of the new set, if there is one, and the
// revision of the Deployment up to date: the first half of deployment/sync.go getNewReplicaSet.
func (r *deploymentDecision) syncRevision() {
	rs := r.newSet
	if rs == nil {
		return
	}
	annotations, annotated := annotateNewSet(r.deployment, rs, maxRevision(r.oldSets)+1)
	if annotated || rs.Spec.MinReadySeconds != r.deployment.Spec.MinReadySeconds {
		rs.Annotations = annotations
		rs.Spec.MinReadySeconds = r.deployment.Spec.MinReadySeconds
		r.change(rs)
	}
	r.setRevision(rs.Annotations[RevisionAnnotation])
	if hasProgressDeadline(r.deployment) && deploymentCondition(&r.deployment.Status, appsv1.DeploymentProgressing) == nil {
		r.setProgressing(corev1.ConditionTrue, FoundNewRSReason, fmt.Sprintf("Found new replica set %q", rs.Name))
	}
}

// setRevision is deployment/util/deployment_util.go SetDeploymentRevision.
func (r *deploymentDecision) setRevision(revision string) {
	if r.deployment.Annotations[RevisionAnnotation] == revision {
		return
	}
	annotations := maps.Clone(r.deployment.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[RevisionAnnotation] = revision
	r.deployment.Annotations = annotations
}

// ensureNewSet makes sure that there is a new set: the second half of deployment/sync.go
// getNewReplicaSet. It reports false when the decision has to end here, because the name is taken
// by a set of another template or owner (the collision count then makes another name) or because
// validation let through what cannot be resolved.
func (r *deploymentDecision) ensureNewSet() bool {
	if r.newSet != nil {
		return true
	}
	d := r.deployment
	newSet := r.newReplicaSet()
	r.plan.Reads = append(r.plan.Reads, plan.Read{Resource: plan.ReplicaSets, Namespace: d.Namespace, Name: newSet.Name})
	size, err := newReplicas(d, append(r.allSets(), newSet), newSet)
	if err != nil {
		return false
	}
	revision := maxRevision(r.oldSets) + 1
	newSet.Spec.Replicas = &size
	newSet.Annotations, _ = annotateNewSet(d, newSet, revision)
	newSet.Annotations = withReplicasAnnotations(newSet.Annotations, d)

	if existing := r.snapshot.SameName; existing != nil && existing.Name == newSet.Name {
		if !metav1.IsControlledBy(existing, d) || !equalIgnoreHash(&d.Spec.Template, &existing.Spec.Template) {
			r.bumpCollisionCount()
			return false
		}
		working := *existing
		r.newSet = &working
		r.setRevision(strconv.FormatInt(revision, 10))
		return true
	}

	r.newSet, r.created = newSet, newSet
	if size > 0 {
		r.scaled("up", newSet.Name, 0, size)
	}
	r.setRevision(strconv.FormatInt(revision, 10))
	if hasProgressDeadline(d) {
		r.setProgressing(corev1.ConditionTrue, NewReplicaSetReason, fmt.Sprintf("Created new replica set %q", newSet.Name))
	}
	return true
}

// newReplicaSet builds the set without size and annotations. Its name is made from the template, so
// that creating it twice fails.
func (r *deploymentDecision) newReplicaSet() *appsv1.ReplicaSet {
	d := r.deployment
	hash := podcontrol.ComputeHash(&d.Spec.Template, d.Status.CollisionCount)
	template := *d.Spec.Template.DeepCopy()
	template.Labels = labelsutil.CloneAndAddLabel(d.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: replicaSetName(d.Name, hash), Namespace: d.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, deploymentKind)},
			Labels:          template.Labels,
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas:        new(int32),
			MinReadySeconds: d.Spec.MinReadySeconds,
			Selector:        labelsutil.CloneSelectorAndAddLabel(d.Spec.Selector, appsv1.DefaultDeploymentUniqueLabelKey, hash),
			Template:        template,
		},
	}
}

func (r *deploymentDecision) bumpCollisionCount() {
	count := int32(1)
	if current := r.deployment.Status.CollisionCount; current != nil {
		count = *current + 1
	}
	r.deployment.Status.CollisionCount = &count
}

func (r *deploymentDecision) createWrite() plan.Write {
	refused := deploymentNotice(r.snapshot.Deployment, corev1.EventTypeWarning, FailedRSCreateReason,
		fmt.Sprintf("Failed to create new replica set %q: %%v", r.created.Name))
	return plan.Write{
		Verb: plan.Create, Resource: plan.ReplicaSets, Namespace: r.created.Namespace, Name: r.created.Name,
		Object: r.created.DeepCopy(), Reason: "start the rollout of a new template", IfFailed: &refused,
	}
}

// NewReplicaSetRefused decides what to do when the server refused to create the ReplicaSet that a
// plan from this snapshot asked for: the Progressing condition says so (the error branch of
// deployment/sync.go getNewReplicaSet). message is the server's. The plan is empty when the
// condition says it already, when there is no progress deadline, and when the name was taken (then
// SameName was missing from the snapshot). Not to be called for a namespace that is terminating.
func NewReplicaSetRefused(s DeploymentSnapshot, message string) plan.Plan {
	working := *s.Deployment
	r := &deploymentDecision{snapshot: s, now: metav1.NewTime(s.Now).Rfc3339Copy(), deployment: &working}
	r.plan.Reads = []plan.Read{{Resource: plan.Deployments, Namespace: working.Namespace, Name: working.Name}}
	if hasProgressDeadline(r.deployment) {
		r.setProgressing(corev1.ConditionFalse, FailedRSCreateReason,
			fmt.Sprintf("Failed to create new replica set %q: %s", NewReplicaSetName(s.Deployment), message))
	}
	return r.finish()
}
