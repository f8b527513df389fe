package kubelet

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// defaultRun is how long a container runs that does not say.
	defaultRun = time.Second
	// firstBackOff and maxBackOff bound the delay before a restart, and before a failed pull is
	// tried again (MaxContainerBackOff and the base of kuberuntime's back-off).
	firstBackOff = 10 * time.Second
	maxBackOff   = 5 * time.Minute

	exitKilled     = 137
	exitTerminated = 143
)

// restarts reports whether a container that exits with the code is started again.
func restarts(pod *corev1.Pod, code int32) bool {
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	case corev1.RestartPolicyAlways:
	}
	return true
}

// container is the status of a container of the pod's main list.
func (f *frame) container(c *corev1.Container, old *corev1.ContainerStatus) corev1.ContainerStatus {
	if old == nil || old.State.Running == nil && ended(old) == nil {
		if status, failed := f.pull(c, old); failed {
			return status
		}
		return f.runOn(c, f.start(c, 0, nil))
	}
	status := f.describe(c, *old)
	if last := ended(old); last != nil {
		return f.afterExit(c, status, last)
	}
	if old.Image != parseImage(c.Image).String() {
		// The image was changed in place: the container is started anew.
		if waiting, failed := f.pull(c, old); failed {
			waiting.LastTerminationState.Terminated = f.exited(&status, 0, f.now)
			return waiting
		}
		return f.runOn(c, f.start(c, old.RestartCount+1, f.exited(&status, 0, f.now)))
	}
	return f.runOn(c, status)
}

// sidecar is the status of an init container that runs as long as the pod.
func (f *frame) sidecar(c *corev1.Container, old *corev1.ContainerStatus) corev1.ContainerStatus {
	if old != nil && old.State.Running != nil {
		return f.describe(c, *old)
	}
	if status, failed := f.pull(c, old); failed {
		return status
	}
	if old != nil && old.State.Terminated != nil {
		return f.start(c, old.RestartCount+1, old.State.Terminated)
	}
	return f.start(c, 0, nil)
}

// initializer is the status of an init container that runs to its end before the next one starts: it
// succeeds at once.
func (f *frame) initializer(c *corev1.Container, old *corev1.ContainerStatus) corev1.ContainerStatus {
	if old != nil && old.State.Terminated != nil {
		return f.describe(c, *old)
	}
	if status, failed := f.pull(c, old); failed {
		return status
	}
	status := f.start(c, 0, nil)
	f.stop(&status, 0, f.now)
	status.Ready = true
	return status
}

// ended is how the container last exited, nil if it never did or runs.
func ended(status *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	if status.State.Terminated != nil {
		return status.State.Terminated
	}
	if status.State.Running == nil {
		return status.LastTerminationState.Terminated
	}
	return nil
}

// start is a container that starts running now.
func (f *frame) start(c *corev1.Container, restartCount int32, last *corev1.ContainerStateTerminated) corev1.ContainerStatus {
	image := parseImage(c.Image)
	status := f.describe(c, corev1.ContainerStatus{
		Name: c.Name, Image: image.String(), ImageID: image.id(), RestartCount: restartCount,
		ContainerID: "containerd://" + digest(string(f.pod.UID), c.Name, strconv.Itoa(int(restartCount))),
		State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(f.now)}},
		Started:     new(true), Ready: true,
	})
	status.LastTerminationState.Terminated = last
	return status
}

// runOn lets a running container exit when its time is over.
func (f *frame) runOn(c *corev1.Container, status corev1.ContainerStatus) corev1.ContainerStatus {
	status.Started, status.Ready = new(true), true
	if f.pod.Spec.RestartPolicy != corev1.RestartPolicyNever && f.pod.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return status
	}
	end := status.State.Running.StartedAt.Add(seconds(f.pod, RunSeconds, defaultRun))
	if f.now.Before(end) {
		f.wait("complete", end)
		return status
	}
	f.stop(&status, exitCode(f.pod), end)
	return f.afterExit(c, status, status.State.Terminated)
}

// afterExit restarts a container that has exited, if its pod's policy says so: at once the first time,
// then after a delay that doubles.
//
// Upstream: doBackOff in pkg/kubelet/kuberuntime/kuberuntime_manager.go.
func (f *frame) afterExit(c *corev1.Container, status corev1.ContainerStatus, last *corev1.ContainerStateTerminated) corev1.ContainerStatus {
	if !restarts(f.pod, last.ExitCode) {
		return status
	}
	delay := backOff(status.RestartCount)
	due := last.FinishedAt.Add(delay)
	if !f.now.Before(due) {
		started := f.start(c, status.RestartCount+1, last)
		if delay == 0 {
			// Its first restart; the next waits, so this ends.
			return f.runOn(c, started)
		}
		f.runsUntil(&started)
		return started
	}
	f.wait("restart", due)
	status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "CrashLoopBackOff",
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			delay, c.Name, f.pod.Name, f.pod.Namespace, f.pod.UID),
	}}
	status.LastTerminationState.Terminated = last
	status.Started, status.Ready = new(false), false
	return status
}

// runsUntil asks to be called when a container that starts now will exit.
func (f *frame) runsUntil(status *corev1.ContainerStatus) {
	f.wait("complete", status.State.Running.StartedAt.Add(seconds(f.pod, RunSeconds, defaultRun)))
}

// backOff is the delay before the restart that follows so many earlier ones.
func backOff(restartCount int32) time.Duration {
	if restartCount == 0 {
		return 0
	}
	return min(firstBackOff<<min(restartCount-1, 5), maxBackOff)
}

// stop turns a running container into one that exited.
func (f *frame) stop(status *corev1.ContainerStatus, code int32, at time.Time) {
	status.State = corev1.ContainerState{Terminated: f.exited(status, code, at)}
	status.Started, status.Ready = new(false), false
}

func (f *frame) exited(status *corev1.ContainerStatus, code int32, at time.Time) *corev1.ContainerStateTerminated {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	finished := stamp(at)
	started := finished
	if status.State.Running != nil {
		started = status.State.Running.StartedAt
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, StartedAt: started, FinishedAt: finished, ContainerID: status.ContainerID,
	}
}

// pull is the status of a container whose image cannot be pulled, and whether that is so. It is tried
// once and then said to be backing off, where a kubelet goes on trying.
//
// Upstream: EnsureImageExists in pkg/kubelet/images/image_manager.go.
func (f *frame) pull(c *corev1.Container, old *corev1.ContainerStatus) (corev1.ContainerStatus, bool) {
	failure := pullError(c.Image)
	if failure == "" {
		return corev1.ContainerStatus{}, false
	}
	reason, message := "ErrImagePull", failure
	tried := old != nil && old.Image == c.Image && old.State.Waiting != nil &&
		(old.State.Waiting.Reason == "ErrImagePull" || old.State.Waiting.Reason == "ImagePullBackOff")
	switch again := f.started.Add(firstBackOff); {
	case !tried:
		f.notice(corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.Image, failure))
		f.notice(corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		f.wait("pull", latest(again, f.now.Add(firstBackOff)))
	case f.now.Before(again):
		f.wait("pull", again)
	default:
		reason, message = "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", c.Image, failure)
		if old.State.Waiting.Reason != reason {
			f.notice(corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
		}
	}
	return f.waiting(c, old, reason, message), true
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// waiting is a container that has not started, or not again.
func (f *frame) waiting(c *corev1.Container, old *corev1.ContainerStatus, reason, message string) corev1.ContainerStatus {
	status := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, Started: new(false), VolumeMounts: mountsOf(c),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}
	if old != nil {
		status.RestartCount, status.LastTerminationState = old.RestartCount, old.LastTerminationState
	}
	return status
}

// describe sets what a status repeats of the container's spec. A resize takes effect at once.
//
// Upstream: convertToAPIContainerStatuses in pkg/kubelet/kubelet_pods.go.
func (f *frame) describe(c *corev1.Container, status corev1.ContainerStatus) corev1.ContainerStatus {
	status.Resources = c.Resources.DeepCopy()
	// Claims are not part of what a status shows.
	status.Resources.Claims = nil
	status.AllocatedResources = c.Resources.Requests.DeepCopy()
	status.VolumeMounts = mountsOf(c)
	return status
}

func mountsOf(c *corev1.Container) []corev1.VolumeMountStatus {
	var mounts []corev1.VolumeMountStatus
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		status := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			status.RecursiveReadOnly = new(corev1.RecursiveReadOnlyDisabled)
		}
		mounts = append(mounts, status)
	}
	return mounts
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// find is the status of the container of that name, nil if there is none.
func find(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}
