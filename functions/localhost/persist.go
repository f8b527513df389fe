package localhost

import (
	"context"
	"errors"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// firstPause and maxPause bound the pauses between attempts, which double, as a kubelet's when it registers its
	// node (pkg/kubelet/kubelet_node_status.go, registerWithAPIServer).
	firstPause, maxPause = 100 * time.Millisecond, 7 * time.Second
	// startPatience is how long a start is tried while the store has trouble: longer than a failover takes.
	startPatience = 2 * time.Minute
)

// persist does something until it succeeds, its error is one that stays, or no patience is left for another attempt.
func persist(ctx context.Context, patience time.Duration, do func(context.Context) error) error {
	deadline := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := do(ctx)
		if err == nil || stays(err) || ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			return err
		}
		slog.Warn("cannot start yet, will try again", "in", pause, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// stays reports whether another attempt would fail for the same reason.
func stays(err error) bool {
	return errors.Is(err, table.ErrCorrupt) || errors.Is(err, cluster.ErrNotFound) || errors.Is(err, cluster.ErrUnseal) ||
		errors.Is(err, errStopping) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}
