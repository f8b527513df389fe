package schedulerperf

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// celCacheSize is upstream's.
const celCacheSize = 10

// allocResourceClaims gives devices to the claims of a namespace, without pods and without the scheduler, so that some devices
// are in use.
//
// Upstream: allocResourceClaimsOp in dra.go. It asks the same allocator, which here is told of everything that a gate allows.
type allocResourceClaims struct {
	code
	Namespace string
}

func (o *allocResourceClaims) run(ctx context.Context, e *executor, _ int) error {
	claims, err := e.client.ResourceV1().ResourceClaims(o.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil || len(claims.Items) == 0 {
		return err
	}
	nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	devices, err := e.devices(ctx)
	if err != nil {
		return err
	}
	for i := range claims.Items {
		if claims.Items[i].Status.Allocation != nil {
			continue
		}
		if err := e.allocate(ctx, devices, &claims.Items[i], nodes.Items); err != nil {
			return fmt.Errorf("claim %d of %d: %w", i, len(claims.Items), err)
		}
	}
	return nil
}

// devices are the classes and slices of a cluster, and which devices are in use.
type devices struct {
	classes []*resourcev1.DeviceClass
	slices  []*resourcev1.ResourceSlice
	used    sets.Set[structured.DeviceID]
	cel     *cel.Cache
}

func (d *devices) List() ([]*resourcev1.DeviceClass, error) { return d.classes, nil }

func (d *devices) Get(name string) (*resourcev1.DeviceClass, error) {
	i := slices.IndexFunc(d.classes, func(c *resourcev1.DeviceClass) bool { return c.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no device class %s", name)
	}
	return d.classes[i], nil
}

func (d *devices) use(claim *resourcev1.ResourceClaim) {
	if claim.Status.Allocation == nil {
		return
	}
	for _, result := range claim.Status.Allocation.Devices.Results {
		d.used.Insert(structured.MakeDeviceID(result.Driver, result.Pool, result.Device))
	}
}

func (e *executor) devices(ctx context.Context) (*devices, error) {
	d := &devices{used: sets.New[structured.DeviceID](), cel: cel.NewCache(celCacheSize, cel.Features{
		EnableConsumableCapacity: true, EnableListTypeAttributes: true,
	})}
	classes, err := e.client.ResourceV1().DeviceClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range classes.Items {
		d.classes = append(d.classes, &classes.Items[i])
	}
	found, err := e.client.ResourceV1().ResourceSlices().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range found.Items {
		d.slices = append(d.slices, &found.Items[i])
	}
	claims, err := e.client.ResourceV1().ResourceClaims("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range claims.Items {
		d.use(&claims.Items[i])
	}
	return d, nil
}

// allocate gives a claim the devices of any node that has them.
func (e *executor) allocate(ctx context.Context, d *devices, claim *resourcev1.ResourceClaim, nodes []corev1.Node) error {
	allocator, err := structured.NewAllocator(ctx, structured.Features{
		PrioritizedList: true, AdminAccess: true, DeviceTaints: true, PartitionableDevices: true,
	}, structured.AllocatedState{AllocatedDevices: d.used}, d, d.slices, d.cel)
	if err != nil {
		return err
	}
	for _, i := range rand.Perm(len(nodes)) { //nolint:gosec // upstream takes any node too
		result, err := allocator.Allocate(ctx, &nodes[i], []*resourcev1.ResourceClaim{claim})
		if err != nil {
			return err
		}
		if result == nil {
			continue
		}
		claim.Status.Allocation = &result[0]
		d.use(claim)
		_, err = e.client.ResourceV1().ResourceClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
		return err
	}
	return fmt.Errorf("no node has the devices of %s", claim.Name)
}
