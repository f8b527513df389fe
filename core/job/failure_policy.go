package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// failureMatch is what spec.podFailurePolicy says of a failed pod.
type failureMatch struct {
	// failJob is why the Job fails because of this pod, empty if it does not.
	failJob string
	// counts is unset if the failure is to be ignored.
	counts bool
	// action of the rule that matched, empty for none.
	action batchv1.PodFailurePolicyAction
}

// matchFailurePolicy is pod_failure_policy.go matchPodFailurePolicy.
func matchFailurePolicy(policy *batchv1.PodFailurePolicy, pod *corev1.Pod) failureMatch {
	if policy == nil {
		return failureMatch{counts: true}
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		why, matches := matchRule(rule, i, pod)
		if !matches {
			continue
		}
		switch rule.Action {
		case batchv1.PodFailurePolicyActionIgnore:
			return failureMatch{action: rule.Action}
		case batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionCount:
			return failureMatch{counts: true, action: rule.Action}
		case batchv1.PodFailurePolicyActionFailJob:
			return failureMatch{counts: true, action: rule.Action, failJob: why}
		}
	}
	return failureMatch{counts: true}
}

// matchRule returns whether a rule matches, and says so in upstream's words.
func matchRule(rule *batchv1.PodFailurePolicyRule, index int, pod *corev1.Pod) (string, bool) {
	if rule.OnExitCodes != nil {
		c := matchExitCodes(&pod.Status, rule.OnExitCodes)
		if c == nil {
			return "", false
		}
		return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
			c.Name, pod.Namespace, pod.Name, c.State.Terminated.ExitCode, rule.Action, index), true
	}
	c := matchPodConditions(&pod.Status, rule.OnPodConditions)
	if c == nil {
		return "", false
	}
	return fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", pod.Namespace, pod.Name, c.Type, rule.Action, index), true
}

// matchExitCodes returns the first terminated container that a rule matches: pod_failure_policy.go matchOnExitCodes.
func matchExitCodes(status *corev1.PodStatus, rule *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated != nil && c.State.Terminated.ExitCode != 0 &&
				(rule.ContainerName == nil || *rule.ContainerName == c.Name) && matchesExitCode(rule, c.State.Terminated.ExitCode) {
				return c
			}
		}
	}
	return nil
}

func matchesExitCode(rule *batchv1.PodFailurePolicyOnExitCodesRequirement, code int32) bool {
	switch rule.Operator {
	case batchv1.PodFailurePolicyOnExitCodesOpIn:
		return slices.Contains(rule.Values, code)
	case batchv1.PodFailurePolicyOnExitCodesOpNotIn:
		return !slices.Contains(rule.Values, code)
	default:
		return false
	}
}

func matchPodConditions(status *corev1.PodStatus, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) *corev1.PodCondition {
	for i := range status.Conditions {
		c := &status.Conditions[i]
		for _, p := range patterns {
			if c.Type == p.Type && c.Status == p.Status {
				return c
			}
		}
	}
	return nil
}

// failJobMessage is why the policy fails the Job, empty if it does not: job_controller.go getFailJobMessage.
func failJobMessage(job *batchv1.Job, pods []*corev1.Pod) string {
	if job.Spec.PodFailurePolicy == nil {
		return ""
	}
	for _, pod := range pods {
		if !isFailed(job, pod) {
			continue
		}
		if why := matchFailurePolicy(job.Spec.PodFailurePolicy, pod).failJob; why != "" {
			return why
		}
	}
	return ""
}
