package autoscaling_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/controller/util/selectors"

	"github.com/zeroplane/zeroplane/core/autoscaling"
	"github.com/zeroplane/zeroplane/core/plan"
)

// The defaults of kube-controller-manager's flags.
const (
	downscaleStabilization = 5 * time.Minute
	cpuInitialization      = 5 * time.Minute
	readinessDelay         = 30 * time.Second
	tolerance              = 0.1
	// looks of one controller before the next begins with nothing in memory.
	looks = 40
)

var seed = flag.Uint64("autoscaling.seed", 0, "seed of all draws, 0 for one of its own")

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	klog.SetLogger(logr.Discard())
	// Upstream logs every metric that fails, and waits a moment for each.
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

// decisions is how many of a kind a test makes.
func decisions(t *testing.T) int {
	t.Helper()
	t.Logf("-autoscaling.seed=%d", *seed)
	if os.Getenv("ZEROPLANE_LONG") != "" {
		return 50_000
	}
	return 2_000
}

func TestEveryDecisionIsTheControllersOwn(t *testing.T) {
	total := decisions(t)
	counts := map[string]int{}
	for sequence := uint64(0); total > 0; sequence++ {
		var made int
		var difference string
		synctest.Test(t, func(t *testing.T) {
			made, difference = follow(t, rand.New(rand.NewPCG(*seed, sequence)), counts)
		})
		if difference != "" {
			t.Fatalf("-autoscaling.seed=%d, sequence %d, look %d (-upstream +core): %s", *seed, sequence, made, difference)
		}
		total -= made
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d %s", counts[what], what)
	}
}

// follow lets a controller look some times, and compares each decision.
func follow(t *testing.T, rng *rand.Rand, counts map[string]int) (int, string) {
	w := newWorld(rng)
	period := pick(rng, 15*time.Second, 15*time.Second, 40*time.Second, 61*time.Second)
	c := start(t, w, period)
	defer c.stop()
	next := time.Now()
	var state autoscaling.State
	for look := range looks {
		c.see()
		in := w.input(state)
		before := in.Autoscaler.DeepCopy()
		switch {
		case look == 0:
			c.hpas.handler.OnAdd(w.hpa.DeepCopy(), false)
		case rng.IntN(5) == 0:
			// An edit of the spec is looked at between two periods.
			time.Sleep(min(time.Until(next)-time.Millisecond, time.Duration(1+rng.IntN(14_000))*time.Millisecond))
			edited := w.hpa.DeepCopy()
			edited.Generation--
			c.hpas.handler.OnUpdate(edited, w.hpa.DeepCopy())
		default:
			time.Sleep(time.Until(next))
		}
		synctest.Wait()
		in.Now = time.Now()
		if !in.Now.Before(next) {
			next = in.Now.Add(period)
		}
		got, decision := decide(in, w.refused)
		want := ordered(c.api.seen, before)
		if difference := cmp.Diff(shown(want), shown(got)); difference != "" {
			return look, difference
		}
		if !reflect.DeepEqual(before, in.Autoscaler) {
			return look, "the core has altered its input"
		}
		tally(counts, want)
		state = stored(decision.State)
		w.apply(want)
		w.change()
	}
	return looks, ""
}

// apply is what upstream's writes make of the world.
func (w *world) apply(s seen) {
	if s.Replicas != nil {
		w.scale.SpecReplicas = *s.Replicas
	}
	if s.Status != nil {
		w.hpa.Status = *s.Status
	}
}

// decide asks the core, and again if the world refuses what it wants to write.
func decide(in autoscaling.Input, refused error) (seen, autoscaling.Decision) {
	decision := autoscaling.Decide(in)
	if refused != nil && slices.ContainsFunc(decision.Plan.Writes, func(w plan.Write) bool { return w.Subresource == plan.Scale }) {
		in.Refused = refused
		decision = autoscaling.Decide(in)
	}
	out := seen{Looks: 1}
	for _, n := range decision.Plan.Notices {
		out.Events = append(out.Events, n.Type+" "+n.Reason+" "+n.Message)
	}
	for _, write := range decision.Plan.Writes {
		switch write.Verb {
		case plan.Update:
			out.Replicas = &write.Object.(*autoscalingv1.Scale).Spec.Replicas
		case plan.UpdateStatus:
			out.Status = &write.Object.(*autoscalingv2.HorizontalPodAutoscaler).Status
		default: // an autoscaler's plan has no others
		}
		if n := write.OnSuccess; n != nil {
			out.Events = append(out.Events, n.Type+" "+n.Reason+" "+n.Message)
		}
	}
	return out, decision
}

// ordered is a look as the API stores it, with times of whole seconds, and with rivals named in order:
// upstream takes them from a map. A status that then is as before is none.
func ordered(s seen, before *autoscalingv2.HorizontalPodAutoscaler) seen {
	s.Events = slices.Clone(s.Events)
	for i, event := range s.Events {
		s.Events[i] = sortedRivals(event)
	}
	if s.Status == nil {
		return s
	}
	s.Status = stored(s.Status)
	for i := range s.Status.Conditions {
		s.Status.Conditions[i].Message = sortedRivals(s.Status.Conditions[i].Message)
	}
	if apiequality.Semantic.DeepEqual(before.Status, *s.Status) {
		s.Status = nil
	}
	return s
}

// sortedRivals sorts the examples of an ambiguous selector.
func sortedRivals(text string) string {
	const mark = "(e.g. ["
	i := strings.Index(text, mark)
	if i < 0 {
		return text
	}
	rivals := strings.Fields(strings.TrimSuffix(text[i+len(mark):], "])"))
	slices.Sort(rivals)
	return text[:i+len(mark)] + strings.Join(rivals, " ") + "])"
}

// shown is a look as the API would print it.
func shown(s seen) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(err)
	}
	return out.String()
}

// stored is a value after it was written and read.
func stored[T any](value T) T {
	data, err := json.Marshal(value)
	must(err)
	var out T
	must(json.Unmarshal(data, &out))
	return out
}

// tally counts the conditions and events that came up, so that a run shows what it covered.
func tally(counts map[string]int, s seen) {
	for _, event := range s.Events {
		fields := strings.Fields(event)
		counts["event "+fields[1]]++
	}
	if s.Status == nil {
		counts["status unchanged"]++
		return
	}
	for _, c := range s.Status.Conditions {
		counts[fmt.Sprintf("condition %s=%s %s", c.Type, c.Status, c.Reason)]++
	}
}

// controller is upstream's, running.
type controller struct {
	api     *api
	hpas    *informer
	tracker tracker
	stop    context.CancelFunc
}

func start(t *testing.T, w *world, period time.Duration) *controller {
	ctx, stop := context.WithCancel(t.Context())
	c := &controller{api: &api{w: w}, hpas: newInformer(), stop: stop}
	hc := podautoscaler.NewHorizontalController(ctx, noEvents{}, c.api, c.api, c.api,
		metrics.NewRESTMetricsClient(podMetrics{w: w}, customMetrics{w}, externalMetrics{w}),
		autoscalerInformer{c.hpas}, podInformer{newInformer(), w}, period, downscaleStabilization, tolerance, cpuInitialization, readinessDelay)
	// Its own recorder merges and drops events.
	field(hc, "eventRecorder").Set(reflect.ValueOf(c.api))
	c.tracker = field(hc, "selectorTracker").Interface().(tracker)
	go hc.Run(ctx, 1)
	synctest.Wait()
	return c
}

// field is one that a package keeps to itself.
func field(of any, name string) reflect.Value {
	f := reflect.ValueOf(of).Elem().FieldByName(name)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// tracker is upstream's memory of which autoscaler selects what.
type tracker interface {
	PutIfAbsent(namespace string, key selectors.Key, selector labels.Selector) bool
	Delete(namespace string, key selectors.Key)
}

// see gives the controller the world as it is.
func (c *controller) see() {
	w := c.api.w
	c.api.seen = seen{Looks: 1}
	w.hpa.ResourceVersion = ""
	must(c.hpas.store.Replace([]any{w.hpa.DeepCopy()}, ""))
	for _, rival := range []string{"another", "zweb"} {
		c.tracker.Delete(namespace, selectors.Key{Name: rival, Namespace: namespace})
	}
	for _, rival := range w.rivals {
		selector, err := labels.Parse(rival.Selector)
		must(err)
		c.tracker.PutIfAbsent(namespace, selectors.Key{Name: rival.Name, Namespace: namespace}, selector)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
