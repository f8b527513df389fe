package main

import (
	"context"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const (
	// siteLabel marks the ConfigMaps that are sites.
	siteLabel = "app.example.com/site"
	// readyAnnotation is how many replicas of the site serve.
	readyAnnotation = "app.example.com/ready"
	// finalizer keeps a site until its farewell is written.
	finalizer = "app.example.com/farewell"
)

// siteReconciler makes sites of ConfigMaps. Their data: image, and replicas (1 when absent).
type siteReconciler struct {
	client.Client

	recorder events.EventRecorder
}

func (r *siteReconciler) setUp(manager ctrl.Manager) error {
	isSite, err := predicate.LabelSelectorPredicate(metav1.LabelSelector{MatchLabels: map[string]string{siteLabel: "true"}})
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(manager).
		For(&corev1.ConfigMap{}, builder.WithPredicates(isSite)).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.Service{}).
		Named("site").
		Complete(r)
}

// Reconcile brings one site to what its ConfigMap says.
func (r *siteReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var site corev1.ConfigMap
	if err := r.Get(ctx, request.NamespacedName, &site); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !site.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.farewell(ctx, &site)
	}
	if controllerutil.AddFinalizer(&site, finalizer) {
		if err := r.Update(ctx, &site); err != nil {
			return ctrl.Result{}, err
		}
	}
	ready, err := r.ensureDeployment(ctx, &site)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.ensureService(ctx, &site); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.annotate(ctx, &site, ready)
}

// ensureDeployment gives the number of ready replicas.
func (r *siteReconciler) ensureDeployment(ctx context.Context, site *corev1.ConfigMap) (int32, error) {
	replicas := int64(1)
	if text, ok := site.Data["replicas"]; ok {
		var err error
		if replicas, err = strconv.ParseInt(text, 10, 32); err != nil {
			r.recorder.Eventf(site, nil, corev1.EventTypeWarning, "BadReplicas", "Reconcile", "replicas: %v", err)
			return 0, nil
		}
	}
	count := int32(replicas)
	labels := map[string]string{"site": site.Name}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: site.Name, Namespace: site.Namespace}}
	result, err := controllerutil.CreateOrUpdate(ctx, r.Client, deployment, func() error {
		deployment.Spec.Replicas = &count
		deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
		deployment.Spec.Template.Labels = labels
		if len(deployment.Spec.Template.Spec.Containers) == 0 {
			deployment.Spec.Template.Spec.Containers = []corev1.Container{{Name: "site"}}
		}
		deployment.Spec.Template.Spec.Containers[0].Image = site.Data["image"]
		return controllerutil.SetControllerReference(site, deployment, r.Scheme())
	})
	if err != nil {
		return 0, fmt.Errorf("ensuring the deployment: %w", err)
	}
	if result != controllerutil.OperationResultNone {
		r.recorder.Eventf(site, deployment, corev1.EventTypeNormal, "Deployed", "Reconcile", "deployment %s", result)
	}
	return deployment.Status.ReadyReplicas, nil
}

func (r *siteReconciler) ensureService(ctx context.Context, site *corev1.ConfigMap) error {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: site.Name, Namespace: site.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, r.Client, service, func() error {
		service.Spec.Selector = map[string]string{"site": site.Name}
		service.Spec.Ports = []corev1.ServicePort{{
			Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080),
		}}
		return controllerutil.SetControllerReference(site, service, r.Scheme())
	})
	if err != nil {
		return fmt.Errorf("ensuring the service: %w", err)
	}
	return nil
}

func (r *siteReconciler) annotate(ctx context.Context, site *corev1.ConfigMap, ready int32) error {
	text := strconv.Itoa(int(ready))
	if site.Annotations[readyAnnotation] == text {
		return nil
	}
	before := site.DeepCopy()
	metav1.SetMetaDataAnnotation(&site.ObjectMeta, readyAnnotation, text)
	return r.Patch(ctx, site, client.MergeFrom(before))
}

// farewell leaves NAME-farewell behind and lets the site go.
func (r *siteReconciler) farewell(ctx context.Context, site *corev1.ConfigMap) error {
	if !controllerutil.ContainsFinalizer(site, finalizer) {
		return nil
	}
	last := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: site.Name + "-farewell", Namespace: site.Namespace},
		Data:       map[string]string{"image": site.Data["image"]},
	}
	if err := r.Create(ctx, last); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("writing the farewell: %w", err)
	}
	before := site.DeepCopy()
	controllerutil.RemoveFinalizer(site, finalizer)
	return client.IgnoreNotFound(r.Patch(ctx, site, client.MergeFrom(before)))
}
