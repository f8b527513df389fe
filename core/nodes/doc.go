// Package nodes decides what the control plane makes of a node's silence: when it counts as lost, how
// that shows in its conditions, taints and pods, which pods must leave it, and which must be deleted
// because no kubelet will ever do so. It follows upstream's node lifecycle and taint eviction controllers
// and its pod garbage collector.
//
// Upstream's controller looks at every node every five seconds and remembers, in memory, when it last
// saw a sign of life. Here nothing looks unless something happened: [Check] is called when the node or
// its lease changes, and asks with a plan.Later of kind "expiry" to be called when the grace period
// will be over. A sign of life that comes in time moves that moment; no other state is kept. The times
// compared are therefore those that the kubelet wrote, and not those at which they were seen: the clock
// of a node may be off by less than the grace period.
//
// [Evict] likewise keeps no timers. A taint's effect on a pod begins when the taint was added, or when
// the pod came to the node if that was later, so a NoExecute taint that does not say when it was added
// is stamped by Check.
//
// [Collect] looks at the pods of a node that does not exist. Nothing stored says since when; so the first
// look asks, with a plan.Later of kind "quarantine" that later looks leave alone, to be called when the
// quarantine is over, and only that call deletes. Upstream's collector of pods that ended (gcTerminated),
// whose threshold is 12,500, is not here.
//
// A node's lease, and the node itself, lie in other logs than its pods. A heartbeat that arrives
// between a decision and its commit is therefore overlooked once, as it may be upstream, and put right
// by the next Check.
//
// # Silence
//
// A node is not lost because nobody was there to hear it. Upstream's controller takes the moment at which it
// first sees a node for a sign of life, so one that was started again gives every node its grace period. Here
// a plane may have slept, or its process been away, at any time. That shows in what was put off: a call that
// comes later than a lease is renewed was not made because nobody was there, and then the node is given its
// grace period once more (respite.go). So is a node for which nothing was put off. Hosts that call late always
// are told from sleep by giving as much more time each time as they are late.
//
// # Zones
//
// [Zones] follows upstream's limits: a node that is not ready is not tainted so that its pods leave before
// its zone allows it, and not at all where so much is lost that it is not the nodes (zones.go). Check leaves
// that taint to it; all others are put at once. Upstream has a bucket of one token for each zone in memory, and the states in
// which it last saw the zones. Here both follow from the nodes as they are stored:
//
//   - The last token was taken when the newest of those taints was added. When its node is well again, or gone, the
//     taint is too, and the next node of the zone may be tainted sooner than upstream would. When one is exchanged for
//     the other, as the node was silent and says now that it is not ready, that is a new taint by its time, and the next
//     node is tainted later than upstream would.
//   - What had kept a zone's nodes from being tainted was over when the newest ready node became so, if it had not been
//     but for that node. Upstream then begins with an empty bucket as well.
//   - Upstream looks at zones every five seconds, and so may overlook what is over by then. Here every change of a node's
//     readiness is looked at: of nodes that are lost one after the other, the first may be tainted before it shows that all are. Its taint
//     goes then, as it does upstream.
//   - A zone of which no node is counted (all are labelled node.kubernetes.io/exclude-disruption) is like any other.
//     Upstream makes it a new bucket every five seconds.
//
// The plan has all nodes in its read set, so that of two instances which decide at the same time one decides
// again, and no zone loses two nodes at once. The rates are upstream's defaults, and cannot be changed.
package nodes
