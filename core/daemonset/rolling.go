package daemonset

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxSurge is util/daemonset_util.go SurgeCount, and maxUnavailable its UnavailableCount: of a number
// of nodes, rounded up. They are not ok when they cannot be read.
func maxSurge(set *appsv1.DaemonSet, nodes int) (int, bool) {
	rolling := rollingOf(set)
	if rolling == nil || rolling.MaxSurge == nil {
		return 0, true
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(rolling.MaxSurge, nodes, true)
	return n, err == nil
}

func maxUnavailable(set *appsv1.DaemonSet, nodes int) (int, bool) {
	rolling := rollingOf(set)
	if rolling == nil {
		return 0, true
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(rolling.MaxUnavailable, nodes, true)
	return n, err == nil
}

func rollingOf(set *appsv1.DaemonSet) *appsv1.RollingUpdateDaemonSet {
	if set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return nil
	}
	return set.Spec.UpdateStrategy.RollingUpdate
}

// surges is util/daemonset_util.go AllowsSurge.
func (r *decision) surges() bool {
	n, ok := maxSurge(r.set, 1)
	return ok && n > 0
}

// rollingUpdate replaces old pods, within the limits of the strategy: update.go rollingUpdate.
func (r *decision) rollingUpdate() {
	running := r.desired()
	nodes := maps.Clone(r.onNode)
	for _, node := range running {
		if _, exist := nodes[node.Name]; !exist {
			nodes[node.Name] = nil
		}
	}
	surge, surgeOK := maxSurge(r.set, len(running))
	unavailable, unavailableOK := maxUnavailable(r.set, len(running))
	if !surgeOK || !unavailableOK {
		return
	}
	if len(running) > 0 && unavailable == 0 && surge == 0 {
		unavailable = 1
	}
	if surge == 0 {
		r.replace(nodes, unavailable)
		return
	}
	r.surge(nodes, surge, len(running))
}

// desired are the nodes that are to have a pod.
func (r *decision) desired() []*corev1.Node {
	var nodes []*corev1.Node
	for _, node := range r.nodes {
		if run, _ := r.placement.on(node); run {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// tellApart finds the new and the old pod of a node: update.go findUpdatedPodsOnNode. It is not ok when
// there are several of either.
func (r *decision) tellApart(pods []*corev1.Pod) (newPod, oldPod *corev1.Pod, ok bool) {
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		slot := &oldPod
		if r.isUpdated(pod) {
			slot = &newPod
		}
		if *slot != nil {
			return nil, nil, false
		}
		*slot = pod
	}
	return newPod, oldPod, true
}

// replace removes old pods without surge: those that are unavailable anyway, and of the others as many
// as may be unavailable. manage makes the new ones.
func (r *decision) replace(nodes map[string][]*corev1.Pod, maxUnavailable int) {
	unavailable := 0
	var broken, candidates []*corev1.Pod
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		newPod, oldPod, ok := r.tellApart(nodes[name])
		switch {
		case !ok || (newPod == nil) == (oldPod == nil):
			unavailable++
		case newPod != nil:
			if !r.isAvailable(newPod) {
				unavailable++
			}
		case !r.isAvailable(oldPod):
			broken = append(broken, oldPod)
			unavailable++
		default:
			candidates = append(candidates, oldPod)
		}
	}
	for _, pod := range broken {
		r.remove(pod, "it is old, and not available")
	}
	for _, pod := range candidates[:min(max(maxUnavailable-unavailable, 0), len(candidates))] {
		r.remove(pod, "it is old")
	}
}

// surge makes new pods beside old ones, and removes old ones whose new pod is available.
type surge struct {
	surging, available int
	// outdated are removed; leaving are those of nodes that are to have none, which wait for enough others.
	outdated, leaving []*corev1.Pod
	// broken are nodes whose old pod is not available, candidates those whose is.
	broken, candidates []string
}

func (r *decision) surge(nodes map[string][]*corev1.Pod, maxSurge, desired int) {
	run := map[string]bool{}
	for _, node := range r.desired() {
		run[node.Name] = true
	}
	known := map[string]bool{}
	for _, node := range r.nodes {
		known[node.Name] = true
	}
	var s surge
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		newPod, oldPod, ok := r.tellApart(nodes[name])
		if !ok {
			s.surging++
			continue
		}
		if standing := oldPod; standing != nil || newPod != nil {
			if standing == nil {
				standing = newPod
			}
			if r.isAvailable(standing) {
				s.available++
			}
		}
		switch {
		case oldPod == nil:
		case newPod == nil && known[name]:
			s.consider(name, oldPod, r.isAvailable(oldPod), run[name])
		case newPod == nil:
		case !r.isAvailable(newPod):
			s.surging++
		default:
			s.outdated = append(s.outdated, oldPod)
		}
	}
	r.apply(s, maxSurge, desired)
}

// consider sorts a node whose only pod is old.
func (s *surge) consider(node string, old *corev1.Pod, available, run bool) {
	switch {
	case !available && !run:
		s.outdated = append(s.outdated, old)
	case !available:
		s.broken = append(s.broken, node)
	case !run:
		s.leaving = append(s.leaving, old)
	default:
		s.candidates = append(s.candidates, node)
	}
}

// apply asks for what may be done: a pod leaves a node for good only while more are available than are
// desired.
func (r *decision) apply(s surge, maxSurge, desired int) {
	for _, pod := range s.outdated {
		r.remove(pod, "a newer one replaces it")
	}
	for _, pod := range s.leaving[:min(max(s.available-desired, 0), len(s.leaving))] {
		r.remove(pod, "it should not run on the node")
	}
	for _, node := range s.broken {
		r.create(node, "the old pod is not available")
	}
	for _, node := range s.candidates[:min(max(maxSurge-s.surging, 0), len(s.candidates))] {
		r.create(node, "beside the old pod")
	}
}
