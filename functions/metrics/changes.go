package metrics

import (
	"maps"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	keeper "github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// known are the autoscalers of a snapshot, by namespace, read once for a batch.
type known struct {
	snapshot  *consumer.Snapshot
	lists     map[string][]*autoscalingv2.HorizontalPodAutoscaler
	selectors map[consumer.Named]labels.Selector
}

func newKnown(s *consumer.Snapshot) *known {
	return &known{snapshot: s, lists: map[string][]*autoscalingv2.HorizontalPodAutoscaler{}, selectors: map[consumer.Named]labels.Selector{}}
}

// of returns the autoscalers of a namespace, of all if it is empty.
func (k *known) of(namespace string) ([]*autoscalingv2.HorizontalPodAutoscaler, error) {
	if list, ok := k.lists[namespace]; ok {
		return list, nil
	}
	list, err := consumer.List[*autoscalingv2.HorizontalPodAutoscaler](k.snapshot, autoscalers, namespace)
	if err == nil {
		k.lists[namespace] = list
	}
	return list, err
}

// selects reports whether a pod with such labels may be one of an autoscaler's. Of a target whose scale the
// snapshot does not tell, any may.
func (k *known) selects(a *autoscalingv2.HorizontalPodAutoscaler, set labels.Set) (bool, error) {
	n := consumer.Named{Namespace: a.Namespace, Name: a.Name}
	selector, ok := k.selectors[n]
	if !ok {
		var err error
		if selector, err = k.selector(a); err != nil {
			return false, err
		}
		k.selectors[n] = selector
	}
	return selector.Matches(set), nil
}

func (k *known) selector(a *autoscalingv2.HorizontalPodAutoscaler) (labels.Selector, error) {
	kind, err := targetKind(a)
	if err != nil {
		return labels.Nothing(), nil //nolint:nilerr // it has no target
	}
	for gr, known := range kindOf {
		if known != kind {
			continue
		}
		e := k.snapshot.States[kubestorage.GroupOf(gr)].Get(kubestorage.KeyOf(gr, a.Namespace, a.Spec.ScaleTargetRef.Name))
		obj, ok, err := consumer.Read[metav1.Object](k.snapshot, e)
		if err != nil || !ok {
			return labels.Nothing(), err
		}
		selector, err := labels.Parse(scaleOf(obj).Selector)
		if err != nil || selector.Empty() {
			return labels.Nothing(), nil //nolint:nilerr // the decision says so
		}
		return selector, nil
	}
	return labels.Everything(), nil
}

func (s *subjects) everything() error { return s.namespace("") }

// namespace adds the autoscalers of a namespace, all if it is empty.
func (s *subjects) namespace(namespace string) error {
	all, err := s.known.of(namespace)
	for _, a := range all {
		s.autoscalers.Add(a.Namespace, a.Name)
	}
	return err
}

func (s *subjects) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	if kind, ok := kindOf[gr]; ok {
		return s.target(ev, kind, consumer.Named{Namespace: namespace, Name: name})
	}
	switch gr {
	case autoscalers:
		return s.autoscaler(ev, namespace)
	case pods:
		return s.pod(ev, namespace)
	}
	return nil
}

// autoscaler adds all of the namespace when one has come, gone, or been changed: it is said of two that select the
// same pods. That a status has changed is this function's own doing.
func (s *subjects) autoscaler(ev tablelog.Event, namespace string) error {
	before, was, err := consumer.Read[*autoscalingv2.HorizontalPodAutoscaler](s.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, is, err := consumer.Read[*autoscalingv2.HorizontalPodAutoscaler](s.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	if was && (!is || after.UID != before.UID) {
		s.gone = append(s.gone, before.UID)
	}
	if was && is && after.UID == before.UID && equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		return nil
	}
	return s.namespace(namespace)
}

// target adds the autoscalers of an object whose scale has changed.
func (s *subjects) target(ev tablelog.Event, kind schema.GroupKind, n consumer.Named) error {
	all, err := s.known.of(n.Namespace)
	if err != nil || len(all) == 0 {
		return err
	}
	before, _, err := consumer.Read[metav1.Object](s.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[metav1.Object](s.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	was, is := scaleOf(before), scaleOf(after)
	if was != nil && is != nil && was.SpecReplicas == is.SpecReplicas && was.StatusReplicas == is.StatusReplicas && was.Selector == is.Selector {
		return nil
	}
	for _, a := range all {
		if of, err := targetKind(a); err == nil && of == kind && a.Spec.ScaleTargetRef.Name == n.Name {
			s.autoscalers.Add(a.Namespace, a.Name)
		}
	}
	return nil
}

// pod adds the autoscalers of a pod of which something has changed that counts.
func (s *subjects) pod(ev tablelog.Event, namespace string) error {
	all, err := s.known.of(namespace)
	if err != nil || len(all) == 0 {
		return err
	}
	before, was, err := consumer.Read[*corev1.Pod](s.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, is, err := consumer.Read[*corev1.Pod](s.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	if was && is && countsAs(before, after) {
		return nil
	}
	for _, a := range all {
		for _, pod := range []*corev1.Pod{before, after} {
			if pod == nil {
				continue
			}
			selected, err := s.known.selects(a, pod.Labels)
			if err != nil {
				return err
			}
			if selected {
				s.autoscalers.Add(a.Namespace, a.Name)
			}
		}
	}
	return nil
}

// countsAs reports whether nothing has changed of a pod that decisions look at: labels, requests, phase, readiness,
// going away, and what it uses if it is simulated.
func countsAs(a, b *corev1.Pod) bool {
	return a.UID == b.UID && a.Generation == b.Generation && a.Spec.NodeName == b.Spec.NodeName && maps.Equal(a.Labels, b.Labels) &&
		a.Status.Phase == b.Status.Phase && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		(a.Status.StartTime == nil) == (b.Status.StartTime == nil) && sameReadiness(a, b) &&
		a.Annotations[kubelet.CPUUsage] == b.Annotations[kubelet.CPUUsage] &&
		a.Annotations[kubelet.MemoryUsage] == b.Annotations[kubelet.MemoryUsage]
}

// sameReadiness reports whether two pods are ready, or not, since the same time.
func sameReadiness(a, b *corev1.Pod) bool {
	before, after := readiness(a), readiness(b)
	return before.Status == after.Status && before.LastTransitionTime.Equal(&after.LastTransitionTime)
}

func readiness(pod *corev1.Pod) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c
		}
	}
	return corev1.PodCondition{}
}

// eachAutoscaler calls yield for the autoscalers in a state.
func eachAutoscaler(state *tablelog.State, decoder kubestorage.Decoder, yield func(*autoscalingv2.HorizontalPodAutoscaler)) error {
	var err error
	state.Ascend(kubestorage.Prefix(autoscalers)+"/", "", func(e *tablelog.Entry) bool {
		obj, failed := decoder.Object(e)
		if err = failed; err != nil {
			return false
		}
		if a, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			yield(a)
		}
		return true
	})
	return err
}

// concerns reports whether an autoscaler reads of what samples came.
func concerns(t keeper.Taken, a *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(a.Spec.Metrics, func(m autoscalingv2.MetricSpec) bool {
		switch m.Type {
		case autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType:
			return slices.Contains(t.Pods, a.Namespace)
		case autoscalingv2.ExternalMetricSourceType:
			return slices.Contains(t.External, a.Namespace) || slices.Contains(t.External, "")
		case autoscalingv2.PodsMetricSourceType, autoscalingv2.ObjectMetricSourceType:
		}
		return false
	})
}
