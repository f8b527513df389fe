package tablelog

import (
	"context"
	"log/slog"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// A log that is watched, and that others may write to, is looked at so often: soon again while changes of
// others come, and less often while none do. Own commits prove that nobody else wrote, and put a look off.
// While nothing changes that is 75 looks a minute for each log that is watched (docs/decisions.md, D11).
const (
	followSoon = 100 * time.Millisecond
	followLate = 800 * time.Millisecond
)

// follow starts the looks, unless they are under way. The caller holds watchMu.
func (l *Log) follow() {
	if l.opts.SoleWriter || l.following {
		return
	}
	l.following = true
	go l.followUntilUnwatched()
}

func (l *Log) followUntilUnwatched() {
	wait := followSoon
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		told := false
		select {
		case <-timer.C:
		case <-l.told:
			told = true
		}
		if !l.stillFollowing() {
			return
		}
		if proven := time.Since(time.Unix(0, l.proven.Load())); !told && proven < wait {
			timer.Reset(wait - proven)
			continue
		}
		if l.look() {
			wait = followSoon
		} else {
			wait = min(2*wait, followLate)
		}
		timer.Reset(wait)
	}
}

// LookNow has a log that is watched, and that others may write to, be looked at at once. It reports whether it is; it
// does not wait. Being told again before the look begins is as once.
func (l *Log) LookNow() bool {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	if !l.following || len(l.subs) == 0 {
		return false
	}
	select {
	case l.told <- struct{}{}:
	default:
	}
	return true
}

// stillFollowing reports whether anyone watches, and notes it if not.
func (l *Log) stillFollowing() bool {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	l.following = len(l.subs) > 0
	return l.following
}

// look makes the state current and reports whether others had written.
func (l *Log) look() bool {
	ctx, cancel := context.WithTimeout(table.WithOrigin(context.Background(), "watch"), commitTimeout)
	defer cancel()
	before := l.state.Load()
	after, err := l.Current(ctx)
	if err != nil {
		slog.Warn("cannot look for changes of other instances, will try again", "partition", l.partition, "error", err)
		return false
	}
	return before == nil || before.Rev != after.Rev
}
