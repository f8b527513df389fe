package localhost

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
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
	"system:kube-scheduler": {
		{"create", "", "pods", "binding"}, {"update", "", "pods", "status"}, {"delete", "", "pods", ""},
	},
	"node-controller": {
		{"update", "", "nodes", "status"}, {"patch", "", "nodes", ""}, {"update", "", "pods", "status"}, {"delete", "", "pods", ""},
	},
	"pod-garbage-collector":     {{"patch", "", "pods", "status"}, {"delete", "", "pods", ""}},
	"disruption-controller":     {{"update", "policy", "poddisruptionbudgets", "status"}, {"update", "", "pods", "status"}},
	"resourcequota-controller":  {{"update", "", "resourcequotas", "status"}},
	"generic-garbage-collector": {{"delete", "apps", "replicasets", ""}, {"patch", "apps", "replicasets", ""}},
	"namespace-controller": {
		{"update", "", "namespaces", "finalize"}, {"update", "", "namespaces", "status"}, {"delete", "example.com", "widgets", ""},
	},
	"service-account-controller":                  {{"create", "", "serviceaccounts", ""}},
	"root-ca-cert-publisher":                      {{"create", "", "configmaps", ""}, {"update", "", "configmaps", ""}},
	"pvc-protection-controller":                   {{"update", "", "persistentvolumeclaims", ""}, {"update", "", "persistentvolumeclaims", "status"}},
	"pv-protection-controller":                    {{"update", "", "persistentvolumes", ""}},
	"volumeattributesclass-protection-controller": {{"update", "storage.k8s.io", "volumeattributesclasses", ""}},
}

// TestBootstrapPolicyAllowsWhatFunctionsWrite checks every write of the functions against the policy
// that a cluster is born with.
func TestBootstrapPolicyAllowsWhatFunctionsWrite(t *testing.T) {
	roles, bindings := bootstrappolicy.ControllerRoles(), bootstrappolicy.ControllerRoleBindings()
	roles = append(roles, bootstrappolicy.ClusterRoles()...)
	bindings = append(bindings, bootstrappolicy.ClusterRoleBindings()...)
	_, all := validation.NewTestRuleResolver(nil, nil, pointers(roles), pointers(bindings))
	policy := rbac.New(all, all, all, all)
	for component, requests := range writes {
		for _, r := range requests {
			decision, reason, err := policy.Authorize(context.Background(), authorizer.AttributesRecord{
				User: identity(component), Verb: r.verb, Namespace: "ns", Name: "name",
				APIGroup: r.group, Resource: r.resource, Subresource: r.subresource, ResourceRequest: true,
			})
			if err != nil || decision != authorizer.DecisionAllow {
				t.Errorf("%s may not do %v: %s, %v", component, r, reason, err)
			}
		}
	}
}

func pointers[T rbacv1.ClusterRole | rbacv1.ClusterRoleBinding](values []T) []*T {
	out := make([]*T, len(values))
	for i := range values {
		out[i] = &values[i]
	}
	return out
}
