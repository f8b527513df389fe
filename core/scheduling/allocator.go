package scheduling

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-logr/logr"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

const (
	// compiledSelectors is how many compiled expressions of device classes and claims are kept. Upstream keeps 10.
	compiledSelectors = 100
	// allocationSteps bounds the search for devices on one node, which may take very long where many constraints meet:
	// about a second. Upstream gives it ten seconds (DRASchedulerFilterTimeout).
	allocationSteps = 300_000
)

// deviceFeatures are those that are on by default in 1.37. Off are lists as attributes, derived attributes,
// compatibility groups, node-allocatable resources and optional node operations.
//
// Upstream: AllocatorFeatures in plugins/dynamicresources/dynamicresources.go.
var deviceFeatures = structured.Features{
	AdminAccess: true, PrioritizedList: true, PartitionableDevices: true, DeviceTaints: true, DeviceBindingAndStatus: true,
	ConsumableCapacity: true, FractionalCapacityRange: true,
}

// patience is a context that ends after a number of looks at it: upstream's allocator looks at each step, and has nothing
// else of it. Time has no part in a decision.
type patience struct {
	context.Context
	left int
}

func newPatience() *patience {
	return &patience{logr.NewContext(context.Background(), logr.Discard()), allocationSteps}
}

// Err implements context.Context.
func (p *patience) Err() error {
	if p.left == 0 {
		return context.DeadlineExceeded
	}
	p.left--
	return nil
}

// Get implements structured.DeviceClassLister.
func (d *devices) Get(name string) (*resourceapi.DeviceClass, error) {
	if class := d.classes[name]; class != nil {
		return class, nil
	}
	return nil, fmt.Errorf("deviceclass.resource.k8s.io %q not found", name)
}

// List implements structured.DeviceClassLister.
func (d *devices) List() ([]*resourceapi.DeviceClass, error) {
	return slices.Collect(maps.Values(d.classes)), nil
}

// allocate looks for devices on a node. It answers with an allocation for each claim, or with the reason why the node has
// not enough, or with a fault: what makes no sense, whatever node.
//
// Upstream: Filter in plugins/dynamicresources/dynamicresources.go.
func (d *devices) allocate(n *nodeState, claims []*resourceapi.ResourceClaim) (found []resourceapi.AllocationResult, reason, fault string) {
	if err := d.prepare(); err != nil {
		return nil, "", err.Error()
	}
	found, err := d.allocator.Allocate(newPatience(), n.node, claims)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, "", fmt.Sprintf("node %s: timed out trying to allocate devices", n.name)
	case errors.Is(err, structured.ErrFailedAllocationOnNode):
		return nil, err.Error(), ""
	case err != nil:
		return nil, "", err.Error()
	case len(found) != len(claims):
		return nil, "cannot allocate all claims", ""
	}
	return found, "", ""
}

// prepare makes an allocator of what there is and what is taken, unless there is one.
func (d *devices) prepare() (err error) {
	if d.allocator != nil {
		return nil
	}
	d.allocator, err = structured.NewAllocator(newPatience(), deviceFeatures, *d.allTaken(), d, d.allDevices(), d.compiled())
	return err
}

// compiled keeps compiled expressions.
func (d *devices) compiled() *cel.Cache {
	if d.selectors == nil {
		d.selectors = cel.NewCache(compiledSelectors, cel.Features{EnableConsumableCapacity: true})
	}
	return d.selectors
}
