// Package rules says what must hold of a cluster at every revision of its logs, whatever goes wrong meanwhile (surge.go to
// addresses.go), and once it has settled (settled.go):
//
//	history.go    what the logs have told so far
//	surge.go      Deployments: maxSurge and maxUnavailable
//	replicas.go   ReplicaSets and ReplicationControllers: no more pods than asked for
//	ordinals.go   StatefulSets: one pod of each ordinal, in order
//	daemons.go    DaemonSets: one pod on each node
//	jobs.go       Jobs and CronJobs
//	quota.go      ResourceQuotas
//	budgets.go    PodDisruptionBudgets
//	addresses.go  IPs and ports
//	settled.go    what is left when all is done
//	endpoints.go  the endpoints of Services, then
package rules
