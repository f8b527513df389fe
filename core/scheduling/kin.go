package scheduling

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// kin are pods that no selector can tell apart.
type kin struct {
	namespace string
	labels    labels.Set
	// leaving is set for pods that are being deleted.
	leaving bool
	// members are all of them, on nodes or not.
	members []*entry
	// chosen are the selections that they are in.
	chosen []*selection

	key string
}

// selection counts on each node the pods that something chooses, while some class asks.
type selection struct {
	choice
	// counts are of pods, by node index.
	counts []int32
	refs   int
}

// choice tells which pods are chosen. Equal keys choose the same.
type choice struct {
	key     string
	chooses func(*kin) bool
}

// spreadingOver chooses the pods of a namespace that a selector selects. An empty one selects none, and pods that leave do
// not count.
//
// Upstream: countPodsMatchSelector in plugins/podtopologyspread/common.go.
func spreadingOver(namespace string, selector labels.Selector) choice {
	return choice{"spread/" + namespace + "/" + selector.String() + nothing(selector), func(k *kin) bool {
		return !k.leaving && !selector.Empty() && selects(namespace, selector, k)
	}}
}

func selects(namespace string, selector labels.Selector, k *kin) bool {
	return k.namespace == namespace && selector.Matches(k.labels)
}

// choosing chooses the pods that all of a waiting pod's terms do.
func (c *Cluster) choosing(terms []term) choice {
	keys := []string{"near"}
	for i := range terms {
		keys = append(keys, terms[i].String())
	}
	return choice{strings.Join(keys, "/"), func(k *kin) bool {
		for i := range terms {
			if !c.chosenBy(&terms[i], k) {
				return false
			}
		}
		return true
	}}
}

// join puts a pod among its kin.
func (c *Cluster) join(e *entry, pod *corev1.Pod) {
	c.key = appendBool(appendString(c.key[:0], pod.Namespace), pod.DeletionTimestamp != nil)
	for _, label := range slices.Sorted(maps.Keys(pod.Labels)) {
		c.key = appendString(appendString(c.key, label), pod.Labels[label])
	}
	k := c.kins[string(c.key)]
	if k == nil {
		k = &kin{namespace: pod.Namespace, labels: pod.Labels, leaving: pod.DeletionTimestamp != nil, key: string(c.key)}
		for _, s := range c.selections {
			if s.chooses(k) {
				k.chosen = append(k.chosen, s)
			}
		}
		c.kins[k.key] = k
	}
	e.kin, e.among = k, len(k.members)
	k.members = append(k.members, e)
}

// part is the reverse of join.
func (c *Cluster) part(e *entry) {
	k := e.kin
	last := k.members[len(k.members)-1]
	k.members[e.among], last.among = last, e.among
	k.members[len(k.members)-1] = nil
	if k.members = k.members[:len(k.members)-1]; len(k.members) == 0 {
		delete(c.kins, k.key)
	}
}

// selectionOf finds a selection, or counts it. The caller releases it.
func (c *Cluster) selectionOf(choice choice) *selection {
	s := c.selections[choice.key]
	if s == nil {
		s = &selection{choice: choice, counts: make([]int32, len(c.nodes))}
		c.selections[choice.key] = s
		for _, k := range c.kins {
			if !s.chooses(k) {
				continue
			}
			k.chosen = append(k.chosen, s)
			for _, e := range k.members {
				if e.on != nil {
					s.counts[e.on.at]++
				}
			}
		}
	}
	s.refs++
	return s
}

func (c *Cluster) releaseSelection(s *selection) {
	if s.refs--; s.refs > 0 {
		return
	}
	delete(c.selections, s.key)
	for _, k := range c.kins {
		if i := slices.Index(k.chosen, s); i >= 0 {
			k.chosen = slices.Delete(k.chosen, i, i+1)
		}
	}
}

// isIn reports whether pods of a kind are in a selection.
func (k *kin) isIn(s *selection) bool { return slices.Contains(k.chosen, s) }
