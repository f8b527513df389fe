// Package quota keeps what a ResourceQuota says of itself: its limits, which admission enforces as
// they stand in the status, and how much of them is used. Admission charges a quota before an object
// is stored; what it charged is put right here, from what there is.
//
// Upstream: pkg/controller/resourcequota/resource_quota_controller.go of k8s.io/kubernetes v1.37.2.
package quota

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

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
	// Freed is what the changes up to Until give back, of those that the quota's mark does not cover.
	Freed corev1.ResourceList
	// Until are the revisions up to which Freed was gathered, At those of the state in which Used was counted.
	Until, At Mark
	// Unheard are the resources of which nobody hears when they are given back: of those there is what was counted.
	Unheard map[corev1.ResourceName]bool
	// Settled is set when whatever was charged must have come, or failed: the quota is what is used.
	Settled bool
}

// Status brings the status of a quota up to date.
//
// Upstream: syncResourceQuota. That only as much of a charge is taken back as changes have given back is ours, and so
// is the mark that has each of them count once: upstream takes what it finds in its cache for all there is, and so takes back the
// charge for an object that is on its way.
func Status(in Input) plan.Plan {
	in.Settled = in.Settled || in.Quota.Status.Used == nil // nothing was charged yet
	hard := in.Quota.Spec.Hard.DeepCopy()
	if hard == nil {
		hard = corev1.ResourceList{}
	}
	used := corev1.ResourceList{}
	for name := range hard {
		if u, known := in.used(name); known {
			used[name] = u
		}
	}
	status := in.Quota.Status
	same := status.Hard != nil && status.Used != nil && apiequality.Semantic.DeepEqual(hard, status.Hard) && apiequality.Semantic.DeepEqual(used, status.Used)
	if same && !in.frees() {
		return plan.Plan{}
	}
	changed := in.Quota.DeepCopy()
	changed.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: used}
	in.mark().put(changed)
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.UpdateStatus, Resource: plan.ResourceQuotas, Namespace: changed.Namespace, Name: changed.Name, Object: changed,
			UID: changed.UID, ResourceVersion: changed.ResourceVersion, Reason: "the quota's limits or what is used of them changed",
		}},
		Reads: []plan.Read{{Resource: plan.ResourceQuotas, Namespace: changed.Namespace, Name: changed.Name}},
	}
}

// frees reports whether changes have given anything back.
func (in *Input) frees() bool {
	for _, q := range in.Freed {
		if !q.IsZero() {
			return true
		}
	}
	return false
}

// mark returns what the quota covers from now on.
func (in *Input) mark() Mark {
	if in.Settled {
		return in.At
	}
	m := maps.Clone(in.Until)
	for group, revision := range MarkOf(in.Quota) {
		m[group] = max(m[group], revision)
	}
	return m
}

// used returns what is used of a resource: what was charged but for what was given back, and never less than there is.
func (in *Input) used(name corev1.ResourceName) (resource.Quantity, bool) {
	charged, isCharged := in.Quota.Status.Used[name]
	counted, isCounted := in.Used[name]
	switch {
	case !isCounted:
		return charged.DeepCopy(), isCharged
	case !isCharged || in.Settled || in.Unheard[name]:
		return counted.DeepCopy(), true
	}
	left := charged.DeepCopy()
	left.Sub(in.Freed[name])
	if counted.Cmp(left) >= 0 {
		return counted.DeepCopy(), true
	}
	return left, true
}

// Settle asks to count a quota anew once what was charged to it must have come, or failed.
func Settle(quota *corev1.ResourceQuota, now time.Time) plan.Later {
	return plan.Later{
		At: now.Add(settleAfter), Kind: SettleKind,
		Subject: plan.Ref{Resource: plan.ResourceQuotas, Namespace: quota.Namespace, Name: quota.Name, UID: quota.UID},
	}
}
