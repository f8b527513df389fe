package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/tests/local"
)

// refuseBindings has the API refuse bindings of pods whose names begin so.
func refuseBindings(t *testing.T, s *local.Server, prefix string) {
	t.Helper()
	policies := s.Client.AdmissionregistrationV1()
	_, err := policies.ValidatingAdmissionPolicies().Create(t.Context(), &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "held"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: new(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/binding"}},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: fmt.Sprintf("!request.name.startsWith(%q)", prefix), Message: "held back"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.ValidatingAdmissionPolicyBindings().Create(t.Context(), &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "held"},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "held", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, waitTimeout, "the policy to act", func() error {
		probe := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: prefix + "-probe"}, Target: corev1.ObjectReference{Kind: "Node", Name: "node-0"}}
		err := s.Client.CoreV1().Pods(namespace).Bind(t.Context(), probe, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "held back") { // of a pod that there is not
			return fmt.Errorf("a binding fails with %w", err)
		}
		return nil
	})
}

// TestARefusedBindingIsTriedAgainLater and nobody else waits for it. Nothing that placement listens to happens before it is
// bound: it comes again by what was put off.
func TestARefusedBindingIsTriedAgainLater(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	refuseBindings(t, s, "held")
	run(t, s.Client, "held", func(*corev1.Pod) {}) // the older one comes first
	local.Eventually(t, waitTimeout, "the binding to be refused", func() error {
		events, err := s.Client.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range events.Items {
			if e := &events.Items[i]; e.Regarding.Name == "held" && e.Reason == "FailedScheduling" && strings.Contains(e.Note, "held back") {
				return nil
			}
		}
		return errors.New("no event says so")
	})
	run(t, s.Client, "other", func(*corev1.Pod) {})
	becomes(t, s.Client, "other", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	held := becomes(t, s.Client, "held", func(*corev1.Pod) bool { return true })
	if held.Spec.NodeName != "" {
		t.Fatalf("it is on %s", held.Spec.NodeName)
	}
	if err := s.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(t.Context(), "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes(t, s.Client, "held", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
}
