package audit

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
)

// Rows of the registry (cluster/registry.go).
const (
	registryPartition = "_clusters"
	clusterClass      = "c-"
	leftClass         = "x-"
)

var clusterID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// rows calls yield for all rows of a partition.
func (a *Audit) rows(ctx context.Context, partition string, yield func(table.Row)) error {
	a.report.Partitions++
	err := table.All(ctx, a.Store, partition, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		a.report.Rows++
		yield(row)
		return ctx.Err() == nil
	})
	return errors.Join(err, ctx.Err())
}

// registry checks the registry and returns the clusters that can be read.
func (a *Audit) registry(ctx context.Context) ([]cluster.Info, error) {
	var out []cluster.Info
	err := a.rows(ctx, registryPartition, func(row table.Row) {
		switch {
		case strings.HasPrefix(row.Key, clusterClass):
			if info, reason := decodeCluster(row); reason != "" {
				a.find(registryPartition, row.Key, Registry, "%s", reason)
			} else {
				out = append(out, info)
			}
		case strings.HasPrefix(row.Key, leftClass):
			if partition := cluster.LeftPartition(row); partition != row.Key[len(leftClass):] || !clusterPartition(partition) {
				a.find(registryPartition, row.Key, Registry, "the row names the partitions %q", row.Value)
				return
			}
			a.note(registryPartition, row.Key, Registry, "the cluster is being made or deleted, or a crash left it so: a server on this store removes it when it starts, or an hour later where others use the store")
		default:
			a.find(registryPartition, row.Key, Registry, "no row of the registry has such a key")
		}
	})
	return out, err
}

// decodeCluster returns the cluster of a row, or what is wrong with it.
func decodeCluster(row table.Row) (cluster.Info, string) {
	var info cluster.Info
	if err := json.Unmarshal(row.Value, &info); err != nil {
		return info, "the row cannot be decoded: " + err.Error()
	}
	switch {
	case clusterClass+info.Name != row.Key:
		return info, "the row is of a cluster named " + info.Name
	case cluster.ValidateName(info.Name) != nil:
		return info, cluster.ValidateName(info.Name).Error()
	case !clusterID.MatchString(info.ID):
		return info, "the cluster's id is not 8 hex digits: " + info.ID
	case len(info.Sealed) == 0:
		return info, "the cluster has no keys"
	}
	return info, ""
}

// clusterPartition reports whether a name is the first part of the names of a cluster's partitions.
func clusterPartition(name string) bool {
	i := strings.LastIndexByte(name, '.')
	return i >= 0 && cluster.ValidateName(name[:i]) == nil && clusterID.MatchString(name[i+1:])
}

// strangers finds partitions that belong to no cluster. They are listed before the registry is looked at:
// a cluster is announced there before it has rows, and stays until it has none.
func (a *Audit) strangers(ctx context.Context) error {
	lister, ok := a.Store.(table.Lister)
	if !ok {
		a.note("-", "", Partitions, "this kind of store does not list its partitions: those that belong to no cluster are not looked for")
		return nil
	}
	for after := ""; ; {
		names, err := lister.Partitions(ctx, after)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := a.stranger(ctx, name); err != nil {
				return err
			}
		}
		after = names[len(names)-1]
	}
}

func (a *Audit) stranger(ctx context.Context, name string) error {
	if name == registryPartition || name == a.DirtyPartition || name == a.HostPartition {
		return nil
	}
	owner, group, _ := strings.Cut(name, "|")
	known := slices.Contains(kubestorage.Groups, group) || slices.Contains(cluster.EventGroups, group)
	if clusterPartition(owner) && known {
		// Looked for twice, since it may pass from one row to the other in between.
		for range 2 {
			if there, err := a.registered(ctx, owner); err != nil || there {
				return err
			}
		}
	}
	page, err := a.Store.Range(ctx, name, table.Query{From: " ", To: "\x7f", Limit: 1})
	if err != nil || len(page.Rows) == 0 && page.Next == "" {
		return err
	}
	a.find(name, "", Partitions, "the partition belongs to no cluster")
	return nil
}

// registered reports whether the registry knows the cluster of a partition, or that it is being made or deleted.
func (a *Audit) registered(ctx context.Context, owner string) (bool, error) {
	_, err := a.Store.Get(ctx, registryPartition, leftClass+owner)
	if err == nil || !errors.Is(err, table.ErrNotFound) {
		return err == nil, err
	}
	row, err := a.Store.Get(ctx, registryPartition, clusterClass+owner[:strings.LastIndexByte(owner, '.')])
	if errors.Is(err, table.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The rows of a cluster whose entry is damaged are not said to be nobody's.
	info, reason := decodeCluster(row)
	return reason != "" || info.Partition() == owner, nil
}
