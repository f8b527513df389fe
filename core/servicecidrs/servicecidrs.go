// Package servicecidrs decides what becomes of the ranges of Services' addresses: they say that they are ready, and one that is
// deleted goes when no address is left that is of no other range.
//
// Upstream: pkg/controller/servicecidrs of k8s.io/kubernetes. Upstream waits for ten seconds with the last step, so that all
// API servers have heard that no address is to be taken from the range. So does this, and besides, the commit of that step fails
// if an address was taken since, which lies in the same log.
package servicecidrs

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/api/servicecidr"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// component says what goes wrong, and owns the condition.
	component = "service-cidr-controller"
	// finalizer keeps a range (ServiceCIDRProtectionFinalizer).
	finalizer = "networking.k8s.io/service-cidr-finalizer"
	// allocator is who manages the addresses of Services (ControllerName in pkg/registry/core/service/ipallocator).
	allocator = "ipallocator.k8s.io"
	// deletionGracePeriod is how long a range that is deleted stays at least.
	deletionGracePeriod = 10 * time.Second
)

// DeletionKind is the kind of the plan.Later at which a range that is deleted has stayed for long enough.
const DeletionKind = "deletion"

// Input is a range, and all ranges and addresses that there are.
type Input struct {
	Range     *networkingv1.ServiceCIDR
	Ranges    []*networkingv1.ServiceCIDR
	Addresses []*networkingv1.IPAddress
	Now       time.Time
}

// Reconcile decides one step of a range.
//
// Upstream: sync in servicecidrs_controller.go.
func Reconcile(in Input) plan.Plan {
	r := in.Range
	protected := slices.Contains(r.Finalizers, finalizer)
	switch {
	case r.DeletionTimestamp == nil && !protected:
		return plan.Plan{Writes: []plan.Write{patch(r, "finalizers", "the range must outlive its addresses")}}
	case r.DeletionTimestamp == nil:
		return condition(in, metav1.ConditionTrue, "", "Kubernetes Service CIDR is ready")
	case !deletable(in):
		return condition(in, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating,
			"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR")
	case !protected:
		return plan.Plan{}
	}
	if over := r.DeletionTimestamp.Add(deletionGracePeriod); in.Now.Before(over) {
		return plan.Plan{Later: []plan.Later{{
			At: over, Kind: DeletionKind, Subject: plan.Ref{Resource: plan.ServiceRanges, Name: r.Name, UID: r.UID},
		}}}
	}
	return plan.Plan{
		Writes: []plan.Write{patch(r, "$deleteFromPrimitiveList/finalizers", "no address needs the range any more")},
		Reads:  []plan.Read{{Resource: plan.ServiceRanges}, {Resource: plan.Addresses, Arrivals: true}},
	}
}

// deletable reports whether every address is of another range as well.
//
// Upstream: canDeleteCIDR.
func deletable(in Input) bool {
	within := true
	for _, text := range in.Range.Spec.CIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && !in.other(func(p netip.Prefix) bool { return p.Overlaps(prefix) && p.Bits() <= prefix.Bits() }) {
			within = false
		}
	}
	if within {
		return true
	}
	for _, text := range in.Range.Spec.CIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		family := corev1.IPv4Protocol
		if prefix.Addr().Is6() {
			family = corev1.IPv6Protocol
		}
		for _, a := range in.Addresses {
			if a.Labels[networkingv1.LabelManagedBy] != allocator || a.Labels[networkingv1.LabelIPAddressFamily] != string(family) {
				continue
			}
			address, err := netip.ParseAddr(a.Name)
			if err == nil && in.orphaned(address) {
				return false
			}
		}
	}
	return true
}

// other reports whether another range has a prefix of a kind.
func (in Input) other(is func(netip.Prefix) bool) bool {
	return slices.ContainsFunc(in.Ranges, func(r *networkingv1.ServiceCIDR) bool { return r.Name != in.Range.Name && has(r, is) })
}

// orphaned reports whether an address is of the range and of no other.
func (in Input) orphaned(address netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return servicecidr.PrefixContainsIP(p, address) }
	return has(in.Range, contains) && !in.other(contains)
}

func has(r *networkingv1.ServiceCIDR, is func(netip.Prefix) bool) bool {
	return slices.ContainsFunc(r.Spec.CIDRs, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && is(p)
	})
}

// condition says whether the range is ready, if it does not say so.
//
// Upstream: updateConditionIfNeeded.
func condition(in Input, status metav1.ConditionStatus, reason, message string) plan.Plan {
	r := in.Range
	now := meta.FindStatusCondition(r.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
	if now != nil && now.Status == status && now.Reason == reason && now.Message == message {
		return plan.Plan{}
	}
	// Of plain strings, which always encode.
	body, _ := json.Marshal(map[string]any{
		"apiVersion": networkingv1.SchemeGroupVersion.String(), "kind": "ServiceCIDR", "metadata": map[string]any{"name": r.Name, "uid": r.UID},
		"status": map[string]any{"conditions": []metav1.Condition{{
			Type: networkingv1.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message,
			LastTransitionTime: metav1.NewTime(in.Now.UTC().Truncate(time.Second)),
		}}},
	})
	w := plan.Write{
		Verb: plan.Apply, Resource: plan.ServiceRanges, Subresource: "status", Name: r.Name, PatchBody: body, FieldManager: component,
		Reason: "whether the range is ready has changed",
	}
	if status == metav1.ConditionTrue {
		w.IfFailed = &plan.Notice{
			Regarding: corev1.ObjectReference{Kind: "ServiceCIDR", APIVersion: networkingv1.SchemeGroupVersion.String(), Name: r.Name, UID: r.UID},
			Type:      corev1.EventTypeWarning, Reason: "KubernetesServiceCIDRError", Component: component,
			Message: "The ServiceCIDR Status can not be set to Ready=True",
		}
	}
	return plan.Plan{Writes: []plan.Write{w}, Reads: []plan.Read{{Resource: plan.ServiceRanges}}}
}

// patch adds or removes the finalizer, as the key says.
func patch(r *networkingv1.ServiceCIDR, key, reason string) plan.Write {
	// Of plain strings, which always encode.
	body, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": r.UID, key: []string{finalizer}}})
	return plan.Write{
		Verb: plan.Patch, Resource: plan.ServiceRanges, Name: r.Name, UID: r.UID,
		PatchType: types.StrategicMergePatchType, PatchBody: body, Reason: reason,
	}
}
