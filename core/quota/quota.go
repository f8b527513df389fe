// Package quota keeps what a ResourceQuota says of itself: its limits, which admission enforces as
// they stand in the status, and how much of them is used. Admission charges a quota before an object
// is stored; what it charged is put right here, from what there is.
//
// Upstream: pkg/controller/resourcequota/resource_quota_controller.go of k8s.io/kubernetes v1.37.2.
package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/zeroplane/zeroplane/core/plan"
)

// SettleKind is the kind of the plan.Later at which a quota's charges will have settled.
const SettleKind = "settle"

// settleAfter is how long after it was last charged a quota is counted anew, since a request can be
// charged and then fail. It is the period in which upstream counts all quotas
// (--resource-quota-sync-period).
const settleAfter = 5 * time.Minute

// Input is a quota and what there is.
type Input struct {
	Quota *corev1.ResourceQuota
	// Used is what the objects of its namespace use, of the resources that could be counted.
	Used corev1.ResourceList
	// Added is set when objects came and none went. A charge for one that is still on its way
	// must not be taken back then.
	Added bool
}

// Status brings the status of a quota up to date.
//
// Upstream: syncResourceQuota. That it never takes back a charge because an object came is ours:
// upstream does not count then at all, and relies on counting everything from time to time.
func Status(in Input) plan.Plan {
	hard := in.Quota.Spec.Hard.DeepCopy()
	if hard == nil {
		hard = corev1.ResourceList{}
	}
	used := corev1.ResourceList{}
	for name := range hard {
		charged, isCharged := in.Quota.Status.Used[name]
		counted, isCounted := in.Used[name]
		switch {
		case isCounted && (!in.Added || !isCharged || counted.Cmp(charged) > 0):
			used[name] = counted.DeepCopy()
		case isCharged:
			used[name] = charged.DeepCopy()
		}
	}
	status := in.Quota.Status
	if status.Hard != nil && status.Used != nil && apiequality.Semantic.DeepEqual(hard, status.Hard) && apiequality.Semantic.DeepEqual(used, status.Used) {
		return plan.Plan{}
	}
	changed := in.Quota.DeepCopy()
	changed.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: used}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.UpdateStatus, Resource: plan.ResourceQuotas, Namespace: changed.Namespace, Name: changed.Name, Object: changed,
			UID: changed.UID, ResourceVersion: changed.ResourceVersion, Reason: "the quota's limits or what is used of them changed",
		}},
		Reads: []plan.Read{{Resource: plan.ResourceQuotas, Namespace: changed.Namespace, Name: changed.Name}},
	}
}

// Settle asks to count a quota anew once what was charged to it must have come, or failed.
func Settle(quota *corev1.ResourceQuota, now time.Time) plan.Later {
	return plan.Later{
		At: now.Add(settleAfter), Kind: SettleKind,
		Subject: plan.Ref{Resource: plan.ResourceQuotas, Namespace: quota.Namespace, Name: quota.Name, UID: quota.UID},
	}
}
