// Package signals acts on the events of others (events/foreign): a push to a registry rolls out its image where a workload
// follows the tag, what a cloud announces of a machine goes to its node, an alert becomes an Event. Each is decided and
// committed before the event is answered, so that none is lost with this process; and each is idempotent by the state
// that it changes, so that no list of what came is kept. Decisions: core/registry, core/departure.
//
//	signals.go    which event causes what
//	follow.go     pushes to a registry
//	machines.go   machines that go, and their health
//	record.go     alerts, and why a machine's health changed
//	drain.go      the function that drains nodes whose machines go
package signals

import (
	"context"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// Component is in whose name signals write.
const Component = "signals"

// Act does what a message of somebody else means for a cluster, and returns when that is committed. It reports whether the
// message means anything. An error may pass later.
func Act(ctx context.Context, c *consumer.Cluster, m foreign.Message) (bool, error) {
	fn := consumer.Function{Name: Component}
	switch m := m.(type) {
	case foreign.RegistryChange:
		if m.Type != foreign.ImagePushedType || m.Tag == "" {
			return false, nil
		}
		fn.Groups = []string{kubestorage.WorkloadsGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return follow(ctx, b, m) }
	case foreign.ScheduledEvents:
		fn.Groups = []string{kubestorage.NodesGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return schedule(ctx, b, m) }
	case foreign.SpotInterruption:
		fn.Groups = []string{kubestorage.NodesGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return interrupt(ctx, b, m) }
	case foreign.RebalanceRecommendation:
		fn.Groups = []string{kubestorage.NodesGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return rebalance(ctx, b, m) }
	case foreign.AvailabilityChange:
		fn.Groups = []string{kubestorage.NodesGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return health(ctx, b, m) }
	case foreign.HealthAnnotation:
		fn.Groups = []string{kubestorage.NodesGroup, kubestorage.EventsGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return annotate(ctx, b, m) }
	case foreign.Alert:
		fn.Groups = []string{kubestorage.NodesGroup, kubestorage.EventsGroup}
		fn.Handle = func(ctx context.Context, b *consumer.Batch) error { return alert(ctx, b, m) }
	default: // what Event Grid says of subscriptions
		return false, nil
	}
	return true, c.Act(ctx, fn)
}

// decide decides and commits. What the API refuses for good is said on the object, where the plan has a notice for it,
// and in the log: to have the event come again would not help.
func decide(ctx context.Context, b *consumer.Batch, d consumer.Decision) error {
	out, err := b.Decide(ctx, Component, d)
	if err != nil {
		return err
	}
	if out.Refused != nil && !permanent(out.Err) {
		return out.Err
	}
	logRefused(b, out)
	return nil
}

func logRefused(b *consumer.Batch, out planclient.Outcome) {
	if w := out.Refused; w != nil {
		slog.Warn("an event asks for what the API refuses", "cluster", b.Name, "resource", w.Resource.Resource, "namespace", w.Namespace, "name", w.Name, "error", out.Err)
	}
}

// permanent reports whether another attempt would be refused for the same reason.
func permanent(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) || planclient.Terminating(err)
}

// planned makes a decision of what is read of an object.
func planned[T any](read func(*consumer.Snapshot) (T, bool, error), decide func(T) plan.Plan) consumer.Decision {
	return func(s *consumer.Snapshot) (plan.Plan, error) {
		o, there, err := read(s)
		if err != nil || !there {
			return plan.Plan{}, err
		}
		return decide(o), nil
	}
}
