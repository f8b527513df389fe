package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// countPods is daemon_controller.go updateDaemonSetStatus. Pods count as the snapshot has them: of a
// node's the oldest.
func (r *decision) countPods() {
	r.status = *r.set.Status.DeepCopy()
	s := &r.status
	s.ObservedGeneration = r.set.Generation
	s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberMisscheduled = 0, 0, 0
	s.NumberReady, s.NumberAvailable, s.UpdatedNumberScheduled = 0, 0, 0
	for _, node := range r.nodes {
		run, _ := r.placement.on(node)
		pods := r.onNode[node.Name]
		switch {
		case run:
			s.DesiredNumberScheduled++
			if len(pods) == 0 {
				continue
			}
			s.CurrentNumberScheduled++
			if podstate.IsReady(pods[0]) {
				s.NumberReady++
			}
			if r.isAvailable(pods[0]) {
				s.NumberAvailable++
			}
			if r.isUpdated(pods[0]) {
				s.UpdatedNumberScheduled++
			}
		case len(pods) > 0:
			s.NumberMisscheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
}

// writeStatus writes the status if it changed: daemon_controller.go storeDaemonSetStatus.
func (r *decision) writeStatus() {
	if sameCounts(&r.set.Status, &r.status) && r.set.Status.ObservedGeneration >= r.set.Generation {
		return
	}
	updated := r.set.DeepCopy()
	updated.Status = r.status
	r.plan.Writes = append(r.plan.Writes, plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.DaemonSets, Namespace: updated.Namespace, Name: updated.Name,
		Object: updated, Reason: "report the pods",
	})
}

func sameCounts(a, b *appsv1.DaemonSetStatus) bool {
	return a.DesiredNumberScheduled == b.DesiredNumberScheduled &&
		a.CurrentNumberScheduled == b.CurrentNumberScheduled &&
		a.NumberMisscheduled == b.NumberMisscheduled &&
		a.NumberReady == b.NumberReady &&
		a.UpdatedNumberScheduled == b.UpdatedNumberScheduled &&
		a.NumberAvailable == b.NumberAvailable &&
		a.NumberUnavailable == b.NumberUnavailable
}

// checkLater asks to be called when the next ready pod becomes available, for as long as there is one
// that is not, and when the first of the failed pods is to be removed.
func (r *decision) checkLater() {
	before := r.set.Status
	r.plan.Later = append(r.plan.Later, podcontrol.AvailableLater(r.subject(), r.pods, r.set.Spec.MinReadySeconds,
		podcontrol.Counts{Ready: before.NumberReady, Available: before.NumberAvailable},
		podcontrol.Counts{Ready: r.status.NumberReady, Available: r.status.NumberAvailable}, r.snapshot.Now)...)
	if !r.retry.IsZero() {
		r.plan.Later = append(r.plan.Later, plan.Later{At: r.retry, Kind: laterFailed, Subject: r.subject()})
	}
}
