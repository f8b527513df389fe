package rules

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Settle looks at a cluster in which nothing goes wrong any more and that has come to rest: every object is as its spec asks.
// In a namespace that is tight not all pods may be there, since a quota keeps some from being made.
func (h *History) Settle(at time.Time, tight string) {
	say := h.saying(at, Settled)
	h.stateless(say, tight)
	h.stateful(say)
	h.jobs(say)
	h.limits(say)
	h.running(say)
	h.endpoints(h.saying(at, Endpoints))
	h.orphans(h.saying(at, Owned))
}

// stateless are Deployments, ReplicaSets and ReplicationControllers.
func (h *History) stateless(say func(string, ...any), tight string) {
	All(h, plan.Deployments, func(d *appsv1.Deployment) {
		s := &d.Status
		same(say, "deployment", d, d.Generation, s.ObservedGeneration)
		if d.Namespace != tight {
			for _, n := range []int32{s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas} {
				same(say, "deployment", d, *d.Spec.Replicas, n)
			}
		}
	})
	All(h, plan.ReplicaSets, func(s *appsv1.ReplicaSet) {
		same(say, "replica set", s, s.Generation, s.Status.ObservedGeneration)
		h.counts(say, "replica set", s, *s.Spec.Replicas, s.Status.Replicas, s.Status.ReadyReplicas, s.Namespace == tight)
	})
	All(h, plan.ReplicationControllers, func(c *corev1.ReplicationController) {
		same(say, "replication controller", c, c.Generation, c.Status.ObservedGeneration)
		h.counts(say, "replication controller", c, *c.Spec.Replicas, c.Status.Replicas, c.Status.ReadyReplicas, c.Namespace == tight)
	})
}

// stateful are StatefulSets and DaemonSets.
func (h *History) stateful(say func(string, ...any)) {
	All(h, plan.StatefulSets, func(s *appsv1.StatefulSet) {
		same(say, "stateful set", s, s.Generation, s.Status.ObservedGeneration)
		h.counts(say, "stateful set", s, *s.Spec.Replicas, s.Status.Replicas, s.Status.ReadyReplicas, false)
		if s.Status.CurrentRevision != s.Status.UpdateRevision {
			say("stateful set %s is at revision %s and not at %s", id(s), s.Status.CurrentRevision, s.Status.UpdateRevision)
		}
	})
	All(h, plan.DaemonSets, func(d *appsv1.DaemonSet) {
		same(say, "daemon set", d, d.Generation, d.Status.ObservedGeneration)
		nodes := int32(len(h.objects[plan.Nodes.GroupResource()])) //nolint:gosec // a few
		for _, n := range []int32{d.Status.DesiredNumberScheduled, d.Status.UpdatedNumberScheduled, d.Status.NumberReady, d.Status.NumberAvailable} {
			same(say, "daemon set", d, nodes, n)
		}
	})
}

// jobs are finished, since none is suspended.
func (h *History) jobs(say func(string, ...any)) {
	All(h, plan.Jobs, func(j *batchv1.Job) {
		if !has(j, batchv1.JobComplete) && !has(j, batchv1.JobFailed) {
			say("job %s is not finished: %+v", id(j), j.Status)
		}
		same(say, "job", j, 0, j.Status.Active)
	})
}

// limits are budgets and quotas.
func (h *History) limits(say func(string, ...any)) {
	All(h, plan.DisruptionBudgets, func(b *policyv1.PodDisruptionBudget) {
		healthy := int32(0)
		All(h, plan.Pods, func(p *corev1.Pod) {
			if p.Namespace == b.Namespace && covers(b, p) && isLive(p) && isReady(p) {
				healthy++
			}
		})
		same(say, "budget", b, healthy, b.Status.CurrentHealthy)
		same(say, "budget", b, b.Generation, b.Status.ObservedGeneration)
	})
	All(h, plan.ResourceQuotas, func(q *corev1.ResourceQuota) {
		n := int64(0)
		All(h, plan.Pods, func(p *corev1.Pod) {
			if p.Namespace == q.Namespace && !isOver(p) {
				n++
			}
		})
		used := q.Status.Used[corev1.ResourcePods]
		same(say, "quota", q, n, used.Value())
	})
}

// running is what all pods do that are not over.
func (h *History) running(say func(string, ...any)) {
	All(h, plan.Pods, func(p *corev1.Pod) {
		switch {
		case p.DeletionTimestamp != nil:
			say("pod %s is still going", id(p))
		case !isOver(p) && (p.Spec.NodeName == "" || !isReady(p)):
			say("pod %s is %s on %q", id(p), p.Status.Phase, p.Spec.NodeName)
		}
	})
}

// saying returns what tells of violations of a rule.
func (h *History) saying(at time.Time, rule string) func(format string, args ...any) {
	return func(format string, args ...any) { h.violate(rule, at, format, args...) }
}

// same says where a number is not what it should be.
func same[N comparable](say func(string, ...any), kind string, o metav1.Object, want, got N) {
	if got != want {
		say("%s %s: %v instead of %v", kind, id(o), got, want)
	}
}

// counts compares what a controller asks for with its status, and with the pods that there are.
func (h *History) counts(say func(string, ...any), kind string, o metav1.Object, asked, replicas, ready int32, tight bool) {
	live := int32(len(h.live(o.GetUID()))) //nolint:gosec // a few
	same(say, kind, o, live, replicas)
	if !tight {
		same(say, kind, o, asked, live)
		same(say, kind, o, asked, ready)
	}
}

// kinds are those that own others here.
var kinds = map[string]schema.GroupVersionResource{
	"Deployment": plan.Deployments, "ReplicaSet": plan.ReplicaSets, "StatefulSet": plan.StatefulSets, "DaemonSet": plan.DaemonSets,
	"Job": plan.Jobs, "CronJob": plan.CronJobs, "ReplicationController": plan.ReplicationControllers,
}

// orphans says which objects have a controller that is gone.
func (h *History) orphans(say func(string, ...any)) {
	for resource, objects := range h.objects {
		for _, o := range objects {
			ref := metav1.GetControllerOfNoCopy(o)
			if ref == nil {
				continue
			}
			owner, known := kinds[ref.Kind]
			if found := h.Get(owner, o.GetNamespace(), ref.Name); known && (found == nil || found.GetUID() != ref.UID) {
				say("%s %s belongs to %s %s, which is gone", resource.Resource, id(o), ref.Kind, ref.Name)
			}
		}
	}
	All(h, plan.Pods, func(p *corev1.Pod) {
		if p.Spec.NodeName != "" && h.objects[plan.Nodes.GroupResource()][types.NamespacedName{Name: p.Spec.NodeName}] == nil {
			say("pod %s is on node %s, which is gone", id(p), p.Spec.NodeName)
		}
	})
}

// Still looks at what was written after a cluster had come to rest.
func (h *History) Still(at time.Time, written []string) {
	for _, w := range written {
		h.violate(Quiet, at, "%s was written though nothing happened", w)
	}
}
