package access

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

func role(name string, labels map[string]string, resources ...string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	for _, resource := range resources {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}})
	}
	return r
}

func madeOf(r *rbacv1.ClusterRole, selectors ...metav1.LabelSelector) *rbacv1.ClusterRole {
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: selectors}
	return r
}

func labelled(key string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{key: "true"}}
}

func TestAggregate(t *testing.T) {
	toView, toEdit := map[string]string{"view": "true"}, map[string]string{"edit": "true"}
	parts := []*rbacv1.ClusterRole{role("b", toView, "pods", "nodes"), role("a", toView, "secrets", "pods"), role("c", toEdit, "events"), role("d", nil, "leases")}
	for name, test := range map[string]struct {
		role *rbacv1.ClusterRole
		want []string // resources of the rules applied, nil for no write
	}{
		"by name, each rule once": {madeOf(role("x", nil), labelled("view")), []string{"secrets", "pods", "nodes"}},
		"by selector first":       {madeOf(role("x", nil), labelled("edit"), labelled("view")), []string{"events", "secrets", "pods", "nodes"}},
		"rules of its own go":     {madeOf(role("x", nil, "services"), labelled("edit")), []string{"events"}},
		"not of itself":           {madeOf(role("x", toEdit, "services"), labelled("edit")), []string{"events"}},
		"settled":                 {madeOf(role("x", nil, "events"), labelled("edit")), nil},
		"nothing selected":        {madeOf(role("x", nil), labelled("other")), nil},
		"no rule":                 {role("x", nil, "services"), nil},
		"an invalid selector": {madeOf(role("x", nil), metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}),
			nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := Aggregate(test.role, append(parts, test.role))
			if test.want == nil {
				if !p.Empty() {
					t.Fatalf("writes %v", p.Writes)
				}
				return
			}
			if len(p.Writes) != 1 || p.Writes[0].Verb != plan.Apply || p.Writes[0].Name != "x" {
				t.Fatalf("writes %v", p.Writes)
			}
			var got rbacv1.ClusterRole
			if err := json.Unmarshal(p.Writes[0].PatchBody, &got); err != nil {
				t.Fatal(err)
			}
			var resources []string
			for _, rule := range got.Rules {
				resources = append(resources, rule.Resources...)
			}
			if diff := cmp.Diff(test.want, resources); diff != "" || got.Name != "x" || got.Kind != "ClusterRole" || got.APIVersion != "rbac.authorization.k8s.io/v1" {
				t.Errorf("%v (-want +got):\n%s", got, diff)
			}
		})
	}
}
