package scheduling

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/labels"
	operator "k8s.io/apimachinery/pkg/selection"
	v1helper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// noProvisioner is the provisioner of classes whose volumes people make.
const noProvisioner = "kubernetes.io/no-provisioner"

// provision is what it takes to make a volume for a claim.
//
// Upstream: checkVolumeProvisions in plugins/volumebinding/binder.go.
type provision struct {
	class *storagev1.StorageClass
	// counted is set if the driver tells where it has how much, and capacities are those that are enough.
	counted    bool
	capacities byLabel[*capacity]
}

func (s *storage) newProvision(pvc *corev1.PersistentVolumeClaim) provision {
	p := provision{class: s.classes[classOfClaim(pvc)]}
	size, sized := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	driver := s.drivers[p.class.Provisioner]
	p.counted = sized && driver != nil && driver.Spec.StorageCapacity != nil && *driver.Spec.StorageCapacity
	if !p.counted {
		return p
	}
	var enough []*capacity
	for _, c := range s.capacities {
		if c.StorageClassName == p.class.Name && c.selector != nil && c.holds(size.Value()) {
			enough = append(enough, c)
		}
	}
	// Upstream takes any.
	slices.SortFunc(enough, func(a, b *capacity) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, c := range enough {
		label, values := c.label()
		p.capacities.add(c, label, values)
	}
	return p
}

// on tells whether the volume can be made for a node: noVolume if nobody makes any there, noStorage if there is too little
// to make it of. The capacity is nil if it does not count.
func (p *provision) on(n *nodeState) (c *capacity, noVolume, noStorage bool) {
	if p.class.Provisioner == "" || p.class.Provisioner == noProvisioner ||
		!v1helper.MatchTopologySelectorTerms(p.class.AllowedTopologies, labels.Set(n.node.Labels)) {
		return nil, true, false
	}
	if !p.counted {
		return nil, false, false
	}
	c, found := p.capacities.first(n.node.Labels, func(c *capacity) bool { return c.selector.Matches(labels.Set(n.node.Labels)) })
	return c, false, !found
}

// holds reports whether a volume of the size in bytes can be made of it.
//
// Upstream: capacitySufficient in plugins/volumebinding/binder.go.
func (c *capacity) holds(size int64) bool {
	limit := c.MaximumVolumeSize
	if limit == nil {
		limit = c.Capacity
	}
	return limit != nil && limit.Value() >= size
}

// label is one that nodes with access must have, and its values; empty for none.
func (c *capacity) label() (label string, values []string) {
	requirements, _ := c.selector.Requirements()
	for _, r := range requirements {
		if r.Operator() == operator.In || r.Operator() == operator.Equals {
			return r.Key(), r.ValuesUnsorted()
		}
	}
	return "", nil
}
