package placement_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/functions/placement"
)

var now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func template() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}}}
}

func asks(name, cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "main", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}},
		}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func ofClass(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.PriorityClassName = name }
}

func TestAnAnswerFromNothing(t *testing.T) {
	got, err := placement.AskNothing(placement.Question{
		Pods:            []placement.Replicas{{Pod: asks("web", "1500m"), Count: new(int32(2))}, {Pod: asks("first", "2", ofClass("high"))}},
		PriorityClasses: []*schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 10}},
		Add:             []placement.Nodes{{Template: template(), Count: 1}},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := placement.Answer{
		Placements: []placement.Placed{
			{Subject: placement.Subject{Namespace: "shop", Name: "first", Origin: "New"}, Node: "n-0"},
			{Subject: placement.Subject{Namespace: "shop", Name: "web-0", Origin: "New"}, Node: "n-0"},
		},
		Unschedulable: []placement.Unplaced{{
			Subject: placement.Subject{Namespace: "shop", Name: "web-1", Origin: "New"},
			Message: "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
			Hints: []placement.Hint{
				{Kind: "Resources", Text: "n-0 lacks 1000m of cpu: free 500m, asked 1500m", Nodes: []string{"n-0"}},
				{Kind: "AddNode", Text: "a new node like n-0 would take it", Nodes: []string{"n-0"}},
			},
		}},
		Nodes: []placement.Node{{
			Name: "n-0", Added: true, CPU: placement.Usage{Allocatable: 4000, After: 3500}, Memory: placement.Usage{Allocatable: 8 << 30},
			Pods: placement.Usage{Allocatable: 110, After: 2},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	// What a program reads is flat.
	text, err := json.Marshal(got.Placements[0])
	if want := `{"namespace":"shop","pod":"first","origin":"New","node":"n-0"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

func TestEachPodOfAStatefulSetHasItsClaims(t *testing.T) {
	data := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: new("none"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
	}}
	ephemeral := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: data.Spec},
		}}}}
	}
	// The claims are there, and nothing binds them: were they not, it would be said that they are not found.
	// Upstream's DynamicResources then finds no state of its own, and says so.
	const unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
	for name, r := range map[string]placement.Replicas{
		"by a template":       {Pod: asks("db", "1"), Count: new(int32(1)), First: 3, ClaimTemplates: []corev1.PersistentVolumeClaim{data}},
		"by an ephemeral one": {Pod: asks("db", "1", ephemeral), Count: new(int32(1)), First: 3},
	} {
		got, err := placement.AskNothing(placement.Question{
			Pods: []placement.Replicas{r}, Add: []placement.Nodes{{Template: template(), Count: 1}},
		}, now)
		if err != nil || len(got.Unschedulable) != 1 || got.Unschedulable[0].Name != "db-3" {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if got.Unschedulable[0].Message != unbound {
			t.Errorf("%s: %s", name, got.Unschedulable[0].Message)
		}
	}
}

// A claim without requests is had everywhere, once it is there.
func TestClaimsForDevicesAreMadeOfTemplates(t *testing.T) {
	uses := func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: new("gpus")}, {Name: "shared", ResourceClaimName: new("c")}}
	}
	question := placement.Question{
		Pods:                   []placement.Replicas{{Pod: asks("web", "1", uses), Count: new(int32(2))}, {Pod: asks("one", "1", uses)}},
		ResourceClaims:         []*resourceapi.ResourceClaim{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "c", UID: "c"}}},
		ResourceClaimTemplates: []*resourceapi.ResourceClaimTemplate{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "gpus"}}},
		Add:                    []placement.Nodes{{Template: template(), Count: 1}},
	}
	got, err := placement.AskNothing(question, now)
	if err != nil || !got.Fits || len(got.Placements) != 3 || len(got.Unasked) != 0 {
		t.Errorf("with the templates: %+v, %v", got, err)
	}
	question.ResourceClaimTemplates[0].Namespace = "other"
	got, err = placement.AskNothing(question, now)
	if err != nil || got.Fits || len(got.Placements) != 0 || len(got.Unasked) != 3 {
		t.Errorf("without: %+v, %v", got, err)
	}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	one := []placement.Nodes{{Template: template(), Count: 1}}
	for name, c := range map[string]struct {
		question placement.Question
		want     error
		text     string
	}{
		"a class that is not there": {
			placement.Question{Pods: []placement.Replicas{{Pod: asks("p", "1", ofClass("none"))}}, Add: one}, placement.ErrInvalid,
			"the question makes no sense: pod shop/p: spec.priorityClassName: no PriorityClass with name none was found",
		},
		"a node that is not there": {placement.Question{Remove: []string{"n"}}, placement.ErrNoNode, `node "n": there is no such node`},
		"no pod":                   {placement.Question{Pods: []placement.Replicas{{}}}, placement.ErrInvalid, ""},
		"fewer than none":          {placement.Question{Pods: []placement.Replicas{{Pod: asks("p", "1"), Count: new(int32(-1))}}}, placement.ErrInvalid, ""},
		"no template":              {placement.Question{Add: []placement.Nodes{{Count: 1}}}, placement.ErrInvalid, ""},
		"too many pods":            {placement.Question{Pods: []placement.Replicas{{Pod: asks("p", "1"), Count: new(int32(1 << 30))}}}, placement.ErrInvalid, ""},
		"too many nodes":           {placement.Question{Add: []placement.Nodes{{Template: template(), Count: 1 << 30}}}, placement.ErrInvalid, ""},
	} {
		if _, err := placement.AskNothing(c.question, now); !errors.Is(err, c.want) || c.text != "" && err.Error() != c.text {
			t.Errorf("%s: %v", name, err)
		}
	}
}
