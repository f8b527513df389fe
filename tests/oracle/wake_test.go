package oracle_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"pgregory.net/rapid"
)

// happening is a change of one object: it came, went, or is another.
type happening struct {
	// of is the kind, with what happened.
	of       string
	events   []fwk.ClusterEvent
	old, now runtime.Object
}

// refusing are the plugins that refuse nodes. NodeName refuses those of pods that do not wait, SchedulingGates pods
// that are not looked at, and DefaultPreemption none.
var refusing = []string{
	names.NodeUnschedulable, names.TaintToleration, names.NodeAffinity, names.NodePorts, names.NodeResourcesFit, names.PodTopologySpread,
	names.InterPodAffinity, names.VolumeRestrictions, names.NodeVolumeLimits, names.VolumeBinding, names.VolumeZone, names.NodeDeclaredFeatures,
	names.DynamicResources,
}

// wider are the changes by which pods are tried here and not upstream, and why: each may let a pod in.
var wider = map[string]string{
	"NodeAffinity Node Update":                      "the profile's affinity matches now, the pod's did before",
	"PodTopologySpread Node Update":                 "the pod's own affinity tells which nodes count",
	"PodTopologySpread AssignedPod Update":          "pods that leave do not count",
	"InterPodAffinity Node Add":                     "another pod's anti-affinity keeps the pod off all other nodes",
	"InterPodAffinity Node Update":                  "another pod's anti-affinity has that topology key, or no pod that the pod must be near to is in a domain then",
	"InterPodAffinity Node Delete":                  "pods on it are in no domain then",
	"InterPodAffinity AssignedPod Add":              "a namespace has labels, which upstream does not look at here",
	"InterPodAffinity AssignedPod Update":           "one term chooses the pod no more, though another does now; or the pod is the first of those that it must be near to",
	"InterPodAffinity AssignedPod Delete":           "a namespace has labels; or the pod is the first of those that it must be near to",
	"NodeResourcesFit Node Add":                     "the profile ignores a resource that the node lacks",
	"NodeResourcesFit Node Update":                  "the profile ignores a resource that the node lacks",
	"NodeVolumeLimits AssignedPod Delete":           "a disk inside the pod that went is looked at, whether a driver attaches it or not",
	"VolumeRestrictions AssignedPod Delete":         "disks are disks in all namespaces",
	"VolumeRestrictions Node Delete":                "pods on it use no claims then",
	"NodeVolumeLimits Node Add":                     "a node without a CSINode has no limits",
	"NodeVolumeLimits AssignedPod Add":              "a volume that the pod needs is attached already then",
	"NodeVolumeLimits PersistentVolumeClaim Add":    "other volumes are attached then",
	"NodeVolumeLimits PersistentVolumeClaim Update": "other volumes are attached then",
	"NodeVolumeLimits PersistentVolumeClaim Delete": "other volumes are attached then",
	"NodeVolumeLimits PersistentVolume Add":         "it tells which volume a claim is attached as",
	"NodeVolumeLimits PersistentVolume Update":      "it tells which volume a claim is attached as",
	"NodeVolumeLimits PersistentVolume Delete":      "it tells which volume a claim is attached as",
	"NodeVolumeLimits StorageClass Add":             "it tells which driver attaches a claim",
	"NodeVolumeLimits StorageClass Update":          "it tells which driver attaches a claim",
	"NodeVolumeLimits StorageClass Delete":          "it tells which driver attaches a claim",
	"NodeVolumeLimits CSINode Update":               "a limit went, or a driver without one came, or a plugin migrated",
	"NodeVolumeLimits CSINode Delete":               "a node without a CSINode has no limits",
	"NodeVolumeLimits CSIDriver Update":             "the driver need not be on the node any more",
	"NodeVolumeLimits CSIDriver Delete":             "the driver need not be on the node any more",
	"NodeVolumeLimits VolumeAttachment Delete":      "upstream looks at claims and volumes inside the pod, and not at ephemeral ones",
	"NodeVolumeLimits VolumeAttachment Update":      "it is one of something else",
	"VolumeBinding PersistentVolume Delete":         "it was for a claim of the pod, which gets another now",
	"VolumeBinding CSINode Delete":                  "volumes are not those of a driver there any more",
	"VolumeBinding CSIDriver Update":                "upstream looks at drivers of volumes inside the pod",
	"VolumeBinding CSIDriver Delete":                "capacity is not counted any more",
	"DynamicResources ResourceClaim Add":            "it is for extended resources of the pod; or another claim of the pod is missing",
	"DynamicResources ResourceClaim Update":         "it has other devices than before; or another claim of the pod is missing",
	"DynamicResources ResourceClaim Delete":         "it was left over for extended resources of the pod",
	"DynamicResources ResourceSlice Delete":         "its pool is whole without it",
	"DynamicResources DeviceClass Delete":           "another class is of that name for devices then",
}

func TestPodsAreTriedWhereverUpstreamTriesThem(t *testing.T) {
	manyChecks(t)
	answers := map[string]map[bool]int{}
	for _, plugin := range refusing {
		answers[plugin] = map[bool]int{}
	}
	used := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		nodes, assigned, pending := anyCluster(t, 1)
		pod := pending[0]
		pod.Status.NominatedNodeName = ""
		askOfOthers(t, pod)
		stored := anyShelf(t, nodes, assigned, pending, true)
		groups := anyGrouping(t)
		groups.profile = anyProfile(t)
		racked := anyRack(t, nodes, pending)
		racked.leave(t, pod)
		what := anyHappening(t, nodes, assigned, stored, racked)
		kept := clusterFor(t, groups.profile)
		for _, node := range nodes {
			kept.SetNode(node)
		}
		for _, other := range assigned {
			kept.SetPod(other)
		}
		groups.tell(kept)
		stored.tell(kept)
		racked.tell(kept)
		asked := (&replay{nodes: nodes, assigned: assigned, pending: pending, groups: groups, stored: stored, devices: racked.after(what)}).upstream(t)
		filters := asked.framework.ListPlugins().Filter.Enabled
		for _, plugin := range asked.framework.EnqueueExtensions() {
			acts := slices.ContainsFunc(filters, func(f schedulerconfig.Plugin) bool { return f.Name == plugin.Name() })
			if !acts || !slices.Contains(refusing, plugin.Name()) {
				continue
			}
			want, got := queues(t, plugin, pod, what), kept.Wakes(plugin.Name(), pod, what.old, what.now)
			answers[plugin.Name()][want]++
			switch named := plugin.Name() + " " + what.of; {
			case want && !got:
				t.Fatalf("%s has pod %s tried upstream: %+v, then %+v", named, describe(pod), what.old, what.now)
			case got && !want:
				used[named]++
			}
		}
	})
	t.Logf("figure: tried or not upstream, by plugin %v; only here %v", answers, used)
	for plugin, of := range answers {
		if of[true] == 0 || of[false] == 0 {
			t.Errorf("%s never had a pod tried, or always: %v", plugin, of)
		}
	}
	for named := range wider { // some are rare
		if used[named] == 0 && os.Getenv("ZEROPLANE_LONG") != "" {
			t.Errorf("%s never had a pod tried only here", named)
		}
	}
	for named, times := range used {
		if wider[named] == "" {
			t.Errorf("%s had pods tried only here, %d times", named, times)
		}
	}
}

// Services and controllers say which pods default constraints select, and upstream tries nobody for them: it has no such event.
func TestUpstreamTriesPodsThatAreSpreadForPodsAndNodesOnly(t *testing.T) {
	metrics.Register()
	f, err := startedOver(t, configuration("{}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[fwk.EventResource]bool{}
	for _, plugin := range f.EnqueueExtensions() {
		if plugin.Name() != names.PodTopologySpread {
			continue
		}
		events, err := plugin.EventsToRegister(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got[e.Event.Resource] = true
		}
	}
	if want := map[fwk.EventResource]bool{fwk.AssignedPod: true, fwk.TargetPod: true, fwk.Node: true}; !maps.Equal(want, got) {
		t.Errorf("pods that PodTopologySpread refused are tried for %v, want %v", got, want)
	}
}

// askOfOthers has most pods ask something of pods on nodes, which few of random ones do.
func askOfOthers(t *rapid.T, pod *corev1.Pod) {
	affinity := &corev1.Affinity{}
	if pod.Spec.Affinity != nil {
		affinity.NodeAffinity = pod.Spec.Affinity.NodeAffinity
	}
	terms := func() []corev1.PodAffinityTerm {
		return rapid.SliceOfN(rapid.Custom(anyPodTerm), 1, 2).Draw(t, "required terms")
	}
	switch rapid.IntRange(0, 3).Draw(t, "asks of others") {
	case 0:
		affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms()}
	case 1:
		affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms()}
	case 2:
		pod.Spec.NodeSelector = map[string]string{"size": rapid.SampledFrom([]string{"1", "7"}).Draw(t, "of size")}
		anySpreading(t, pod)
	}
	pod.Spec.Affinity = affinity
}

// queues reports whether a plugin has a pod that it refused tried again.
//
// Upstream: isPodWorthRequeuing in backend/queue/scheduling_queue.go.
func queues(t *rapid.T, plugin fwk.EnqueueExtensions, pod *corev1.Pod, what happening) bool {
	registered, err := plugin.EventsToRegister(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range registered {
		for _, event := range what.events {
			if !framework.MatchClusterEvents(r.Event, event) {
				continue
			}
			if r.QueueingHintFn == nil {
				return true
			}
			if hint, err := r.QueueingHintFn(klog.Background(), pod, bare(what.old), bare(what.now)); err != nil || hint == fwk.Queue {
				return true
			}
		}
	}
	return false
}

// bare is an object as hints are given it: nil if there is none.
func bare(o runtime.Object) any {
	if o == nil {
		return nil
	}
	return o
}

// cameOrWent is a change of what there is or may be: a and b are two versions of it.
func cameOrWent[T any, O interface {
	*T
	runtime.Object
}](t *rapid.T, kind fwk.EventResource, a, b O, updated func(now, old O) []fwk.ClusterEvent) happening {
	switch rapid.IntRange(0, 3).Draw(t, "came or went") {
	case 0:
		return happening{of: path.Base(string(kind)) + " Add", now: b, events: []fwk.ClusterEvent{{Resource: kind, ActionType: fwk.Add}}}
	case 1:
		return happening{of: path.Base(string(kind)) + " Delete", old: a, events: []fwk.ClusterEvent{{Resource: kind, ActionType: fwk.Delete}}}
	}
	events := []fwk.ClusterEvent{{Resource: kind, ActionType: fwk.Update}}
	if updated != nil {
		events = updated(b, a)
	}
	return happening{of: path.Base(string(kind)) + " Update", old: a, now: b, events: events}
}

func anyHappening(t *rapid.T, nodes []*corev1.Node, assigned []*corev1.Pod, stored shelf, racked *rack) happening {
	kind := rapid.SampledFrom([]fwk.EventResource{
		fwk.Node, fwk.Node, fwk.Node, fwk.Node, fwk.AssignedPod, fwk.AssignedPod, fwk.AssignedPod, fwk.AssignedPod, fwk.PersistentVolumeClaim, fwk.PersistentVolume,
		fwk.StorageClass, fwk.CSINode, fwk.CSIDriver, fwk.CSIStorageCapacity, fwk.VolumeAttachment,
		fwk.ResourceClaim, fwk.ResourceClaim, fwk.ResourceSlice, fwk.DeviceClass,
	}).Draw(t, "happens to")
	switch {
	case kind == fwk.AssignedPod && len(assigned) > 0:
		a := rapid.SampledFrom(assigned).Draw(t, "pod")
		return cameOrWent(t, kind, a, otherPod(t, a, assigned), func(now, old *corev1.Pod) []fwk.ClusterEvent {
			return framework.PodSchedulingPropertiesChange(now, old, false)
		})
	case kind == fwk.Node && len(nodes) > 0, kind == fwk.AssignedPod && len(nodes) > 0:
		a := rapid.SampledFrom(nodes).Draw(t, "node")
		return cameOrWent(t, fwk.Node, a, otherNode(t, a), framework.NodeSchedulingPropertiesChange)
	}
	if found, ok := anyStored(t, kind, stored); ok {
		return found
	}
	if found, ok := anyOfDevices(t, kind, racked); ok {
		return found
	}
	a, b := anyNode(t, theme{}, "new"), anyNode(t, theme{roomy: true, free: true}, "new")
	return cameOrWent(t, fwk.Node, a, b, framework.NodeSchedulingPropertiesChange)
}

// otherNode is another version of a node.
func otherNode(t *rapid.T, a *corev1.Node) *corev1.Node {
	b, from := a.DeepCopy(), anyNode(t, theme{roomy: rapid.Bool().Draw(t, "roomy")}, a.Name)
	changes := func(what string) bool { return rapid.IntRange(0, 2).Draw(t, what) == 0 }
	if changes("labels") {
		b.Labels = from.Labels
	}
	if changes("taints") {
		b.Spec.Taints = from.Spec.Taints
	}
	if changes("cordon") {
		b.Spec.Unschedulable = !a.Spec.Unschedulable
	}
	if changes("allocatable") {
		b.Status.Allocatable = from.Status.Allocatable
	}
	if changes("features") {
		b.Status.DeclaredFeatures = from.Status.DeclaredFeatures
	}
	return b
}

// otherPod is another version of a pod on a node.
func otherPod(t *rapid.T, a *corev1.Pod, of []*corev1.Pod) *corev1.Pod {
	b := a.DeepCopy()
	if rapid.Bool().Draw(t, "labels") {
		b.Labels = rapid.SampledFrom(of).Draw(t, "labelled as").Labels
	}
	if rapid.Bool().Draw(t, "resized") {
		b.Spec.Containers[0].Resources.Requests = anyRequests(t)
		b.Status.ContainerStatuses = nil
	}
	if rapid.IntRange(0, 3).Draw(t, "begins to leave") == 0 {
		b.DeletionTimestamp = new(metav1.NewTime(now))
	}
	return b
}

// anyStored is a change of something about volumes, if there is any of the kind.
func anyStored(t *rapid.T, kind fwk.EventResource, s shelf) (what happening, found bool) {
	coin := func(what string) bool { return rapid.Bool().Draw(t, what) }
	switch {
	case kind == fwk.PersistentVolumeClaim && len(s.claims) > 0:
		a := s.claims[rapid.SampledFrom(slices.Sorted(maps.Keys(s.claims))).Draw(t, "claim")]
		b := a.DeepCopy()
		b.Spec.VolumeName += "x"
		return cameOrWent(t, kind, a, b, nil), true
	case kind == fwk.PersistentVolume && len(s.volumes) > 0:
		a := s.volumes[rapid.SampledFrom(slices.Sorted(maps.Keys(s.volumes))).Draw(t, "volume")]
		b := a.DeepCopy()
		if coin("other zone") {
			b.Labels = map[string]string{corev1.LabelTopologyZone: rapid.SampledFrom([]string{"z1", "z2__z3"}).Draw(t, "in zone")}
		}
		return cameOrWent(t, kind, a, b, nil), true
	case kind == fwk.StorageClass && len(s.classes) > 0:
		a := rapid.SampledFrom(s.classes).Draw(t, "class")
		b := a.DeepCopy()
		if coin("other topologies") {
			b.AllowedTopologies = append(b.AllowedTopologies, corev1.TopologySelectorTerm{})
		}
		return cameOrWent(t, kind, a, b, nil), true
	case kind == fwk.CSINode && len(s.csiNodes) > 0:
		a := rapid.SampledFrom(s.csiNodes).Draw(t, "CSINode")
		return cameOrWent(t, kind, a, otherCSINode(t, a), nil), true
	case kind == fwk.CSIDriver && len(s.drivers) > 0:
		a := rapid.SampledFrom(s.drivers).Draw(t, "driver")
		b := a.DeepCopy()
		b.Spec.StorageCapacity, b.Spec.PreventPodSchedulingIfMissing = new(coin("counts")), new(coin("must be there"))
		return cameOrWent(t, kind, a, b, nil), true
	case kind == fwk.CSIStorageCapacity && len(s.capacities) > 0:
		a := rapid.SampledFrom(s.capacities).Draw(t, "capacity")
		b := a.DeepCopy()
		b.Capacity = new(resource.MustParse(fmt.Sprintf("%dGi", rapid.IntRange(0, 30).Draw(t, "left"))))
		return cameOrWent(t, kind, a, b, nil), true
	case kind == fwk.VolumeAttachment && len(s.attachments) > 0:
		a := rapid.SampledFrom(s.attachments).Draw(t, "attachment")
		b := a.DeepCopy()
		if coin("elsewhere") {
			b.Spec.NodeName += "x"
		}
		return cameOrWent(t, kind, a, b, nil), true
	}
	return happening{}, false
}

// anyOfDevices is a change of something about devices, if there is any of the kind.
func anyOfDevices(t *rapid.T, kind fwk.EventResource, r *rack) (what happening, found bool) {
	switch {
	case kind == fwk.ResourceClaim && len(r.claims) > 0:
		all := slices.Collect(maps.Values(r.claims))
		slices.SortFunc(all, func(a, b *resourceapi.ResourceClaim) int {
			return cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		a := rapid.SampledFrom(all).Draw(t, "device claim")
		return cameOrWent(t, kind, a, otherDeviceClaim(t, a, all), nil), true
	case kind == fwk.ResourceSlice && len(r.slices) > 0:
		a := rapid.SampledFrom(r.slices).Draw(t, "slice")
		b := a.DeepCopy()
		b.Spec.Devices = append(b.Spec.Devices, resourceapi.Device{Name: "new"})
		return cameOrWent(t, kind, a, b, nil), true
	case kind == fwk.DeviceClass && len(r.classes) > 0:
		a := rapid.SampledFrom(r.classes).Draw(t, "device class")
		b := a.DeepCopy()
		b.Spec.ExtendedResourceName = rapid.SampledFrom([]*string{nil, new(drawn), new("example.com/gpu")}).Draw(t, "backs")
		return cameOrWent(t, kind, a, b, nil), true
	}
	return happening{}, false
}

// leave has a claim for a pod's extended resources left over from before, now and then.
func (r *rack) leave(t *rapid.T, pod *corev1.Pod) {
	if len(r.claims) == 0 || rapid.IntRange(0, 3).Draw(t, "is left over") > 0 {
		return
	}
	for name, claim := range r.claims {
		if claim.Annotations[resourceapi.ExtendedResourceClaimAnnotation] == "true" && metav1.IsControlledBy(claim, pod) {
			delete(r.claims, name)
		}
	}
	claim := (&racking{rack: r, t: t}).addClaim(pod.Namespace, "left-over")
	claim.Annotations = map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"}
	claim.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}}
}

// otherDeviceClaim is another version of a claim.
func otherDeviceClaim(t *rapid.T, a *resourceapi.ResourceClaim, of []*resourceapi.ResourceClaim) *resourceapi.ResourceClaim {
	b := a.DeepCopy()
	switch rapid.IntRange(0, 3).Draw(t, "claim becomes") {
	case 0:
		b.Status = resourceapi.ResourceClaimStatus{}
	case 1:
		b.Status.Allocation = rapid.SampledFrom(of).Draw(t, "has what").Status.Allocation
	case 2:
		b.Status.ReservedFor = append(b.Status.ReservedFor, podReference("one-more"))
	default:
		b.Labels = map[string]string{"nobody": "asks"}
	}
	return b
}

// after is a rack once a change has happened: upstream hears of it then.
func (r *rack) after(what happening) *rack {
	out := *r
	claim, isClaim := what.now.(*resourceapi.ResourceClaim)
	if was, ok := what.old.(*resourceapi.ResourceClaim); ok || isClaim {
		out.claims = maps.Clone(r.claims)
		if claim == nil {
			claim = was
		}
		key := types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}
		if out.claims[key] = claim; !isClaim {
			delete(out.claims, key)
		}
	}
	return &out
}

// otherCSINode is another version of a CSINode.
func otherCSINode(t *rapid.T, a *storagev1.CSINode) *storagev1.CSINode {
	b := a.DeepCopy()
	for i := range b.Spec.Drivers {
		switch rapid.IntRange(0, 3).Draw(t, "limit") {
		case 0:
			b.Spec.Drivers[i].Allocatable = nil
		case 1:
			b.Spec.Drivers[i].Allocatable = &storagev1.VolumeNodeResources{Count: new(int32(rapid.IntRange(0, 4).Draw(t, "count")))}
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "migrates") == 0 {
		b.Annotations = map[string]string{corev1.MigratedPluginsAnnotationKey: rapid.SampledFrom([]string{"", "kubernetes.io/gce-pd"}).Draw(t, "migrated")}
	}
	return b
}
