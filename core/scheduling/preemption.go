package scheduling

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	reasonNoHelp      = "Preemption is not helpful for scheduling"
	reasonNever       = "not eligible due to preemptionPolicy=Never."
	reasonTerminating = "not eligible due to a terminating pod on the nominated node."
)

// Preemption is a pod that room is made for.
type Preemption struct {
	Pod *corev1.Pod
	// Node is the one that the pod is nominated to.
	Node string
	// Victims have to go from it, the most important first. Some may be going already.
	Victims []*corev1.Pod
	// Yields are the pods that lose their nomination to it without being looked at in the run. What comes of others is
	// among the results.
	Yields []*corev1.Pod
	// Message says why no node can take the pod as things are, in upstream's words.
	Message string
	// Release is a claim for devices that is given back for it, nil for none.
	Release *Release
	// Turn tells the order of decisions.
	Turn int
}

// prospects are one group's view of what refuses it on each node, and of what preemption could do about that, by node
// index. They are kept up with the run.
//
// Upstream: findCandidates in framework/preemption/preemption.go.
type prospects struct {
	class *class
	around
	refused    []verdict
	candidates []*candidate
	// unhelpful is why preemption does not help, and beyond the plugin that refuses the node without victims.
	unhelpful [][]string
	beyond    []string
	// faults are what made no sense when it was tried.
	faults []string
	// reasons and dead ends count those of all nodes, and helpful the candidates.
	reasons, deadEnds map[string]int
	helpful           int
	seen              int
}

// prospectsOf finds the prospects of a group as things are now.
func (r *run) prospectsOf(g group, k *kin) *prospects {
	p := r.prospects[g]
	if p == nil {
		size := len(r.cluster.nodes)
		p = &prospects{
			class: g.class, around: r.around(g, k), refused: make([]verdict, size), candidates: make([]*candidate, size), unhelpful: make([][]string, size), beyond: make([]string, size),
			faults:  make([]string, size),
			reasons: map[string]int{}, deadEnds: map[string]int{}, seen: len(r.steps),
		}
		r.prospects[g] = p
		if p.isBarred() {
			return p
		}
		for at := range r.cluster.nodes {
			p.look(r, at)
		}
		return p
	}
	if p.isBarred() {
		return p
	}
	news, elsewhere := r.steps[p.seen:], p.refresh(r.cluster)
	p.seen = len(r.steps)
	if len(news) > 0 && p.fault() != "" { // it may be of a node that has no room by now
		p.devices, elsewhere = p.devices.again(), true
	}
	for _, s := range news {
		if s.pod != nil && p.asks() {
			p.follow(s.pod, s.at)
			elsewhere = true
		}
	}
	if elsewhere || len(news) > len(p.refused) {
		for at := range p.refused {
			p.look(r, at)
		}
		return p
	}
	for _, s := range news {
		p.look(r, s.at)
	}
	return p
}

// look judges one node again.
func (p *prospects) look(r *run, at int) {
	n := r.cluster.nodes[at]
	if n.node == nil {
		return
	}
	p.tell(at, -1)
	m := n.asIs()
	p.refused[at], p.candidates[at], p.unhelpful[at], p.beyond[at], p.faults[at] = p.judge(p.class, &m), nil, nil, "", ""
	switch v := &p.refused[at]; {
	case len(v.reasons) == 0 || p.class.neverPreempts || !p.class.profile.Preempts:
	case !v.resolvable:
		p.unhelpful[at] = []string{reasonNoHelp}
	default:
		p.try(r, at)
	}
	p.tell(at, 1)
}

// try looks for the pods that would have to go from a node. What makes no sense about devices there is no fault of the pod,
// since they were only looked at for that.
func (p *prospects) try(r *run, at int) {
	before := p.fault()
	found, without := r.victimsOn(p.class, &p.around, r.cluster.nodes[at])
	p.candidates[at], p.unhelpful[at], p.beyond[at] = found, without.reasons, without.plugin
	if fault := p.fault(); fault != before {
		p.candidates[at], p.unhelpful[at], p.beyond[at], p.faults[at] = nil, nil, "", fault
		p.devices.fault = before
	}
}

// tell counts what is known of a node.
func (p *prospects) tell(at, by int) {
	add := func(to map[string]int, reasons []string) {
		for _, reason := range reasons {
			if to[reason] += by; to[reason] == 0 {
				delete(to, reason)
			}
		}
	}
	add(p.reasons, p.refused[at].reasons)
	add(p.deadEnds, p.unhelpful[at])
	if p.candidates[at] != nil {
		p.helpful += by
	}
}

// best is the node on which preemption hurts least; among equals, the one whose hash with salt is lowest.
//
// Upstream: SelectCandidate in framework/preemption/preemption.go, which breaks ties at random.
func (p *prospects) best(c *Cluster, salt uint64) (at int, found *candidate) {
	at = -1
	if p.helpful == 0 {
		return at, nil
	}
	for i, f := range p.candidates {
		if f == nil {
			continue
		}
		order := -1
		if found != nil {
			order = f.better(found)
		}
		if order < 0 || order == 0 && mix(salt^c.hashes[i]) < mix(salt^c.hashes[at]) {
			at, found = i, f
		}
	}
	return at, found
}

// attempt is what came of trying to make room for a pod that no node can take as things are.
type attempt struct {
	// at is the node, and found what has to go from it; nil if nothing helps.
	at    int
	found *candidate
	// barred is why the pod may not preempt others.
	barred string
	// release is a claim for devices that is given back, nil for none.
	release *Release
	// stateless is set if nothing was tried, and broken says what made no sense when it was: upstream breaks off.
	stateless bool
	broken    string
}

// attempt looks for the room that can be made for a pod of a group.
//
// Upstream: evaluate in framework/preemption/preemption.go.
func (r *run) attempt(g group, e *entry) attempt {
	if r.cluster.known == 0 {
		return attempt{}
	}
	p := r.prospectsOf(g, e.kin)
	if p.fault() != "" {
		return attempt{}
	}
	if p.isBarred() && p.barred.plugin != DynamicResources && g.class.profile.GivesBack {
		return attempt{stateless: true}
	}
	var a attempt
	if g.class.profile.GivesBack {
		a.release = p.releases(r.cluster.nodes)
	}
	switch {
	case !g.class.profile.Preempts:
	case g.class.neverPreempts:
		a.barred = reasonNever
	case p.isBarred():
	case r.victimsAreGoing(g, e, p):
		a.barred = reasonTerminating
	default:
		if a.at, a.found = p.best(r.cluster, r.saltOf(e)); a.found == nil {
			a.broken = aggregate(p.faults)
		}
	}
	return a
}

// aggregate is several errors as one.
//
// Upstream: Error of k8s.io/apimachinery/pkg/util/errors/errors.go.
func aggregate(errors []string) string {
	var told []string
	for _, each := range errors {
		if each != "" && !slices.Contains(told, each) {
			told = append(told, each)
		}
	}
	if len(told) < 2 {
		return strings.Join(told, "")
	}
	return "[" + strings.Join(told, ", ") + "]"
}

// forgets reports whether the pod has no use for its nomination any more.
func (a attempt) forgets() bool { return a.found == nil && a.barred+a.broken == "" && !a.stateless }

// outcome says it in upstream's words.
func (a attempt) outcome(r *run, g group) string {
	switch {
	case a.barred+a.broken != "":
		return a.barred + a.broken
	case a.found != nil:
		return fmt.Sprintf("found a potential placement for pod on node %s, preempting %d victims", r.cluster.nodes[a.at].name, len(a.found.victims))
	case r.prospects[g] == nil || !g.class.profile.Preempts:
		return ""
	case r.prospects[g].isBarred():
		return sayReasons(r.cluster.known, map[string]int{reasonNoHelp: r.cluster.known})
	}
	return sayReasons(r.cluster.known, r.prospects[g].deadEnds)
}

// makeRoom preempts pods for one that no node can take, and reports whether that helps. The room is left to it then; if
// not, its nomination is as before, or given up. Pods that were placed only now are left to the next run, which their
// bindings cause.
func (r *run) makeRoom(g group, e *entry, nominee *nodeState) bool {
	a := r.attempt(g, e)
	if a.found == nil || a.found.early {
		switch {
		case nominee == nil:
		case a.forgets():
			r.opened++
			r.turn++
			r.forgot[e] = true
			r.givenUp = append(r.givenUp, GivenUp{e.pod, r.turn})
			tell(r.cluster, podHint, e, nil)
		default:
			r.nominate(e, nominee)
		}
		return false
	}
	n := r.cluster.nodes[a.at]
	r.turn++
	made := Preemption{Pod: e.pod, Node: n.name, Turn: r.turn, Message: r.explain(g, e.kin, a), Release: a.release}
	for _, v := range a.found.victims {
		made.Victims = append(made.Victims, v.pod)
	}
	made.Yields = r.yield(n, g.class.priority)
	r.preemptions = append(r.preemptions, made)
	if nominee != nil && nominee != n {
		r.opened++
		tell(r.cluster, podHint, e, nil)
	}
	r.nominate(e, n)
	r.neighbours = r.neighbours || r.prospects[g].asks() || r.prospects[g].volumes.demands()
	return true
}

// conclusion is what is said of the pods of a group that failed.
type conclusion struct {
	message string
	refused pluginSet
	// hopeful is set if room can be made for them in the next run, or something about them makes no sense (faulty).
	hopeful, faulty bool
	// release is a claim for devices that is given back, nil for none.
	release *Release
}

// conclude tells why the pods failed that no room could be made for. Pods of a group without nominations fail alike, and
// sleep until somebody may let them in.
func (r *run) conclude(failed []*entry) []Failure {
	out := make([]Failure, 0, len(failed))
	alike := map[group]conclusion{}
	for _, e := range failed {
		g := r.groupOf(e)
		nominated := e.pod.Status.NominatedNodeName != ""
		so, known := alike[g]
		if !known || nominated {
			nominee := r.withdraw(e)
			a := r.attempt(g, e)
			so = conclusion{message: r.explain(g, e.kin, a), hopeful: a.found != nil || a.release != nil, release: a.release}
			if p := r.prospects[g]; p != nil && p.fault() != "" {
				so.faulty, so.hopeful = true, true
			}
			if nominee != nil {
				r.nominate(e, nominee)
			}
		}
		if !known && !nominated {
			so.refused = r.refusedBy(g)
			alike[g] = so
		}
		if !nominated && !so.hopeful {
			r.cluster.dormitory.rest(e, so.refused, so.message)
		}
		out = append(out, Failure{Pod: e.pod, Message: so.message, Release: so.release, Fault: so.faulty, Forget: r.yielded[e] || r.forgot[e]})
	}
	return out
}

// refusedBy are the plugins that refuse a group some node, or would without the pods that it may preempt.
func (r *run) refusedBy(g group) pluginSet {
	var set pluginSet
	p := r.prospects[g]
	if p == nil {
		return set
	}
	if p.isBarred() {
		return set.with(p.barred.plugin)
	}
	for at := range p.refused {
		for _, plugin := range []string{p.refused[at].plugin, p.beyond[at]} {
			if plugin != "" {
				set = set.with(plugin)
			}
		}
	}
	return set
}

// victimsAreGoing reports whether the pod has preempted others before, and they have not gone yet.
//
// Upstream: PodEligibleToPreemptOthers in plugins/defaultpreemption/default_preemption.go.
func (r *run) victimsAreGoing(g group, e *entry, p *prospects) bool {
	at, known := r.cluster.index[e.pod.Status.NominatedNodeName]
	if r.yielded[e] || r.forgot[e] || !known || r.cluster.nodes[at].node == nil {
		return false
	}
	if refused := &p.refused[at]; len(refused.reasons) > 0 && !refused.resolvable {
		return false
	}
	for _, other := range r.cluster.nodes[at].pods {
		if priorityOf(other.pod) < g.class.priority && goesForPreemption(other.pod) {
			return true
		}
	}
	return false
}

// yield has pods of lower priority that are nominated to a node look for another, and returns those that nobody looks at.
//
// Upstream: getLowerPriorityNominatedPods and clearNominatedNodeName in framework/preemption/executor.go.
func (r *run) yield(n *nodeState, priority int32) (unasked []*corev1.Pod) {
	for _, e := range slices.SortedFunc(slices.Values(n.nominated), inQueueOrder) {
		if e.class.priority >= priority {
			continue
		}
		r.withdraw(e)
		r.yielded[e] = true
		r.opened++
		tell(r.cluster, podHint, e, nil)
		if r.passesOver(e) {
			unasked = append(unasked, e.pod)
		}
	}
	return unasked
}
