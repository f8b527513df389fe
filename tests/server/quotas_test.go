package server_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/tests/local"
)

// Upstream's next look at all quotas, five minutes later at most, does the same.
func TestLimitsThatSomebodyWroteIntoAQuotasStatusAreTakenBack(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	quotas := s.Client.CoreV1().ResourceQuotas("default")
	limit := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("5")}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "five"}, Spec: corev1.ResourceQuotaSpec{Hard: limit}}
	if _, err := quotas.Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	right := func() error {
		q, err := quotas.Get(t.Context(), "five", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !apiequality.Semantic.DeepEqual(q.Status.Hard, limit) {
			return fmt.Errorf("its status has the limits %v", q.Status.Hard)
		}
		return nil
	}
	local.Eventually(t, waitTimeout, "the quota to be counted", right)
	patch := []byte(`{"status":{"hard":{"pods":"7"}}}`)
	q, err := quotas.Patch(t.Context(), "five", types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	if n := q.Status.Hard.Pods(); n.Value() != 7 {
		t.Fatalf("the status was not altered: %v", q.Status.Hard)
	}
	local.Eventually(t, waitTimeout, "the limits to be taken back", right)
}
