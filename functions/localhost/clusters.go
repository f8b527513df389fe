package localhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
)

// clusters are the clusters that are awake. At most max of them rest in memory; one that works or
// serves a request stays.
type clusters struct {
	host *Host
	max  int

	mu     sync.Mutex
	byName map[string]*slot
	timers map[string]*time.Timer
	closed bool
}

// slot is a cluster that is awake or being woken.
type slot struct {
	ready chan struct{}
	awake *awake
	err   error
}

// get returns a cluster, waking it if need be, and counts a request of it: the caller must leave().
func (c *clusters) get(ctx context.Context, name string) (*awake, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errStopping
	}
	s := c.byName[name]
	if s != nil && s.awake != nil {
		s.awake.enter()
		c.mu.Unlock()
		return s.awake, nil
	}
	if s == nil {
		s = &slot{ready: make(chan struct{})}
		c.byName[name] = s
		go c.fill(name, s)
	}
	c.mu.Unlock()
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	return c.get(ctx, name)
}

var errStopping = errors.New("the server is stopping")

// fill wakes a cluster.
func (c *clusters) fill(name string, s *slot) {
	ctx := context.Background()
	var a *awake
	info, err := c.host.maker.Registry.Get(ctx, name)
	if err == nil {
		a, err = c.host.wake(info)
	}
	c.mu.Lock()
	s.awake, s.err = a, err
	if err != nil {
		delete(c.byName, name)
	} else if t := c.timers[name]; t != nil {
		t.Stop()
		delete(c.timers, name)
	}
	c.mu.Unlock()
	close(s.ready)
	if err != nil {
		return
	}
	if err := a.functions.Wake(ctx); err != nil {
		slog.Error("cannot look for work left behind", "cluster", name, "error", err)
	}
}

// sleepExcess puts the least recently used of the resting clusters to sleep while there are more
// than are kept.
func (h *Host) sleepExcess() {
	for {
		a := h.clusters.takeExcess()
		if a == nil {
			return
		}
		a.sleep()
	}
}

func (c *clusters) takeExcess() *awake {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byName) <= c.max || c.closed {
		return nil
	}
	var oldest *awake
	var oldestUsed time.Time
	for name, s := range c.byName {
		if s.awake == nil || name == cluster.Default {
			continue
		}
		if resting, used := s.awake.resting(); resting && (oldest == nil || used.Before(oldestUsed)) {
			oldest, oldestUsed = s.awake, used
		}
	}
	if oldest != nil {
		delete(c.byName, oldest.info.Name)
		c.wakeAt(oldest.info.Name, oldest.next)
	}
	return oldest
}

// wakeAt wakes a sleeping cluster when something is due. The caller holds mu.
func (c *clusters) wakeAt(name string, at time.Time) {
	if at.IsZero() {
		return
	}
	if t := c.timers[name]; t != nil {
		t.Stop()
	}
	c.timers[name] = time.AfterFunc(max(time.Until(at), 0), func() { c.rouse(name) })
}

// rouse wakes a cluster for its own work.
func (c *clusters) rouse(name string) {
	a, err := c.get(context.Background(), name)
	if err != nil {
		if !errors.Is(err, errStopping) && !errors.Is(err, cluster.ErrNotFound) {
			slog.Error("cannot wake a cluster", "cluster", name, "error", err)
		}
		return
	}
	a.leave()
}

// rouseDirty wakes the clusters that had work left when the process ended.
func (c *clusters) rouseDirty(ctx context.Context) error {
	left, err := dirtyClusters(ctx, c.host.store)
	if err != nil {
		return err
	}
	for name, at := range left {
		if at.IsZero() || !at.After(time.Now()) {
			go c.rouse(name)
			continue
		}
		c.mu.Lock()
		c.wakeAt(name, at)
		c.mu.Unlock()
	}
	return nil
}

// forget puts a cluster to sleep because it is being deleted.
func (c *clusters) forget(name string) {
	c.mu.Lock()
	s := c.byName[name]
	delete(c.byName, name)
	if t := c.timers[name]; t != nil {
		t.Stop()
		delete(c.timers, name)
	}
	c.mu.Unlock()
	if s != nil {
		<-s.ready
		if s.awake != nil {
			s.awake.sleep()
		}
	}
}

// close puts all clusters to sleep.
func (c *clusters) close() {
	c.mu.Lock()
	c.closed = true
	all := c.byName
	c.byName = map[string]*slot{}
	for _, t := range c.timers {
		t.Stop()
	}
	c.mu.Unlock()
	for _, s := range all {
		<-s.ready
		if s.awake != nil {
			s.awake.sleep()
		}
	}
}

// count returns how many clusters are awake.
func (c *clusters) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byName)
}

func (c *clusters) String() string { return fmt.Sprintf("%d clusters awake", c.count()) }
