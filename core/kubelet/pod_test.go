package kubelet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
)

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func node(name string) *corev1.Node {
	return kubelet.NewNode(name, 0, kubelet.NodeOptions{Now: start})
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "3", Generation: 1,
			Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{
			NodeName: "a", RestartPolicy: corev1.RestartPolicyAlways,
			Containers: []corev1.Container{{Name: "main", Image: "nginx:1.27"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort, Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start),
		}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func policy(policy corev1.RestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = policy }
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func image(image string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Image = image }
}

// apply is the pod after the plan: nil if it was deleted for good.
func apply(p *corev1.Pod, decided plan.Plan) *corev1.Pod {
	for _, write := range decided.Writes {
		switch write.Verb {
		case plan.UpdateStatus:
			p = write.Object.(*corev1.Pod)
		case plan.Delete:
			p = p.DeepCopy()
			p.DeletionGracePeriodSeconds = new(int64(0))
			if len(p.Finalizers) == 0 {
				return nil
			}
		default:
			panic("a kubelet does not " + string(write.Verb) + " pods")
		}
	}
	return p
}

// life looks at the pod again and again, each time when it asked to be, and tells what was seen.
func life(p *corev1.Pod, limit int) []string {
	var told []string
	now := start
	for range limit {
		decided := kubelet.Pods(node("a"), []*corev1.Pod{p}, now)
		p = apply(p, decided)
		told = append(told, fmt.Sprintf("%3.0fs %s", now.Sub(start).Seconds(), summary(p)))
		if len(decided.Later) == 0 || p == nil {
			break
		}
		next := decided.Later[0].At
		for _, later := range decided.Later {
			if later.At.Before(next) {
				next = later.At
			}
		}
		now = next
	}
	return told
}

func summary(p *corev1.Pod) string {
	if p == nil {
		return "gone"
	}
	out := string(p.Status.Phase)
	if p.Status.Reason != "" {
		out += "(" + p.Status.Reason + ")"
	}
	for _, statuses := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range statuses {
			state := "running"
			switch {
			case s.State.Waiting != nil:
				state = s.State.Waiting.Reason
			case s.State.Terminated != nil:
				state = fmt.Sprintf("%s(%d)", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
			}
			out += fmt.Sprintf(" %s=%s", s.Name, state)
			if s.RestartCount > 0 {
				out += fmt.Sprintf("x%d", s.RestartCount)
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out += fmt.Sprintf(" ready=%s", c.Status)
			if c.Reason != "" {
				out += "(" + c.Reason + ")"
			}
		}
	}
	return out
}

func TestPodsLiveAsAKubeletLetsThem(t *testing.T) {
	withInit := func(images ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for i, image := range images {
				c := corev1.Container{Name: fmt.Sprintf("init%d", i), Image: image}
				if image == "sidecar" {
					c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
				}
				p.Spec.InitContainers = append(p.Spec.InitContainers, c)
			}
		}
	}
	deleted := func(grace int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: start.Add(time.Duration(grace) * time.Second)}
			p.DeletionGracePeriodSeconds = new(grace)
		}
	}
	cases := map[string]struct {
		pod  *corev1.Pod
		want []string
	}{
		"restarting always, it runs": {pod("p"), []string{"  0s Running main=running ready=True"}},
		"never restarting, it completes": {pod("p", policy(corev1.RestartPolicyNever)), []string{
			"  0s Running main=running ready=True",
			"  1s Succeeded main=Completed(0) ready=False(PodCompleted)",
		}},
		"it fails as it is told": {pod("p", policy(corev1.RestartPolicyNever), annotated(kubelet.RunSeconds, "3"), annotated(kubelet.ExitCode, "2")), []string{
			"  0s Running main=running ready=True",
			"  3s Failed main=Error(2) ready=False(PodFailed)",
		}},
		"restarting on failure, it backs off": {pod("p", policy(corev1.RestartPolicyOnFailure), annotated(kubelet.ExitCode, "1")), []string{
			"  0s Running main=running ready=True",
			"  1s Running main=runningx1 ready=True",
			"  2s Running main=CrashLoopBackOffx1 ready=False(ContainersNotReady)",
			" 12s Running main=runningx2 ready=True",
			" 13s Running main=CrashLoopBackOffx2 ready=False(ContainersNotReady)",
			" 33s Running main=runningx3 ready=True",
		}},
		"an image that cannot be pulled": {pod("p", image("foo:non-existent")), []string{
			"  0s Pending main=ErrImagePull ready=False(ContainersNotReady)",
			" 10s Pending main=ImagePullBackOff ready=False(ContainersNotReady)",
		}},
		"a registry that cannot be found": {pod("p", image("registry.invalid/app:1")), []string{
			"  0s Pending main=ErrImagePull ready=False(ContainersNotReady)",
			" 10s Pending main=ImagePullBackOff ready=False(ContainersNotReady)",
		}},
		"init containers go first, sidecars stay": {pod("p", policy(corev1.RestartPolicyNever), withInit("one", "sidecar")), []string{
			"  0s Running init0=Completed(0) init1=running main=running ready=True",
			"  1s Succeeded init0=Completed(0) init1=Completed(0) main=Completed(0) ready=False(PodCompleted)",
		}},
		"an init image that cannot be pulled": {pod("p", withInit("foo:non-existent", "two")), []string{
			"  0s Pending init0=ErrImagePull init1=PodInitializing main=PodInitializing ready=False(ContainersNotReady)",
			" 10s Pending init0=ImagePullBackOff init1=PodInitializing main=PodInitializing ready=False(ContainersNotReady)",
		}},
		"readiness gates hold it back": {pod("p", func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/lb"}}
		}), []string{"  0s Running main=running ready=False(ReadinessGatesNotReady)"}},
		"its deadline passes": {pod("p", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) }), []string{
			"  0s Running main=running ready=True",
			"  5s Failed(DeadlineExceeded) main=Error(137) ready=False(PodFailed)",
		}},
		"deleted, it is gone at once": {pod("p", deleted(30)), []string{"  0s gone"}},
		"deleted, it takes its time": {pod("p", deleted(30), annotated(kubelet.StopSeconds, "4")), []string{
			"  0s Pending", "  4s gone",
		}},
		"deleted, it takes no longer than its grace": {pod("p", deleted(2), annotated(kubelet.StopSeconds, "40")), []string{
			"  0s Pending", "  2s gone",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, life(c.pod, 6)); diff != "" {
				t.Errorf("life (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARunningPodHasTheStatusThatAKubeletWrites(t *testing.T) {
	p := pod("p")
	got := kubelet.Pods(node("a"), []*corev1.Pod{p}, start.Add(300*time.Millisecond))
	at := metav1.NewTime(start)
	condition := func(kind corev1.PodConditionType) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, ObservedGeneration: 1, LastTransitionTime: at}
	}
	running := p.DeepCopy()
	running.Status = corev1.PodStatus{
		ObservedGeneration: 1, Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBestEffort, StartTime: &at,
		HostIP: "198.18.0.2", HostIPs: []corev1.HostIP{{IP: "198.18.0.2"}},
		PodIP: "10.128.0.2", PodIPs: []corev1.PodIP{{IP: "10.128.0.2"}},
		Conditions: []corev1.PodCondition{
			condition(corev1.PodReadyToStartContainers), condition(corev1.PodInitialized), condition(corev1.PodReady),
			condition(corev1.ContainersReady), condition(corev1.PodScheduled),
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Image: "docker.io/library/nginx:1.27", Ready: true, Started: new(true),
			ImageID:     "docker.io/library/nginx@sha256:" + got.Writes[0].Object.(*corev1.Pod).Status.ContainerStatuses[0].ImageID[len("docker.io/library/nginx@sha256:"):],
			ContainerID: got.Writes[0].Object.(*corev1.Pod).Status.ContainerStatuses[0].ContainerID,
			Resources:   &corev1.ResourceRequirements{},
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}},
		}},
	}
	want := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "p", UID: "uid-p",
			ResourceVersion: "3", Object: running, Reason: "the pod's containers changed",
		}},
		Reads: []plan.Read{{Resource: plan.Pods, Node: "a", Addresses: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	again := kubelet.Pods(node("a"), []*corev1.Pod{running}, start.Add(time.Hour))
	if !again.Empty() {
		t.Errorf("an up-to-date pod gives a plan: %+v", again)
	}
}

func TestAPodThatAFinalizerKeepsShowsHowItEnded(t *testing.T) {
	p := apply(pod("p"), kubelet.Pods(node("a"), []*corev1.Pod{pod("p", policy(corev1.RestartPolicyNever), annotated(kubelet.RunSeconds, "60"))}, start))
	p.Finalizers = []string{"batch.kubernetes.io/job-tracking"}
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: start.Add(30 * time.Second)}, new(int64(30))
	p = apply(p, kubelet.Pods(node("a"), []*corev1.Pod{p}, start.Add(time.Second)))
	if got, want := summary(p), "Failed main=Error(143) ready=False(PodFailed)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if again := kubelet.Pods(node("a"), []*corev1.Pod{p}, start.Add(time.Minute)); !again.Empty() {
		t.Errorf("the kubelet does not leave it to the finalizer: %+v", again)
	}
}

func TestAnImageChangedInPlaceRestartsTheContainer(t *testing.T) {
	p := apply(pod("p"), kubelet.Pods(node("a"), []*corev1.Pod{pod("p")}, start))
	p.Spec.Containers[0].Image = "nginx:1.28"
	p = apply(p, kubelet.Pods(node("a"), []*corev1.Pod{p}, start.Add(time.Minute)))
	if got, want := summary(p), "Running main=runningx1 ready=True"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStoppedOrForeignNodeDoesNothing(t *testing.T) {
	stopped := node("a")
	stopped.Annotations[kubelet.StoppedAt] = start.Format(time.RFC3339)
	foreign := node("a")
	delete(foreign.Annotations, kubelet.Simulated)
	for name, n := range map[string]*corev1.Node{"stopped": stopped, "foreign": foreign, "absent": nil} {
		if got := kubelet.Pod(kubelet.PodInput{Pod: pod("p"), Node: n, Now: start}); !got.Empty() {
			t.Errorf("%s: %+v", name, got)
		}
		if n == nil {
			continue
		}
		if got := kubelet.Node(n, start); !got.Empty() {
			t.Errorf("%s node: %+v", name, got)
		}
	}
}

func TestANodeThatIsStartedAgainBecomesReady(t *testing.T) {
	n := node("a")
	if got := kubelet.Node(n, start.Add(time.Hour)); !got.Empty() {
		t.Errorf("a healthy node is written: %+v", got)
	}
	for i := range n.Status.Conditions {
		n.Status.Conditions[i].Status = corev1.ConditionUnknown
	}
	got := kubelet.Node(n, start.Add(time.Hour))
	if diff := cmp.Diff(node("b").Status.Conditions[3].Message, got.Writes[0].Object.(*corev1.Node).Status.Conditions[3].Message); diff != "" {
		t.Error(diff)
	}
	if at := got.Writes[0].Object.(*corev1.Node).Status.Conditions[3].LastTransitionTime; !at.Time.Equal(start.Add(time.Hour)) {
		t.Errorf("transition at %v", at)
	}
}

func TestNodesAndPodsHaveAddressesOfTheirOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 110, 256, 500}).Draw(t, "pods per node")
		i, j := rapid.IntRange(0, 4999).Draw(t, "i"), rapid.IntRange(0, 4999).Draw(t, "j")
		if i == j {
			return
		}
		a := kubelet.NewNode("a", i, kubelet.NodeOptions{Pods: size})
		b := kubelet.NewNode("b", j, kubelet.NodeOptions{Pods: size})
		if a.Spec.PodCIDR == b.Spec.PodCIDR || a.Status.Addresses[0] == b.Status.Addresses[0] {
			t.Fatalf("nodes %d and %d share %s or %s", i, j, a.Spec.PodCIDR, a.Status.Addresses[0].Address)
		}
		seen := map[string]bool{}
		addresses := kubelet.NewAddresses(a, nil)
		for range int(a.Status.Capacity.Pods().Value()) {
			ip, ok := addresses.Take()
			if !ok || seen[ip] {
				t.Fatalf("%d addresses of %s, then %q", len(seen), a.Spec.PodCIDR, ip)
			}
			seen[ip] = true
		}
	})
}

func TestNoTwoPodsOfANodeShareAnAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, pods := start, map[string]*corev1.Pod{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			name := fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(t, "pod"))
			if pods[name] == nil {
				pods[name] = pod(name, policy(rapid.SampledFrom([]corev1.RestartPolicy{"Always", "Never"}).Draw(t, "policy")))
			} else if rapid.Bool().Draw(t, "delete") {
				delete(pods, name)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds")) * time.Second)
			var all []*corev1.Pod
			for _, p := range pods {
				all = append(all, p)
			}
			decided := kubelet.Pods(node("a"), all, now)
			for _, write := range decided.Writes {
				pods[write.Name] = write.Object.(*corev1.Pod)
			}
			all = all[:0]
			seen := map[string]string{}
			for _, p := range pods {
				all = append(all, p)
				if p.Status.Phase == corev1.PodRunning {
					if other, taken := seen[p.Status.PodIP]; taken {
						t.Fatalf("%s and %s have %s", p.Name, other, p.Status.PodIP)
					}
					seen[p.Status.PodIP] = p.Name
				}
			}
			if again := kubelet.Pods(node("a"), all, now); len(again.Writes) > 0 {
				t.Fatalf("the same moment asks for more: %+v", again.Writes)
			}
		}
	})
}
