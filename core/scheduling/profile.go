package scheduling

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Profile is how the pods of one spec.schedulerName are placed.
//
// Upstream: KubeSchedulerProfile in pkg/scheduler/apis/config/types.go, with what its plugins are told.
type Profile struct {
	SchedulerName string
	// PreEnqueues are the plugins that may hold pods that nobody looks at then: SchedulingGates, and DynamicResources those whose
	// claims are not there.
	PreEnqueues map[string]bool
	// PreFilters are the plugins that may refuse all nodes before they are looked at, Filters those that may refuse nodes, and
	// Weights those that score them.
	PreFilters, Filters map[string]bool
	Weights             map[string]int64
	// Preempts is set when pods may have others go, and GivesBack when claims are given back that they cannot use where they are.
	Preempts, GivesBack bool
	// AddedAffinity is asked of all pods' nodes (NodeAffinityArgs), nil for nothing.
	AddedAffinity *corev1.NodeAffinity
	// Fit is how resources are scored, and IgnoredResources and IgnoredResourceGroups, the part of a name before the slash,
	// what need not be free (NodeResourcesFitArgs).
	Fit                   Scoring
	IgnoredResources      map[string]bool
	IgnoredResourceGroups map[string]bool
	// Balanced are the resources to use evenly (NodeResourcesBalancedAllocationArgs).
	Balanced []corev1.ResourceName
	// DefaultConstraints spread pods that do not say how, unless SystemDefaults do (PodTopologySpreadArgs).
	DefaultConstraints []corev1.TopologySpreadConstraint
	SystemDefaults     bool
	// HardPodAffinityWeight is what a required affinity of a pod is worth to those that it asks for, and
	// IgnorePreferredTerms has what others prefer not count for pods that prefer nothing (InterPodAffinityArgs).
	HardPodAffinityWeight int64
	IgnorePreferredTerms  bool
	// InitialBackoff and MaxBackoff bound the pause after the API refused what was asked for a pod, which doubles.
	InitialBackoff, MaxBackoff time.Duration
	// BindingTimeout is how long drivers may take to make devices ready (DynamicResourcesArgs).
	BindingTimeout time.Duration
	// VolumeShape turns the part of storage that is used, in percent, into a score (VolumeBindingArgs).
	VolumeShape Shape
}

// Strategy is a way to score a node by what is used of its resources.
type Strategy string

// The strategies.
const (
	LeastAllocated           Strategy = "LeastAllocated"
	MostAllocated            Strategy = "MostAllocated"
	RequestedToCapacityRatio Strategy = "RequestedToCapacityRatio"
)

// Scoring is a strategy over some resources. Shape is that of RequestedToCapacityRatio.
type Scoring struct {
	Strategy  Strategy
	Resources []WeightedResource
	Shape     Shape
}

// WeightedResource is a resource and its weight among others.
type WeightedResource struct {
	Name   corev1.ResourceName
	Weight int64
}

// Shape is a function of utilization in percent, linear between points of increasing utilization. Scores are up to 100.
//
// Upstream: BuildBrokenLinearFunction in plugins/helper/shape_score.go.
type Shape []Point

// Point is one of a shape.
type Point struct{ Utilization, Score int64 }

// at is the value of the function.
func (s Shape) at(utilization int64) int64 {
	for i, p := range s {
		if utilization > p.Utilization {
			continue
		}
		if i == 0 {
			return p.Score
		}
		from := s[i-1]
		return from.Score + (p.Score-from.Score)*(utilization-from.Utilization)/(p.Utilization-from.Utilization)
	}
	return s[len(s)-1].Score
}

// PreFiltering are the plugins that have something to say of all nodes.
var PreFiltering = map[string]bool{NodeAffinity: true, VolumeRestrictions: true, VolumeBinding: true, VolumeZone: true, DynamicResources: true}

// initialBackoff and maxBackoff are upstream's (podInitialBackoffSeconds and podMaxBackoffSeconds).
const (
	initialBackoff = time.Second
	maxBackoff     = 10 * time.Second
)

// DefaultProfile is upstream's.
//
// Upstream: pkg/scheduler/apis/config/v1/default_plugins.go and defaults.go.
func DefaultProfile() Profile {
	p := Profile{
		SchedulerName: SchedulerName, PreEnqueues: map[string]bool{SchedulingGates: true, DynamicResources: true},
		PreFilters: map[string]bool{}, Filters: map[string]bool{}, Preempts: true, GivesBack: true, SystemDefaults: true, HardPodAffinityWeight: 1,
		Weights: map[string]int64{
			TaintToleration: 3, NodeAffinity: 2, NodeResourcesFit: 1, VolumeBinding: 1, PodTopologySpread: 2, InterPodAffinity: 2,
			DynamicResources: 2, NodeResourcesBalancedAllocation: 1, ImageLocality: 1,
		},
		Fit:            Scoring{Strategy: LeastAllocated, Resources: []WeightedResource{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}},
		Balanced:       []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory},
		VolumeShape:    Shape{{0, maxScore}, {100, 0}},
		InitialBackoff: initialBackoff, MaxBackoff: maxBackoff, BindingTimeout: 10 * time.Minute,
	}
	for _, name := range []string{
		NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, VolumeRestrictions, NodeVolumeLimits, VolumeBinding,
		VolumeZone, PodTopologySpread, InterPodAffinity, DynamicResources, NodeDeclaredFeatures,
	} {
		p.Filters[name] = true
		if PreFiltering[name] {
			p.PreFilters[name] = true
		}
	}
	return p
}

// profile is a Profile made ready.
type profile struct {
	Profile
	required  *nodeaffinity.NodeSelector
	preferred *nodeaffinity.PreferredSchedulingTerms
	// weights are those of the plugins.
	weights struct{ taints, affinity, fit, volumes, spread, interpod, devices, balanced, images int64 }
	// plain is set when CPU and memory are scored as by default, which is done without lists.
	plain bool
}

func newProfile(p Profile) *profile {
	out := &profile{Profile: p}
	w := &out.weights
	w.taints, w.affinity, w.fit, w.volumes = p.Weights[TaintToleration], p.Weights[NodeAffinity], p.Weights[NodeResourcesFit], p.Weights[VolumeBinding]
	w.spread, w.interpod, w.devices = p.Weights[PodTopologySpread], p.Weights[InterPodAffinity], p.Weights[DynamicResources]
	w.balanced, w.images = p.Weights[NodeResourcesBalancedAllocation], p.Weights[ImageLocality]
	out.plain = p.Fit.Strategy == LeastAllocated && isCPUAndMemory(p.Fit.Resources) && len(p.Balanced) == 2 &&
		p.Balanced[0] == corev1.ResourceCPU && p.Balanced[1] == corev1.ResourceMemory
	if p.AddedAffinity == nil {
		return out
	}
	// Terms that cannot be parsed do not pass the validation of the configuration.
	if required := p.AddedAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		out.required, _ = nodeaffinity.NewNodeSelector(required)
	}
	if preferred := p.AddedAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(preferred) > 0 {
		out.preferred, _ = nodeaffinity.NewPreferredSchedulingTerms(preferred)
	}
	return out
}

func isCPUAndMemory(resources []WeightedResource) bool {
	return len(resources) == 2 && resources[0] == WeightedResource{corev1.ResourceCPU, 1} && resources[1] == WeightedResource{corev1.ResourceMemory, 1}
}

// ignores reports whether a resource need not be free: extended ones only.
//
// Upstream: fitsRequest in plugins/noderesources/fit.go.
func (p *profile) ignores(name corev1.ResourceName) bool {
	if len(p.IgnoredResources)+len(p.IgnoredResourceGroups) == 0 || !isExtended(name) {
		return false
	}
	group, _, _ := strings.Cut(string(name), "/")
	return p.IgnoredResources[string(name)] || p.IgnoredResourceGroups[group]
}

// profileOf is the profile of a pod, nil if it is not ours to place.
func (c *Cluster) profileOf(pod *corev1.Pod) *profile {
	name := pod.Spec.SchedulerName
	if name == "" {
		name = SchedulerName
	}
	return c.profiles[name]
}
