// Package nodeipam is the function that gives nodes the ranges of their pods' addresses: a node that comes or goes in, ranges
// out. The decisions are those of core/nodeipam.
package nodeipam

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/nodeipam"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// component is the user: upstream has no other for it (newNodeIpamController of cmd/kube-controller-manager/app/core.go).
const component = "node-controller"

var nodeResource = plan.Nodes.GroupResource()

// Function returns the function for the ranges of a cluster, and of its Services.
func Function(ranges []nodeipam.Range, services netip.Prefix) consumer.Function {
	return consumer.Function{
		Name: "nodeipam", Groups: []string{kubestorage.NodesGroup},
		Handle: func(ctx context.Context, b *consumer.Batch) error {
			return handle(ctx, b, nodeipam.Input{Ranges: ranges, Services: services, Changed: map[string]bool{}})
		},
	}
}

// handle gives out ranges if a node lacks one that came or changed, or another one went, whose range is left.
func handle(ctx context.Context, b *consumer.Batch, in nodeipam.Input) error {
	went := false
	err := b.Gather(func() error { went = true; return nil }, func(ev tablelog.Event) error {
		if gr, _, _ := kubestorage.ParseKey(ev.Key); gr != nodeResource {
			return nil
		}
		if ev.Entry == nil {
			went = true
			return nil
		}
		node, ok, err := consumer.Read[*corev1.Node](b.Snapshot, ev.Entry)
		if ok && nodeipam.Lacks(node) {
			in.Changed[node.Name] = true
		}
		return err
	}, func(plan.Later) {})
	if err != nil || !went && len(in.Changed) == 0 {
		return err
	}
	return consumer.Refused(b.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		var err error
		in.Nodes, err = consumer.List[*corev1.Node](s, nodeResource, "")
		return nodeipam.Allocate(in), err
	}))
}
