package scheduling

import (
	"cmp"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// budget is a PodDisruptionBudget as preemption sees it: a wish, which it goes against when nothing else helps.
type budget struct {
	name     types.NamespacedName
	selector labels.Selector
	allowed  int32
	// disrupted are the pods whose eviction the budget has been charged with already.
	disrupted map[string]metav1.Time
}

// SetBudget adds a PodDisruptionBudget or replaces the one of its name.
func (c *Cluster) SetBudget(b *policyv1.PodDisruptionBudget) {
	c.DeleteBudget(b.Namespace, b.Name)
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil || selector.Empty() {
		return // matches nothing, as upstream has it
	}
	c.budgets = append(c.budgets, &budget{
		types.NamespacedName{Namespace: b.Namespace, Name: b.Name}, selector, b.Status.DisruptionsAllowed, b.Status.DisruptedPods,
	})
	slices.SortFunc(c.budgets, func(a, b *budget) int {
		return cmp.Or(cmp.Compare(a.name.Namespace, b.name.Namespace), cmp.Compare(a.name.Name, b.name.Name))
	})
}

// DeleteBudget removes a PodDisruptionBudget. Budgets tell which pods had better stay, and keep none from being preempted:
// they let no pod in.
func (c *Cluster) DeleteBudget(namespace, name string) {
	c.tellNothing()
	c.budgets = slices.DeleteFunc(c.budgets, func(b *budget) bool {
		return b.name == types.NamespacedName{Namespace: namespace, Name: name}
	})
}

// violating tells which of some victims, the most important first, would violate a budget if they all went.
//
// Upstream: FilterVictimsWithPDBViolation in framework/preemption/util.go.
func (c *Cluster) violating(victims []*entry) []bool {
	if len(c.budgets) == 0 {
		return nil
	}
	allowed := make([]int32, len(c.budgets))
	for i, b := range c.budgets {
		allowed[i] = b.allowed
	}
	out := make([]bool, len(victims))
	for i, v := range victims {
		out[i] = c.charge(v, allowed)
	}
	return out
}

// charge takes a victim off what budgets allow, and reports whether one of them does not allow it.
func (c *Cluster) charge(v *entry, allowed []int32) bool {
	if len(v.pod.Labels) == 0 {
		return false
	}
	for i, b := range c.budgets {
		if b.name.Namespace != v.pod.Namespace || !b.selector.Matches(labels.Set(v.pod.Labels)) {
			continue
		}
		if _, charged := b.disrupted[v.pod.Name]; charged {
			continue
		}
		if allowed[i]--; allowed[i] < 0 {
			return true
		}
	}
	return false
}
