package webhook

import (
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
)

const (
	// perSecond requests are taken, burst of them at once, of all senders together.
	perSecond, burst = 200, 400
	// senderPerSecond and senderBurst are for each sender: one alone cannot use up what is for all.
	senderPerSecond, senderBurst = 50, 100
	// senderAtOnce requests of one sender are under way: each may hold a body of MaxBytes for as long as that may take.
	senderAtOnce = 16
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

// limit of one sender.
type limit struct {
	rate  *rate.Limiter
	under atomic.Int32
}

// enter reports whether a request of a sender is taken now; then leave must be called when it is answered. What its own
// limit refuses costs the others nothing.
func (l *limits) enter(sender string) (leave func(), ok bool) {
	own := l.of(sender)
	leave = func() { own.under.Add(-1) }
	if own.under.Add(1) > senderAtOnce || !own.rate.Allow() || !l.all.Allow() {
		leave()
		return nil, false
	}
	return leave, true
}

func (l *limits) of(sender string) *limit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.senders.Get(sender); ok {
		if own, ok := known.(*limit); ok {
			return own
		}
	}
	own := &limit{rate: rate.NewLimiter(senderPerSecond, senderBurst)}
	l.senders.Add(sender, own)
	return own
}
