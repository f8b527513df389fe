package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

func TestEnsureServiceAccounts(t *testing.T) {
	account := func(name string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	}
	for claim, tc := range map[string]struct {
		namespace *corev1.Namespace
		existing  []*corev1.ServiceAccount
		want      plan.Plan
	}{
		"an active namespace without the default account gets it": {
			namespace: namespace(),
			existing:  []*corev1.ServiceAccount{account("other")},
			want: plan.Plan{
				Writes: []plan.Write{{
					Verb: plan.Create, Resource: plan.ServiceAccounts, Namespace: "ns", Name: "default",
					Object: account("default"), Reason: "every active namespace has a default service account",
				}},
				Reads: []plan.Read{
					{Resource: plan.Namespaces, Name: "ns"},
					{Resource: plan.ServiceAccounts, Namespace: "ns", Name: "default"},
				},
			},
		},
		"an account that exists is left as it is": {
			namespace: namespace(),
			existing:  []*corev1.ServiceAccount{account("other"), account("default")},
		},
		"a namespace that is being deleted gets none": {
			namespace: namespace(terminating),
		},
	} {
		t.Run(claim, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, EnsureServiceAccounts(tc.namespace, tc.existing)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPublishRootCA(t *testing.T) {
	const description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
	configMap := func(alter func(*corev1.ConfigMap)) *corev1.ConfigMap {
		cm := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "kube-root-ca.crt", ResourceVersion: "7", Labels: map[string]string{"keep": "me"},
				Annotations: map[string]string{"kubernetes.io/description": description},
			},
			Data: map[string]string{"ca.crt": "PEM"},
		}
		alter(cm)
		return cm
	}
	asPublished := func(*corev1.ConfigMap) {}
	published := func(verb plan.Verb, cm *corev1.ConfigMap, reason string) plan.Plan {
		return plan.Plan{
			Writes: []plan.Write{{
				Verb: verb, Resource: plan.ConfigMaps, Namespace: "ns", Name: "kube-root-ca.crt", Object: cm, Reason: reason,
			}},
			Reads: []plan.Read{
				{Resource: plan.Namespaces, Name: "ns"},
				{Resource: plan.ConfigMaps, Namespace: "ns", Name: "kube-root-ca.crt"},
			},
		}
	}
	repaired := published(plan.Update, configMap(asPublished), "the root CA was altered")
	for claim, tc := range map[string]struct {
		namespace *corev1.Namespace
		existing  *corev1.ConfigMap
		want      plan.Plan
	}{
		"an active namespace without the CA gets it": {
			namespace: namespace(),
			want: published(plan.Create, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "ns", Name: "kube-root-ca.crt", Annotations: map[string]string{"kubernetes.io/description": description},
				},
				Data: map[string]string{"ca.crt": "PEM"},
			}, "every active namespace has the root CA"),
		},
		"the CA as published is left as it is": {
			namespace: namespace(),
			existing:  configMap(asPublished),
		},
		"another description is left as it is": {
			namespace: namespace(),
			existing:  configMap(func(cm *corev1.ConfigMap) { cm.Annotations["kubernetes.io/description"] = "ours" }),
		},
		"another CA is replaced, and what others wrote is kept": {
			namespace: namespace(),
			existing:  configMap(func(cm *corev1.ConfigMap) { cm.Data["ca.crt"] = "other" }),
			want:      repaired,
		},
		"further data is removed": {
			namespace: namespace(),
			existing:  configMap(func(cm *corev1.ConfigMap) { cm.Data["more"] = "data" }),
			want:      repaired,
		},
		"a missing description is written": {
			namespace: namespace(),
			existing:  configMap(func(cm *corev1.ConfigMap) { cm.Annotations = nil }),
			want:      repaired,
		},
		"a namespace that is being deleted gets none": {
			namespace: namespace(terminating),
		},
	} {
		t.Run(claim, func(t *testing.T) {
			before := tc.existing.DeepCopy()
			if diff := cmp.Diff(tc.want, PublishRootCA(tc.namespace, tc.existing, "PEM")); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.existing); diff != "" {
				t.Errorf("the snapshot was altered:\n%s", diff)
			}
		})
	}
}
