// Package lifecycle decides when objects that nobody asks for any more go away, and what every
// namespace is given.
//
// There are five rules, each after the controller of upstream that it follows
// (pkg/controller of k8s.io/kubernetes v1.37.2):
//
//   - garbage collection, over the graph that metadata.ownerReferences make (garbagecollector):
//     [Dependent] decides an object by the state of its owners, [Owner] an object whose deletion
//     waits for its dependents, [Gone] the dependents of an object that no longer exists, and
//     [Affects] which of these a change calls for;
//   - namespace deletion (namespace/deletion): [DeleteNamespace];
//   - the "default" account of every namespace (serviceaccount): [EnsureServiceAccounts];
//   - protection of storage in use (volume/pvcprotection, volume/pvprotection, volume/vacprotection):
//     [ProtectClaim], [ProtectVolume] and [ProtectAttributesClass];
//   - the cluster's CA in every namespace (certificates/rootcacertpublisher): [PublishRootCA].
//
// A decision that asks for nothing returns the zero plan, without reads, since nothing is committed.
package lifecycle

import "github.com/zeroplane/zeroplane/core/plan"

// decided returns p with the reads that it was decided on, each once, or the zero plan when p asks
// for nothing.
func decided(p plan.Plan, reads ...plan.Read) plan.Plan {
	if p.Empty() {
		return plan.Plan{}
	}
	all := append(reads, p.Reads...)
	seen := make(map[plan.Read]bool, len(all))
	p.Reads = nil
	for _, read := range all {
		if !seen[read] {
			seen[read] = true
			p.Reads = append(p.Reads, read)
		}
	}
	return p
}

// readOf is the read of one object.
func readOf(ref plan.Ref) plan.Read {
	return plan.Read{Resource: ref.Resource, Namespace: ref.Namespace, Name: ref.Name}
}
