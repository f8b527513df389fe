// Package schedulerperf runs upstream's scheduler_perf workloads (k8s.io/kubernetes/test/integration/scheduler_perf) against a
// running API server, and measures what upstream measures: how many pods get a node in a second.
//
// The definitions are upstream's own files, read from the module cache: every performance-config.yaml with its templates.
// Upstream's runner cannot be used for another control plane, as it lives in one process with kube-apiserver and kube-scheduler
// and looks at their insides; this one knows no more than clients do.
//
//	definitions.go  test cases, workloads, their parameters
//	operation.go    the operations of a workload, with its parameters filled in
//	template.go     objects from templates
//	executor.go     one workload from its first operation to its last
//	nodes.go, pods.go, steady.go, volumes.go, objects.go, update.go, churn.go, claims.go, barrier.go
//	                what each operation does
//	watcher.go      what the pods do, from watch events
//	throughput.go   pods per second
//	lacks.go        what a server lacks for a workload, by asking it
//	probes.go       what its scheduler does not do, by trying it
//
// Where this differs from upstream:
//
//   - Nodes are upstream's, with one addition: the heartbeat of their Ready condition lies hours ahead, since nobody renews
//     their leases. Upstream runs no node lifecycle controller; zeroplane's is always there, and takes a node for lost whose
//     last heartbeat is 50 seconds old. No kubelet is simulated for them, as they are not annotated to be simulated: pods
//     stay Pending with a node, as upstream's do.
//   - What controllers do about new nodes (taints, annotations, Events) is over before the next operation: upstream runs none.
//   - Upstream turns the admission plugins ServiceAccount, TaintNodesByCondition and Priority off. Here they are on: a
//     namespace is used when it has its default account, nodes when they have lost the taint that they are born with, and a
//     pod that names a priority gets a PriorityClass of that value. The work that this makes the API do is measured with it.
//   - Feature gates and a scheduler's configuration cannot be set from outside. What a gate changes of the API shows when
//     the server is asked for an object that needs it; the others (SchedulerAsyncAPICalls, OpportunisticBatching, ...) choose
//     among ways in which kube-scheduler reaches the same result.
//   - Upstream turns all versions of APIs on. Objects of resource.k8s.io/v1beta2 are made as v1 here.
//   - Upstream looks once a second whether pods are scheduled; here the watch event ends the wait.
package schedulerperf
