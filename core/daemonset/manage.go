package daemonset

import (
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/podstate"
)

// manage makes pods where there are to be some, and removes those that should not be there:
// daemon_controller.go manage.
func (r *decision) manage() {
	known := map[string]bool{}
	for _, node := range r.nodes {
		known[node.Name] = true
		r.manageNode(node)
	}
	// Pods that wait for a node that is gone would wait for ever: getUnscheduledPodsWithoutNode.
	for _, name := range slices.Sorted(maps.Keys(r.onNode)) {
		if known[name] {
			continue
		}
		for _, pod := range r.onNode[name] {
			if pod.Spec.NodeName == "" {
				r.remove(pod, "its node is gone")
			}
		}
	}
}

// manageNode is daemon_controller.go podsShouldBeOnNode.
func (r *decision) manageNode(node *corev1.Node) {
	run, stay := r.placement.on(node)
	pods, exist := r.onNode[node.Name]
	switch {
	case run && !exist:
		r.create(node.Name, "the node has no pod")
	case stay:
		running := r.clean(node, pods)
		if !r.surges() {
			r.removeYounger(running)
		} else if len(running) == 0 && run {
			r.create(node.Name, "the node has no pod")
		} else if len(running) > 1 {
			r.prune(running)
		}
	default:
		for _, pod := range pods {
			if pod.DeletionTimestamp == nil {
				r.remove(pod, "it should not run on the node")
			}
		}
	}
}

// clean removes the pods of a node that have ended, and returns those that have not. They are made again
// when they are gone.
func (r *decision) clean(node *corev1.Node, pods []*corev1.Pod) []*corev1.Pod {
	var running []*corev1.Pod
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodFailed:
			if !r.backsOff(node.Name) {
				r.plan.Notices = append(r.plan.Notices, *r.notices.Warning("FailedDaemonPod",
					fmt.Sprintf("Found failed daemon pod %s/%s on node %s, will try to kill it", pod.Namespace, pod.Name, node.Name)))
				r.remove(pod, "it failed")
			}
		case pod.Status.Phase == corev1.PodSucceeded:
			r.plan.Notices = append(r.plan.Notices, *r.notices.Normal("SucceededDaemonPod",
				fmt.Sprintf("Found succeeded daemon pod %s/%s on node %s, will try to delete it", pod.Namespace, pod.Name, node.Name)))
			r.remove(pod, "it succeeded")
		default:
			running = append(running, pod)
		}
	}
	return running
}

// removeYounger leaves the oldest pod of a node.
func (r *decision) removeYounger(running []*corev1.Pod) {
	for i, pod := range running {
		if i > 0 {
			r.remove(pod, "the node has another pod")
		}
	}
}

// prune leaves, of a node that an update surges on, the oldest new and the oldest old pod, for as long
// as the old one is ready and the new one is not available.
func (r *decision) prune(running []*corev1.Pod) {
	var newest, old *corev1.Pod
	for _, pod := range running {
		slot := &old
		if pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == r.hash() {
			slot = &newest
		}
		if *slot == nil {
			*slot = pod
			continue
		}
		r.remove(pod, "the node has another pod")
	}
	if newest != nil && old != nil && (!podstate.IsReady(old) || r.isAvailable(newest)) {
		r.remove(old, "a newer one replaces it")
	}
}
