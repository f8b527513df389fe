package kubelet

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Addresses gives out the pod addresses of one node, the lowest free one first. Whoever decides for
// several pods of a node in one plan uses one Addresses for all of them.
type Addresses struct {
	block netip.Prefix
	taken map[netip.Addr]bool
	// next is below every free address.
	next netip.Addr
}

// NewAddresses reads from the pods bound to the node which addresses are taken. Pods that have
// finished hold none, though their status still shows it.
func NewAddresses(node *corev1.Node, pods []*corev1.Pod) *Addresses {
	a := &Addresses{taken: map[netip.Addr]bool{}}
	block, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil {
		// A node without a range runs pods of the host's network only.
		return a
	}
	a.block = block.Masked()
	// The network's own address and the gateway come first.
	a.next = a.block.Addr().Next()
	for _, pod := range pods {
		if pod.Spec.NodeName != node.Name || terminal(pod.Status.Phase) {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			if addr, err := netip.ParseAddr(ip.IP); err == nil {
				a.taken[addr] = true
			}
		}
	}
	return a
}

// Take returns the lowest free address and marks it taken; ok is false when none is left.
func (a *Addresses) Take() (addr string, ok bool) {
	if a == nil || !a.block.IsValid() {
		return "", false
	}
	for candidate := a.next.Next(); a.block.Contains(candidate); candidate = candidate.Next() {
		if a.taken[candidate] {
			continue
		}
		// The last address of the block is its broadcast address.
		if !a.block.Contains(candidate.Next()) {
			return "", false
		}
		a.next = candidate
		a.taken[candidate] = true
		return candidate.String(), true
	}
	return "", false
}
