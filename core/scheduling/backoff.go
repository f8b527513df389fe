package scheduling

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// pause is for how long a pod is left alone, and until when.
type pause struct {
	length time.Duration
	until  time.Time
}

// Refused notes that the API refused what a run asked for a pod, and returns when the pod is tried again: the pause doubles
// with each refusal, and others are placed meanwhile. A pod that is gone is tried at once.
//
// Upstream: the backoffQ of backend/queue, for pods whose binding failed. Pods that no node takes have no pause: they wait
// for a change, and upstream's pause is there to keep them from a scheduler that takes one pod at a time.
func (c *Cluster) Refused(pod *corev1.Pod, now time.Time) (again time.Time) {
	e := c.waiting[nameOf(pod)]
	if e == nil || e.pod.UID != pod.UID {
		return now
	}
	profile := &e.class.profile.Profile
	p := c.refusals[pod.UID]
	p = pause{min(max(2*p.length, profile.InitialBackoff), profile.MaxBackoff), time.Time{}}
	p.until = now.Add(p.length)
	c.refusals[pod.UID] = p
	return p.until
}

// isLeftAlone reports whether the API has refused something for the pod a moment ago.
func (c *Cluster) isLeftAlone(e *entry, now time.Time) bool {
	return len(c.refusals) > 0 && c.refusals[e.pod.UID].until.After(now)
}

// PodOf is the waiting pod for which a write of the plan is asked.
func (r *Result) PodOf(w *plan.Write) *corev1.Pod {
	for i := range r.Preemptions {
		made := &r.Preemptions[i]
		for _, victim := range made.Victims {
			if w.UID == victim.UID {
				return made.Pod
			}
		}
		for _, yields := range made.Yields {
			if w.UID == yields.UID {
				return made.Pod
			}
		}
		if w.UID == made.Pod.UID {
			return made.Pod
		}
	}
	for i := range r.Placements {
		placed := &r.Placements[i]
		for _, pv := range placed.Volumes {
			if w.UID == pv.UID {
				return placed.Pod
			}
		}
		for _, pvc := range placed.Claims {
			if w.UID == pvc.UID {
				return placed.Pod
			}
		}
		if w.UID == placed.Pod.UID {
			return placed.Pod
		}
	}
	for i := range r.Unschedulable {
		if w.UID == r.Unschedulable[i].Pod.UID {
			return r.Unschedulable[i].Pod
		}
	}
	return nil
}
