package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// A profile may score extended resources that nodes have as devices: then the devices are counted that a node can reach, and
// those of them that claims have.

// census is the devices of one class at one moment, by the node that they belong to; those of several nodes are in wide.
type census struct {
	taken *structured.AllocatedState
	named map[string][]counted
	wide  []counted
}

// counted is the devices of a slice.
type counted struct {
	slice   *resourceapi.ResourceSlice
	devices []deviceCount
}

// deviceCount tells whether a device is of the class, and whether a claim has it. It is broken if the class makes no sense for it.
type deviceCount struct{ counts, taken, broken bool }

// scoresDrawn reports whether the profile scores a resource that the class of pods asks for and that a DeviceClass backs.
func (d *devices) scoresDrawn(cl *class) bool {
	for i, r := range cl.profile.Fit.Resources {
		if cl.wants.fit[i] != 0 && d.backing[r.Name] != nil {
			return true
		}
	}
	for i, name := range cl.profile.Balanced {
		if cl.wants.balanced[i] != 0 && d.backing[name] != nil {
			return true
		}
	}
	return false
}

// drawn is what a node has of an extended resource as devices, and what is taken of that; nothing if one of them makes no sense.
//
// Upstream: calculateDRAExtendedResourceAllocatableRequest in plugins/noderesources/resource_allocation.go.
func (d *devices) drawn(name corev1.ResourceName, node *corev1.Node) (offered, taken int64) {
	class := d.backing[name]
	if class == nil || node == nil {
		return 0, 0
	}
	all := d.censusOf(class)
	for _, list := range [][]counted{all.named[node.Name], all.wide} {
		for i := range list {
			more, moreTaken, ok := list[i].on(node)
			if !ok {
				return 0, 0
			}
			offered, taken = offered+more, taken+moreTaken
		}
	}
	return offered, taken
}

// censusOf counts the devices of a class, unless nothing has changed since that was done.
//
// Upstream: calculateDRAResourceTotals in plugins/noderesources/resource_allocation.go.
func (d *devices) censusOf(class *resourceapi.DeviceClass) *census {
	taken := d.allTaken()
	if known := d.counts[class]; known != nil && known.taken == taken {
		return known
	}
	out := &census{taken: taken, named: map[string][]counted{}}
	for _, slice := range d.allDevices() {
		one := counted{slice: slice, devices: make([]deviceCount, len(slice.Spec.Devices))}
		for i := range slice.Spec.Devices {
			one.devices[i] = d.countDevice(class, slice, &slice.Spec.Devices[i])
		}
		if spec := &slice.Spec; is(spec.AllNodes) || is(spec.PerDeviceNodeSelection) || spec.NodeSelector != nil || spec.NodeName == nil {
			out.wide = append(out.wide, one)
		} else {
			out.named[*spec.NodeName] = append(out.named[*spec.NodeName], one)
		}
	}
	if d.counts == nil {
		d.counts = map[*resourceapi.DeviceClass]*census{}
	}
	d.counts[class] = out
	return out
}

func is(flag *bool) bool { return flag != nil && *flag }

func (d *devices) countDevice(class *resourceapi.DeviceClass, slice *resourceapi.ResourceSlice, device *resourceapi.Device) deviceCount {
	asked := cel.Device{Driver: slice.Spec.Driver, Attributes: device.Attributes, Capacity: device.Capacity}
	for i := range class.Spec.Selectors {
		selector := class.Spec.Selectors[i].CEL
		if selector == nil {
			continue
		}
		compiled := d.compiled().GetOrCompile(selector.Expression)
		if compiled.Error != nil {
			return deviceCount{broken: true}
		}
		if matches, _, err := compiled.DeviceMatches(newPatience(), asked); err != nil || !matches {
			return deviceCount{broken: err != nil}
		}
	}
	id := structured.MakeDeviceID(slice.Spec.Driver, slice.Spec.Pool.Name, device.Name)
	return deviceCount{counts: true, taken: structured.IsDeviceAllocated(id, d.allTaken())}
}

// on counts the devices that a node can reach. It is not ok if one of them, or a selector of nodes, makes no sense.
func (c *counted) on(node *corev1.Node) (all, taken int64, ok bool) {
	spec := &c.slice.Spec
	each := is(spec.PerDeviceNodeSelection)
	if !each && spec.NodeSelector != nil {
		if matches, err := canReach(node, spec.NodeName, spec.AllNodes, spec.NodeSelector); err != nil || !matches {
			return 0, 0, err == nil
		}
	}
	for i := range c.devices {
		if each {
			device := &spec.Devices[i]
			if matches, err := canReach(node, device.NodeName, device.AllNodes, device.NodeSelector); err != nil {
				return 0, 0, false
			} else if !matches {
				continue
			}
		}
		switch one := c.devices[i]; {
		case one.broken:
			return 0, 0, false
		case one.counts:
			all++
			if one.taken {
				taken++
			}
		}
	}
	return all, taken, true
}

func canReach(node *corev1.Node, name *string, all *bool, selector *corev1.NodeSelector) (bool, error) {
	if is(all) || name != nil && *name != "" && *name == node.Name {
		return true, nil
	}
	if selector == nil {
		return false, nil
	}
	return structured.NodeMatches(deviceFeatures, node, "", false, selector)
}
