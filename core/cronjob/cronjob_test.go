package cronjob

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

// settleSteps bounds how many plans a CronJob may need at one moment.
const settleSteps = 10

func (w *world) settle(t interface{ Fatal(...any) }) {
	for range settleSteps {
		p, err := w.step()
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Writes) == 0 {
			return
		}
	}
	t.Fatal("does not come to rest")
}

func at(text string) time.Time {
	out, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return out
}

func TestRuns(t *testing.T) {
	deadline := func(seconds int64) func(*batchv1.CronJob) {
		return func(cj *batchv1.CronJob) { cj.Spec.StartingDeadlineSeconds = &seconds }
	}
	zone := func(name string) func(*batchv1.CronJob) {
		return func(cj *batchv1.CronJob) { cj.Spec.TimeZone = &name }
	}
	policy := func(p batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
		return func(cj *batchv1.CronJob) { cj.Spec.ConcurrencyPolicy = p }
	}
	suspended := func(cj *batchv1.CronJob) { yes := true; cj.Spec.Suspend = &yes }
	for name, c := range map[string]struct {
		cron   *batchv1.CronJob
		until  time.Time
		want   string
		next   string
		events []string
	}{
		"before its time, it waits": {newCronJob("*/5 * * * *"), epoch, "", "2026-01-02T03:05:00.1Z", nil},
		"at its time, it runs, named by the minute": {
			newCronJob("*/5 * * * *"), at("2026-01-02T03:05:00Z"), "tick-29455385", "2026-01-02T03:10:00.1Z", []string{"Normal SuccessfulCreate: Created job tick-29455385"}},
		"of the times that it slept through, the last one runs": {
			newCronJob("*/5 * * * *"), at("2026-01-02T05:32:10Z"), "tick-29455530", "2026-01-02T05:35:00.1Z", []string{"Normal SuccessfulCreate: Created job tick-29455530"}},
		"more than 100 missed times are told of": {
			newCronJob("* * * * *"), at("2026-01-02T05:32:10Z"), "tick-29455532", "2026-01-02T05:33:00.1Z", []string{
				"Normal SuccessfulCreate: Created job tick-29455532",
				"Warning TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"}},
		"a start after the deadline is none": {
			newCronJob("*/5 * * * *", deadline(20)), at("2026-01-02T03:05:30Z"), "", "2026-01-02T03:10:00.1Z", nil},
		"a start within the deadline is one": {
			newCronJob("*/5 * * * *", deadline(60)), at("2026-01-02T03:05:30Z"), "tick-29455385", "2026-01-02T03:10:00.1Z", []string{"Normal SuccessfulCreate: Created job tick-29455385"}},
		"times are those of the zone":       {newCronJob("0 6 * * *", zone("Europe/Berlin")), epoch, "", "2026-01-02T05:00:00.1Z", nil},
		"a zone in the schedule is told of": {newCronJob("TZ=Europe/Berlin 0 6 * * *"), epoch, "", "2026-01-02T05:00:00.1Z", []string{"Warning UnsupportedSchedule: CRON_TZ or TZ used in schedule \"TZ=Europe/Berlin 0 6 * * *\" is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"}},
		"an unknown zone is told of": {
			newCronJob("0 6 * * *", zone("Nowhere")), epoch, "", "", []string{`Warning UnknownTimeZone: invalid timeZone: "Nowhere": unknown time zone Nowhere`}},
		"a suspended one waits for nothing": {newCronJob("* * * * *", suspended), at("2026-01-02T03:06:00Z"), "", "", nil},
		"a schedule without times is told of": {
			newCronJob("59 23 31 2 *"), epoch, "", "", []string{"Warning InvalidSchedule: invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second"}},
		"an unreadable schedule is told of": {
			newCronJob("nonsense"), epoch, "", "", []string{`Warning UnparseableSchedule: unparseable schedule: "nonsense" : expected exactly 5 fields, found 1: [nonsense]`}},
		"any number may run at once": {newCronJob("* * * * *"), at("2026-01-02T03:05:00Z"), "tick-29455385", "2026-01-02T03:06:00.1Z", []string{"Normal SuccessfulCreate: Created job tick-29455385"}},
		"a policy does not keep the first from running": {
			newCronJob("* * * * *", policy(batchv1.ForbidConcurrent)), at("2026-01-02T03:05:00Z"), "tick-29455385", "2026-01-02T03:06:00.1Z", []string{"Normal SuccessfulCreate: Created job tick-29455385"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(c.cron)
			w.now = c.until
			if _, err := w.step(); err != nil {
				t.Fatal(err)
			}
			next := ""
			if !w.later.IsZero() {
				next = w.later.UTC().Format(time.RFC3339Nano)
			}
			if names(w) != c.want || next != c.next {
				t.Errorf("Jobs %q, next %s, want %q, %s", names(w), next, c.want, c.next)
			}
			if diff := cmp.Diff(c.events, w.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARunThatGoesOn(t *testing.T) {
	for policy, want := range map[batchv1.ConcurrencyPolicy]struct{ jobs, event string }{
		batchv1.AllowConcurrent:   {"tick-29455385 tick-29455386", "Normal SuccessfulCreate: Created job tick-29455386"},
		batchv1.ForbidConcurrent:  {"tick-29455385", "Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid"},
		batchv1.ReplaceConcurrent: {"tick-29455386", "Normal SuccessfulDelete: Deleted job tick-29455385"},
	} {
		w := newWorld(newCronJob("* * * * *", func(cj *batchv1.CronJob) { cj.Spec.ConcurrencyPolicy = policy }))
		for range 2 {
			w.now = w.later
			if w.now.IsZero() {
				w.now = epoch.Add(time.Minute)
			}
			w.settle(t)
		}
		if names(w) != want.jobs || !strings.Contains(strings.Join(w.events, "\n"), want.event) {
			t.Errorf("%s: Jobs %q, events %q", policy, names(w), w.events)
		}
		var active []string
		for _, ref := range w.cron.Status.Active {
			active = append(active, ref.Name)
		}
		if strings.Join(active, " ") != want.jobs {
			t.Errorf("%s: active %q, want %q", policy, active, want.jobs)
		}
	}
}

// TestTheJobAndItsTimeAreOnePlan, so that they are one transaction and no crash lets a time run twice.
func TestTheJobAndItsTimeAreOnePlan(t *testing.T) {
	w := newWorld(newCronJob("* * * * *"))
	w.now = epoch.Add(time.Minute)
	p, err := w.step()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Writes) != 2 || p.Writes[0].Verb != plan.Create || p.Writes[1].Verb != plan.UpdateStatus || w.cron.Status.LastScheduleTime == nil {
		t.Fatalf("the plan is %+v", p.Writes)
	}
	delete(w.jobs, p.Writes[0].Name) // it ended at once, and its TTL was 0
	w.settle(t)
	if len(w.jobs) > 0 {
		t.Errorf("the time ran again: %s", names(w))
	}
}

func TestASettledCronJobAsksForNoWrite(t *testing.T) {
	w := newWorld(newCronJob("* * * * *"))
	w.now = epoch.Add(time.Minute)
	w.settle(t)
	later := w.later
	p, err := w.step()
	if err != nil || len(p.Writes) > 0 || !w.later.Equal(later) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAnotherScheduleWaitsForItsNextTime(t *testing.T) {
	w := newWorld(newCronJob("0 0 1 1 *"))
	w.now = epoch.Add(time.Hour)
	w.cron.Spec.Schedule = "*/10 * * * *" // of which six times have passed
	p := Rescheduled(w.cron, w.now)
	if len(p.Writes) > 0 || len(p.Later) != 1 || !p.Later[0].At.Equal(at("2026-01-02T04:10:00.1Z")) {
		t.Errorf("%+v", p)
	}
}

// TestNoTimeRunsTwice: whatever happens, each time runs once at most, Forbid and Replace have one Job running, limits are kept, and then
// nothing is left to do.
func TestNoTimeRunsTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cj := newCronJob(rapid.SampledFrom([]string{"* * * * *", "*/3 * * * *", "7 * * * *"}).Draw(t, "schedule"))
		cj.Spec.ConcurrencyPolicy = rapid.SampledFrom([]batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}).Draw(t, "policy")
		w := newWorld(cj)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.act(t)
			if _, err := w.step(); err != nil {
				t.Fatal(err)
			}
			running := 0
			for _, j := range w.jobs {
				if len(j.Status.Conditions) == 0 && metav1.IsControlledBy(j, w.cron) {
					running++
				}
			}
			if cj.Spec.ConcurrencyPolicy != batchv1.AllowConcurrent && running > 1 {
				t.Fatalf("%d Jobs run: %s", running, names(w))
			}
		}
		w.settle(t)
		for name, times := range w.made {
			if times > 1 {
				t.Fatalf("%s was made %d times", name, times)
			}
		}
		over := map[batchv1.JobConditionType]int{}
		for _, j := range w.jobs {
			for _, c := range j.Status.Conditions {
				over[c.Type]++
			}
		}
		if over[batchv1.JobComplete] > 3 || over[batchv1.JobFailed] > 1 {
			t.Fatalf("the history has %v", over)
		}
	})
}

// act has something happen.
func (w *world) act(t *rapid.T) string {
	what := rapid.IntRange(0, 5).Draw(t, "what")
	names := strings.Fields(names(w))
	switch {
	case what == 0 && len(names) > 0:
		name := rapid.SampledFrom(names).Draw(t, "job")
		delete(w.jobs, name)
		return "deletion of " + name
	case what <= 2 && len(names) > 0:
		name := rapid.SampledFrom(names).Draw(t, "job")
		if len(w.jobs[name].Status.Conditions) > 0 {
			return "nothing"
		}
		how := rapid.SampledFrom([]batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed}).Draw(t, "end")
		w.end(name, how)
		return fmt.Sprintf("%s is %s", name, how)
	default:
		pause := time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second
		w.now = w.now.Add(pause)
		return pause.String()
	}
}
