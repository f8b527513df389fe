package daemonset

import (
	"cmp"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// generationLabel is the label of a pod with the generation of its template
// (extensions.DaemonSetTemplateGenerationKey), from before there were revisions.
const generationLabel = "pod-template-generation"

// targetNode is the node that a pod is on or, if it waits, the one that its affinity names:
// util/daemonset_util.go GetTargetNodeName. It is not ok when there is none.
func targetNode(pod *corev1.Pod) (string, bool) {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName, true
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return "", false
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn {
				if len(field.Values) != 1 {
					return "", false
				}
				return field.Values[0], true
			}
		}
	}
	return "", false
}

// groupPods is daemon_controller.go getNodesToDaemonPods.
func (r *decision) groupPods() {
	r.onNode = map[string][]*corev1.Pod{}
	for _, pod := range r.pods {
		if podstate.IsTerminal(pod) && pod.DeletionTimestamp != nil {
			continue
		}
		if node, ok := targetNode(pod); ok {
			r.onNode[node] = append(r.onNode[node], pod)
		}
	}
	for _, pods := range r.onNode {
		slices.SortFunc(pods, compareAge)
	}
}

// compareAge puts pods on nodes before those that wait, and then the older one first:
// podByCreationTimestampAndPhase.
func compareAge(a, b *corev1.Pod) int {
	waits := func(pod *corev1.Pod) int {
		if pod.Spec.NodeName == "" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(waits(a), waits(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// newPod makes the pod of a node, which the scheduler can put nowhere else: util/daemonset_util.go
// CreatePodTemplate, ReplaceDaemonSetPodNodeNameNodeAffinity.
func newPod(set *appsv1.DaemonSet, node, hash string) *corev1.Pod {
	pod := podcontrol.New(&set.Spec.Template, set, kind)
	addTolerations(&pod.Spec)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if generation, ok := templateGeneration(set); ok {
		pod.Labels[generationLabel] = generation
	}
	if hash != "" {
		pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	}
	pin(&pod.Spec, node)
	return pod
}

// pin has the required node affinity name one node and nothing else.
func pin(spec *corev1.PodSpec, node string) {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}}},
	}
}

// templateGeneration is util/daemonset_util.go GetTemplateGeneration, as a label has it. It is not ok
// when there is none that can be read.
func templateGeneration(set *appsv1.DaemonSet) (string, bool) {
	generation, err := strconv.ParseInt(set.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	return strconv.FormatInt(generation, 10), err == nil
}

// isUpdated is util/daemonset_util.go IsPodUpdated.
func (r *decision) isUpdated(pod *corev1.Pod) bool {
	generation, ok := templateGeneration(r.set)
	hash := r.hash()
	return hash != "" && pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == hash || ok && pod.Labels[generationLabel] == generation
}

func (r *decision) isAvailable(pod *corev1.Pod) bool {
	return podstate.IsAvailable(pod, r.set.Spec.MinReadySeconds, r.snapshot.Now)
}

// create and remove ask for pods, as many as a plan may: daemon_controller.go syncNodes.
func (r *decision) create(node, reason string) {
	if len(r.creations) < burst {
		r.creations = append(r.creations, r.notices.Create(newPod(r.set, node, r.hash()), reason))
	}
}

func (r *decision) remove(pod *corev1.Pod, reason string) {
	if len(r.deletions) < burst {
		r.deletions = append(r.deletions, r.notices.Delete(pod, reason))
	}
}
