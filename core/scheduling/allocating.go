package scheduling

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

const (
	reasonClaimInUse     = "resourceclaim in use"
	reasonClaimElsewhere = "resourceclaim not available on the node"
)

// allocating is how a pod's claims for devices decide about nodes, at one moment of a run. It is nil for pods without.
type allocating struct {
	cluster *Cluster
	profile *profile
	devices *devices
	needs   *needs
	now     time.Time
	timeout time.Duration
	// barred is why no node at all can take the pod, and fault what makes no sense about its claims, in upstream's words.
	barred verdict
	fault  string
	// claims are those that the pod names, and after them the one for its extended resources, if it has one: special.
	claims  []*resourceapi.ResourceClaim
	special *resourceapi.ResourceClaim
	// reach are the nodes on which allocated claims can be used, nil for all.
	reach []*nodeaffinity.NodeSelector
	// open counts the claims that are to be allocated.
	open int
	// known are the answers so far.
	known map[*nodeState]*allocation
	// assumed is how many changes of the run it has in it.
	assumed int
}

// allocation is what a node has for a pod's claims, or why it cannot be used.
type allocation struct {
	reason string
	// missed are the allocated claims that cannot be used there, by index.
	missed []int
	// results are for those that are to be allocated, in their order, and none is set if the node needs none of them.
	results []resourceapi.AllocationResult
	none    bool
	// special is the claim for extended resources as this node needs it, nil for none, and mappings tell which containers get
	// what of it.
	special  *resourceapi.ResourceClaim
	mappings []corev1.ContainerExtendedResourceRequest
}

func (c *Cluster) newAllocating(p *profile, n *needs, now time.Time) *allocating {
	if n == nil {
		return nil
	}
	d := &c.devices
	a := &allocating{
		cluster: c, profile: p, devices: d, needs: n, now: now, timeout: p.BindingTimeout, known: map[*nodeState]*allocation{}, assumed: d.made,
	}
	claims, reason := d.claimsOf(n.pod)
	if reason != "" {
		return a.bar(reason)
	}
	if d.backs(n) {
		a.special = d.specialFor(n.pod)
		if awaits(n.pod, a.special) { // it is a claim like others by now
			claims, a.special = append(claims, a.special), nil
		} else {
			claims = append(claims, a.special)
		}
	}
	a.claims, a.reach = claims, make([]*nodeaffinity.NodeSelector, len(claims))
	for i := range claims {
		if reason := a.admit(i); reason != "" {
			return a.bar(reason)
		}
	}
	return a
}

// again looks at the claims as the run has left them.
func (a *allocating) again() *allocating { return a.cluster.newAllocating(a.profile, a.needs, a.now) }

func (a *allocating) bar(reason string) *allocating {
	a.barred = verdict{plugin: DynamicResources, reasons: []string{reason}}
	return a
}

// admit looks at one claim before nodes are looked at, and returns why no node can take the pod.
//
// Upstream: PreFilter in plugins/dynamicresources/dynamicresources.go.
func (a *allocating) admit(i int) (reason string) {
	claim := a.claims[i]
	if allocated := claim.Status.Allocation; allocated != nil {
		if len(claim.Status.ReservedFor) >= resourceapi.ResourceClaimReservedForMaxSize && !resourceclaim.IsReservedForPod(a.needs.pod, claim, false) {
			return reasonClaimInUse // the API refuses one more. Upstream (1.37) lets it, and tries again and again
		}
		if allocated.NodeSelector != nil {
			reach, err := nodeaffinity.NewNodeSelector(allocated.NodeSelector)
			if err != nil {
				a.fail(fmt.Sprintf("running PreFilter plugin %q: %v", DynamicResources, err))
			}
			a.reach[i] = reach
		}
		return ""
	}
	a.open++
	if claim == a.special {
		return ""
	}
	for j := range claim.Spec.Devices.Requests {
		if reason := a.devices.admitRequest(claim, &claim.Spec.Devices.Requests[j]); reason != "" {
			return reason
		}
	}
	return ""
}

// admitRequest is why nothing can be had for a request now.
func (d *devices) admitRequest(claim *resourceapi.ResourceClaim, request *resourceapi.DeviceRequest) string {
	classless := func(class, name string) string {
		if d.classes[class] != nil {
			return ""
		}
		return fmt.Sprintf("request %s: device class %s does not exist", name, class)
	}
	switch {
	case request.Exactly != nil:
		return classless(request.Exactly.DeviceClassName, request.Name)
	case len(request.FirstAvailable) > 0:
		for i := range request.FirstAvailable {
			sub := &request.FirstAvailable[i]
			if reason := classless(sub.DeviceClassName, request.Name+"/"+sub.Name); reason != "" {
				return reason
			}
		}
		return ""
	}
	return fmt.Sprintf("resource claim %s, request %s: unknown request type", nameOfClaim(claim), request.Name)
}

func (a *allocating) fail(fault string) { a.fault = cmp.Or(a.fault, fault) }

// demands reports whether it matters which claims have devices.
func (a *allocating) demands() bool { return a != nil && a.open > 0 }

// stale reports whether the run has changed claims since.
func (a *allocating) stale() bool { return a != nil && a.assumed != a.devices.made }

// refusal is why a node cannot take the pod.
func (a *allocating) refusal(n *nodeState) verdict {
	if a == nil {
		return verdict{}
	}
	if found := a.on(n); found.reason != "" {
		return verdict{plugin: DynamicResources, reasons: []string{found.reason}}
	}
	return verdict{}
}

// on is what a node has for the pod. After a fault no more is looked for.
func (a *allocating) on(n *nodeState) *allocation {
	if found := a.known[n]; found != nil {
		return found
	}
	if a.fault != "" {
		return &allocation{reason: a.fault}
	}
	found := a.find(n)
	if a.fault == "" {
		a.known[n] = found
	}
	return found
}

// find follows Filter in plugins/dynamicresources/dynamicresources.go.
func (a *allocating) find(n *nodeState) *allocation {
	found := &allocation{none: a.open == 0}
	if a.special != nil {
		found.special, found.mappings, found.reason = a.specialOn(n)
		if found.reason != "" || found.special == nil && len(a.claims) == 1 {
			found.none = true
			return found
		}
	}
	for i, claim := range a.claims {
		if a.misses(i, claim, n) {
			found.missed = append(found.missed, i)
		}
	}
	if open := a.toAllocate(found); len(open) > 0 {
		var fault string
		if found.results, found.reason, fault = a.devices.allocate(n, open); fault != "" {
			a.fail(fmt.Sprintf("running %q filter plugin: %s", DynamicResources, fault))
			found.reason = a.fault
		}
	}
	if found.reason != "" {
		found.missed = nil // nobody gets to know of them
	} else if len(found.missed) > 0 {
		found.reason = reasonClaimElsewhere
	}
	return found
}

// toAllocate are the claims that are to be allocated on a node, the special one as the node needs it, if it does.
func (a *allocating) toAllocate(found *allocation) []*resourceapi.ResourceClaim {
	var open []*resourceapi.ResourceClaim
	for _, claim := range a.claims {
		switch {
		case claim.Status.Allocation != nil:
		case claim != a.special:
			open = append(open, claim)
		case found.special != nil:
			open = append(open, found.special)
		}
	}
	return open
}

// misses reports whether an allocated claim cannot be used on a node, or its devices could not be made ready.
func (a *allocating) misses(i int, claim *resourceapi.ResourceClaim, n *nodeState) bool {
	if a.reach[i] != nil && !a.reach[i].Match(n.node) {
		return true
	}
	if claim.Status.Allocation == nil {
		return false
	}
	ready, err := isReady(claim)
	return err != nil || !ready && a.timedOut(claim)
}

var errNotBound = errors.New("a binding failure condition is true")

// isReady reports whether the drivers have made a claim's devices ready, where they say that they have to. It is an error
// if they failed.
//
// Upstream: isClaimReadyForBinding in plugins/dynamicresources/dynamicresources.go.
func isReady(claim *resourceapi.ResourceClaim) (bool, error) {
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if len(r.BindingConditions) == 0 {
			continue
		}
		at := slices.IndexFunc(claim.Status.Devices, func(s resourceapi.AllocatedDeviceStatus) bool {
			return s.Driver == r.Driver && s.Pool == r.Pool && s.Device == r.Device
		})
		if at < 0 {
			return false, nil
		}
		conditions := claim.Status.Devices[at].Conditions
		holds := func(kind string) bool { return meta.IsStatusConditionTrue(conditions, kind) }
		if slices.ContainsFunc(r.BindingFailureConditions, holds) {
			return false, errNotBound
		}
		if slices.ContainsFunc(r.BindingConditions, func(kind string) bool { return !holds(kind) }) {
			return false, nil
		}
	}
	return true, nil
}

// timedOut reports whether the drivers took too long to make a claim's devices ready.
//
// Upstream: isClaimTimeout in plugins/dynamicresources/dynamicresources.go.
func (a *allocating) timedOut(claim *resourceapi.ResourceClaim) bool {
	allocated := claim.Status.Allocation
	if allocated.AllocationTimestamp == nil {
		return false
	}
	return slices.ContainsFunc(allocated.Devices.Results, func(r resourceapi.DeviceRequestAllocationResult) bool {
		return r.BindingConditions != nil
	}) && allocated.AllocationTimestamp.Add(a.timeout).Before(a.now)
}

// scored reports whether nodes are told apart by which alternatives of a request they have.
func (a *allocating) scored() bool {
	return a != nil && a.open > 0 && slices.ContainsFunc(a.claims, func(claim *resourceapi.ResourceClaim) bool {
		return slices.ContainsFunc(claim.Spec.Devices.Requests, func(r resourceapi.DeviceRequest) bool { return len(r.FirstAvailable) > 0 })
	})
}

// score is the higher the earlier the alternatives are that a node has.
//
// Upstream: computeScore in plugins/dynamicresources/dynamicresources.go.
func (a *allocating) score(n *nodeState) int64 {
	found := a.on(n)
	if found.none {
		return 0
	}
	var score int64
	next := 0
	for _, claim := range a.claims {
		allocated := claim.Status.Allocation
		if allocated == nil {
			if claim == a.special {
				continue // it has no alternatives
			}
			allocated = &found.results[next]
			next++
		}
		for j := range claim.Spec.Devices.Requests {
			score += rankOf(&claim.Spec.Devices.Requests[j], allocated)
		}
	}
	return score
}

func rankOf(request *resourceapi.DeviceRequest, allocated *resourceapi.AllocationResult) (rank int64) {
	for i := range request.FirstAvailable {
		ref := resourceclaim.CreateSubRequestRef(request.Name, request.FirstAvailable[i].Name)
		if slices.ContainsFunc(allocated.Devices.Results, func(r resourceapi.DeviceRequestAllocationResult) bool { return r.Request == ref }) {
			rank += int64(resourceapi.FirstAvailableDeviceRequestMaxSize - i)
		}
	}
	return rank
}

// addScores adds the weighted scores of the nodes that are open.
func (a *allocating) addScores(weight int64, nodes []*nodeState, totals []int64) {
	raw := make([]int64, len(totals))
	var highest int64
	for at, total := range totals {
		if total != closed {
			raw[at] = a.score(nodes[at])
			highest = max(highest, raw[at])
		}
	}
	if highest == 0 {
		return
	}
	for at := range totals {
		if totals[at] != closed {
			totals[at] += weight * normalize(raw[at], highest, false)
		}
	}
}
