package kubestorage

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The log groups of a cluster (docs/row-schema.md). Kinds that change often have a log of their
// own; what admission and authorisation read at every request shares one, so that one look at its
// tail refreshes all of it.
const (
	PodsGroup      = "pods"
	NodesGroup     = "nodes"
	LeasesGroup    = "leases"
	EventsGroup    = "events"
	EndpointsGroup = "endpoints"
	WorkloadsGroup = "workloads"
	ConfigGroup    = "config"
	ObjectsGroup   = "objects"
)

// Groups lists the log groups in a fixed order.
var Groups = []string{PodsGroup, NodesGroup, LeasesGroup, EventsGroup, EndpointsGroup, WorkloadsGroup, ConfigGroup, ObjectsGroup}

var groupOfResource = map[schema.GroupResource]string{
	{Resource: "pods"}:   PodsGroup,
	{Resource: "nodes"}:  NodesGroup,
	{Resource: "events"}: EventsGroup,
	// Which devices a pod has is decided with its node, and written in one transaction.
	{Group: "resource.k8s.io", Resource: "resourceclaims"}: PodsGroup,

	// What is attached to a node is said in its status, and taken from there in the transaction in which it is to be detached.
	{Group: "storage.k8s.io", Resource: "volumeattachments"}: NodesGroup,

	{Resource: "endpoints"}:                                                EndpointsGroup,
	{Group: "discovery.k8s.io", Resource: "endpointslices"}:                EndpointsGroup,
	{Group: "coordination.k8s.io", Resource: "leases"}:                     LeasesGroup,
	{Resource: "replicationcontrollers"}:                                   WorkloadsGroup,
	{Group: "policy", Resource: "poddisruptionbudgets"}:                    WorkloadsGroup,
	{Resource: "namespaces"}:                                               ConfigGroup,
	{Resource: "serviceaccounts"}:                                          ConfigGroup,
	{Resource: "resourcequotas"}:                                           ConfigGroup,
	{Resource: "limitranges"}:                                              ConfigGroup,
	{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}: ConfigGroup,
}

var groupOfAPIGroup = map[string]string{
	"apps":                         WorkloadsGroup,
	"batch":                        WorkloadsGroup,
	"autoscaling":                  WorkloadsGroup,
	"rbac.authorization.k8s.io":    ConfigGroup,
	"admissionregistration.k8s.io": ConfigGroup,
	"scheduling.k8s.io":            ConfigGroup,
	"storage.k8s.io":               ConfigGroup,
	"node.k8s.io":                  ConfigGroup,
	"networking.k8s.io":            ConfigGroup,
	"flowcontrol.apiserver.k8s.io": ConfigGroup,
	"apiregistration.k8s.io":       ConfigGroup,
}

// GroupOf returns the log group of a resource.
func GroupOf(gr schema.GroupResource) string {
	if g, ok := groupOfResource[gr]; ok {
		return g
	}
	if g, ok := groupOfAPIGroup[gr.Group]; ok {
		return g
	}
	return ObjectsGroup
}

// coreGroup stands in keys for the API group whose name is empty.
const coreGroup = "core"

// Prefix is the first part of the keys of a resource, without a slash at the end.
func Prefix(gr schema.GroupResource) string {
	if gr.Group == "" {
		return coreGroup + "/" + gr.Resource
	}
	return gr.Group + "/" + gr.Resource
}

// ParseKey takes a key apart. Namespace is empty for kinds that have none.
func ParseKey(key string) (gr schema.GroupResource, namespace, name string) {
	group, rest, _ := strings.Cut(key, "/")
	resource, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return gr, "", ""
	}
	if group == coreGroup {
		group = ""
	}
	gr = schema.GroupResource{Group: group, Resource: resource}
	if namespace, name, ok = strings.Cut(rest, "/"); ok {
		return gr, namespace, name
	}
	return gr, "", rest
}

// KeyOf returns the key of an object. Namespace is empty for kinds that have none.
func KeyOf(gr schema.GroupResource, namespace, name string) string {
	if namespace == "" {
		return Prefix(gr) + "/" + name
	}
	return Prefix(gr) + "/" + namespace + "/" + name
}
