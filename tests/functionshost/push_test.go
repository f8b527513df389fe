package functionshost_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/tests/eventgrid"
	"github.com/zeroplane/zeroplane/tests/functionshost"
	"github.com/zeroplane/zeroplane/tests/hosted"
	"github.com/zeroplane/zeroplane/tests/local"
)

// The two instances of an app that pushes bells: what is pushed goes to the second.
const first, second = "http-0", "http-1"

// pinned adds a header that names an instance.
type pinned struct {
	to   http.RoundTripper
	name string
}

func (p pinned) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(functionshost.InstanceHeader, p.name)
	return p.to.RoundTrip(req)
}

// pushing is an app with two instances and a topic between them.
type pushing struct {
	*functionshost.Cluster
	grid  *eventgrid.Service
	first *kubernetes.Clientset
	// second is served by the second instance.
	second *kubernetes.Clientset
}

func startPushing(t *testing.T, o functionshost.Options) *pushing {
	t.Helper()
	p := &pushing{grid: eventgrid.Start()}
	t.Cleanup(p.grid.Stop)
	o.Environment, o.HTTPInstances, o.Idle = p.grid.Environment(), 2, time.Hour
	p.Cluster = start(t, o)
	for name, c := range map[string]**kubernetes.Clientset{first: &p.first, second: &p.second} {
		config, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		config.QPS = -1
		config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return pinned{rt, name} })
		if *c, err = kubernetes.NewForConfig(config); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Subscribe(t.Context(), p.grid, map[string]string{functionshost.InstanceHeader: second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Logf("the topic: %+v %q; heard by the second: %v", p.grid.Counts(), p.grid.Refusals(), p.heard(t, p.second.RESTClient()))
	})
	return p
}

var heardLine = regexp.MustCompile(`(?m)^zeroplane_pushes_heard_total\{outcome="(\w+)"\} (\d+)$`)

// heard is what an instance made of the bells that were pushed to it.
func (p *pushing) heard(t *testing.T, at rest.Interface) map[string]int {
	t.Helper()
	text, err := at.Get().AbsPath("/metrics").DoRaw(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Error(err)
	}
	out := map[string]int{}
	for _, m := range heardLine.FindAllSubmatch(text, -1) {
		if out[string(m[1])], err = strconv.Atoi(string(m[2])); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (p *pushing) namespace(t *testing.T, name string) {
	t.Helper()
	if _, err := p.first.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, patience, "the namespace has its account", func() error {
		_, err := p.first.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// watchPods notes which pods a watch of the second instance shows to run, until the test ends.
func (p *pushing) watchPods(t *testing.T, namespace string) (running func() sets.Set[string]) {
	t.Helper()
	w, err := p.second.CoreV1().Pods(namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	seen := sets.New[string]()
	return func() sets.Set[string] {
		for {
			select {
			case e := <-w.ResultChan():
				pod, ok := e.Object.(*corev1.Pod)
				if ok && e.Type != watch.Deleted && pod.Status.Phase == corev1.PodRunning {
					seen.Insert(pod.Name)
				} else if ok {
					seen.Delete(pod.Name)
				}
			default:
				return seen
			}
		}
	}
}

// TestAWriteThroughOneInstanceReachesAWatchOfAnotherByPush also sees the stream of changes.
func TestAWriteThroughOneInstanceReachesAWatchOfAnotherByPush(t *testing.T) {
	p := startPushing(t, functionshost.Options{})
	w, err := p.second.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{LabelSelector: "pushed"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	local.Eventually(t, patience, "the second has looked because it was told to", func() error {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "pushed-", Labels: map[string]string{"pushed": ""}}}
		made, err := p.first.CoreV1().ConfigMaps("default").Create(t.Context(), m, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.ConfigMap).Name != made.Name {
			t.Fatalf("the watch has %s of %v after %s was made", e.Type, e.Object, made.Name)
		}
		if heard := p.heard(t, p.second.RESTClient()); heard["looked"] == 0 {
			return fmt.Errorf("it heard %v", heard) // its own look was before
		}
		return nil
	})
	local.Eventually(t, patience, "the stream has what was written", func() error {
		reached := map[string]uint64{}
		for _, e := range p.grid.Streamed() {
			m, err := events.ParseChanged(e)
			if err != nil {
				t.Fatal(err)
			}
			reached[m.Group] = max(reached[m.Group], m.Revision)
		}
		if reached["objects"] == 0 || reached["nodes"] == 0 {
			return fmt.Errorf("it has reached %v", reached)
		}
		return nil
	})
	if c := p.grid.Counts(); c.Refused > 0 || c.Dead > 0 || c.Delivered == 0 {
		t.Errorf("the service saw %+v: %q", c, p.grid.Refusals())
	}
}

// outcome is what a rollout ends with.
type outcome struct {
	Ready, Updated, Sets int
	Running, Watched     int
	SameNames            bool
}

// TestPushesThatAreLostDoubledOrOutOfOrderChangeNothing has two instances work at a rollout with each kind of trouble.
func TestPushesThatAreLostDoubledOrOutOfOrderChangeNothing(t *testing.T) {
	p := startPushing(t, functionshost.Options{})
	const replicas = 6
	want := outcome{Ready: replicas, Updated: replicas, Sets: 1, Running: replicas, Watched: replicas, SameNames: true}
	for name, faults := range map[string]eventgrid.Faults{
		"calm": {}, "lost": {Lose: true}, "doubled": {Double: true}, "reordered": {Shuffle: 700 * time.Millisecond},
		"all-doubled-and-reordered": {Double: true, Shuffle: 700 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.grid.Counts()
			p.grid.Fail(faults)
			p.namespace(t, name)
			running := p.watchPods(t, name)
			if _, err := p.first.AppsV1().Deployments(name).Create(t.Context(), hosted.Deployment(2), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
			if _, err := p.second.AppsV1().Deployments(name).Patch(t.Context(), "web", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			local.Eventually(t, patience, "the rollout ends as it does calmly", func() error {
				got, err := p.outcome(t.Context(), name, running())
				if d := cmp.Diff(want, got); err == nil && d != "" {
					return fmt.Errorf("-want +got: %s", d)
				}
				return err
			})
			after := p.grid.Counts()
			calm := faults == eventgrid.Faults{}
			if after.Events == before.Events || after.Refused > 0 || calm != (after.Troubled == before.Troubled) {
				t.Errorf("the topic saw %+v, before %+v", after, before)
			}
		})
	}
}

func (p *pushing) outcome(ctx context.Context, namespace string, watched sets.Set[string]) (o outcome, err error) {
	d, err := p.first.AppsV1().Deployments(namespace).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return o, err
	}
	replicaSets, err := p.second.AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return o, err
	}
	pods, err := p.second.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return o, err
	}
	names := sets.New[string]()
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			names.Insert(pod.Name)
		}
	}
	return outcome{
		Ready: int(d.Status.ReadyReplicas), Updated: int(d.Status.UpdatedReplicas), Sets: len(replicaSets.Items),
		Running: names.Len(), Watched: watched.Len(), SameNames: names.Equal(watched),
	}, nil
}

// TestWhatAnInstanceLeavesAnotherGoesOnWith ends an instance in the middle of a rollout: it says so, or is killed and the
// other notices that it does not finish. The queue's bell would be heard a minute later.
func TestWhatAnInstanceLeavesAnotherGoesOnWith(t *testing.T) {
	for name, kill := range map[string]bool{"asked to end": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			p := startPushing(t, functionshost.Options{Kill: kill})
			p.watchPods(t, "default") // it keeps the second where it is
			local.Eventually(t, patience, "nothing is left of the start", func() error {
				before := p.grid.Counts().Events
				time.Sleep(2 * time.Second)
				if n := p.grid.Counts().Events - before; n > 0 {
					return fmt.Errorf("%d bells were pushed meanwhile", n)
				}
				return nil
			})
			taken, published := p.heard(t, p.second.RESTClient())["work"], p.grid.Counts().Events
			if _, err := p.first.AppsV1().Deployments("default").Create(t.Context(), hosted.Deployment(5), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			for p.grid.Counts().Events == published {
				time.Sleep(time.Millisecond)
			}
			if !p.End(first) {
				t.Fatal("the first is at a call")
			}
			local.Eventually(t, patience, "the rollout is done", func() error {
				d, err := p.second.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
				if err == nil && d.Status.ReadyReplicas != 5 {
					err = fmt.Errorf("%d of 5 replicas are ready", d.Status.ReadyReplicas)
				}
				return err
			})
			if now := p.heard(t, p.second.RESTClient())["work"]; now == taken {
				t.Errorf("the second was not told: %d", now)
			}
		})
	}
}
