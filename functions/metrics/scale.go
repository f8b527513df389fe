package metrics

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/core/autoscaling"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// kindOf are the kinds whose scale is told from the snapshot. Of others the API is asked.
var kindOf = map[schema.GroupResource]schema.GroupKind{
	plan.Deployments.GroupResource():          {Group: "apps", Kind: "Deployment"},
	plan.ReplicaSets.GroupResource():          {Group: "apps", Kind: "ReplicaSet"},
	{Group: "apps", Resource: "statefulsets"}: {Group: "apps", Kind: "StatefulSet"},
	{Resource: "replicationcontrollers"}:      {Kind: "ReplicationController"},
}

// scaleOf is the scale of an object of one of these kinds, as the scale subresource of each has it
// (scaleFromDeployment of pkg/registry/apps/deployment/storage, and so on); nil for another.
func scaleOf(obj any) *autoscaling.Scale {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return workload(o.ResourceVersion, o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector)
	case *appsv1.ReplicaSet:
		return workload(o.ResourceVersion, o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector)
	case *appsv1.StatefulSet:
		return workload(o.ResourceVersion, o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector)
	case *corev1.ReplicationController:
		return &autoscaling.Scale{
			ResourceVersion: o.ResourceVersion, SpecReplicas: replicas(o.Spec.Replicas), StatusReplicas: o.Status.Replicas,
			Selector: labels.SelectorFromSet(o.Spec.Selector).String(),
		}
	}
	return nil
}

func workload(version string, spec *int32, status int32, selector *metav1.LabelSelector) *autoscaling.Scale {
	s := &autoscaling.Scale{ResourceVersion: version, SpecReplicas: replicas(spec), StatusReplicas: status}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		s.Err = apierrors.NewBadRequest(err.Error())
		return s
	}
	s.Selector = parsed.String()
	return s
}

// replicas is what a spec asks for. What was stored without its defaults asks for one.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// targetKind is what kind of object an autoscaler scales.
func targetKind(a *autoscalingv2.HorizontalPodAutoscaler) (schema.GroupKind, error) {
	gv, err := schema.ParseGroupVersion(a.Spec.ScaleTargetRef.APIVersion)
	return schema.GroupKind{Group: gv.Group, Kind: a.Spec.ScaleTargetRef.Kind}, err
}

// scale returns the scale of an autoscaler's target, or in it why there is none. An error means that the store
// failed.
//
// Upstream: reconcileAutoscaler, scaleForResourceMappings (pkg/controller/podautoscaler/horizontal.go).
func (l *loader) scale(ctx context.Context, s *consumer.Snapshot, a *autoscalingv2.HorizontalPodAutoscaler) (autoscaling.Scale, error) {
	kind, err := targetKind(a)
	if err != nil {
		return autoscaling.Scale{}, nil //nolint:nilerr // the core says so itself
	}
	discovered, err := l.Discover()
	if err != nil {
		return autoscaling.Scale{}, err
	}
	mappings, err := discovered.Mapper.RESTMappings(kind)
	if err != nil {
		return autoscaling.Scale{Err: fmt.Errorf("unable to determine resource for scale target reference: %w", err)}, nil
	}
	out := autoscaling.Scale{Err: fmt.Errorf("unrecognized resource")}
	for i, m := range mappings {
		found, err := l.scaleAt(ctx, s, plan.Ref{Resource: m.Resource, Namespace: a.Namespace, Name: a.Spec.ScaleTargetRef.Name})
		if err != nil {
			return out, err
		}
		if found.Err == nil {
			return found, nil
		}
		if i == 0 {
			out = found
		}
	}
	return out, nil
}

func (l *loader) scaleAt(ctx context.Context, s *consumer.Snapshot, of plan.Ref) (autoscaling.Scale, error) {
	gr := of.Resource.GroupResource()
	if _, known := kindOf[gr]; known {
		obj, ok, err := consumer.Read[metav1.Object](s, s.States[kubestorage.GroupOf(gr)].Get(kubestorage.KeyOf(gr, of.Namespace, of.Name)))
		switch {
		case err != nil:
			return autoscaling.Scale{}, err
		case !ok:
			return autoscaling.Scale{Err: apierrors.NewNotFound(gr, of.Name)}, nil
		}
		out := *scaleOf(obj)
		out.Resource = of.Resource
		return out, nil
	}
	scale, err := l.Scale(ctx, component, of)
	if err != nil {
		if ctx.Err() != nil || planclient.Malfunction(err) {
			return autoscaling.Scale{}, err
		}
		return autoscaling.Scale{Err: err}, nil
	}
	return autoscaling.Scale{
		Resource: of.Resource, ResourceVersion: scale.ResourceVersion, SpecReplicas: scale.Spec.Replicas,
		StatusReplicas: scale.Status.Replicas, Selector: scale.Status.Selector,
	}, nil
}
