// Package kubelet decides what the kubelet of a simulated node would do: register the node, run the
// pods bound to it, stop them, and say so in their status. No container runs; everything else looks
// to a client as if one did, so that controllers, kubectl and whole charts can be tried on nodes that
// cost nothing.
//
// A node is simulated when it carries the annotation [Simulated]. It is alive unless it also carries
// [StoppedAt]: then it posts nothing, and its pods stay as they were, until the annotation goes.
//
// A container's life is a function of its last status and the time, so that any instance can take up
// where another left off:
//
//	waiting --(image can be pulled)--> running --(run time over)--> terminated --(policy)--> running
//
// Init containers succeed at once, in order; sidecars run from then on. A container of a pod that
// restarts always runs until it is deleted; one of another pod exits after [RunSeconds] with
// [ExitCode]. An image of a registry under .invalid, and foo:non-existent, can never be pulled.
// A deleted pod takes [StopSeconds], at most its grace period, and is then gone.
//
// What must happen later is asked for with plan.Later of the kinds "pull", "complete", "restart",
// "deadline" and "stop", each time the pod is looked at, since asking again replaces what was asked.
// A pod that waits for nothing and is up to date gives an empty plan.
//
// Reasons and messages are those of pkg/kubelet of Kubernetes 1.37. Probes are not run: a container
// is started and ready as soon as it runs. Events of the happy path (Pulled, Created, Started) are not
// written, since each would cost as much as the pod's own status; failures are.
package kubelet
