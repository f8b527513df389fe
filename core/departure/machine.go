package departure

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Machine is how an event names a machine. One of the fields is set.
type Machine struct {
	// AzureID is the resource id of a virtual machine, of one of a scale set, or of a whole scale set.
	AzureID string
	// AzureName is the name that the metadata service has for a machine: the machine's own, or SCALESET_INSTANCE.
	AzureName string
	// EC2 is the id of an instance.
	EC2 string
}

// Of reports whether a node is on the machine: its provider id says so, as the cloud's controller or kubelet set it; or,
// where it has none, its name or its host's.
func (m Machine) Of(node *corev1.Node) bool {
	scheme, id, provided := strings.Cut(node.Spec.ProviderID, "://")
	switch {
	case m.EC2 != "":
		return provided && scheme == "aws" && id[strings.LastIndexByte(id, '/')+1:] == m.EC2
	case m.AzureID != "":
		id, want := strings.ToLower(id), strings.ToLower(strings.TrimSuffix(m.AzureID, "/"))
		return provided && scheme == "azure" && (id == want || strings.HasPrefix(id, want+"/virtualmachines/"))
	case m.AzureName == "":
		return false
	case provided:
		return scheme == "azure" && strings.EqualFold(azureName(id), m.AzureName)
	}
	return strings.EqualFold(node.Name, m.AzureName) || strings.EqualFold(node.Labels[corev1.LabelHostname], m.AzureName)
}

// azureName is the metadata service's name of the machine of a resource id.
func azureName(id string) string {
	parts := strings.Split(id, "/")
	n := len(parts)
	if n >= 4 && strings.EqualFold(parts[n-4], "virtualMachineScaleSets") && strings.EqualFold(parts[n-2], "virtualMachines") {
		return parts[n-3] + "_" + parts[n-1]
	}
	return parts[n-1]
}
