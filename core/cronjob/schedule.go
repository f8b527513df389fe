package cronjob

import (
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/kubernetes/pkg/util/parsers"
)

const (
	// nextScheduleDelta is added to the time of the next run, against skew of clocks (cronjob_controllerv2.go
	// nextScheduleDelta).
	nextScheduleDelta = 100 * time.Millisecond
	// manyMissed is above how many missed times a warning is given (utils.go mostRecentScheduleTime).
	manyMissed = 100
)

// schedule says when the next run after a time is, zero if there is none.
type schedule interface {
	Next(after time.Time) time.Time
}

// parse reads the CronJob's schedule in its time zone: cronjob_controllerv2.go formatSchedule.
func parse(cj *batchv1.CronJob) (schedule, error) {
	text := cj.Spec.Schedule
	if !hasZone(cj) && cj.Spec.TimeZone != nil {
		if _, err := time.LoadLocation(*cj.Spec.TimeZone); err == nil {
			text = fmt.Sprintf("TZ=%s %s", *cj.Spec.TimeZone, text)
		}
	}
	return parsers.ParseCronScheduleWithPanicRecovery(text)
}

// hasZone reports whether the schedule itself names a time zone, which is not officially supported.
func hasZone(cj *batchv1.CronJob) bool { return strings.Contains(cj.Spec.Schedule, "TZ") }

// missed says which times of a schedule have passed.
type missed struct {
	// since is the last scheduled time or the creation, or, if that is later, the last for which a start is not too late.
	since time.Time
	// last is the latest time that passed, zero for none.
	last time.Time
	// count is about how many passed.
	count int64
}

var errNoSchedule = errors.New("time difference between two schedules is less than 1 second")

// missedTimes is utils.go mostRecentScheduleTime. It fails where a schedule can be read and has no times, such as the 31st
// of a short month.
func missedTimes(cj *batchv1.CronJob, now time.Time, s schedule, heedDeadline bool) (missed, error) {
	m := missed{since: cj.CreationTimestamp.Time}
	if cj.Status.LastScheduleTime != nil {
		m.since = cj.Status.LastScheduleTime.Time
	}
	if seconds := cj.Spec.StartingDeadlineSeconds; heedDeadline && seconds != nil {
		if deadline := now.Add(-time.Second * time.Duration(*seconds)); deadline.After(m.since) {
			m.since = deadline
		}
	}
	first := s.Next(m.since)
	second := s.Next(first)
	switch {
	case now.Before(first):
		return m, nil
	case now.Before(second):
		m.last = first
		return m, nil
	}
	between := int64(second.Sub(first).Round(time.Second).Seconds())
	if between < 1 {
		return m, errNoSchedule
	}
	// Times are not walked through one by one, since there may be many: they are about as far apart as the first two. One
	// is taken back, for schedules whose times are not evenly apart.
	m.count = int64(now.Sub(first).Seconds())/between + 1
	earliest := first.Add(time.Duration((m.count-2)*between) * time.Second)
	for t := s.Next(earliest); !t.After(now); t = s.Next(t) {
		m.last = t
	}
	return m, nil
}

// nextRun is when to look again: utils.go nextScheduleTimeDuration.
func nextRun(cj *batchv1.CronJob, now time.Time, s schedule) time.Time {
	m, err := missedTimes(cj, now, s, false)
	from := m.last
	switch {
	case err != nil || m.last.IsZero() && m.count > 0:
		from = now
	case m.last.IsZero():
		from = m.since
	}
	return s.Next(from).Add(nextScheduleDelta)
}
