package job

import (
	"cmp"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// unknownIndex is that of a pod without a valid completion index.
const unknownIndex = -1

func isIndexed(job *batchv1.Job) bool {
	return job.Spec.CompletionMode != nil && *job.Spec.CompletionMode == batchv1.IndexedCompletion
}

func hasBackoffLimitPerIndex(job *batchv1.Job) bool { return job.Spec.BackoffLimitPerIndex != nil }

// indexOf is indexed_job_utils.go getCompletionIndex.
func indexOf(pod *corev1.Pod) int {
	ix, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || ix < 0 {
		return unknownIndex
	}
	return ix
}

// hasValidIndex reports whether the pod is of one of the Job's indexes.
func hasValidIndex(job *batchv1.Job, pod *corev1.Pod) bool {
	ix := indexOf(pod)
	return ix != unknownIndex && ix < int(*job.Spec.Completions)
}

func compareIndex(a, b *corev1.Pod) int { return cmp.Compare(indexOf(a), indexOf(b)) }

// indexesOf is indexed_job_utils.go getIndexes.
func indexesOf(pods []*corev1.Pod) sets.Set[int] {
	out := sets.New[int]()
	for _, pod := range pods {
		if ix := indexOf(pod); ix != unknownIndex {
			out.Insert(ix)
		}
	}
	return out
}

// succeededIndexes are those that the status has, and those with the ones of pods that are not counted yet:
// indexed_job_utils.go calculateSucceededIndexes. An index that failed stays failed, though a pod of it that was deleted and
// replaced ends well after all. (Upstream would make it both, which the API refuses.)
func (d *decision) succeededIndexes() (before, now intervals) {
	before = parseIndexes(d.job.Status.CompletedIndexes, int(*d.job.Spec.Completions))
	added := sets.New[int]()
	for _, pod := range d.pods {
		if d.hasSucceeded(pod) && hasValidIndex(d.job, pod) && hasFinalizer(pod) && !d.failedIndexes.has(indexOf(pod)) {
			added.Insert(indexOf(pod))
		}
	}
	return before, before.with(sets.List(added))
}

// indexesFailed are those that the status has and those that failed since: indexed_job_utils.go calculateFailedIndexes. Pods that
// the status accounts for were looked at when it did. (Upstream's have no finalizer any more by then.)
func (d *decision) indexesFailed() intervals {
	added := sets.New[int]()
	for _, pod := range d.pods {
		if hasValidIndex(d.job, pod) && hasFinalizer(pod) && !d.accountedFailed.Has(pod.UID) && !d.completed.has(indexOf(pod)) && failsIndex(d.job, pod) {
			added.Insert(indexOf(pod))
		}
	}
	return d.failedIndexes.with(sets.List(added))
}

// failsIndex reports whether a pod is the last failure of its index: indexed_job_utils.go isIndexFailed.
func failsIndex(job *batchv1.Job, pod *corev1.Pod) bool {
	counts := false
	if isFailed(job, pod) {
		match := matchFailurePolicy(job.Spec.PodFailurePolicy, pod)
		if match.action == batchv1.PodFailurePolicyActionFailIndex {
			return true
		}
		counts = match.counts
	}
	return counts && indexFailures(pod) >= *job.Spec.BackoffLimitPerIndex
}

// indexFailures is how often the index of a pod failed before: indexed_job_utils.go getIndexFailureCount.
func indexFailures(pod *corev1.Pod) int32 {
	return count(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
}

// indexIgnored is how often it failed without counting.
func indexIgnored(pod *corev1.Pod) int32 {
	return count(pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation])
}

// allIndexFailures is indexed_job_utils.go getIndexAbsoluteFailureCount.
func allIndexFailures(pod *corev1.Pod) int32 { return indexFailures(pod) + indexIgnored(pod) }

// count reads an annotation; what is no count is none: indexed_job_utils.go parseInt32.
func count(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

// pendingIndexes are the first of the indexes that have no pod and are neither completed nor failed:
// indexed_job_utils.go firstPendingIndexes.
func (d *decision) pendingIndexes(count int) []int {
	taken := d.completed.with(sets.List(indexesOf(d.active)))
	if onlyReplacesFailed(d.job) {
		taken = taken.with(sets.List(indexesOf(d.terminatingPods())))
	}
	taken = taken.merge(d.failedIndexes)
	completions := int(*d.job.Spec.Completions)
	var out []int
	candidate := 0
	upTo := func(end int) {
		for ; candidate < min(end, completions) && len(out) < count; candidate++ {
			out = append(out, candidate)
		}
	}
	for _, i := range taken {
		upTo(i.first)
		candidate = max(candidate, i.last+1)
	}
	upTo(completions)
	return out
}

// duplicates sorts active pods into those that must go, since their index is unknown, out of range or that of another
// pod, and the rest: indexed_job_utils.go appendDuplicatedIndexPodsForRemoval.
func duplicates(pods []*corev1.Pod, completions int) (surplus, rest []*corev1.Pod) {
	byIndex := slices.Clone(pods)
	slices.SortStableFunc(byIndex, compareIndex)
	for len(byIndex) > 0 {
		ix := indexOf(byIndex[0])
		n := 1
		for n < len(byIndex) && indexOf(byIndex[n]) == ix {
			n++
		}
		same := byIndex[:n:n]
		byIndex = byIndex[n:]
		if ix == unknownIndex || ix >= completions {
			surplus = append(surplus, same...)
			continue
		}
		slices.SortStableFunc(same, podcontrol.CompareActive)
		surplus, rest = append(surplus, same[:n-1]...), append(rest, same[n-1])
	}
	return surplus, rest
}

// delayed are, by index, the failed pods that stay until another pod of their index is there, which takes over the
// count of failures from them: indexed_job_utils.go getPodsWithDelayedDeletionPerIndex.
func (d *decision) delayedPods() map[int]*corev1.Pod {
	active := indexesOf(d.active)
	out := map[int]*corev1.Pod{}
	for _, pod := range d.pods {
		ix := indexOf(pod)
		if !hasFinalizer(pod) || !hasValidIndex(d.job, pod) || !isFailed(d.job, pod) || d.completed.has(ix) || d.failedIndexes.has(ix) || active.Has(ix) {
			continue
		}
		last := out[ix]
		if last == nil || allIndexFailures(last) <= allIndexFailures(pod) && !finishedAt(pod).Before(finishedAt(last)) {
			out[ix] = pod
		}
	}
	return out
}

// nextIndexFailures are the counts that the pod gets which replaces another, nil for none:
// indexed_job_utils.go getNewIndexFailureCounts.
func nextIndexFailures(job *batchv1.Job, replaced *corev1.Pod) (failures, ignored int32) {
	if replaced == nil {
		return 0, 0
	}
	failures, ignored = indexFailures(replaced), indexIgnored(replaced)
	if matchFailurePolicy(job.Spec.PodFailurePolicy, replaced).counts {
		return failures + 1, ignored
	}
	return failures, ignored + 1
}
