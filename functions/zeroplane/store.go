package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/zeroplane/startup/ahead"
)

// storeOptions say which store is meant.
type storeOptions struct {
	kind string
	// data directory of the embedded store.
	data string
	// endpoint and table of Azure Table Storage. Credentials are the environment's.
	endpoint, table string
	// existing is set by commands that make no store.
	existing bool
	// client sends the requests to the table, nil for the SDK's own.
	client *http.Client
}

// storeHelp is what the help of a command with these flags says of the credentials.
const storeHelp = `The store is a directory of this machine (--store embedded), or a table of an Azure storage account that
several instances may share (--store azure). The account is named by AZURE_STORAGE_CONNECTION_STRING, or by
--azure-endpoint or AZURE_STORAGE_ACCOUNT together with AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or an
identity of Microsoft Entra (environment, workload identity, managed identity, Azure CLI).`

// flags adds the flags to a command.
func (o *storeOptions) flags(cmd *cobra.Command, f *pflag.FlagSet) {
	f.StringVar(&o.kind, "store", ahead.EmbeddedStore, "where everything is kept: "+ahead.EmbeddedStore+" or "+ahead.AzureStore)
	f.StringVar(&o.data, "data", ahead.DefaultData(), "data directory (also $"+ahead.DataEnv+")")
	f.StringVar(&o.endpoint, "azure-endpoint", "", "URL of the table service, where it does not follow from the account")
	f.StringVar(&o.table, "azure-table", azure.DefaultTable, "name of the table, made if missing")
	complete(cmd, "store", ahead.EmbeddedStore, ahead.AzureStore)
}

// valid refuses what names no store.
func (o *storeOptions) valid() error {
	switch {
	case o.kind != ahead.EmbeddedStore && o.kind != ahead.AzureStore:
		return fmt.Errorf("--store must be %s or %s, not %q", ahead.EmbeddedStore, ahead.AzureStore, o.kind)
	case o.data == "":
		return errors.New("--data must not be empty")
	case o.kind == ahead.EmbeddedStore && o.endpoint != "":
		return fmt.Errorf("--azure-endpoint needs --store %s", ahead.AzureStore)
	}
	return nil
}

// open opens the store. It fails with pebble.ErrLocked, or with table.ErrCorrupt.
func (o *storeOptions) open(ctx context.Context) (localhost.Store, error) {
	if o.kind == ahead.EmbeddedStore {
		return o.openEmbedded()
	}
	options := azure.OptionsFromEnv()
	options.Table, options.Existing = o.table, o.existing
	if o.endpoint != "" {
		options.Endpoint = o.endpoint
	}
	if o.client != nil {
		options.Transport = o.client
	}
	s, err := azure.Open(ctx, options)
	if errors.Is(err, azure.ErrNoTable) {
		err = fmt.Errorf("%w. Name the table of a server with --azure-table", err)
	}
	if err != nil {
		return localhost.Store{}, fmt.Errorf("opening the store in Azure: %w", err)
	}
	return localhost.Store{Store: s, Close: func() error { return nil }, Shared: true}, nil
}

func (o *storeOptions) openEmbedded() (localhost.Store, error) {
	dir := ahead.StoreDir(o.data)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && o.existing {
		return localhost.Store{}, fmt.Errorf("there is no store in %s. Name the data directory of a server with --data", o.data)
	}
	db, err := ahead.Open(dir)
	if err != nil {
		return localhost.Store{}, o.advise(err)
	}
	return localhost.Store{Store: db, Close: db.Close}, nil
}

// advise adds to an error of the embedded store what to do about it.
func (o *storeOptions) advise(err error) error {
	switch {
	case o.kind != ahead.EmbeddedStore:
		return err
	case errors.Is(err, pebble.ErrLocked):
		return fmt.Errorf("%w\nAnother zeroplane works on %s. Stop it, or choose another directory with --data", err, o.data)
	case errors.Is(err, table.ErrCorrupt):
		return fmt.Errorf("%w\nNo row was changed. Restore the directory %s from a backup, or start anew with another --data", err, o.data)
	}
	return err
}
