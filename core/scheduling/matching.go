package scheduling

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// matching is the volumes that a claim can be bound to.
//
// Upstream: FindMatchingVolume in k8s.io/component-helpers/storage/volume/pv_helpers.go. Of equal volumes it takes any, and
// this the first by name.
type matching struct {
	pvc      *corev1.PersistentVolumeClaim
	selector labels.Selector
	// given are those that name the claim. If there are any, no other will do.
	given []*volume
	// ofClass are all of the claim's class, the smallest first.
	ofClass *byLabel[*volume]
}

func (s *storage) newMatching(pvc *corev1.PersistentVolumeClaim) matching {
	class := classOfClaim(pvc)
	m := matching{pvc: pvc, selector: labels.Everything(), ofClass: s.bySize(class)}
	if pvc.Spec.Selector != nil {
		var err error
		if m.selector, err = metav1.LabelSelectorAsSelector(pvc.Spec.Selector); err != nil {
			// The API server validates selectors: one that it let through in an older version selects nothing.
			m.selector = labels.Nothing()
		}
	}
	for _, v := range s.ofClass[class] {
		if pv := v.now(); names(pv, pvc) && suits(pv, pvc) {
			m.given = append(m.given, v)
		}
	}
	slices.SortFunc(m.given, byName)
	return m
}

func byName(a, b *volume) int { return cmp.Compare(a.object.Name, b.object.Name) }

// bySize are the volumes of a class, the smallest first. They are kept while the class has the same.
func (s *storage) bySize(class string) *byLabel[*volume] {
	found := s.sorted[class]
	if found != nil {
		return found
	}
	all := slices.SortedFunc(maps.Values(s.ofClass[class]), func(a, b *volume) int {
		sizeA, sizeB := a.object.Spec.Capacity[corev1.ResourceStorage], b.object.Spec.Capacity[corev1.ResourceStorage]
		return cmp.Or(sizeA.Cmp(sizeB), byName(a, b))
	})
	found = &byLabel[*volume]{}
	for _, v := range all {
		label, values := labelOfVolume(v.object)
		found.add(v, label, values)
	}
	s.sorted[class] = found
	return found
}

// on is the volume for the claim on a node, nil if there is none but those that were taken before.
func (m *matching) on(n *nodeState, before []staticBinding) *volume {
	taken := func(v *volume) bool {
		return slices.ContainsFunc(before, func(s staticBinding) bool { return s.volume == v })
	}
	for _, v := range m.given {
		if taken(v) {
			continue
		}
		if reaches(v.affinity, n) {
			return v
		}
		return nil
	}
	found, _ := m.ofClass.first(n.node.Labels, func(v *volume) bool { return m.isFree(v.now()) && !taken(v) && reaches(v.affinity, n) })
	return found
}

// isFree reports whether the claim can be bound to a volume that is for no claim.
func (m *matching) isFree(pv *corev1.PersistentVolume) bool {
	return pv.Spec.ClaimRef == nil && pv.Status.Phase == corev1.VolumeAvailable && suits(pv, m.pvc) &&
		m.selector.Matches(labels.Set(pv.Labels)) && hasModes(pv, m.pvc)
}

// suits reports whether a volume is large enough for a claim and of its mode and attributes.
func suits(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) bool {
	size, requested := pv.Spec.Capacity[corev1.ResourceStorage], pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	return size.Cmp(requested) >= 0 && pv.DeletionTimestamp == nil &&
		or(pv.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) == or(pvc.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) &&
		or(pv.Spec.VolumeAttributesClassName, "") == or(pvc.Spec.VolumeAttributesClassName, "")
}

func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// names reports whether a volume is for a claim.
//
// Upstream: IsVolumeBoundToClaim in k8s.io/component-helpers/storage/volume/pv_helpers.go.
func names(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) bool {
	ref := pv.Spec.ClaimRef
	return ref != nil && ref.Name == pvc.Name && ref.Namespace == pvc.Namespace && (ref.UID == "" || ref.UID == pvc.UID)
}

func hasModes(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) bool {
	for _, mode := range pvc.Spec.AccessModes {
		if !slices.Contains(pv.Spec.AccessModes, mode) {
			return false
		}
	}
	return true
}

// labelOfVolume is a label that the nodes which a volume can be used on must have, and its values; empty for none.
func labelOfVolume(pv *corev1.PersistentVolume) (label string, values []string) {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil || len(pv.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		return "", nil
	}
	for _, r := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions {
		if r.Operator == corev1.NodeSelectorOpIn {
			return r.Key, r.Values
		}
	}
	return "", nil
}

// byLabel is a list in order that is asked for its first item which does for a node. Items that only nodes with a certain
// label can use are found by the label: there may be some for every node.
type byLabel[T any] struct {
	items []T
	// labelled are the places of such items by label and value, and others those of the rest.
	labelled map[string]map[string][]int
	others   []int
}

func (l *byLabel[T]) add(item T, label string, values []string) {
	at := len(l.items)
	l.items = append(l.items, item)
	if label == "" {
		l.others = append(l.others, at)
		return
	}
	if l.labelled == nil {
		l.labelled = map[string]map[string][]int{}
	}
	if l.labelled[label] == nil {
		l.labelled[label] = map[string][]int{}
	}
	for _, value := range values {
		l.labelled[label][value] = append(l.labelled[label][value], at)
	}
}

func (l *byLabel[T]) first(of map[string]string, does func(T) bool) (item T, found bool) {
	best := len(l.items)
	look := func(places []int) {
		for _, at := range places {
			if at >= best {
				return
			}
			if does(l.items[at]) {
				best = at
				return
			}
		}
	}
	look(l.others)
	for label, byValue := range l.labelled {
		if value, has := of[label]; has {
			look(byValue[value])
		}
	}
	if best == len(l.items) {
		return item, false
	}
	return l.items[best], true
}
