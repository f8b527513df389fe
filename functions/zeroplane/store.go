package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/term"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// storeOptions say which store a command works on.
type storeOptions struct {
	kind, data string
	// make a store that is missing.
	make bool
}

// storeKind is a kind of store that the commands can open.
type storeKind struct {
	name string
	open func(context.Context, storeOptions) (table.Store, func() error, error)
	// sealKey returns the key that clusters' keys are sealed with; first allows it to be made.
	sealKey func(o storeOptions, first bool) ([]byte, error)
	// sole is set when nobody else can have an open store open.
	sole bool
}

// storeKinds are the kinds that --store names, the default one first.
var storeKinds = []storeKind{
	{
		name: "embedded", open: openEmbedded, sole: true,
		sealKey: func(o storeOptions, first bool) ([]byte, error) { return localhost.SealKey(o.data, first) },
	},
}

func storeKindNames() []string {
	names := make([]string, len(storeKinds))
	for i, k := range storeKinds {
		names[i] = k.name
	}
	return names
}

func (o storeOptions) find() (storeKind, error) {
	for _, k := range storeKinds {
		if k.name == o.kind {
			return k, nil
		}
	}
	return storeKind{}, fmt.Errorf("--store must be one of: %s", strings.Join(storeKindNames(), ", "))
}

// openStore opens the store that a command works on.
func openStore(ctx context.Context, o storeOptions) (store table.Store, closeStore func() error, err error) {
	kind, err := o.find()
	if err != nil {
		return nil, nil, err
	}
	return kind.open(ctx, o)
}

func openEmbedded(_ context.Context, o storeOptions) (table.Store, func() error, error) {
	if o.data == "" {
		return nil, nil, errors.New("--data must not be empty")
	}
	dir := filepath.Join(o.data, "store")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !o.make {
		return nil, nil, fmt.Errorf("there is no store in %s. Name the data directory of a server with --data", o.data)
	}
	db, err := pebble.Open(dir)
	switch {
	case errors.Is(err, pebble.ErrLocked):
		return nil, nil, fmt.Errorf("%w\nA zeroplane serves from %s, or another command works on it. Stop it first", err, o.data)
	case errors.Is(err, table.ErrCorrupt):
		return nil, nil, fmt.Errorf("%w\nNo row was changed. Restore the directory %s from a backup, or import a snapshot into another one", err, o.data)
	case err != nil:
		return nil, nil, err
	}
	return db, db.Close, nil
}

// storeTool is what the store commands share.
type storeTool struct {
	storeOptions
	output string
}

func storeCommand() *cobra.Command {
	t := &storeTool{}
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Check, back up, restore and measure a store",
		Long: `Work on the rows of a store itself: verify them, write a cluster to a file and make it again from
one, and see what it holds and costs. The embedded store can be open in one process only: stop the server first.`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&t.kind, "store", storeKinds[0].name, "kind of store: "+strings.Join(storeKindNames(), " or "))
	f.StringVar(&t.data, "data", defaultData(), "data directory of the embedded store (also $"+dataEnv+")")
	f.StringVarP(&t.output, "output", "o", "", "output format: json")
	complete(cmd, "output", "json")
	complete(cmd, "store", storeKindNames()...)
	cmd.AddCommand(t.checkCommand(), t.exportCommand(), t.importCommand(), t.statsCommand())
	return cmd
}

// work opens the store, works on it, and closes it.
func (t *storeTool) work(ctx context.Context, do func(table.Store) error) error {
	if t.output != "" && t.output != "json" {
		return errOutput
	}
	store, closeStore, err := openStore(ctx, t.storeOptions)
	if err != nil {
		return err
	}
	err = errors.Join(do(store), closeStore())
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
