// Package access decides what ClusterRoles allow that are made of others.
package access

import (
	"cmp"
	"encoding/json"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/plan"
)

// fieldManager owns the rules that are put together.
const fieldManager = "clusterrole-aggregation-controller"

// Aggregate decides what a ClusterRole with an aggregation rule allows, given all ClusterRoles (syncClusterRole,
// clusterroleaggregation/clusterroleaggregation_controller.go). One whose selector is invalid is left as it is.
func Aggregate(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) plan.Plan {
	rules, ok := AggregatedRules(role, all)
	if !ok || EqualRules(rules, role.Rules) {
		return plan.Plan{}
	}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Apply, Resource: plan.ClusterRoles, Name: role.Name, PatchBody: applied(role.Name, rules),
			FieldManager: fieldManager, Reason: "the roles that it is made of have changed",
		}},
		// Any role may begin to be one of them.
		Reads: []plan.Read{{Resource: plan.ClusterRoles}},
	}
}

// AggregatedRules are the rules of the ClusterRoles that the aggregation rule of one selects, in the order of its selectors
// and of their names, each rule once. It is not ok without a rule, or when a selector is invalid.
func AggregatedRules(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, bool) {
	if role.AggregationRule == nil {
		return nil, false
	}
	byName := slices.SortedFunc(slices.Values(all), func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, false
		}
		for _, part := range byName {
			if part.Name != role.Name && selector.Matches(labels.Set(part.Labels)) {
				rules = with(rules, part.Rules)
			}
		}
	}
	return rules, true
}

// with adds the rules that are not there yet.
func with(rules, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for _, rule := range more {
		if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equalRule(r, rule) }) {
			rules = append(rules, rule)
		}
	}
	return rules
}

// EqualRules reports whether two lists have the same rules in the same order.
func EqualRules(a, b []rbacv1.PolicyRule) bool { return slices.EqualFunc(a, b, equalRule) }

func equalRule(a, b rbacv1.PolicyRule) bool {
	return slices.Equal(a.Verbs, b.Verbs) && slices.Equal(a.APIGroups, b.APIGroups) && slices.Equal(a.Resources, b.Resources) &&
		slices.Equal(a.ResourceNames, b.ResourceNames) && slices.Equal(a.NonResourceURLs, b.NonResourceURLs)
}

// configuration is what is applied to a ClusterRole.
type configuration struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
}

func applied(name string, rules []rbacv1.PolicyRule) []byte {
	c := configuration{TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}, Rules: rules}
	c.Metadata.Name = name
	body, err := json.Marshal(c)
	if err != nil {
		// Strings and lists of them always encode.
		panic("access: encoding a role: " + err.Error())
	}
	return body
}
