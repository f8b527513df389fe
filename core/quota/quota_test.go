package quota

import (
	"cmp"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
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
		freed  corev1.ResourceList
		// settled and unheard are of the input, mark is the quota's and marked the one that it is given.
		settled bool
		unheard corev1.ResourceName
		mark    string
		want    *status
		marked  string
	}{
		"a new quota gets its limits and what is used of them": {hard: hard, used: list("1", "500m"), want: &status{Hard: hard, Used: list("1", "500m")}, marked: `{"pods":12}`},
		"a new quota without limits gets an empty status":      {want: &status{Hard: list("", ""), Used: list("", "")}, marked: `{"pods":12}`},
		"a status that is right is left alone":                 {hard: hard, status: status{Hard: hard, Used: list("1", "0.5")}, used: list("1", "500m")},
		"what is no longer limited is no longer shown": {
			hard: list("5", ""), status: status{Hard: hard, Used: list("1", "500m")}, used: list("1", ""), want: &status{Hard: list("5", ""), Used: list("1", "")},
		},
		"what is limited for the first time is counted": {
			hard: hard, status: status{Hard: list("5", ""), Used: list("2", "")}, used: list("1", "1"), want: &status{Hard: hard, Used: list("2", "1")},
		},
		"what cannot be counted stays as it was charged": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", ""), freed: list("1", "500m"), want: &status{Hard: hard, Used: list("1", "1")},
		},
		"when an object went, what it used is given back": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"), freed: list("1", "500m"), want: &status{Hard: hard, Used: list("1", "500m")},
		},
		"when an object went while another is on its way, the other's charge is kept": {
			hard: hard, status: status{Hard: hard, Used: list("3", "1500m")}, used: list("1", "500m"), freed: list("1", "500m"), want: &status{Hard: hard, Used: list("2", "1")},
		},
		"nothing is used less than there is": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("2", "1"), freed: list("1", "500m"), want: &status{Hard: hard, Used: list("2", "1")},
		},
		"a mark never goes back": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"), freed: list("1", "500m"), mark: `{"objects":3,"pods":20}`,
			want: &status{Hard: hard, Used: list("1", "500m")}, marked: `{"objects":3,"pods":20}`,
		},
		"when nothing went, no charge is taken back": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"),
		},
		"when charges have settled, what came to nothing is taken back": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"), settled: true, want: &status{Hard: hard, Used: list("1", "500m")}, marked: `{"pods":12}`,
		},
		"what nobody hears of when it goes is what was counted": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("1", "500m"), unheard: corev1.ResourcePods, want: &status{Hard: hard, Used: list("1", "1")},
		},
		"when an object came that was not charged, it is charged": {
			hard: hard, status: status{Hard: hard, Used: list("2", "1")}, used: list("3", "500m"), want: &status{Hard: hard, Used: list("3", "1")},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			q := quotaOf(tc.hard, tc.status)
			if tc.mark != "" {
				q.Annotations = map[string]string{CountedAnnotation: tc.mark}
			}
			var want plan.Plan
			if tc.want != nil {
				changed := quotaOf(tc.hard, *tc.want)
				changed.Annotations = map[string]string{CountedAnnotation: cmp.Or(tc.marked, `{"pods":11}`)}
				want = plan.Plan{
					Writes: []plan.Write{{
						Verb: plan.UpdateStatus, Resource: plan.ResourceQuotas, Namespace: "ns", Name: "q", Object: changed,
						UID: "uid-q", ResourceVersion: "7", Reason: "the quota's limits or what is used of them changed",
					}},
					Reads: []plan.Read{{Resource: plan.ResourceQuotas, Namespace: "ns", Name: "q"}},
				}
			}
			if diff := gocmp.Diff(want, Status(Input{
				Quota: q, Used: tc.used, Freed: tc.freed, Until: Mark{"pods": 11}, At: Mark{"pods": 12}, Unheard: map[corev1.ResourceName]bool{tc.unheard: true}, Settled: tc.settled,
			})); diff != "" {
				t.Errorf("wrong plan (-want +got):\n%s", diff)
			}
		})
	}
}
