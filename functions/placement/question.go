package placement

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/zeroplane/zeroplane/core/resourceclaim"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

const (
	// maxAskedPods and maxAskedNodes bound one question, which is answered in memory: some 100 MB.
	maxAskedPods  = 50_000
	maxAskedNodes = 5_000
	// defaultStorageClass marks the class of claims that name none.
	//
	// Upstream: IsDefaultStorageClassAnnotation in pkg/volume/util/storageclass.go.
	defaultStorageClass = "storageclass.kubernetes.io/is-default-class"
)

var (
	// ErrInvalid is returned for a question that makes no sense.
	ErrInvalid = errors.New("the question makes no sense")
	// ErrNoNode is returned for one about a node that does not exist.
	ErrNoNode = errors.New("there is no such node")
)

// Question is what is thought to happen to a cluster. Objects have their defaults set; priorities and the default
// StorageClass are filled in from the cluster.
type Question struct {
	Pods []Replicas `json:"pods,omitempty"`
	// Claims come if there are none of their names, and PriorityClasses are known besides those of the cluster.
	Claims          []*corev1.PersistentVolumeClaim `json:"claims,omitempty"`
	PriorityClasses []*schedulingv1.PriorityClass   `json:"priorityClasses,omitempty"`
	// ResourceClaims come if there are none of their names, and ResourceClaimTemplates are known besides those of the cluster.
	ResourceClaims         []*resourceapi.ResourceClaim         `json:"resourceClaims,omitempty"`
	ResourceClaimTemplates []*resourceapi.ResourceClaimTemplate `json:"resourceClaimTemplates,omitempty"`
	Add                    []Nodes                              `json:"add,omitempty"`
	// Remove names nodes.
	Remove []string `json:"remove,omitempty"`
}

// Replicas are pods that are alike.
type Replicas struct {
	Pod *corev1.Pod `json:"pod"`
	// Count is how many there are, named after Pod with a number from First; nil for one of the name of Pod.
	Count *int32 `json:"count,omitempty"`
	First int32  `json:"first,omitempty"`
	// ClaimTemplates are of claims that each has of its own, as a StatefulSet's.
	ClaimTemplates []corev1.PersistentVolumeClaim `json:"claimTemplates,omitempty"`
	// Selector is that of the controller that the pod names, if that tells which pods belong together.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Nodes are nodes of one kind.
type Nodes struct {
	Template *corev1.Node `json:"template"`
	Count    int          `json:"count"`
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// change is the question with each pod by itself.
func (q *Question) change(k known) (scheduling.Change, error) {
	var out scheduling.Change
	out.Remove, out.ResourceClaims = q.Remove, q.ResourceClaims
	for _, pvc := range q.Claims {
		out.Claims = append(out.Claims, k.claim(pvc))
	}
	nodes := 0
	for _, n := range q.Add {
		if n.Template == nil || n.Count < 0 {
			return out, invalid("nodes to add need a template, and a number that is not negative")
		}
		if nodes += n.Count; nodes > maxAskedNodes {
			return out, invalid("no more than %d nodes can be added", maxAskedNodes)
		}
		out.Add = append(out.Add, scheduling.Growth{Template: n.Template, Count: n.Count})
	}
	for i := range q.Pods {
		r := &q.Pods[i]
		if r.Pod == nil || r.Count != nil && *r.Count < 0 {
			return out, invalid("pods need a template, and a number that is not negative")
		}
		if r.Count != nil && len(out.Pods)+int(*r.Count) > maxAskedPods {
			return out, invalid("no more than %d pods can come", maxAskedPods)
		}
		if err := r.addTo(&out, k); err != nil {
			return out, err
		}
	}
	return out, nil
}

// addTo adds the pods, and what comes with them.
func (r *Replicas) addTo(out *scheduling.Change, k known) error {
	pod := *r.Pod
	pod.CreationTimestamp, pod.Status = k.now, corev1.PodStatus{Phase: corev1.PodPending}
	if err := k.prioritize(&pod); err != nil {
		return err
	}
	if owner := metav1.GetControllerOfNoCopy(&pod); owner != nil && r.Selector != nil {
		out.Controllers = append(out.Controllers, scheduling.Controller{
			Kind: owner.Kind, Namespace: pod.Namespace, Name: owner.Name, Selector: r.Selector,
		})
	}
	if r.Count == nil {
		k.add(out, &pod)
		return nil
	}
	for i := range *r.Count {
		one := pod
		one.Name = fmt.Sprintf("%s-%d", pod.Name, r.First+i)
		one.Spec.Volumes = slices.Clone(pod.Spec.Volumes)
		for j := range r.ClaimTemplates {
			template := &r.ClaimTemplates[j]
			// Upstream: getPersistentVolumeClaimName in pkg/controller/statefulset/stateful_set_utils.go.
			pvc := template.DeepCopy()
			pvc.Namespace, pvc.Name = one.Namespace, template.Name+"-"+one.Name
			out.Claims = append(out.Claims, k.claim(pvc))
			one.Spec.Volumes = slices.DeleteFunc(one.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == template.Name })
			one.Spec.Volumes = append(one.Spec.Volumes, corev1.Volume{Name: template.Name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: pvc.Name},
			}})
		}
		k.add(out, &one)
	}
	return nil
}

// add adds a pod, and the claims that are made for it.
//
// Upstream: handleVolume in pkg/controller/volume/ephemeral/controller.go.
func (k known) add(out *scheduling.Change, pod *corev1.Pod) {
	pod.UID = types.UID("what-if/" + pod.Namespace + "/" + pod.Name)
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		out.Claims = append(out.Claims, k.claim(&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: pod.Namespace, Name: ephemeral.VolumeClaimName(pod, v),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}},
			},
			Spec: v.Ephemeral.VolumeClaimTemplate.Spec,
		}))
	}
	out.Pods = append(out.Pods, k.claimDevices(out, pod))
}

// claimDevices makes the ResourceClaims that a pod asks for by templates, and returns the pod that was told of them: the same if it
// asks for none, or its templates are not there.
func (k known) claimDevices(out *scheduling.Change, pod *corev1.Pod) *corev1.Pod {
	in := resourceclaim.Pod{Pod: pod, Templates: k.templates[pod.Namespace], Taken: func(string) bool { return false }} // they have the pod's name
	for _, write := range in.Sync().Writes {
		switch o := write.Object.(type) {
		case *resourceapi.ResourceClaim:
			o.UID = types.UID("what-if/" + o.Namespace + "/" + o.Name)
			out.ResourceClaims = append(out.ResourceClaims, o)
		case *corev1.Pod:
			pod = o
		}
	}
	return pod
}

// known is what admission fills in from.
type known struct {
	now            metav1.Time
	priorities     map[string]*schedulingv1.PriorityClass
	storageDefault string
	// templates are by namespace and name.
	templates map[string]map[string]*resourceapi.ResourceClaimTemplate
}

// newKnown takes classes and templates: of equal names the last counts.
func newKnown(
	priorities []*schedulingv1.PriorityClass, classes []*storagev1.StorageClass, templates []*resourceapi.ResourceClaimTemplate, now time.Time,
) known {
	k := known{
		now: metav1.NewTime(now), priorities: map[string]*schedulingv1.PriorityClass{}, templates: map[string]map[string]*resourceapi.ResourceClaimTemplate{},
	}
	for _, p := range priorities {
		k.priorities[p.Name] = p
	}
	for _, t := range templates {
		if k.templates[t.Namespace] == nil {
			k.templates[t.Namespace] = map[string]*resourceapi.ResourceClaimTemplate{}
		}
		k.templates[t.Namespace][t.Name] = t
	}
	var best *storagev1.StorageClass
	for _, c := range classes {
		// Upstream: GetDefaultClass in pkg/volume/util/storageclass.go: the newest, then the first by name.
		if c.Annotations[defaultStorageClass] != "true" {
			continue
		}
		if best == nil || c.CreationTimestamp.After(best.CreationTimestamp.Time) ||
			c.CreationTimestamp.Equal(&best.CreationTimestamp) && c.Name < best.Name {
			best, k.storageDefault = c, c.Name
		}
	}
	return k
}

// prioritize sets the priority of a pod.
//
// Upstream: admitPod in plugin/pkg/admission/priority/admission.go.
func (k known) prioritize(pod *corev1.Pod) error {
	class := k.priorities[pod.Spec.PriorityClassName]
	switch {
	case pod.Spec.Priority != nil:
		return nil
	case class == nil && pod.Spec.PriorityClassName != "":
		return invalid("pod %s/%s: spec.priorityClassName: no PriorityClass with name %v was found", pod.Namespace, pod.Name, pod.Spec.PriorityClassName)
	case class == nil:
		for _, name := range slices.Sorted(maps.Keys(k.priorities)) {
			if p := k.priorities[name]; p.GlobalDefault && (class == nil || p.Value < class.Value) {
				class = p
			}
		}
	}
	if class == nil {
		return nil
	}
	pod.Spec.Priority = new(class.Value)
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = class.PreemptionPolicy
	}
	return nil
}

// claim is a claim with the default class, if it names none.
//
// Upstream: plugin/pkg/admission/storage/storageclass/setdefault/admission.go.
func (k known) claim(pvc *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	if pvc.Spec.StorageClassName != nil || k.storageDefault == "" || pvc.Annotations[corev1.BetaStorageClassAnnotation] != "" {
		return pvc
	}
	pvc = pvc.DeepCopy()
	pvc.Spec.StorageClassName = new(k.storageDefault)
	return pvc
}

// AskNothing answers a question about a cluster that has only what the question adds.
func AskNothing(q Question, now time.Time, profiles ...scheduling.Profile) (Answer, error) {
	return q.ask(scheduling.NewCluster(profiles...), newKnown(append(systemPriorities(), q.PriorityClasses...), nil, q.ResourceClaimTemplates, now), 0)
}

// systemPriorities are those that every cluster has.
//
// Upstream: SystemPriorityClasses in pkg/apis/scheduling/v1/helpers.go.
func systemPriorities() []*schedulingv1.PriorityClass {
	const critical = 2 * 1_000_000_000
	return []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: critical + 1000},
		{ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: critical},
	}
}

func (q *Question) ask(c *scheduling.Cluster, k known, seed uint64) (Answer, error) {
	for _, name := range q.Remove {
		if c.NodeNamed(name) == nil {
			return Answer{}, fmt.Errorf("node %q: %w", name, ErrNoNode)
		}
	}
	change, err := q.change(k)
	if err != nil {
		return Answer{}, err
	}
	return newAnswer(c.WhatIf(change, seed, k.now.Time)), nil
}
