package lambdahost_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/zeroplane/zeroplane/tests/hosted"
	"github.com/zeroplane/zeroplane/tests/lambdahost"
	"github.com/zeroplane/zeroplane/tests/local"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const patience = time.Minute

// start starts a stack of zeroplane with nodes that cost nothing.
func start(t *testing.T, o lambdahost.Options) *lambdahost.Cluster {
	t.Helper()
	binary, err := target.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.Binary, o.Dir = binary, t.TempDir()
	c, err := lambdahost.StartCluster(t.Context(), o, 3)
	t.Cleanup(c.Stop)
	t.Cleanup(func() {
		hosted.ShowLogs(t, o.Dir)
		if t.Failed() && c.Host != nil {
			t.Logf("calls: %v\n%s", c.Calls(), strings.Join(c.Failures(), "\n"))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// settled waits until the queue is empty and nobody is at a call.
func settled(t *testing.T, c *lambdahost.Cluster) {
	t.Helper()
	local.Eventually(t, patience, "nothing is left to do", func() error {
		n, _, _ := c.Queued()
		if _, busy := c.Instances(); n > 0 || busy > 0 {
			return fmt.Errorf("%d messages, %d instances at a call", n, busy)
		}
		return nil
	})
}

// checkPods fails unless there are as many pods as replicas, all of them ready.
func checkPods(t *testing.T, c *lambdahost.Cluster, want int32) {
	t.Helper()
	d, err := c.Client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := c.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Status.ReadyReplicas != want || len(pods.Items) != int(want) || d.Status.ObservedGeneration != d.Generation {
		t.Errorf("%d of %d replicas are ready, of %d pods", d.Status.ReadyReplicas, want, len(pods.Items))
	}
}

// TestWhatARequestLeftIsDoneWithoutAnother makes a Deployment, kills the instance as soon as it has answered, and makes
// no request: the bell that was sent before the answer has the rollout be done.
func TestWhatARequestLeftIsDoneWithoutAnother(t *testing.T) {
	c := start(t, lambdahost.Options{Idle: time.Nanosecond})
	if _, err := c.Client.AppsV1().Deployments("default").Create(t.Context(), hosted.Deployment(5), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := c.Calls()["url"]
	if n, _, _ := c.Queued(); n == 0 && c.Calls()["sqs"] == 0 {
		t.Error("it was answered before a bell was sent")
	}
	settled(t, c)
	if c.Calls()["url"] != before {
		t.Fatal("a request was made")
	}
	for !c.ScaleToZero() {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	checkPods(t, c, 5)
	t.Logf("two requests from zero took %s; calls: %v", time.Since(began), c.Calls())
}

// TestAWatchIsStreamed sees a change while the answer goes on, and that the answer ends by itself, behind a bookmark,
// before the function's timeout would cut it.
func TestAWatchIsStreamed(t *testing.T) {
	c := start(t, lambdahost.Options{Timeout: 25 * time.Second})
	settled(t, c)
	ctx := t.Context()
	maps := c.Client.CoreV1().ConfigMaps("default")
	seen, err := maps.Watch(ctx, metav1.ListOptions{AllowWatchBookmarks: true, LabelSelector: "streamed"})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Stop()
	streamed := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "streamed", Labels: map[string]string{"streamed": ""}}}
	if _, err := maps.Create(ctx, streamed, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	event := <-seen.ResultChan()
	for event.Type == watch.Bookmark { // that there was none before
		event = <-seen.ResultChan()
	}
	if m, ok := event.Object.(*corev1.ConfigMap); !ok || event.Type != watch.Added || m.Name != "streamed" {
		t.Fatalf("the first event is %s of %+v", event.Type, event.Object)
	}
	if _, busy := c.Instances(); busy == 0 {
		t.Fatal("the answer had ended when its first event was seen")
	}
	var last watch.EventType
	for event := range seen.ResultChan() {
		last = event.Type
	}
	if last != watch.Bookmark {
		t.Errorf("the last event is %q", last)
	}
	settled(t, c)
	if failures := c.Failures(); len(failures) > 0 {
		t.Errorf("calls failed: %v", failures)
	}
}

// TestInstancesThatWereFrozenGoOnWithWhatOthersDid has several instances take turns at one cluster, each of them frozen
// while the others work: what they remember must not undo or double anything.
func TestInstancesThatWereFrozenGoOnWithWhatOthersDid(t *testing.T) {
	c := start(t, lambdahost.Options{})
	ctx := t.Context()
	deployments := c.Client.AppsV1().Deployments("default")
	if _, err := deployments.Create(ctx, hosted.Deployment(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, replicas := range []int32{6, 2, 7, 3} {
		// Watches hold instances, so that others are started, and let them go in another order.
		var held []watch.Interface
		for range 2 {
			w, err := c.Client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{TimeoutSeconds: new(int64(2))})
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, w)
		}
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
		if _, err := deployments.Patch(ctx, "web", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, w := range held {
			for range w.ResultChan() { // until it ends
			}
		}
		settled(t, c)
		checkPods(t, c, replicas)
	}
	if all, _ := c.Instances(); all < 3 {
		t.Errorf("only %d instances took turns", all)
	}
	if failures := c.Failures(); len(failures) > 0 {
		t.Errorf("calls failed: %v", failures)
	}
	t.Logf("calls: %v", c.Calls())
}

// TestMessagesAndEventsThatNobodyUnderstandsAreAcknowledged sends them beside one that is understood.
func TestMessagesAndEventsThatNobodyUnderstandsAreAcknowledged(t *testing.T) {
	c := start(t, lambdahost.Options{})
	for _, body := range []string{"hello", `{"specversion":"1.0","type":"com.example.strange","source":"/s","id":"1"}`} {
		c.Send(body)
	}
	if err := c.Publish("aws.ec2", "EC2 Spot Instance Interruption Warning", map[string]any{"instance-id": "i-0123456789abcdef0", "instance-action": "terminate"}); err != nil {
		t.Error(err)
	}
	if err := c.Publish("aws.ec2", "EC2 Spot Instance Interruption Warning", map[string]any{"instance-id": 7}); err != nil {
		t.Error(err)
	}
	if err := c.Tick(); err != nil {
		t.Error(err)
	}
	settled(t, c)
	if _, _, dead := c.Queued(); len(dead) > 0 {
		t.Errorf("dead letters: %q", dead)
	}
	if failures := c.Failures(); len(failures) > 0 {
		t.Errorf("calls failed: %v", failures)
	}
}

// TestAFunctionThatCannotStartSaysWhy has no seal key: requests fail, and messages are dead letters in the end.
func TestAFunctionThatCannotStartSaysWhy(t *testing.T) {
	c := start(t, lambdahost.Options{Visibility: 10 * time.Millisecond, Idle: time.Nanosecond, Environment: []string{"ZEROPLANE_TABLE=zeroplane"}})
	settled(t, c)
	for !c.ScaleToZero() {
		time.Sleep(time.Millisecond)
	}
	c.Break("ZEROPLANE_SEAL_KEY=nothing")
	c.Send(`{"specversion":"1.0","type":"com.example.strange","source":"/s","id":"1"}`)
	if _, err := c.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a request was answered")
	}
	local.Eventually(t, patience, "the message is a dead letter", func() error {
		if _, _, dead := c.Queued(); len(dead) != 1 {
			return errors.New("it is not")
		}
		return nil
	})
	if failures := strings.Join(c.Failures(), "\n"); !strings.Contains(failures, "Zeroplane.Start") || !strings.Contains(failures, "ZEROPLANE_SEAL_KEY") {
		t.Errorf("it says %s", failures)
	}
}

// TestKubectlIsServedFromZero runs scenarios of tests/kubectl through the host, which kills every instance between any
// two calls. The long form runs all of them.
func TestKubectlIsServedFromZero(t *testing.T) {
	scenarios := "TestKubectl/together/scale"
	if os.Getenv("ZEROPLANE_LONG") != "" {
		scenarios = "TestKubectl"
	}
	hosted.RunKubectl(t, target.Lambda, scenarios, "TestKubectl/together/scale")
}
