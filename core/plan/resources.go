package plan

import "k8s.io/apimachinery/pkg/runtime/schema"

// The resources that decisions write and read.
var (
	Pods            = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	Nodes           = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	Namespaces      = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	ConfigMaps      = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	ServiceAccounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	Claims          = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
	Volumes         = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumes"}
	ResourceQuotas  = schema.GroupVersionResource{Version: "v1", Resource: "resourcequotas"}
	Leases          = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	Deployments     = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	StatefulSets    = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
	DaemonSets      = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	ReplicaSets     = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}

	Autoscalers       = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	DisruptionBudgets = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
	AttributesClasses = schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "volumeattributesclasses"}
)
