package server_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	deviceDriver = "gpu.example.com"
	// deviceCondition is what a driver says of a device that it has made ready.
	deviceCondition = "example.com/ready"
)

// TestAPodIsBoundWithItsDevices where one is free: the claim is allocated and reserved with the binding. Who comes too late
// waits until the device is given back.
func TestAPodIsBoundWithItsDevices(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	addDevices(t, s.Client, nil)
	claimDevice(t, s.Client, "first", "gpu")
	run(t, s.Client, "p", using("first"))
	p := becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" && local.PodReady(p) })
	claim := claimed(t, s.Client, "first", p)
	if got := claim.Status.Allocation.Devices.Results; len(got) != 1 || got[0].Driver != deviceDriver || got[0].Pool != "gpu" || got[0].Device != "device" {
		t.Errorf("the claim has %+v", got)
	}
	if !slices.Contains(claim.Finalizers, resourceapi.Finalizer) {
		t.Errorf("nothing holds a claim in use: %v", claim.Finalizers)
	}

	claimDevice(t, s.Client, "second", "gpu")
	run(t, s.Client, "q", using("second"))
	becomes(t, s.Client, "q", func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Message == "0/2 nodes are available: 2 cannot allocate all claims. "+
			"preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	})
	if err := s.Client.CoreV1().Pods(namespace).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	q := becomes(t, s.Client, "q", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" })
	claimed(t, s.Client, "second", q)
	local.Eventually(t, waitTimeout, "the first claim to have no devices", func() error {
		claim, err := s.Client.ResourceV1().ResourceClaims(namespace).Get(t.Context(), "first", metav1.GetOptions{})
		if err == nil && (claim.Status.Allocation != nil || len(claim.Status.ReservedFor)+len(claim.Finalizers) > 0) {
			err = fmt.Errorf("it is %+v", claim)
		}
		return err
	})
}

// TestAClaimIsMadeOfATemplate for each pod that asks for it, and goes once the pod is done.
func TestAClaimIsMadeOfATemplate(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	addDevices(t, s.Client, nil)
	run(t, s.Client, "p", func(p *corev1.Pod) {
		p.Annotations[kubelet.RunSeconds] = "2"
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "device", ResourceClaimTemplateName: new("one-gpu")}}
	})
	// The template comes after the pod.
	template := &resourceapi.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "one-gpu"}, Spec: resourceapi.ResourceClaimTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "template"}}, Spec: oneOf("gpu"),
	}}
	if _, err := s.Client.ResourceV1().ResourceClaimTemplates(namespace).Create(t.Context(), template, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" })
	told := p.Status.ResourceClaimStatuses
	if len(told) != 1 || told[0].Name != "device" || told[0].ResourceClaimName == nil {
		t.Fatalf("the pod is told of its claims %+v", told)
	}
	name := *told[0].ResourceClaimName
	local.Eventually(t, waitTimeout, "the claim to go with its pod's end", func() error {
		claim, err := s.Client.ResourceV1().ResourceClaims(namespace).Get(t.Context(), name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil && (claim.Labels["of"] != "template" || !metav1.IsControlledBy(claim, p)):
			t.Fatalf("the claim is %+v", claim)
		case err == nil:
			err = fmt.Errorf("it is there: %+v", claim.Status)
		}
		return err
	})
	becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
}

// TestAPodIsBoundAfterItsDevicesAreReady plays the driver, which has to say so.
func TestAPodIsBoundAfterItsDevicesAreReady(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	addDevices(t, s.Client, func(d *resourceapi.Device) {
		d.BindingConditions, d.BindingFailureConditions = []string{deviceCondition}, []string{"example.com/failed"}
	})
	claimDevice(t, s.Client, "c", "gpu")
	run(t, s.Client, "p", using("c"))
	p := becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Status.NominatedNodeName == "node-1" })
	if p.Spec.NodeName != "" {
		t.Fatalf("the pod is on %s, and its device is not ready", p.Spec.NodeName)
	}
	claim := claimed(t, s.Client, "c", p)
	of := claim.Status.Allocation.Devices.Results[0]
	claim.Status.Devices = []resourceapi.AllocatedDeviceStatus{{
		Driver: of.Driver, Pool: of.Pool, Device: of.Device,
		Conditions: []metav1.Condition{{Type: deviceCondition, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.Now()}},
	}}
	if _, err := s.Client.ResourceV1().ResourceClaims(namespace).UpdateStatus(t.Context(), claim, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" && local.PodReady(p) })
}

// TestExtendedResourcesAreHadByDevices of which a claim is made for the pod.
func TestExtendedResourcesAreHadByDevices(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	addDevices(t, s.Client, nil)
	run(t, s.Client, "p", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"example.com/gpu": resource.MustParse("1")}
	})
	p := becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" && local.PodReady(p) })
	told := p.Status.ExtendedResourceClaimStatus
	if told == nil || len(told.RequestMappings) != 1 || told.RequestMappings[0].ResourceName != "example.com/gpu" {
		t.Fatalf("the pod is told of its claim %+v", told)
	}
	claim := claimed(t, s.Client, told.ResourceClaimName, p)
	if owner := metav1.GetControllerOf(claim); owner == nil || owner.UID != p.UID {
		t.Errorf("the claim is of %+v", owner)
	}
}

// addDevices makes the class of devices "gpu", which stands for an extended resource, too, and has one device of it on node-1.
func addDevices(t *testing.T, client kubernetes.Interface, alter func(*resourceapi.Device)) {
	t.Helper()
	const name, node = "gpu", "node-1"
	device := resourceapi.Device{Name: "device"}
	slice := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.ResourceSliceSpec{
		Driver: deviceDriver, NodeName: new(node), Pool: resourceapi.ResourcePool{Name: name, ResourceSliceCount: 1},
	}}
	if alter != nil {
		alter(&device)
	}
	slice.Spec.Devices = []resourceapi.Device{device}
	if _, err := client.ResourceV1().ResourceSlices().Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	class := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.DeviceClassSpec{
		ExtendedResourceName: new("example.com/" + name),
		Selectors:            []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: fmt.Sprintf("device.driver == %q", deviceDriver)}}},
	}}
	if _, err := client.ResourceV1().DeviceClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// oneOf asks for one device of a class.
func oneOf(class string) resourceapi.ResourceClaimSpec {
	return resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{
		{Name: "one", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: class}},
	}}}
}

func claimDevice(t *testing.T, client kubernetes.Interface, name, class string) {
	t.Helper()
	claim := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: oneOf(class)}
	if _, err := client.ResourceV1().ResourceClaims(namespace).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func using(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "device", ResourceClaimName: &claim}}
		p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "device"}}
	}
}

// claimed returns a claim, which must have devices and be reserved for a pod.
func claimed(t *testing.T, client kubernetes.Interface, name string, pod *corev1.Pod) *resourceapi.ResourceClaim {
	t.Helper()
	claim, err := client.ResourceV1().ResourceClaims(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID}
	if claim.Status.Allocation == nil || !slices.Equal(claim.Status.ReservedFor, []resourceapi.ResourceClaimConsumerReference{want}) {
		t.Fatalf("the claim's status is %+v", claim.Status)
	}
	return claim
}
