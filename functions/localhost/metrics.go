package localhost

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

var (
	cacheHits      = cacheDesc("hits_total", "Reads of a log that were answered from memory without a look at the table.")
	cacheTails     = cacheDesc("tail_reads_total", "Reads of the rows that came after what is in memory of a log.")
	cacheLoads     = cacheDesc("loads_total", "Reads of all rows of a log that was not in memory.")
	cacheEvictions = cacheDesc("evictions_total", "Logs that were dropped from memory to make room for others.")
	cacheBytes     = cacheDesc("bytes", "Memory that the logs in memory take, as estimated.")
	cacheLogs      = cacheDesc("logs", "Logs in memory.")
)

func cacheDesc(name, help string) *metrics.Desc {
	return metrics.NewDesc(metrics.BuildFQName("zeroplane", "cache", name), help, nil, nil, metrics.ALPHA, "")
}

// caches are those of the hosts that are open; their sum is among the metrics that every cluster serves.
type caches struct {
	metrics.BaseStableCollector
	register sync.Once

	mu  sync.Mutex
	all map[*tablelog.Cache]struct{}
}

var openCaches = &caches{all: map[*tablelog.Cache]struct{}{}}

func (c *caches) add(cache *tablelog.Cache) {
	c.register.Do(func() { legacyregistry.CustomMustRegister(c) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[cache] = struct{}{}
}

func (c *caches) remove(cache *tablelog.Cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, cache)
}

// DescribeWithStability implements metrics.StableCollector.
func (c *caches) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{cacheHits, cacheTails, cacheLoads, cacheEvictions, cacheBytes, cacheLogs} {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (c *caches) CollectWithStability(ch chan<- metrics.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum tablelog.CacheStats
	for cache := range c.all {
		s := cache.Stats()
		sum.Hits += s.Hits
		sum.Tails += s.Tails
		sum.Loads += s.Loads
		sum.Evictions += s.Evictions
		sum.Bytes += s.Bytes
		sum.Logs += s.Logs
	}
	for d, v := range map[*metrics.Desc]uint64{cacheHits: sum.Hits, cacheTails: sum.Tails, cacheLoads: sum.Loads, cacheEvictions: sum.Evictions} {
		ch <- metrics.NewLazyConstMetric(d, metrics.CounterValue, float64(v))
	}
	ch <- metrics.NewLazyConstMetric(cacheBytes, metrics.GaugeValue, float64(sum.Bytes))
	ch <- metrics.NewLazyConstMetric(cacheLogs, metrics.GaugeValue, float64(sum.Logs))
}
