package scheduling

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// defaultConstraints spread pods that have no constraints of their own, with those that their Services and controller
// select.
//
// Upstream: systemDefaultConstraints in plugins/podtopologyspread/plugin.go.
var defaultConstraints = []spreadConstraint{
	{maxSkew: 3, minDomains: 1, topologyKey: corev1.LabelHostname, honorAffinity: true},
	{maxSkew: 5, minDomains: 1, topologyKey: corev1.LabelTopologyZone, honorAffinity: true},
}

const replicationController = "ReplicationController"

// controllers are the kinds whose selectors tell what a pod is one of.
var controllers = map[schema.GroupVersionKind]bool{
	corev1.SchemeGroupVersion.WithKind(replicationController): true,
	appsv1.SchemeGroupVersion.WithKind("ReplicaSet"):          true,
	appsv1.SchemeGroupVersion.WithKind("StatefulSet"):         true,
}

// grouping is what groups the pods of a namespace: the selectors of Services, and those of controllers by kind and name.
type grouping struct {
	services    map[string]labels.Set
	controllers map[string]labels.Selector
	// older are the selectors of ReplicationControllers, by name: labels, which count instead of those of Services.
	older map[string]labels.Set
	// changed is set when waiting pods must be put into classes again.
	changed bool
}

func (c *Cluster) groupingOf(namespace string) *grouping {
	g := c.groupings[namespace]
	if g == nil {
		g = &grouping{services: map[string]labels.Set{}, controllers: map[string]labels.Selector{}, older: map[string]labels.Set{}}
		c.groupings[namespace] = g
	}
	return g
}

// touchGrouping has waiting pods of the namespace put into classes again.
func (c *Cluster) touchGrouping(g *grouping) {
	g.changed = true
	c.tellNothing() // regroup looks whom it concerns
}

// SetService adds a Service or replaces the one of its name. Only the selector matters: the pods that it selects are
// spread when they do not say how.
func (c *Cluster) SetService(service *corev1.Service) {
	g := c.groupingOf(service.Namespace)
	old, known := g.services[service.Name]
	if service.Spec.Selector == nil { // selects nothing, not everything
		c.DeleteService(service.Namespace, service.Name)
		return
	}
	if !known || !maps.Equal(old, service.Spec.Selector) {
		g.services[service.Name] = service.Spec.Selector
		c.touchGrouping(g)
	}
}

// DeleteService removes a Service.
func (c *Cluster) DeleteService(namespace, name string) {
	g := c.groupingOf(namespace)
	if _, known := g.services[name]; known {
		delete(g.services, name)
		c.touchGrouping(g)
	}
}

// SetController adds a ReplicationController, ReplicaSet or StatefulSet, or replaces it. Selectors do not change in the
// life of an object.
func (c *Cluster) SetController(kind, namespace, name string, selector *metav1.LabelSelector) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return // does not pass the API
	}
	g := c.groupingOf(namespace)
	if kind == replicationController {
		if old, known := g.older[name]; !known || !maps.Equal(old, selector.MatchLabels) {
			g.older[name] = selector.MatchLabels
			c.touchGrouping(g)
		}
		return
	}
	key := kind + "/" + name
	if old := g.controllers[key]; old == nil || old.String() != parsed.String() {
		g.controllers[key] = parsed
		c.touchGrouping(g)
	}
}

// DeleteController removes one.
func (c *Cluster) DeleteController(kind, namespace, name string) {
	g := c.groupingOf(namespace)
	if _, known := g.older[name]; known && kind == replicationController {
		delete(g.older, name)
		c.touchGrouping(g)
	}
	key := kind + "/" + name
	if _, known := g.controllers[key]; known {
		delete(g.controllers, key)
		c.touchGrouping(g)
	}
}

// regroup puts waiting pods into classes again whose Services or controllers have changed, and wakes those that are in
// another.
func (c *Cluster) regroup() {
	changed := map[string]bool{}
	for namespace, g := range c.groupings {
		if g.changed {
			changed[namespace] = true
			g.changed = false
		}
	}
	if len(changed) == 0 {
		return
	}
	for _, e := range c.waiting {
		if changed[e.pod.Namespace] && len(e.pod.Spec.TopologySpreadConstraints) == 0 {
			old := e.class
			is := c.classOf(e.pod)
			c.releaseClass(old)
			if is != old {
				c.dormitory.stir(e)
				e.class = is
			}
		}
	}
}

// defaultSelector chooses the pods that a pod is one of, nothing if nobody knows.
//
// Upstream: DefaultSelector in plugins/helper/spread.go.
func (c *Cluster) defaultSelector(pod *corev1.Pod) labels.Selector {
	g := c.groupings[pod.Namespace]
	if g == nil {
		return labels.Everything()
	}
	set := labels.Set{}
	for _, service := range g.services {
		if service.AsSelectorPreValidated().Matches(labels.Set(pod.Labels)) {
			maps.Copy(set, service)
		}
	}
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return set.AsSelector()
	}
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil || !controllers[gv.WithKind(owner.Kind)] {
		return set.AsSelector()
	}
	if owner.Kind == replicationController {
		maps.Copy(set, g.older[owner.Name])
		return set.AsSelector()
	}
	selector := set.AsSelector()
	if of := g.controllers[owner.Kind+"/"+owner.Name]; of != nil {
		if requirements, selectable := of.Requirements(); selectable {
			selector = selector.Add(requirements...)
		}
	}
	return selector
}

// spreadingOf is newSpreading with the default constraints for a pod without its own.
func (c *Cluster) spreadingOf(pod *corev1.Pod) spreading {
	p := c.profileOf(pod)
	s := c.spreadingBy(p, pod)
	if !p.Filters[PodTopologySpread] {
		s.hard = nil
	}
	if p.weights.spread == 0 {
		s.soft = nil
	}
	return s
}

func (c *Cluster) spreadingBy(p *profile, pod *corev1.Pod) spreading {
	if len(pod.Spec.TopologySpreadConstraints) > 0 {
		return newSpreading(pod, pod.Spec.TopologySpreadConstraints)
	}
	s := spreading{namespace: pod.Namespace}
	if p.SystemDefaults {
		s.soft = append(s.soft, defaultConstraints...)
	} else {
		s = newSpreading(pod, p.DefaultConstraints)
	}
	s.defaulted = p.SystemDefaults
	selector := c.defaultSelector(pod)
	if selector.Empty() {
		s.hard, s.soft = nil, nil
	}
	for _, list := range [][]spreadConstraint{s.hard, s.soft} {
		for i := range list {
			list[i].selector = selector
			list[i].self = selector.Matches(labels.Set(pod.Labels))
		}
	}
	return s
}
