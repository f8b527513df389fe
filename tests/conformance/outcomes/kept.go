package outcomes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Kept are the outcomes on one control plane, in a file that is written after each test: a run takes longer than people and
// jobs in CI can wait for, and goes on where it was left.
type Kept struct {
	path string
	mu   sync.Mutex
	all  map[string]Outcome
}

// Open reads what is kept in a file, which may not be there.
func Open(path string) (*Kept, error) {
	k := &Kept{path: path}
	return k, k.read()
}

func (k *Kept) read() error {
	k.all = map[string]Outcome{}
	content, err := os.ReadFile(k.path) // #nosec G304 -- under .cache
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading outcomes: %w", err)
	}
	if err := json.Unmarshal(content, &k.all); err != nil {
		return fmt.Errorf("reading outcomes in %s: %w", k.path, err)
	}
	return nil
}

// Get is the outcome of a test.
func (k *Kept) Get(name string) (Outcome, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.all[name]
	return o, ok
}

// Put keeps the outcome of a test, beside what other runs have kept meanwhile.
func (k *Kept) Put(name string, o Outcome) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(k.path), 0o750); err != nil {
		return fmt.Errorf("keeping outcomes: %w", err)
	}
	lock, err := os.OpenFile(k.path+".lock", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keeping outcomes: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("keeping outcomes: locking: %w", err)
	}
	if err := k.read(); err != nil {
		return err
	}
	k.all[name] = o
	return k.write()
}

func (k *Kept) write() error {
	content, err := json.MarshalIndent(k.all, "", " ")
	if err != nil {
		return err
	}
	// Whole or not at all: a run is ended at any time.
	if err := os.WriteFile(k.path+".new", content, 0o600); err != nil {
		return fmt.Errorf("keeping outcomes: %w", err)
	}
	if err := os.Rename(k.path+".new", k.path); err != nil {
		return fmt.Errorf("keeping outcomes: %w", err)
	}
	return nil
}
