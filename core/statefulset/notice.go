package statefulset

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// component is who upstream's events come from.
const component = "statefulset-controller"

func noticesOf(set *appsv1.StatefulSet) podcontrol.Notices {
	return podcontrol.NoticesOf(set, kind, component)
}

// The verbs of events.
const (
	create = "Create"
	update = "Update"
	remove = "Delete"
)

// succeeded and failed are stateful_pod_control.go recordPodEvent.
func (r *decision) succeeded(verb, pod string) *plan.Notice {
	return r.notices.Normal("Successful"+verb, fmt.Sprintf("%s Pod %s in StatefulSet %s successful", verb, pod, r.set.Name))
}

func (r *decision) failed(verb, pod, message string) *plan.Notice {
	return podFailed(r.set, verb, pod, message)
}

func podFailed(set *appsv1.StatefulSet, verb, pod, message string) *plan.Notice {
	return noticesOf(set).Warning("Failed"+verb, fmt.Sprintf("%s Pod %s in StatefulSet %s failed error: %s", verb, pod, set.Name, message))
}

// failedClaim is the event about a pod that was not made because its claim was refused; the write of
// the claim brings its own.
func failedClaim(set *appsv1.StatefulSet, refused plan.Write, message string) []plan.Notice {
	if refused.Verb != plan.Create || refused.Resource != plan.Claims {
		return nil
	}
	_, ordinal := parentAndOrdinal(refused.Name)
	return []plan.Notice{*podFailed(set, create, podName(set, ordinal), "failed to create PVC "+refused.Name+": "+message)}
}
