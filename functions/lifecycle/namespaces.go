package lifecycle

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/lifecycle"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// terminating reports whether a namespace is being deleted.
func (b *batch) terminating(name string) bool {
	ns, ok, err := consumer.Get[*corev1.Namespace](b.Snapshot, namespaceResource, "", name)
	return err == nil && ok && ns.DeletionTimestamp != nil
}

// namespace decides one namespace.
func (b *batch) namespace(ctx context.Context, n consumer.Named) error {
	if err := b.deleteNamespace(ctx, n.Name); err != nil {
		return err
	}
	if err := b.ensureAccounts(ctx, n.Name); err != nil {
		return err
	}
	return b.publishRootCA(ctx, n.Name)
}

func (b *batch) deleteNamespace(ctx context.Context, name string) error {
	decide := func(refusals []string) consumer.Decision {
		return func(s *consumer.Snapshot) (plan.Plan, error) {
			ns, ok, err := consumer.Get[*corev1.Namespace](s, namespaceResource, "", name)
			if err != nil || !ok || ns.DeletionTimestamp == nil {
				return plan.Plan{}, err
			}
			objects, err := content(s, b.graph(s), name)
			if err != nil {
				return plan.Plan{}, err
			}
			resources, err := b.discovered.Namespaced()
			if err != nil {
				return plan.Plan{}, err
			}
			return lifecycle.DeleteNamespace(lifecycle.NamespaceContent{
				Namespace: ns, Resources: resources, Objects: objects, Refused: refusals,
			}, b.Now), nil
		}
	}
	out, err := b.Decide(ctx, namespaceController, decide(nil))
	if err != nil || out.Refused == nil {
		return err
	}
	return consumer.Refused(b.Decide(ctx, namespaceController, decide([]string{out.Err.Error()})))
}

// content returns all objects of a namespace.
func content(s *consumer.Snapshot, g graph, namespace string) ([]lifecycle.Remaining, error) {
	var out []lifecycle.Remaining
	for _, group := range kubestorage.Groups {
		var err error
		s.States[group].Ascend("", "", func(e *tablelog.Entry) bool {
			if _, in, _ := kubestorage.ParseKey(e.Key); in != namespace {
				return true
			}
			var r *lifecycle.Remaining
			if r, err = remaining(s, g, e); r != nil {
				out = append(out, *r)
			}
			return err == nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func remaining(s *consumer.Snapshot, g graph, e *tablelog.Entry) (*lifecycle.Remaining, error) {
	obj, err := g.object(e)
	if err != nil || obj == nil {
		return nil, err
	}
	r := &lifecycle.Remaining{Ref: obj.Ref, Finalizers: obj.Finalizers, DeletionTimestamp: obj.DeletionTimestamp}
	if obj.Ref.Resource.GroupResource() == podResource {
		pod, ok, err := consumer.Read[*corev1.Pod](s, e)
		if err != nil || !ok {
			return nil, err
		}
		r.Pod = &lifecycle.RemainingPod{Phase: pod.Status.Phase, NodeName: pod.Spec.NodeName, TerminationGracePeriodSeconds: pod.Spec.TerminationGracePeriodSeconds}
	}
	return r, nil
}

func (b *batch) ensureAccounts(ctx context.Context, name string) error {
	return tolerant(b.Decide(ctx, accountController, func(s *consumer.Snapshot) (plan.Plan, error) {
		ns, ok, err := consumer.Get[*corev1.Namespace](s, namespaceResource, "", name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		accounts, err := consumer.List[*corev1.ServiceAccount](s, accountResource, name)
		if err != nil {
			return plan.Plan{}, err
		}
		return lifecycle.EnsureServiceAccounts(ns, accounts), nil
	}))
}

func (b *batch) publishRootCA(ctx context.Context, name string) error {
	return tolerant(b.Decide(ctx, rootCAPublisher, func(s *consumer.Snapshot) (plan.Plan, error) {
		ns, ok, err := consumer.Get[*corev1.Namespace](s, namespaceResource, "", name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		existing, found, err := consumer.Get[*corev1.ConfigMap](s, configMapResource, name, lifecycle.RootCAConfigMap)
		if err != nil {
			return plan.Plan{}, err
		}
		if !found {
			existing = nil
		}
		return lifecycle.PublishRootCA(ns, existing, b.rootCA), nil
	}))
}

// tolerant is consumer.Refused, but for a namespace that began to go away meanwhile.
func tolerant(out planclient.Outcome, err error) error {
	if err == nil && out.Refused != nil && planclient.Terminating(out.Err) {
		return nil
	}
	return consumer.Refused(out, err)
}
