package autoscaling

import (
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// choose reads the scale's selector and takes the pods that it matches. None of them may be another
// autoscaler's. Which other one the message names is left open by upstream; here it is the first by name.
//
// Upstream: validateAndParseSelector (horizontal.go), HPAsMatchingPods (hpa_selector_store.go).
func (d *decision) choose() error {
	text := d.in.Scale.Selector
	if text == "" {
		return d.unselected("SelectorRequired", "InvalidSelector", "selector is required", "the HPA target's scale is missing a selector")
	}
	selector, err := labels.Parse(text)
	if err != nil {
		message := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return d.unselected("InvalidSelector", "InvalidSelector", message, message)
	}
	d.selector = selector
	for _, pod := range d.in.Pods {
		if selector.Matches(labels.Set(pod.Labels)) {
			d.pods = append(d.pods, pod)
		}
	}
	if other, found := d.rival(); found {
		namespace := d.in.Autoscaler.Namespace + "/"
		both := []string{namespace + d.in.Autoscaler.Name, namespace + other}
		slices.Sort(both)
		message := fmt.Sprintf("pods by selector %v are controlled by more than one HPA (e.g. %v)", text, both)
		return d.unselected("AmbiguousSelector", "AmbiguousSelector", message, message)
	}
	return nil
}

// rival is the first of the other autoscalers by name that has one of the pods too.
func (d *decision) rival() (string, bool) {
	var found []string
	for _, other := range d.in.Others {
		selector, err := labels.Parse(other.Selector)
		if other.Selector == "" || err != nil {
			continue
		}
		if slices.ContainsFunc(d.pods, func(pod *corev1.Pod) bool { return selector.Matches(labels.Set(pod.Labels)) }) {
			found = append(found, other.Name)
		}
	}
	if len(found) == 0 {
		return "", false
	}
	return slices.Min(found), true
}

// unselected says that it cannot be told which pods are the target's.
func (d *decision) unselected(event, reason, message, shown string) error {
	d.warn(event, message)
	d.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason, shown)
	return fmt.Errorf("%s", message)
}
