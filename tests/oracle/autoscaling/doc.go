// Package autoscaling holds the tests that compare core/autoscaling with upstream's own controller.
//
// TestEveryMetricAsksForTheReplicasThatUpstreamsDoes puts random pods and samples to both calculators.
// TestEveryDecisionIsTheControllersOwn runs a whole HorizontalController in a bubble of fake time, over
// clients that answer from a random world, and the core beside it: at each of the controller's looks the
// scale that is written, the status and the events must be the same. What changes between two looks is
// drawn at random, and the state of both goes on, so that windows and policies matter.
// TestEveryMutantIsCaught breaks one rule of the core after the other, and the two tests above must fail.
//
//	go test ./tests/oracle/autoscaling -autoscaling.seed=N   the same draws again; a failure prints N
//
// A decision is one metric asked or one look of the controller: 2,000 of each, 50,000 with ZEROPLANE_LONG=1.
package autoscaling
