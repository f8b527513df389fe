package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/snapshot"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// importing is what the import command is asked for.
type importing struct {
	*storeTool
	cluster, file, sealKey string
	replace                bool
}

func (t *storeTool) importCommand() *cobra.Command {
	i := &importing{storeTool: t}
	cmd := &cobra.Command{
		Use:   "import -f FILE",
		Short: "Make a cluster from a file",
		Long: `Make the cluster that zeroplane store export has written: every object with its uid and resourceVersion.
Its logs go on from the revisions in the file; watches from before are told to list again. The file is verified
first. The cluster is there when it is complete: one that was interrupted has left nothing, and can be run again.

The cluster's keys are opened with the key that they were sealed with, which is this store's own ($` + localhost.SealKeyEnv + ` or
the file seal.key) unless --seal-key names another, and are sealed with this store's.

Under another name (--cluster) the cluster has another path, and ServiceAccount tokens issued under the former one are
not valid. Nothing of a cluster that is replaced may run: stop every server of a store that is shared.`,
		Example: `  zeroplane store import -f default-20260301T120000Z.snapshot --data ./restored
  zeroplane store import -f dev.snapshot --cluster dev-copy
  zeroplane store import -f dev.snapshot --replace`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return i.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVarP(&i.file, "file", "f", "", "file to read; - for standard input")
	f.StringVar(&i.cluster, "cluster", "", "name of the cluster (default the name that it had)")
	f.BoolVar(&i.replace, "replace", false, "replace the cluster of that name, if there is one")
	f.StringVar(&i.sealKey, "seal-key", "", "file with the key that the cluster's keys were sealed with (default this store's)")
	return cmd
}

func (i *importing) run(cmd *cobra.Command) error {
	if i.file == "" {
		return errors.New("name the file with -f")
	}
	if i.cluster != "" {
		if err := cluster.ValidateName(i.cluster); err != nil {
			return err
		}
	}
	in := cmd.InOrStdin()
	if i.file != "-" {
		f, err := os.Open(i.file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		// Verified before a store is made or touched. Standard input cannot be read twice; what is wrong with
		// it is found on the way.
		if _, _, err := snapshot.Verify(f); err != nil {
			return fmt.Errorf("%s: %w", i.file, err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		in = f
	}
	i.existing = false
	return i.work(cmd.Context(), func(store localhost.Store) error { return i.read(cmd, store, in) })
}

func (i *importing) read(cmd *cobra.Command, store localhost.Store, in io.Reader) error {
	ctx := cmd.Context()
	target, source, err := i.seals(ctx, store)
	if err != nil {
		return err
	}
	maker := cluster.Maker{Registry: cluster.Registry{Store: store}, Seal: target, Shared: store.Shared}
	if !store.Shared { // nobody else makes or deletes a cluster
		if err := maker.Sweep(ctx, time.Now()); err != nil {
			return err
		}
	}
	p := startProgress(cmd, "objects written")
	x := snapshot.Import{
		Maker: maker, Open: source.Open, Name: i.cluster, Replace: i.replace, Progress: p.add,
		Mark: func(ctx context.Context, name string) error { return localhost.MarkDirty(ctx, store.Store, name) },
	}
	info, header, end, err := x.Read(ctx, in)
	p.stop()
	switch {
	case interrupted(ctx, err):
		return errors.New("stopped before the end: no cluster was made or replaced")
	case errors.Is(err, cluster.ErrUnseal):
		return fmt.Errorf("%w\nName the sealing key of the store that %s came from with --seal-key: its file seal.key, or a file with what was in $%s",
			err, i.file, localhost.SealKeyEnv)
	case errors.Is(err, cluster.ErrExists) && !i.replace:
		return fmt.Errorf("%w\nGive --replace to replace it, or another name with --cluster", err)
	case err != nil:
		return err
	}
	header.Cluster = info
	return i.printSummary(cmd, snapshotSummary{File: i.file, Header: header, End: end}, "imported from")
}

// seals returns the seal of the store, and the one that the snapshot's keys were sealed with.
func (i *importing) seals(ctx context.Context, store localhost.Store) (target, source cluster.Seal, err error) {
	clusters, err := cluster.Registry{Store: store}.List(ctx)
	if err != nil {
		return target, source, err
	}
	// A store without clusters gets a key of its own if it is not the one that opens the snapshot.
	key, err := localhost.SealKey(i.data, len(clusters) == 0 && i.sealKey != "")
	if errors.Is(err, fs.ErrNotExist) && len(clusters) == 0 {
		return target, source, fmt.Errorf("%w\nThis store has no sealing key yet, and the cluster's keys were sealed with that of the store it came from.\n"+
			"Copy its seal.key to %s, set $%s to it, or name it with --seal-key", err, i.data, localhost.SealKeyEnv)
	}
	if err != nil {
		return target, source, err
	}
	if target, err = cluster.NewSeal(key); err != nil || i.sealKey == "" {
		return target, target, err
	}
	source, err = readSeal(i.sealKey)
	return target, source, err
}

// readSeal reads a sealing key, as it is or in base64.
func readSeal(file string) (cluster.Seal, error) {
	content, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return cluster.Seal{}, err
	}
	if len(content) != cluster.SealBytes {
		decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content)))
		if err != nil || len(decoded) != cluster.SealBytes {
			return cluster.Seal{}, fmt.Errorf("%s must hold %d bytes, as they are or in base64", file, cluster.SealBytes)
		}
		content = decoded
	}
	return cluster.NewSeal(content)
}
