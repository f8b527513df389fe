// Package crash_test kills `zeroplane serve` with SIGKILL in the middle of its work, starts it again on the same
// data, and checks that everything ends as if nothing had happened; and that clean stops, second processes and
// damaged files are met as the documentation says.
//
//	ZEROPLANE_CRASH_SEED=N   draws the moments of the kills as the run that printed N did
//	ZEROPLANE_CRASH_ROUNDS=N kills that often in the middle of a rollout
//	ZEROPLANE_LONG=1         is 50 rounds
package crash_test
