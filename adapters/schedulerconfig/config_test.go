package schedulerconfig_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/schedulerconfig"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

func parse(t *testing.T, profiles string) ([]scheduling.Profile, error) {
	t.Helper()
	return schedulerconfig.Parse([]byte("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n" + profiles))
}

func TestAnEmptyConfigurationIsTheDefaultProfile(t *testing.T) {
	got, err := parse(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := scheduling.DefaultProfile()
	want.IgnoredResources, want.IgnoredResourceGroups = map[string]bool{}, map[string]bool{}
	if diff := cmp.Diff([]scheduling.Profile{want}, got); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
}

func TestProfilesSayWhichPluginsActAndHow(t *testing.T) {
	got, err := parse(t, `
podInitialBackoffSeconds: 3
podMaxBackoffSeconds: 60
profiles:
- schedulerName: packing
  plugins:
    multiPoint:
      disabled: [{name: ImageLocality}]
    filter:
      disabled: [{name: NodePorts}]
    score:
      disabled: [{name: PodTopologySpread}]
      enabled: [{name: NodeResourcesFit, weight: 9}]
    postFilter:
      disabled: [{name: "*"}]
    preEnqueue:
      disabled: [{name: SchedulingGates}, {name: DefaultPreemption}]
    preScore:
      disabled: [{name: NodeResourcesFit}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      ignoredResources: [example.com/gpu]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 3}]
        requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 7}
- schedulerName: default-scheduler
`)
	if err != nil {
		t.Fatal(err)
	}
	want := scheduling.DefaultProfile()
	want.SchedulerName, want.Preempts, want.GivesBack, want.HardPodAffinityWeight = "packing", false, false, 7
	want.PreEnqueues = map[string]bool{scheduling.DynamicResources: true}
	want.InitialBackoff, want.MaxBackoff = 3*time.Second, time.Minute
	delete(want.Filters, scheduling.NodePorts)
	delete(want.Weights, scheduling.PodTopologySpread)
	delete(want.Weights, scheduling.ImageLocality)
	want.Weights[scheduling.NodeResourcesFit] = 9
	want.IgnoredResources, want.IgnoredResourceGroups = map[string]bool{"example.com/gpu": true}, map[string]bool{}
	want.Fit = scheduling.Scoring{
		Strategy: scheduling.RequestedToCapacityRatio, Resources: []scheduling.WeightedResource{{Name: "cpu", Weight: 3}},
		Shape: scheduling.Shape{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 100}},
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
	if got[1].SchedulerName != "default-scheduler" || got[1].Weights[scheduling.NodeResourcesFit] != 1 {
		t.Errorf("the other profile is %+v", got[1])
	}
}

func TestWhatCannotBeFollowedIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ profiles, says string }{
		"a misspelt field":      {"profile: []\n", `unknown field "profile"`},
		"a plugin of nobody's":  {"profiles: [{plugins: {multiPoint: {enabled: [{name: Mine}]}}}]\n", `profiles[0].plugins.multiPoint: there is no plugin "Mine"`},
		"a permit of nobody's":  {"profiles: [{plugins: {permit: {enabled: [{name: Mine}]}}}]\n", `plugins.permit: there is no plugin "Mine"`},
		"a score that is none":  {"profiles: [{plugins: {score: {enabled: [{name: NodePorts}]}}}]\n", `plugins.score: plugin "NodePorts" does nothing there`},
		"a plugin twice":        {"profiles: [{plugins: {score: {enabled: [{name: NodeAffinity}, {name: NodeAffinity}]}}}]\n", "listed twice"},
		"a negative weight":     {"profiles: [{plugins: {score: {enabled: [{name: NodeAffinity, weight: -5}]}}}]\n", "must not be negative"},
		"no order":              {"profiles: [{plugins: {queueSort: {disabled: [{name: \"*\"}]}}}]\n", "plugins.queueSort: PrioritySort must be on"},
		"no binding":            {"profiles: [{plugins: {bind: {disabled: [{name: DefaultBinder}]}}}]\n", "plugins.bind: DefaultBinder must be on"},
		"nothing at all":        {"profiles: [{plugins: {multiPoint: {disabled: [{name: \"*\"}]}}}]\n", "must be on"},
		"a filter without eyes": {"profiles: [{plugins: {preFilter: {disabled: [{name: NodeResourcesFit}]}}}]\n", "NodeResourcesFit is on at filter and off at preFilter"},
		"a score without eyes":  {"profiles: [{plugins: {preScore: {disabled: [{name: PodTopologySpread}]}}}]\n", "PodTopologySpread is on at score and off at preScore"},
		"volumes never looked at": {
			"profiles: [{plugins: {filter: {disabled: [{name: VolumeBinding}, {name: VolumeRestrictions}, {name: NodeVolumeLimits}, {name: VolumeZone}]}, preFilter: {disabled: [{name: VolumeBinding}]}}}]\n",
			"VolumeBinding is on at preScore and off at preFilter",
		},
		"volumes never bound": {"profiles: [{plugins: {preBind: {disabled: [{name: VolumeBinding}]}}}]\n", "VolumeBinding is on at filter and off at preBind"},
		"no such strategy": {
			"profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Tetris}}}]}]\n",
			`pluginConfig[0].args.scoringStrategy.type: Unsupported value: "Tetris"`,
		},
		"a weight of a resource": {
			"profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: LeastAllocated, resources: [{name: cpu, weight: 101}]}}}]}]\n",
			"pluginConfig[0].args.scoringStrategy.resources[0].weight",
		},
		"an extender": {"extenders: [{urlPrefix: http://localhost, filterVerb: filter}]\n", "extenders"},
		"a bad shape": {
			"profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio}}}]}]\n", "scoringStrategy",
		},
		"volumes half judged": {"profiles: [{plugins: {filter: {disabled: [{name: VolumeBinding}]}}}]\n", "VolumeBinding is off"},
		"two of one name":     {"profiles: [{schedulerName: a}, {schedulerName: a}]\n", "profiles[1].schedulerName"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, c.profiles)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want one that says %q", err, c.says)
			}
		})
	}
}
