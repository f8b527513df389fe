package rollout

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/podstate"
)

// rolloutRecreate ends all old pods before it starts new ones: deployment/recreate.go
// rolloutRecreate.
func (r *deploymentDecision) rolloutRecreate() {
	scaledDown := false
	for _, rs := range active(r.oldSets) {
		scaledDown = r.scaleReplicaSet(rs, 0) || scaledDown
	}
	if scaledDown || r.oldPodsRunning() {
		r.syncRolloutStatus()
		return
	}
	if !r.ensureNewSet() {
		return
	}
	r.scaleReplicaSet(r.newSet, desiredOf(r.deployment))
	if isComplete(r.deployment, &r.deployment.Status) {
		r.cleanup()
	}
	r.syncRolloutStatus()
}

// oldPodsRunning is deployment/recreate.go oldPodsRunning: a pod that is being deleted runs until
// it is gone or has ended.
func (r *deploymentDecision) oldPodsRunning() bool {
	if actual(r.oldSets) > 0 {
		return true
	}
	for _, pod := range r.snapshot.Pods {
		if podstate.IsTerminal(pod) {
			continue
		}
		for _, rs := range r.oldSets {
			if metav1.IsControlledBy(pod, rs) {
				return true
			}
		}
	}
	return false
}
