package cronjob

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a namespace in memory: one CronJob and Jobs, and enough of the API server's rules to run plans.
type world struct {
	now     time.Time
	version int
	cron    *batchv1.CronJob
	jobs    map[string]*batchv1.Job
	later   time.Time
	events  []string
	writes  int
	// made counts how often each Job was made.
	made map[string]int
}

func newCronJob(schedule string, change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	three, one := int32(3), int32(1)
	no := false
	cj := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{
			Name: "tick", Namespace: "default", UID: "uid-tick", ResourceVersion: "1", CreationTimestamp: metav1.NewTime(epoch),
		},
		Spec: batchv1.CronJobSpec{
			Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, Suspend: &no,
			SuccessfulJobsHistoryLimit: &three, FailedJobsHistoryLimit: &one,
			JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "tick"}},
				Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
					Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
				}},
			},
		},
	}
	for _, f := range change {
		f(cj)
	}
	return cj
}

func newWorld(cj *batchv1.CronJob) *world {
	return &world{now: epoch, version: 10, cron: cj, jobs: map[string]*batchv1.Job{}, made: map[string]int{}}
}

func encoded(object any) []byte {
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return body
}

// stored is an object after a trip through the API, as a reader would see it.
func stored[T any](object *T) *T {
	read := new(T)
	if err := json.Unmarshal(encoded(object), read); err != nil {
		panic(err)
	}
	return read
}

func (w *world) stamp(meta *metav1.ObjectMeta) {
	w.version++
	meta.ResourceVersion = strconv.Itoa(w.version)
}

func (w *world) sortedJobs() []*batchv1.Job {
	var all []*batchv1.Job
	for _, name := range slices.Sorted(maps.Keys(w.jobs)) {
		all = append(all, w.jobs[name])
	}
	return all
}

func (w *world) snapshot() Snapshot {
	s := Snapshot{CronJob: w.cron, Named: maps.Clone(w.jobs), Now: w.now}
	for _, j := range w.sortedJobs() {
		if metav1.IsControlledBy(j, w.cron) {
			s.Jobs = append(s.Jobs, j)
		}
	}
	return s
}

// step decides and commits once: all or, since everything lies in one log, nothing.
func (w *world) step() (plan.Plan, error) {
	s := w.snapshot()
	before := encoded(s)
	p := CronJob(s)
	if !bytes.Equal(before, encoded(s)) {
		return p, fmt.Errorf("the decision altered its snapshot")
	}
	return p, w.apply(p)
}

func (w *world) apply(p plan.Plan) error {
	for _, write := range p.Writes {
		if err := w.write(write); err != nil {
			return fmt.Errorf("%s %s/%s: %w", write.Verb, write.Resource.Resource, write.Name, err)
		}
		w.writes++
		w.notice(write.OnSuccess)
	}
	for _, n := range p.Notices {
		w.notice(&n)
	}
	for _, l := range p.Later {
		w.later = l.At
	}
	return nil
}

func (w *world) notice(n *plan.Notice) {
	if n != nil {
		w.events = append(w.events, fmt.Sprintf("%s %s: %s", n.Type, n.Reason, n.Message))
	}
}

func (w *world) write(write plan.Write) error {
	switch {
	case write.Verb == plan.Create && write.Resource == plan.Jobs:
		return w.createJob(write.Object.(*batchv1.Job).DeepCopy())
	case write.Verb == plan.Delete && write.Resource == plan.Jobs:
		if w.jobs[write.Name] == nil || w.jobs[write.Name].UID != write.UID {
			return fmt.Errorf("there is none")
		}
		delete(w.jobs, write.Name)
		w.version++
		return nil
	case write.Verb == plan.UpdateStatus && write.Resource == plan.CronJobs:
		return w.updateStatus(write.Object.(*batchv1.CronJob).DeepCopy())
	}
	return fmt.Errorf("the world does not know this write")
}

func (w *world) createJob(j *batchv1.Job) error {
	if w.jobs[j.Name] != nil {
		return fmt.Errorf("already exists")
	}
	w.stamp(&j.ObjectMeta)
	w.made[j.Name]++
	j.UID, j.CreationTimestamp = types.UID("uid-"+j.Name), metav1.NewTime(w.now)
	w.jobs[j.Name] = stored(j)
	return nil
}

func (w *world) updateStatus(cj *batchv1.CronJob) error {
	if cj.ResourceVersion != w.cron.ResourceVersion {
		return fmt.Errorf("conflict")
	}
	cj.Spec = w.cron.Spec
	if bytes.Equal(encoded(cj), encoded(w.cron)) {
		return fmt.Errorf("nothing changed")
	}
	w.stamp(&cj.ObjectMeta)
	w.cron = stored(cj)
	return nil
}

// end ends a Job.
func (w *world) end(name string, how batchv1.JobConditionType) {
	j := w.jobs[name].DeepCopy()
	at := metav1.NewTime(w.now)
	j.Status.StartTime = &j.CreationTimestamp
	j.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue, LastTransitionTime: at}}
	if how == batchv1.JobComplete {
		j.Status.CompletionTime = &at
	}
	w.stamp(&j.ObjectMeta)
	w.jobs[name] = stored(j)
}

// rest describes a world at rest without what depends on how many writes led there.
func rest(w *world) []string {
	cron := w.cron.DeepCopy()
	for i := range cron.Status.Active {
		cron.Status.Active[i].ResourceVersion = ""
	}
	out := []string{"status " + string(encoded(cron.Status))}
	for _, j := range w.sortedJobs() {
		j = j.DeepCopy()
		j.ResourceVersion, j.CreationTimestamp, j.Status.StartTime = "", metav1.Time{}, nil
		out = append(out, "job "+string(encoded(j)))
	}
	events := slices.Clone(w.events)
	slices.Sort(events)
	return append(slices.Compact(events), "next "+w.later.UTC().String())
}

func names(w *world) string { return strings.Join(slices.Sorted(maps.Keys(w.jobs)), " ") }
