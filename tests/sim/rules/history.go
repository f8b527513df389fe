package rules

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The rules, as violations name them.
const (
	Surge       = "surge"
	Unavailable = "unavailable"
	Replicas    = "replicas"
	Ordinals    = "ordinals"
	Daemons     = "daemons"
	Finished    = "finished"
	Indexes     = "indexes"
	Overlap     = "overlap"
	Quota       = "quota"
	Budgets     = "budgets"
	Addresses   = "addresses"
	Ports       = "ports"
	Endpoints   = "endpoints"
	Settled     = "settled"
	Owned       = "owned"
	Quiet       = "quiet"
)

// AtRevisions are the rules that are looked at with each change.
var AtRevisions = []string{Surge, Unavailable, Replicas, Ordinals, Daemons, Finished, Indexes, Overlap, Quota, Budgets, Addresses, Ports}

// Violation is a rule that does not hold.
type Violation struct {
	Rule string
	// At is when, by the clock of the round.
	At   time.Time
	Text string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s, at %s: %s", v.Rule, v.At.Format(time.TimeOnly), v.Text)
}

// Change is one object before and after, nil where it was not there.
type Change struct {
	Resource schema.GroupResource
	Old, New metav1.Object
	At       time.Time
}

// History is what the logs of a cluster have told so far, in the order of commits.
type History struct {
	Violations []Violation
	// Changes that were looked at, and Asked how often each rule had something to say yes or no to.
	Changes int
	Asked   map[string]int

	objects map[schema.GroupResource]map[types.NamespacedName]metav1.Object
	// byOwner are pods by the UID of their controller.
	byOwner map[types.UID]map[types.NamespacedName]*corev1.Pod
	// ready is when the pod of a name was ready last.
	ready map[types.NamespacedName]time.Time
	// wanted is how many pods controllers asked for (replicas.go).
	wanted map[types.UID][]want
	// allowed is what quotas allowed before (quota.go).
	allowed map[types.UID][]limit
}

// New returns the history of an empty cluster.
func New() *History {
	return &History{
		Asked: map[string]int{}, objects: map[schema.GroupResource]map[types.NamespacedName]metav1.Object{},
		byOwner: map[types.UID]map[types.NamespacedName]*corev1.Pod{}, ready: map[types.NamespacedName]time.Time{},
		wanted: map[types.UID][]want{}, allowed: map[types.UID][]limit{},
	}
}

// checks are asked about each change, after it is in the history.
var checks = []func(*History, *Change){
	checkSurge, checkReplicas, checkOrdinals, checkDaemons, checkJobs, checkJobPods, checkOverlap, checkQuota, checkBudgets, checkServices, checkPodAddresses,
}

// Set takes a change.
func (h *History) Set(c Change) {
	h.Changes++
	id := nameOf(c)
	if h.objects[c.Resource] == nil {
		h.objects[c.Resource] = map[types.NamespacedName]metav1.Object{}
	}
	if c.New == nil {
		delete(h.objects[c.Resource], id)
	} else {
		h.objects[c.Resource][id] = c.New
	}
	h.notePod(&c, id)
	for _, check := range checks {
		check(h, &c)
	}
}

// Get returns an object, nil if there is none.
func (h *History) Get(resource schema.GroupVersionResource, namespace, name string) metav1.Object {
	return h.objects[resource.GroupResource()][types.NamespacedName{Namespace: namespace, Name: name}]
}

// All calls look with the objects of a resource.
func All[T metav1.Object](h *History, resource schema.GroupVersionResource, look func(T)) {
	for _, object := range h.objects[resource.GroupResource()] {
		if o, is := object.(T); is {
			look(o)
		}
	}
}

func nameOf(c Change) types.NamespacedName {
	object := c.New
	if object == nil {
		object = c.Old
	}
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}

// notePod keeps what is asked of pods.
func (h *History) notePod(c *Change, id types.NamespacedName) {
	if old, was := c.Old.(*corev1.Pod); was {
		if ref := metav1.GetControllerOfNoCopy(old); ref != nil {
			delete(h.byOwner[ref.UID], id)
		}
	}
	pod, is := c.New.(*corev1.Pod)
	if !is {
		return
	}
	if isReady(pod) {
		h.ready[id] = c.At
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		if h.byOwner[ref.UID] == nil {
			h.byOwner[ref.UID] = map[types.NamespacedName]*corev1.Pod{}
		}
		h.byOwner[ref.UID][id] = pod
	}
}

// created is the pod that a change creates, and its controller; nil if it does not.
func (c *Change) created() (*corev1.Pod, *metav1.OwnerReference) {
	pod, is := c.New.(*corev1.Pod)
	if !is || c.Old != nil {
		return nil, nil
	}
	return pod, metav1.GetControllerOfNoCopy(pod)
}

func (h *History) asked(rule string) { h.Asked[rule]++ }

func (h *History) violate(rule string, at time.Time, format string, args ...any) {
	h.Violations = append(h.Violations, Violation{rule, at, fmt.Sprintf(format, args...)})
}

func isReady(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// isLive reports whether a pod runs or will, and does not go.
func isLive(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil && !isOver(pod) }

// live are the pods of a controller that are.
func (h *History) live(owner types.UID) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range h.byOwner[owner] {
		if isLive(pod) {
			out = append(out, pod)
		}
	}
	return out
}

var pods = plan.Pods.GroupResource()
