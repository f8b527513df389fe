package lifecycle

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// NamespaceDeletion is the kind of the Later that a terminating namespace waits for.
	NamespaceDeletion = "namespace-deletion"
	// namespaceRetry is how long to wait before looking again at a namespace whose content could not
	// all be seen or deleted, since nothing rings when that ends. It is the longest that upstream
	// waits (namespace_controller.go, nsControllerRateLimiter).
	namespaceRetry = time.Minute
)

// NamespaceContent is the snapshot that the deletion of a namespace is decided on.
type NamespaceContent struct {
	Namespace *corev1.Namespace
	// Resources are the namespaced resources that can be deleted, each at one version.
	Resources []schema.GroupVersionResource
	// Objects are all objects of these resources in the namespace.
	Objects []Remaining
	// Discovery holds what kept Resources from being complete.
	Discovery DiscoveryFailure
	// Refused is what the server answered to deletes of an earlier plan that it did not carry out.
	Refused []string
}

// Remaining is an object that is left in a namespace.
type Remaining struct {
	Ref               plan.Ref
	Finalizers        []string
	DeletionTimestamp *metav1.Time
	// Pod is what the end of a pod depends on, nil for other objects.
	Pod *RemainingPod
}

// RemainingPod is the part of a pod that says how long it takes to end.
type RemainingPod struct {
	Phase corev1.PodPhase
	// NodeName is empty while the pod is not bound: then it ends at once.
	NodeName string
	// TerminationGracePeriodSeconds is the field of the pod's spec.
	TerminationGracePeriodSeconds *int64
}

func (p RemainingPod) ended() bool {
	return p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed
}

// graceful reports whether a delete leaves the pod to its node (pod strategy, CheckGracefulDelete).
func (p RemainingPod) graceful() bool {
	return p.NodeName != "" && !p.ended() && p.TerminationGracePeriodSeconds != nil && *p.TerminationGracePeriodSeconds != 0
}

// DeleteNamespace decides how a namespace that is being deleted goes on, as Delete and
// deleteAllContent of namespace/deletion/namespaced_resources_deleter.go: its pods are deleted, then
// all else; its conditions say what is left and why; and once nothing is, the namespace is finalized.
// A namespace that is not being deleted, or is finalized already, is left alone.
//
// Upstream deletes and then counts what is left. Here what is left is what the deletes of this plan
// cannot remove at once: objects with finalizers, and pods that end in their own time. Only a
// snapshot without content finalizes, so the namespace is decided again when its last object goes. A
// Later is asked for only where no change rings: when the pods have had their grace, and after a
// failure.
//
// An empty namespace that Finalize removes goes without a last update of its conditions.
func DeleteNamespace(content NamespaceContent, now time.Time) plan.Plan {
	ns := content.Namespace
	if ns.DeletionTimestamp.IsZero() {
		return plan.Plan{}
	}
	if len(ns.Spec.Finalizers) == 0 {
		return decided(plan.Plan{Writes: namespaceStatus(ns, nil, now)}, readOf(namespaceRef(ns)))
	}
	pods, others := sortedContent(content.Objects)
	left := survey(ns, pods, now)
	p := plan.Plan{Writes: deletes(pods)}
	if left.count == 0 {
		p.Writes = append(p.Writes, deletes(others)...)
		left.add(survey(ns, others, now))
	} else {
		// As upstream, the conditions count nothing while the other objects wait for the pods.
		left.byResource, left.byFinalizer = nil, nil
	}
	status := namespaceStatus(ns, conditionsOf(content, left, now), now)
	failed := content.Discovery.any() || len(content.Refused) > 0
	switch {
	case len(content.Objects) == 0 && !failed && (len(status) == 0 || vanishes(ns)):
		p.Writes = append(p.Writes, finalize(ns))
		p.Later = []plan.Later{{Subject: namespaceRef(ns), Kind: NamespaceDeletion}}
	default:
		p.Writes = append(p.Writes, status...)
		p.Later = namespaceLater(ns, left.estimate, failed, now)
	}
	return decided(p, namespaceReads(content)...)
}

func namespaceRef(ns *corev1.Namespace) plan.Ref {
	return plan.Ref{Resource: plan.Namespaces, Name: ns.Name, UID: ns.UID}
}

// namespaceReads are the namespace and everything that may appear in it.
func namespaceReads(content NamespaceContent) []plan.Read {
	reads := []plan.Read{readOf(namespaceRef(content.Namespace))}
	for _, resource := range content.Resources {
		reads = append(reads, plan.Read{Resource: resource, Namespace: content.Namespace.Name})
	}
	return reads
}

// sortedContent returns the pods and the other objects, both by resource and name.
func sortedContent(objects []Remaining) (pods, others []Remaining) {
	for _, object := range objects {
		if object.Ref.Resource == plan.Pods {
			pods = append(pods, object)
		} else {
			others = append(others, object)
		}
	}
	byPlace := func(a, b Remaining) int {
		return cmp.Or(
			cmp.Compare(a.Ref.Resource.Group, b.Ref.Resource.Group),
			cmp.Compare(a.Ref.Resource.Resource, b.Ref.Resource.Resource),
			cmp.Compare(a.Ref.Name, b.Ref.Name),
		)
	}
	slices.SortFunc(pods, byPlace)
	slices.SortFunc(others, byPlace)
	return pods, others
}

// deletes are in the background, so that the server adds no finalizer for garbage collection, and
// takes off one that an earlier delete has set: everything in the namespace goes anyway.
func deletes(objects []Remaining) []plan.Write {
	background := metav1.DeletePropagationBackground
	var writes []plan.Write
	for _, object := range objects {
		if object.DeletionTimestamp != nil && len(object.ownFinalizers()) == len(object.Finalizers) {
			continue
		}
		writes = append(writes, plan.Write{
			Verb:        plan.Delete,
			Resource:    object.Ref.Resource,
			Namespace:   object.Ref.Namespace,
			Name:        object.Ref.Name,
			UID:         object.Ref.UID,
			Propagation: &background,
			Reason:      "its namespace is deleted",
		})
	}
	return writes
}

// ownFinalizers are those that a delete in the background leaves in place.
func (r Remaining) ownFinalizers() []string {
	return slices.DeleteFunc(slices.Clone(r.Finalizers), func(name string) bool {
		return name == metav1.FinalizerOrphanDependents || name == metav1.FinalizerDeleteDependents
	})
}

// outlives reports whether the object is still there after the delete that deletes asks for.
func (r Remaining) outlives() bool {
	switch {
	case len(r.ownFinalizers()) > 0:
		return true
	case r.DeletionTimestamp != nil && (r.Pod != nil || len(r.Finalizers) == 0):
		return true
	default:
		return r.Pod != nil && r.Pod.graceful()
	}
}

// leftovers is what is still there after the deletes (allGVRDeletionMetadata).
type leftovers struct {
	count       int
	byResource  map[schema.GroupVersionResource]int
	byFinalizer map[string]int
	// estimate is the grace in seconds that pods still have.
	estimate int64
	// failures are resources of which objects are left for no reason that is known.
	failures []string
}

func (l *leftovers) add(other leftovers) {
	l.count += other.count
	for resource, n := range other.byResource {
		l.byResource[resource] += n
	}
	for finalizer, n := range other.byFinalizer {
		l.byFinalizer[finalizer] += n
	}
	l.estimate = max(l.estimate, other.estimate)
	l.failures = append(l.failures, other.failures...)
}

// survey counts what is left of objects, which are sorted by resource.
func survey(ns *corev1.Namespace, objects []Remaining, now time.Time) leftovers {
	total := leftovers{byResource: map[schema.GroupVersionResource]int{}, byFinalizer: map[string]int{}}
	for len(objects) > 0 {
		resource := objects[0].Ref.Resource
		end := slices.IndexFunc(objects, func(r Remaining) bool { return r.Ref.Resource != resource })
		if end < 0 {
			end = len(objects)
		}
		total.add(surveyResource(ns, resource, objects[:end], now))
		objects = objects[end:]
	}
	return total
}

// surveyResource counts what is left of one resource (deleteAllContentForGroupVersionResource).
func surveyResource(ns *corev1.Namespace, resource schema.GroupVersionResource, objects []Remaining, now time.Time) leftovers {
	left := leftovers{byFinalizer: map[string]int{}}
	for _, object := range objects {
		if !object.outlives() {
			continue
		}
		left.count++
		for _, finalizer := range object.ownFinalizers() {
			left.byFinalizer[finalizer]++
		}
	}
	if left.count == 0 {
		return left
	}
	left.byResource = map[schema.GroupVersionResource]int{resource: left.count}
	left.estimate = graceLeft(ns, objects, now)
	if left.estimate == 0 && len(left.byFinalizer) == 0 {
		left.failures = []string{fmt.Sprintf("unexpected items still remain in namespace: %s for gvr: %v", ns.Name, resource)}
	}
	return left
}

// graceLeft is the longest grace of a pod that has not ended, in seconds, or 0 once so much time has
// passed since the namespace was deleted (estimateGracefulTermination).
func graceLeft(ns *corev1.Namespace, objects []Remaining, now time.Time) int64 {
	var estimate int64
	for _, object := range objects {
		pod := object.Pod
		if pod == nil || pod.ended() || pod.TerminationGracePeriodSeconds == nil {
			continue
		}
		estimate = max(estimate, *pod.TerminationGracePeriodSeconds)
	}
	if now.Sub(ns.DeletionTimestamp.Time) >= time.Duration(estimate)*time.Second {
		return 0
	}
	return estimate
}

// namespaceLater is when to look again although nothing has changed.
func namespaceLater(ns *corev1.Namespace, estimate int64, failed bool, now time.Time) []plan.Later {
	later := plan.Later{Subject: namespaceRef(ns), Kind: NamespaceDeletion}
	if estimate > 0 {
		later.At = ns.DeletionTimestamp.Add(time.Duration(estimate) * time.Second)
	}
	if retry := now.Add(namespaceRetry); failed && (later.At.IsZero() || retry.Before(later.At)) {
		later.At = retry
	}
	if later.At.IsZero() {
		return nil
	}
	return []plan.Later{later}
}

// vanishes reports whether Finalize removes the namespace.
func vanishes(ns *corev1.Namespace) bool {
	return len(ns.Finalizers) == 0 && len(otherFinalizers(ns)) == 0
}

// otherFinalizers are the finalizers of the spec that belong to others, sorted.
func otherFinalizers(ns *corev1.Namespace) []corev1.FinalizerName {
	others := []corev1.FinalizerName{}
	for _, name := range ns.Spec.Finalizers {
		if name != corev1.FinalizerKubernetes {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}

// finalize drops the finalizer of the control plane (finalizeNamespace).
func finalize(ns *corev1.Namespace) plan.Write {
	finalized := &corev1.Namespace{ObjectMeta: *ns.ObjectMeta.DeepCopy(), Spec: *ns.Spec.DeepCopy()}
	finalized.Spec.Finalizers = otherFinalizers(ns)
	return plan.Write{
		Verb:     plan.Finalize,
		Resource: plan.Namespaces,
		Name:     ns.Name,
		Object:   finalized,
		Reason:   "nothing is left in the namespace",
	}
}
