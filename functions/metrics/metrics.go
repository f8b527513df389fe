// Package metrics is the function that keeps HorizontalPodAutoscalers: samples, or a change of an autoscaler, its
// target or its pods in; the target's scale and the autoscaler's status out. The decisions are those of
// core/autoscaling.
//
//	metrics.go which autoscalers a batch is about, and when each is looked at
//	changes.go what a change has to do with autoscalers
//	load.go    what one is decided on
//	scale.go   the scale of its target
//	states.go  what decisions leave for the next ones
package metrics

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	keeper "github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/autoscaling"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// Name of the function.
const Name = "metrics"

const (
	// component is upstream's ServiceAccount.
	component = "horizontal-pod-autoscaler"
	// gather is how long after a look another one waits for what comes meanwhile: the reports of many nodes, or a
	// rollout, are looked at together. Upstream looks every 15 seconds.
	gather = time.Second
	// syncPeriod is how often upstream looks (HorizontalPodAutoscalerSyncPeriod of its config/v1alpha1). A scale that
	// could not be written is tried again after it. An autoscaler without behavior may double its replicas at each
	// look, so that much lies between two of its steps here too.
	syncPeriod = 15 * time.Second

	samplesKind = "samples"
	gatherKind  = "gather"
	refusedKind = "refused"
)

// Options of the function.
type Options struct {
	Store table.Store
	// Partition is the first part of the names of the cluster's partitions.
	Partition string
	Samples   *keeper.Keeper
}

// Function returns the function.
func Function(o Options) consumer.Function {
	f := &function{
		samples: o.Samples, looked: map[consumer.Named]time.Time{},
		states: states{store: o.Store, partition: kubestorage.Partition(o.Partition, keeper.Group)},
	}
	return consumer.Function{
		Name:   Name,
		Groups: []string{kubestorage.WorkloadsGroup, kubestorage.PodsGroup},
		Handle: f.handle,
	}
}

// Asks are what the function is to be asked for when samples came: to look at the autoscalers that they concern.
// There are none in namespaces without an autoscaler that reads such samples, so there samples cost no more than
// to be stored.
func Asks(ctx context.Context, logs kubestorage.Logs, decoder kubestorage.Decoder, t keeper.Taken, now time.Time) ([]plan.Later, error) {
	if len(t.Pods)+len(t.External) == 0 {
		return nil, nil
	}
	state, err := logs[kubestorage.WorkloadsGroup].Current(ctx)
	if err != nil {
		return nil, err
	}
	concerned := consumer.Set{}
	err = eachAutoscaler(state, decoder, func(a *autoscalingv2.HorizontalPodAutoscaler) {
		if concerns(t, a) {
			concerned.Add(a.Namespace, "")
		}
	})
	var out []plan.Later
	for _, n := range concerned.Sorted() {
		out = append(out, plan.Later{At: now, Kind: samplesKind, Subject: plan.Ref{Resource: plan.Namespaces, Name: n.Namespace}})
	}
	return out, err
}

// function remembers, as a hint, which autoscalers were just looked at, and when.
type function struct {
	samples *keeper.Keeper
	states  states

	mu     sync.Mutex
	looked map[consumer.Named]time.Time
}

// subjects are what a batch is about.
type subjects struct {
	*consumer.Batch
	known *known
	// autoscalers that something has changed for, and those that are due at this moment.
	autoscalers, due consumer.Set
	// gone are those that were deleted.
	gone []types.UID
}

func (f *function) handle(ctx context.Context, b *consumer.Batch) error {
	s := &subjects{Batch: b, known: newKnown(b.Snapshot), autoscalers: consumer.Set{}, due: consumer.Set{}}
	var namespaces []string
	err := b.Gather(s.everything, s.change, func(l plan.Later) {
		switch {
		case l.Subject.Resource == plan.Autoscalers:
			s.due.Add(l.Subject.Namespace, l.Subject.Name)
		case l.Kind == samplesKind:
			namespaces = append(namespaces, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	for _, namespace := range namespaces {
		if err := s.namespace(namespace); err != nil {
			return err
		}
	}
	if b.Resync {
		if err := f.states.keepOnly(ctx, s.known); err != nil {
			return err
		}
	}
	if err := f.states.remove(ctx, s.gone); err != nil {
		return err
	}
	return f.decideAll(ctx, s)
}

// decideAll decides the autoscalers of a batch. What they leave is stored together.
func (f *function) decideAll(ctx context.Context, s *subjects) error {
	l := &loader{Batch: s.Batch, samples: f.samples, pods: map[string]podUsage{}, external: map[string]values{}}
	var mu sync.Mutex
	var left []kept
	ready, err := f.ready(s)
	if err != nil {
		return err
	}
	err = consumer.Each(ctx, ready, func(ctx context.Context, n consumer.Named) error {
		k, err := f.decide(ctx, l, n)
		if k != nil {
			mu.Lock()
			defer mu.Unlock()
			left = append(left, *k)
		}
		return err
	})
	return errors.Join(err, f.states.put(ctx, left))
}

// ready are the autoscalers to decide now. One that was just looked at, or has just taken a step, is put off.
func (f *function) ready(s *subjects) ([]consumer.Named, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.looked, func(_ consumer.Named, at time.Time) bool { return !s.Now.Before(at.Add(gather)) })
	all := maps.Clone(s.autoscalers)
	maps.Copy(all, s.due)
	var out []consumer.Named
	for _, n := range all.Sorted() {
		again, err := nextStep(s.Snapshot, n)
		if err != nil {
			return nil, err
		}
		if at, looked := f.looked[n]; looked && !s.due[n] && at.Add(gather).After(again) {
			again = at.Add(gather)
		}
		if again.After(s.Now) {
			s.Later(plan.Later{At: again, Kind: gatherKind, Subject: refTo(n), Keep: true})
			continue
		}
		f.looked[n] = s.Now
		out = append(out, n)
	}
	return out, nil
}

// nextStep is the time before which an autoscaler takes no step, zero if it may at once.
func nextStep(s *consumer.Snapshot, n consumer.Named) (time.Time, error) {
	a, ok, err := consumer.Get[*autoscalingv2.HorizontalPodAutoscaler](s, autoscalers, n.Namespace, n.Name)
	if err != nil || !ok || a.Spec.Behavior != nil || a.Status.LastScaleTime == nil {
		return time.Time{}, err
	}
	return a.Status.LastScaleTime.Add(syncPeriod), nil
}

func refTo(n consumer.Named) plan.Ref {
	return plan.Ref{Resource: plan.Autoscalers, Namespace: n.Namespace, Name: n.Name}
}

// decide makes and carries out one decision, and returns what it leaves for the next one, nil if there is no such
// autoscaler.
func (f *function) decide(ctx context.Context, l *loader, n consumer.Named) (*kept, error) {
	var k *kept
	var asked autoscaling.Decision
	run := func(refused error) error {
		out, err := l.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
			in, ok, err := l.input(ctx, s, n)
			if err != nil || !ok {
				k, asked = nil, autoscaling.Decision{}
				return plan.Plan{}, err
			}
			if k == nil || k.uid != in.Autoscaler.UID {
				if k, err = f.states.get(ctx, in.Autoscaler.UID); err != nil {
					return plan.Plan{}, err
				}
			}
			in.State, in.Refused = k.before, refused
			asked = autoscaling.Decide(in)
			return asked.Plan, nil
		})
		if err == nil && out.Refused != nil && out.Refused.Subresource == plan.Scale {
			return &refusedError{out.Err}
		}
		return consumer.Refused(out, err)
	}
	err := run(nil)
	if refused, ok := errors.AsType[*refusedError](err); ok {
		l.Later(plan.Later{At: l.Now.Add(syncPeriod), Kind: refusedKind, Subject: refTo(n)})
		err = run(refused.cause)
	}
	if err != nil || k == nil {
		return nil, err
	}
	k.after = asked.State
	return k, nil
}

// refusedError says that the API refused the scale.
type refusedError struct{ cause error }

func (e *refusedError) Error() string { return e.cause.Error() }
