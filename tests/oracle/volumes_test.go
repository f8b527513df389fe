package oracle_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumebinding"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// shelf is what a cluster has of volumes.
type shelf struct {
	// calm ones have claims that are bound or can be, so that pods get to the scores.
	calm bool
	// twice lets pods mount a claim twice. It then gets two volumes, of which upstream later takes any.
	twice       bool
	claims      map[string]*corev1.PersistentVolumeClaim
	volumes     map[string]*corev1.PersistentVolume
	classes     []*storagev1.StorageClass
	csiNodes    []*storagev1.CSINode
	drivers     []*storagev1.CSIDriver
	capacities  []*storagev1.CSIStorageCapacity
	attachments []*storagev1.VolumeAttachment
}

// tell gives a shelf to the core.
func (s shelf) tell(c *scheduling.Cluster) {
	for _, o := range s.claims {
		c.SetClaim(o)
	}
	for _, o := range s.volumes {
		c.SetVolume(o)
	}
	for _, o := range s.classes {
		c.SetStorageClass(o)
	}
	for _, o := range s.csiNodes {
		c.SetCSINode(o)
	}
	for _, o := range s.drivers {
		c.SetCSIDriver(o)
	}
	for _, o := range s.capacities {
		c.SetStorageCapacity(o)
	}
	for _, o := range s.attachments {
		c.SetAttachment(o)
	}
}

// stock puts a shelf into informers.
func (s shelf) stock(t *rapid.T, factory informers.SharedInformerFactory) {
	core, storage := factory.Core().V1(), factory.Storage().V1()
	put := func(store interface{ Add(any) error }, obj any) {
		if err := store.Add(obj); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range s.claims {
		put(core.PersistentVolumeClaims().Informer().GetStore(), o)
	}
	for _, o := range s.volumes {
		put(core.PersistentVolumes().Informer().GetStore(), o)
	}
	for _, o := range s.classes {
		put(storage.StorageClasses().Informer().GetStore(), o)
	}
	for _, o := range s.csiNodes {
		put(storage.CSINodes().Informer().GetStore(), o)
	}
	for _, o := range s.drivers {
		put(storage.CSIDrivers().Informer().GetStore(), o)
	}
	for _, o := range s.capacities {
		put(storage.CSIStorageCapacities().Informer().GetStore(), o)
	}
	for _, o := range s.attachments {
		put(storage.VolumeAttachments().Informer().GetStore(), o)
	}
}

// take does what a placement writes.
func (s shelf) take(placed scheduling.Placement) {
	for _, pv := range placed.Volumes {
		s.volumes[pv.Name] = pv
	}
	for _, pvc := range placed.Claims {
		s.claims[pvc.Namespace+"/"+pvc.Name] = pvc
	}
}

// checkBinding compares what a placement writes for its claims with what upstream's binder does.
func (s shelf) checkBinding(t *rapid.T, nodes []*corev1.Node, placed scheduling.Placement) {
	client := fake.NewClientset()
	written := map[string]runtime.Object{}
	client.PrependReactor("update", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		obj := action.(clienttesting.UpdateAction).GetObject()
		written[obj.(metav1.Object).GetNamespace()+"/"+obj.(metav1.Object).GetName()] = obj
		return true, obj, nil
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	s.stock(t, factory)
	core, storage := factory.Core().V1(), factory.Storage().V1()
	binder, err := volumebinding.NewVolumeBinder(klog.Background(), client, feature.Features{EnableVolumeAttributesClass: true},
		core.Pods(), core.Nodes(), storage.CSINodes(), core.PersistentVolumeClaims(), core.PersistentVolumes(), storage.StorageClasses(),
		volumebinding.CapacityCheck{CSIDriverInformer: storage.CSIDrivers(), CSIStorageCapacityInformer: storage.CSIStorageCapacities()}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := binder.GetPodVolumeClaims(klog.Background(), placed.Pod)
	if err != nil {
		t.Fatal(err)
	}
	node := nodes[slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == placed.Node })]
	found, _, err := binder.FindPodVolumes(klog.Background(), placed.Pod, claims, node)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := binder.AssumePodVolumes(klog.Background(), placed.Pod, placed.Node, found)
	if err != nil {
		t.Fatal(err)
	}
	if bound == placed.Waits && !placed.AwaitsDrivers { // it may wait for devices, too
		t.Fatalf("pod %s: all bound is %v, and it waits is %v", placed.Pod.Name, bound, placed.Waits)
	}
	if bound {
		return
	}
	over, end := context.WithCancel(t.Context())
	end() // it writes, and does not wait
	_ = binder.BindPodVolumes(over, placed.Pod, found)
	got := map[string]runtime.Object{}
	for _, pv := range placed.Volumes {
		got["/"+pv.Name] = pv
	}
	for _, pvc := range placed.Claims {
		got[pvc.Namespace+"/"+pvc.Name] = pvc
	}
	maps.DeleteFunc(written, func(key string, obj runtime.Object) bool {
		return s.volumes[key[1:]] != nil && cmp.Equal(obj, runtime.Object(s.volumes[key[1:]])) || s.claims[key] != nil && cmp.Equal(obj, runtime.Object(s.claims[key]))
	})
	if diff := cmp.Diff(written, got); diff != "" {
		t.Fatalf("pod %s on %s writes (-upstream +core):\n%s", placed.Pod.Name, placed.Node, diff)
	}
}

func rarely(t *rapid.T, what string) bool { return rapid.IntRange(0, 15).Draw(t, what) == 7 }

// anyShelf has volumes for a cluster, and makes its pods mount some. Half of the clusters have none.
func anyShelf(t *rapid.T, nodes []*corev1.Node, assigned, pending []*corev1.Pod, twice bool) shelf {
	s := shelf{twice: twice, claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}}
	if rapid.Bool().Draw(t, "has none") {
		return s
	}
	s.calm = rapid.Bool().Draw(t, "calm")
	s.addClasses(t)
	s.addDrivers(t, nodes)
	for _, namespace := range []string{"default", "other"} {
		for i := range 4 {
			s.addClaim(t, namespace, fmt.Sprintf("c%d", i))
		}
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "free volumes") {
		s.addFree(t, i)
	}
	for _, pod := range assigned {
		s.mount(t, pod)
	}
	for _, pod := range pending {
		s.mount(t, pod)
		if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Ephemeral != nil }) {
			// Where its claim is another's, upstream fails to judge its node for anybody else.
			pod.Status.NominatedNodeName = ""
		}
	}
	names := slices.Sorted(maps.Keys(s.volumes))
	for i := range rapid.SampledFrom([]int{0, 0, 2, 5}).Draw(t, "attachments") {
		va := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("va%d", i)}}
		va.Spec.Attacher = rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "attacher")
		va.Spec.NodeName = fmt.Sprintf("n%d", rapid.IntRange(0, 2).Draw(t, "attached to"))
		if len(names) > 0 {
			va.Spec.Source.PersistentVolumeName = new(rapid.SampledFrom(append(names, "none")).Draw(t, "attaches"))
		}
		s.attachments = append(s.attachments, va)
	}
	return s
}

var zoneTerms = [][]corev1.TopologySelectorTerm{
	nil, nil, {{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: []string{"x"}}}}},
	{{}, {MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: []string{"x", "y"}}, {Key: "size", Values: []string{"1", "7"}}}}},
}

func (s *shelf) addClasses(t *rapid.T) {
	for _, of := range []struct{ name, provisioner string }{{"made", "d1"}, {"other", "d2"}, {"given", "kubernetes.io/no-provisioner"}, {"old", "kubernetes.io/aws-ebs"}} {
		s.classes = append(s.classes, &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: of.name}, Provisioner: of.provisioner,
			VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
		})
		if !s.calm {
			s.classes[len(s.classes)-1].AllowedTopologies = rapid.SampledFrom(zoneTerms).Draw(t, "allowed topologies")
		}
	}
	s.classes = append(s.classes, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "now"}, Provisioner: "d1", VolumeBindingMode: new(storagev1.VolumeBindingImmediate)})
	capacityOf := func(name string, topology *metav1.LabelSelector) {
		if !s.calm && rarely(t, "no capacity") {
			return
		}
		c := &storagev1.CSIStorageCapacity{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}, StorageClassName: "made", NodeTopology: topology,
			Capacity: new(anySize(t, 0)),
		}
		if s.calm {
			c.Capacity.Mul(4)
		}
		if rapid.IntRange(0, 3).Draw(t, "has a largest") == 0 {
			c.MaximumVolumeSize = new(anySize(t, 0))
		}
		s.capacities = append(s.capacities, c)
	}
	if rapid.IntRange(0, 3).Draw(t, "one pool") == 0 {
		capacityOf("everywhere", &metav1.LabelSelector{})
		capacityOf("nowhere", nil)
		return
	}
	for _, zone := range []string{"x", "y"} {
		capacityOf("in-"+zone, &metav1.LabelSelector{MatchLabels: map[string]string{"zone": zone}})
	}
}

func (s *shelf) addDrivers(t *rapid.T, nodes []*corev1.Node) {
	flags := []*bool{nil, new(true), new(false)}
	s.drivers = append(s.drivers, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d1"}, Spec: storagev1.CSIDriverSpec{
		StorageCapacity: rapid.SampledFrom(flags).Draw(t, "tells capacity"), PreventPodSchedulingIfMissing: rapid.SampledFrom(flags).Draw(t, "is required"),
	}})
	if s.calm {
		s.drivers[0].Spec = storagev1.CSIDriverSpec{StorageCapacity: new(true)}
	}
	for _, node := range nodes {
		if rapid.IntRange(0, 3).Draw(t, "has no CSINode") == 0 {
			continue
		}
		csi := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
		if rapid.Bool().Draw(t, "migrated") {
			csi.Annotations = map[string]string{corev1.MigratedPluginsAnnotationKey: "kubernetes.io/cinder,kubernetes.io/aws-ebs"}
		}
		for _, name := range []string{"d1", "d2", "ebs.csi.aws.com"} {
			if rapid.IntRange(0, 4).Draw(t, "lacks driver") == 0 {
				continue
			}
			driver := storagev1.CSINodeDriver{Name: name, NodeID: node.Name}
			if count := rapid.SampledFrom([]int32{-2, -1, 0, 1, 1, 2, 3}).Draw(t, "count"); count >= -1 {
				driver.Allocatable = &storagev1.VolumeNodeResources{}
				if count >= 0 {
					driver.Allocatable.Count = new(count)
				}
			}
			csi.Spec.Drivers = append(csi.Spec.Drivers, driver)
		}
		s.csiNodes = append(s.csiNodes, csi)
	}
}

// anySize is a size that no other number has.
func anySize(t *rapid.T, number int) resource.Quantity {
	return *resource.NewQuantity(int64(rapid.IntRange(1, 6).Draw(t, "size"))<<30+int64(number), resource.BinarySI)
}

func anyModes(t *rapid.T) []corev1.PersistentVolumeAccessMode {
	return rapid.SampledFrom([][]corev1.PersistentVolumeAccessMode{
		{corev1.ReadWriteOnce}, {corev1.ReadWriteOnce}, {corev1.ReadWriteOnce, corev1.ReadWriteMany}, {corev1.ReadWriteOncePod},
	}).Draw(t, "modes")
}

func (s *shelf) addClaim(t *rapid.T, namespace, name string) *corev1.PersistentVolumeClaim {
	if rarely(t, "no claim") {
		return nil
	}
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + name), ResourceVersion: "5", Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: anyModes(t), StorageClassName: new(rapid.SampledFrom([]string{"made", "made", "other", "given", "given", "old"}).Draw(t, "class")),
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	if !rarely(t, "asks for no size") {
		pvc.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: anySize(t, 0)}
	}
	kinds := []string{"bound", "bound", "unbound", "unbound", "unbound", "selected", "odd"}
	if s.calm {
		kinds = []string{"bound", "unbound", "unbound", "unbound", "unbound"}
		pvc.Spec.StorageClassName = new(rapid.SampledFrom([]string{"made", "given"}).Draw(t, "calm class"))
	}
	switch rapid.SampledFrom(kinds).Draw(t, "claim is") {
	case "bound":
		s.bind(t, pvc)
	case "selected":
		pvc.Annotations["volume.kubernetes.io/selected-node"] = rapid.SampledFrom([]string{"n0", "n1", "n2", "gone"}).Draw(t, "selected node")
	case "odd":
		anyOddity(t, pvc)
	default:
		pvc.Spec.Selector = rapid.SampledFrom([]*metav1.LabelSelector{nil, nil, {MatchLabels: map[string]string{"disk": "fast"}}}).Draw(t, "selects volumes")
		if rarely(t, "is a block device") {
			pvc.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
		}
		if rarely(t, "has attributes") {
			pvc.Spec.VolumeAttributesClassName = new("gold")
		}
	}
	s.claims[namespace+"/"+name] = pvc
	return pvc
}

// anyOddity makes a claim one that no pod can use yet.
func anyOddity(t *rapid.T, pvc *corev1.PersistentVolumeClaim) {
	switch rapid.IntRange(0, 5).Draw(t, "oddity") {
	case 0:
		pvc.Spec.StorageClassName = new("now")
	case 1:
		pvc.Spec.StorageClassName = nil
	case 2:
		pvc.Spec.StorageClassName = new("missing")
	case 3:
		pvc.Spec.VolumeName = "not-told"
	case 4:
		pvc.Status.Phase, pvc.Spec.VolumeName = corev1.ClaimLost, "lost"
	case 5:
		pvc.DeletionTimestamp = new(metav1.NewTime(now))
	}
}

// bind gives a claim a volume, or the name of one that does not exist.
func (s *shelf) bind(t *rapid.T, pvc *corev1.PersistentVolumeClaim) {
	pvc.Spec.VolumeName, pvc.Status.Phase = "pv-"+pvc.Namespace+"-"+pvc.Name, corev1.ClaimBound
	pvc.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
	if rarely(t, "its volume is gone") {
		return
	}
	pv := anyVolume(t, pvc.Spec.VolumeName)
	pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: pvc.Namespace, Name: pvc.Name, UID: pvc.UID}
	pv.Status.Phase = corev1.VolumeBound
	s.volumes[pv.Name] = pv
}

// anyVolume can be used on all nodes, or some.
func anyVolume(t *rapid.T, name string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "3", Labels: map[string]string{}},
		Spec:       corev1.PersistentVolumeSpec{AccessModes: anyModes(t)},
	}
	switch rapid.SampledFrom([]string{"d1", "d1", "d2", "local", "ebs", "cinder"}).Draw(t, "volume is") {
	case "d2":
		pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d2", VolumeHandle: rapid.SampledFrom([]string{"", "shared", name}).Draw(t, "handle")}
	case "local":
		pv.Spec.Local = &corev1.LocalVolumeSource{Path: "/disk"}
	case "ebs":
		pv.Spec.AWSElasticBlockStore = &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-" + name}
	case "cinder":
		pv.Spec.Cinder = &corev1.CinderPersistentVolumeSource{VolumeID: "vol-" + name}
	default:
		pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d1", VolumeHandle: name}
	}
	in := func(label string, values ...string) []corev1.NodeSelectorTerm {
		return []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: label, Operator: corev1.NodeSelectorOpIn, Values: values}}}}
	}
	if terms := rapid.SampledFrom([][]corev1.NodeSelectorTerm{
		nil, nil, in("zone", "x"), in(corev1.LabelHostname, "n0", "n1"), in(corev1.LabelHostname, "n2"), append(in("zone", "y"), in("size", "1")...),
		{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "size", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"7"}}}}},
		{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n0"}}}}},
	}).Draw(t, "nodes"); terms != nil {
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: terms}}
	}
	if rapid.IntRange(0, 2).Draw(t, "zoned") == 0 {
		label := rapid.SampledFrom([]string{corev1.LabelTopologyZone, corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyRegion}).Draw(t, "zone label")
		pv.Labels[label] = rapid.SampledFrom([]string{"z1", "z2", "z1__z2", "z1__ z3", "z1____z2", ""}).Draw(t, "zones")
	}
	return pv
}

// addFree has a volume that claims may be bound to. Its size is its own, since of equal ones upstream takes any; and at most
// one is kept for a claim.
func (s *shelf) addFree(t *rapid.T, number int) {
	pv := anyVolume(t, fmt.Sprintf("free-%d", number))
	pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: anySize(t, number)}
	pv.Spec.StorageClassName = rapid.SampledFrom([]string{"given", "given", "made"}).Draw(t, "class")
	if s.calm {
		pv.Spec.AccessModes, pv.Spec.NodeAffinity = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteMany}, nil
		if zone := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "only zone"); zone != "" {
			pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{zone}}}},
			}}}
		}
	}
	pv.Status.Phase = rapid.SampledFrom([]corev1.PersistentVolumePhase{corev1.VolumeAvailable, corev1.VolumeAvailable, corev1.VolumeAvailable, corev1.VolumeReleased}).Draw(t, "phase")
	if rapid.Bool().Draw(t, "fast") {
		pv.Labels["disk"] = "fast"
	}
	if rarely(t, "is a block device") {
		pv.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
	}
	if rarely(t, "has attributes") {
		pv.Spec.VolumeAttributesClassName = new("gold")
	}
	if rarely(t, "goes") {
		pv.DeletionTimestamp = new(metav1.NewTime(now))
	}
	if number < 4 && rapid.IntRange(0, 3).Draw(t, "is kept") == 0 {
		ref := &corev1.ObjectReference{Namespace: "default", Name: fmt.Sprintf("c%d", number)}
		ref.UID = rapid.SampledFrom([]types.UID{"", types.UID("uid-default" + ref.Name), "another"}).Draw(t, "for")
		pv.Spec.ClaimRef = ref
	}
	s.volumes[pv.Name] = pv
}

// mount has a pod mount a few volumes.
func (s *shelf) mount(t *rapid.T, pod *corev1.Pod) {
	kinds := []string{"claim", "claim", "claim", "made", "disk", "else"}
	if s.calm {
		kinds = []string{"claim", "claim", "claim", "made"}
	}
	for i := range rapid.SampledFrom([]int{0, 1, 1, 2, 3}).Draw(t, "mounts") {
		v := corev1.Volume{Name: fmt.Sprintf("v%d", i)}
		switch rapid.SampledFrom(kinds).Draw(t, "mount is") {
		case "claim":
			source := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: fmt.Sprintf("c%d", rapid.IntRange(0, 3).Draw(t, "claim"))}
			if !s.twice && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return cmp.Equal(v.PersistentVolumeClaim, source) }) {
				continue
			}
			v.PersistentVolumeClaim = source
		case "made":
			v.Ephemeral = &corev1.EphemeralVolumeSource{}
			pvc := s.addClaim(t, pod.Namespace, ephemeral.VolumeClaimName(pod, &v))
			if pvc != nil && (pod.Spec.NodeName != "" || !rarely(t, "of another pod")) {
				pvc.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}}
			}
		case "disk":
			v.VolumeSource = anyDisk(t)
		default:
			v.ConfigMap = &corev1.ConfigMapVolumeSource{}
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, v)
	}
}

func anyDisk(t *rapid.T) corev1.VolumeSource {
	id := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "disk")
	readOnly := rapid.Bool().Draw(t, "read only")
	switch rapid.IntRange(0, 4).Draw(t, "disk is") {
	case 0:
		return corev1.VolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{PDName: id, ReadOnly: readOnly}}
	case 1:
		return corev1.VolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-" + id}}
	case 2:
		return corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{IQN: id, ReadOnly: readOnly}}
	case 3:
		return corev1.VolumeSource{Cinder: &corev1.CinderVolumeSource{VolumeID: id}}
	}
	return corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{
		CephMonitors: rapid.SampledFrom([][]string{{"m1"}, {"m2", "m1"}, {"m2"}}).Draw(t, "monitors"), RBDPool: "p", RBDImage: id, ReadOnly: readOnly,
	}}
}
