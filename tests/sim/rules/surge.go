package rules

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/plan"
)

// checkSurge looks at each ReplicaSet of a Deployment that rolls. When it is given more replicas, all sets together have no
// more than maxSurge above what is asked for; when less, no available pod is given up that makes it more than maxUnavailable
// below. What is available is what the sets' statuses say, since that is all that a controller can go by.
func checkSurge(h *History, c *Change) {
	set, is := c.New.(*appsv1.ReplicaSet)
	if !is {
		return
	}
	before := int32(0)
	old, was := c.Old.(*appsv1.ReplicaSet)
	if was {
		before = *old.Spec.Replicas
	}
	ref := metav1.GetControllerOfNoCopy(set)
	if *set.Spec.Replicas == before || ref == nil || ref.Kind != "Deployment" {
		return
	}
	d, is := h.Get(plan.Deployments, set.Namespace, ref.Name).(*appsv1.Deployment)
	if !is || d.UID != ref.UID || d.Spec.Strategy.RollingUpdate == nil {
		return
	}
	h.checkFences(c, d, set, old, before)
}

// checkFences looks at a set that was given other replicas than before, by a Deployment.
func (h *History) checkFences(c *Change, d *appsv1.Deployment, set, old *appsv1.ReplicaSet, before int32) {
	surge, unavailable := fencesOf(d)
	total, kept, had := int32(0), int32(0), int32(0)
	All(h, plan.ReplicaSets, func(s *appsv1.ReplicaSet) {
		if !metav1.IsControlledBy(s, d) {
			return
		}
		total += *s.Spec.Replicas
		kept += min(s.Status.AvailableReplicas, *s.Spec.Replicas)
		asked := *s.Spec.Replicas
		if s.UID == set.UID {
			asked = before
		}
		had += min(s.Status.AvailableReplicas, asked)
	})
	if *set.Spec.Replicas > before {
		h.asked(Surge)
		if most := *d.Spec.Replicas + surge; total > most {
			h.violate(Surge, c.At, "deployment %s asks for %d, at most %d more, and its sets for %d", id(d), *d.Spec.Replicas, surge, total)
		}
		return
	}
	if old != nil && old.Annotations[desiredReplicas] != fmt.Sprint(*d.Spec.Replicas) {
		return // the sets share a change of what is asked for, whoever of them is available, as upstream's do (sync.go: scale)
	}
	h.asked(Unavailable)
	if least := *d.Spec.Replicas - unavailable; kept < least && kept < had {
		h.violate(Unavailable, c.At, "deployment %s asks for %d, at most %d less, and keeps %d of %d", id(d), *d.Spec.Replicas, unavailable, kept, had)
	}
}

// desiredReplicas is how many a Deployment asked for when it last set the replicas of a set.
const desiredReplicas = "deployment.kubernetes.io/desired-replicas"

// fencesOf are maxSurge and maxUnavailable in pods; if both are none, one may be unavailable.
func fencesOf(d *appsv1.Deployment) (surge, unavailable int32) {
	of := func(value *intstr.IntOrString, up bool) int32 {
		n, err := intstr.GetScaledValueFromIntOrPercent(value, int(*d.Spec.Replicas), up)
		if err != nil {
			panic(err) // the API server validates it
		}
		return int32(n) //nolint:gosec // a part of the replicas
	}
	surge, unavailable = of(d.Spec.Strategy.RollingUpdate.MaxSurge, true), of(d.Spec.Strategy.RollingUpdate.MaxUnavailable, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func id(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
