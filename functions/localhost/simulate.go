package localhost

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/kubelets"
)

// simulatedPods is how many pods a simulated node takes.
const simulatedPods = 256

// simulateNodes registers the simulated nodes of the default cluster that are not there yet.
func (h *Host) simulateNodes(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	a, err := h.clusters.get(ctx, cluster.Default)
	if err != nil {
		return err
	}
	defer a.leave()
	client := planclient.New(a.server.ClientConfig(identity(kubelets.Component), "zeroplane/"+kubelets.Component), a.server.Logs(), a.server.Decoder())
	var p plan.Plan
	state, err := a.server.Logs().Of(plan.Nodes.GroupResource()).Current(ctx)
	if err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	for i := range n {
		name := fmt.Sprintf("node-%d", i)
		if state.Get("core/nodes/"+name) != nil {
			continue
		}
		node := kubelet.NewNode(name, i, kubelet.NodeOptions{Pods: simulatedPods, Now: time.Now()})
		if len(h.opts.PodRanges) > 0 {
			node.Spec.PodCIDR, node.Spec.PodCIDRs = "", nil // it gets one, as others do
		}
		p.Writes = append(p.Writes, plan.Write{Verb: plan.Create, Resource: plan.Nodes, Name: name, Object: node})
	}
	if len(p.Writes) == 0 {
		return nil
	}
	out, err := client.Apply(ctx, p, nil)
	if err == nil && out.Err != nil && !apierrors.IsAlreadyExists(out.Err) {
		err = out.Err
	}
	if err != nil {
		return fmt.Errorf("registering simulated nodes: %w", err)
	}
	return nil
}
