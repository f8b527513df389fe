// Package rules holds the history of a cluster's pods to what no binding may break, whoever made it and on whatever it
// was decided:
//
//	bindings.go  a pod is bound once, to a node that there is, and stays there
//	room.go      no node has more on it than it offers, and no host port twice
//	spread.go    a pod that becomes bound keeps its DoNotSchedule constraints
//	apart.go     nobody is bound next to whom it must not be near, by its own terms or by theirs, nor away from those it
//	             must be near
//
// Node objects do not change. The rules are written down from upstream's documentation of the fields, for one pod and node
// at a time, by counting all pods anew: slow, and unlike what they check.
package rules
