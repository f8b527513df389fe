package kubelet

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotations of nodes.
const (
	// Simulated is "true" on nodes that no kubelet runs.
	Simulated = "zeroplane.dev/simulated"
	// StoppedAt is the time, in RFC 3339, at which a simulated node stopped.
	StoppedAt = "zeroplane.dev/stopped-at"
)

// Annotations of pods.
const (
	// RunSeconds is how long a container runs that is not restarted always; 1 if unset.
	RunSeconds = "zeroplane.dev/run-seconds"
	// ExitCode is what such a container exits with; 0 if unset.
	ExitCode = "zeroplane.dev/exit-code"
	// StopSeconds is how long the containers of a deleted pod take to exit; 0 if unset.
	StopSeconds = "zeroplane.dev/stop-seconds"
	// CPUUsage is how many cores a running pod uses, such as "250m"; none if unset.
	CPUUsage = "zeroplane.dev/cpu-usage"
	// MemoryUsage is how many bytes of memory a running pod uses, such as "64Mi"; none if unset.
	MemoryUsage = "zeroplane.dev/memory-usage"
)

// IsSimulated reports whether the node is one that no kubelet runs.
func IsSimulated(node *corev1.Node) bool { return node.Annotations[Simulated] == "true" }

// Stopped is the time at which a simulated node stopped, and whether it did. An annotation that is no
// time stops the node at the beginning of time.
func Stopped(node *corev1.Node) (time.Time, bool) {
	text, stopped := node.Annotations[StoppedAt]
	if !stopped {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, true
	}
	return at, true
}

// alive reports whether the simulated kubelet of the node is at work.
func alive(node *corev1.Node) bool {
	_, stopped := Stopped(node)
	return IsSimulated(node) && !stopped
}

// seconds reads an annotation; what is absent, negative or no number is the fallback.
func seconds(pod *corev1.Pod, annotation string, fallback time.Duration) time.Duration {
	value, err := strconv.ParseFloat(pod.Annotations[annotation], 64)
	// The bound, some 30 years, keeps the product within a Duration.
	if err != nil || value < 0 || value > 1e9 {
		return fallback
	}
	return time.Duration(value * float64(time.Second))
}

func exitCode(pod *corev1.Pod) int32 {
	code, err := strconv.ParseUint(pod.Annotations[ExitCode], 10, 8)
	if err != nil {
		return 0
	}
	return int32(code)
}
