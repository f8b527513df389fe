package scheduling

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/zeroplane/zeroplane/core/naming"
)

// ClaimUse is a claim for devices of a pod that got a node.
type ClaimUse struct {
	// Before is the claim as it was found, nil if it is to be made, and After what it has to become for the pod; the same
	// if nothing is to be written. A later placement of the same run may have more written for another pod.
	Before, After *resourceapi.ResourceClaim
}

// reservation is what has to be written for a pod's devices before the pod is bound.
type reservation struct {
	uses []ClaimUse
	// waits is set if drivers have to make the devices ready before the pod is bound, and until is when they are given up,
	// zero for never.
	waits bool
	until time.Time
	// extended is what the status of the pod says of its special claim, nil for nothing.
	extended *corev1.PodExtendedResourceClaimStatus
}

// assume takes the allocation on a node for granted: claims get their devices, and are reserved for the pod.
//
// Upstream: Reserve, bindClaim and the end of PreBind in plugins/dynamicresources/dynamicresources.go. Here pods that share a
// claim may get their nodes in one run, since all is written in one transaction.
func (a *allocating) assume(n *nodeState, seed uint64) reservation {
	var does reservation
	if a == nil {
		return does
	}
	found := a.on(n)
	next := 0
	for _, claim := range a.claims {
		use := ClaimUse{Before: claim}
		var result *resourceapi.AllocationResult
		if claim.Status.Allocation == nil {
			if claim == a.special {
				if found.special == nil {
					continue
				}
				claim, use.Before = a.named(found.special, seed), nil
				does.extended = &corev1.PodExtendedResourceClaimStatus{RequestMappings: found.mappings, ResourceClaimName: claim.Name}
			}
			result = &found.results[next]
			next++
		}
		use.After = a.reserved(claim, result)
		if use.After != claim {
			a.devices.change(use.After)
		}
		does.uses = append(does.uses, use)
		does.await(use.After, a.timeout)
	}
	return does
}

// await notes that a claim's devices are not ready.
func (r *reservation) await(claim *resourceapi.ResourceClaim, timeout time.Duration) {
	if ready, err := isReady(claim); ready || err != nil {
		return
	}
	r.waits = true
	if claim.Status.Allocation.AllocationTimestamp == nil {
		return // nobody knows since when: they are awaited without an end, as by isClaimTimeout upstream
	}
	if until := claim.Status.Allocation.AllocationTimestamp.Add(timeout); r.until.IsZero() || until.Before(r.until) {
		r.until = until
	}
}

// reserved is a claim that is allocated and reserved for the pod: the same, if it is already.
func (a *allocating) reserved(claim *resourceapi.ResourceClaim, result *resourceapi.AllocationResult) *resourceapi.ResourceClaim {
	pod := a.needs.pod
	if resourceclaim.IsReservedForPod(pod, claim, false) {
		return claim
	}
	claim = claim.DeepCopy()
	if result != nil {
		if !slices.Contains(claim.Finalizers, resourceapi.Finalizer) {
			claim.Finalizers = append(claim.Finalizers, resourceapi.Finalizer)
		}
		claim.Status.Allocation = result.DeepCopy()
		nameShares(claim, a.now)
	}
	claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{
		APIGroup: corev1.GroupName, Resource: "pods", Name: pod.Name, UID: pod.UID,
	})
	if claim.Status.Allocation.AllocationTimestamp == nil {
		claim.Status.Allocation.AllocationTimestamp = new(metav1.NewTime(a.now))
	}
	return claim
}

// nameShares gives shares of devices their names, which no other share of the device may have. Those of the allocator are
// random.
func nameShares(claim *resourceapi.ResourceClaim, now time.Time) {
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if r.ShareID != nil {
			r.ShareID = new(uidOf(string(claim.UID), claim.Namespace, claim.Name, now.String(), fmt.Sprint(i)))
		}
	}
}

// uidOf is a UID for some words. It has the form of a random one (RFC 9562, version 8).
func uidOf(words ...string) types.UID {
	var text []byte
	for _, word := range words {
		text = appendString(text, word)
	}
	sum := sha256.Sum256(text)
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	h := hex.EncodeToString(id)
	return types.UID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// named gives a special claim a name that no other has, as the API server would.
func (a *allocating) named(claim *resourceapi.ResourceClaim, seed uint64) *resourceapi.ResourceClaim {
	claim = claim.DeepCopy()
	claim.Name = naming.Generate(claim.GenerateName, seed^hashString(string(a.needs.pod.UID)), func(name string) bool {
		return a.devices.claimNamed(types.NamespacedName{Namespace: claim.Namespace, Name: name}) != nil
	})
	return claim
}
