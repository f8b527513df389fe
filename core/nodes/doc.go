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
// Zones and their rates of eviction are not looked at, so every lost node is tainted at once.
package nodes
