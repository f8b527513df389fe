package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// ErrStopped is returned by a cluster that was told to stop.
var ErrStopped = errors.New("the cluster's functions have stopped")

// Act calls a function once, with a snapshot and no changes: for what came from outside and is in no log. It returns when
// the function has committed, or failed: nobody calls it again. The function must put nothing off.
func (c *Cluster) Act(ctx context.Context, fn Function) error {
	if !c.enter() {
		return ErrStopped
	}
	defer c.leave()
	ctx = table.WithOrigin(tablelog.Begin(ctx), "function/"+fn.Name)
	b := &Batch{Cluster: c.forFunction(fn), Now: c.now()}
	var err error
	if b.Snapshot, err = b.snapshot(ctx, b.groups); err != nil {
		return err
	}
	if err := fn.Handle(ctx, b); err != nil {
		return err
	}
	if n := len(b.PutOff()); n > 0 {
		return fmt.Errorf("%s put %d things off, which nobody keeps", fn.Name, n)
	}
	return nil
}
