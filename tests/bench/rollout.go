package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// rolloutTimeout bounds each of: all bound, all deleted.
const rolloutTimeout = 5 * time.Minute

// measureRollout is a cluster with nodes at rest, then a large Deployment put on it and taken away.
func measureRollout(ctx context.Context, p platform, s sizes) (values []value, err error) {
	c, err := p.start(ctx, s.nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := letPass(ctx, s.settle); err != nil {
		return nil, err
	}
	idle, err := residentMegabytes(c.pids())
	if err != nil {
		return nil, err
	}
	seconds, err := cpuSecondsOver(ctx, c.pids(), s.idle)
	if err != nil {
		return nil, err
	}
	client, err := newClient(c.kubeconfig())
	if err != nil {
		return nil, err
	}
	times, loaded, err := rollOut(ctx, client, c, s)
	if err != nil {
		return nil, err
	}
	third := ask{ratio: 1.0 / 3}
	rollout := fmt.Sprintf("%d replicas on %d nodes", s.replicas, s.nodes)
	return []value{
		{name: "resident, idle", unit: "MB", amount: idle, ask: third},
		{name: fmt.Sprintf("resident, after %d pods", s.replicas), unit: "MB", amount: loaded, ask: third},
		{name: fmt.Sprintf("CPU over %v idle, %d nodes", s.idle, s.nodes), unit: "s", amount: seconds, ask: ask{amount: 0.1}},
		{name: rollout + ": created", unit: "s", amount: times.created.Seconds(), ask: noWorse},
		{name: rollout + ": bound", unit: "s", amount: times.bound.Seconds(), ask: half},
		{name: rollout + ": deleted", unit: "s", amount: times.deleted.Seconds(), ask: half},
	}, nil
}

// rolloutTimes are from the call that caused it.
type rolloutTimes struct {
	created, bound, deleted time.Duration
}

// rollOut applies the Deployment, reads memory when all is bound, and deletes it with everything below.
func rollOut(ctx context.Context, client kubernetes.Interface, c cluster, s sizes) (rolloutTimes, float64, error) {
	var times rolloutTimes
	ctx, cancel := context.WithTimeout(ctx, 2*rolloutTimeout+s.settle)
	defer cancel()
	count, err := countPods(ctx, client)
	if err != nil {
		return times, 0, err
	}
	defer count.stop()

	start := time.Now()
	if _, err := client.AppsV1().Deployments(namespace).Create(ctx, withoutGrace(deployment("load", s.replicas)), metav1.CreateOptions{}); err != nil {
		return times, 0, err
	}
	if times.created, err = count.until(ctx, start, func() bool { return len(count.created) >= s.replicas }); err != nil {
		return times, 0, fmt.Errorf("waiting for pods to be created: %w", err)
	}
	if times.bound, err = count.until(ctx, start, func() bool { return len(count.bound) >= s.replicas }); err != nil {
		return times, 0, fmt.Errorf("waiting for pods to be bound: %w", err)
	}
	if times.bound < times.created {
		times.bound = times.created
	}
	if err := letPass(ctx, s.settle); err != nil {
		return times, 0, err
	}
	resident, err := residentMegabytes(c.pids())
	if err != nil {
		return times, 0, err
	}

	start = time.Now()
	background := metav1.DeletePropagationBackground
	if err := client.AppsV1().Deployments(namespace).Delete(ctx, "load", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		return times, 0, err
	}
	if times.deleted, err = count.until(ctx, start, func() bool { return count.deleted >= s.replicas }); err != nil {
		return times, 0, fmt.Errorf("waiting for pods to be deleted: %w", err)
	}
	return times, resident, nil
}

// deployment asks 100m CPU and 128Mi a pod, as the figures of PEERS.md.
func deployment(name string, replicas int) *appsv1.Deployment {
	count := int32(replicas) //nolint:gosec // a number of pods
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &count,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{
						Name: "app", Image: "registry.example/load:1",
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
							corev1.ResourceCPU:    resource.MustParse("100m"),
							corev1.ResourceMemory: resource.MustParse("128Mi"),
						}},
					}},
				},
			},
		},
	}
}

// withoutGrace gives pods none: the peer's plain nodes have no kubelet to end one.
func withoutGrace(d *appsv1.Deployment) *appsv1.Deployment {
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64)
	return d
}

// podCount is what a watch has shown so far, by pod.
type podCount struct {
	client kubernetes.Interface
	watch  watch.Interface
	// version is that of the newest event: a server may end a watch that it finds slow, and the next one
	// goes on from there.
	version        string
	created, bound map[string]bool
	deleted        int
}

// countPods counts from now on.
func countPods(ctx context.Context, client kubernetes.Interface) (*podCount, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	c := &podCount{client: client, version: list.ResourceVersion, created: map[string]bool{}, bound: map[string]bool{}}
	return c, c.open(ctx)
}

func (c *podCount) open(ctx context.Context) error {
	w, err := c.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: c.version})
	if err != nil {
		return fmt.Errorf("watching pods from %s: %w", c.version, err)
	}
	c.watch = w
	return nil
}

func (c *podCount) stop() { c.watch.Stop() }

// until follows the watch until done, and gives the time from start to the event that made it so.
func (c *podCount) until(ctx context.Context, start time.Time, done func() bool) (time.Duration, error) {
	timer := time.NewTimer(rolloutTimeout)
	defer timer.Stop()
	for !done() {
		select {
		case event, open := <-c.watch.ResultChan():
			if !open {
				if err := c.open(ctx); err != nil {
					return 0, err
				}
				continue
			}
			if err := c.see(event); err != nil {
				return 0, err
			}
		case <-timer.C:
			return 0, fmt.Errorf("%d created, %d bound, %d deleted after %v",
				len(c.created), len(c.bound), c.deleted, rolloutTimeout)
		}
	}
	return time.Since(start), nil
}

func (c *podCount) see(event watch.Event) error {
	if event.Type == watch.Error {
		return apierrors.FromObject(event.Object)
	}
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("a watch of pods has a %T", event.Object)
	}
	c.version = pod.ResourceVersion
	if event.Type == watch.Deleted {
		c.deleted++
		return nil
	}
	c.created[pod.Name] = true
	if pod.Spec.NodeName != "" {
		c.bound[pod.Name] = true
	}
	return nil
}
