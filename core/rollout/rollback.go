package rollout

import (
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	labelsutil "k8s.io/kubernetes/pkg/util/labels"

	"github.com/zeroplane/zeroplane/core/plan"
)

// rollbackRevision reads the revision that the deprecated rollback annotation asks for (0 for the
// last one), nil when it asks for none or is no number: deployment/rollback.go getRollbackTo.
func rollbackRevision(d *appsv1.Deployment) *int64 {
	revision, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedRollbackTo], 10, 64)
	if err != nil {
		return nil
	}
	return &revision
}

// rollback puts the template of an earlier revision back and takes the annotation away:
// deployment/rollback.go rollback. It waits for a plan of its own when revisions or the status have
// to be brought up to date first, which writes the Deployment as well.
func (r *deploymentDecision) rollback() {
	if !r.ensureNewSet() || r.created != nil || len(r.changed) > 0 || r.statusChanged() {
		return
	}
	d := r.snapshot.Deployment.DeepCopy()
	revision := *rollbackRevision(d)
	if revision == 0 {
		if revision = lastRevision(r.allSets()); revision == 0 {
			r.giveUpRollback(d, "Unable to find last revision.")
			return
		}
	}
	for _, rs := range r.allSets() {
		if found, err := revisionOf(rs); err == nil && found == revision {
			r.rollbackTo(d, rs, revision)
			return
		}
	}
	r.giveUpRollback(d, "Unable to find the revision to rollback to.")
}

func (r *deploymentDecision) giveUpRollback(d *appsv1.Deployment, message string) {
	r.plan.Notices = append(r.plan.Notices,
		deploymentNotice(r.snapshot.Deployment, corev1.EventTypeWarning, "DeploymentRollbackRevisionNotFound", message))
	r.clearRollback(d)
}

// rollbackTo is deployment/rollback.go rollbackToTemplate. The annotations of the set come back with
// its template, for they describe it (the change cause, say).
func (r *deploymentDecision) rollbackTo(d *appsv1.Deployment, rs *appsv1.ReplicaSet, revision int64) {
	eventType, reason := corev1.EventTypeNormal, "DeploymentRollback"
	message := fmt.Sprintf("Rolled back deployment %q to revision %d", d.Name, revision)
	if equalIgnoreHash(&d.Spec.Template, &rs.Spec.Template) {
		eventType, reason = corev1.EventTypeWarning, "DeploymentRollbackTemplateUnchanged"
		message = fmt.Sprintf("The rollback revision contains the same template as current deployment %q", d.Name)
	} else {
		template := rs.Spec.Template.DeepCopy()
		template.Labels = labelsutil.CloneAndRemoveLabel(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		d.Spec.Template = *template
		d.Annotations = rolledBackAnnotations(d, rs)
	}
	r.plan.Notices = append(r.plan.Notices, deploymentNotice(r.snapshot.Deployment, eventType, reason, message))
	r.clearRollback(d)
}

// rolledBackAnnotations is deployment/util/deployment_util.go SetDeploymentAnnotationsTo.
func rolledBackAnnotations(d *appsv1.Deployment, rs *appsv1.ReplicaSet) map[string]string {
	annotations := maps.Clone(d.Annotations)
	maps.DeleteFunc(annotations, func(key, _ string) bool { return !skipped(key) })
	for key, value := range rs.Annotations {
		if !skipped(key) {
			annotations[key] = value
		}
	}
	return annotations
}

func (r *deploymentDecision) clearRollback(d *appsv1.Deployment) {
	delete(d.Annotations, appsv1.DeprecatedRollbackTo)
	r.plan.Writes = append(r.plan.Writes, plan.Write{
		Verb: plan.Update, Resource: plan.Deployments, Namespace: d.Namespace, Name: d.Name,
		Object: d, Reason: "roll back, as the annotation asks",
	})
}
