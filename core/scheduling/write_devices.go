package scheduling

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Claims for devices are in the log of pods, so that an allocation, its reservation and the binding are one transaction:
// of two who decide on one state only one commits.

// waitsForDevices is the kind of the moments at which drivers are given up.
const waitsForDevices = "devices"

// devicesPlan writes the claims for devices of all placements, and gives back those that others cannot use where they are.
func devicesPlan(result *Result) plan.Plan {
	var p plan.Plan
	changes := claimChanges{at: map[types.NamespacedName]int{}}
	for _, placed := range result.Placements {
		for _, use := range placed.Devices {
			changes.add(use)
		}
		p.Merge(awaitDevices(placed))
	}
	p.Writes = changes.writes()
	for _, failed := range result.Unschedulable {
		if changes.release(failed.Release) {
			p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Namespace: failed.Pod.Namespace, Name: failed.Pod.Name})
		}
	}
	for _, made := range result.Preemptions {
		changes.release(made.Release)
	}
	p.Writes = append(p.Writes, changes.releases...)
	for _, name := range changes.read {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.ResourceClaims, Namespace: name.Namespace, Name: name.Name})
	}
	if result.Allocates {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.ResourceClaims, Allocated: true})
	}
	return p
}

// awaitDevices tells that a pod waits for its drivers, and looks at it again when they took too long.
//
// Upstream: PreBind in plugins/dynamicresources/dynamicresources.go, which waits there.
func awaitDevices(placed Placement) plan.Plan {
	var p plan.Plan
	if !placed.AwaitsDrivers {
		return p
	}
	if !placed.Until.IsZero() {
		p.Later = append(p.Later, plan.Later{
			At: placed.Until.Add(time.Second), Kind: waitsForDevices, // the API keeps whole seconds
			Subject: plan.Ref{Resource: plan.Pods, Namespace: placed.Pod.Namespace, Name: placed.Pod.Name, UID: placed.Pod.UID},
		})
	}
	if slices.ContainsFunc(placed.Devices, func(u ClaimUse) bool { return u.Before != u.After }) {
		p.Notices = append(p.Notices, notice(placed.Pod, corev1.EventTypeNormal, "BindingConditionsPending", "Scheduling",
			"waiting for binding conditions for device on node "+placed.Node))
	}
	return p
}

// claimChanges are claims from what they were to what a run has made of them, in the order in which it came to them.
type claimChanges struct {
	uses []ClaimUse
	at   map[types.NamespacedName]int
	// read are those that were there, and releases the writes of those that are given back.
	read     []types.NamespacedName
	releases []plan.Write
}

func (c *claimChanges) add(use ClaimUse) {
	name := nameOfClaim(use.After)
	if i, known := c.at[name]; known {
		c.uses[i].After = use.After
		return
	}
	c.at[name] = len(c.uses)
	c.uses = append(c.uses, use)
	if use.Before != nil {
		c.read = append(c.read, name)
	}
}

// writes makes the special claims, then puts finalizers on the others, and then allocates and reserves all.
//
// Upstream: bindClaim in plugins/dynamicresources/dynamicresources.go.
func (c *claimChanges) writes() []plan.Write {
	var made, finalized, reserved []plan.Write
	for _, use := range c.uses {
		if use.Before == use.After {
			continue
		}
		after := use.After.DeepCopy()
		switch {
		case use.Before == nil:
			created := use.After.DeepCopy()
			created.Status = resourceapi.ResourceClaimStatus{}
			made = append(made, claimWrite(plan.Create, created, "devices for extended resources of a pod"))
		case len(use.Before.Finalizers) != len(after.Finalizers):
			held := use.Before.DeepCopy()
			held.Finalizers = after.Finalizers
			finalized = append(finalized, claimWrite(plan.Update, held, "it gets devices"))
			after.ResourceVersion = "" // that of the write before
		}
		reserved = append(reserved, claimWrite(plan.UpdateStatus, after, reservedFor(after)))
	}
	return slices.Concat(made, finalized, reserved)
}

func reservedFor(claim *resourceapi.ResourceClaim) string {
	last := claim.Status.ReservedFor[len(claim.Status.ReservedFor)-1]
	return fmt.Sprintf("pod %s uses it", last.Name)
}

// release gives a claim's devices back, or has the claim go, unless the run has done so already or gave it to a pod.
//
// Upstream: deallocateOrDeletePodClaims and deleteClaim in plugins/dynamicresources.
func (c *claimChanges) release(r *Release) bool {
	if r == nil {
		return false
	}
	name := nameOfClaim(r.Claim)
	if _, known := c.at[name]; known {
		return false
	}
	c.at[name] = -1
	c.read = append(c.read, name)
	claim := r.Claim.DeepCopy()
	const reason = "its devices are of no use where they are"
	if !r.Goes {
		claim.Status = resourceapi.ResourceClaimStatus{}
		c.releases = append(c.releases, claimWrite(plan.UpdateStatus, claim, reason))
		return true
	}
	if at := slices.Index(claim.Finalizers, resourceapi.Finalizer); at >= 0 {
		claim.Finalizers = slices.Delete(claim.Finalizers, at, at+1)
		c.releases = append(c.releases, claimWrite(plan.Update, claim, reason))
	}
	c.releases = append(c.releases, claimWrite(plan.Delete, claim, reason))
	return true
}

func claimWrite(verb plan.Verb, claim *resourceapi.ResourceClaim, reason string) plan.Write {
	w := plan.Write{
		Verb: verb, Resource: plan.ResourceClaims, Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
		ResourceVersion: claim.ResourceVersion, Reason: reason,
	}
	if verb == plan.Delete {
		w.ResourceVersion = ""
		return w
	}
	w.Object = claim
	return w
}
