package statefulset

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// tellApart sorts the pods by their ordinals, and makes up those that are missing: the first part of
// stateful_set_control.go updateStatefulSet.
func (r *decision) tellApart() {
	r.replicas = make([]*corev1.Pod, size(r.set))
	for _, pod := range r.pods {
		switch {
		case inRange(r.set, pod):
			r.replicas[ordinalOf(pod)-firstOrdinal(r.set)] = pod
		case ordinalOf(pod) >= 0:
			r.condemned = append(r.condemned, pod)
		}
	}
	slices.SortFunc(r.condemned, func(a, b *corev1.Pod) int { return cmp.Compare(ordinalOf(b), ordinalOf(a)) })
	r.makeUpMissing()

	for _, pod := range r.replicas {
		if r.firstUnavailable == nil && r.isUnavailable(pod) {
			r.firstUnavailable = pod
		}
	}
	for _, pod := range slices.Backward(r.condemned) {
		if r.firstUnavailable == nil && r.isUnavailable(pod) {
			r.firstUnavailable = pod
		}
	}
}

// makeUpMissing makes the pods that there are not, of the revision that is right for their ordinals:
// stateful_set_utils.go newVersionedStatefulSetPod.
func (r *decision) makeUpMissing() {
	former, wanted := r.current, r.update
	var formerSet, wantedSet *appsv1.StatefulSet
	for i := range r.replicas {
		switch ordinal := firstOrdinal(r.set) + i; {
		case r.replicas[i] != nil:
		case i < r.kept():
			formerSet = r.of(former, formerSet)
			r.replicas[i] = newPod(formerSet, ordinal, former.Name)
		default:
			wantedSet = r.of(wanted, wantedSet)
			r.replicas[i] = newPod(wantedSet, ordinal, wanted.Name)
		}
	}
}

// of is the set with the spec of a revision, unless it is known already. A revision that cannot be
// applied counts as what the set has now.
func (r *decision) of(revision *appsv1.ControllerRevision, known *appsv1.StatefulSet) *appsv1.StatefulSet {
	if known != nil {
		return known
	}
	set, err := apply(r.set, revision)
	if err != nil {
		return r.set
	}
	return set
}

// kept is how many of the replicas are made of the current revision while there is a newer one.
func (r *decision) kept() int {
	strategy := r.set.Spec.UpdateStrategy
	switch {
	case strategy.RollingUpdate != nil:
		return r.partition()
	case strategy.Type == appsv1.RollingUpdateStatefulSetStrategyType:
		return int(r.set.Status.CurrentReplicas)
	default:
		return 0
	}
}

// updatePods is the second part of stateful_set_control.go updateStatefulSet: replicas from the first
// to the last, then the condemned, then the update. In order, each waits for the one before it.
func (r *decision) updatePods() {
	r.runForAll(r.replicas, r.processReplica)
	if r.stopped {
		return
	}
	for _, pod := range r.condemned {
		if !r.claimsMatch(pod) {
			r.ownClaims(pod)
		}
	}
	r.runForAll(r.condemned, r.processCondemned)
	if r.stopped || len(r.writes.repaired) > 0 || r.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	r.rollingUpdate()
}

// inOrder reports whether the set starts and ends its pods one after the other.
func (r *decision) inOrder() bool {
	return r.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// runForAll processes pods until one says to stop, if the set is in order.
func (r *decision) runForAll(pods []*corev1.Pod, process func(*corev1.Pod) bool) {
	for _, pod := range pods {
		if process(pod) && r.inOrder() {
			r.stopped = true
			return
		}
	}
}

// processReplica brings one replica on. It returns true if the next one has to wait.
func (r *decision) processReplica(pod *corev1.Pod) bool {
	switch {
	case podstate.IsTerminal(pod):
		// It is made again when it is gone.
		if !isTerminating(pod) {
			r.deletePod(pod, "it has ended")
		}
		return true
	case !isCreated(pod):
		return r.createPod(pod)
	case pod.Status.Phase == corev1.PodPending:
		if r.createClaims(pod) != "" {
			r.stopped = true
			return true
		}
		r.ownClaims(pod)
	}
	if r.inOrder() && (isTerminating(pod) || !isRunningAndReady(pod) || !r.isAvailable(pod)) {
		return true
	}
	return r.repair(pod)
}

// createPod makes a pod and the claims that it needs: stateful_pod_control.go CreateStatefulPod. In
// order, the next one waits for it. Nothing can be made while a stranger has the name.
func (r *decision) createPod(pod *corev1.Pod) bool {
	if len(r.writes.newPods) == maxPods || r.strangers[pod.Name] {
		r.stopped = true
	}
	if r.stopped || r.claimsAreStale(pod) {
		return true
	}
	if problem := r.createClaims(pod); problem != "" {
		r.plan.Notices = append(r.plan.Notices, *r.failed(create, pod.Name, problem))
		r.stopped = true
		return true
	}
	r.ownClaims(pod)
	r.writes.newPods = append(r.writes.newPods, plan.Write{
		Verb: plan.Create, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Object: pod, Reason: "too few replicas",
		OnSuccess: r.succeeded(create, pod.Name), IfFailed: r.failed(create, pod.Name, "%v"),
	})
	return true
}

// repair makes a pod that there is what it should be: stateful_pod_control.go UpdateStatefulPod.
func (r *decision) repair(pod *corev1.Pod) bool {
	identity, storage, claims := identityMatches(r.set, pod), storageMatches(r.set, pod), r.claimsMatch(pod)
	if identity && storage && claims {
		return false
	}
	repaired := pod.DeepCopy()
	if !identity {
		updateIdentity(r.set, repaired)
	}
	if !storage {
		updateStorage(r.set, repaired)
		if problem := r.createClaims(repaired); problem != "" {
			r.plan.Notices = append(r.plan.Notices, *r.failed(update, pod.Name, problem))
			r.stopped = true
			return true
		}
	}
	if !claims {
		r.ownClaims(repaired)
	}
	if identity && storage {
		r.plan.Notices = append(r.plan.Notices, *r.succeeded(update, pod.Name))
		return false
	}
	r.writes.repaired[pod.UID] = true
	r.writes.pods = append(r.writes.pods, plan.Write{
		Verb: plan.Update, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Object: repaired, Reason: "its identity or its volumes are wrong",
		OnSuccess: r.succeeded(update, pod.Name), IfFailed: r.failed(update, pod.Name, "%v"),
	})
	return false
}

// processCondemned takes one pod away. It returns true if the next one has to wait.
func (r *decision) processCondemned(pod *corev1.Pod) bool {
	if isTerminating(pod) {
		return true
	}
	if r.inOrder() && pod != r.firstUnavailable && (!isRunningAndReady(pod) || !r.isAvailable(pod)) {
		return true
	}
	r.deletePod(pod, "too many replicas")
	return true
}

// deletePod removes a pod, once, if the plan has not removed as many as it may: stateful_pod_control.go
// DeleteStatefulPod.
func (r *decision) deletePod(pod *corev1.Pod, reason string) {
	if r.writes.deleted[pod.UID] || len(r.writes.deletions) == maxPods {
		return
	}
	r.writes.deleted[pod.UID] = true
	r.writes.deletions = append(r.writes.deletions, plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Reason: reason,
		OnSuccess: r.succeeded(remove, pod.Name), IfFailed: r.failed(remove, pod.Name, "%v"),
	})
}
