package schedulerperf

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sampleInterval is how often the throughput is read (throughputSampleInterval in util.go).
const sampleInterval = time.Second

// Throughput is what one collector saw.
type Throughput struct {
	// Name is the namespace of the operation that was measured, or the name given to what was.
	Name string `json:"name"`
	// Pods got a node while it looked.
	Pods int `json:"pods"`
	// Samples are seconds in which pods were scheduled, after the first such one. Average and the percentiles are of the
	// pods per second in them, as upstream's SchedulingThroughput; 0 without a sample.
	Samples int     `json:"samples"`
	Average float64 `json:"average"`
	Perc50  float64 `json:"perc50"`
	Perc90  float64 `json:"perc90"`
	Perc95  float64 `json:"perc95"`
	Perc99  float64 `json:"perc99"`
	// Overall is pods per second from when it began to look, which is before the first is created, to the last that got a node.
	Overall float64 `json:"overall"`
	// Created is pods created per second by the operation that was measured, 0 if it was not one.
	Created float64 `json:"created"`
}

// PodsPerSecond is the average, or, where all was over before a sample was taken, the overall rate.
func (t Throughput) PodsPerSecond() float64 {
	if t.Samples == 0 {
		return t.Overall
	}
	return t.Average
}

// collector measures pods per second.
//
// Upstream: throughputCollector in util.go.
type collector struct {
	name    string
	started time.Time
	created float64
	stop    func() // stops it, and returns when it has

	mu      sync.Mutex
	pods    int
	last    time.Time
	samples sampler
}

// startCollecting begins to measure the pods of some namespaces that have some labels.
func (e *executor) startCollecting(ctx context.Context, name string, namespaces []string, selector map[string]string) error {
	if e.collector != nil {
		return errors.New("another collector has not been stopped")
	}
	c := &collector{name: name, started: time.Now()}
	unsubscribe := e.pods.onPlaced(func(pod *corev1.Pod) {
		if slices.Contains(namespaces, pod.Namespace) && matches(pod.Labels, selector) {
			c.mu.Lock()
			c.pods, c.last = c.pods+1, time.Now()
			c.mu.Unlock()
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	var sampling sync.WaitGroup
	sampling.Go(func() { c.sample(ctx) })
	c.stop = func() {
		cancel()
		sampling.Wait()
		unsubscribe()
	}
	e.collector = c
	return nil
}

func (c *collector) sample(ctx context.Context) {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.mu.Lock()
			c.samples.take(time.Now(), c.pods)
			c.mu.Unlock()
		}
	}
}

// sampler turns counts at moments into rates.
type sampler struct {
	begun   bool
	skipped int
	count   int
	at      time.Time
	rates   []float64
}

// take is given how many pods have a node at some moment. The first sample that sees one only begins, as it began at any point of
// its second; one in which none was added is put off, and counts later, as often as there were such.
func (s *sampler) take(now time.Time, count int) {
	switch {
	case count == 0:
	case !s.begun:
		s.begun, s.count, s.at = true, count, now
	case count == s.count:
		s.skipped++
	default:
		rate := float64(count-s.count) / now.Sub(s.at).Seconds()
		for range s.skipped + 1 {
			s.rates = append(s.rates, rate)
		}
		s.skipped, s.count, s.at = 0, count, now
	}
}

func (s *sampler) summary() (t Throughput) {
	t.Samples = len(s.rates)
	if t.Samples == 0 {
		return t
	}
	sorted := slices.Sorted(slices.Values(s.rates))
	for _, r := range sorted {
		t.Average += r / float64(len(sorted))
	}
	percentile := func(p int) float64 { return sorted[int(math.Ceil(float64(len(sorted)*p)/100))-1] }
	t.Perc50, t.Perc90, t.Perc95, t.Perc99 = percentile(50), percentile(90), percentile(95), percentile(99)
	return t
}

// createdIn says how many pods the measured operation created in what time.
func (c *collector) createdIn(n int, took time.Duration) {
	c.created = float64(n) / took.Seconds()
}

func (e *executor) stopCollecting() error {
	c := e.collector
	if c == nil {
		return errors.New("no collector was started")
	}
	c.stop()
	e.collector = nil
	t := c.samples.summary()
	t.Name, t.Pods, t.Created = c.name, c.pods, c.created
	if c.pods > 0 {
		t.Overall = float64(c.pods) / c.last.Sub(c.started).Seconds()
	}
	e.results = append(e.results, t)
	return nil
}

// startCollecting begins to measure, for several operations.
type startCollecting struct {
	code
	Name          string
	Namespaces    []string
	LabelSelector map[string]string
}

func (o *startCollecting) run(ctx context.Context, e *executor, _ int) error {
	return e.startCollecting(ctx, o.Name, o.Namespaces, o.LabelSelector)
}

// stopCollecting ends that.
type stopCollecting struct{ code }

func (o *stopCollecting) run(_ context.Context, e *executor, _ int) error { return e.stopCollecting() }
