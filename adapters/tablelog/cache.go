package tablelog

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// entryOverhead is what an entry takes beside its value, and decodedFactor what a value and its decoded
// forms take for each byte of the value: estimates, from measuring (tests/bench).
const (
	entryOverhead = 512
	decodedFactor = 3
)

// Cache bounds the memory that the states of logs take together, and counts how they are read
// (docs/decisions.md, D5). A state that goes is loaded again when somebody asks for it; one that is
// watched stays. The nil Cache has no bound and counts nothing.
type Cache struct {
	limit int64

	hits, tails, loads, evictions atomic.Uint64

	mu   sync.Mutex
	logs map[*Log]int64
	size int64
}

// NewCache returns a cache of at most so many bytes, as estimated; 0 for no bound.
func NewCache(limit int64) *Cache { return &Cache{limit: limit, logs: map[*Log]int64{}} }

// CacheStats says how logs were read since the cache was made.
type CacheStats struct {
	// Hits are reads from memory without a look at the table, Tails reads of the rows after a state in
	// memory, Loads reads of all rows, and Evictions the states dropped to make room.
	Hits, Tails, Loads, Evictions uint64
	// Bytes in memory, as estimated, and the number of Logs they are of.
	Bytes int64
	Logs  int
}

// Stats of the cache.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{
		Hits: c.hits.Load(), Tails: c.tails.Load(), Loads: c.loads.Load(), Evictions: c.evictions.Load(),
		Bytes: c.size, Logs: len(c.logs),
	}
}

func (c *Cache) hit(l *Log) {
	if c != nil {
		c.hits.Add(1)
		l.used.Store(ticks.Load())
	}
}

func (c *Cache) tailed(l *Log) {
	if c != nil {
		c.tails.Add(1)
		l.used.Store(ticks.Load())
	}
}

func (c *Cache) loaded(l *Log) {
	if c != nil {
		c.loads.Add(1)
		l.used.Store(ticks.Load())
	}
}

// resized notes the size of a log's state and makes room. The caller leads the log.
func (c *Cache) resized(l *Log, size int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.size += size - c.logs[l]
	c.logs[l] = size
	over := c.limit > 0 && c.size > c.limit
	c.mu.Unlock()
	if over {
		c.makeRoom(l)
	}
}

// forget notes that a log's state is not in memory.
func (c *Cache) forget(l *Log) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size -= c.logs[l]
	delete(c.logs, l)
}

// makeRoom drops the states that were not used for longest, but not that of the log that grew.
func (c *Cache) makeRoom(grown *Log) {
	c.mu.Lock()
	others := make([]*Log, 0, len(c.logs))
	for l := range c.logs {
		if l != grown {
			others = append(others, l)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(others, func(a, b *Log) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	for _, l := range others {
		c.mu.Lock()
		over := c.size > c.limit
		c.mu.Unlock()
		if !over {
			return
		}
		if l.evict() {
			c.evictions.Add(1)
		}
	}
}

// evict drops the state, unless the log is in use or watched. It does not wait.
func (l *Log) evict() bool {
	select {
	case l.lead <- struct{}{}:
		defer l.release()
	default:
		return false
	}
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	if len(l.subs) > 0 || l.state.Load() == nil {
		return false
	}
	l.state.Store(nil)
	l.forgetRecent()
	l.forgetPast()
	l.opts.Cache.forget(l)
	return true
}

// Close frees what the log has in the cache. The log must not be used any more.
func (l *Log) Close() { l.opts.Cache.forget(l) }

func (e *Entry) size() int64 {
	n := entryOverhead + len(e.Key) + decodedFactor*len(e.Value)
	for _, o := range e.Owners {
		n += len(o)
	}
	return int64(n)
}
