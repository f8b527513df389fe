package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// DirtyPartition holds a row for each cluster with work left.
const DirtyPartition = dirtyPartition

// HostPartition holds what instances on one table share.
const HostPartition = hostPartition

// CheckHostRow returns why a row cannot be one of what instances on one table share.
func CheckHostRow(row table.Row) error {
	if row.Key != caRow {
		return errors.New("no row of this partition has such a key")
	}
	if len(row.Value) == 0 {
		return errors.New("the row is empty")
	}
	return nil
}

// SealKey returns the key that clusters' keys are sealed with: from the environment, or from the file in the
// data directory, which is made if it is missing and nothing was sealed yet.
func SealKey(dir string, first bool) ([]byte, error) { return sealKey(dir, first) }

// CheckDirtyRow returns why a row cannot be one of a cluster with work left.
func CheckDirtyRow(row table.Row) error {
	var r dirtyRow
	if err := json.Unmarshal(row.Value, &r); err != nil {
		return fmt.Errorf("the row cannot be decoded: %w", err)
	}
	return nil
}

// MarkDirty notes that a cluster may have work left, so that the next start wakes it. Nothing of it may run.
func MarkDirty(ctx context.Context, store table.Store, name string) error {
	return (&dirty{store: store, cluster: name}).put(ctx)
}
