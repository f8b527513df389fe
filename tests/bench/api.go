package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

const (
	namespace = "default"
	// dataBytes is the size of the one value in a configmap: objects are some 600 bytes in all.
	dataBytes = 400
	// eventTimeout bounds the wait for one watch event.
	eventTimeout = 10 * time.Second
)

// measureColdStart is exec to first object.
func measureColdStart(ctx context.Context, p platform, s sizes) ([]value, error) {
	took, err := p.coldStarts(ctx, s.coldStarts)
	if err != nil {
		return nil, err
	}
	return []value{{
		name: "exec to first authorized object", unit: "ms", amount: medianOf(took),
		ask: ask{amount: 150, ratio: 0.25},
	}}, nil
}

// measureAPI is the table of PEERS.md: configmaps and pods with many clients, then one client's medians.
func measureAPI(ctx context.Context, p platform, s sizes) (values []value, err error) {
	c, err := p.start(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	clients, err := newClients(ctx, c.kubeconfig(), s.clients)
	if err != nil {
		return nil, err
	}
	configMaps, err := measureConfigMaps(ctx, clients, s)
	if err != nil {
		return nil, err
	}
	pods, err := measurePods(ctx, clients, s)
	if err != nil {
		return nil, err
	}
	single, err := measureSingle(ctx, clients[0], s)
	if err != nil {
		return nil, err
	}
	latency, err := measureWatch(ctx, clients[0], clients[len(clients)-1], s)
	if err != nil {
		return nil, err
	}
	return append(append(append(configMaps, pods...), single...), latency), nil
}

func configMap(prefix string, i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%05d", prefix, i), Namespace: namespace},
		Data:       map[string]string{"value": strings.Repeat("x", dataBytes)},
	}
}

// measureConfigMaps shares each kind of call among the clients.
func measureConfigMaps(ctx context.Context, clients []kubernetes.Interface, s sizes) ([]value, error) {
	made := make([]*corev1.ConfigMap, s.objects)
	calls := []struct {
		name string
		n    int
		call func(client kubernetes.Interface, i int) error
	}{
		{"create", s.objects, func(client kubernetes.Interface, i int) (err error) {
			made[i], err = client.CoreV1().ConfigMaps(namespace).Create(ctx, configMap("load", i), metav1.CreateOptions{})
			return err
		}},
		{"get", 2 * s.objects, func(client kubernetes.Interface, i int) error {
			_, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, made[i%s.objects].Name, metav1.GetOptions{})
			return err
		}},
		{"update", s.objects, func(client kubernetes.Interface, i int) error {
			changed := made[i].DeepCopy()
			changed.Data["value"] = strings.Repeat("y", dataBytes)
			_, err := client.CoreV1().ConfigMaps(namespace).Update(ctx, changed, metav1.UpdateOptions{})
			return err
		}},
		{"list", s.lists, func(client kubernetes.Interface, _ int) error {
			list, err := client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
			if err == nil && len(list.Items) < s.objects {
				return fmt.Errorf("a list has %d of %d objects", len(list.Items), s.objects)
			}
			return err
		}},
		{"delete", s.objects, func(client kubernetes.Interface, i int) error {
			return client.CoreV1().ConfigMaps(namespace).Delete(ctx, made[i].Name, metav1.DeleteOptions{})
		}},
	}
	values := make([]value, 0, len(calls))
	for _, c := range calls {
		perSecond, err := rate(clients, c.n, c.call)
		if err != nil {
			return nil, fmt.Errorf("configmaps %s: %w", c.name, err)
		}
		name := "configmaps, many clients: " + c.name
		if c.name == "list" {
			name = "list of all configmaps, many clients"
		}
		values = append(values, value{name: name, unit: "/s", amount: perSecond, more: true, ask: noWorse})
	}
	return values, nil
}

// measurePods creates pods that no scheduler claims, so that only the API is measured.
func measurePods(ctx context.Context, clients []kubernetes.Interface, s sizes) ([]value, error) {
	var now int64
	created, err := rate(clients, s.pods, func(client kubernetes.Interface, i int) error {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("load-%05d", i)},
			Spec: corev1.PodSpec{
				SchedulerName: "nobody",
				Containers:    []corev1.Container{{Name: "app", Image: "registry.example/app:1"}},
			},
		}
		_, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pods create: %w", err)
	}
	deleted, err := rate(clients, s.pods, func(client kubernetes.Interface, i int) error {
		return client.CoreV1().Pods(namespace).Delete(ctx, fmt.Sprintf("load-%05d", i), metav1.DeleteOptions{GracePeriodSeconds: &now})
	})
	if err != nil {
		return nil, fmt.Errorf("pods delete: %w", err)
	}
	return []value{
		{name: "pods, many clients: create", unit: "/s", amount: created, more: true, ask: noWorse},
		{name: "pods, many clients: delete", unit: "/s", amount: deleted, more: true, ask: noWorse},
	}, nil
}

// measureSingle is one client's create, get and delete, one after the other.
func measureSingle(ctx context.Context, client kubernetes.Interface, s sizes) ([]value, error) {
	configMaps := client.CoreV1().ConfigMaps(namespace)
	calls := []struct {
		name string
		call func(name string, i int) error
	}{
		{"create", func(_ string, i int) error {
			_, err := configMaps.Create(ctx, configMap("single", i), metav1.CreateOptions{})
			return err
		}},
		{"get", func(name string, _ int) error {
			_, err := configMaps.Get(ctx, name, metav1.GetOptions{})
			return err
		}},
		{"delete", func(name string, _ int) error {
			return configMaps.Delete(ctx, name, metav1.DeleteOptions{})
		}},
	}
	var values []value
	for _, c := range calls {
		took, err := median(s.single, func(i int) (time.Duration, error) {
			return timed(func() error { return c.call(configMap("single", i).Name, i) })
		})
		if err != nil {
			return nil, fmt.Errorf("one client's %s: %w", c.name, err)
		}
		values = append(values, value{name: "one client, median: " + c.name, unit: "ms", amount: took, ask: noWorse})
	}
	return values, nil
}

// measureWatch is the time from a create call until another client's watch has the event.
func measureWatch(ctx context.Context, writer, watcher kubernetes.Interface, s sizes) (value, error) {
	list, err := watcher.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return value{}, err
	}
	w, err := watcher.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return value{}, err
	}
	defer w.Stop()
	took, err := median(s.single, func(i int) (time.Duration, error) {
		start := time.Now()
		object := configMap("watched", i)
		if _, err := writer.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return 0, err
		}
		return awaitAdded(w, object.Name, start)
	})
	if err != nil {
		return value{}, fmt.Errorf("watching: %w", err)
	}
	return value{name: "watch, median: create to event", unit: "ms", amount: took, ask: noWorse}, nil
}

// awaitAdded gives the time from start to the event.
func awaitAdded(w watch.Interface, name string, start time.Time) (time.Duration, error) {
	timer := time.NewTimer(eventTimeout)
	defer timer.Stop()
	for {
		select {
		case event, open := <-w.ResultChan():
			if !open {
				return 0, errors.New("the watch ended")
			}
			object, ok := event.Object.(*corev1.ConfigMap)
			if ok && event.Type == watch.Added && object.Name == name {
				return time.Since(start), nil
			}
		case <-timer.C:
			return 0, fmt.Errorf("no event for %s in %v", name, eventTimeout)
		}
	}
}
