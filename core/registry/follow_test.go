package registry

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/zeroplane/zeroplane/core/plan"
)

var at = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

func push(n int) Push {
	return Push{
		Registry: "example.azurecr.io", Repository: "shop/web", Tag: "v1", Digest: "sha256:" + strings.Repeat(string(rune('0'+n)), 64),
		At: at.Add(time.Duration(n) * time.Minute), ID: string(rune('a' + n)),
	}
}

const followsWeb = "web=example.azurecr.io/shop/web:v1"

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "init", Image: "init"}},
		Containers:     []corev1.Container{{Name: "web", Image: "example.azurecr.io/shop/web:v1"}, {Name: "side", Image: "side"}},
	}}
}

func meta(annotation string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u", ResourceVersion: "7"}
	if annotation != "" {
		m.Annotations = map[string]string{FollowAnnotation: annotation}
	}
	return m
}

func deployment(annotation string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: meta(annotation), Spec: appsv1.DeploymentSpec{Template: template()}}
}

// apply returns what a push makes of a workload, or the workload itself if it changes nothing.
func apply(t *testing.T, w runtime.Object, p Push) (runtime.Object, plan.Plan) {
	t.Helper()
	before := w.DeepCopyObject()
	out := Follow(w, p)
	if old, _ := workloadOf(before); old.spec.String() != must(workloadOf(w)).spec.String() {
		t.Fatal("the snapshot was changed")
	}
	if len(out.Writes) == 0 {
		return w, out
	}
	return out.Writes[0].Object, out
}

func must(w workload, ok bool) workload {
	if !ok {
		panic("no workload")
	}
	return w
}

func image(w runtime.Object, container string) string {
	return must(workloadOf(w)).container(container).Image
}

func TestAWorkloadThatFollowsATagGetsWhatIsPushed(t *testing.T) {
	for name, w := range map[string]runtime.Object{
		"a Deployment":  deployment(followsWeb),
		"a StatefulSet": &appsv1.StatefulSet{ObjectMeta: meta(followsWeb), Spec: appsv1.StatefulSetSpec{Template: template()}},
		"a DaemonSet":   &appsv1.DaemonSet{ObjectMeta: meta(followsWeb), Spec: appsv1.DaemonSetSpec{Template: template()}},
	} {
		t.Run(name, func(t *testing.T) {
			after, p := apply(t, w, push(1))
			if got, want := image(after, "web"), "example.azurecr.io/shop/web:v1@"+push(1).Digest; got != want {
				t.Errorf("its image is %s, want %s", got, want)
			}
			if image(after, "side") != "side" || image(after, "init") != "init" {
				t.Error("other containers changed")
			}
			if write := p.Writes[0]; write.Verb != plan.Update || write.ResourceVersion != "7" || write.OnSuccess == nil || write.IfFailed == nil {
				t.Errorf("the write is %+v", write)
			}
		})
	}
}

func TestPushesInAnyOrderEndWithTheNewest(t *testing.T) {
	for _, order := range [][]int{{1, 2, 3}, {3, 2, 1}, {2, 3, 1, 3, 2}, {1, 1, 3, 3}, {3, 1, 2, 2}} {
		var w runtime.Object = deployment(followsWeb)
		for _, n := range order {
			w, _ = apply(t, w, push(n))
		}
		if got := image(w, "web"); !strings.HasSuffix(got, push(3).Digest) {
			t.Errorf("after %v the image is %s", order, got)
		}
	}
	same := push(2)
	same.At, same.ID = push(1).At, "z"
	for _, order := range [][]Push{{push(1), same}, {same, push(1)}, {same, push(1), same}} {
		var w runtime.Object = deployment(followsWeb)
		for _, p := range order {
			w, _ = apply(t, w, p)
		}
		if got := image(w, "web"); !strings.HasSuffix(got, same.Digest) {
			t.Errorf("of two at one time the image is %s", got)
		}
	}
}

func TestAPushThatCameBeforeChangesNothing(t *testing.T) {
	w, _ := apply(t, deployment(followsWeb), push(2))
	for _, p := range []Push{push(2), push(1)} {
		if out := Follow(w, p); !out.Empty() {
			t.Errorf("%+v makes %+v", p, out)
		}
	}
}

func TestWhoDidNotAskForThePushIsLeftAlone(t *testing.T) {
	deleted := deployment(followsWeb)
	deleted.DeletionTimestamp = &metav1.Time{Time: at}
	untagged := push(1)
	untagged.Tag = ""
	for name, tt := range map[string]struct {
		w    runtime.Object
		push Push
	}{
		"no annotation":         {deployment(""), push(1)},
		"another tag":           {deployment("web=example.azurecr.io/shop/web:v2"), push(1)},
		"another registry":      {deployment("web=evil.azurecr.io/shop/web:v1"), push(1)},
		"a longer repository":   {deployment("web=example.azurecr.io/shop/web/x:v1"), push(1)},
		"broken, for other":     {deployment("nonsense"), push(1)},
		"a push without a tag":  {deployment(followsWeb), untagged},
		"one that is deleted":   {deleted, push(1)},
		"what has no template":  {&corev1.Pod{ObjectMeta: meta(followsWeb)}, push(1)},
		"a tag with its digest": {deployment(followsWeb + "@sha256:00"), Push{}},
	} {
		if out := Follow(tt.w, tt.push); !out.Empty() {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

func TestWhatCannotBeFollowedIsSaid(t *testing.T) {
	for name, annotation := range map[string]string{
		"no such container":    "none=example.azurecr.io/shop/web:v1",
		"one is malformed":     followsWeb + ",example.azurecr.io/shop/web:v1",
		"a digest is no tag":   "web=example.azurecr.io/shop/web:v1@sha256:00",
		"it names no registry": "web=web:v1," + followsWeb,
	} {
		out := Follow(deployment(annotation), push(1))
		if len(out.Notices) != 1 || out.Notices[0].Reason != "InvalidFollowImage" {
			t.Errorf("%s: %+v", name, out.Notices)
		}
	}
	two := deployment("web=example.azurecr.io/shop/web:v1, init=example.azurecr.io/shop/web:v1")
	if w, _ := apply(t, two, push(1)); image(w, "init") != image(w, "web") {
		t.Errorf("the images are %s and %s", image(w, "init"), image(w, "web"))
	}
	spoilt := deployment(followsWeb)
	spoilt.Annotations[FollowedAnnotation] = "null"
	if w, _ := apply(t, spoilt, push(1)); !strings.HasSuffix(image(w, "web"), push(1).Digest) {
		t.Error("a spoilt note keeps pushes out")
	}
}
