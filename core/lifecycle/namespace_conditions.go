package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The conditions are those of namespace/deletion/status_condition_utils.go.

// DiscoveryFailure is what kept the list of resources from being complete; zero for nothing.
type DiscoveryFailure struct {
	// Groups holds the error of each group version whose server did not answer.
	Groups map[schema.GroupVersion]string
	// Err is any other error of discovery.
	Err string
	// GroupVersion is the error of a group version that could not be parsed.
	GroupVersion string
}

func (d DiscoveryFailure) any() bool {
	return len(d.Groups) > 0 || d.Err != "" || d.GroupVersion != ""
}

// message is that of client-go's ErrGroupDiscoveryFailed within upstream's condition.
func (d DiscoveryFailure) message() string {
	if len(d.Groups) == 0 {
		return d.Err
	}
	groups := make([]string, 0, len(d.Groups))
	for group, err := range d.Groups {
		groups = append(groups, fmt.Sprintf("%s: %s", group, err))
	}
	slices.Sort(groups)
	return fmt.Sprintf("Discovery failed for some groups, %d failing: unable to retrieve the complete list of server APIs: %s",
		len(groups), strings.Join(groups, ", "))
}

// fineConditions are the conditions of a namespace whose deletion goes well, in upstream's order.
var fineConditions = []corev1.NamespaceCondition{
	{
		Type:    corev1.NamespaceDeletionDiscoveryFailure,
		Reason:  "ResourcesDiscovered",
		Message: "All resources successfully discovered",
	},
	{
		Type:    corev1.NamespaceDeletionGVParsingFailure,
		Reason:  "ParsedGroupVersions",
		Message: "All legacy kube types successfully parsed",
	},
	{
		Type:    corev1.NamespaceDeletionContentFailure,
		Reason:  "ContentDeleted",
		Message: "All content successfully deleted, may be waiting on finalization",
	},
	{
		Type:    corev1.NamespaceContentRemaining,
		Reason:  "ContentRemoved",
		Message: "All content successfully removed",
	},
	{
		Type:    corev1.NamespaceFinalizersRemaining,
		Reason:  "ContentHasNoFinalizers",
		Message: "All content-preserving finalizers finished",
	},
}

// conditionsOf are the five conditions of a namespace in which left is left.
func conditionsOf(content NamespaceContent, left leftovers, now time.Time) []corev1.NamespaceCondition {
	failures := slices.Sorted(slices.Values(slices.Concat(content.Refused, left.failures)))
	remaining := counts(left.byResource, func(r schema.GroupVersionResource, n int) string {
		return fmt.Sprintf("%s.%s has %d resource instances", r.Resource, r.Group, n)
	})
	finalizers := counts(left.byFinalizer, func(name string, n int) string {
		return fmt.Sprintf("%s in %d resource instances", name, n)
	})
	conditions := slices.Clone(fineConditions)
	for i := range conditions {
		conditions[i].Status = corev1.ConditionFalse
		conditions[i].LastTransitionTime = metav1.NewTime(now)
	}
	set := func(i int, holds bool, reason, message string) {
		if holds {
			conditions[i].Status = corev1.ConditionTrue
			conditions[i].Reason, conditions[i].Message = reason, message
		}
	}
	set(0, len(content.Discovery.Groups) > 0 || content.Discovery.Err != "", "DiscoveryFailed", content.Discovery.message())
	set(1, content.Discovery.GroupVersion != "", "GroupVersionParsingFailed", content.Discovery.GroupVersion)
	set(2, len(failures) > 0, "ContentDeletionFailed",
		fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(failures), strings.Join(failures, ", ")))
	set(3, len(remaining) > 0, "SomeResourcesRemain",
		"Some resources are remaining: "+strings.Join(remaining, ", "))
	set(4, len(finalizers) > 0, "SomeFinalizersRemain",
		"Some content in the namespace has finalizers remaining: "+strings.Join(finalizers, ", "))
	return conditions
}

// counts words each entry, sorted.
func counts[K comparable](of map[K]int, word func(K, int) string) []string {
	words := make([]string, 0, len(of))
	for key, n := range of {
		words = append(words, word(key, n))
	}
	slices.Sort(words)
	return words
}

// namespaceStatus is the write that gives ns the phase Terminating and the conditions; empty if it
// has them. A condition keeps its transition time while its status stays (updateConditions).
func namespaceStatus(ns *corev1.Namespace, conditions []corev1.NamespaceCondition, now time.Time) []plan.Write {
	changed := ns.Status.Phase != corev1.NamespaceTerminating
	updated := ns.DeepCopy()
	updated.Status.Phase = corev1.NamespaceTerminating
	for _, condition := range conditions {
		i := slices.IndexFunc(updated.Status.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == condition.Type })
		if i < 0 {
			updated.Status.Conditions = append(updated.Status.Conditions, condition)
			changed = true
			continue
		}
		old := &updated.Status.Conditions[i]
		if old.Status == condition.Status && old.Reason == condition.Reason && old.Message == condition.Message {
			continue
		}
		if old.Status != condition.Status {
			old.LastTransitionTime = metav1.NewTime(now)
		}
		old.Status, old.Reason, old.Message = condition.Status, condition.Reason, condition.Message
		changed = true
	}
	if !changed {
		return nil
	}
	return []plan.Write{{
		Verb:     plan.UpdateStatus,
		Resource: plan.Namespaces,
		Name:     ns.Name,
		Object:   updated,
		Reason:   "the namespace is being deleted",
	}}
}
