// Package schedulerconfig reads kube-scheduler's configuration file: how pods are placed, by the scheduler that they name.
//
// The file is read, completed and checked by upstream's own code. What zeroplane has no use for is taken and has no effect:
// leader election, clients, parallelism and percentageOfNodesToScore, since every node is looked at, and
// how many nodes preemption looks at. What would change decisions and cannot be followed is refused: extenders,
// plugins that are not upstream's, and volumes judged without VolumeBinding. Plugins refuse nodes in upstream's default
// order, whatever order they are listed in, so of several reasons to refuse a node another may be told.
package schedulerconfig

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// Parse reads a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1) in YAML or JSON. Its errors name the field.
//
// Upstream: loadConfig in cmd/kube-scheduler/app/options/configfile.go.
func Parse(data []byte) ([]scheduling.Profile, error) {
	obj, gvk, err := scheme.Codecs.UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	c, ok := obj.(*config.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("it is a %s and not a KubeSchedulerConfiguration", gvk)
	}
	c.APIVersion = gvk.GroupVersion().String() // as upstream does; its validation asks for it
	return Profiles(c)
}

// Profiles are those of a configuration.
func Profiles(c *config.KubeSchedulerConfiguration) ([]scheduling.Profile, error) {
	if err := validation.ValidateKubeSchedulerConfiguration(c); err != nil {
		return nil, err
	}
	if len(c.Extenders) > 0 {
		return nil, errors.New("extenders: none can be called; have a mutating webhook or a plugin's arguments do it")
	}
	profiles := make([]scheduling.Profile, 0, len(c.Profiles))
	for i := range c.Profiles {
		p, err := newProfile(&c.Profiles[i])
		if err != nil {
			return nil, fmt.Errorf("profiles[%d].%w", i, err)
		}
		p.InitialBackoff, p.MaxBackoff = seconds(c.PodInitialBackoffSeconds), seconds(c.PodMaxBackoffSeconds)
		profiles = append(profiles, p)
	}
	return profiles, nil
}

// seconds is a number of seconds, a year at most.
func seconds(n int64) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(n, int64(year/time.Second))) * time.Second
}

// filtering, scoring and other are the plugins that there are. Those of other have no say in which node it is. Of all, holding are
// those that may keep a pod from being looked at, and makingRoom those that may do something for one that no node takes.
var (
	filtering = sets.New(
		names.NodeUnschedulable, names.TaintToleration, names.NodeAffinity, names.NodePorts, names.NodeResourcesFit, names.VolumeRestrictions,
		names.NodeVolumeLimits, names.VolumeBinding, names.VolumeZone, names.PodTopologySpread, names.InterPodAffinity, names.DynamicResources, names.NodeDeclaredFeatures,
	)
	scoring = sets.New(
		names.TaintToleration, names.NodeAffinity, names.NodeResourcesFit, names.VolumeBinding, names.PodTopologySpread, names.InterPodAffinity,
		names.DynamicResources, names.NodeResourcesBalancedAllocation, names.ImageLocality,
	)
	holding    = sets.New(names.SchedulingGates, names.DefaultPreemption, names.DynamicResources)
	makingRoom = sets.New(names.DynamicResources, names.DefaultPreemption)
	other      = sets.New(
		names.SchedulingGates, names.PrioritySort, names.NodeName, names.DefaultPreemption, names.DefaultBinder,
	)
)

func newProfile(from *config.KubeSchedulerProfile) (scheduling.Profile, error) {
	p := scheduling.Profile{SchedulerName: from.SchedulerName, PreEnqueues: map[string]bool{}, PreFilters: map[string]bool{}, Filters: map[string]bool{}, Weights: map[string]int64{}}
	plugins := from.Plugins
	if err := checkPlugins(plugins); err != nil {
		return p, err
	}
	for name := range at(plugins, plugins.PreEnqueue, holding) {
		p.PreEnqueues[name] = true
	}
	delete(p.PreEnqueues, names.DefaultPreemption) // it holds pods while a preemption of theirs is under way, and here none is
	for name := range at(plugins, plugins.PreFilter, filtering) {
		if scheduling.PreFiltering[name] {
			p.PreFilters[name] = true
		}
	}
	for name := range at(plugins, plugins.Filter, filtering) {
		p.Filters[name] = true
	}
	for name, weight := range at(plugins, plugins.Score, scoring) {
		p.Weights[name] = max(int64(weight), 1) // as NewFramework does
	}
	if p.Filters[names.DynamicResources] != p.PreFilters[names.DynamicResources] {
		return p, errors.New("plugins: DynamicResources is on at one of preFilter and filter, and off at the other")
	}
	postFilters := at(plugins, plugins.PostFilter, makingRoom)
	_, p.Preempts = postFilters[names.DefaultPreemption]
	_, p.GivesBack = postFilters[names.DynamicResources]
	if judgesVolumes(p.Filters) && !p.Filters[names.VolumeBinding] {
		return p, errors.New("plugins: VolumeBinding is off and other plugins about volumes are not: switch off VolumeRestrictions, " +
			"NodeVolumeLimits and VolumeZone as well")
	}
	for i := range from.PluginConfig {
		if err := checkFit(i, from.PluginConfig[i].Args); err != nil {
			return p, err
		}
		take(&p, from.PluginConfig[i].Args)
	}
	return p, nil
}

// checkFit checks what NodeResourcesFit is told. Upstream's validation of the file looks for it by another name, so that
// only the plugin checks it.
//
// Upstream: NewFit in pkg/scheduler/framework/plugins/noderesources/fit.go.
func checkFit(at int, args runtime.Object) error {
	fit, ok := args.(*config.NodeResourcesFitArgs)
	if !ok {
		return nil
	}
	return validation.ValidateNodeResourcesFitArgs(field.NewPath("pluginConfig").Index(at).Child("args"), fit)
}

func judgesVolumes(filters map[string]bool) bool {
	return filters[names.VolumeRestrictions] || filters[names.NodeVolumeLimits] || filters[names.VolumeZone]
}

// at is the plugins that act at one extension point, with their weights.
//
// Upstream: expandMultiPointPlugins in pkg/scheduler/framework/runtime/framework.go.
func at(plugins *config.Plugins, point config.PluginSet, able sets.Set[string]) map[string]int32 {
	out := map[string]int32{}
	off := sets.New[string]()
	for _, plugin := range point.Disabled {
		off.Insert(plugin.Name)
	}
	if !off.Has("*") {
		for _, plugin := range plugins.MultiPoint.Enabled {
			if able.Has(plugin.Name) && !off.Has(plugin.Name) {
				out[plugin.Name] = plugin.Weight
			}
		}
	}
	for _, plugin := range point.Enabled {
		out[plugin.Name] = plugin.Weight
	}
	return out
}

// take reads what a plugin is told.
func take(p *scheduling.Profile, args runtime.Object) {
	switch a := args.(type) {
	case *config.NodeAffinityArgs:
		p.AddedAffinity = a.AddedAffinity
	case *config.NodeResourcesFitArgs:
		p.IgnoredResources, p.IgnoredResourceGroups = setOf(a.IgnoredResources), setOf(a.IgnoredResourceGroups)
		p.Fit = scoringOf(a.ScoringStrategy)
	case *config.NodeResourcesBalancedAllocationArgs:
		for _, r := range a.Resources {
			p.Balanced = append(p.Balanced, corev1.ResourceName(r.Name))
		}
	case *config.PodTopologySpreadArgs:
		p.SystemDefaults, p.DefaultConstraints = a.DefaultingType == config.SystemDefaulting, a.DefaultConstraints
	case *config.InterPodAffinityArgs:
		p.HardPodAffinityWeight, p.IgnorePreferredTerms = int64(a.HardPodAffinityWeight), a.IgnorePreferredTermsOfExistingPods
	case *config.DynamicResourcesArgs:
		if a.BindingTimeout != nil {
			p.BindingTimeout = a.BindingTimeout.Duration
		}
	case *config.VolumeBindingArgs:
		p.VolumeShape = shapeOf(a.Shape)
	}
}

func setOf(list []string) map[string]bool {
	out := map[string]bool{}
	for _, name := range list {
		out[name] = true
	}
	return out
}

func scoringOf(s *config.ScoringStrategy) scheduling.Scoring {
	out := scheduling.Scoring{Strategy: scheduling.Strategy(s.Type)}
	for _, r := range s.Resources {
		out.Resources = append(out.Resources, scheduling.WeightedResource{Name: corev1.ResourceName(r.Name), Weight: r.Weight})
	}
	if s.RequestedToCapacityRatio != nil {
		out.Shape = shapeOf(s.RequestedToCapacityRatio.Shape)
	}
	return out
}

// shapeOf scales scores of up to 10 to those of up to 100.
func shapeOf(points []config.UtilizationShapePoint) scheduling.Shape {
	var out scheduling.Shape
	for _, p := range points {
		out = append(out, scheduling.Point{Utilization: int64(p.Utilization), Score: int64(p.Score) * (100 / config.MaxCustomPriorityScore)})
	}
	return out
}
