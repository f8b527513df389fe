// Package nodeipam gives nodes the ranges from which their pods get addresses: of each of the cluster's ranges, one
// that no other node has.
//
//	ranges.go   a cluster's range, and the nodes' ranges that it is divided into
//	allocate.go which node gets which
//
// Upstream: pkg/controller/nodeipam of k8s.io/kubernetes, with the allocator type RangeAllocator, the only one left.
//
// Nothing is given where no range is configured (serve --cluster-cidr), as by kube-controller-manager and kubeadm: which addresses
// are free, who runs the network knows. k3s gives 10.42.0.0/16 by itself, since it brings the network too.
//
// # Races
//
// Upstream has one allocator, and what is taken in its memory. Here what is taken is what the nodes of the snapshot have, and any
// number of instances may decide at the same time. Each plan has in its read set which nodes have ranges (plan.Read.Ranged): if
// any node got one since the snapshot, the commit fails and the decision is made again. All nodes lie in one log, and a plan that
// takes several transactions is checked at each. So no range is given twice. A node that goes gives its range back by that alone.
//
// # Differences
//
// Upstream takes the range after the one that it gave last. Here that is the one after the range of the node that was made last,
// which is the same unless that node has gone: its range may be given again at once, as upstream does after it was started
// again.
//
// A range that a node brings and that is not one of the cluster's, or that cannot be read, is left alone. Upstream
// refuses to start with such a node, and then says so in its log again and again. Upstream counts a node's first range as one of
// the cluster's first; here it is taken wherever it lies.
//
// A node for which no range is left says so once each time that it changes, and gets one when another node goes. Upstream
// tries again by itself, and says so each time; and of two ranges of a cluster, it loses one of the first when there is none of
// the second.
package nodeipam
