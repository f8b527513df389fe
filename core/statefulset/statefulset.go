package statefulset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/ownership"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// maxPods is how many pods one plan makes, and how many it removes, at most (stateful_set_control.go
// MaxBatchSize). The change that the plan makes asks for the next one.
const maxPods = 500

// kind is what controller references name.
var kind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// Snapshot is everything that a decision is made on. Its objects are read and never altered.
type Snapshot struct {
	Set *appsv1.StatefulSet
	// Pods are those of the namespace that the set controls, those that its selector matches and nobody
	// controls, and those that have the names of PodNames(Set), whoever controls them.
	Pods []*corev1.Pod
	// Revisions are all of the namespace: the name of a new one may be taken by another's.
	Revisions []*appsv1.ControllerRevision
	// Claims are those that there are of ClaimNames(Set, Pods).
	Claims []*corev1.PersistentVolumeClaim
	// Default fills in what the API server fills in where a StatefulSet is silent. A revision of an
	// earlier version of Kubernetes may lack what is filled in today.
	Default func(*appsv1.StatefulSet)
	Now     time.Time
}

// decision is a decision in the making.
type decision struct {
	snapshot Snapshot
	set      *appsv1.StatefulSet
	selector labels.Selector
	notices  podcontrol.Notices

	// revisions are those of the set, from the lowest to the highest; current and update are what its
	// pods had, and what they are to have.
	revisions       []*appsv1.ControllerRevision
	current, update *appsv1.ControllerRevision
	collisions      int32

	// pods are those that the set has. replicas has one for each ordinal in order, made or to be made;
	// condemned are those of other ordinals, the highest first.
	pods, replicas, condemned []*corev1.Pod
	// strangers are the names of pods that the set does not have.
	strangers map[string]bool
	// firstUnavailable is the first of the replicas, or else the lowest of the condemned.
	firstUnavailable *corev1.Pod
	// claims are those that there are, by name, as the plan leaves them.
	claims map[string]*corev1.PersistentVolumeClaim

	status appsv1.StatefulSetStatus
	// stopped is set when the plan must not go on to the next phase.
	stopped bool
	plan    plan.Plan
	writes  writes
}

// writes are what a plan asks for, in the order in which it is carried out. Those of one kind are
// together, so that they share a transaction.
type writes struct {
	revisions, newClaims, claims, pods, newPods, deletions, history []plan.Write
	// deleted are the pods of deletions, repaired those of pods, claimed the claims of newClaims.
	deleted, repaired map[types.UID]bool
	claimed           map[string]bool
}

// Decide decides one step of a StatefulSet: stateful_set.go sync. An empty plan means that it has
// settled. The status write comes last: when a write before it was refused, the status is Failed's.
func Decide(s Snapshot) plan.Plan {
	r, ok := begin(s)
	if !ok {
		return r.plan
	}

	// 1. Know the pods and revisions.
	if claims := r.claim(); len(claims) > 0 {
		r.plan.Writes = claims
		return r.plan
	}
	r.findRevisions()
	r.tellApart()

	// 2. Decide.
	r.countPods()
	if r.set.DeletionTimestamp == nil {
		r.updatePods()
		r.truncateHistory()
	}

	// 3. Gather what changed.
	return r.finish()
}

// Failed decides what to do when the server refused a write of a plan: the status is written all the
// same, as upstream does. message is the server's.
func Failed(s Snapshot, refused plan.Write, message string) plan.Plan {
	full := Decide(s)
	p := plan.Plan{Reads: full.Reads, Notices: failedClaim(s.Set, refused, message)}
	for _, w := range full.Writes {
		if w.Verb == plan.UpdateStatus {
			p.Writes = append(p.Writes, w)
		}
	}
	return p
}

// begin notes what the decision reads. It is not ok when the selector is invalid, or the strategy is
// one that only a feature gate allows.
func begin(s Snapshot) (*decision, bool) {
	set := s.Set
	r := &decision{
		snapshot: s, set: set, claims: map[string]*corev1.PersistentVolumeClaim{}, notices: noticesOf(set),
		writes: writes{deleted: map[types.UID]bool{}, repaired: map[types.UID]bool{}, claimed: map[string]bool{}},
	}
	r.plan.Reads = []plan.Read{
		{Resource: plan.StatefulSets, Namespace: set.Namespace, Name: set.Name},
		{Resource: plan.Pods, Namespace: set.Namespace, Owner: set.UID},
		{Resource: plan.Revisions, Namespace: set.Namespace, Owner: set.UID},
	}
	if set.Spec.UpdateStrategy.Type == appsv1.RecreateStatefulSetStrategyType {
		r.plan.Notices = append(r.plan.Notices, *r.notices.Warning("UnknownStrategy", "statefulset "+set.Namespace+"/"+set.Name+
			" uses Recreate strategy but feature gate StatefulSetRecreateStrategy is disabled"))
		return r, false
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return r, false
	}
	r.selector = selector
	r.plan.Reads = append(r.plan.Reads,
		plan.Read{Resource: plan.Pods, Namespace: set.Namespace, Selector: selector},
		plan.Read{Resource: plan.Revisions, Namespace: set.Namespace, Selector: selector})
	for _, name := range ClaimNames(set, s.Pods) {
		r.plan.Reads = append(r.plan.Reads, plan.Read{Resource: plan.Claims, Namespace: set.Namespace, Name: name})
	}
	for _, claim := range s.Claims {
		r.claims[claim.Name] = claim
	}
	return r, true
}

// claim finds the pods and the revisions of the set, and the writes that adopt and release:
// stateful_set.go adoptOrphanRevisions, getPodsForStatefulSet. Revisions that the selector does not match
// are left alone.
func (r *decision) claim() []plan.Write {
	controller := ownership.Controller{Object: r.set, Kind: kind}
	var matching []*appsv1.ControllerRevision
	for _, revision := range r.snapshot.Revisions {
		if r.selector.Matches(labels.Set(revision.Labels)) {
			matching = append(matching, revision)
		}
	}
	revisions := ownership.Claim(controller, plan.Revisions, matching, func(*appsv1.ControllerRevision) bool { return true })
	pods := ownership.Claim(controller, plan.Pods, r.snapshot.Pods, func(pod *corev1.Pod) bool {
		parent, _ := parentAndOrdinal(pod.Name)
		return parent == r.set.Name && r.selector.Matches(labels.Set(pod.Labels))
	})
	r.revisions, r.pods = revisions.Objects, pods.Objects
	r.strangers = map[string]bool{}
	for _, pod := range r.snapshot.Pods {
		r.strangers[pod.Name] = !slices.Contains(r.pods, pod)
	}
	return append(revisions.Writes, pods.Writes...)
}

// finish puts the writes in order: what pods need before the pods, and the status last.
func (r *decision) finish() plan.Plan {
	w := r.writes
	for _, some := range [][]plan.Write{w.revisions, w.newClaims, w.claims, w.pods, w.newPods, w.deletions, w.history} {
		r.plan.Writes = append(r.plan.Writes, some...)
	}
	r.writeStatus()
	r.checkAvailableLater()
	return r.plan
}

// checkAvailableLater asks to be called when the next ready pod becomes available.
func (r *decision) checkAvailableLater() {
	before := r.set.Status
	subject := plan.Ref{Resource: plan.StatefulSets, Namespace: r.set.Namespace, Name: r.set.Name, UID: r.set.UID}
	r.plan.Later = append(r.plan.Later, podcontrol.AvailableLater(subject, r.pods, r.set.Spec.MinReadySeconds,
		podcontrol.Counts{Ready: before.ReadyReplicas, Available: before.AvailableReplicas},
		podcontrol.Counts{Ready: r.status.ReadyReplicas, Available: r.status.AvailableReplicas}, r.snapshot.Now)...)
}
