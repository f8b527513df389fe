package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/term"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// storeTool is what the store commands share.
type storeTool struct {
	storeOptions
	output string
}

func storeCommand() *cobra.Command {
	t := &storeTool{storeOptions: storeOptions{existing: true}}
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Check, back up, restore and measure a store",
		Long: `Work on the rows of a store itself: verify them, write a cluster to a file and make it again from
one, and see what it holds and costs. The embedded store can be open in one process only: stop the server first.

` + storeHelp,
	}
	f := cmd.PersistentFlags()
	t.flags(cmd, f)
	f.StringVarP(&t.output, "output", "o", "", "output format: json")
	complete(cmd, "output", "json")
	cmd.AddCommand(t.checkCommand(), t.exportCommand(), t.importCommand(), t.statsCommand())
	return cmd
}

// work opens the store, works on it, and closes it.
func (t *storeTool) work(ctx context.Context, do func(localhost.Store) error) error {
	if t.output != "" && t.output != "json" {
		return errOutput
	}
	if err := t.valid(); err != nil {
		return err
	}
	store, err := t.open(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(do(store), store.Close())
	if interrupted(ctx, err) {
		return errors.New("stopped before the end")
	}
	return err
}

// print prints a value as JSON, or a text.
func (t *storeTool) print(w io.Writer, v any, text string) error {
	if t.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	_, err := fmt.Fprint(w, text)
	return err
}

// chosen returns the cluster of a name.
func chosen(ctx context.Context, store table.Store, name string) (cluster.Info, error) {
	if err := cluster.ValidateName(name); err != nil {
		return cluster.Info{}, err
	}
	info, err := cluster.Registry{Store: store}.Get(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		return info, fmt.Errorf("%w\nzeroplane store stats shows the clusters of this store", err)
	}
	return info, err
}

// progressInterval is the pause between two words about progress.
const progressInterval = 200 * time.Millisecond

// progress counts on standard error while something takes long, if somebody looks at it.
type progress struct {
	n    atomic.Int64
	stop func()
}

// startProgress begins to count. What is, such as "rows read", is counted.
func startProgress(cmd *cobra.Command, what string) *progress {
	p := &progress{stop: func() {}}
	if !term.IsTerminal(os.Stderr) {
		return p
	}
	done, ended := make(chan struct{}), make(chan struct{})
	p.stop = func() { close(done); <-ended }
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(cmd.ErrOrStderr(), "\r%d %s ", p.n.Load(), what)
			case <-done:
				fmt.Fprint(cmd.ErrOrStderr(), "\r\x1b[K")
				return
			}
		}
	}()
	return p
}

func (p *progress) add(n int) { p.n.Add(int64(n)) }
