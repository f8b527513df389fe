// Package departure decides what happens to a node whose machine is about to go, be restarted or be moved, as its cloud
// announces: no new pods come to it, and its pods leave it before.
//
// [Announce] notes on the node what was announced, in Annotation, taints it and makes it unschedulable. What was noted
// once is not noted again, however often and in whatever order announcements come; one that is long over is ignored.
// [Withdraw] undoes that when the announcement is withdrawn, unless somebody else had made the node unschedulable.
// [Drain] evicts pods as kubectl drain does: those of DaemonSets and static pods stay, and disruption budgets are
// respected until the machine is about to go, when the rest is deleted with what grace there is time for. An eviction
// that a budget refuses is tried again when the budget changes; nothing polls.
//
// [Availability] is what a cloud says of a machine's health: a taint while it is unavailable.
package departure
