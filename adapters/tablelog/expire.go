package tablelog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// DeleteExpired deletes entries whose time was over at now, the earliest first and limit at most, and
// returns how many, and when to come again: the time at which the next entry expires, zero if none
// will. That time is past when the limit left some over.
func (l *Log) DeleteExpired(ctx context.Context, now time.Time, limit int) (deleted int, next time.Time, err error) {
	for range maxAttempts {
		s, err := l.Current(ctx)
		if err != nil {
			return deleted, time.Time{}, err
		}
		changes, next := s.expired(now, limit-deleted)
		if len(changes) == 0 {
			return deleted, next, nil
		}
		n, err := l.deleteAll(ctx, changes)
		deleted += n
		var conflict *ConflictError
		if err != nil && !errors.As(err, &conflict) {
			return deleted, next, fmt.Errorf("deleting what has expired: %w", err)
		}
	}
	return deleted, now, nil // others keep changing what we look at
}

// deleteAll commits deletions, a transaction at a time, and returns how many were.
func (l *Log) deleteAll(ctx context.Context, changes []Change) (int, error) {
	deleted := 0
	for _, piece := range Split(changes) {
		if _, _, err := l.Commit(ctx, piece, nil); err != nil {
			return deleted, err
		}
		deleted += len(piece)
	}
	return deleted, nil
}

// expired returns the deletions of at most limit entries whose time is over, and when the first of
// the others expires.
func (s *State) expired(now time.Time, limit int) (changes []Change, next time.Time) {
	s.expiring.Ascend(func(e *Entry) bool {
		if !e.Expired(now) || len(changes) >= limit {
			next = time.Unix(e.Expires, 0)
			return false
		}
		changes = append(changes, Change{Key: e.Key, Expect: e.Rev, Delete: true})
		return true
	})
	return changes, next
}
