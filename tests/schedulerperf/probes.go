package schedulerperf

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// probeTimeout bounds how long a probe's pod may take to be tried by the scheduler.
	probeTimeout = time.Minute
	// probeGrace is given to what only its absence shows.
	probeGrace = 5 * time.Second
	// probeLabel names the probe that a node is for.
	probeLabel = "schedulerperf/probe"
	// probeDriver is the driver of a probe's volumes and devices.
	probeDriver = "probe.example.com"
	// probePriority is that of a pod that is to drive others out.
	probePriority = 10
)

// errUnserved is wrapped by errors of probes whose API is not there.
var errUnserved = errors.New("its API is not served")

// probe tries whether the scheduler follows a plugin of kube-scheduler: on a node of its own, a pod that the plugin would keep
// off it, or that only the plugin could place.
type probe struct {
	plugin string
	needed func(*demands) bool
	try    func(ctx context.Context, e *executor, name string) (follows bool, err error)
}

var probes = []probe{
	{"DefaultPreemption", func(d *demands) bool { return d.preemption }, tryPreemption},
	{"VolumeBinding", func(d *demands) bool { return d.claims }, tryVolumeBinding},
	{"VolumeRestrictions", func(d *demands) bool { return d.exclusive }, tryVolumeRestrictions},
	{"NodeVolumeLimits", func(d *demands) bool { return d.claims && d.limited }, tryVolumeLimits},
	{"DynamicResources", func(d *demands) bool { return d.devices }, tryDevices},
	{"DynamicResources for extended resources", (*demands).extended, tryExtended},
	{"GangScheduling", func(d *demands) bool { return d.groups }, tryGang},
}

// probeNode makes the node of a probe: one CPU.
func (e *executor) probeNode(ctx context.Context, name string) error {
	node := baseNode("")
	node.Name, node.Labels = name, map[string]string{probeLabel: name, corev1.LabelHostname: name}
	node.Status.Capacity[corev1.ResourceCPU] = resource.MustParse("1")
	node.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("1")
	stampNode(node)
	if _, err := e.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	return e.nodesReady(ctx)
}

// probePod is a pod for the node of a probe.
func probePod(probe, name string, alter ...func(*corev1.Pod)) *corev1.Pod {
	var now int64
	pod := basePod()
	pod.GenerateName, pod.Name = "", probe+"-"+name
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	pod.Spec.NodeSelector = map[string]string{probeLabel: probe}
	pod.Spec.TerminationGracePeriodSeconds = &now
	for _, a := range alter {
		a(pod)
	}
	return pod
}

// place makes a pod and waits until the scheduler has placed it, or has said that it cannot.
func (e *executor) place(ctx context.Context, pod *corev1.Pod) (stage, error) {
	if err := e.createPod(ctx, probeNamespace, pod); err != nil {
		return unattempted, err
	}
	got := unattempted
	err := poll(ctx, probeTimeout, func() (bool, error) {
		live, err := e.client.CoreV1().Pods(probeNamespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		got, _ = stageOf(live)
		return got != unattempted, nil
	})
	return got, err
}

// placeBoth says whether the first pod is placed and the second is not: what a plugin that lets in one only does.
func (e *executor) placeBoth(ctx context.Context, first, second *corev1.Pod) (onlyFirst bool, err error) {
	stage, err := e.place(ctx, first)
	if err != nil || stage != scheduled {
		return false, err
	}
	stage, err = e.place(ctx, second)
	return stage == attempted, err
}

// tryPreemption fills a node, and then makes a pod of higher priority.
func tryPreemption(ctx context.Context, e *executor, name string) (bool, error) {
	if err := e.probeNode(ctx, name); err != nil {
		return false, err
	}
	full := func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	}
	high := int32(probePriority)
	victim := probePod(name, "victim", full)
	winner := probePod(name, "winner", full, func(pod *corev1.Pod) { pod.Spec.Priority = &high })
	if got, err := e.place(ctx, victim); err != nil || got != scheduled {
		return false, errors.Join(err, fmt.Errorf("a pod that fits is not placed"))
	}
	if got, err := e.place(ctx, winner); err != nil || got == scheduled {
		return got == scheduled, err
	}
	err := poll(ctx, probeGrace, func() (bool, error) {
		live, err := e.client.CoreV1().Pods(probeNamespace).Get(ctx, winner.Name, metav1.GetOptions{})
		return err == nil && live.Spec.NodeName != "", err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// tryVolumeBinding makes a pod whose claim nothing can be bound to.
func tryVolumeBinding(ctx context.Context, e *executor, name string) (bool, error) {
	if err := e.probeNode(ctx, name); err != nil {
		return false, err
	}
	none := ""
	claim := probeClaim(name, corev1.ReadWriteOnce)
	claim.Spec.StorageClassName = &none
	if _, err := e.client.CoreV1().PersistentVolumeClaims(probeNamespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return false, err
	}
	got, err := e.place(ctx, probePod(name, "pod", claiming(name)))
	return got == attempted, err
}

// tryVolumeRestrictions makes two pods with one claim that only one may use.
func tryVolumeRestrictions(ctx context.Context, e *executor, name string) (bool, error) {
	if err := e.probeNode(ctx, name); err != nil {
		return false, err
	}
	if err := e.probeVolume(ctx, name, corev1.ReadWriteOncePod); err != nil {
		return false, err
	}
	return e.placeBoth(ctx, probePod(name, "first", claiming(name)), probePod(name, "second", claiming(name)))
}

// tryVolumeLimits makes two pods with a volume each for a node that takes one.
func tryVolumeLimits(ctx context.Context, e *executor, name string) (bool, error) {
	if err := e.probeNode(ctx, name); err != nil {
		return false, err
	}
	one := int32(1)
	csi := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{
		Name: probeDriver, NodeID: name, Allocatable: &storagev1.VolumeNodeResources{Count: &one},
	}}}}
	if _, err := e.client.StorageV1().CSINodes().Create(ctx, csi, metav1.CreateOptions{}); err != nil {
		return false, err
	}
	first, second := name+"-first", name+"-second"
	for _, volume := range []string{first, second} {
		if err := e.probeVolume(ctx, volume, corev1.ReadWriteOnce); err != nil {
			return false, err
		}
	}
	return e.placeBoth(ctx, probePod(name, "first", claiming(first)), probePod(name, "second", claiming(second)))
}

func claiming(claim string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "vol", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}}}
	}
}

func probeClaim(name string, mode corev1.PersistentVolumeAccessMode) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{mode},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

// probeVolume makes a volume and a claim that are bound to each other.
func (e *executor) probeVolume(ctx context.Context, name string, mode corev1.PersistentVolumeAccessMode) error {
	claim := probeClaim(name, mode)
	claim.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	return e.bind(ctx, probeNamespace, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:            claim.Spec.AccessModes,
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: probeDriver, VolumeHandle: name}},
		},
	}, claim)
}

// probeDevices makes a class of devices, and a node with one of them.
func (e *executor) probeDevices(ctx context.Context, name string, extended *string) error {
	if err := e.probeNode(ctx, name); err != nil {
		return err
	}
	driver := name + "." + probeDriver
	_, err := e.client.ResourceV1().DeviceClasses().Create(ctx, &resourcev1.DeviceClass{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: resourcev1.DeviceClassSpec{
			ExtendedResourceName: extended,
			Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{
				Expression: fmt.Sprintf("device.driver == %q", driver),
			}}},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) {
		return errUnserved
	}
	if err != nil {
		return err
	}
	_, err = e.client.ResourceV1().ResourceSlices().Create(ctx, &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: resourcev1.ResourceSliceSpec{
			Driver: driver, NodeName: &name, Pool: resourcev1.ResourcePool{Name: name, ResourceSliceCount: 1},
			Devices: []resourcev1.Device{{Name: "device"}},
		},
	}, metav1.CreateOptions{})
	return err
}

// tryDevices makes a pod that claims a device, which then must be allocated.
func tryDevices(ctx context.Context, e *executor, name string) (bool, error) {
	if err := e.probeDevices(ctx, name, nil); err != nil {
		return false, err
	}
	claims := e.client.ResourceV1().ResourceClaims(probeNamespace)
	_, err := claims.Create(ctx, &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
			Name: "request", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: name},
		}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	got, err := e.place(ctx, probePod(name, "pod", func(pod *corev1.Pod) {
		pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "claim", ResourceClaimName: &name}}
	}))
	if err != nil || got != scheduled {
		return false, err
	}
	claim, err := claims.Get(ctx, name, metav1.GetOptions{})
	return err == nil && claim.Status.Allocation != nil, err
}

// tryExtended makes a pod that asks for a resource that a class of devices stands for.
func tryExtended(ctx context.Context, e *executor, _ string) (bool, error) {
	const name = "extended"
	resourceName := probeDriver + "/device"
	if err := e.probeDevices(ctx, name, &resourceName); err != nil {
		return false, err
	}
	got, err := e.place(ctx, probePod(name, "pod", func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceName(resourceName): resource.MustParse("1")}
	}))
	return got == scheduled, err
}

// tryGang makes one pod of a group that is to be placed as two or not at all.
func tryGang(ctx context.Context, e *executor, name string) (bool, error) {
	if err := e.probeNode(ctx, name); err != nil {
		return false, err
	}
	group := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	group.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: 2}
	_, err := e.client.SchedulingV1beta1().PodGroups(probeNamespace).Create(ctx, group, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) {
		return false, errUnserved
	}
	if err != nil {
		return false, err
	}
	pod := probePod(name, "pod", func(pod *corev1.Pod) {
		pod.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &name}
	})
	if err := e.createPod(ctx, probeNamespace, pod); err != nil {
		return false, err
	}
	placed := false
	err = poll(ctx, probeGrace, func() (bool, error) {
		live, err := e.client.CoreV1().Pods(probeNamespace).Get(ctx, pod.Name, metav1.GetOptions{})
		placed = err == nil && live.Spec.NodeName != ""
		return placed, err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return true, nil
	}
	return !placed, err
}
