package audit

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Invariants beside those of logs (tablelog.Verify).
const (
	Registry   = "registry"
	Partitions = "partitions"
	Cursors    = "cursors"
	Due        = "due"
	Letters    = "letters"
	Dirty      = "dirty"
	Host       = "host"
	Objects    = "objects"
	Metrics    = "metrics"
	Groups     = "groups"
)

// Finding is something in a store that its writers cannot have left there, or, as a note, something that
// they may have, and that an operator may want to know.
type Finding struct {
	Partition string `json:"partition"`
	// Row key, empty for all of the partition.
	Row       string `json:"row,omitempty"`
	Invariant string `json:"invariant"`
	Message   string `json:"message"`
	Note      bool   `json:"note,omitempty"`
}

func (f Finding) String() string {
	kind, row := "", f.Row
	if f.Note {
		kind = "note: "
	}
	if row == "" {
		row = "-"
	}
	return fmt.Sprintf("%s%s %s %s: %s", kind, f.Partition, row, f.Invariant, f.Message)
}

// Report is what an audit saw.
type Report struct {
	Clusters   int       `json:"clusters"`
	Partitions int       `json:"partitions"`
	Rows       int       `json:"rows"`
	Findings   []Finding `json:"findings"`
}

// Wrong reports whether there is a finding that is not a note.
func (r Report) Wrong() bool {
	for _, f := range r.Findings {
		if !f.Note {
			return true
		}
	}
	return false
}

// Audit of a store.
type Audit struct {
	Store table.Store
	// DueRow, DirtyRow, HostRow and MetricsRow return why a row cannot be one of those; their formats are their writers'.
	DueRow, DirtyRow, HostRow, MetricsRow func(table.Row) error
	// DirtyPartition holds the rows of clusters with work left, HostPartition what instances on one table share.
	DirtyPartition, HostPartition string
	// Progress, if set, is told the number of rows that were read.
	Progress func(rows int)

	report Report
}

// Run reads the whole store.
func (a *Audit) Run(ctx context.Context) (Report, error) {
	a.report = Report{Findings: []Finding{}}
	clusters, err := a.registry(ctx)
	if err != nil {
		return a.report, err
	}
	if err := errors.Join(a.dirty(ctx), a.host(ctx)); err != nil {
		return a.report, err
	}
	for _, info := range clusters {
		if err := a.cluster(ctx, info); err != nil {
			return a.report, err
		}
	}
	if err := a.strangers(ctx); err != nil {
		return a.report, err
	}
	sort.SliceStable(a.report.Findings, func(i, j int) bool {
		return a.report.Findings[i].Partition < a.report.Findings[j].Partition
	})
	return a.report, nil
}

func (a *Audit) find(partition, row, invariant, format string, args ...any) {
	a.report.Findings = append(a.report.Findings, Finding{Partition: partition, Row: row, Invariant: invariant, Message: fmt.Sprintf(format, args...)})
}

func (a *Audit) note(partition, row, invariant, format string, args ...any) {
	a.find(partition, row, invariant, format, args...)
	a.report.Findings[len(a.report.Findings)-1].Note = true
}

// cluster checks the partitions of a cluster. What is found in them is dropped if it was deleted meanwhile.
func (a *Audit) cluster(ctx context.Context, info cluster.Info) error {
	before := len(a.report.Findings)
	a.report.Clusters++
	cursors, err := a.cursors(ctx, info)
	if err == nil {
		err = a.letters(ctx, info)
	}
	if err != nil {
		return err
	}
	if err := a.metrics(ctx, info); err != nil {
		return err
	}
	heads := map[string]uint64{}
	for _, group := range kubestorage.Groups {
		partition := kubestorage.Partition(info.Partition(), group)
		v, err := tablelog.Verify(ctx, a.Store, partition, tablelog.VerifyOptions{
			Value: func(key string, value []byte) (string, string) { return checkObject(group, key, value) }, Progress: a.Progress,
		})
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		a.report.Partitions++
		a.report.Rows += v.Rows
		heads[group] = v.Rev
		for _, f := range v.Findings {
			a.find(partition, f.Row, f.Invariant, "%s", f.Message)
		}
		if group == kubestorage.ConfigGroup && v.Rows == 0 {
			a.find(partition, "", Partitions, "the log of cluster %q is missing: every cluster is born with namespaces in it", info.Name)
		}
	}
	a.compareCursors(info, cursors, heads)
	now, err := cluster.Registry{Store: a.Store}.Get(ctx, info.Name)
	switch {
	case errors.Is(err, cluster.ErrNotFound), err == nil && now.ID != info.ID:
		a.report.Findings = a.report.Findings[:before]
		return nil
	case errors.Is(err, table.ErrCorrupt):
		return nil // it could be read before: whoever damaged it is found the next time
	}
	return err
}
