package endpoints

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// reserved are the labels of slices that no label of a Service replaces (utils.go isReservedLabelKey).
var reserved = []string{discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy, corev1.IsHeadlessService}

// labelsOf are the labels that a Service's slice is to have, and whether those that come from the Service are others than it has.
// Others that the controller sets do not count (utils.go setEndpointSliceLabels).
func labelsOf(slice *discoveryv1.EndpointSlice, svc *corev1.Service) (want map[string]string, changed bool) {
	want = unreserved(svc.Labels)
	changed = !maps.Equal(unreserved(slice.Labels), want)
	if !isIPSet(svc) {
		want[corev1.IsHeadlessService] = ""
	}
	want[discoveryv1.LabelServiceName] = svc.Name
	want[discoveryv1.LabelManagedBy] = SliceManager
	return want, changed
}

func unreserved(labels map[string]string) map[string]string { return without(labels, reserved...) }

// without returns a map of its own without some keys.
func without(m map[string]string, keys ...string) map[string]string {
	out := make(map[string]string, len(m)+len(reserved))
	for k, v := range m {
		if !slices.Contains(keys, k) {
			out[k] = v
		}
	}
	return out
}

// sameLabels reports whether no label has a value in one that it has not in the other. A label that is missing counts as
// an empty one (placeholderSliceCompare of reconciler.go).
func sameLabels(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	for k, v := range b {
		if a[k] != v {
			return false
		}
	}
	return true
}

func isIPSet(svc *corev1.Service) bool { return helper.IsServiceIPSet(svc) }

// namePrefix is what names of slices begin with (utils.go getEndpointSlicePrefix).
func namePrefix(service string) string {
	prefix := service + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) != 0 {
		return service
	}
	return prefix
}

// annotateTrigger is utils.go addTriggerTimeAnnotation.
func annotateTrigger(slice *discoveryv1.EndpointSlice, at time.Time) {
	slice.Annotations = withTrigger(slice.Annotations, at)
}

// withTrigger returns annotations with the time at which what led to a change happened, or without it if that is not known.
func withTrigger(annotations map[string]string, at time.Time) map[string]string {
	out := without(annotations, corev1.EndpointsLastChangeTriggerTime)
	if !at.IsZero() {
		out[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format(time.RFC3339Nano)
	}
	return out
}
