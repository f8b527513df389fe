package rollout

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller"
	deploymentutil "k8s.io/kubernetes/pkg/controller/deployment/util"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// The tests of this file put the same inputs to this package and to the functions of Kubernetes that
// it re-implements.

var quiet = klog.Logger{}

// differs fails the test when the two answers differ.
func differs[T any](t *rapid.T, what string, ours, upstream T) {
	t.Helper()
	if diff := cmp.Diff(upstream, ours, cmpopts.EquateErrors()); diff != "" {
		t.Fatalf("%s differs from upstream (-upstream +ours):\n%s", what, diff)
	}
}

func drawOptional[T any](t *rapid.T, name string, draw *rapid.Generator[T]) *T {
	if rapid.IntRange(0, 4).Draw(t, name+" is nil") == 0 {
		return nil
	}
	value := draw.Draw(t, name)
	return &value
}

func drawIntOrString(t *rapid.T, name string) *intstr.IntOrString {
	return drawOptional(t, name, rapid.Custom(func(t *rapid.T) intstr.IntOrString {
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return intstr.FromString("nonsense")
		case 1, 2:
			return intstr.FromInt(rapid.IntRange(0, 20).Draw(t, "number"))
		default:
			return intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(0, 150).Draw(t, "percent")))
		}
	}))
}

func drawTemplate(t *rapid.T) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      rapid.MapOfN(rapid.SampledFrom([]string{"app", "tier", appsv1.DefaultDeploymentUniqueLabelKey}), rapid.SampledFrom([]string{"a", "b"}), 0, 3).Draw(t, "labels"),
			Annotations: rapid.MapOfN(rapid.SampledFrom([]string{"x", "y"}), rapid.SampledFrom([]string{"1", "2"}), 0, 2).Draw(t, "annotations"),
			Finalizers:  rapid.SliceOfN(rapid.SampledFrom([]string{"f/1", "f/2"}), 0, 2).Draw(t, "finalizers"),
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                 rapid.SampledFrom([]corev1.RestartPolicy{"", corev1.RestartPolicyAlways}).Draw(t, "restart"),
			TerminationGracePeriodSeconds: drawOptional(t, "grace", rapid.Int64Range(0, 60)),
			Containers: []corev1.Container{{
				Name: "main", Image: rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(t, "image"),
				Env: []corev1.EnvVar{{Name: "A", Value: rapid.String().Draw(t, "env")}},
			}},
		},
	}
}

func drawTime(t *rapid.T, name string) metav1.Time {
	if rapid.IntRange(0, 5).Draw(t, name+" is zero") == 0 {
		return metav1.Time{}
	}
	return metav1.NewTime(epoch.Add(-time.Duration(rapid.IntRange(-2, 40).Draw(t, name)) * 7 * time.Second))
}

var annotationKeys = []string{
	RevisionAnnotation, RevisionHistoryAnnotation, DesiredReplicasAnnotation, MaxReplicasAnnotation,
	corev1.LastAppliedConfigAnnotation, appsv1.DeprecatedRollbackTo, "kubernetes.io/change-cause", "other",
}

func drawAnnotations(t *rapid.T) map[string]string {
	values := rapid.SampledFrom([]string{"", "0", "1", "2", "3", "5", "10", "-1", "x", "4294967295", "2147483647", "1,2", strings.Repeat("12,", 670)})
	return rapid.MapOfN(rapid.SampledFrom(annotationKeys), values, 0, 6).Draw(t, "annotations")
}

func drawReplicaSet(t *rapid.T, name string) *appsv1.ReplicaSet {
	rs := newReplicaSet(name, rapid.Int32Range(0, 12).Draw(t, "size"))
	rs.Annotations = drawAnnotations(t)
	rs.CreationTimestamp = drawTime(t, "created")
	rs.Spec.Template = drawTemplate(t)
	rs.Status = appsv1.ReplicaSetStatus{
		Replicas:            rapid.Int32Range(0, 12).Draw(t, "replicas"),
		ReadyReplicas:       rapid.Int32Range(0, 12).Draw(t, "ready"),
		AvailableReplicas:   rapid.Int32Range(0, 12).Draw(t, "available"),
		TerminatingReplicas: drawOptional(t, "terminating", rapid.Int32Range(0, 3)),
		ObservedGeneration:  rapid.Int64Range(0, 1).Draw(t, "observed"),
	}
	return rs
}

func drawReplicaSets(t *rapid.T) []*appsv1.ReplicaSet {
	var sets []*appsv1.ReplicaSet
	for i := range rapid.IntRange(0, 5).Draw(t, "sets") {
		sets = append(sets, drawReplicaSet(t, fmt.Sprintf("rs-%d", i)))
	}
	return sets
}

func drawAnyDeployment(t *rapid.T) *appsv1.Deployment {
	d := newDeployment("web", rapid.Int32Range(0, 12).Draw(t, "replicas"))
	d.Annotations = drawAnnotations(t)
	d.Spec.Template = drawTemplate(t)
	d.Generation = rapid.Int64Range(1, 3).Draw(t, "generation")
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: drawIntOrString(t, "surge"), MaxUnavailable: drawIntOrString(t, "unavailable")}
	if rapid.IntRange(0, 3).Draw(t, "recreate") == 0 {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	d.Status = drawStatus(t)
	return d
}

func drawStatus(t *rapid.T) appsv1.DeploymentStatus {
	count := rapid.Int32Range(0, 12)
	return appsv1.DeploymentStatus{
		ObservedGeneration: rapid.Int64Range(0, 3).Draw(t, "observed"),
		Replicas:           count.Draw(t, "replicas"), UpdatedReplicas: count.Draw(t, "updated"),
		ReadyReplicas: count.Draw(t, "ready"), AvailableReplicas: count.Draw(t, "available"),
		CollisionCount: drawOptional(t, "collisions", rapid.Int32()),
	}
}

func copies(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var all []*appsv1.ReplicaSet
	for _, rs := range sets {
		all = append(all, rs.DeepCopy())
	}
	return all
}

func TestHashIsUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		template, count := drawTemplate(t), drawOptional(t, "collisions", rapid.Int32())
		differs(t, "ComputeHash", podcontrol.ComputeHash(&template, count), controller.ComputeHash(&template, count))
	})
}

func TestFencepostsAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawAnyDeployment(t)
		surge, unavailable := drawIntOrString(t, "surge"), drawIntOrString(t, "unavailable")
		ourSurge, ourUnavailable, ourErr := resolveFenceposts(surge, unavailable, desiredOf(d))
		theirSurge, theirUnavailable, theirErr := deploymentutil.ResolveFenceposts(surge, unavailable, desiredOf(d))
		differs(t, "surge", ourSurge, theirSurge)
		differs(t, "unavailable", ourUnavailable, theirUnavailable)
		differs(t, "failing", ourErr != nil, theirErr != nil)
		differs(t, "MaxSurge", maxSurge(d), deploymentutil.MaxSurge(*d))
		differs(t, "MaxUnavailable", maxUnavailable(d), deploymentutil.MaxUnavailable(*d))
	})
}

func TestSizesAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, sets := drawAnyDeployment(t), drawReplicaSets(t)
		newSet := drawReplicaSet(t, "new")
		all := append(copies(sets), newSet)
		ours, ourErr := newReplicas(d, all, newSet)
		theirs, theirErr := deploymentutil.NewRSNewReplicas(d, all, newSet)
		differs(t, "NewRSNewReplicas", ours, theirs)
		differs(t, "failing", ourErr != nil, theirErr != nil)

		toAdd, added := rapid.Int32Range(-12, 12).Draw(t, "to add"), rapid.Int32Range(-12, 12).Draw(t, "added")
		differs(t, "GetReplicaSetProportion", proportion(d, newSet, toAdd, added),
			deploymentutil.GetReplicaSetProportion(quiet, newSet, *d, toAdd, added))
		differs(t, "IsSaturated", isSaturated(d, newSet), deploymentutil.IsSaturated(d, newSet))
		differs(t, "FindActiveOrLatest", activeOrLatest(newSet, sets), deploymentutil.FindActiveOrLatest(newSet, copies(sets)))
		differs(t, "FindActiveOrLatest without new", activeOrLatest(nil, sets), deploymentutil.FindActiveOrLatest(nil, copies(sets)))
		differs(t, "terminating", terminating(all), deploymentutil.GetTerminatingReplicaCountForReplicaSets(all))
		differs(t, "size", sizes(all), deploymentutil.GetReplicaCountForReplicaSets(all))
		differs(t, "actual", actual(all), deploymentutil.GetActualReplicaCountForReplicaSets(all))
		differs(t, "ready", ready(all), deploymentutil.GetReadyReplicaCountForReplicaSets(all))
		differs(t, "available", available(all), deploymentutil.GetAvailableReplicaCountForReplicaSets(all))
	})
}

func TestProgressIsUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, status := drawAnyDeployment(t), drawStatus(t)
		d.Spec.ProgressDeadlineSeconds = drawOptional(t, "deadline", rapid.SampledFrom([]int32{1, 600, math.MaxInt32}))
		differs(t, "DeploymentComplete", isComplete(d, &status), deploymentutil.DeploymentComplete(d, &status))
		differs(t, "DeploymentProgressing", isProgressing(d, &status), deploymentutil.DeploymentProgressing(d, &status))

		// Upstream looks at the clock: keep well away from the deadline.
		if rapid.Bool().Draw(t, "has condition") {
			ago := time.Duration(rapid.SampledFrom([]int{0, 300, 900}).Draw(t, "updated ago")) * time.Second
			status.Conditions = []appsv1.DeploymentCondition{{
				Type: appsv1.DeploymentProgressing, LastUpdateTime: metav1.NewTime(time.Now().Add(-ago - 10*time.Second)),
				Reason: rapid.SampledFrom([]string{ReplicaSetUpdatedReason, NewRSAvailableReason, TimedOutReason, PausedDeployReason}).Draw(t, "reason"),
			}}
		}
		differs(t, "DeploymentTimedOut", isTimedOut(d, &status, time.Now()), deploymentutil.DeploymentTimedOut(t.Context(), d, &status))
	})
}

func TestTemplatesCompareAsUpstream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, sets := drawAnyDeployment(t), drawReplicaSets(t)
		for _, rs := range sets {
			if rapid.Bool().Draw(t, "same template") {
				rs.Spec.Template.Spec = d.Spec.Template.Spec
				rs.Spec.Template.Finalizers, rs.Spec.Template.Annotations = d.Spec.Template.Finalizers, d.Spec.Template.Annotations
			}
			differs(t, "EqualIgnoreHash", equalIgnoreHash(&rs.Spec.Template, &d.Spec.Template),
				deploymentutil.EqualIgnoreHash(&rs.Spec.Template, &d.Spec.Template))
		}
		differs(t, "FindNewReplicaSet", findNewReplicaSet(d, sets), deploymentutil.FindNewReplicaSet(d, copies(sets)))
	})
}

func TestRevisionsAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, rs, sets := drawAnyDeployment(t), drawReplicaSet(t, "rs"), drawReplicaSets(t)
		revision := rapid.Int64Range(1, 6).Draw(t, "revision")
		ours, changed := annotateNewSet(d, rs, revision)
		theirs := rs.DeepCopy()
		theirChanged := deploymentutil.SetNewReplicaSetAnnotations(t.Context(), d, theirs, fmt.Sprint(revision), true, revisionHistoryLimit)
		differs(t, "SetNewReplicaSetAnnotations", changed, theirChanged)
		differs(t, "annotations", ours, theirs.Annotations)
		differs(t, "MaxRevision", maxRevision(sets), deploymentutil.MaxRevision(quiet, sets))
		differs(t, "LastRevision", lastRevision(sets), deploymentutil.LastRevision(quiet, sets))

		desired, maximum := replicasAnnotations(d)
		differs(t, "replicas annotations", rs.Annotations[DesiredReplicasAnnotation] != desired || rs.Annotations[MaxReplicasAnnotation] != maximum,
			deploymentutil.ReplicasAnnotationsNeedUpdate(rs, desiredOf(d), desiredOf(d)+maxSurge(d)))
		theirs = rs.DeepCopy()
		deploymentutil.SetReplicasAnnotations(theirs, desiredOf(d), desiredOf(d)+maxSurge(d))
		differs(t, "SetReplicasAnnotations", withReplicasAnnotations(rs.Annotations, d), theirs.Annotations)
		theirValue, theirOK := deploymentutil.GetDesiredReplicasAnnotation(quiet, rs)
		value, ok := annotatedReplicas(rs, DesiredReplicasAnnotation)
		differs(t, "GetDesiredReplicasAnnotation", ok, theirOK)
		if ok {
			differs(t, "GetDesiredReplicasAnnotation", value, theirValue)
		}
		if back := d.DeepCopy(); back.Annotations != nil {
			deploymentutil.SetDeploymentAnnotationsTo(back, rs)
			differs(t, "SetDeploymentAnnotationsTo", rolledBackAnnotations(d, rs), back.Annotations)
		}
	})
}

func TestOrdersAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sets := drawReplicaSets(t)
		check := func(name string, compare func(a, b *appsv1.ReplicaSet) int, upstream func([]*appsv1.ReplicaSet) sort.Interface) {
			less := upstream(sets).Less
			for i := range sets {
				for j := range sets {
					differs(t, name, compare(sets[i], sets[j]) < 0, less(i, j))
				}
			}
		}
		check("ReplicaSetsByCreationTimestamp", compareCreation, func(s []*appsv1.ReplicaSet) sort.Interface { return controller.ReplicaSetsByCreationTimestamp(s) })
		check("ReplicaSetsBySizeOlder", compareSizeOlder, func(s []*appsv1.ReplicaSet) sort.Interface { return controller.ReplicaSetsBySizeOlder(s) })
		check("ReplicaSetsBySizeNewer", compareSizeNewer, func(s []*appsv1.ReplicaSet) sort.Interface { return controller.ReplicaSetsBySizeNewer(s) })
		check("ReplicaSetsByRevision", compareRevision, func(s []*appsv1.ReplicaSet) sort.Interface { return deploymentutil.ReplicaSetsByRevision(s) })
	})
}

func drawPod(t *rapid.T, name string) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: types.UID(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "uid") + name),
			CreationTimestamp: drawTime(t, "created"),
		},
		Spec: corev1.PodSpec{
			NodeName:       rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "node"),
			InitContainers: []corev1.Container{{Name: "sidecar", RestartPolicy: &always}, {Name: "init"}},
		},
		Status: corev1.PodStatus{
			Phase:             rapid.SampledFrom([]corev1.PodPhase{corev1.PodPending, corev1.PodUnknown, corev1.PodRunning, corev1.PodFailed, corev1.PodSucceeded}).Draw(t, "phase"),
			ContainerStatuses: []corev1.ContainerStatus{{RestartCount: rapid.Int32Range(0, 2).Draw(t, "restarts")}},
			InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "sidecar", RestartCount: rapid.Int32Range(0, 2).Draw(t, "sidecar restarts")}, {Name: "init", RestartCount: 9},
			},
		},
	}
	if cost := rapid.SampledFrom([]string{"", "-5", "0", "7", "+7", "x"}).Draw(t, "cost"); cost != "" {
		pod.Annotations = map[string]string{corev1.PodDeletionCost: cost}
	}
	if status := rapid.SampledFrom([]corev1.ConditionStatus{"", corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, "ready"); status != "" {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: drawTime(t, "ready since")}}
	}
	if rapid.IntRange(0, 4).Draw(t, "deleted") == 0 {
		pod.DeletionTimestamp = &metav1.Time{Time: epoch}
	}
	return pod
}

func TestRankingIsUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pods []*corev1.Pod
		var ranks []int
		var ranked []podcontrol.Ranked
		for i := range rapid.IntRange(2, 6).Draw(t, "pods") {
			pods = append(pods, drawPod(t, fmt.Sprint(i)))
			ranks = append(ranks, rapid.IntRange(0, 2).Draw(t, "rank"))
			ranked = append(ranked, podcontrol.Ranked{Pod: pods[i], Neighbours: ranks[i]})
		}
		upstream := controller.ActivePodsWithRanks{Pods: pods, Rank: ranks, Now: metav1.NewTime(epoch)}
		for i := range pods {
			for j := range pods {
				differs(t, fmt.Sprintf("order of %d and %d", i, j), podcontrol.CompareRanked(ranked[i], ranked[j], epoch) < 0, upstream.Less(i, j))
			}
		}
		differs(t, "FilterActivePods", slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !podstate.IsActive(p) }),
			append([]*corev1.Pod{}, controller.FilterActivePods(quiet, pods)...))
		for _, pod := range pods {
			differs(t, "IsPodTerminating", podstate.IsTerminating(pod), controller.IsPodTerminating(pod))
		}
	})
}

func TestPodsFromTemplateAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := drawReplicaSet(t, rapid.SampledFrom([]string{"web", strings.Repeat("a", 253), "UPPER"}).Draw(t, "name"))
		upstream, err := controller.GetPodFromTemplate(&rs.Spec.Template, rs, metav1.NewControllerRef(rs, replicaSetKind))
		if err != nil {
			t.Fatal(err)
		}
		upstream.Namespace = rs.Namespace // the request's path says it there
		if diff := cmp.Diff(stored(upstream), stored(newPod(rs))); diff != "" {
			t.Fatalf("pod differs (-upstream +ours):\n%s", diff)
		}
	})
}

func TestConditionsAreSetAsUpstream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ours, theirs := appsv1.DeploymentStatus{}, appsv1.DeploymentStatus{}
		for i := range rapid.IntRange(1, 8).Draw(t, "steps") {
			now := metav1.NewTime(epoch.Add(time.Duration(i) * time.Second))
			condition := appsv1.DeploymentCondition{
				Type:   rapid.SampledFrom([]appsv1.DeploymentConditionType{appsv1.DeploymentAvailable, appsv1.DeploymentProgressing}).Draw(t, "type"),
				Status: rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, "status"),
				Reason: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "reason"), LastUpdateTime: now, LastTransitionTime: now,
			}
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				removeDeploymentCondition(&ours, condition.Type)
				deploymentutil.RemoveDeploymentCondition(&theirs, condition.Type)
			} else {
				setDeploymentCondition(&ours, condition)
				deploymentutil.SetDeploymentCondition(&theirs, condition)
			}
			differs(t, "conditions", ours, theirs)
		}
	})
}
