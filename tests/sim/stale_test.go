package sim

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/instances"
)

// TestSieveStaleView has instances decide on a past that is over (Sun et al., Automatic Reliability Testing for Cluster Management
// Controllers, OSDI 2022, "stale states").
func TestSieveStaleView(t *testing.T) {
	instances.Quiet(t)
	t.Run("a deletion that is seen again takes nothing from the namesake", func(t *testing.T) { play(t, deletionSeenAgain) })
	t.Run("of a node that looks new again people are told once", func(t *testing.T) { play(t, nodeLooksNewAgain) })
	t.Run("what has an old view ends no pod of the same name", func(t *testing.T) { play(t, namesakeOfAFailedPod) })
	t.Run("two that see too few pods make them once", func(t *testing.T) { play(t, twoSeeTooFewPods) })
}

// deletionSeenAgain kills an instance that has cleared away what belonged to an object, before it has stored that it did. The next one
// begins at the object's deletion, while there is another of its name.
func deletionSeenAgain(s *scene) {
	s.set(0)
	s.configMap("child", s.configMap("root", nil))
	one := s.enter()
	one.work(0)
	s.do(s.client.CoreV1().ConfigMaps(team).Delete(s.t.Context(), "root", metav1.DeleteOptions{}))
	one.before = func(_ string, ops []table.Op) bool {
		return storesCursor(ops, "lifecycle")
	}
	one.dies()
	if left := s.uids(plan.ConfigMaps); left["root"] != "" || left["child"] != "" {
		s.t.Fatalf("the first instance has left %v", left)
	}
	s.configMap("child", s.configMap("root", nil))
	want := s.uids(plan.ConfigMaps)

	root := kubestorage.KeyOf(plan.ConfigMaps.GroupResource(), team, "root")
	if went := s.went("lifecycle", kubestorage.ObjectsGroup, root); went != "removed made" {
		s.t.Fatalf("yet to be seen of the owner: %q", went)
	}
	two := s.enter()
	two.work(time.Minute)
	two.leave()
	if got := s.uids(plan.ConfigMaps); !maps.Equal(got, want) {
		s.t.Errorf("there were %v, and are %v", want, got)
	}
}

// nodeLooksNewAgain kills an instance that has told people of a new node, before it has stored that it did.
func nodeLooksNewAgain(s *scene) {
	s.set(0)
	s.register(0)
	one := s.enter()
	one.before = func(_ string, ops []table.Op) bool { return storesCursor(ops, "nodes") }
	one.dies()
	once := []string{"RegisteredNode"}
	if told := s.told(); !slices.Equal(told, once) {
		s.t.Fatalf("the first instance has told people %v", told)
	}
	node := kubestorage.KeyOf(plan.Nodes.GroupResource(), "", "node-0")
	if went := s.went("nodes", kubestorage.NodesGroup, node); went != "made" {
		s.t.Fatalf("yet to be seen of the node: %q", went)
	}
	two := s.enter()
	two.work(time.Minute)
	two.leave()
	if told := s.told(); !slices.Equal(told, once) {
		s.t.Errorf("people were told %v", told)
	}
}

// storesCursor reports whether a function's cursor is among what is committed.
func storesCursor(ops []table.Op, function string) bool {
	return slices.ContainsFunc(ops, func(op table.Op) bool { return op.Key == cursorOf(function) })
}

// namesakeOfAFailedPod shows an instance the rows of a time at which a pod had failed, when another of its name has long
// taken its place.
func namesakeOfAFailedPod(s *scene) {
	s.set(1)
	s.statefulSet("db")
	one := s.enter()
	one.work(20 * time.Second)
	_, err := s.client.CoreV1().Pods(team).Patch(s.t.Context(), "db-0", types.StrategicMergePatchType, []byte(`{"status":{"phase":"Failed"}}`), metav1.PatchOptions{}, "status")
	s.do(err)
	then, failed := s.rows(), s.uids(plan.Pods)
	one.work(20 * time.Second)
	want := s.uids(plan.Pods)
	if len(want) != 1 || want["db-0"] == failed["db-0"] {
		s.t.Fatalf("the failed pod was %v, and the one in its place is %v", failed, want)
	}

	two := s.enter()
	two.old = then
	for range 3 {
		_ = two.look() // it may fail at that, and try again
		time.Sleep(pause)
	}
	if two.refusals(kubestorage.PodsGroup) == 0 {
		s.t.Error("the instance has not tried to do anything about pods on its old view")
	}
	if got := s.uids(plan.Pods); !maps.Equal(got, want) {
		s.t.Errorf("on an old view: there were %v, and are %v", want, got)
	}
	two.old = nil
	two.work(time.Minute)
	if got := s.uids(plan.Pods); !maps.Equal(got, want) || phase(s, "db-0") != corev1.PodRunning {
		s.t.Errorf("in the end: there were %v, and are %v, %s", want, got, phase(s, "db-0"))
	}
	one.leave()
	two.leave()
}

func phase(s *scene, name string) corev1.PodPhase {
	pod, is := s.seen.get(plan.Pods, team, name).(*corev1.Pod)
	if !is {
		return "gone"
	}
	return pod.Status.Phase
}

// twoSeeTooFewPods holds up what one instance has decided until another has decided the same.
func twoSeeTooFewPods(s *scene) {
	const replicas = 5
	s.set(1)
	s.replicaSet("web", replicas)
	held, free := make(chan struct{}), make(chan struct{})
	one, two := s.enter(), s.enter()
	holds := true
	one.before = func(partition string, _ []table.Op) bool {
		if holds && partition == s.log(kubestorage.PodsGroup) {
			holds = false
			close(held)
			<-free
		}
		return false
	}
	done := make(chan error)
	go func() { done <- one.look() }()
	<-held
	two.work(0)
	if n := len(s.uids(plan.Pods)); n != replicas {
		s.t.Errorf("the second instance has made %d pods", n)
	}
	close(free)
	s.do(<-done)
	if one.refusals(kubestorage.PodsGroup) == 0 {
		s.t.Error("the first instance was not late")
	}
	one.work(time.Minute)
	if now, ever := len(s.uids(plan.Pods)), s.ever(plan.Pods); now != replicas || ever != replicas {
		s.t.Errorf("there are %d pods, and have been %d", now, ever)
	}
	one.leave()
	two.leave()
}
