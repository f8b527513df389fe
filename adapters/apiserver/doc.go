// Package apiserver assembles the Kubernetes API of one cluster from upstream's own parts: the
// registries of k8s.io/kubernetes, the handlers, filters and admission of k8s.io/apiserver, over the
// storage of package kubestorage.
//
// What differs from kube-apiserver is what would run between requests (docs/decisions.md, D1, D2):
//
//	informers.go    listers read the instance's cache; nothing lists, watches or resyncs
//	allocators.go   node ports are allocated in our store
//	services.go     a Service waits until addresses can be allocated
//	core_group.go   the core group, whose upstream assembly dials etcd
//	chain.go        the filters of a request
//	identity.go     requests from inside the process, and who makes them
//	extension_groups.go  the groups of upstream's extension server and aggregator, in the same server
//	definitions.go  what upstream's handler of custom resources knows of definitions
//	custom_resources.go, custom_discovery.go, custom_openapi.go  custom kinds, made of definitions when they are asked for
//	discovered.go   which kinds there are, for functions
//	openapi.go      OpenAPI documents are built when they are first asked for
//
// Building a Server starts nothing that polls, and writes nothing.
package apiserver
