package scheduling

import corev1 "k8s.io/api/core/v1"

// Evaluation is how the nodes look to one pod.
type Evaluation struct {
	// Scores are the weighted sums of the nodes that can take the pod, by name.
	Scores map[string]int64
	// Message says why there are none, in upstream's words.
	Message string
}

// Evaluate answers for one pod what Place would weigh, whether or not the pod is waiting, and changes
// nothing.
func (c *Cluster) Evaluate(pod *corev1.Pod) Evaluation {
	like := &entry{
		pod: pod, class: newClass(pod, c.spreadingOf(pod)), neighbourhood: c.neighbourhoodOf(pod),
		kin: &kin{namespace: pod.Namespace, labels: pod.Labels},
	}
	defer c.releaseNeighbourhood(like.neighbourhood)
	r := newRun(c, 0)
	g := r.groupOf(like)
	b := r.newBoard(g, like.kin)
	e := Evaluation{Scores: map[string]int64{}}
	if !b.full {
		totals, constant := b.totals(c)
		for i, total := range totals {
			if total != closed {
				e.Scores[c.nodes[i].name] = total + constant
			}
		}
	}
	b.release(c)
	if len(e.Scores) == 0 {
		e.Message = r.explain(g, like.kin)
	}
	return e
}
