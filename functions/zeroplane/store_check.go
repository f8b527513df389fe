package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroplane/zeroplane/adapters/audit"
	"github.com/zeroplane/zeroplane/functions/consumer"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/metrics"
)

func (t *storeTool) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Verify every row of the store",
		Long: `Read all rows and say where they are not what zeroplane can have written: one finding per line, with
partition, row, invariant (docs/row-schema.md) and what is wrong. What begins with "note:" is harmless. Nothing is
changed. The exit status is 1 if anything is wrong.`,
		Example: `  zeroplane store check
  zeroplane store check --data ./data -o json`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.work(cmd.Context(), func(store localhost.Store) error { return t.check(cmd, store) })
		},
	}
}

func (t *storeTool) check(cmd *cobra.Command, store localhost.Store) error {
	p := startProgress(cmd, "rows read")
	a := audit.Audit{
		Store: store.Store, DueRow: consumer.CheckDueRow, DirtyRow: localhost.CheckDirtyRow, DirtyPartition: localhost.DirtyPartition,
		HostRow: localhost.CheckHostRow, HostPartition: localhost.HostPartition, MetricsRow: metrics.CheckRow,
		Progress: p.add,
	}
	report, err := a.Run(cmd.Context())
	p.stop()
	if err != nil {
		return err
	}
	var text strings.Builder
	wrong := 0
	for _, f := range report.Findings {
		fmt.Fprintln(&text, f)
		if !f.Note {
			wrong++
		}
	}
	if wrong == 0 {
		fmt.Fprintf(&text, "all is well: %d rows of %d partitions, %d clusters\n", report.Rows, report.Partitions, report.Clusters)
	}
	if err := t.print(cmd.OutOrStdout(), report, text.String()); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d findings in %d rows; see docs/backup.md", wrong, report.Rows)
	}
	return nil
}
