package apiserver_test

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// The plugin for mutating policies is made by the first request, and knows no kinds until it has read the OpenAPI documents.
func TestTheFirstRequestOfAnInstanceIsMutated(t *testing.T) {
	c := clustertest.New(t)
	serve := func() (kubernetes.Interface, func()) {
		s, err := c.Server(c.Logs(tablelog.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		client, err := kubernetes.NewForConfig(s.ClientConfig(apiserver.System, "test"))
		if err != nil {
			t.Fatal(err)
		}
		return client, s.Close
	}
	client, stop := serve()
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "label"},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
				},
			}}},
			ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			Mutations: []admissionv1.Mutation{{
				PatchType: admissionv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionv1.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{labels: Object.metadata.labels{mutated: "yes"}}}`,
				},
			}},
		},
	}
	if _, err := client.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "label"}, Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "label"},
	}
	if _, err := client.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stop()
	client, stop = serve()
	defer stop()
	got, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Labels["mutated"] != "yes" {
		t.Errorf("the labels are %v", got.Labels)
	}
}
