package table

import (
	"context"
	"time"
)

// Wait waits and returns true. It returns false, at once, where the wait would not end before the deadline, and when
// the caller gave up.
func Wait(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
