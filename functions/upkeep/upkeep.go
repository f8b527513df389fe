// Package upkeep is the function that keeps logs short and removes what has expired: a change of any
// log in, row deletions out. It works in bounded steps, each a due row, and asks for none while
// nothing changes and nothing expires.
package upkeep

import (
	"context"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const (
	compactKind = "compact"
	expireKind  = "expire"
	// retention is how long changes are kept: longer than any request or commit can be under way, and
	// than watches take to resume. etcd's are kept for 5 to 10 minutes.
	retention = 10 * time.Minute
	// compactAfter changes a log is worth compacting.
	compactAfter = 2000
	// rowsAtOnce are examined or deleted in one step, and stepPause comes before the next.
	rowsAtOnce = 2000
	stepPause  = 200 * time.Millisecond
	// expiryBucket gathers what expires at about the same time.
	expiryBucket = 10 * time.Minute
)

// Function returns the function.
func Function() consumer.Function {
	f := &function{armed: map[string]bool{}}
	return consumer.Function{Name: "upkeep", Groups: kubestorage.Groups, Handle: f.handle}
}

// function remembers, as a hint, for which logs something was put off already.
type function struct {
	mu    sync.Mutex
	armed map[string]bool
}

func (f *function) handle(ctx context.Context, b *consumer.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range b.Due {
		var err error
		switch l.Kind {
		case compactKind:
			err = f.compact(ctx, b, l)
		case expireKind:
			err = f.expire(ctx, b, l.Subject.Name)
		}
		if err != nil {
			return err
		}
	}
	for _, group := range kubestorage.Groups {
		f.arm(b, group)
	}
	return nil
}

// arm puts off the compaction of a log that has grown, up to the revision that it has now, and the
// removal of Events.
func (f *function) arm(b *consumer.Batch, group string) {
	state := b.States[group]
	if grown := state.Rev - min(b.Logs[group].Compacted(), state.Rev); grown > compactAfter && !f.armed[compactKind+group] {
		f.armed[compactKind+group] = true
		b.Later(later(compactKind, group, state.Rev, b.Now.Add(retention)))
	}
	if group == kubestorage.EventsGroup && state.Len() > 0 && !f.armed[expireKind+group] {
		f.armed[expireKind+group] = true
		b.Later(later(expireKind, group, 0, b.Now.Add(expiryBucket)))
	}
}

// later names the log as its subject, and the revision, if any, as the subject's UID.
func later(kind, group string, rev uint64, at time.Time) plan.Later {
	l := plan.Later{At: at, Kind: kind, Subject: plan.Ref{Name: group}}
	if rev != 0 {
		l.Subject.UID = types.UID(strconv.FormatUint(rev, 10))
	}
	return l
}

// compact takes one step towards the revision that a due row names.
func (f *function) compact(ctx context.Context, b *consumer.Batch, l plan.Later) error {
	group := l.Subject.Name
	before, err := strconv.ParseUint(string(l.Subject.UID), 10, 64)
	if err != nil {
		return nil //nolint:nilerr // a row that nobody can have written asks for nothing
	}
	before = min(before, b.States[group].Rev) // a log that was restored may be shorter than it was
	floor, err := b.Logs[group].Compact(ctx, before, rowsAtOnce)
	if err != nil {
		return err
	}
	if floor < before {
		b.Later(later(compactKind, group, before, b.Now.Add(stepPause)))
		return nil
	}
	f.armed[compactKind+group] = false
	return nil
}

// expire removes Events whose time is over, and comes again when the next ones' is.
func (f *function) expire(ctx context.Context, b *consumer.Batch, group string) error {
	_, next, err := b.Logs[group].DeleteExpired(ctx, b.Now, rowsAtOnce)
	if err != nil {
		return err
	}
	if next.IsZero() {
		f.armed[expireKind+group] = false
		return nil
	}
	f.armed[expireKind+group] = true
	at := next.Add(expiryBucket).Truncate(expiryBucket)
	if !next.After(b.Now) {
		at = b.Now.Add(stepPause)
	}
	b.Later(later(expireKind, group, 0, at))
	return nil
}
