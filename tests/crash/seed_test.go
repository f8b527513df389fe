package crash_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

const (
	normalRounds = 3
	longRounds   = 50
)

// randomness of a test: its seed is printed, and can be given.
func randomness(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ZEROPLANE_CRASH_SEED"); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ZEROPLANE_CRASH_SEED: %v", err)
		}
		seed = given
	}
	fmt.Printf("%s: ZEROPLANE_CRASH_SEED=%d\n", t.Name(), seed)
	t.Logf("ZEROPLANE_CRASH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// moment draws a duration between two bounds.
func moment(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

func rounds(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("ZEROPLANE_CRASH_ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("ZEROPLANE_CRASH_ROUNDS: %v", err)
		}
		return n
	}
	if os.Getenv("ZEROPLANE_LONG") != "" {
		return longRounds
	}
	return normalRounds
}
