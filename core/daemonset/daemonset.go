package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/history"
	"github.com/zeroplane/zeroplane/core/ownership"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// burst is how many pods one plan makes, and how many it removes, at most (daemon_controller.go
// BurstReplicas). The change that the plan makes asks for the next one.
const burst = 250

// component is who upstream's events come from.
const component = "daemonset-controller"

// kind is what controller references name.
var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// Snapshot is everything that a decision is made on. Its objects are read and never altered.
type Snapshot struct {
	Set *appsv1.DaemonSet
	// Pods are those of the namespace that the set controls, and those that its selector matches and
	// nobody controls.
	Pods []*corev1.Pod
	// Revisions are all of the namespace: the name of a new one may be taken by another's.
	Revisions []*appsv1.ControllerRevision
	// Nodes are all that there are.
	Nodes []*corev1.Node
	// Backoffs are what earlier plans put off, of the Kinds that Backoffs(Set, Pods) gives.
	Backoffs []plan.Later
	Now      time.Time
}

// decision is a decision in the making.
type decision struct {
	snapshot  Snapshot
	set       *appsv1.DaemonSet
	selector  labels.Selector
	notices   podcontrol.Notices
	nodes     []*corev1.Node
	placement placement

	// pods are those that the set has, and onNode the same by the node that they are for, without those
	// that have ended and are going.
	pods   []*corev1.Pod
	onNode map[string][]*corev1.Pod
	// revisions are those of the set from the lowest to the highest: old without the current one.
	revisions, old []*appsv1.ControllerRevision
	current        *appsv1.ControllerRevision

	plan   plan.Plan
	status appsv1.DaemonSetStatus
	// retry is when the first of the failed pods that are left alone is not any more.
	retry time.Time
	// creations and deletions are writes of pods, history of revisions.
	creations, deletions, history []plan.Write
}

// Decide decides one step of a DaemonSet: daemon_controller.go syncDaemonSet. An empty plan means that
// it has settled. The status write comes last: when a write before it was refused, the status is
// Failed's.
func Decide(s Snapshot) plan.Plan {
	r, ok := begin(s)
	if !ok {
		return r.plan
	}

	// 1. Know the pods and revisions.
	if r.plan.Writes = r.claim(); len(r.plan.Writes) > 0 {
		return r.plan
	}
	if r.plan.Writes = r.findCurrent(); len(r.plan.Writes) > 0 {
		return r.plan
	}
	r.groupPods()

	// 2. Decide.
	r.manage()
	if len(r.creations)+len(r.deletions) == 0 && r.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		r.rollingUpdate()
	}
	r.cleanupHistory()
	r.countPods()

	// 3. Gather what changed.
	return r.finish()
}

// Failed decides what to do when the server refused a write of a plan: the status is written all the
// same, as upstream does.
func Failed(s Snapshot) plan.Plan {
	full := Decide(s)
	p := plan.Plan{Reads: full.Reads}
	for _, w := range full.Writes {
		if w.Verb == plan.UpdateStatus {
			p.Writes = append(p.Writes, w)
		}
	}
	return p
}

// begin notes what the decision reads. It is not ok when there is nothing to decide: the set is being
// deleted, so that its history may be gone, or it selects all pods, or nobody knows which.
func begin(s Snapshot) (*decision, bool) {
	set := s.Set
	r := &decision{snapshot: s, set: set, nodes: slices.Clone(s.Nodes), placement: placementOf(set), notices: podcontrol.NoticesOf(set, kind, component)}
	slices.SortFunc(r.nodes, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	r.plan.Reads = []plan.Read{
		{Resource: plan.DaemonSets, Namespace: set.Namespace, Name: set.Name},
		{Resource: plan.Pods, Namespace: set.Namespace, Owner: set.UID},
		{Resource: plan.Revisions, Namespace: set.Namespace, Owner: set.UID},
		{Resource: plan.Nodes},
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || set.DeletionTimestamp != nil {
		return r, false
	}
	if selector.Empty() {
		r.plan.Notices = append(r.plan.Notices, *r.notices.Warning("SelectingAll",
			"This daemon set is selecting all pods. A non-empty selector is required."))
		return r, false
	}
	r.selector = selector
	r.plan.Reads = append(r.plan.Reads,
		plan.Read{Resource: plan.Pods, Namespace: set.Namespace, Selector: selector},
		plan.Read{Resource: plan.Revisions, Namespace: set.Namespace, Selector: selector})
	return r, true
}

// claim finds the pods and the revisions of the set, and the writes that adopt and release:
// daemon_controller.go getDaemonPods, update.go controlledHistories.
func (r *decision) claim() []plan.Write {
	controller := ownership.Controller{Object: r.set, Kind: kind}
	revisions := ownership.Claim(controller, plan.Revisions, history.Sorted(r.snapshot.Revisions), func(revision *appsv1.ControllerRevision) bool {
		return r.selector.Matches(labels.Set(revision.Labels))
	})
	pods := ownership.Claim(controller, plan.Pods, r.snapshot.Pods, func(pod *corev1.Pod) bool {
		return r.selector.Matches(labels.Set(pod.Labels))
	})
	r.revisions, r.pods = revisions.Objects, pods.Objects
	return append(revisions.Writes, pods.Writes...)
}

// finish puts the writes in order, the status last.
func (r *decision) finish() plan.Plan {
	for _, some := range [][]plan.Write{r.history, r.creations, r.deletions} {
		r.plan.Writes = append(r.plan.Writes, some...)
	}
	r.writeStatus()
	r.checkLater()
	return r.plan
}

// subject is what the plan's Laters are about.
func (r *decision) subject() plan.Ref {
	return plan.Ref{Resource: plan.DaemonSets, Namespace: r.set.Namespace, Name: r.set.Name, UID: r.set.UID}
}
