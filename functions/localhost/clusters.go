package localhost

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
)

const (
	// roomTimeout is how long a cluster that wakes for its own work waits for another to fall asleep.
	roomTimeout = 5 * time.Second
	// drainTimeout is how long the requests to a cluster that is deleted may take to end.
	drainTimeout = 5 * time.Second
)

// clusters are the clusters that are awake. At most max of them rest in memory; one that works or
// serves a request stays.
type clusters struct {
	host *Host
	max  int

	// rousing is held by the one cluster that is being woken for its own work.
	rousing sync.Mutex

	mu     sync.Mutex
	byName map[string]*slot
	timers map[string]*time.Timer
	closed bool
	// room is closed, and made anew, whenever a cluster has fallen asleep.
	room chan struct{}
}

// slot is a cluster that is awake, is being woken, or is being put to sleep. It is one or the other
// until it is gone, so that no two instances of a cluster run at a time.
type slot struct {
	ready chan struct{}
	awake *awake
	err   error
	// gone is set when the cluster is being put to sleep, and closed when it is.
	gone chan struct{}
}

func newClusters(h *Host, most int) *clusters {
	return &clusters{host: h, max: max(most, 1), byName: map[string]*slot{}, timers: map[string]*time.Timer{}, room: make(chan struct{})}
}

// get returns a cluster, waking it if need be, and counts a request of it: the caller must leave().
func (c *clusters) get(ctx context.Context, name string) (*awake, error) {
	for {
		s, change, err := c.look(name)
		if err != nil {
			return nil, err
		}
		if change == nil {
			if err := c.host.verify(ctx, s.awake); err != nil {
				s.awake.leave()
				if !errors.Is(err, cluster.ErrNotFound) {
					return nil, err
				}
				c.forget(name)
				continue
			}
			return s.awake, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if change == s.ready && s.err != nil {
			return nil, s.err
		}
	}
}

// look returns the slot of a cluster, and nil when the cluster is awake, its request counted, or else
// what is closed when that changes.
func (c *clusters) look(name string) (s *slot, change chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errStopping
	}
	s = c.byName[name]
	if s == nil {
		s = &slot{ready: make(chan struct{})}
		c.byName[name] = s
		go c.fill(name, s)
	}
	switch {
	case s.gone != nil:
		return s, s.gone, nil
	case s.awake == nil:
		return s, s.ready, nil
	}
	s.awake.enter()
	return s, nil, nil
}

var errStopping = errors.New("the server is stopping")

// fill wakes a cluster.
func (c *clusters) fill(name string, s *slot) {
	ctx := context.Background()
	var a *awake
	info, err := c.host.find(ctx, name)
	if err == nil {
		a, err = c.host.wake(info)
	}
	c.mu.Lock()
	s.awake, s.err = a, err
	if err != nil {
		delete(c.byName, name)
	}
	c.stopTimer(name)
	c.mu.Unlock()
	close(s.ready)
	if err != nil || c.host.opts.Front.Freezes {
		return
	}
	if err := a.functions.Wake(ctx); err != nil {
		slog.Error("cannot look for work left behind", "cluster", name, "error", err)
	}
}

// trim drops from memory what the clusters that are awake can make again.
func (c *clusters) trim() {
	for _, a := range c.allAwake() {
		if err := a.server.Trim(a.requests); err != nil {
			continue // it is being put to sleep
		}
	}
}

// used is when a request to a cluster that is awake last began or ended.
func (c *clusters) used() time.Time {
	var last time.Time
	for _, a := range c.allAwake() {
		if _, used := a.resting(); used.After(last) {
			last = used
		}
	}
	return last
}

func (c *clusters) allAwake() []*awake {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*awake
	for _, s := range c.byName {
		if s.awake != nil {
			all = append(all, s.awake)
		}
	}
	return all
}

// sleepExcess puts the least recently used of the resting clusters to sleep while there are more
// than are kept. What they took is given back when it is quiet.
func (c *clusters) sleepExcess() {
	for {
		name, s := c.takeExcess()
		if s == nil {
			return
		}
		c.putToSleep(name, s)
		c.host.quieter()
	}
}

// excess reports whether more clusters are awake than are kept.
func (c *clusters) excess() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tooMany()
}

// tooMany is excess for who holds mu.
func (c *clusters) tooMany() bool {
	kept := 0
	for _, s := range c.byName {
		if s.gone == nil {
			kept++
		}
	}
	return kept > c.max && !c.closed
}

// takeExcess returns a cluster to put to sleep, if there is one too many. Nobody gets it any more.
func (c *clusters) takeExcess() (string, *slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tooMany() {
		return "", nil
	}
	var oldest *slot
	var oldestName string
	var oldestUsed time.Time
	for name, s := range c.byName {
		if s.awake == nil || s.gone != nil || name == cluster.Default {
			continue
		}
		if resting, used := s.awake.resting(); resting && (oldest == nil || used.Before(oldestUsed)) {
			oldest, oldestName, oldestUsed = s, name, used
		}
	}
	if oldest != nil {
		oldest.gone = make(chan struct{})
	}
	return oldestName, oldest
}

// putToSleep ends a cluster whose slot has gone set, and lets it be woken when something is due.
func (c *clusters) putToSleep(name string, s *slot) {
	next := s.awake.sleep()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, name)
	if !c.closed {
		c.wakeAt(name, next)
	}
	close(s.gone)
	close(c.room)
	c.room = make(chan struct{})
}

// wakeAt wakes a sleeping cluster when something is due. The caller holds mu.
func (c *clusters) wakeAt(name string, at time.Time) {
	c.stopTimer(name)
	if !at.IsZero() && !c.host.opts.Front.Freezes {
		c.timers[name] = time.AfterFunc(max(time.Until(at), 0), func() { c.rouse(name) })
	}
}

// stopTimer forgets when to wake a cluster. The caller holds mu.
func (c *clusters) stopTimer(name string) {
	if t := c.timers[name]; t != nil {
		t.Stop()
		delete(c.timers, name)
	}
}

// rouse wakes a cluster for its own work, one at a time: many may be due at once.
func (c *clusters) rouse(name string) {
	c.rousing.Lock()
	defer c.rousing.Unlock()
	c.waitForRoom(name)
	a, err := c.get(context.Background(), name)
	if err != nil {
		if !errors.Is(err, errStopping) && !errors.Is(err, cluster.ErrNotFound) {
			slog.Error("cannot wake a cluster", "cluster", name, "error", err)
		}
		return
	}
	a.leave()
}

// waitForRoom returns when a cluster is awake already, or another may be. Those that are held awake by
// requests make no room, so there is a bound to it.
func (c *clusters) waitForRoom(name string) {
	timeout := time.NewTimer(roomTimeout)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		room, free := c.room, c.closed || len(c.byName) < c.max || c.byName[name] != nil
		c.mu.Unlock()
		if free {
			return
		}
		select {
		case <-room:
		case <-timeout.C:
			return
		}
	}
}

// rouseDirty wakes the clusters that had work left when a process ended. Where instances share a store that
// may be work that another is at: twice the same changes nothing.
func (c *clusters) rouseDirty(ctx context.Context) error {
	marks, err := dirtyMarks(ctx, c.host.store)
	if err != nil || len(marks) == 0 {
		return err
	}
	infos, err := c.host.maker.Registry.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, i := range infos {
		known[i.Name] = true
	}
	first := map[string]time.Time{}
	for _, m := range marks {
		if !known[m.cluster] { // it was deleted
			if c.host.opts.Store.Shared {
				continue // or is about to be registered by another
			}
			if err := removeMark(ctx, c.host.store, m.key, m.etag); err != nil {
				return err
			}
			continue
		}
		if earlier, seen := first[m.cluster]; !seen || m.wake.Before(earlier) {
			first[m.cluster] = m.wake
		}
	}
	for name, at := range first {
		if at.IsZero() {
			at = time.Now()
		}
		c.mu.Lock()
		if c.byName[name] == nil {
			c.wakeAt(name, at)
		}
		c.mu.Unlock()
	}
	return nil
}

// forget ends a cluster that was taken from the registry, and the requests to it.
func (c *clusters) forget(name string) {
	for {
		c.mu.Lock()
		c.stopTimer(name)
		s := c.byName[name]
		if s == nil {
			c.mu.Unlock()
			return
		}
		gone := s.gone
		if s.awake != nil && gone == nil {
			s.gone = make(chan struct{})
			c.mu.Unlock()
			s.awake.drain(drainTimeout)
			c.putToSleep(name, s)
			continue
		}
		c.mu.Unlock()
		if gone != nil {
			<-gone
		} else {
			<-s.ready
		}
	}
}

// close puts all clusters to sleep.
func (c *clusters) close() {
	c.mu.Lock()
	c.closed = true
	all := maps.Clone(c.byName)
	for name := range c.timers {
		c.stopTimer(name)
	}
	c.mu.Unlock()
	var wg sync.WaitGroup
	for name, s := range all {
		wg.Go(func() {
			<-s.ready
			c.mu.Lock()
			gone := s.gone
			if gone == nil && s.awake != nil {
				s.gone = make(chan struct{})
			}
			c.mu.Unlock()
			switch {
			case gone != nil:
				<-gone
			case s.awake != nil:
				s.awake.drain(drainTimeout)
				c.putToSleep(name, s)
				if s.awake.dirty.marked() {
					c.host.leave(name)
				}
			}
		})
	}
	wg.Wait()
}

// ifAwake returns a cluster if it is in memory, and counts a request of it: the caller must leave().
func (c *clusters) ifAwake(name string) *awake {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byName[name]
	if c.closed || s == nil || s.awake == nil || s.gone != nil {
		return nil
	}
	s.awake.enter()
	return s.awake
}

// isAwake reports whether a cluster is in memory.
func (c *clusters) isAwake(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName[name] != nil
}
