package lifecycle

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// DefaultServiceAccount is the account that every active namespace has.
const DefaultServiceAccount = "default"

// EnsureServiceAccounts creates the default account in an active namespace whose accounts are
// existing, if it is not among them (syncNamespace, serviceaccount/serviceaccounts_controller.go).
func EnsureServiceAccounts(ns *corev1.Namespace, existing []*corev1.ServiceAccount) plan.Plan {
	present := slices.ContainsFunc(existing, func(sa *corev1.ServiceAccount) bool {
		return sa.Name == DefaultServiceAccount
	})
	if ns.Status.Phase != corev1.NamespaceActive || present {
		return plan.Plan{}
	}
	account := plan.Ref{Resource: plan.ServiceAccounts, Namespace: ns.Name, Name: DefaultServiceAccount}
	p := plan.Plan{Writes: []plan.Write{{
		Verb:      plan.Create,
		Resource:  plan.ServiceAccounts,
		Namespace: ns.Name,
		Name:      DefaultServiceAccount,
		Object: &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: DefaultServiceAccount},
		},
		Reason: "every active namespace has a default service account",
	}}}
	return decided(p, readOf(namespaceRef(ns)), readOf(account))
}
