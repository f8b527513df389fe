package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroplane/zeroplane/adapters/census"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

func (t *storeTool) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Count rows, bytes, objects and changes, and what they would cost on Azure",
		Long: `Count what each cluster of the store holds. The cost is an estimate for Azure Tables: $0.00036 for 10,000
operations and $0.045 for a GB and month (locally redundant, 2026). It counts each change as an operation of
its own, at the rate since the oldest change that is kept with its time, for 730 hours; changes that share a
transaction cost less. Reads are not counted: about one for each request to a cluster that others write to.`,
		Example: `  zeroplane store stats
  zeroplane store stats -o json`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.work(cmd.Context(), func(store localhost.Store) error { return t.stats(cmd, store) })
		},
	}
}

func (t *storeTool) stats(cmd *cobra.Command, store localhost.Store) error {
	infos, err := cluster.Registry{Store: store}.List(cmd.Context())
	if err != nil {
		return err
	}
	p := startProgress(cmd, "rows read")
	all := []census.Cluster{}
	for _, info := range infos {
		var c census.Cluster
		if c, err = census.Take(cmd.Context(), store, info, time.Now(), p.add); err != nil {
			break
		}
		all = append(all, c)
	}
	p.stop()
	if err != nil {
		return err
	}
	var text strings.Builder
	for i, c := range all {
		if i > 0 {
			fmt.Fprintln(&text)
		}
		if err := describe(&text, c); err != nil {
			return err
		}
	}
	return t.print(cmd.OutOrStdout(), map[string]any{"clusters": all}, text.String())
}

// describe writes a cluster as tables.
func describe(to io.Writer, c census.Cluster) error {
	fmt.Fprintf(to, "Cluster %s: %d objects, %d rows, %s, %.0f changes/h in %.0f transactions\n", c.Name, c.Objects, c.Rows, size(c.Bytes), c.ChangesPerHour, c.TransactionsPerHour)
	fmt.Fprintf(to, "On Azure Tables, for a month: $%.4f for the transactions that change something, $%.4f for storage\n\n", c.OperationsDollars, c.StorageDollars)
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "LOG\tROWS\tSIZE\tREVISION\tKEPT FROM\tOBJECTS\tCHANGES/H\tTRANSACTIONS/H\tOVER")
	for _, l := range c.Logs {
		over := "-"
		if l.SpanHours > 0 {
			over = time.Duration(l.SpanHours * float64(time.Hour)).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%.0f\t%.0f\t%s\n", l.Group, l.Rows, size(l.Bytes), l.Revision, l.Floor, l.Objects, l.ChangesPerHour, l.TransactionsPerHour, over)
	}
	for _, p := range c.Others {
		_, group, _ := strings.Cut(p.Name, "|")
		fmt.Fprintf(w, "(%s)\t%d\t%s\t-\t-\t-\t-\t-\t-\n", group, p.Rows, size(p.Bytes))
	}
	fmt.Fprintln(w, "\nKIND\tOBJECTS")
	for _, kind := range slices.Sorted(maps.Keys(c.Kinds)) {
		fmt.Fprintf(w, "%s\t%d\n", kind, c.Kinds[kind])
	}
	return w.Flush()
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	value, prefix := float64(n), 0
	for ; value >= unit && prefix < 4; prefix++ {
		value /= unit
	}
	if prefix == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[prefix-1])
}
