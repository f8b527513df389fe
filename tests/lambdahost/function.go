package lambdahost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/zeroplane/zeroplane/tests/hosted"
)

// function has instances.
type function struct {
	host     *Host
	name     string
	settings *settings

	mu sync.Mutex
	// all are the instances whose process runs or is frozen, idle those that wait for a call, the last used last.
	all  map[*instance]bool
	idle []*instance
	// ended is set when no instance may be started any more.
	ended bool
}

func (f *function) newCall(payload []byte) *call {
	return &call{id: uuid.NewString(), payload: payload, done: make(chan struct{})}
}

// invoke gives a call to an instance and returns when it has ended, though the instance may not have asked for another.
func (f *function) invoke(c *call) error {
	in, err := f.take()
	if err != nil {
		return err
	}
	c.deadline = time.Now().Add(f.settings.timeout)
	select {
	case in.calls <- c:
	case <-in.gone:
		return fmt.Errorf("%w: %s exited", errFunction, in.name)
	}
	over := time.AfterFunc(f.settings.timeout, func() {
		c.finish(fmt.Errorf("%w: timed out after %s", errFunction, f.settings.timeout))
		in.kill()
	})
	defer over.Stop()
	<-c.done
	return c.err
}

// take returns an idle instance, or a new one.
func (f *function) take() (*instance, error) {
	f.mu.Lock()
	if n := len(f.idle); n > 0 {
		in := f.idle[n-1]
		f.idle = f.idle[:n-1]
		if in.idle != nil {
			in.idle.Stop()
		}
		f.mu.Unlock()
		return in, nil
	}
	ended := f.ended
	f.mu.Unlock()
	if ended {
		return nil, fmt.Errorf("%w: the host has ended", errFunction)
	}
	in, err := f.start()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[in] = true
	if f.ended {
		go in.kill()
	}
	return in, nil
}

// put has an instance wait for a call, and dies if none comes.
func (f *function) put(in *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = append(f.idle, in)
	if f.host.o.Idle > 0 {
		in.idle = time.AfterFunc(f.host.o.Idle, func() {
			if f.pick(in) {
				in.kill()
			}
		})
	}
}

// pick takes an instance from the idle ones, if it is one.
func (f *function) pick(in *instance) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, one := range f.idle {
		if one == in {
			f.idle = append(f.idle[:i:i], f.idle[i+1:]...)
			return true
		}
	}
	return false
}

// takeIdle takes all idle instances.
func (f *function) takeIdle() []*instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	idle := f.idle
	f.idle = nil
	return idle
}

// remove forgets an instance whose process has ended.
func (f *function) remove(in *instance) {
	f.pick(in)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, in)
}

// end kills all instances.
func (f *function) end() {
	f.mu.Lock()
	f.ended = true
	var all []*instance
	for in := range f.all {
		all = append(all, in)
	}
	f.mu.Unlock()
	for _, in := range all {
		in.kill()
	}
}

// unpack lays out what the function's package holds, as Lambda does.
func unpack(binary, dir string) (string, error) {
	root := filepath.Join(dir, "task")
	if err := os.MkdirAll(root, 0o750); err != nil {
		return "", err
	}
	return root, os.Symlink(binary, filepath.Join(root, "zeroplane"))
}

// Cluster is the default cluster of a stack of zeroplane.
type Cluster struct {
	*Host
	hosted.Admin
	stops hosted.Stops
}

// StartCluster starts zeroplane's stack on a new storage account, with so many nodes that cost nothing. Binary and Dir
// must be set.
func StartCluster(ctx context.Context, o Options, nodes int) (c *Cluster, err error) {
	c = &Cluster{}
	setup := hosted.Setup{Binary: o.Binary, Dir: o.Dir, Nodes: nodes, Through: o.Through}
	c.Host, c.Admin, c.stops, err = hosted.Start(ctx, setup, func(root string, account hosted.Account) (*Host, error) {
		o.Tables = account.Tables
		return Start(root, o)
	})
	return c, err
}

// Stop ends everything.
func (c *Cluster) Stop() { c.stops.Stop() }
