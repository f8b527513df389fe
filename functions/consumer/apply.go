package consumer

import (
	"context"
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"

	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// maxDecisions bounds how often one subject is decided again because its plan was stale.
const maxDecisions = 8

// Decision makes a plan from a snapshot.
type Decision func(*Snapshot) (plan.Plan, error)

// Decide makes a plan, carries it out as the component's user, and does both again, on a fresh
// snapshot, for as long as the plan turns out to be stale. Notices and what is put off are taken
// care of. The outcome tells of a refused write, which is no error here: the function says what a
// refusal means.
func (b *Batch) Decide(ctx context.Context, who string, decide Decision) (planclient.Outcome, error) {
	snapshot := b.Snapshot
	d := b.begin(ctx, who)
	var p plan.Plan
	var out planclient.Outcome
	var err, last error
	defer func() { d.end(p, out, err) }()
	for range maxDecisions {
		out = planclient.Outcome{}
		if p, err = decide(snapshot); err != nil || p.Empty() {
			return out, err
		}
		because := d.because(ctx, p)
		if len(p.Writes) > 0 {
			out, err = b.client(who).Apply(because, p, snapshot.At())
			countedPlan(who, err)
		}
		if err == nil {
			b.Later(d.traced(p.Later)...)
			b.recorder.record(p.Notices)
			b.recorder.record(out.Notices)
			return out, nil
		}
		if !errors.Is(err, planclient.ErrStale) {
			return out, err
		}
		last = err
		ctx = tablelog.Begin(ctx)
		if snapshot, err = b.snapshot(ctx, b.groups); err != nil {
			return out, err
		}
	}
	err = fmt.Errorf("deciding %d times: %w", maxDecisions, last)
	return planclient.Outcome{}, err
}

// Scale asks the API for the scale of an object, as the component's user. It fails as the API does.
func (b *Batch) Scale(ctx context.Context, who string, of plan.Ref) (*autoscalingv1.Scale, error) {
	return b.client(who).Scale(ctx, of)
}

// Review asks the API, as the component's user, whether somebody may do something by what roles and bindings say now. It fails
// as the API does.
func (b *Batch) Review(ctx context.Context, who string, question authorizationv1.SubjectAccessReviewSpec) (allowed bool, err error) {
	return b.client(who).Review(tablelog.Begin(ctx), question)
}

// Refused takes a write that the API refused for a failure, for functions to which a refusal means
// nothing else: the batch comes again.
func Refused(out planclient.Outcome, err error) error {
	if err == nil && out.Refused != nil {
		return out.Err
	}
	return err
}
