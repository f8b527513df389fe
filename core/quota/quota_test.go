package quota

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// list is a resource list of pods and cpu, "" for none of it.
func list(pods, cpu string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range map[corev1.ResourceName]string{corev1.ResourcePods: pods, corev1.ResourceRequestsCPU: cpu} {
		if q != "" {
			out[name] = resource.MustParse(q)
		}
	}
	return out
}

func quotaOf(hard corev1.ResourceList, status corev1.ResourceQuotaStatus) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q", UID: "uid-q", ResourceVersion: "7"},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard}, Status: status,
	}
}

// TestStatus checks the status that a quota is given, nil for none.
func TestStatus(t *testing.T) {
	type status = corev1.ResourceQuotaStatus
	hard := list("5", "2")
	for claim, tc := range map[string]struct {
		hard   corev1.ResourceList
		status status
		used   corev1.ResourceList
		added  bool
		want   *status
	}{
		"a new quota gets its limits and what is used of them": {hard: hard, used: list("1", "500m"), want: &status{Hard: hard, Used: list("1", "500m")}},
		"a new quota without limits gets an empty status":      {want: &status{Hard: list("", ""), Used: list("", "")}},
		"a status that is right is left alone":                 {hard: hard, status: status{Hard: hard, Used: list("1", "0.5")}, used: list("1", "500m")},
		"what is no longer limited is no longer shown": {
			hard: list("5", ""), status: status{Hard: hard, Used: list("1", "500m")}, used: list("1", ""), want: &status{Hard: list("5", ""), Used: list("1", "")},
		},
		"what cannot be counted stays as it was charged": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", ""), want: &status{Hard: hard, Used: list("1", "1")},
		},
		"when an object went, what it used is given back": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"), want: &status{Hard: hard, Used: list("1", "500m")},
		},
		"when objects only came, no charge is taken back": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"), added: true,
		},
		"when an object came that was not charged, it is charged": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("3", "500m"), added: true, want: &status{Hard: hard, Used: list("3", "1")},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			q := quotaOf(tc.hard, tc.status)
			var want plan.Plan
			if tc.want != nil {
				want = plan.Plan{
					Writes: []plan.Write{{
						Verb: plan.UpdateStatus, Resource: plan.ResourceQuotas, Namespace: "ns", Name: "q", Object: quotaOf(tc.hard, *tc.want),
						UID: "uid-q", ResourceVersion: "7", Reason: "the quota's limits or what is used of them changed",
					}},
					Reads: []plan.Read{{Resource: plan.ResourceQuotas, Namespace: "ns", Name: "q"}},
				}
			}
			if diff := cmp.Diff(want, Status(Input{Quota: q, Used: tc.used, Added: tc.added})); diff != "" {
				t.Errorf("wrong plan (-want +got):\n%s", diff)
			}
		})
	}
}
