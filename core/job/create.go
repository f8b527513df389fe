package job

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/podcontrol"
)

const (
	indexVariable = "JOB_COMPLETION_INDEX"
	// maxPrefix is the longest generateName to which a server adds without cutting it (k8s.io/apiserver/pkg/storage/names
	// MaxGeneratedNameLength).
	maxPrefix = 58
)

// create makes pods, unless some failed shortly before: the last part of job_controller.go manageJob. (Upstream makes them
// in batches of growing size. How a plan is committed is up to whoever commits it.)
func (d *decision) create(missing int) {
	if !hasBackoffLimitPerIndex(d.job) {
		if over := d.backoffOver(); over.After(d.snapshot.Now) {
			d.later(LaterBackoff, over)
			return
		}
	}
	missing = min(missing, maxPodsPerPlan)
	if !isIndexed(d.job) {
		for range missing {
			d.createPod(d.newPod())
		}
		return
	}
	for _, ix := range d.indexesToCreate(missing) {
		d.createPod(d.newPodOf(ix))
	}
}

// indexesToCreate are those whose back-off is over; when there is none, the plan waits for the first:
// job_controller.go getPodCreationInfoForIndependentIndexes.
func (d *decision) indexesToCreate(count int) []int {
	indexes := d.pendingIndexes(count)
	if !hasBackoffLimitPerIndex(d.job) {
		return indexes
	}
	var now []int
	var next time.Time
	for _, ix := range indexes {
		over := indexBackoffOver(d.delayed[ix])
		switch {
		case !over.After(d.snapshot.Now):
			now = append(now, ix)
		case next.IsZero() || over.Before(next):
			next = over
		}
	}
	if len(now) == 0 && !next.IsZero() {
		d.later(LaterBackoff, next)
	}
	return now
}

// createPod is controller_utils.go createPods, with its events.
func (d *decision) createPod(pod *corev1.Pod) {
	d.activeCount++
	d.lookAgain()
	if d.terminating > 0 && !onlyReplacesFailed(d.job) {
		d.heedEnds() // one that is deleted, and replaced for it, may end well
	}
	d.plan.Writes = append(d.plan.Writes, d.notices.Create(pod, "too few pods"))
}

func (d *decision) newPod() *corev1.Pod {
	pod := podcontrol.New(&d.job.Spec.Template, d.job, jobKind)
	if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	return pod
}

// newPodOf makes the pod of an index, which learns it by annotation, label, hostname and environment.
func (d *decision) newPodOf(ix int) *corev1.Pod {
	pod := d.newPod()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	text := strconv.Itoa(ix)
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = text
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = text
	pod.Spec.Hostname = d.job.Name + "-" + text
	pod.GenerateName = prefixWithIndex(d.job.Name, text)
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			addIndexVariable(&list[i])
		}
	}
	if hasBackoffLimitPerIndex(d.job) {
		failures, ignored := nextIndexFailures(d.job, d.delayed[ix])
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(failures))
		if ignored > 0 {
			pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(ignored))
		}
	}
	return pod
}

// addIndexVariable is indexed_job_utils.go addCompletionIndexEnvVariable.
func addIndexVariable(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)},
	}})
}

// prefixWithIndex is indexed_job_utils.go podGenerateNameWithIndex.
func prefixWithIndex(job, index string) string {
	end := "-" + index + "-"
	if len(job)+len(end) > maxPrefix {
		job = job[:maxPrefix-len(end)]
	}
	return job + end
}
