// Package ahead opens a server's embedded store while the packages of Kubernetes, on which it does not depend,
// are still being initialised: that keeps one processor busy, and opening waits for the disk besides.
//
// It opens only what serve was told to serve and what exists. Whatever is unclear is left to serve itself, which
// opens the store then, and says what is wrong.
package ahead

import (
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/zeroplane/zeroplane/adapters/table/pebble"
)

// DataEnv names the environment variable with the data directory.
const DataEnv = "ZEROPLANE_DATA"

// The stores that there are.
const (
	EmbeddedStore = "embedded"
	AzureStore    = "azure"
)

// DefaultData is the data directory if none is named.
func DefaultData() string {
	if dir := os.Getenv(DataEnv); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".zeroplane"
	}
	return filepath.Join(home, ".zeroplane")
}

// StoreDir is the directory of the embedded store in a data directory.
func StoreDir(data string) string { return filepath.Join(data, "store") }

// opening is a store that is being opened.
type opening struct {
	dir   string
	ready chan struct{}
	store *pebble.Store
	err   error
}

var started = start(os.Args)

func start(args []string) *opening {
	if len(args) < 2 || args[1] != "serve" {
		return nil
	}
	dir := dirOf(args[2:])
	if info, err := os.Stat(dir); dir == "" || err != nil || !info.IsDir() {
		return nil
	}
	o := &opening{dir: dir, ready: make(chan struct{})}
	go func() {
		defer close(o.ready)
		o.store, o.err = pebble.Open(dir)
	}()
	return o
}

// dirOf returns the directory of the embedded store that serve's flags name, empty if they name none or are wrong.
func dirOf(args []string) string {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.ParseErrorsAllowlist.UnknownFlags = true
	data := f.String("data", DefaultData(), "")
	store := f.String("store", EmbeddedStore, "")
	help := f.BoolP("help", "h", false, "")
	if f.Parse(args) != nil || *help || *store != EmbeddedStore || *data == "" {
		return ""
	}
	dir, err := filepath.Abs(StoreDir(*data))
	if err != nil {
		return ""
	}
	return dir
}

// Open is pebble.Open: it returns the store of a directory, the one that was opened ahead if there is one.
func Open(dir string) (*pebble.Store, error) {
	o := started
	started = nil
	if o == nil {
		return pebble.Open(dir)
	}
	<-o.ready
	if absolute, err := filepath.Abs(dir); err == nil && absolute == o.dir {
		return o.store, o.err
	}
	if o.err == nil {
		if err := o.store.Close(); err != nil {
			return nil, err
		}
	}
	return pebble.Open(dir)
}
