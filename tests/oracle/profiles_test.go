package oracle_test

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"pgregory.net/rapid"

	ours "github.com/zeroplane/zeroplane/adapters/schedulerconfig"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

// anyProfile is the default profile half of the time, and else one that was changed here and there; nil for the default.
func anyProfile(t *rapid.T) *schedulerconfig.KubeSchedulerProfile {
	if rapid.Bool().Draw(t, "by default") {
		return nil
	}
	config, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	p := &config.Profiles[0]
	anyPlugins(t, p.Plugins)
	for i := range p.PluginConfig {
		switch args := p.PluginConfig[i].Args.(type) {
		case *schedulerconfig.NodeAffinityArgs:
			args.AddedAffinity = anyAddedAffinity(t)
		case *schedulerconfig.NodeResourcesFitArgs:
			anyFit(t, args)
		case *schedulerconfig.NodeResourcesBalancedAllocationArgs:
			if rapid.Bool().Draw(t, "balances others") {
				args.Resources = nil
				for _, name := range []string{"cpu", "memory", "ephemeral-storage", "example.com/gpu", "hugepages-2Mi"} {
					if rapid.Bool().Draw(t, "balances "+name) || name == "cpu" {
						args.Resources = append(args.Resources, schedulerconfig.ResourceSpec{Name: name, Weight: 1})
					}
				}
			}
		case *schedulerconfig.InterPodAffinityArgs:
			args.HardPodAffinityWeight = int32(rapid.SampledFrom([]int{0, 1, 50, 100}).Draw(t, "hard weight"))
			args.IgnorePreferredTermsOfExistingPods = rapid.Bool().Draw(t, "ignores preferred terms")
		case *schedulerconfig.PodTopologySpreadArgs:
			if rapid.Bool().Draw(t, "own defaults") {
				args.DefaultingType = schedulerconfig.ListDefaulting
				args.DefaultConstraints = anyDefaultConstraints(t)
			}
		case *schedulerconfig.VolumeBindingArgs:
			if rapid.Bool().Draw(t, "own shape") {
				args.Shape = anyShape(t)
			}
		}
	}
	return p
}

func anyPlugins(t *rapid.T, plugins *schedulerconfig.Plugins) {
	some := func(set *schedulerconfig.PluginSet, of []string, label string) {
		for _, name := range of {
			if rapid.IntRange(0, 9).Draw(t, label+name) == 0 {
				set.Disabled = append(set.Disabled, schedulerconfig.Plugin{Name: name})
			}
		}
	}
	some(&plugins.Filter, []string{
		names.NodeUnschedulable, names.TaintToleration, names.NodePorts, names.NodeResourcesFit, names.NodeVolumeLimits, names.VolumeZone,
		names.NodeAffinity, names.PodTopologySpread, names.InterPodAffinity, names.VolumeRestrictions, names.NodeDeclaredFeatures,
	}, "does not filter by ")
	some(&plugins.PreEnqueue, []string{names.SchedulingGates, names.DynamicResources, names.DefaultPreemption}, "does not hold by ")
	some(&plugins.PreFilter, []string{
		names.NodeName, names.NodeUnschedulable, names.TaintToleration, names.NodeAffinity, names.NodeVolumeLimits, names.VolumeZone,
	}, "does not look ahead by ")
	some(&plugins.PreScore, []string{
		names.NodeAffinity, names.NodeResourcesFit, names.NodeResourcesBalancedAllocation, names.VolumeBinding,
	}, "does not score ahead by ")
	some(&plugins.PostFilter, []string{names.DynamicResources, names.DefaultPreemption}, "makes no room by ")
	scoring := []string{
		names.TaintToleration, names.NodeAffinity, names.NodeResourcesFit, names.PodTopologySpread, names.InterPodAffinity,
		names.NodeResourcesBalancedAllocation, names.ImageLocality, names.VolumeBinding,
	}
	if rapid.IntRange(0, 9).Draw(t, "knows no devices") != 0 {
		scoring = append(scoring, names.DynamicResources)
	} else {
		plugins.MultiPoint.Enabled = slices.DeleteFunc(plugins.MultiPoint.Enabled, func(p schedulerconfig.Plugin) bool { return p.Name == names.DynamicResources })
	}
	for _, name := range scoring {
		switch rapid.IntRange(0, 9).Draw(t, "weighs "+name) {
		case 0:
			plugins.Score.Disabled = append(plugins.Score.Disabled, schedulerconfig.Plugin{Name: name})
		case 1:
			plugins.Score.Enabled = append(plugins.Score.Enabled, schedulerconfig.Plugin{Name: name, Weight: int32(rapid.IntRange(1, 9).Draw(t, "weight"))})
		}
	}
}

// knowsDevices reports whether the profile has the plugin about devices.
func (g grouping) knowsDevices() bool {
	return g.profile == nil || slices.ContainsFunc(g.profile.Plugins.MultiPoint.Enabled, func(p schedulerconfig.Plugin) bool { return p.Name == names.DynamicResources })
}

func anyAddedAffinity(t *rapid.T) *corev1.NodeAffinity {
	added := &corev1.NodeAffinity{}
	if rapid.IntRange(0, 2).Draw(t, "adds a requirement") == 0 {
		added.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{anyTerm(t)}}
	}
	if rapid.IntRange(0, 2).Draw(t, "adds a preference") == 0 {
		added.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{Weight: int32(rapid.IntRange(1, 100).Draw(t, "added weight")), Preference: anyTerm(t)}}
	}
	return added
}

func anyFit(t *rapid.T, args *schedulerconfig.NodeResourcesFitArgs) {
	if rapid.IntRange(0, 2).Draw(t, "ignores") == 0 {
		args.IgnoredResources = []string{"example.com/gpu"}
	}
	if rapid.IntRange(0, 4).Draw(t, "ignores a group") == 0 {
		args.IgnoredResourceGroups = []string{"example.com"}
	}
	strategy := &schedulerconfig.ScoringStrategy{Type: rapid.SampledFrom([]schedulerconfig.ScoringStrategyType{
		schedulerconfig.LeastAllocated, schedulerconfig.MostAllocated, schedulerconfig.RequestedToCapacityRatio,
	}).Draw(t, "strategy")}
	// What classes of devices back is scored here only: upstream's other plugin has no cache for their expressions, and ends in a panic.
	for _, name := range []string{"cpu", "memory", "ephemeral-storage", "example.com/gpu", "hugepages-2Mi", drawn, "deviceclass.resource.kubernetes.io/gpu"} {
		if rapid.Bool().Draw(t, "scores "+name) || name == "cpu" {
			strategy.Resources = append(strategy.Resources, schedulerconfig.ResourceSpec{Name: name, Weight: int64(rapid.IntRange(1, 5).Draw(t, "resource weight"))})
		}
	}
	if strategy.Type == schedulerconfig.RequestedToCapacityRatio {
		strategy.RequestedToCapacityRatio = &schedulerconfig.RequestedToCapacityRatioParam{Shape: anyShape(t)}
	}
	args.ScoringStrategy = strategy
}

func anyShape(t *rapid.T) []schedulerconfig.UtilizationShapePoint {
	var shape []schedulerconfig.UtilizationShapePoint
	for _, utilization := range rapid.SampledFrom([][]int32{{0, 100}, {0, 30, 100}, {20}, {10, 20, 90}}).Draw(t, "utilizations") {
		shape = append(shape, schedulerconfig.UtilizationShapePoint{Utilization: utilization, Score: int32(rapid.IntRange(0, 10).Draw(t, "score"))})
	}
	return shape
}

func anyDefaultConstraints(t *rapid.T) []corev1.TopologySpreadConstraint {
	var out []corev1.TopologySpreadConstraint
	for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone, "zone"} {
		if rapid.Bool().Draw(t, "spreads over "+key) {
			out = append(out, corev1.TopologySpreadConstraint{
				MaxSkew: int32(rapid.IntRange(1, 3).Draw(t, "default skew")), TopologyKey: key,
				WhenUnsatisfiable: rapid.SampledFrom([]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}).Draw(t, "by default when"),
			})
		}
	}
	return out
}

// clusterFor is an empty cluster with a profile of upstream's.
func clusterFor(t *rapid.T, profile *schedulerconfig.KubeSchedulerProfile) *scheduling.Cluster {
	if profile == nil {
		return scheduling.NewCluster()
	}
	config, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	config.Profiles = []schedulerconfig.KubeSchedulerProfile{*profile}
	profiles, err := ours.Profiles(config)
	if err != nil {
		t.Fatal(err)
	}
	return scheduling.NewCluster(profiles...)
}
