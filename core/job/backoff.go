package job

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/zeroplane/zeroplane/core/podstate"
)

const (
	// firstBackoff is how long no pod is made after one failed; it doubles with each in a row, up to maxBackoff
	// (job_controller.go DefaultJobPodFailureBackOff, MaxJobPodFailureBackOff).
	firstBackoff = 10 * time.Second
	maxBackoff   = 10 * time.Minute
)

// again is when pods may be made after failures in a row, the last of them at a time: backoff_utils.go
// getRemainingTimeForFailuresCount.
func again(failures int, last time.Time) time.Time {
	if failures == 0 {
		return time.Time{}
	}
	pause := firstBackoff
	for i := 1; i < failures && pause < maxBackoff; i++ {
		pause = min(2*pause, maxBackoff)
	}
	return last.Add(pause)
}

// backoffOver is when the Job may make pods again, zero for now: backoff_utils.go newBackoffRecord, over all pods that are
// there instead of those that each sync saw first.
func (d *decision) backoffOver() time.Time {
	var lastSuccess time.Time
	var failed, taken []time.Time
	for _, pod := range d.pods {
		if isIndexed(d.job) && !hasValidIndex(d.job, pod) {
			continue
		}
		at := finishedAt(pod)
		switch {
		case pod.Status.Phase == corev1.PodSucceeded:
			lastSuccess = later(lastSuccess, at)
		case hasFinalizer(pod) && isFailed(d.job, pod), pod.Status.Phase == corev1.PodFailed && pod.DeletionTimestamp == nil:
			failed = append(failed, at)
		case !hasFinalizer(pod) && pod.DeletionTimestamp != nil:
			taken = append(taken, at)
		}
	}
	// A pod that goes and has no finalizer any more was deleted by someone and counted as failed, or by the controller and
	// not counted. The Job's count tells how many can be of the former kind.
	slices.SortFunc(taken, func(a, b time.Time) int { return b.Compare(a) })
	failed = append(failed, taken[:min(len(taken), max(int(d.failed)-len(failed), 0))]...)
	failures, last := 0, time.Time{}
	for _, at := range failed {
		if at.After(lastSuccess) {
			failures++
			last = later(last, at)
		}
	}
	return again(failures, last)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// indexBackoffOver is when the index of a failed pod may get another one, zero for now: backoff_utils.go
// getRemainingTimePerIndex. The pod may be nil.
func indexBackoffOver(lastFailed *corev1.Pod) time.Time {
	if lastFailed == nil {
		return time.Time{}
	}
	return again(int(allIndexFailures(lastFailed))+1, finishedAt(lastFailed))
}

// finishedAt is when a pod ended, as well as that is known: backoff_utils.go getFinishedTime.
func finishedAt(pod *corev1.Pod) time.Time {
	if at := containersFinishedAt(pod); !at.IsZero() {
		return at
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodReady {
			continue
		}
		if c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Time
		}
		break
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Add(-time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
	return pod.CreationTimestamp.Time
}

// containersFinishedAt is when the last of the containers ended, sidecars included, zero if one has not:
// backoff_utils.go getFinishTimeFromContainers. (As there, sidecars alone count if a container has not ended.)
func containersFinishedAt(pod *corev1.Pod) time.Time {
	sidecars := podstate.Sidecars(pod)
	at := lastFinish(time.Time{}, pod.Status.ContainerStatuses, func(string) bool { return true })
	return lastFinish(at, pod.Status.InitContainerStatuses, func(name string) bool { return sidecars[name] })
}

func lastFinish(at time.Time, statuses []corev1.ContainerStatus, counts func(name string) bool) time.Time {
	for i := range statuses {
		s := &statuses[i]
		if !counts(s.Name) {
			continue
		}
		if s.State.Terminated == nil || s.State.Terminated.FinishedAt.IsZero() {
			return time.Time{}
		}
		if s.State.Terminated.FinishedAt.After(at) {
			at = s.State.Terminated.FinishedAt.Time
		}
	}
	return at
}
