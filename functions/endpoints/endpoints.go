// Package endpoints is the function that keeps the endpoints of Services: a change of a Service, of a pod, of a node, of Endpoints or
// of an EndpointSlice in; EndpointSlices and Endpoints out. The decisions are those of core/endpoints.
//
//	endpoints.go which Services a batch is about
//	touched.go   whom a change touches
//	decide.go    what is loaded for a decision
package endpoints

import (
	"context"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	services = plan.Services.GroupResource()
	pods     = plan.Pods.GroupResource()
	nodes    = plan.Nodes.GroupResource()
	objects  = plan.Endpoints.GroupResource()
	slices   = plan.EndpointSlices.GroupResource()
)

// The components in whose names it writes.
const (
	sliceController  = "endpointslice-controller"
	objectController = "endpoint-controller"
	mirrorController = "endpointslicemirroring-controller"
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "endpoints",
		Groups: []string{kubestorage.ObjectsGroup, kubestorage.PodsGroup, kubestorage.NodesGroup, kubestorage.EndpointsGroup},
		Handle: handle,
	}
}

// handle decides about the EndpointSlices, the Endpoints and the mirrored EndpointSlices of each Service that the batch touches. However
// many pods of a Service have changed, each is written once.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := newTouched(b.Snapshot)
	if err := b.Gather(t.everything, t.change, t.due); err != nil {
		return err
	}
	if err := t.ofNodes(); err != nil {
		return err
	}
	d := decider{Batch: b}
	for _, step := range []struct {
		subjects consumer.Set
		decide   func(context.Context, consumer.Named) error
	}{{t.slices, d.slices}, {t.objects, d.object}, {t.mirrors, d.mirror}} {
		if err := consumer.Each(ctx, step.subjects.Sorted(), step.decide); err != nil {
			return err
		}
	}
	return nil
}
