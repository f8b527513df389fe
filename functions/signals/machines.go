package signals

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/departure"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const (
	// spotNotice is what EC2 gives an instance from its warning until it is taken away, see
	// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html.
	spotNotice = 2 * time.Minute
	// maxID bounds the id of an announcement that is noted on a node, in bytes; of a longer one a hash is.
	maxID = 128
)

// drained are the kinds of scheduled events that pods must not live through. A Freeze is over sooner than a pod has moved.
var drained = map[string]bool{foreign.Preempt: true, foreign.Terminate: true, foreign.Redeploy: true, foreign.Reboot: true}

var nodeResource = plan.Nodes.GroupResource()

// nodesOf returns the nodes on a machine.
func nodesOf(b *consumer.Batch, m departure.Machine) ([]*corev1.Node, error) {
	all, err := consumer.List[*corev1.Node](b.Snapshot, nodeResource, "")
	if err != nil {
		return nil, err
	}
	var out []*corev1.Node
	for _, n := range all {
		if m.Of(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// eachNode decides about the nodes on a machine.
func eachNode(ctx context.Context, b *consumer.Batch, m departure.Machine, d func(*corev1.Node) plan.Plan) error {
	nodes, err := nodesOf(b, m)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := decideNode(ctx, b, n.Name, d); err != nil {
			return err
		}
	}
	return nil
}

func decideNode(ctx context.Context, b *consumer.Batch, name string, d func(*corev1.Node) plan.Plan) error {
	return decide(ctx, b, planned(
		func(s *consumer.Snapshot) (*corev1.Node, bool, error) {
			return consumer.Get[*corev1.Node](s, nodeResource, "", name)
		}, d))
}

func announce(ctx context.Context, b *consumer.Batch, m departure.Machine, n departure.Notice) error {
	n.ID = bounded(n.ID)
	return eachNode(ctx, b, m, func(node *corev1.Node) plan.Plan { return departure.Announce(node, n, b.Now) })
}

// schedule announces what a document of scheduled events has, and withdraws what it has not any more.
func schedule(ctx context.Context, b *consumer.Batch, m foreign.ScheduledEvents) error {
	document := departure.Document{Source: bounded(m.Source), Incarnation: m.Incarnation}
	for _, e := range m.Events {
		document.IDs = append(document.IDs, bounded(e.ID))
		if !drained[e.Kind] {
			continue
		}
		notice := departure.Notice{
			ID: e.ID, Kind: e.Kind, Source: document.Source, Incarnation: m.Incarnation, At: m.Time, Deadline: e.NotBefore, Started: e.Status == "Started",
		}
		for _, name := range e.Resources {
			if err := announce(ctx, b, departure.Machine{AzureName: name}, notice); err != nil {
				return err
			}
		}
	}
	all, err := consumer.List[*corev1.Node](b.Snapshot, nodeResource, "")
	if err != nil {
		return err
	}
	for _, n := range all {
		if !departure.Departing(n) {
			continue
		}
		if err := decideNode(ctx, b, n.Name, func(node *corev1.Node) plan.Plan { return departure.Withdraw(node, document) }); err != nil {
			return err
		}
	}
	return nil
}

func interrupt(ctx context.Context, b *consumer.Batch, m foreign.SpotInterruption) error {
	at := m.Time
	if at.IsZero() {
		at = b.Now
	}
	return announce(ctx, b, departure.Machine{EC2: m.Instance.ID}, departure.Notice{
		ID: m.ID, Kind: "SpotInterruption", Source: bounded(m.Source), At: at, Deadline: at.Add(spotNotice),
	})
}

func rebalance(ctx context.Context, b *consumer.Batch, m foreign.RebalanceRecommendation) error {
	return announce(ctx, b, departure.Machine{EC2: m.Instance.ID}, departure.Notice{
		ID: m.ID, Kind: "RebalanceRecommendation", Source: bounded(m.Source), At: m.Time,
	})
}

func health(ctx context.Context, b *consumer.Batch, m foreign.AvailabilityChange) error {
	return eachNode(ctx, b, departure.Machine{AzureID: m.Target}, func(node *corev1.Node) plan.Plan {
		return departure.Availability(node, departure.Health{State: bounded(m.State), At: m.Occurred}, b.Now)
	})
}

// bounded returns a text that others chose, or a hash of it if it is long.
func bounded(s string) string {
	if len(s) <= maxID {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
