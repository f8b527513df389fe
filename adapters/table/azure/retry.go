package azure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// maxAttempts of one request. With the waits below they end after some 20 seconds of refusals.
	maxAttempts = 10
	// firstWait is the longest wait before the second attempt, half of it the shortest; each later one is twice the
	// one before, up to maxWait. A partition's ceiling is per second, so waiting longer gains nothing.
	firstWait = 50 * time.Millisecond
	maxWait   = 5 * time.Second
	// attemptTimeout ends an attempt that the service does not: it gives up at 30 seconds.
	attemptTimeout = 35 * time.Second
)

// errNotSent is that a request was given up before it was sent.
var errNotSent = errors.New("not sent")

// retry calls send until it succeeds, fails in a way that again does not accept, or there is no time for another
// attempt.
func (s *Store) retry(ctx context.Context, what string, again func(error) bool, send func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w: %w", what, errNotSent, err)
		}
		err := s.attempt(ctx, send)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || !again(err):
			return fmt.Errorf("%s: %w", what, err)
		case attempt == maxAttempts:
			return fmt.Errorf("%s, %d times: %w", what, attempt, err)
		}
		s.counters.retries.Add(1)
		if !table.Wait(ctx, delay(attempt, err)) {
			return fmt.Errorf("%s: no time for another attempt: %w", what, err)
		}
	}
}

func (s *Store) attempt(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return send(ctx)
}

// delay returns how long to wait after an attempt: half of it is jitter, and what the service asks for comes on
// top.
func delay(attempt int, err error) time.Duration {
	most := min(maxWait, firstWait<<min(attempt-1, 10))
	d := most/2 + rand.N(most/2) //nolint:gosec // jitter
	if e, ok := errors.AsType[*Error](err); ok {
		d += e.after
	}
	return d
}

// untrusted reports whether a server's certificate was not accepted.
func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}
