package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// instantTries is how often the heads of the logs are read to find them twice the same.
const instantTries = 16

// ErrTooOld is returned for a time from which a log is not kept any more, or that no log can tell.
var ErrTooOld = errors.New("the cluster as it was then cannot be had")

// Export is a cluster to be written to a file.
type Export struct {
	Store   table.Store
	Cluster cluster.Info
	// At is the time of which the cluster is wanted, zero for now.
	At time.Time
	// Now is written into the file.
	Now time.Time
	// Progress, if set, is told the number of objects so far.
	Progress func(objects int)
}

// Write writes the cluster. Others may write to it meanwhile. It fails with ErrTooOld, or with
// tablelog.ErrCompacted when it takes longer than changes are kept.
func (e Export) Write(ctx context.Context, to io.Writer) (Header, End, error) {
	h := Header{Version: Version, Made: e.Now.UTC(), Cluster: e.Cluster}
	// What is due is read first: a row may then name a change that the logs have, and none that they lack.
	due, err := e.due(ctx)
	if err != nil {
		return h, End{}, err
	}
	if e.At.IsZero() {
		h.Logs, h.OneInstant, err = e.heads(ctx)
	} else {
		at := e.At.UTC()
		h.At = &at
		h.Logs, err = e.revisionsAt(ctx)
	}
	if err != nil {
		return h, End{}, err
	}
	w := newWriter(to)
	if err := w.write(h); err != nil {
		return h, End{}, err
	}
	end := End{Objects: map[string]int{}, Due: len(due)}
	for _, d := range due {
		if err := w.write(record{Due: &d}); err != nil {
			return h, end, err
		}
	}
	for _, l := range h.Logs {
		if err := e.writeLog(ctx, w, l, &end); err != nil {
			return h, end, err
		}
	}
	if now, err := (cluster.Registry{Store: e.Store}).Get(ctx, e.Cluster.Name); err != nil || now.ID != e.Cluster.ID {
		return h, end, errors.Join(fmt.Errorf("cluster %q was deleted or replaced meanwhile", e.Cluster.Name), err)
	}
	end.Records = w.records
	if err := w.write(record{End: &end}); err != nil {
		return h, end, err
	}
	return h, end, w.close()
}

func (e Export) writeLog(ctx context.Context, w *writer, l Log, end *End) error {
	return e.log(l.Group).Save(ctx, l.Revision, func(s tablelog.Saved) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.Object {
			end.Objects[l.Group]++
			if e.Progress != nil {
				e.Progress(1)
			}
		}
		return w.write(record{Group: l.Group, Change: changeOf(s)})
	})
}

func (e Export) log(group string) *tablelog.Log {
	return tablelog.New(e.Store, kubestorage.Partition(e.Cluster.Partition(), group), tablelog.Options{})
}

// heads returns the newest revision of each log, and whether the logs had them at one instant: read twice
// and found the same, they did between the readings.
func (e Export) heads(ctx context.Context) ([]Log, bool, error) {
	var last []Log
	for range instantTries {
		logs := make([]Log, 0, len(kubestorage.Groups))
		for _, group := range kubestorage.Groups {
			p, err := e.log(group).Head(ctx)
			if err != nil {
				return nil, false, err
			}
			logs = append(logs, Log{Group: group, Revision: p.Rev, Written: p.Written})
		}
		if slices.Equal(last, logs) {
			return logs, true, nil
		}
		last = logs
	}
	return last, false, nil
}

// revisionsAt returns the revision that each log had at the time, by the writers' clocks.
func (e Export) revisionsAt(ctx context.Context) ([]Log, error) {
	if e.At.Before(e.Cluster.Created) {
		return nil, fmt.Errorf("%w: the cluster was created at %s", ErrTooOld, e.Cluster.Created.UTC().Format(time.RFC3339))
	}
	if e.At.After(e.Now) {
		return nil, fmt.Errorf("%w: it is in the future", ErrTooOld)
	}
	var logs []Log
	var oldest time.Time
	var untimed []string
	for _, group := range kubestorage.Groups {
		p, err := e.log(group).RevisionAt(ctx, e.At)
		if old, ok := errors.AsType[*tablelog.TooOldError](err); ok {
			if old.Oldest.IsZero() {
				untimed = append(untimed, group)
			} else if old.Oldest.After(oldest) {
				oldest = old.Oldest
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		logs = append(logs, Log{Group: group, Revision: p.Rev, Written: p.Written})
	}
	switch {
	case len(untimed) > 0:
		return nil, fmt.Errorf("%w: the newest changes of %v were written by a version of zeroplane that did not note the time", ErrTooOld, untimed)
	case !oldest.IsZero():
		return nil, fmt.Errorf("%w: the oldest time that can be had is %s", ErrTooOld, ceil(oldest).Format(time.RFC3339))
	}
	return logs, nil
}

// ceil rounds up to a second, which is what an operator types.
func ceil(t time.Time) time.Time {
	if whole := t.UTC().Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second)
	}
	return t.UTC()
}

// Rows of the partition of cursors that are exported: what is due. Readers without cursors begin again.
const (
	cursorsGroup = "cursors"
	dueFrom      = "d-"
	dueTo        = "d."
)

func (e Export) due(ctx context.Context) ([]due, error) {
	var out []due
	partition := kubestorage.Partition(e.Cluster.Partition(), cursorsGroup)
	err := table.All(ctx, e.Store, partition, table.Query{From: dueFrom, To: dueTo}, func(row table.Row) bool {
		out = append(out, due{Key: row.Key, Value: row.Value})
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is due: %w", err)
	}
	return out, nil
}
