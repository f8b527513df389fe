package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Wakes answers for one plugin and one change what the cluster asks of all: whether it could have the plugin let in a pod
// that it refused. old is nil for an object that came, now for one that went; pods are those on nodes. A pod that changed itself is
// tried as one that came, whatever the change.
func (c *Cluster) Wakes(plugin string, pod *corev1.Pod, old, now runtime.Object) bool {
	prof := c.profileOf(pod)
	for i := range wakeHints {
		if wakeHints[i].plugin != plugin || prof == nil {
			continue
		}
		e := c.entryLike(pod)
		defer c.releaseLike(e)
		cl := newClass(prof, pod, c.spreadingOf(pod))
		c.devices.mark(cl)
		s := sleeper{class: cl, neighbourhood: e.neighbourhood, mounts: e.mounts, kin: e.kin, needs: needsOf(cl, pod)}
		return s.wakesBy(c, &wakeHints[i].wakeHint, old, now)
	}
	return true
}

func (s *sleeper) wakesBy(c *Cluster, h *wakeHint, old, now runtime.Object) bool {
	return s.wakesByPod(c, h, old, now) ||
		asks(c, s, h.node, old, now) || asks(c, s, h.claim, old, now) || asks(c, s, h.volume, old, now) || asks(c, s, h.class, old, now) ||
		asks(c, s, h.csiNode, old, now) || asks(c, s, h.driver, old, now) || asks(c, s, h.capacity, old, now) ||
		asks(c, s, h.attachment, old, now) || asks(c, s, h.namespace, old, now) || asks(c, s, h.deviceClaim, old, now) ||
		asks(c, s, h.slice, old, now) || asks(c, s, h.deviceClass, old, now) || asks(c, s, h.taintRule, old, now)
}

// asks asks a hint about objects of its kind.
func asks[T any](c *Cluster, s *sleeper, wakes func(*Cluster, *sleeper, *T, *T) bool, old, now runtime.Object) bool {
	was, had := any(old).(*T)
	is, has := any(now).(*T)
	return wakes != nil && (had || has) && wakes(c, s, was, is)
}

func (s *sleeper) wakesByPod(c *Cluster, h *wakeHint, old, now runtime.Object) bool {
	was, had := old.(*corev1.Pod)
	is, has := now.(*corev1.Pod)
	if h.pod == nil || !had && !has {
		return false
	}
	var before, after *entry
	if had {
		before = c.entryLike(was)
		before.charge = newCharge(was)
		defer c.releaseLike(before)
	}
	if has {
		after = c.entryLike(is)
		after.charge = newCharge(is)
		defer c.releaseLike(after)
	}
	return h.pod(c, s, before, after)
}
