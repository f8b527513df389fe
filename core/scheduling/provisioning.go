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
	class *storageClass
	// counted is set if the driver tells where it has how much, and capacities are those that are enough.
	counted    bool
	capacities byLabel[*capacity]
}

// storageClass is a StorageClass, and what its allowedTopologies ask of nodes.
type storageClass struct {
	*storagev1.StorageClass
	topologies []labels.Selector
}

// of is the object, nil for none.
func (c *storageClass) of() *storagev1.StorageClass {
	if c == nil {
		return nil
	}
	return c.StorageClass
}

func newStorageClass(object *storagev1.StorageClass) *storageClass {
	class := &storageClass{StorageClass: object}
	for _, term := range object.AllowedTopologies {
		// An empty term allows nothing, and so does one that the API server let through in an older version.
		if selector, err := v1helper.TopologySelectorRequirementsAsSelector(term.MatchLabelExpressions); err == nil && len(term.MatchLabelExpressions) > 0 {
			class.topologies = append(class.topologies, selector)
		}
	}
	return class
}

// allows reports whether volumes of the class can be made for a node with these labels.
//
// Upstream: MatchTopologySelectorTerms in pkg/apis/core/v1/helper/helpers.go.
func (c *storageClass) allows(of labels.Set) bool {
	return len(c.AllowedTopologies) == 0 || slices.ContainsFunc(c.topologies, func(s labels.Selector) bool { return s.Matches(of) })
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
	if p.class.Provisioner == "" || p.class.Provisioner == noProvisioner || !p.class.allows(labels.Set(n.node.Labels)) {
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
