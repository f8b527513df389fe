package schedulerperf

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// steadily keeps as many pods waiting as there are at first: each that gets a node is deleted, and another made.
//
// Upstream: createPodsSteadily in executor.go.
func (o *createPods) steadily(ctx context.Context, e *executor, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, o.Duration.Duration)
	defer cancel()
	// Never more pods have a node than there are, so that nobody has to wait to send.
	placed := make(chan string, o.total()+1)
	stop := e.pods.onPlaced(func(pod *corev1.Pod) {
		if pod.Namespace == namespace {
			select {
			case placed <- pod.Name:
			case <-ctx.Done():
			}
		}
	})
	defer stop()
	if err := o.create(ctx, e, namespace, o.total(), false); err != nil {
		return err
	}
	start, n := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			e.logf("%d pods got a node in %v", n, time.Since(start))
			if n == 0 {
				return errors.New("no pod got a node")
			}
			return nil
		case name := <-placed:
			n++
			if err := o.replace(ctx, e, namespace, name); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func (o *createPods) replace(ctx context.Context, e *executor, namespace, name string) error {
	background := metav1.DeletePropagationBackground
	var now int64
	err := e.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, PropagationPolicy: &background,
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return o.create(ctx, e, namespace, 1, false)
}
