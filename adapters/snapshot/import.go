package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Import is a cluster to be made of a file.
type Import struct {
	// Maker registers it, and seals its keys.
	Maker cluster.Maker
	// Open opens the keys in the file. It fails with cluster.ErrUnseal.
	Open func(cluster.Info) (cluster.Keys, error)
	// Name of the cluster, empty for the one that it had.
	Name string
	// Replace a cluster of that name.
	Replace bool
	// Mark notes that the cluster of a name has work left, before it can be found.
	Mark func(ctx context.Context, name string) error
	// Progress, if set, is told the number of objects so far.
	Progress func(objects int)
}

// Read makes the cluster. It fails with ErrDamaged, ErrFormat, cluster.ErrExists or cluster.ErrUnseal; there
// is no such cluster then, or the one that was to be replaced.
func (i Import) Read(ctx context.Context, from io.Reader) (cluster.Info, Header, End, error) {
	var end End
	in, h, err := newReader(from)
	if err != nil {
		return cluster.Info{}, h, end, err
	}
	name := i.Name
	if name == "" {
		name = h.Cluster.Name
	}
	keys, err := i.Open(h.Cluster)
	if err != nil {
		return cluster.Info{}, h, end, err
	}
	info, err := i.Maker.Adopt(ctx, cluster.Adoption{
		Name: name, Created: h.Cluster.Created, Keys: keys, Replace: i.Replace,
		Write: func(ctx context.Context, partition string) (err error) {
			if end, err = i.fill(ctx, in, h, partition); err != nil {
				return err
			}
			return i.Mark(ctx, name)
		},
	})
	return info, h, end, err
}

// fill writes the logs and what is due.
func (i Import) fill(ctx context.Context, in *reader, h Header, partition string) (End, error) {
	logs := map[string]*tablelog.Restoring{}
	for _, l := range h.Logs {
		if !slices.Contains(kubestorage.Groups, l.Group) {
			return End{}, fmt.Errorf("%w: it has a log %q", ErrFormat, l.Group)
		}
		logs[l.Group] = tablelog.Restore(i.Maker.Registry.Store, kubestorage.Partition(partition, l.Group), l.Revision)
	}
	var puts []table.Op
	end, err := in.each(func(rec record) error {
		if rec.Due != nil {
			op, err := rec.Due.op()
			puts = append(puts, op)
			return err
		}
		if rec.Change == nil || logs[rec.Group] == nil {
			return fmt.Errorf("%w: it is of no kind that is known", ErrFormat)
		}
		s, err := rec.Change.saved()
		if err != nil {
			return err
		}
		if s.Object && i.Progress != nil {
			i.Progress(1)
		}
		return logs[rec.Group].Add(ctx, s)
	})
	if err != nil {
		return end, err
	}
	for _, l := range h.Logs {
		if err := logs[l.Group].Close(ctx); err != nil {
			return end, fmt.Errorf("log %q: %w", l.Group, err)
		}
	}
	return end, i.putDue(ctx, kubestorage.Partition(partition, cursorsGroup), puts)
}

func (d *due) op() (table.Op, error) {
	if !strings.HasPrefix(d.Key, dueFrom) {
		return table.Op{}, fmt.Errorf("%w: %q is no row of what is due", ErrFormat, d.Key)
	}
	return table.Op{Kind: table.Put, Key: d.Key, Value: d.Value}, nil
}

func (i Import) putDue(ctx context.Context, partition string, puts []table.Op) error {
	for len(puts) > 0 {
		n := min(len(puts), table.MaxOps)
		if err := errors.Join(ctx.Err(), table.Repeat(ctx, i.Maker.Registry.Store, partition, puts[:n])); err != nil {
			return fmt.Errorf("writing what is due: %w", err)
		}
		puts = puts[n:]
	}
	return nil
}
