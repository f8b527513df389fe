package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	keeper "github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/autoscaling"
)

const (
	// stateClass begins the keys of the rows with what decisions leave, in the partition of samples.
	stateClass, stateEnd = "h-", "h."
	// statesAtOnce are written in one transaction: each has less than 50 KB.
	statesAtOnce = 50
)

// states keeps what decisions about autoscalers leave for the next ones, a row for each.
type states struct {
	store     table.Store
	partition string
}

// kept is what there is of an autoscaler.
type kept struct {
	uid types.UID
	// etag of the row, empty if there is none.
	etag          string
	before, after autoscaling.State
}

func stateKey(uid types.UID) string { return stateClass + string(uid) }

// get returns what the last decision about an autoscaler left. A row that cannot be read is as one that was lost.
func (s states) get(ctx context.Context, uid types.UID) (*kept, error) {
	k := &kept{uid: uid}
	row, err := s.store.Get(ctx, s.partition, stateKey(uid))
	if errors.Is(err, table.ErrNotFound) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was decided before: %w", err)
	}
	k.etag = row.ETag
	if err := json.Unmarshal(row.Value, &k.before); err != nil {
		slog.Warn("what an autoscaler remembers cannot be read, it begins again", "partition", s.partition, "row", row.Key, "error", err)
		k.before = autoscaling.State{}
	}
	return k, nil
}

// put stores what decisions left, in as few transactions as it fits in. Where another instance has decided
// meanwhile, what that left stands.
func (s states) put(ctx context.Context, list []kept) error {
	var ops []table.Op
	for _, k := range list {
		if reflect.DeepEqual(k.before, k.after) {
			continue
		}
		value, err := json.Marshal(k.after)
		if err != nil {
			return fmt.Errorf("encoding what was decided: %w", err)
		}
		op := table.Op{Kind: table.Insert, Key: stateKey(k.uid), Value: value}
		if k.etag != "" {
			op.Kind, op.ETag = table.Update, k.etag
		}
		ops = append(ops, op)
	}
	for chunk := range slices.Chunk(ops, statesAtOnce) {
		for len(chunk) > 0 {
			err := s.store.Commit(ctx, s.partition, chunk)
			if conflict, ok := errors.AsType[*table.ConflictError](err); ok {
				chunk = slices.DeleteFunc(slices.Clone(chunk), func(op table.Op) bool { return op.Key == conflict.Key })
				continue
			}
			if err != nil {
				return fmt.Errorf("storing what was decided: %w", err)
			}
			break
		}
	}
	return nil
}

// remove removes the rows of autoscalers that are no more.
func (s states) remove(ctx context.Context, gone []types.UID) error {
	for _, uid := range gone {
		op := table.Op{Kind: table.Delete, Key: stateKey(uid), ETag: table.Any}
		if err := table.Repeat(ctx, s.store, s.partition, []table.Op{op}); err != nil && !errors.Is(err, table.ErrNotFound) {
			return fmt.Errorf("removing what was decided: %w", err)
		}
	}
	return nil
}

// keepOnly removes the rows of autoscalers that there are not, after their deletion went unnoticed.
func (s states) keepOnly(ctx context.Context, k *known) error {
	all, err := k.of("")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, a := range all {
		there[stateKey(a.UID)] = true
	}
	var gone []types.UID
	err = table.All(ctx, s.store, s.partition, table.Query{From: stateClass, To: stateEnd}, func(row table.Row) bool {
		if !there[row.Key] {
			gone = append(gone, types.UID(strings.TrimPrefix(row.Key, stateClass)))
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("reading what was decided before: %w", err)
	}
	return s.remove(ctx, gone)
}

// CheckRow returns why a row of the partition of samples cannot be one of those that are written there.
func CheckRow(row table.Row) error {
	if ours, err := keeper.CheckRow(row); ours {
		return err
	}
	if !strings.HasPrefix(row.Key, stateClass) {
		return errors.New("no row of this partition has such a key")
	}
	var s autoscaling.State
	if err := json.Unmarshal(row.Value, &s); err != nil {
		return fmt.Errorf("the row cannot be decoded: %w", err)
	}
	return nil
}
