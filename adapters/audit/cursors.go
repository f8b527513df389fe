package audit

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
)

// Rows of a cluster's partition of cursors, and of the dirty partition.
const (
	cursorsGroup = "cursors"
	metricsGroup = "metrics"
	cursorClass  = "c-"
	dueClass     = "d-"
	dirtyClass   = "d-"
)

// cursors checks what the functions of a cluster note, and returns their cursors by row key. They are read
// before the logs, which then cannot be behind them.
func (a *Audit) cursors(ctx context.Context, info cluster.Info) (map[string]map[string]uint64, error) {
	partition := kubestorage.Partition(info.Partition(), cursorsGroup)
	out := map[string]map[string]uint64{}
	err := a.rows(ctx, partition, func(row table.Row) {
		switch {
		case strings.HasPrefix(row.Key, cursorClass):
			var cursor map[string]uint64
			if err := json.Unmarshal(row.Value, &cursor); err != nil {
				a.find(partition, row.Key, Cursors, "the row cannot be decoded: %v", err)
				return
			}
			out[row.Key] = cursor
		case strings.HasPrefix(row.Key, dueClass):
			if err := a.DueRow(row); err != nil {
				a.find(partition, row.Key, Due, "%v", err)
			}
		default:
			a.find(partition, row.Key, Cursors, "no row of this partition has such a key")
		}
	})
	return out, err
}

// letters checks the dead letters of a cluster.
func (a *Audit) letters(ctx context.Context, info cluster.Info) error {
	partition := kubestorage.Partition(info.Partition(), deadletter.Group)
	return a.rows(ctx, partition, func(row table.Row) {
		if err := deadletter.CheckRow(row); err != nil {
			a.find(partition, row.Key, Letters, "%v", err)
		}
	})
}

// metrics checks the samples of a cluster, and what its autoscalers remember.
func (a *Audit) metrics(ctx context.Context, info cluster.Info) error {
	partition := kubestorage.Partition(info.Partition(), metricsGroup)
	return a.rows(ctx, partition, func(row table.Row) {
		if err := a.MetricsRow(row); err != nil {
			a.find(partition, row.Key, Metrics, "%v", err)
		}
	})
}

// compareCursors notes cursors that are ahead of their logs: their functions begin again.
func (a *Audit) compareCursors(info cluster.Info, cursors map[string]map[string]uint64, heads map[string]uint64) {
	keys := make([]string, 0, len(cursors))
	for key := range cursors {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, group := range kubestorage.Groups {
			if seen := cursors[key][group]; seen > heads[group] {
				a.note(kubestorage.Partition(info.Partition(), cursorsGroup), key, Cursors,
					"the function has seen revision %d of %s, whose newest is %d: it looks at everything again", seen, group, heads[group])
			}
		}
	}
}

var (
	// instanceID is what tells the rows of instances on one table apart; a new cluster has one of nobody's.
	instanceID = regexp.MustCompile(`^([0-9a-f]{1,8}|born)$`)
	// sweepKey is of the rows that say when to look for what was left of clusters.
	sweepKey = regexp.MustCompile(`^s-[0-9a-f]{16}$`)
)

// host checks what instances on one table share.
func (a *Audit) host(ctx context.Context) error {
	return a.rows(ctx, a.HostPartition, func(row table.Row) {
		if err := a.HostRow(row); err != nil {
			a.find(a.HostPartition, row.Key, Host, "%v", err)
		}
	})
}

// dirty checks the rows of clusters with work left.
func (a *Audit) dirty(ctx context.Context) error {
	type mark struct{ name, key string }
	var dirty []mark
	err := a.rows(ctx, a.DirtyPartition, func(row table.Row) {
		if sweepKey.MatchString(row.Key) {
			if err := a.DirtyRow(row); err != nil {
				a.find(a.DirtyPartition, row.Key, Dirty, "%v", err)
			}
			return
		}
		name, ok := strings.CutPrefix(row.Key, dirtyClass)
		name, instance, shared := strings.Cut(name, ".")
		if !ok || shared && !instanceID.MatchString(instance) || cluster.ValidateName(name) != nil {
			a.find(a.DirtyPartition, row.Key, Dirty, "no row of this partition has such a key")
			return
		}
		if err := a.DirtyRow(row); err != nil {
			a.find(a.DirtyPartition, row.Key, Dirty, "%v", err)
			return
		}
		dirty = append(dirty, mark{name, row.Key})
	})
	if err != nil {
		return err
	}
	for _, m := range dirty {
		// Not decoded: a damaged entry is reported as such.
		page, err := a.Store.Range(ctx, registryPartition, table.Query{From: clusterClass + m.name, To: clusterClass + m.name + " "})
		if err != nil {
			return err
		}
		if len(page.Rows) == 0 && page.Next == "" {
			a.note(a.DirtyPartition, m.key, Dirty, "there is no cluster %q: the next start of a server on this store removes the row", m.name)
		}
	}
	return nil
}
