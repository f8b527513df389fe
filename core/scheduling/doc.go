// Package scheduling decides which node each pending pod runs on. It is kube-scheduler's default
// profile as a function of values: a cluster in, placements and reasons out.
//
// # State
//
// A [Cluster] holds what placement needs to know of nodes and pods, aggregated: what each node
// offers, what the pods on it take, its host ports, and the pods that wait; and the claims, volumes and what
// else is known of storage (storage.go). The caller feeds it
// changes (SetNode, DeleteNode, SetPod, DeletePod, SetClaim and so on) and may keep it between runs; building it from
// nothing gives the same answers, whatever the order of the changes. It is a plain value: not safe
// for concurrent use, no locks, nothing running inside.
//
// # A run
//
// [Cluster.Place] takes the pending pods in queue order (queue.go) and gives each the feasible node
// with the highest score. A pod that was placed counts against its node for the rest of the run, and
// is taken off again at the end: whether the placements were committed is for the next SetPod to say.
//
// Pods that no rule can tell apart share a class (class.go); with what they ask of other pods and hear from them, they
// are a group (place.go). Each group has a board per run
// (board.go): the verdict of the rules that look at the node object alone, computed once per node,
// and the score by resources, computed again only for nodes that got a pod since the class was last
// served. Placing a pod therefore costs one pass over an array of integers, and not one evaluation
// of every rule for every node.
//
// # Rules
//
// Each rule is a small pure function in a file of its own, which names the upstream plugin that it
// follows. They run in the order of upstream's default profile
// (pkg/scheduler/apis/config/v1/default_plugins.go), since the first plugin to refuse a node gives
// the reason that people read:
//
//	gates.go          SchedulingGates
//	queue.go          PrioritySort
//	unschedulable.go  NodeUnschedulable
//	taints.go         TaintToleration, score weight 3
//	affinity.go       NodeAffinity, score weight 2
//	ports.go          NodePorts
//	fit.go            NodeResourcesFit
//	restrictions.go   VolumeRestrictions
//	limits.go         NodeVolumeLimits
//	binding.go        VolumeBinding, with matching.go for volumes that are there and provisioning.go for those to be made
//	storagescore.go   VolumeBinding's score, weight 1
//	zones.go          VolumeZone
//	least.go          NodeResourcesFit's LeastAllocated, score weight 1
//	balanced.go       NodeResourcesBalancedAllocation, score weight 1
//	spread.go         PodTopologySpread, score weight 2
//	defaults.go       its constraints for pods that have none
//	interpod.go       InterPodAffinity, score weight 2
//	images.go         ImageLocality, score weight 1
//	allocating.go     DynamicResources, with its score, weight 2
//	features.go       NodeDeclaredFeatures
//	preemption.go     DefaultPreemption, with victims.go, budgets.go and nominations.go
//	profile.go        KubeSchedulerConfiguration: which of them act, and how
//
// Pods on other nodes matter to two of them. What those rules count is kept by node for as long as a run asks for it: pods
// with equal labels are kin (kin.go), so a selector is asked once for all of them, and the terms that pods carry are
// counted where the pods are (terms.go). A board adds the counts up by domain (topology.go) and follows each placement.
// A pod that fails may be let in by one that is placed after it, so such pods are tried again at the end of the run.
//
// Pods that mount nothing but what comes with them have nil [mounts], and the rules about volumes are not asked. Others are
// grouped by what they mount (mounts.go); volumes.go asks the four rules in their order. A claim that waits for its pod is
// bound in two runs: the first writes which volume it gets, or for which node one is to be made (assume.go, write.go),
// and tells the pod its node (status.nominatedNodeName); when the controllers of volumes have bound the claim, another binds
// the pod. In between each run serves the pod before all others, which keeps its room.
//
// Pods that ask for no devices have nil [needs] (needs.go), and that rule is not asked. For others devices.go knows what there is and who
// has it, allocator.go asks upstream's allocator, extended.go makes requests of extended resources, reserve.go takes devices for granted and
// write_devices.go writes that, deallocate.go gives them back. ResourceClaims are in the log of pods.
//
// NodeName needs no code: a pod with spec.nodeName is assigned, and never waits.
//
// # Who is tried again
//
// A pod that failed sleeps until a change may let it in (wake.go): each plugin that refused it somewhere is asked about each
// change by its hint (wake_nodes.go, wake_room.go, wake_pods.go, wake_volumes.go), and wake_run.go asks them about what a run does
// itself, and wakes everybody if that does not come true. [Cluster.PlaceWoken] tries those that are awake and places the
// same as [Cluster.Place], which tries all. There is no periodic retry: upstream has one since some of its hints miss changes.
// All this is forgotten with the cluster: one that was built anew tries all once. A pod whose binding the API refused is
// left alone for a while (backoff.go).
//
// # What if
//
// [Cluster.WhatIf] makes a change, runs Place until nothing is left to do, and takes everything back (whatif.go, trial.go,
// growth.go). [Cluster.Hints] tells what would make a pod fit, by trying it (hints.go, hints_nodes.go).
//
// # Where it differs from upstream
//
// Every feasible node is scored; upstream stops at a sample (percentageOfNodesToScore) on clusters
// of more than 100 nodes. Ties are broken by a hash of the seed, the pod and the node, where
// upstream draws a random number. Reasons are those of the cluster as the run leaves it, so that a
// run over an unchanged cluster asks for nothing.
//
// Preemption weighs every node, and leaves pods that were placed in the same run to the next. Claims for devices are not
// looked at. Where upstream fails a pod with an error, since some in-tree volume cannot be translated to its CSI driver or an
// ephemeral volume on a node has the claim of another pod, that volume is not translated, or not counted.
package scheduling
