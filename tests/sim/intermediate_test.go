package sim

import (
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/instances"
)

// TestSieveIntermediateState kills an instance between two writes of one plan, and has another finish what it has left (Sun et al.,
// OSDI 2022, "intermediate states").
func TestSieveIntermediateState(t *testing.T) {
	instances.Quiet(t)
	t.Run("a claim without its pod", func(t *testing.T) { play(t, claimWithoutPod) })
	t.Run("a pod that is let go and not counted", func(t *testing.T) { play(t, podNotCounted) })
	t.Run("some of the pods of a set", func(t *testing.T) { play(t, someOfThePods) })
}

// claimWithoutPod kills an instance that has made the claim of a StatefulSet's pod, before it makes the pod.
func claimWithoutPod(s *scene) {
	s.set(1)
	s.statefulSet("db", corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	})
	one := s.enter()
	one.before = func(partition string, _ []table.Op) bool { return partition == s.log(kubestorage.PodsGroup) }
	one.dies()
	claims := s.uids(plan.Claims)
	if len(claims) != 1 || s.ever(plan.Pods) != 0 {
		s.t.Fatalf("the first instance has left the claims %v and the pods %v", claims, s.uids(plan.Pods))
	}
	two := s.enter()
	two.work(time.Minute)
	two.leave()
	if pods, now := s.uids(plan.Pods), s.uids(plan.Claims); len(pods) != 1 || len(now) != 1 || now["data-db-0"] != claims["data-db-0"] {
		s.t.Errorf("there are the pods %v and the claims %v, of which there was %v", pods, now, claims)
	}
}

// podNotCounted kills an instance that has let a pod of a Job go, before it counts it, and has the pod deleted meanwhile.
func podNotCounted(s *scene) {
	s.set(1)
	s.job("sum")
	job := func() *batchv1.Job { return s.seen.get(plan.Jobs, team, "sum").(*batchv1.Job) }
	noted := func() int {
		if u := job().Status.UncountedTerminatedPods; u != nil {
			return len(u.Succeeded)
		}
		return 0
	}
	held := func() (pods int) {
		for _, pod := range s.seen.list(plan.Pods, team) {
			if slices.Contains(pod.GetFinalizers(), batchv1.JobTrackingFinalizer) {
				pods++
			}
		}
		return pods
	}
	one := s.enter()
	one.before = func(partition string, _ []table.Op) bool {
		return partition == s.log(kubestorage.WorkloadsGroup) && noted() > 0 && held() == 0
	}
	for range 10 {
		if one.look() != nil {
			break
		}
		time.Sleep(pause)
	}
	one.dies()
	if noted() != 1 || held() != 0 || job().Status.Succeeded != 0 {
		s.t.Fatalf("the first instance has left %d noted, %d held, %d counted", noted(), held(), job().Status.Succeeded)
	}
	for name := range s.uids(plan.Pods) {
		s.do(s.client.CoreV1().Pods(team).Delete(s.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	}
	if pods := s.uids(plan.Pods); len(pods) > 0 {
		s.t.Fatalf("there are still the pods %v", pods)
	}
	two := s.enter()
	two.work(time.Minute)
	two.leave()
	if j := job(); j.Status.Succeeded != 1 || noted() != 0 || j.Status.CompletionTime == nil || s.ever(plan.Pods) != 1 {
		s.t.Errorf("of %d pods were counted %d, and %d are noted; completed at %v", s.ever(plan.Pods), j.Status.Succeeded, noted(), j.Status.CompletionTime)
	}
}

// someOfThePods kills an instance between the transactions in which it makes more pods than one holds.
func someOfThePods(s *scene) {
	const replicas = 80
	s.set(1)
	s.replicaSet("web", replicas)
	one := s.enter()
	one.before = func(partition string, _ []table.Op) bool {
		return partition == s.log(kubestorage.PodsGroup) && len(s.uids(plan.Pods)) > 0
	}
	one.dies()
	left := len(s.uids(plan.Pods))
	if left == 0 || left >= replicas {
		s.t.Fatalf("the first instance has left %d pods", left)
	}
	two := s.enter()
	two.work(time.Minute)
	two.leave()
	if now, ever := len(s.uids(plan.Pods)), s.ever(plan.Pods); now != replicas || ever != replicas {
		s.t.Errorf("after %d that were left there are %d pods, and have been %d", left, now, ever)
	}
}
