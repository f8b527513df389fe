package statefulset

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// Who a pod is, from stateful_set_utils.go.

// parentAndOrdinal takes a pod's name apart: getParentNameAndOrdinal. The parent is empty and the
// ordinal is -1 where the name is of no StatefulSet.
func parentAndOrdinal(name string) (string, int) {
	dash := strings.LastIndexByte(name, '-')
	digits := name[dash+1:]
	if dash < 0 || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", -1
	}
	ordinal, err := strconv.ParseInt(digits, 10, 32)
	if err != nil {
		return name[:dash], -1
	}
	return name[:dash], int(ordinal)
}

func ordinalOf(pod *corev1.Pod) int {
	_, ordinal := parentAndOrdinal(pod.Name)
	return ordinal
}

// firstOrdinal is getStartOrdinal.
func firstOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals != nil {
		return int(set.Spec.Ordinals.Start)
	}
	return 0
}

// size is how many replicas are wanted; the API server fills in 1.
func size(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

// inRange is podInOrdinalRange.
func inRange(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	at := ordinalOf(pod) - firstOrdinal(set)
	return at >= 0 && at < size(set)
}

// podName is getPodName.
func podName(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

// PodNames are the names of the pods that a set is to have.
func PodNames(set *appsv1.StatefulSet) []string {
	names := make([]string, 0, size(set))
	for i := range size(set) {
		names = append(names, podName(set, firstOrdinal(set)+i))
	}
	return names
}

// SetOf is the name of the set that a pod of this name may be of, empty if there can be none.
func SetOf(pod string) string {
	parent, _ := parentAndOrdinal(pod)
	return parent
}

// identityMatches reports whether a pod is who its name says.
func identityMatches(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	parent, ordinal := parentAndOrdinal(pod.Name)
	return ordinal >= 0 && set.Name == parent && pod.Name == podName(set, ordinal) &&
		pod.Namespace == set.Namespace && pod.Labels[appsv1.StatefulSetPodNameLabel] == pod.Name
}

// updateIdentity makes it so. The labels of the pod are replaced, not edited.
func updateIdentity(set *appsv1.StatefulSet, pod *corev1.Pod) {
	ordinal := ordinalOf(pod)
	pod.Name, pod.Namespace = podName(set, ordinal), set.Namespace
	label(pod, appsv1.StatefulSetPodNameLabel, pod.Name)
	label(pod, appsv1.PodIndexLabel, strconv.Itoa(ordinal))
}

func label(pod *corev1.Pod, key, value string) {
	labels := maps.Clone(pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	pod.Labels = labels
}

// revisionOf is getPodRevision.
func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

// newPod is newStatefulSetPod, of the template of a revision: newVersionedStatefulSetPod.
func newPod(set *appsv1.StatefulSet, ordinal int, revision string) *corev1.Pod {
	pod := podcontrol.New(&set.Spec.Template, set, kind)
	pod.Name = podName(set, ordinal)
	updateIdentity(set, pod)
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	updateStorage(set, pod)
	label(pod, appsv1.StatefulSetRevisionLabel, revision)
	return pod
}

// storageMatches reports whether the pod's volumes are its claims.
func storageMatches(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	ordinal := ordinalOf(pod)
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		at := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == template.Name })
		if at < 0 {
			return false
		}
		if source := pod.Spec.Volumes[at].PersistentVolumeClaim; source == nil || source.ClaimName != claimName(set, template, ordinal) {
			return false
		}
	}
	return ordinal >= 0
}

// updateStorage makes it so: the claims first, in the order of their templates, and then the pod's other volumes.
func updateStorage(set *appsv1.StatefulSet, pod *corev1.Pod) {
	ordinal := ordinalOf(pod)
	var volumes []corev1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		volumes = append(volumes, corev1.Volume{Name: template.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, template, ordinal)},
		}})
	}
	for _, v := range pod.Spec.Volumes {
		if !slices.ContainsFunc(set.Spec.VolumeClaimTemplates, func(c corev1.PersistentVolumeClaim) bool { return c.Name == v.Name }) {
			volumes = append(volumes, v)
		}
	}
	pod.Spec.Volumes = volumes
}
