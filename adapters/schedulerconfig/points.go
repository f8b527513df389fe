package schedulerconfig

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
)

// point is an extension point: its name in the file, what the file says of it, and the plugins that act there.
type point struct {
	name string
	set  config.PluginSet
	able sets.Set[string]
}

// on are the plugins that act there.
func (p point) on(plugins *config.Plugins) sets.Set[string] {
	return sets.KeySet(at(plugins, p.set, p.able))
}

// actingBefore are the plugins that look at a pod before nodes are looked at.
var actingBefore = sets.New(
	names.NodeName, names.NodeUnschedulable, names.TaintToleration, names.NodeAffinity, names.NodePorts, names.NodeResourcesFit, names.VolumeRestrictions,
	names.NodeVolumeLimits, names.VolumeBinding, names.VolumeZone, names.PodTopologySpread, names.InterPodAffinity, names.DynamicResources, names.NodeDeclaredFeatures,
)

// points are all of them. Which plugin acts where is compared with upstream's registry in tests/oracle.
//
// Upstream: getExtensionPoints in pkg/scheduler/framework/runtime/framework.go.
func points(p *config.Plugins) []point {
	return []point{
		{"preEnqueue", p.PreEnqueue, holding},
		{"queueSort", p.QueueSort, sets.New(names.PrioritySort)},
		{"preFilter", p.PreFilter, actingBefore},
		{"filter", p.Filter, filtering.Union(sets.New(names.NodeName))},
		{"postFilter", p.PostFilter, makingRoom},
		{"preScore", p.PreScore, sets.New(
			names.TaintToleration, names.NodeAffinity, names.NodeResourcesFit, names.VolumeBinding, names.PodTopologySpread, names.InterPodAffinity,
			names.NodeResourcesBalancedAllocation,
		)},
		{"score", p.Score, scoring},
		{"reserve", p.Reserve, sets.New(names.VolumeBinding, names.DynamicResources)},
		{"permit", p.Permit, nil},
		{"preBind", p.PreBind, sets.New(names.VolumeBinding, names.DynamicResources)},
		{"bind", p.Bind, sets.New(names.DefaultBinder)},
		{"postBind", p.PostBind, nil},
		{"placementGenerate", p.PlacementGenerate, nil},
		{"placementScore", p.PlacementScore, sets.New(names.NodeResourcesFit)},
		{"podGroupPostFilter", p.PodGroupPostFilter, sets.New(names.DynamicResources)},
	}
}

// checkPlugins refuses what upstream's scheduler does not start with, and what checkTogether does.
//
// Upstream: NewFramework and updatePluginList in pkg/scheduler/framework/runtime/framework.go.
func checkPlugins(plugins *config.Plugins) error {
	if err := checkSet("multiPoint", plugins.MultiPoint, filtering.Union(scoring).Union(other)); err != nil {
		return err
	}
	on := map[string]sets.Set[string]{}
	for _, p := range points(plugins) {
		if err := checkSet(p.name, p.set, p.able); err != nil {
			return err
		}
		on[p.name] = p.on(plugins)
	}
	for _, p := range []struct{ name, needs string }{{"queueSort", names.PrioritySort}, {"bind", names.DefaultBinder}} {
		if !on[p.name].Has(p.needs) {
			return fmt.Errorf("plugins.%s: %s must be on", p.name, p.needs)
		}
	}
	return checkTogether(on)
}

// checkTogether refuses what upstream's scheduler starts with and then fails for every pod, and what cannot be followed: a plugin
// that is on at a point and off at one before it on which that depends.
func checkTogether(on map[string]sets.Set[string]) error {
	for _, name := range stateful {
		if on["filter"].Has(name) && !on["preFilter"].Has(name) {
			return fmt.Errorf("plugins: %s is on at filter and off at preFilter, on which that depends", name)
		}
	}
	for _, name := range statefulScores {
		if on["score"].Has(name) && !on["preScore"].Has(name) {
			return fmt.Errorf("plugins: %s is on at score and off at preScore, on which that depends", name)
		}
	}
	for _, name := range []string{names.VolumeBinding, names.DynamicResources} {
		for _, p := range []string{"preFilter", "reserve", "preBind"} {
			if on["filter"].Has(name) && !on[p].Has(name) {
				return fmt.Errorf("plugins: %s is on at filter and off at %s, without which no pod gets what was found for it", name, p)
			}
		}
		for _, p := range []string{"preEnqueue", "postFilter", "preScore", "score", "reserve", "preBind"} {
			if on[p].Has(name) && !on["preFilter"].Has(name) {
				return fmt.Errorf("plugins: %s is on at %s and off at preFilter, on which that depends", name, p)
			}
		}
	}
	return nil
}

// stateful are the plugins whose Filter fails without what their PreFilter has found, and statefulScores those whose Score fails
// without their PreScore. Of the others NodeAffinity, NodeResourcesFit and NodeResourcesBalancedAllocation find the same
// later, and VolumeBinding looks for nothing there.
var (
	stateful = []string{
		names.NodePorts, names.NodeResourcesFit, names.VolumeRestrictions, names.PodTopologySpread, names.InterPodAffinity, names.NodeDeclaredFeatures,
	}
	statefulScores = []string{names.TaintToleration, names.PodTopologySpread, names.InterPodAffinity}
)

// checkSet looks at what is on at one point.
func checkSet(at string, set config.PluginSet, able sets.Set[string]) error {
	seen := sets.New[string]()
	for _, plugin := range set.Enabled {
		switch {
		case !filtering.Has(plugin.Name) && !scoring.Has(plugin.Name) && !other.Has(plugin.Name):
			return fmt.Errorf("plugins.%s: there is no plugin %q", at, plugin.Name)
		case !able.Has(plugin.Name):
			return fmt.Errorf("plugins.%s: plugin %q does nothing there", at, plugin.Name)
		case seen.Has(plugin.Name):
			return fmt.Errorf("plugins.%s: plugin %q is listed twice", at, plugin.Name)
		case plugin.Weight < 0:
			return fmt.Errorf("plugins.%s: plugin %q: weight must not be negative", at, plugin.Name)
		}
		seen.Insert(plugin.Name)
	}
	return nil
}
