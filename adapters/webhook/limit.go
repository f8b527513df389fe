package webhook

import (
	"sync"

	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
)

const (
	// perSecond requests are taken, burst of them at once, of all senders together.
	perSecond, burst = 200, 400
	// senderPerSecond and senderBurst are for each sender: one alone cannot use up what is for all.
	senderPerSecond, senderBurst = 50, 100
	// maxSenders are told apart; of more, the one that has not come for longest begins anew.
	maxSenders = 512
)

// limits are how often requests are taken.
type limits struct {
	all *rate.Limiter

	mu      sync.Mutex
	senders *lru.Cache
}

func newLimits() *limits {
	return &limits{all: rate.NewLimiter(perSecond, burst), senders: lru.New(maxSenders)}
}

// allow reports whether a request of a sender is taken now. What its own limit refuses costs the others nothing.
func (l *limits) allow(sender string) bool { return l.of(sender).Allow() && l.all.Allow() }

func (l *limits) of(sender string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.senders.Get(sender); ok {
		if limiter, ok := known.(*rate.Limiter); ok {
			return limiter
		}
	}
	limiter := rate.NewLimiter(senderPerSecond, senderBurst)
	l.senders.Add(sender, limiter)
	return limiter
}
