package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/instances"
)

const (
	shortRounds, longRounds = 20, 500
	// running is how many instances do at a time.
	running = 3
	// nodes of the cluster, and the steps of a round.
	nodes, steps = 4, 12
	namespace    = "team"
)

var seed = flag.Uint64("chaos.seed", 0, "run the one round of this seed")

// TestChaosEndsAsACalmDayDoes runs rounds of steps with 20% of events and bells dropped, 20% doubled, all reordered, and
// instances killed at random writes, reads and times.
func TestChaosEndsAsACalmDayDoes(t *testing.T) {
	instances.Quiet(t)
	first, rounds := uint64(time.Now().UnixNano()), shortRounds
	if os.Getenv("ZEROPLANE_LONG") != "" {
		rounds = longRounds
	}
	if *seed != 0 {
		first, rounds = *seed, 1
	}
	var kills int64
	for i := range rounds {
		s := first + uint64(i)
		t.Run(fmt.Sprintf("seed %d", s), func(t *testing.T) {
			calm, _ := round(t, s, instances.Faults{})
			got, killed := round(t, s, instances.Faults{Drop: 0.2, Double: 0.2, Kills: 12})
			kills += killed
			if diff := cmp.Diff(calm, got); diff != "" {
				t.Errorf("the cluster (-calm +chaos); again with -chaos.seed=%d:\n%s", s, diff)
			}
		})
	}
	if *seed == 0 && kills < int64(rounds) {
		t.Errorf("only %d instances were killed in %d rounds", kills, rounds)
	}
}

// TestChaosIsNoticed has all events and bells dropped and no timer: then work is left, or the comparison above would
// be of nothing.
func TestChaosIsNoticed(t *testing.T) {
	instances.Quiet(t)
	t.Setenv("ZEROPLANE_SEAL_KEY", instances.SealKey)
	synctest.Test(t, func(t *testing.T) {
		w := instances.New(t, 1, instances.Options{Instances: running, Faults: instances.Faults{Drop: 1}})
		c := w.Client()
		for range 10 * running { // all of them are awake then, and look for nothing any more
			if _, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		w.Insist("make a deployment", func(ctx context.Context) error {
			_, err := c.AppsV1().Deployments("default").Create(ctx, deployment("web", 3), metav1.CreateOptions{})
			return err
		})
		time.Sleep(instances.Patience)
		left, err := w.Left()
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil || d.Status.ObservedGeneration != 0 || len(left) == 0 {
			t.Errorf("somebody heard of a deployment: %+v, %v, %v", d.Status, left, err)
		}
		w.Close()
	})
}

// round takes the steps of a seed, lets the cluster settle, and returns what became of it, and how many instances were
// killed.
func round(t *testing.T, seed uint64, f instances.Faults) (out []string, killed int64) {
	t.Helper()
	t.Setenv("ZEROPLANE_SEAL_KEY", instances.SealKey)
	synctest.Test(t, func(t *testing.T) {
		w := instances.New(t, seed, instances.Options{Instances: running, Faults: f})
		ticking, stop := context.WithCancel(t.Context())
		go w.Timer(ticking)
		c := w.Client()
		began := time.Now()
		for i := range nodes {
			w.Insist("register a node", func(ctx context.Context) error {
				node := kubelet.NewNode(fmt.Sprint("node-", i), i, kubelet.NodeOptions{Pods: 32, Now: began})
				_, err := c.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
				return but(apierrors.IsAlreadyExists, err)
			})
		}
		r := rand.New(rand.NewPCG(seed, 1))
		for range steps {
			s := allSteps[r.IntN(len(allSteps))]
			do := s.prepare(r)
			w.Insist(s.name, func(ctx context.Context) error { return do(ctx, c) })
			time.Sleep(time.Duration(r.Int64N(int64(20 * time.Second))))
		}
		w.Settle()
		w.Insist("describe the cluster", func(ctx context.Context) (err error) {
			out, err = describe(ctx, c)
			return err
		})
		t.Logf("seed %d: %v in %s", seed, &w.Counts, time.Since(began).Round(time.Second))
		stop()
		w.Close()
		killed = w.Counts.Kills.Load()
	})
	return out, killed
}

// but is err, unless it is expected.
func but(expected func(error) bool, err error) error {
	if err != nil && expected(err) {
		return nil
	}
	return err
}

// step is something that a person does. Prepare decides what, apart from the cluster; what it returns may be called again
// until it succeeds.
type step struct {
	name    string
	prepare func(*rand.Rand) func(context.Context, *kubernetes.Clientset) error
}

var allSteps = []step{
	{"make or scale a deployment", func(r *rand.Rand) func(context.Context, *kubernetes.Clientset) error {
		name, replicas := deploymentName(r), int32(r.IntN(12))
		return func(ctx context.Context, c *kubernetes.Clientset) error {
			d := c.AppsV1().Deployments(namespace)
			patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
			_, err := d.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
			if !apierrors.IsNotFound(err) {
				return err
			}
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
			if _, err := c.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); but(apierrors.IsAlreadyExists, err) != nil {
				return err
			}
			_, err = d.Create(ctx, deployment(name, replicas), metav1.CreateOptions{})
			return err
		}
	}},
	{"set an image", func(r *rand.Rand) func(context.Context, *kubernetes.Clientset) error {
		name, image := deploymentName(r), fmt.Sprint("nginx:", r.IntN(4))
		return func(ctx context.Context, c *kubernetes.Clientset) error {
			patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, image)
			_, err := c.AppsV1().Deployments(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return but(apierrors.IsNotFound, err)
		}
	}},
	{"delete a deployment", func(r *rand.Rand) func(context.Context, *kubernetes.Clientset) error {
		name := deploymentName(r)
		policy := []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground}[r.IntN(2)]
		return func(ctx context.Context, c *kubernetes.Clientset) error {
			err := c.AppsV1().Deployments(namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy})
			return untilGone(err)
		}
	}},
	{"delete a pod", func(r *rand.Rand) func(context.Context, *kubernetes.Clientset) error {
		which := r.IntN(8)
		return func(ctx context.Context, c *kubernetes.Clientset) error {
			pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err != nil || len(pods.Items) == 0 {
				return err
			}
			return but(apierrors.IsNotFound, c.CoreV1().Pods(namespace).Delete(ctx, pods.Items[which%len(pods.Items)].Name, metav1.DeleteOptions{}))
		}
	}},
	{"cordon or uncordon a node", func(r *rand.Rand) func(context.Context, *kubernetes.Clientset) error {
		node, off := fmt.Sprint("node-", r.IntN(nodes-1)), r.IntN(2) == 0 // the last one stays
		return func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, off), metav1.PatchOptions{})
			return err
		}
	}},
	{"delete the namespace", func(r *rand.Rand) func(context.Context, *kubernetes.Clientset) error {
		do := r.IntN(3) == 0
		return func(ctx context.Context, c *kubernetes.Clientset) error {
			if !do {
				return nil
			}
			return untilGone(c.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
		}
	}},
}

// untilGone has a deletion repeated until there is nothing left: what is done to an object that goes is lost, when it goes
// sooner it is not.
func untilGone(err error) error {
	if err == nil {
		return errors.New("it is still there")
	}
	return but(apierrors.IsNotFound, err)
}

func deploymentName(r *rand.Rand) string { return []string{"web", "api", "queue"}[r.IntN(3)] }

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(replicas), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(5)),
					Containers: []corev1.Container{{Name: "c", Image: "nginx", Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
					}}},
				},
			},
		},
	}
}

// describe tells what there is, without what is bound to differ: names of pods, addresses, times, revisions.
func describe(ctx context.Context, c *kubernetes.Clientset) ([]string, error) {
	deployments, err := c.AppsV1().Deployments("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	sets, err := c.AppsV1().ReplicaSets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	namespaces, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	accounts, err := c.CoreV1().ServiceAccounts(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, ns := range namespaces.Items {
		say("namespace %s %s", ns.Name, ns.Status.Phase)
	}
	for _, sa := range accounts.Items {
		say("service account %s", sa.Name)
	}
	for _, d := range deployments.Items {
		s := d.Status
		say("deployment %s: wants %d, has %d, %d updated, %d ready, %d available, %d unavailable, seen %t%s", d.Name, *d.Spec.Replicas, s.Replicas,
			s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas, s.ObservedGeneration == d.Generation, conditions(d))
	}
	for _, s := range sets.Items {
		if *s.Spec.Replicas > 0 || s.Status.Replicas > 0 { // how many old ones there were depends on how quick they were
			say("replica set of %s with %s: wants %d, has %d, %d ready", ownerOf(s.OwnerReferences), s.Spec.Template.Spec.Containers[0].Image,
				*s.Spec.Replicas, s.Status.Replicas, s.Status.ReadyReplicas)
		}
	}
	used := map[string]int{}
	for _, p := range pods.Items {
		used[p.Spec.NodeName]++
		say("pod of %s with %s is %s, going %t, placed %t", p.Labels["app"], p.Spec.Containers[0].Image, p.Status.Phase, p.DeletionTimestamp != nil, p.Spec.NodeName != "")
	}
	for _, n := range list.Items {
		say("node %s: unschedulable %t, overcommitted %t", n.Name, n.Spec.Unschedulable, int64(used[n.Name]) > n.Status.Allocatable.Pods().Value())
	}
	slices.Sort(out)
	return out, nil
}

func ownerOf(refs []metav1.OwnerReference) string {
	if len(refs) == 0 {
		return "nobody"
	}
	return refs[0].Name
}

func conditions(d appsv1.Deployment) string {
	out := make([]string, 0, len(d.Status.Conditions))
	for _, c := range d.Status.Conditions {
		out = append(out, fmt.Sprintf(", %s %s", c.Type, c.Status))
	}
	slices.Sort(out) // they are in the order in which they came
	return strings.Join(out, "")
}
