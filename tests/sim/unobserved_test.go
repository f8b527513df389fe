package sim

import (
	"maps"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/instances"
)

// TestSieveUnobservedState has states come and go while nobody looks (Sun et al., OSDI 2022, "unobserved states").
func TestSieveUnobservedState(t *testing.T) {
	instances.Quiet(t)
	t.Run("a deletion of which nothing is left takes what belonged to the object", func(t *testing.T) { play(t, deletionNobodySaw) })
	t.Run("an owner goes whose last dependent went unseen", func(t *testing.T) { play(t, lastDependentWentUnseen) })
	t.Run("a node that was away for a while keeps its pods", func(t *testing.T) { play(t, nodeWasAway) })
}

// deletionNobodySaw compacts the deletion of an owner away before anybody has seen it.
func deletionNobodySaw(s *scene) {
	s.set(0)
	root := s.configMap("root", nil)
	s.configMap("child", root)
	one := s.enter()
	one.work(0)
	s.do(s.client.CoreV1().ConfigMaps(team).Delete(s.t.Context(), "root", metav1.DeleteOptions{}))
	s.configMap("last", nil)
	s.compact()
	if _, known := s.unseen("lifecycle", kubestorage.ObjectsGroup); known {
		s.t.Fatal("the deletion is still known")
	}
	if s.uids(plan.ConfigMaps)["child"] == "" {
		s.t.Fatal("somebody has seen it")
	}
	one.work(time.Minute)
	one.leave()
	if got := s.uids(plan.ConfigMaps); got["child"] != "" || got["last"] == "" {
		s.t.Errorf("there are %v", got)
	}
}

// lastDependentWentUnseen lets the dependent go for which its owner waits, and compacts that away.
func lastDependentWentUnseen(s *scene) {
	s.set(0)
	s.configMap("child", s.configMap("root", nil), "example.com/slow")
	one := s.enter()
	one.work(0)
	s.do(s.client.CoreV1().ConfigMaps(team).Delete(s.t.Context(), "root", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}))
	one.work(0)
	for _, name := range []string{"root", "child"} {
		if o := s.seen.get(plan.ConfigMaps, team, name); o == nil || o.GetDeletionTimestamp() == nil {
			s.t.Fatalf("%s does not wait to be deleted: %v", name, o)
		}
	}
	_, err := s.client.CoreV1().ConfigMaps(team).Patch(s.t.Context(), "child", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	s.do(err)
	s.configMap("last", nil)
	s.compact()
	if _, known := s.unseen("lifecycle", kubestorage.ObjectsGroup); known {
		s.t.Fatal("that the dependent went is still known")
	}
	if got := s.uids(plan.ConfigMaps); got["child"] != "" || got["root"] == "" {
		s.t.Fatalf("before anybody looks there are %v", got)
	}
	one.work(time.Minute)
	one.leave()
	if got := s.uids(plan.ConfigMaps); got["root"] != "" {
		s.t.Errorf("there are %v", got)
	}
}

// nodeWasAway deletes a node and registers it again between two looks that are further apart than pods wait for a node.
func nodeWasAway(s *scene) {
	s.set(1)
	s.replicaSet("web", 2)
	one := s.enter()
	one.work(20 * time.Second)
	want := s.uids(plan.Pods)
	s.do(s.client.CoreV1().Nodes().Delete(s.t.Context(), "node-0", metav1.DeleteOptions{}))
	time.Sleep(2 * time.Minute)
	s.register(0)
	node := kubestorage.KeyOf(plan.Nodes.GroupResource(), "", "node-0")
	if went := s.went("nodes", kubestorage.NodesGroup, node); went != "removed made" {
		s.t.Fatalf("yet to be seen of the node: %q", went)
	}
	one.work(2 * time.Minute)
	one.leave()
	if got := s.uids(plan.Pods); len(want) != 2 || !maps.Equal(got, want) {
		s.t.Errorf("there were %v, and are %v", want, got)
	}
	if told := s.told(); !slices.Equal(told, []string{"RegisteredNode", "RegisteredNode", "RemovingNode"}) {
		s.t.Errorf("people were told %v", told)
	}
}
