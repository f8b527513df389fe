package oracle_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"

	ours "github.com/zeroplane/zeroplane/adapters/schedulerconfig"
)

// starts reports whether upstream's scheduler starts with the first profile of a configuration.
func starts(t *testing.T, text string) error {
	t.Helper()
	_, err := startedOver(t, text, nil)
	return err
}

// startedOver is its framework over nodes.
func startedOver(t *testing.T, text string, nodes []*corev1.Node) (framework.Framework, error) {
	t.Helper()
	obj, _, err := scheme.Codecs.UniversalDecoder().Decode([]byte(text), nil, nil)
	if err != nil {
		return nil, err
	}
	profile := obj.(*schedulerconfig.KubeSchedulerConfiguration).Profiles[0]
	klog.SetLogger(logr.Discard()) // it tells what profiles override
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	snapshot := cache.NewSnapshot(nil, nodes)
	return frameworkruntime.NewFramework(t.Context(), plugins.NewInTreeRegistry(), &profile,
		frameworkruntime.WithClientSet(client), frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithSnapshotSharedLister(snapshot), frameworkruntime.WithMutableSnapshotLister(snapshot),
		frameworkruntime.WithSharedDRAManager((&rack{}).manager(t, factory)), frameworkruntime.WithEventRecorder(&events.FakeRecorder{}),
		frameworkruntime.WithPodNominator(&nominated{}), frameworkruntime.WithPodActivator(&nominated{}),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()), frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
	)
}

// placesOne has a framework place a pod that asks for nothing on one of two nodes.
//
// Upstream: schedulePod and bindingCycle in pkg/scheduler/schedule_one.go.
func placesOne(t *testing.T, f framework.Framework) error {
	t.Helper()
	pod, state := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}}, framework.NewCycleState()
	infos, err := f.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		t.Fatal(err)
	}
	_, status, _ := f.RunPreFilterPlugins(t.Context(), state, pod)
	for _, info := range infos {
		if status.IsSuccess() {
			status = f.RunFilterPlugins(t.Context(), state, pod, info)
		}
	}
	node := infos[0].Node().Name
	for _, step := range []func(){
		func() { status = f.RunPreScorePlugins(t.Context(), state, pod, infos) },
		func() { _, status = f.RunScorePlugins(t.Context(), state, pod, infos) },
		func() { status = f.RunReservePluginsReserve(t.Context(), state, pod, node) },
		func() { status = f.RunPreBindPreFlights(t.Context(), state, pod, node) },
		func() { status = f.RunPreBindPlugins(t.Context(), state, pod, node) },
	} {
		if status.IsSuccess() || status.IsSkip() {
			step()
		}
	}
	if status.IsSkip() {
		return nil
	}
	return status.AsError()
}

func configuration(profile string) string {
	return "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- " + profile + "\n"
}

// Every plugin at every extension point: what upstream does not start with is refused here, and nothing else is.
func TestAPluginActsWhereUpstreamSaysThatItDoes(t *testing.T) {
	metrics.Register()
	refused := 0
	for _, at := range []string{
		"preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "permit", "preBind", "bind", "postBind",
	} {
		for name := range followed {
			text := configuration(fmt.Sprintf("{plugins: {%s: {enabled: [{name: %s}]}}}", at, name))
			upstream := starts(t, text)
			_, err := ours.Parse([]byte(text))
			if (upstream == nil) != (err == nil) {
				t.Errorf("%s at %s: upstream says %v, we %v", name, at, upstream, err)
			}
			if upstream != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("upstream refused nothing")
	}
}

// Every plugin, off at one extension point, and on at one only: where upstream starts and then fails for a pod that asks for nothing, the
// configuration is refused here.
func TestWhatUpstreamFailsForEveryPodWithIsRefused(t *testing.T) {
	metrics.Register()
	failed := 0
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("9")}
	var nodes []*corev1.Node
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Allocatable: room}})
	}
	for _, at := range []string{"preEnqueue", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "preBind"} {
		for name := range followed {
			for _, profile := range []string{
				fmt.Sprintf("{plugins: {%s: {disabled: [{name: %s}]}}}", at, name),
				fmt.Sprintf("{plugins: {multiPoint: {disabled: [{name: %s}]}, %s: {enabled: [{name: %s}]}}}", name, at, name),
			} {
				text := configuration(profile)
				f, err := startedOver(t, text, nodes)
				if err != nil {
					continue
				}
				fails := placesOne(t, f)
				if fails != nil {
					failed++
				}
				if _, err := ours.Parse([]byte(text)); fails != nil && err == nil {
					t.Errorf("%s is taken, and upstream says %v", profile, fails)
				}
			}
		}
	}
	if failed == 0 {
		t.Error("upstream placed every pod")
	}
	t.Logf("figure: %d configurations with which upstream places no pod", failed)
}

func TestWhatUpstreamDoesNotStartWithIsRefused(t *testing.T) {
	metrics.Register()
	fit := func(args string) string { return "{pluginConfig: [{name: NodeResourcesFit, args: " + args + "}]}" }
	for _, profile := range []string{
		`{plugins: {permit: {enabled: [{name: Mine}]}}}`,
		`{plugins: {preScore: {enabled: [{name: Mine}]}}}`,
		`{plugins: {multiPoint: {disabled: [{name: "*"}]}}}`,
		`{plugins: {queueSort: {disabled: [{name: "*"}]}}}`,
		`{plugins: {bind: {disabled: [{name: DefaultBinder}]}}}`,
		`{plugins: {score: {enabled: [{name: NodeAffinity, weight: 2}, {name: NodeAffinity, weight: 3}]}}}`,
		fit(`{scoringStrategy: {type: Tetris}}`),
		fit(`{scoringStrategy: {type: RequestedToCapacityRatio}}`),
		fit(`{scoringStrategy: {type: LeastAllocated, resources: [{name: cpu, weight: 101}]}}`),
		fit(`{scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 50, score: 1}, {utilization: 50, score: 2}]}}}`),
		fit(`{ignoredResourceGroups: ["a/b"]}`),
	} {
		text := configuration(profile)
		if err := starts(t, text); err == nil {
			t.Errorf("%s: upstream starts with it", profile)
		}
		_, err := ours.Parse([]byte(text))
		if err == nil {
			t.Errorf("%s: it was taken", profile)
		} else if !strings.HasPrefix(err.Error(), "profiles[0].") {
			t.Errorf("%s: the error does not name the profile: %v", profile, err)
		}
	}
}
