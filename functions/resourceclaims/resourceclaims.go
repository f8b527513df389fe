// Package resourceclaims is the function that makes ResourceClaims of templates, and gives devices back that no pod uses any more: a
// change of a pod, a claim or a template in, claims out. The decisions are those of core/resourceclaim.
package resourceclaims

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	core "github.com/zeroplane/zeroplane/core/resourceclaim"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const component = "resource-claim-controller"

var (
	pods      = plan.Pods.GroupResource()
	claims    = plan.ResourceClaims.GroupResource()
	templates = plan.ResourceClaimTemplates.GroupResource()
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name: "resourceclaims", Groups: []string{kubestorage.PodsGroup, kubestorage.GroupOf(templates)}, Handle: handle,
	}
}

// touched collects the subjects of a batch.
type touched struct {
	*consumer.Batch
	pods, claims consumer.Set
	// named are the claims and templates that changed: of which pods is seen once, for all of them.
	namedClaims, namedTemplates consumer.Set
}

func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{Batch: b, pods: consumer.Set{}, claims: consumer.Set{}, namedClaims: consumer.Set{}, namedTemplates: consumer.Set{}}
	if err := b.Gather(t.everything, t.change, func(l plan.Later) { t.pods.Add(l.Subject.Namespace, l.Subject.Name) }); err != nil {
		return err
	}
	if err := t.users(); err != nil {
		return err
	}
	if err := consumer.Each(ctx, t.pods.Sorted(), t.decidePod); err != nil {
		return err
	}
	return consumer.Each(ctx, t.claims.Sorted(), t.decideClaim)
}

func (t *touched) everything() error {
	err := consumer.AddMatching(t.Snapshot, pods, "", t.pods, func(p *corev1.Pod) bool { return len(p.Spec.ResourceClaims) > 0 })
	if err != nil {
		return err
	}
	return consumer.AddAll[*resourceapi.ResourceClaim](t.Snapshot, claims, t.claims)
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case pods:
		return t.changedPod(ev)
	case claims:
		t.claims.Add(namespace, name)
		t.namedClaims.Add(namespace, name)
	case templates:
		t.namedTemplates.Add(namespace, name)
	}
	return nil
}

// changedPod adds a pod that uses claims, and those claims once it is done or gone.
//
// Upstream: enqueuePod.
func (t *touched) changedPod(ev tablelog.Event) error {
	for _, e := range []*tablelog.Entry{ev.Prev, ev.Entry} {
		pod, ok, err := consumer.Read[*corev1.Pod](t.Snapshot, e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if len(pod.Spec.ResourceClaims) > 0 && e == ev.Entry {
			t.pods.Add(pod.Namespace, pod.Name)
		}
		if ev.Entry == nil || core.IsDone(pod) {
			for name := range resourceclaim.PodClaims(pod) {
				t.claims.Add(pod.Namespace, name)
			}
		}
	}
	return nil
}

// users adds the pods that use claims or templates which changed.
//
// Upstream: enqueueResourceClaim and enqueueResourceClaimTemplate.
func (t *touched) users() error {
	if len(t.namedClaims)+len(t.namedTemplates) == 0 {
		return nil
	}
	return consumer.AddMatching(t.Snapshot, pods, "", t.pods, func(p *corev1.Pod) bool {
		for i := range p.Spec.ResourceClaims {
			use := &p.Spec.ResourceClaims[i]
			if use.ResourceClaimTemplateName != nil && t.namedTemplates[consumer.Named{Namespace: p.Namespace, Name: *use.ResourceClaimTemplateName}] {
				return true
			}
			if name, _, err := resourceclaim.Name(p, use); err == nil && name != nil && t.namedClaims[consumer.Named{Namespace: p.Namespace, Name: *name}] {
				return true
			}
		}
		return false
	})
}

func (t *touched) decidePod(ctx context.Context, n consumer.Named) error {
	return consumer.Step[core.Pod]{
		Load: func(s *consumer.Snapshot) (core.Pod, bool, error) {
			pod, ok, err := consumer.Get[*corev1.Pod](s, pods, n.Namespace, n.Name)
			if err != nil || !ok {
				return core.Pod{}, false, err
			}
			in, err := loadPod(s, pod)
			return in, err == nil, err
		},
		Decide: core.Pod.Sync,
		Again: func(in core.Pod) plan.Later {
			return consumer.Refusal(plan.Pods, in.Pod, t.Now, in.Pod.CreationTimestamp.Time)
		},
	}.Take(ctx, t.Batch, component)
}

// loadPod finds the claims and templates that a pod names, and the claims that it owns.
func loadPod(s *consumer.Snapshot, pod *corev1.Pod) (core.Pod, error) {
	in := core.Pod{Pod: pod, Claims: map[string]*resourceapi.ResourceClaim{}, Templates: map[string]*resourceapi.ResourceClaimTemplate{}}
	in.Taken = func(name string) bool {
		return s.States[kubestorage.PodsGroup].Get(kubestorage.KeyOf(claims, pod.Namespace, name)) != nil
	}
	owned, err := consumer.OwnedBy[*resourceapi.ResourceClaim](s, claims, pod.UID)
	if err != nil {
		return in, err
	}
	for _, claim := range owned {
		in.Claims[claim.Name] = claim
	}
	for i := range pod.Spec.ResourceClaims {
		use := &pod.Spec.ResourceClaims[i]
		if name, _, err := resourceclaim.Name(pod, use); err == nil && name != nil {
			if err := find(s, in.Claims, claims.Resource, pod.Namespace, *name); err != nil {
				return in, err
			}
		}
		if use.ResourceClaimTemplateName != nil {
			if err := find(s, in.Templates, templates.Resource, pod.Namespace, *use.ResourceClaimTemplateName); err != nil {
				return in, err
			}
		}
	}
	return in, nil
}

// find adds an object to those that are known by name, if it is there.
func find[T metav1.Object](s *consumer.Snapshot, known map[string]T, resource, namespace, name string) error {
	obj, ok, err := consumer.Get[T](s, resourceapi.Resource(resource), namespace, name)
	if ok {
		known[name] = obj
	}
	return err
}

func (t *touched) decideClaim(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(t.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		claim, ok, err := consumer.Get[*resourceapi.ResourceClaim](s, claims, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		in := core.Claim{Claim: claim, Pods: map[string]*corev1.Pod{}}
		names := make([]string, 0, len(claim.Status.ReservedFor)+len(claim.OwnerReferences))
		for _, r := range claim.Status.ReservedFor {
			names = append(names, r.Name)
		}
		for _, owner := range claim.OwnerReferences {
			names = append(names, owner.Name)
		}
		for _, name := range names {
			pod, ok, err := consumer.Get[*corev1.Pod](s, pods, n.Namespace, name)
			if err != nil {
				return plan.Plan{}, err
			}
			if ok {
				in.Pods[name] = pod
			}
		}
		return in.Sync(), nil
	}))
}
