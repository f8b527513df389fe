package job

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/zeroplane/zeroplane/core/ownership"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

var jobKind = batchv1.SchemeGroupVersion.WithKind("Job")

// component is where upstream's events come from.
const component = "job-controller"

// Snapshot is everything that a decision about a Job is made on. Its objects are read and never altered.
type Snapshot struct {
	Job *batchv1.Job
	// Pods are those of the namespace that the Job controls, and those that its selector matches and nobody controls. They
	// are not older than the Job.
	Pods []*corev1.Pod
	// Refused says that the API refused what a plan from this snapshot does with pods: this one makes, deletes and
	// claims none.
	Refused bool
	Now     time.Time
}

// decision is a decision in the making.
type decision struct {
	snapshot Snapshot
	job      *batchv1.Job
	now      metav1.Time
	// status is that which the plan leaves.
	status *batchv1.JobStatus
	// pods are those that the Job has, by name or by index; active those of them that have not ended and are not deleted.
	pods, active []*corev1.Pod
	// activeCount, ready and terminating are as the plan leaves them.
	activeCount, ready, terminating int32
	// accountedSucceeded and accountedFailed are the pods that the stored status has and has not counted.
	accountedSucceeded, accountedFailed sets.Set[types.UID]
	// succeeded and failed count all that ended, also those that the status has not counted.
	succeeded, failed int32
	// completedBefore are the indexes that the stored status has, completed those with the ones since.
	completedBefore, completed, failedIndexes intervals
	// delayed are the pods that stay for their index's next one.
	delayed map[int]*corev1.Pod
	// finish is the condition that ends the Job, nil if it goes on; begins is set unless it is in the stored status.
	finish *batchv1.JobCondition
	begins bool
	// released are the pods that the plan deletes without their being counted.
	released sets.Set[types.UID]
	// statusNotice is given once the status is written.
	statusNotice *plan.Notice
	notices      podcontrol.Notices
	plan         plan.Plan
}

// Job decides one step of a Job: job_controller.go syncJob. An empty plan means that there is nothing to do.
func Job(s Snapshot) plan.Plan {
	d, selector, ok := newDecision(s)
	if !ok {
		return plan.Plan{}
	}
	if d.claim(selector); len(d.plan.Writes) > 0 {
		return d.plan
	}
	d.countPods()

	// 1. Is it over, by what is stored, by a policy, a limit or a deadline?
	d.finish = d.finishedBefore()
	d.begins = d.finish == nil
	if d.finish == nil {
		d.finish = d.failsNow()
	}
	if isIndexed(d.job) {
		d.countIndexes()
	}
	if d.finish == nil {
		d.finish = d.endsByIndexes()
	}

	// 2. Pods go, or come and go.
	if d.finish != nil {
		d.deleteActive()
	} else {
		d.manage()
	}

	// 3. What ended is counted, and the status written.
	d.track()
	d.writeStatus()
	return d.plan
}

// newDecision is not ok for a Job that needs nothing, or that someone else manages.
func newDecision(s Snapshot) (*decision, labels.Selector, bool) {
	job := s.Job
	if managedBySomeoneElse(job) || finishedCondition(job) != nil {
		return nil, nil, false
	}
	if mode := job.Spec.CompletionMode; mode != nil && *mode != batchv1.NonIndexedCompletion && *mode != batchv1.IndexedCompletion {
		return nil, nil, false
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil {
		return nil, nil, false
	}
	d := &decision{
		snapshot: s, job: job, now: metav1.NewTime(s.Now).Rfc3339Copy(), status: job.Status.DeepCopy(), released: sets.New[types.UID](),
		notices: podcontrol.NoticesOf(job, jobKind, component),
	}
	if d.status.UncountedTerminatedPods == nil {
		d.status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	uncounted := d.status.UncountedTerminatedPods
	d.accountedSucceeded, d.accountedFailed = sets.New(uncounted.Succeeded...), sets.New(uncounted.Failed...)
	d.plan.Reads = []plan.Read{
		{Resource: plan.Jobs, Namespace: job.Namespace, Name: job.Name},
		{Resource: plan.Pods, Namespace: job.Namespace, Owner: job.UID, Arrivals: true},
		{Resource: plan.Pods, Namespace: job.Namespace, Selector: selector, Arrivals: true},
	}
	return d, selector, true
}

// lookAgain has the Job be looked at once more before the plan's pods are written.
func (d *decision) lookAgain() { d.plan.Reads[0].Again = true }

// heedEnds makes the plan stale when a pod ends, too.
func (d *decision) heedEnds() {
	for i := range d.plan.Reads {
		d.plan.Reads[i].Arrivals = false
	}
}

// managedBySomeoneElse is job_controller.go managedByExternalController.
func managedBySomeoneElse(job *batchv1.Job) bool {
	return job.Spec.ManagedBy != nil && *job.Spec.ManagedBy != batchv1.JobControllerName
}

// claim finds the pods of the Job, and those that have to be adopted or released: job_controller.go getPodsForJob.
func (d *decision) claim(selector labels.Selector) {
	controller := ownership.Controller{Object: d.job, Kind: jobKind, Finalizers: []string{batchv1.JobTrackingFinalizer}}
	pods := slices.Clone(d.snapshot.Pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	claimed := ownership.Claim(controller, plan.Pods, pods, func(pod *corev1.Pod) bool { return selector.Matches(labels.Set(pod.Labels)) })
	d.plan.Writes = append(d.plan.Writes, claimed.Writes...)
	// Those that are adopted come with the change that the adoption makes.
	d.pods = slices.DeleteFunc(claimed.Objects, func(pod *corev1.Pod) bool { return claimed.Adopted[pod.UID] })
	if d.snapshot.Refused {
		d.plan.Writes = nil
	}
	if len(d.plan.Writes) > 0 {
		d.lookAgain()
	}
}

// countPods counts what the pods are, and starts the Job.
func (d *decision) countPods() {
	for _, pod := range d.pods {
		switch {
		case podstate.IsActive(pod):
			d.active = append(d.active, pod)
		case podstate.IsTerminating(pod):
			d.terminating++
		}
	}
	d.activeCount, d.ready = int32(len(d.active)), countReady(d.active)     //nolint:gosec // numbers of pods
	d.succeeded = d.job.Status.Succeeded + int32(len(d.accountedSucceeded)) //nolint:gosec // a number of pods
	d.failed = d.job.Status.Failed + int32(len(d.accountedFailed))          //nolint:gosec // a number of pods
	for _, pod := range d.pods {
		if !hasFinalizer(pod) || isIndexed(d.job) && !hasValidIndex(d.job, pod) {
			continue
		}
		if d.hasSucceeded(pod) && !d.accountedSucceeded.Has(pod.UID) {
			d.succeeded++
		}
		if isFailed(d.job, pod) && !d.accountedFailed.Has(pod.UID) && matchFailurePolicy(d.job.Spec.PodFailurePolicy, pod).counts {
			d.failed++
		}
	}
	if d.status.StartTime == nil && !isSuspended(d.job) {
		d.status.StartTime = &d.now
	}
}

// hasSucceeded reports whether a pod has ended well, and was not taken for failed before, when it was deleted. (Upstream's
// counts forget that: there, too little time passes between the status and the finalizers.)
func (d *decision) hasSucceeded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded && !d.accountedFailed.Has(pod.UID)
}

func (d *decision) terminatingPods() []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range d.pods {
		if podstate.IsTerminating(pod) {
			out = append(out, pod)
		}
	}
	return out
}

// isSuspended is job_controller.go jobSuspended.
func isSuspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }
