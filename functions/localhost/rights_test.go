package localhost

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// request is what a function asks of the API: a verb, an API group, a resource and a subresource.
type request struct{ verb, group, resource, subresource string }

// writes are what the functions write, by the component in whose name they do. A write in another's
// name is refused at run time only, so whoever adds one adds it here.
var writes = map[string][]request{
	"deployment-controller": {
		{"create", "apps", "replicasets", ""}, {"update", "apps", "replicasets", ""}, {"patch", "apps", "replicasets", ""},
		{"delete", "apps", "replicasets", ""}, {"update", "apps", "deployments", ""}, {"update", "apps", "deployments", "status"},
	},
	"replicaset-controller": {
		{"create", "", "pods", ""}, {"delete", "", "pods", ""}, {"patch", "", "pods", ""}, {"update", "apps", "replicasets", "status"},
	},
	"statefulset-controller": {
		{"create", "", "pods", ""}, {"update", "", "pods", ""}, {"patch", "", "pods", ""}, {"delete", "", "pods", ""},
		{"create", "", "persistentvolumeclaims", ""}, {"update", "", "persistentvolumeclaims", ""},
		{"create", "apps", "controllerrevisions", ""}, {"update", "apps", "controllerrevisions", ""}, {"patch", "apps", "controllerrevisions", ""},
		{"delete", "apps", "controllerrevisions", ""}, {"update", "apps", "statefulsets", "status"},
	},
	"daemon-set-controller": {
		{"create", "", "pods", ""}, {"patch", "", "pods", ""}, {"delete", "", "pods", ""},
		{"create", "apps", "controllerrevisions", ""}, {"update", "apps", "controllerrevisions", ""}, {"patch", "apps", "controllerrevisions", ""},
		{"delete", "apps", "controllerrevisions", ""}, {"update", "apps", "daemonsets", "status"},
	},
	"system:kube-scheduler": {
		{"create", "", "pods", "binding"}, {"update", "", "pods", "status"}, {"delete", "", "pods", ""},
		{"create", "resource.k8s.io", "resourceclaims", ""}, {"update", "resource.k8s.io", "resourceclaims", ""},
		{"delete", "resource.k8s.io", "resourceclaims", ""}, {"update", "resource.k8s.io", "resourceclaims", "status"},
		{"update", "resource.k8s.io", "resourceclaims", "binding"}, // whoever gives devices, or reserves them, needs it besides
	},
	"resource-claim-controller": {
		{"create", "resource.k8s.io", "resourceclaims", ""}, {"update", "resource.k8s.io", "resourceclaims", ""},
		{"delete", "resource.k8s.io", "resourceclaims", ""}, {"update", "resource.k8s.io", "resourceclaims", "status"},
		{"update", "resource.k8s.io", "resourceclaims", "binding"}, {"update", "", "pods", "status"},
	},
	"node-controller": {
		{"update", "", "nodes", "status"}, {"patch", "", "nodes", ""}, {"update", "", "pods", "status"}, {"delete", "", "pods", ""},
	},
	"ttl-controller": {{"patch", "", "nodes", ""}},
	"attachdetach-controller": {
		{"patch", "", "nodes", "status"}, {"create", "storage.k8s.io", "volumeattachments", ""}, {"delete", "storage.k8s.io", "volumeattachments", ""},
	},
	"pod-garbage-collector": {{"patch", "", "pods", "status"}, {"delete", "", "pods", ""}},
	"endpoint-controller": {
		{"create", "", "endpoints", ""}, {"update", "", "endpoints", ""}, {"delete", "", "endpoints", ""},
	},
	"endpointslice-controller": {
		{"create", "discovery.k8s.io", "endpointslices", ""}, {"update", "discovery.k8s.io", "endpointslices", ""},
		{"delete", "discovery.k8s.io", "endpointslices", ""},
	},
	"endpointslicemirroring-controller": {
		{"create", "discovery.k8s.io", "endpointslices", ""}, {"update", "discovery.k8s.io", "endpointslices", ""},
		{"delete", "discovery.k8s.io", "endpointslices", ""},
	},
	"disruption-controller":     {{"update", "policy", "poddisruptionbudgets", "status"}, {"update", "", "pods", "status"}},
	"resourcequota-controller":  {{"update", "", "resourcequotas", "status"}},
	"generic-garbage-collector": {{"delete", "apps", "replicasets", ""}, {"patch", "apps", "replicasets", ""}},
	"namespace-controller": {
		{"update", "", "namespaces", "finalize"}, {"update", "", "namespaces", "status"}, {"delete", "example.com", "widgets", ""},
	},
	"service-cidrs-controller": {
		{"patch", "networking.k8s.io", "servicecidrs", ""}, {"patch", "networking.k8s.io", "servicecidrs", "status"},
	},
	"service-account-controller": {{"create", "", "serviceaccounts", ""}},
	"root-ca-cert-publisher":     {{"create", "", "configmaps", ""}, {"update", "", "configmaps", ""}},
	"certificate-controller": {
		{"create", "authorization.k8s.io", "subjectaccessreviews", ""}, {"update", "certificates.k8s.io", "certificatesigningrequests", "approval"},
		{"update", "certificates.k8s.io", "certificatesigningrequests", "status"}, {"delete", "certificates.k8s.io", "certificatesigningrequests", ""},
	},
	"podcertificaterequestcleaner": {{"delete", "certificates.k8s.io", "podcertificaterequests", ""}},
	"kube-apiserver-serving-clustertrustbundle-publisher": {
		{"create", "certificates.k8s.io", "clustertrustbundles", ""}, {"update", "certificates.k8s.io", "clustertrustbundles", ""},
		{"delete", "certificates.k8s.io", "clustertrustbundles", ""},
	},
	user.KubeControllerManager: {
		{"update", "", "secrets", ""}, {"delete", "", "secrets", ""}, {"update", "", "serviceaccounts", ""},
	},
	"legacy-service-account-token-cleaner":        {{"patch", "", "secrets", ""}, {"delete", "", "secrets", ""}},
	"pvc-protection-controller":                   {{"update", "", "persistentvolumeclaims", ""}, {"update", "", "persistentvolumeclaims", "status"}},
	"pv-protection-controller":                    {{"update", "", "persistentvolumes", ""}},
	"ephemeral-volume-controller":                 {{"create", "", "persistentvolumeclaims", ""}},
	"volumeattributesclass-protection-controller": {{"update", "storage.k8s.io", "volumeattributesclasses", ""}},
	"persistent-volume-binder": {
		{"update", "", "persistentvolumes", ""}, {"update", "", "persistentvolumes", "status"}, {"delete", "", "persistentvolumes", ""},
		{"update", "", "persistentvolumeclaims", ""}, {"update", "", "persistentvolumeclaims", "status"},
	},
}

// object is one that is written.
type object struct{ namespace, name string }

// writesOf are what functions write by rights that they have in one namespace, or on one object.
var writesOf = map[string]map[object][]request{
	"bootstrap-signer": {{"kube-public", "cluster-info"}: {{"update", "", "configmaps", ""}}},
	"token-cleaner":    {{"kube-system", "bootstrap-token-abcdef"}: {{"delete", "", "secrets", ""}}},
}

// TestBootstrapPolicyAllowsWhatFunctionsWrite checks every write of the functions against the policy
// that a cluster is born with.
func TestBootstrapPolicyAllowsWhatFunctionsWrite(t *testing.T) {
	roles, bindings := bootstrappolicy.ControllerRoles(), bootstrappolicy.ControllerRoleBindings()
	roles = append(roles, bootstrappolicy.ClusterRoles()...)
	bindings = append(bindings, bootstrappolicy.ClusterRoleBindings()...)
	rolesOf, bindingsOf := inNamespaces(bootstrappolicy.NamespaceRoles(), bootstrappolicy.NamespaceRoleBindings())
	_, all := validation.NewTestRuleResolver(rolesOf, bindingsOf, pointers(roles), pointers(bindings))
	policy := rbac.New(all, all, all, all)
	check := func(component string, of object, requests []request) {
		for _, r := range requests {
			decision, reason, err := policy.Authorize(context.Background(), authorizer.AttributesRecord{
				User: identity(component), Verb: r.verb, Namespace: of.namespace, Name: of.name,
				APIGroup: r.group, Resource: r.resource, Subresource: r.subresource, ResourceRequest: true,
			})
			if err != nil || decision != authorizer.DecisionAllow {
				t.Errorf("%s may not do %v: %s, %v", component, r, reason, err)
			}
		}
	}
	for component, requests := range writes {
		check(component, object{"ns", "name"}, requests)
	}
	for component, objects := range writesOf {
		for of, requests := range objects {
			check(component, of, requests)
		}
	}
}

// inNamespaces returns the roles and bindings of namespaces in one list each.
func inNamespaces(roles map[string][]rbacv1.Role, bindings map[string][]rbacv1.RoleBinding) (allRoles []*rbacv1.Role, allBindings []*rbacv1.RoleBinding) {
	for namespace, list := range roles {
		for i := range list {
			list[i].Namespace = namespace
		}
		allRoles = append(allRoles, pointers(list)...)
	}
	for namespace, list := range bindings {
		for i := range list {
			list[i].Namespace = namespace
		}
		allBindings = append(allBindings, pointers(list)...)
	}
	return allRoles, allBindings
}

func pointers[T any](values []T) []*T {
	out := make([]*T, len(values))
	for i := range values {
		out[i] = &values[i]
	}
	return out
}
