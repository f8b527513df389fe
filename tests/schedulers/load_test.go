package schedulers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// mostClients work at once, each on pods of its own names.
	mostClients = 12
	// namesEach are the names of a client's pods. Together they are more than the nodes can take, so that nodes fill up.
	namesEach = 16
	// requestTimeout is for a process that is killed before it answers, and for a busy machine.
	requestTimeout = 10 * time.Second
	// turnLength is how long pods of the same sorts are made.
	turnLength = 5 * time.Second
	// mostPause between two requests of a client.
	mostPause = 40 * time.Millisecond
)

// load is clients that make, delete, end and relabel pods.
type load struct {
	// choose returns a client of a process that lives, nil if there is none at the moment.
	choose func(*rand.Rand) *kubernetes.Clientset
	seed   uint64
	// clients work at once.
	clients int
	// turns say what is done, one after the other.
	turns []turn

	mu sync.Mutex
	// outcomes counts the requests by how they ended; wrong are those that should not have ended so.
	outcomes map[string]int
	wrong    []error
}

// run works until the context ends.
func (l *load) run(ctx context.Context) {
	l.outcomes = map[string]int{}
	began := time.Now()
	var working sync.WaitGroup
	for i := range l.clients {
		rng := rand.New(rand.NewPCG(l.seed, uint64(i)))
		working.Go(func() {
			for ctx.Err() == nil {
				l.step(ctx, rng, i, l.turns[int(time.Since(began)/turnLength)%len(l.turns)])
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(rng.Int64N(int64(mostPause)))):
				}
			}
		})
	}
	working.Wait()
}

// step is one request, or a few. That a pod is not there, or is there already, is nothing to it.
func (l *load) step(ctx context.Context, rng *rand.Rand, client int, now turn) {
	at := l.choose(rng)
	if at == nil {
		return
	}
	pods := at.CoreV1().Pods(namespaceOf(client))
	name := fmt.Sprintf("pod-%d-%d", client, rng.IntN(namesEach))
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if rng.IntN(100) < now.share {
		l.rival(ctx, rng, at, client, now.rivals[client%len(now.rivals)])
		return
	}
	switch draw := rng.IntN(100); {
	case draw < 40: // often in a row, so that decisions are about several
		for range 1 + rng.IntN(3) {
			name := fmt.Sprintf("pod-%d-%d", client, rng.IntN(namesEach))
			_, err := pods.Create(ctx, anyPod(rng, name, now.sorts), metav1.CreateOptions{})
			l.note("create", err)
		}
	case draw < 68:
		l.note("delete", pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	case draw < 84: // its place is another's
		l.replace(ctx, at, namespaceOf(client), anyPod(rng, name, now.sorts))
	case draw < 92: // goes away for as long as its client draws no other deletion
		l.note("delete slowly", pods.Delete(ctx, name, metav1.DeleteOptions{}))
	case draw < 96:
		_, err := pods.Patch(ctx, name, types.StrategicMergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
		l.note("end", err)
	default:
		patch := fmt.Sprintf(`{"metadata":{"labels":{"group":"%d"}}}`, rng.IntN(groups))
		_, err := pods.Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		l.note("relabel", err)
	}
}

// The parts that pods of a rivalry play.
const (
	first  = "first"
	second = "second"
)

// rival goes on with a client's own rivalry for one place, which only one pod can have. A first pod has it and a second waits,
// and was told why. Then the first is deleted through one process while another first one, which is urgent, is made through
// another. A process that knows of the new one yet leaves the second alone, and has no more to tell it; one that does not
// places the second: two plans about different pods, of which only one may be committed.
func (l *load) rival(ctx context.Context, rng *rand.Rand, at *kubernetes.Clientset, client int, rivals rivalry) {
	label, namespace := map[string]string{"rivals": fmt.Sprint(client)}, namespaceOf(client)
	list, err := at.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set(label).String()})
	l.note("list", err)
	other := l.choose(rng)
	if err != nil || other == nil {
		return
	}
	parts := map[string]*corev1.Pod{}
	for i := range list.Items {
		parts[list.Items[i].Labels["part"]] = &list.Items[i]
	}
	holder, heir := parts[first], parts[second]
	made := func(part, name string) *corev1.Pod {
		pod := onlyPod(name)
		pod.Labels["rivals"], pod.Labels["part"] = label["rivals"], part
		if part == first {
			pod.Spec.PriorityClassName = urgent
		}
		rivals(pod, client)
		return pod
	}
	names := []string{fmt.Sprintf("first-%d-a", client), fmt.Sprintf("first-%d-b", client)}
	switch {
	case len(list.Items) > 2 || holder == nil || holder.Spec.NodeName == "" || heir != nil && heir.Spec.NodeName != "":
		for i := range list.Items {
			l.remove(ctx, at, namespace, list.Items[i].Name)
		}
		l.create(ctx, at, made(first, names[0]), namespace)
	case heir == nil:
		l.create(ctx, at, made(second, fmt.Sprintf("second-%d", client)), namespace)
	case len(heir.Status.Conditions) > 0:
		var deleted sync.WaitGroup
		deleted.Go(func() { l.remove(ctx, other, namespace, holder.Name) })
		if names[0] == holder.Name {
			names[0] = names[1]
		}
		l.create(ctx, at, made(first, names[0]), namespace)
		deleted.Wait()
	}
}

// replace makes a pod in place of the one of its name.
func (l *load) replace(ctx context.Context, at *kubernetes.Clientset, namespace string, pod *corev1.Pod) {
	l.remove(ctx, at, namespace, pod.Name)
	l.create(ctx, at, pod, namespace)
}

func (l *load) remove(ctx context.Context, at *kubernetes.Clientset, namespace, name string) {
	l.note("delete", at.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
}

func (l *load) create(ctx context.Context, at *kubernetes.Clientset, pod *corev1.Pod, namespace string) {
	_, err := at.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	l.note("create", err)
}

func namespaceOf(client int) string { return []string{"one", "two"}[client%2] }

// note counts how a request ended.
func (l *load) note(verb string, err error) {
	outcome := "done"
	wrong := false
	var status apierrors.APIStatus
	switch {
	case err == nil:
	case errors.As(err, &status):
		outcome = strings.ToLower(string(status.Status().Reason))
		wrong = !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) &&
			!apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) && !apierrors.IsTooManyRequests(err) && !apierrors.IsServiceUnavailable(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		outcome = "unsent"
	default:
		outcome = "unknown"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[verb+" "+outcome]++
	if wrong {
		l.wrong = append(l.wrong, fmt.Errorf("%s: %w", verb, err))
	}
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, outcome := range slices.Sorted(maps.Keys(l.outcomes)) {
		out = append(out, fmt.Sprintf("%s %d", outcome, l.outcomes[outcome]))
	}
	return strings.Join(out, ", ")
}

const (
	// groups is how many there are of each sort of pods that mind each other.
	groups = 3
	zones  = 3
	// nodeCount nodes offer together less than what the pods of all names ask for.
	nodeCount = 9
)

// fixedNodes are without a kubelet.
func fixedNodes() []*corev1.Node {
	var out []*corev1.Node
	for i := range nodeCount {
		name := fmt.Sprintf("node-%d", i)
		out = append(out, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%zones),
			}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("6Gi"), corev1.ResourcePods: resource.MustParse("14"),
			}},
		})
	}
	return out
}

// urgent pods go first, so that one who knows of them and one who does not place different pods. They evict nobody.
const urgent = "urgent"

func urgentClass() *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: urgent}, Value: 1000, PreemptionPolicy: new(corev1.PreemptNever)}
}

// anyPod draws a pod, of any size.
func anyPod(rng *rand.Rand, name string, sorts []sort) *corev1.Pod {
	pod := onlyPod(name)
	group := fmt.Sprint(rng.IntN(groups))
	pod.Labels["group"] = group
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
		corev1.ResourceCPU:    []resource.Quantity{resource.MustParse("250m"), resource.MustParse("500m"), resource.MustParse("1")}[rng.IntN(3)],
		corev1.ResourceMemory: []resource.Quantity{resource.MustParse("256Mi"), resource.MustParse("512Mi"), resource.MustParse("1Gi")}[rng.IntN(3)],
	}
	if rng.IntN(2) == 0 {
		pod.Spec.PriorityClassName = urgent
	}
	sorts[rng.IntN(len(sorts))](rng, pod, group)
	return pod
}

// onlyPod is of no sort, and asks for nothing.
func onlyPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			// Nobody says that the nodes are ready.
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "c", Image: "c"}},
		},
	}
}

// turn is what is done for a while: pods of some sorts are made, and so many of 100 steps are about rivals.
type turn struct {
	sorts  []sort
	rivals []rivalry
	share  int
}

// sort makes a pod of a group what it is.
type sort func(rng *rand.Rand, pod *corev1.Pod, group string)

// solitary pods ask for room and ports alone, and mingled are of all sorts. A plan that has one of the others among them is
// held to all pods on nodes, so that only solitary pods show whether it is held to those on its own.
var (
	solitary = turn{sorts: []sort{plain, plain, publishing}, rivals: []rivalry{forPort}, share: 15}
	mingled  = turn{sorts: []sort{plain, plain, publishing, apart, loner, noisy, noisy, spread, near}, rivals: []rivalry{forPort, forQuiet, forZone}, share: 15}
	// ports and zones are contended for.
	ports = turn{sorts: []sort{plain}, rivals: []rivalry{forPort}, share: 90}
	zone  = turn{sorts: []sort{plain}, rivals: []rivalry{forZone}, share: 90}
)

// rivalry makes a pod ask for what only one of a client's can have.
type rivalry func(pod *corev1.Pod, client int)

// forPort of a node.
func forPort(pod *corev1.Pod, client int) {
	pod.Labels["sort"] = "publishing"
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: fmt.Sprintf("node-%d", client%nodeCount)}
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: int32(9000 + client), ContainerPort: 80}}
}

// forQuiet in a zone, of which the second does not know.
func forQuiet(pod *corev1.Pod, client int) {
	group := inZone(pod, client)
	if pod.Labels["part"] == first {
		loner(nil, pod, group)
	} else {
		noisy(nil, pod, group)
	}
}

// forZone where there is none in the other ones.
func forZone(pod *corev1.Pod, client int) {
	group := inZone(pod, client)
	pod.Labels["sort"] = "spread"
	pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: choosing("spread", group),
		NodeAffinityPolicy: new(corev1.NodeInclusionPolicyIgnore),
	}}
}

// inZone puts a pod into a zone, and into a group that only its rivals are of.
func inZone(pod *corev1.Pod, client int) (group string) {
	group = fmt.Sprintf("rivals-%d", client)
	pod.Labels["group"] = group
	pod.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", client%zones)}
	return group
}

func plain(_ *rand.Rand, pod *corev1.Pod, _ string) { pod.Labels["sort"] = "plain" }

// publishing pods take a port of their node.
func publishing(rng *rand.Rand, pod *corev1.Pod, _ string) {
	pod.Labels["sort"] = "publishing"
	port := corev1.ContainerPort{HostPort: int32(8080 + rng.IntN(2)), ContainerPort: 80}
	if rng.IntN(3) == 0 {
		port.HostIP = "127.0.0.1"
	}
	if rng.IntN(3) == 0 {
		port.Protocol = corev1.ProtocolUDP
	}
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
}

// apart from those of their group on other nodes.
func apart(_ *rand.Rand, pod *corev1.Pod, group string) {
	pod.Labels["sort"] = "apart"
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: requireApart(corev1.LabelHostname, "apart", group)}
}

// loner pods are in a zone without noisy ones of a group, in any namespace, who say nothing of it themselves.
func loner(_ *rand.Rand, pod *corev1.Pod, group string) {
	pod.Labels["sort"] = "loner"
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: requireApart(corev1.LabelTopologyZone, "noisy", group)}
	pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].NamespaceSelector = &metav1.LabelSelector{}
}

func noisy(_ *rand.Rand, pod *corev1.Pod, _ string) { pod.Labels["sort"] = "noisy" }

func requireApart(key, sort, group string) *corev1.PodAntiAffinity {
	return &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		TopologyKey: key, LabelSelector: choosing(sort, group),
	}}}
}

// spread over zones, nodes or both.
func spread(rng *rand.Rand, pod *corev1.Pod, group string) {
	pod.Labels["sort"] = "spread"
	keys := [][]string{{corev1.LabelTopologyZone}, {corev1.LabelHostname}, {corev1.LabelTopologyZone, corev1.LabelHostname}}[rng.IntN(3)]
	for _, key := range keys {
		pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: choosing("spread", group),
		})
	}
}

// near those of their group and namespace, in one zone.
func near(_ *rand.Rand, pod *corev1.Pod, group string) {
	pod.Labels["sort"] = "near"
	pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		TopologyKey: corev1.LabelTopologyZone, LabelSelector: choosing("near", group),
	}}}}
}

func choosing(sort, group string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"sort": sort, "group": group}}
}
