package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
)

// nodes of the cluster. Nothing befalls the last one.
const nodes = 4

// troubles are what users do not ask for. They count as faults.
var troubles = []action{
	{"delete a pod", 10, func(g *game) do {
		pod := g.pod(g.one(team, team, tight, side), func(*corev1.Pod) bool { return true })
		if pod == nil {
			return nil
		}
		options := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
		if g.coin() {
			options.GracePeriodSeconds = new(int64(0))
		}
		return func(ctx context.Context) error {
			return conflictIsDone(g.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, options))
		}
	}},
	{"have a pod fail", 6, func(g *game) do {
		pod := g.pod(team, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		if pod == nil {
			return nil
		}
		g.out.faults++
		body := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: memory.",`+
			`"conditions":[{"type":"Ready","status":"False","reason":"PodFailed"},{"type":"ContainersReady","status":"False","reason":"PodFailed"}]}}`, pod.UID)
		return func(ctx context.Context) error {
			_, err := g.client.CoreV1().Pods(team).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
			return conflictIsDone(err)
		}
	}},
	{"cordon or uncordon a node", 3, func(g *game) do {
		return g.patchNode(g.r.IntN(nodes-1), `{"spec":{"unschedulable":%t}}`, g.coin())
	}},
	{"stop a node", 2, func(g *game) do {
		g.out.faults++
		return g.patchNode(g.r.IntN(nodes-1), `{"metadata":{"annotations":{%q:%q}}}`, kubelet.StoppedAt, time.Now().Format(time.RFC3339))
	}},
	{"start a node", 2, func(g *game) do { return g.start(g.r.IntN(nodes - 1)) }},
	{"delete a node", 1, func(g *game) do {
		g.out.faults++
		name := fmt.Sprint("node-", g.r.IntN(nodes-1))
		return func(ctx context.Context) error {
			return g.client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
		}
	}},
	{"register a node again", 2, func(g *game) do {
		i := g.r.IntN(nodes - 1)
		return func(ctx context.Context) error { return g.register(ctx, i) }
	}},
	{"let time pass", 2, func(g *game) do {
		length := time.Duration(g.r.Int64N(int64(15 * time.Minute)))
		return func(context.Context) error {
			time.Sleep(length)
			return nil
		}
	}},
}

// list returns objects in the order of their names.
func (g *game) list(what schema.GroupVersionResource, ns string) []metav1.Object {
	objects := g.seen.list(what, ns)
	slices.SortFunc(objects, func(a, b metav1.Object) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return objects
}

// pod draws a pod of a namespace, nil if there is none.
func (g *game) pod(ns string, suits func(*corev1.Pod) bool) *corev1.Pod {
	var found []*corev1.Pod
	for _, o := range g.list(plan.Pods, ns) {
		if pod := o.(*corev1.Pod); suits(pod) {
			found = append(found, pod)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[g.r.IntN(len(found))]
}

func (g *game) patchNode(i int, format string, args ...any) do {
	return func(ctx context.Context) error {
		_, err := g.client.CoreV1().Nodes().Patch(ctx, fmt.Sprint("node-", i), types.MergePatchType, fmt.Appendf(nil, format, args...), metav1.PatchOptions{})
		return err
	}
}

func (g *game) start(i int) do {
	return g.patchNode(i, `{"metadata":{"annotations":{%q:null}}}`, kubelet.StoppedAt)
}

// mend ends what users and nature left half done, so that all can come to rest.
func (g *game) mend() {
	for i := range nodes {
		g.insist("register a node", func(ctx context.Context) error { return g.register(ctx, i) })
		g.insist("start a node", g.start(i))
		g.insist("uncordon a node", g.patchNode(i, `{"spec":{"unschedulable":false}}`))
	}
	mend := func(what schema.GroupVersionResource, body string, broken func(metav1.Object) bool) {
		for _, ns := range []string{team, tight, side} {
			for _, o := range g.list(what, ns) {
				if broken(o) {
					g.insist("mend "+o.GetName(), func(ctx context.Context) error { return g.send(ctx, what, ns, o.GetName(), []byte(body)) })
				}
			}
		}
	}
	mend(plan.Deployments, `{"spec":{"paused":false}}`, func(o metav1.Object) bool { return o.(*appsv1.Deployment).Spec.Paused })
	mend(plan.CronJobs, `{"spec":{"suspend":true}}`, func(o metav1.Object) bool { return !*o.(*batchv1.CronJob).Spec.Suspend })
	mend(plan.Jobs, `{"spec":{"suspend":false}}`, func(o metav1.Object) bool { return *o.(*batchv1.Job).Spec.Suspend })
	mend(plan.StatefulSets, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`, func(o metav1.Object) bool {
		u := o.(*appsv1.StatefulSet).Spec.UpdateStrategy.RollingUpdate
		return u != nil && u.Partition != nil && *u.Partition > 0
	})
}
