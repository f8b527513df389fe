package local

import (
	"testing"
	"time"
)

// pollInterval is the pause between two looks.
const pollInterval = 50 * time.Millisecond

// Eventually looks until there is no reason to wait any more, and fails the test with the last reason when
// that takes longer than the limit.
func Eventually(t testing.TB, limit time.Duration, what string, reason func() error) {
	t.Helper()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	deadline := time.Now().Add(limit)
	for {
		err := reason()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("waited %v for %s: %v", limit, what, err)
		}
		<-ticker.C
	}
}

// Always looks again and again for a while, and fails the test when there is a reason to.
func Always(t testing.TB, d time.Duration, what string, reason func() error) {
	t.Helper()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-ticker.C {
		if err := reason(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// Pass lets time pass.
func Pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
