package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/term"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/snapshot"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// exporting is what the export command is asked for.
type exporting struct {
	*storeTool
	cluster, at, file string
}

// snapshotSummary is what the commands print of a snapshot.
type snapshotSummary struct {
	File    string          `json:"file"`
	Header  snapshot.Header `json:"header"`
	Objects int             `json:"objects"`
	End     snapshot.End    `json:"end"`
}

func (t *storeTool) exportCommand() *cobra.Command {
	e := &exporting{storeTool: t}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write a cluster to a file",
		Long: `Write one cluster to a file: every object with its uid and resourceVersion, its keys (sealed), and what
its functions have put off. Each log of the cluster is exact at the revision that is printed. Secrets are in
the file as they are in the store: only its owner may read it.

--at writes the cluster as it was at a time, by the clocks of those who wrote to it. Changes are kept for ten
minutes at least, and longer in clusters that change little; what is older is refused, with the oldest time.`,
		Example: `  zeroplane store export                               # a file named after the cluster and the time
  zeroplane store export --cluster dev -f dev.snapshot
  zeroplane store export --at 10m                      # as it was ten minutes ago
  zeroplane store export -f - | age -r KEY > backup`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.work(cmd.Context(), func(store localhost.Store) error { return e.run(cmd, store, time.Now()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.cluster, "cluster", cluster.Default, "name of the cluster")
	f.StringVar(&e.at, "at", "", "time to go back to: 2026-03-01T12:00:00Z, or how long ago, such as 10m")
	f.StringVarP(&e.file, "file", "f", "", "file to write; - for standard output (default CLUSTER-TIME.snapshot)")
	return cmd
}

// timeOf returns the time that --at names, zero for none.
func timeOf(at string, now time.Time) (time.Time, error) {
	if at == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		return t, nil
	}
	ago, err := time.ParseDuration(strings.TrimSpace(strings.TrimSuffix(at, "ago")))
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("--at must be a time such as %s, or how long ago, such as 10m", now.UTC().Format(time.RFC3339))
	}
	return now.Add(-ago), nil
}

func (e *exporting) run(cmd *cobra.Command, store localhost.Store, now time.Time) error {
	at, err := timeOf(e.at, now)
	if err != nil {
		return err
	}
	info, err := chosen(cmd.Context(), store, e.cluster)
	if err != nil {
		return err
	}
	if e.file == "" {
		e.file = info.Name + "-" + now.UTC().Format("20060102T150405Z") + ".snapshot"
	}
	s := snapshotSummary{File: e.file}
	p := startProgress(cmd, "objects written")
	x := snapshot.Export{Store: store, Cluster: info, At: at, Now: now, Progress: p.add}
	write := func(w io.Writer) (err error) {
		s.Header, s.End, err = x.Write(cmd.Context(), w)
		return err
	}
	err = e.write(cmd, write)
	p.stop()
	if errors.Is(err, tablelog.ErrCompacted) {
		err = fmt.Errorf("%w\nThe changes meanwhile were more than are kept. Nothing was written; try again", err)
	}
	if err != nil {
		return err
	}
	return e.printSummary(cmd, s, "exported to")
}

func (e *exporting) write(cmd *cobra.Command, write func(io.Writer) error) error {
	if e.file != "-" {
		return localhost.StreamSecret(e.file, write)
	}
	if term.IsTerminal(os.Stdout) {
		return errors.New("a snapshot is nothing to read on a terminal: name a file with -f, or redirect the output")
	}
	return write(cmd.OutOrStdout())
}

// printSummary prints what a snapshot is of, on standard error if the snapshot itself is on standard output.
func (t *storeTool) printSummary(cmd *cobra.Command, s snapshotSummary, what string) error {
	out := cmd.OutOrStdout()
	if s.File == "-" && what == "exported to" {
		out = cmd.ErrOrStderr()
	}
	s.Header.Cluster.Sealed = nil
	var text strings.Builder
	for _, n := range s.End.Objects {
		s.Objects += n
	}
	fmt.Fprintf(&text, "cluster %q with %d objects %s %s\n", s.Header.Cluster.Name, s.Objects, what, s.File)
	if s.Header.At != nil {
		fmt.Fprintf(&text, "as it was at %s\n", s.Header.At.Format(time.RFC3339))
	}
	fmt.Fprint(&text, "revisions:")
	for _, l := range s.Header.Logs {
		fmt.Fprintf(&text, " %s=%d", l.Group, l.Revision)
	}
	fmt.Fprintln(&text)
	if s.Header.At == nil && !s.Header.OneInstant {
		fmt.Fprintln(&text, "The logs moved while they were looked at: each is exact, and one may be a moment ahead of another.")
	}
	return t.print(out, s, text.String())
}

// interrupted reports whether a command was told to stop.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}
