package consumer

import (
	"context"

	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/core/plan"
)

// Step is what a controller does about one subject. S is what it decides on.
type Step[S any] struct {
	// Load finds the subject and what belongs to it. It is not ok if there is nothing to decide.
	Load   func(*Snapshot) (in S, ok bool, err error)
	Decide func(S) plan.Plan
	// Again puts off the next attempt when the API has refused a write.
	Again func(S) plan.Later
	// Failed decides what is written then, nil for nothing.
	Failed func(S, planclient.Outcome) plan.Plan
}

// Take decides and commits as the component's user. A refused write is taken care of, but for those of a namespace that goes
// away, which nobody waits for.
func (step Step[S]) Take(ctx context.Context, b *Batch, who string) error {
	var in S
	loaded := func(decide func(S) plan.Plan) Decision {
		return func(s *Snapshot) (plan.Plan, error) {
			var ok bool
			var err error
			if in, ok, err = step.Load(s); err != nil || !ok {
				return plan.Plan{}, err
			}
			return decide(in), nil
		}
	}
	out, err := b.Decide(ctx, who, loaded(step.Decide))
	if err != nil || out.Refused == nil || planclient.Terminating(out.Err) {
		return err
	}
	b.Later(step.Again(in))
	if step.Failed == nil {
		return nil
	}
	_, err = b.Decide(ctx, who, loaded(func(in S) plan.Plan { return step.Failed(in, out) }))
	return err
}
