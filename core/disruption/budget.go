package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	pdbhelper "k8s.io/component-helpers/apps/poddisruptionbudget"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	component = "controllermanager"
	// deletionTimeout is how long an evicted pod may take to be seen as being deleted. After that it
	// is taken for one that stays. Upstream: DeletionTimeout.
	deletionTimeout = 2 * time.Minute
)

// RecheckKind is the kind of the plan.Later at which an eviction counts as not followed.
const RecheckKind = "recheck"

// Input is a budget and what it covers.
type Input struct {
	Budget *policyv1.PodDisruptionBudget
	// Pods are those of its namespace that its selector matches.
	Pods []*corev1.Pod
	// Controllers are what is known of the pods' controllers, by the UID that the pods name.
	// One that does not exist is not in it.
	Controllers map[types.UID]Controller
	Now         time.Time
}

// Controller is what decides how many pods there shall be: the controller of a pod, or that one's.
type Controller struct {
	UID      types.UID
	Replicas int32
	// Err says why its scale cannot be told, nil if it can.
	Err error
}

// Budget brings the status of a budget up to date.
//
// Upstream: trySync, and failSafe when it fails.
func Budget(in Input) plan.Plan {
	want, unmanaged, err := in.expected()
	if err != nil {
		return in.failed(err)
	}
	var p plan.Plan
	disrupted, recheck := in.disrupted(&p)
	healthy := in.healthy(disrupted)
	allowed := healthy - want.healthy
	if want.pods <= 0 || allowed <= 0 {
		allowed = 0
	}
	status := policyv1.PodDisruptionBudgetStatus{
		CurrentHealthy: healthy, DesiredHealthy: want.healthy, ExpectedPods: want.pods, DisruptionsAllowed: allowed,
		DisruptedPods: disrupted, ObservedGeneration: in.Budget.Generation,
	}
	if !recheck.IsZero() {
		p.Later = append(p.Later, plan.Later{At: recheck, Subject: in.ref(), Kind: RecheckKind})
	}
	if upToDate(in.Budget, status) {
		return p
	}
	if len(in.Pods) == 0 {
		p.Notices = append(p.Notices, in.notice(corev1.EventTypeNormal, "NoPods", "No matching pods found"))
	}
	if len(unmanaged) > 0 {
		p.Notices = append(p.Notices, in.notice(corev1.EventTypeWarning, "UnmanagedPods", fmt.Sprintf("Pods selected by this PodDisruptionBudget (selector: %v) were found "+
			"to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
			"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", in.Budget.Spec.Selector)))
	}
	changed := in.Budget.DeepCopy()
	status.Conditions = changed.Status.Conditions
	changed.Status = status
	condition := metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason}
	if allowed > 0 {
		condition = metav1.Condition{Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason}
	}
	in.setCondition(changed, condition)
	p.Merge(in.write(changed))
	return p
}

// upToDate follows updatePdbStatus.
func upToDate(budget *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) bool {
	current := budget.Status
	current.Conditions = nil
	return apiequality.Semantic.DeepEqual(current, status) && pdbhelper.ConditionsAreUpToDate(budget)
}

func (in Input) setCondition(budget *policyv1.PodDisruptionBudget, c metav1.Condition) {
	c.Type, c.ObservedGeneration = policyv1.DisruptionAllowedCondition, budget.Status.ObservedGeneration
	c.LastTransitionTime = metav1.NewTime(in.Now.UTC().Truncate(time.Second))
	apimeta.SetStatusCondition(&budget.Status.Conditions, c)
}

// failed forbids every disruption when it cannot be told which are safe.
func (in Input) failed(err error) plan.Plan {
	changed := in.Budget.DeepCopy()
	changed.Status.DisruptionsAllowed = 0
	in.setCondition(changed, metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: err.Error()})
	if apiequality.Semantic.DeepEqual(changed.Status, in.Budget.Status) {
		return plan.Plan{}
	}
	p := in.write(changed)
	p.Notices = append(p.Notices, in.notice(corev1.EventTypeWarning, "CalculateExpectedPodCountFailed",
		fmt.Sprintf("Failed to calculate the number of expected pods: %v", err)))
	return p
}

// write is the plan that stores a status. The pods lie in another log: one that changes meanwhile
// asks for the next decision.
func (in Input) write(changed *policyv1.PodDisruptionBudget) plan.Plan {
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.UpdateStatus, Resource: plan.DisruptionBudgets, Namespace: changed.Namespace, Name: changed.Name, Object: changed,
			UID: changed.UID, ResourceVersion: changed.ResourceVersion, Reason: "what the budget covers has changed",
		}},
		Reads: []plan.Read{{Resource: plan.DisruptionBudgets, Namespace: changed.Namespace, Name: changed.Name}},
	}
}

func (in Input) ref() plan.Ref {
	return plan.Ref{Resource: plan.DisruptionBudgets, Namespace: in.Budget.Namespace, Name: in.Budget.Name, UID: in.Budget.UID}
}

func (in Input) notice(kind, reason, message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: "PodDisruptionBudget", APIVersion: "policy/v1", Namespace: in.Budget.Namespace, Name: in.Budget.Name, UID: in.Budget.UID,
		},
		Type: kind, Reason: reason, Message: message, Component: component,
	}
}
