package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

const (
	// pause is between two looks of a player at work, and patience how long by the scene's clock a player may look.
	pause, patience = 5 * time.Second, time.Minute
	// many is more log rows than any scene writes.
	many = 100_000
)

// scene is a cluster to which nothing happens but what a test has happen: functions run while a player looks, and at no other time.
type scene struct {
	t     *testing.T
	store *memory.Store
	seen  *observer
	// committing is held during a commit that the observer is told of.
	committing sync.Mutex
	// stage is where users' requests go. Nobody there looks.
	stage  *player
	client *kubernetes.Clientset
	// partition is the first part of the names of the cluster's partitions.
	partition string
}

// player is an instance of the program.
type player struct {
	scene *scene
	host  *localhost.Host
	// before is asked before each commit, which it may hold up; the instance is killed instead if it says so. Nil lets all pass.
	before func(partition string, ops []table.Op) (kill bool)
	dead   atomic.Bool
	// end ends the look under way, if there is one.
	end atomic.Pointer[context.CancelFunc]
	// old are rows as they once were, by partition, which the player sees in place of those that are.
	old map[string][]table.Row
	// refused are how many of its commits to a partition were, since they came too late.
	mu      sync.Mutex
	refused map[string]int
}

var errKilled = errors.New("the player was killed")

// play runs a test of a scene by a clock of its own.
func play(t *testing.T, test func(*scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, store: memory.New(), seen: newObserver(t)}
		s.seen.store = s.store
		s.stage = s.enter()
		s.client = s.stage.client()
		info, err := (&cluster.Registry{Store: s.store}).Get(t.Context(), cluster.Default)
		if err != nil {
			t.Fatal(err)
		}
		s.partition = info.Partition()
		if err := s.seen.open(); err != nil {
			t.Fatal(err)
		}
		test(s)
		s.stage.leave()
		if s.seen.broken != nil {
			t.Error(s.seen.broken)
		}
		for _, v := range s.seen.history.Violations {
			t.Error(v)
		}
	})
}

// enter starts an instance.
func (s *scene) enter() *player {
	s.t.Helper()
	p := &player{scene: s, refused: map[string]int{}}
	host, err := localhost.OpenBehind(localhost.Options{
		Store: localhost.Store{Store: p, Close: func() error { return nil }, Shared: true},
		Front: localhost.Front{Address: "app.example.com", Freezes: true}, MaxAwake: 1, KeepMemory: true,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	p.host = host
	return p
}

// leave ends the instance.
func (p *player) leave() {
	p.scene.t.Helper()
	if err := p.host.Close(); err != nil && !p.dead.Load() {
		p.scene.t.Error(err)
	}
	synctest.Wait()
}

// look has the functions do all there is to do, and returns why they did not.
func (p *player) look() error {
	ctx, cancel := context.WithTimeout(p.scene.t.Context(), patience)
	defer cancel()
	p.end.Store(&cancel)
	defer p.end.Store(nil)
	err := p.host.Hear(ctx, events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event())
	if p.dead.Load() {
		return errKilled
	}
	return err
}

// work looks again and again for a while.
func (p *player) work(length time.Duration) {
	p.scene.t.Helper()
	for end := time.Now().Add(length); ; time.Sleep(pause) {
		if err := p.look(); err != nil {
			p.scene.t.Fatal(err)
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

// dies looks, and must be killed at it.
func (p *player) dies() {
	p.scene.t.Helper()
	if err := p.look(); !errors.Is(err, errKilled) {
		p.scene.t.Fatalf("the player was not killed: %v", err)
	}
	p.leave()
}

// Commit implements table.Store.
func (p *player) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if p.before != nil && !p.dead.Load() && p.before(partition, ops) {
		p.dead.Store(true)
		if end := p.end.Load(); end != nil {
			(*end)()
		}
	}
	if p.dead.Load() {
		return errKilled
	}
	p.scene.committing.Lock()
	defer p.scene.committing.Unlock()
	err := p.scene.store.Commit(ctx, partition, ops)
	if err == nil {
		p.scene.seen.committed(partition)
	}
	if conflict := new(table.ConflictError); errors.As(err, &conflict) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refused[partition]++
	}
	return err
}

// Get implements table.Store.
func (p *player) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if p.dead.Load() {
		return table.Row{}, errKilled
	}
	rows, isOld := p.old[partition]
	if !isOld {
		return p.scene.store.Get(ctx, partition, key)
	}
	at, found := slices.BinarySearchFunc(rows, key, func(r table.Row, key string) int { return strings.Compare(r.Key, key) })
	if !found {
		return table.Row{}, table.ErrNotFound
	}
	return rows[at], nil
}

// Range implements table.Store.
func (p *player) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if p.dead.Load() {
		return table.Page{}, errKilled
	}
	rows, isOld := p.old[partition]
	if !isOld {
		return p.scene.store.Range(ctx, partition, q)
	}
	var page table.Page
	for _, row := range rows {
		if row.Key >= max(q.From, q.Continue) && row.Key < q.To {
			page.Rows = append(page.Rows, row)
		}
	}
	if q.Limit > 0 && len(page.Rows) > q.Limit {
		page.Rows, page.Next = page.Rows[:q.Limit], page.Rows[q.Limit].Key
	}
	return page, nil
}

func (p *player) refusals(group string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused[p.scene.log(group)]
}

// client returns a client whose requests this instance answers.
func (p *player) client() *kubernetes.Clientset {
	t := p.scene.t
	t.Helper()
	file, err := p.host.Kubeconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	config.CAData, config.Transport, config.QPS = nil, p, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// RoundTrip implements http.RoundTripper.
func (p *player) RoundTrip(req *http.Request) (*http.Response, error) {
	in := httptest.NewRequest(req.Method, req.URL.String(), req.Body).WithContext(req.Context())
	in.Header = req.Header.Clone()
	out := httptest.NewRecorder()
	p.host.Handler().ServeHTTP(out, in)
	return out.Result(), nil
}

// log names the partition of a log group.
func (s *scene) log(group string) string { return kubestorage.Partition(s.partition, group) }

// rows returns the rows of all logs, as they are now.
func (s *scene) rows() map[string][]table.Row {
	s.t.Helper()
	out := map[string][]table.Row{}
	for _, group := range kubestorage.Groups {
		err := table.All(s.t.Context(), s.store, s.log(group), table.Query{To: "~"}, func(row table.Row) bool {
			out[s.log(group)] = append(out[s.log(group)], row)
			return true
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// unseen returns the changes of a log that a function has yet to handle, as its stored cursor says, and whether they are known:
// not if they were compacted away.
func (s *scene) unseen(function, group string) (changes []tablelog.Event, known bool) {
	s.t.Helper()
	row, err := s.store.Get(s.t.Context(), s.log("cursors"), cursorOf(function))
	if err != nil {
		s.t.Fatal(err)
	}
	cursor := map[string]uint64{}
	if err := json.Unmarshal(row.Value, &cursor); err != nil || cursor[group] == 0 {
		s.t.Fatalf("the cursor of %s is %s: %v", function, row.Value, err)
	}
	log := tablelog.New(s.store, s.log(group), tablelog.Options{})
	changes, _, err = log.EventsSince(s.t.Context(), cursor[group])
	if errors.Is(err, tablelog.ErrCompacted) {
		return nil, false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return changes, true
}

// cursorOf is the key of a function's cursor.
func cursorOf(function string) string { return "c-" + function }

// went reports which changes of a log are still to be handled that make or remove an object, such as "made removed".
func (s *scene) went(function, group, key string) string {
	s.t.Helper()
	changes, _ := s.unseen(function, group)
	var out []string
	for _, ev := range changes {
		switch {
		case ev.Key != key:
		case ev.Entry == nil:
			out = append(out, "removed")
		case ev.Prev == nil:
			out = append(out, "made")
		}
	}
	return strings.Join(out, " ")
}

// compact removes the past of all logs.
func (s *scene) compact() {
	s.t.Helper()
	for _, group := range kubestorage.Groups {
		log := tablelog.New(s.store, s.log(group), tablelog.Options{})
		state, err := log.Current(tablelog.Begin(s.t.Context()))
		if err == nil {
			_, err = log.Compact(tablelog.Begin(s.t.Context()), state.Rev, many)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// do fails the test for an error of a user's request.
func (s *scene) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// set is the stage of every scene: a namespace, and nodes.
func (s *scene) set(nodes int) {
	s.t.Helper()
	for i := range nodes {
		s.register(i)
	}
	_, err := s.client.CoreV1().Namespaces().Create(s.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team}}, metav1.CreateOptions{})
	s.do(err)
	p := s.enter()
	p.work(0)
	p.leave()
}

func (s *scene) register(i int) {
	s.t.Helper()
	node := kubelet.NewNode(fmt.Sprint("node-", i), i, kubelet.NodeOptions{Now: time.Now()})
	_, err := s.client.CoreV1().Nodes().Create(s.t.Context(), node, metav1.CreateOptions{})
	s.do(err)
}

// configMap makes one, which belongs to an owner if one is named.
func (s *scene) configMap(name string, owner *corev1.ConfigMap, finalizers ...string) *corev1.ConfigMap {
	s.t.Helper()
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
	if owner != nil {
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID, BlockOwnerDeletion: new(true)}}
	}
	c, err := s.client.CoreV1().ConfigMaps(team).Create(s.t.Context(), c, metav1.CreateOptions{})
	s.do(err)
	return c
}

// workload is what those of a name begin with.
func workload(name string) (metav1.ObjectMeta, *metav1.LabelSelector, corev1.PodTemplateSpec) {
	labels := map[string]string{"app": name}
	return metav1.ObjectMeta{Name: name}, &metav1.LabelSelector{MatchLabels: labels}, corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/app:1"}}},
	}
}

func (s *scene) replicaSet(name string, replicas int32) {
	s.t.Helper()
	set := &appsv1.ReplicaSet{}
	set.ObjectMeta, set.Spec.Selector, set.Spec.Template = workload(name)
	set.Spec.Replicas = &replicas
	_, err := s.client.AppsV1().ReplicaSets(team).Create(s.t.Context(), set, metav1.CreateOptions{})
	s.do(err)
}

// statefulSet makes one of a single replica.
func (s *scene) statefulSet(name string, claims ...corev1.PersistentVolumeClaim) {
	s.t.Helper()
	set := &appsv1.StatefulSet{}
	set.ObjectMeta, set.Spec.Selector, set.Spec.Template = workload(name)
	set.Spec.Replicas, set.Spec.ServiceName, set.Spec.VolumeClaimTemplates = new(int32(1)), name, claims
	_, err := s.client.AppsV1().StatefulSets(team).Create(s.t.Context(), set, metav1.CreateOptions{})
	s.do(err)
}

// job makes one of a single pod, which runs for a second.
func (s *scene) job(name string) {
	s.t.Helper()
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, _, job.Spec.Template = workload(name)
	job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	job.Spec.Template.Annotations = map[string]string{kubelet.RunSeconds: "1"}
	_, err := s.client.BatchV1().Jobs(team).Create(s.t.Context(), job, metav1.CreateOptions{})
	s.do(err)
}

// uids are those of the objects of a kind that there are, by name.
func (s *scene) uids(what schema.GroupVersionResource) map[string]types.UID {
	out := map[string]types.UID{}
	for _, o := range s.seen.list(what, team) {
		out[o.GetName()] = o.GetUID()
	}
	return out
}

// ever is how many objects of a kind there have been.
func (s *scene) ever(what schema.GroupVersionResource) int {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	uids := map[types.UID]bool{}
	for _, w := range s.seen.written {
		if gr, namespace, _ := kubestorage.ParseKey(w.key); gr == what.GroupResource() && namespace == team && w.object != nil {
			uids[w.object.GetUID()] = true
		}
	}
	return len(uids)
}

// told are the reasons of the Events about nodes, as often as they were given.
func (s *scene) told() (reasons []string) {
	s.t.Helper()
	list, err := s.client.CoreV1().Events(metav1.NamespaceDefault).List(s.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Node"})
	s.do(err)
	for i := range list.Items {
		for range list.Items[i].Count {
			reasons = append(reasons, list.Items[i].Reason)
		}
	}
	slices.Sort(reasons)
	return reasons
}
