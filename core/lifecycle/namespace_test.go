package lifecycle

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// left is an object left in namespace "ns".
func left(resource schema.GroupVersionResource, name string, options ...func(*Remaining)) Remaining {
	r := Remaining{Ref: plan.Ref{Resource: resource, Namespace: "ns", Name: name, UID: uidOf(name)}}
	for _, apply := range options {
		apply(&r)
	}
	return r
}

// running is a pod on a node with a grace of 30 seconds.
func running(r *Remaining) {
	r.Pod = &RemainingPod{Phase: corev1.PodRunning, NodeName: "node", TerminationGracePeriodSeconds: new(int64(30))}
}

func unbound(r *Remaining) {
	r.Pod = &RemainingPod{Phase: corev1.PodPending, TerminationGracePeriodSeconds: new(int64(30))}
}

func completed(r *Remaining) {
	running(r)
	r.Pod.Phase = corev1.PodSucceeded
}

func onItsWay(r *Remaining) { r.DeletionTimestamp = new(metav1.NewTime(noon)) }

func held(names ...string) func(*Remaining) {
	return func(r *Remaining) { r.Finalizers = names }
}

func removal(resource schema.GroupVersionResource, name string) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: resource, Namespace: "ns", Name: name, UID: uidOf(name),
		Propagation: new(metav1.DeletePropagationBackground), Reason: "its namespace is deleted",
	}
}

// said is a condition that holds.
type said struct{ reason, message string }

// conditions are the five conditions since a time; those that hold are given.
func conditions(since time.Time, holding map[corev1.NamespaceConditionType]said) []corev1.NamespaceCondition {
	at := metav1.NewTime(since)
	all := []corev1.NamespaceCondition{
		{Type: "NamespaceDeletionDiscoveryFailure", Status: "False", LastTransitionTime: at, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: "NamespaceDeletionGroupVersionParsingFailure", Status: "False", LastTransitionTime: at, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: "NamespaceDeletionContentFailure", Status: "False", LastTransitionTime: at, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: "NamespaceContentRemaining", Status: "False", LastTransitionTime: at, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: "NamespaceFinalizersRemaining", Status: "False", LastTransitionTime: at, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	for i := range all {
		if s, holds := holding[all[i].Type]; holds {
			all[i].Status, all[i].Reason, all[i].Message = "True", s.reason, s.message
		}
	}
	return all
}

func with(all []corev1.NamespaceCondition) func(*corev1.Namespace) {
	return func(ns *corev1.Namespace) { ns.Status.Conditions = all }
}

func statusWrite(all []corev1.NamespaceCondition, options ...func(*corev1.Namespace)) plan.Write {
	return plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Namespaces, Name: "ns",
		Object: namespace(append([]func(*corev1.Namespace){terminating, with(all)}, options...)...), Reason: "the namespace is being deleted",
	}
}

func finalizeWrite(options ...func(*corev1.Namespace)) plan.Write {
	ns := namespace(append([]func(*corev1.Namespace){terminating}, options...)...)
	ns.Status = corev1.NamespaceStatus{}
	return plan.Write{
		Verb: plan.Finalize, Resource: plan.Namespaces, Name: "ns", Object: ns, Reason: "nothing is left in the namespace",
	}
}

func laterAt(at time.Time) []plan.Later {
	return []plan.Later{{
		At: at, Subject: plan.Ref{Resource: plan.Namespaces, Name: "ns", UID: "uid-ns"}, Kind: "namespace-deletion",
	}}
}

func specFinalizers(names ...corev1.FinalizerName) func(*corev1.Namespace) {
	return func(ns *corev1.Namespace) { ns.Spec.Finalizers = names }
}

func TestDeleteNamespace(t *testing.T) {
	resources := []schema.GroupVersionResource{plan.ConfigMaps, plan.Pods, plan.Deployments}
	readAll := []plan.Read{
		{Resource: plan.Namespaces, Name: "ns"},
		{Resource: plan.ConfigMaps, Namespace: "ns"},
		{Resource: plan.Pods, Namespace: "ns"},
		{Resource: plan.Deployments, Namespace: "ns"},
	}
	fine := conditions(noon, nil)
	deletedAt := func(at time.Time) func(*corev1.Namespace) {
		return func(ns *corev1.Namespace) { ns.DeletionTimestamp = new(metav1.NewTime(at)) }
	}
	for claim, tc := range map[string]struct {
		namespace *corev1.Namespace
		objects   []Remaining
		discovery DiscoveryFailure
		refused   []string
		want      plan.Plan
	}{
		"an active namespace is left alone": {
			namespace: namespace(),
			objects:   []Remaining{left(plan.ConfigMaps, "a")},
		},
		"a finalized namespace is left alone": {
			namespace: namespace(terminating, specFinalizers()),
			objects:   []Remaining{left(plan.ConfigMaps, "a")},
		},
		"a namespace that is not marked yet is marked": {
			namespace: namespace(deletedAt(noon), specFinalizers()),
			want: plan.Plan{
				Writes: []plan.Write{statusWrite(nil, specFinalizers())},
				Reads:  readAll[:1],
			},
		},
		"what a delete removes at once is deleted in order, and counts as removed": {
			namespace: namespace(deletedAt(noon)),
			objects:   []Remaining{left(plan.Deployments, "d"), left(plan.ConfigMaps, "b"), left(plan.ConfigMaps, "a")},
			want: plan.Plan{
				Writes: []plan.Write{
					removal(plan.ConfigMaps, "a"), removal(plan.ConfigMaps, "b"), removal(plan.Deployments, "d"), statusWrite(fine),
				},
				Reads: readAll,
			},
		},
		"pods with a grace go first, and are looked at again when it is over": {
			namespace: namespace(terminating),
			objects:   []Remaining{left(plan.ConfigMaps, "a"), left(plan.Pods, "p", running), left(plan.Pods, "q", unbound)},
			want: plan.Plan{
				Writes: []plan.Write{removal(plan.Pods, "p"), removal(plan.Pods, "q"), statusWrite(fine)},
				Later:  laterAt(noon.Add(30 * time.Second)),
				Reads:  readAll,
			},
		},
		"pods that end at once do not hold up the rest": {
			namespace: namespace(terminating, with(fine)),
			objects:   []Remaining{left(plan.ConfigMaps, "a"), left(plan.Pods, "q", unbound), left(plan.Pods, "r", completed)},
			want: plan.Plan{
				Writes: []plan.Write{removal(plan.Pods, "q"), removal(plan.Pods, "r"), removal(plan.ConfigMaps, "a")},
				Reads:  readAll,
			},
		},
		"pods within their grace are waited for without another delete": {
			namespace: namespace(terminating, with(fine)),
			objects:   []Remaining{left(plan.ConfigMaps, "a"), left(plan.Pods, "p", running, onItsWay)},
			want: plan.Plan{
				Later: laterAt(noon.Add(30 * time.Second)),
				Reads: readAll,
			},
		},
		"pods that outstay their grace are reported": {
			namespace: namespace(terminating, deletedAt(noon.Add(-30*time.Second)), with(conditions(noon.Add(-30*time.Second), nil))),
			objects:   []Remaining{left(plan.Pods, "p", running, onItsWay)},
			want: plan.Plan{
				Writes: []plan.Write{statusWrite(func() []corev1.NamespaceCondition {
					all := conditions(noon.Add(-30*time.Second), map[corev1.NamespaceConditionType]said{
						"NamespaceDeletionContentFailure": {"ContentDeletionFailed", "Failed to delete all resource types, 1 remaining: unexpected items still remain in namespace: ns for gvr: /v1, Resource=pods"},
					})
					all[2].LastTransitionTime = metav1.NewTime(noon)
					return all
				}(), deletedAt(noon.Add(-30*time.Second)))},
				Reads: readAll,
			},
		},
		"objects with finalizers are deleted once, counted and waited for": {
			namespace: namespace(terminating),
			objects: []Remaining{
				left(plan.ConfigMaps, "a", held("example.com/x")),
				left(plan.Deployments, "d", held("example.com/x", "example.com/y"), onItsWay),
			},
			want: plan.Plan{
				Writes: []plan.Write{removal(plan.ConfigMaps, "a"), statusWrite(conditions(noon, map[corev1.NamespaceConditionType]said{
					"NamespaceContentRemaining":    {"SomeResourcesRemain", "Some resources are remaining: configmaps. has 1 resource instances, deployments.apps has 1 resource instances"},
					"NamespaceFinalizersRemaining": {"SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: example.com/x in 2 resource instances, example.com/y in 1 resource instances"},
				}))},
				Reads: readAll,
			},
		},
		"an object that waits for its dependents is deleted again without waiting": {
			namespace: namespace(terminating, with(fine)),
			objects:   []Remaining{left(plan.Deployments, "d", held(metav1.FinalizerDeleteDependents), onItsWay)},
			want: plan.Plan{
				Writes: []plan.Write{removal(plan.Deployments, "d")},
				Reads:  readAll,
			},
		},
		"an empty namespace is finalized, and nothing is waited for any more": {
			namespace: namespace(terminating),
			want: plan.Plan{
				Writes: []plan.Write{finalizeWrite(specFinalizers([]corev1.FinalizerName{}...))},
				Later:  laterAt(time.Time{}),
				Reads:  readAll,
			},
		},
		"the finalizers of others stay": {
			namespace: namespace(terminating, with(fine), specFinalizers("example.com/z", "kubernetes", "example.com/a", "example.com/z")),
			want: plan.Plan{
				Writes: []plan.Write{finalizeWrite(specFinalizers("example.com/a", "example.com/z"))},
				Later:  laterAt(time.Time{}),
				Reads:  readAll,
			},
		},
		"a namespace that others still hold gets its last conditions before it is finalized": {
			namespace: namespace(terminating, specFinalizers("kubernetes", "example.com/a")),
			want: plan.Plan{
				Writes: []plan.Write{statusWrite(fine, specFinalizers("kubernetes", "example.com/a"))},
				Reads:  readAll,
			},
		},
		"while groups cannot be discovered an empty namespace is not finalized": {
			namespace: namespace(terminating),
			discovery: DiscoveryFailure{Groups: map[schema.GroupVersion]string{
				{Group: "metrics.k8s.io", Version: "v1beta1"}: "unavailable", {Group: "a.io", Version: "v1"}: "gone",
			}},
			want: plan.Plan{
				Writes: []plan.Write{statusWrite(conditions(noon, map[corev1.NamespaceConditionType]said{
					"NamespaceDeletionDiscoveryFailure": {"DiscoveryFailed", "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: a.io/v1: gone, metrics.k8s.io/v1beta1: unavailable"},
				}))},
				Later: laterAt(noon.Add(time.Minute)),
				Reads: readAll,
			},
		},
		"other failures of discovery are told as they are": {
			namespace: namespace(terminating),
			discovery: DiscoveryFailure{Err: "no answer", GroupVersion: "unexpected GroupVersion string: a/b/c"},
			want: plan.Plan{
				Writes: []plan.Write{statusWrite(conditions(noon, map[corev1.NamespaceConditionType]said{
					"NamespaceDeletionDiscoveryFailure":           {"DiscoveryFailed", "no answer"},
					"NamespaceDeletionGroupVersionParsingFailure": {"GroupVersionParsingFailed", "unexpected GroupVersion string: a/b/c"},
				}))},
				Later: laterAt(noon.Add(time.Minute)),
				Reads: readAll,
			},
		},
		"refused deletes are told and tried again": {
			namespace: namespace(terminating),
			objects:   []Remaining{left(plan.ConfigMaps, "a")},
			refused:   []string{"webhook says no", "another says no"},
			want: plan.Plan{
				Writes: []plan.Write{removal(plan.ConfigMaps, "a"), statusWrite(conditions(noon, map[corev1.NamespaceConditionType]said{
					"NamespaceDeletionContentFailure": {"ContentDeletionFailed", "Failed to delete all resource types, 2 remaining: another says no, webhook says no"},
				}))},
				Later: laterAt(noon.Add(time.Minute)),
				Reads: readAll,
			},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			before := tc.namespace.DeepCopy()
			got := DeleteNamespace(NamespaceContent{
				Namespace: tc.namespace, Resources: resources, Objects: tc.objects, Discovery: tc.discovery, Refused: tc.refused,
			}, noon)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.namespace); diff != "" {
				t.Errorf("the snapshot was altered:\n%s", diff)
			}
		})
	}
}
