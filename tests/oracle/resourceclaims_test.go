package oracle_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	upstreamclaims "k8s.io/kubernetes/pkg/controller/resourceclaim"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/resourceclaim"
)

// depot is what a namespace has of pods, claims and templates.
type depot struct {
	pods      map[string]*corev1.Pod
	claims    map[string]*resourceapi.ResourceClaim
	templates map[string]*resourceapi.ResourceClaimTemplate
}

// outcome is what somebody made of one pod or claim: the claims as they are left, those that are deleted, what the pod was told.
type outcome struct {
	Claims map[string]*resourceapi.ResourceClaim
	Gone   []string
	Told   map[string]string
	Fault  string
}

func newOutcome() outcome {
	return outcome{Claims: map[string]*resourceapi.ResourceClaim{}, Told: map[string]string{}}
}

// put notes a claim as it is written. New ones are known by what their names begin with.
func (o *outcome) put(claim *resourceapi.ResourceClaim) {
	claim = claim.DeepCopy()
	if claim.UID == "" {
		claim.Name = claim.GenerateName
	}
	claim.ResourceVersion = ""
	o.Claims[claim.Name] = claim
}

// TestClaimsAreMadeAndLetGoAsUpstreamDoes gives pods and claims to Kubernetes's own controller, and compares what it writes.
func TestClaimsAreMadeAndLetGoAsUpstreamDoes(t *testing.T) {
	manyChecks(t)
	klog.SetLogger(klog.Logger{})
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		d := anyDepot(t)
		if name := rapid.SampledFrom(slices.Sorted(maps.Keys(d.pods))).Draw(t, "pod"); rapid.Bool().Draw(t, "about a pod") {
			compareOutcomes(t, seen, d.upstream(t, "pod:default/"+name), d.ofPlan(d.podPlan(name)))
			return
		}
		if len(d.claims) > 0 {
			name := rapid.SampledFrom(slices.Sorted(maps.Keys(d.claims))).Draw(t, "claim")
			compareOutcomes(t, seen, d.upstream(t, "claim:default/"+name), d.ofPlan(d.claimPlan(name)))
		}
	})
	t.Logf("figure: what was done about claims, how often %v", seen)
	for _, what := range []string{"nothing", "made", "told", "fault", "given back", "let go", "reserved", "gone"} {
		if seen[what] == 0 {
			t.Errorf("nobody ever had one %s", what)
		}
	}
}

func compareOutcomes(t *rapid.T, seen map[string]int, want, got outcome) {
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("(-upstream +core):\n%s", diff)
	}
	if len(want.Claims)+len(want.Gone)+len(want.Told)+len(want.Fault) == 0 {
		seen["nothing"]++
	}
	note := func(what string, is bool) {
		if is {
			seen[what]++
		}
	}
	note("fault", want.Fault != "")
	note("told", len(want.Told) > 0)
	note("gone", len(want.Gone) > 0)
	for _, claim := range want.Claims {
		note("made", claim.UID == "")
		note("reserved", claim.UID != "" && len(claim.Status.ReservedFor) > 0)
		note("given back", claim.UID != "" && claim.Status.Allocation == nil)
		note("let go", claim.UID != "" && len(claim.Finalizers) == 0)
	}
}

// upstream has Kubernetes's controller look at one key of its queue.
func (d *depot) upstream(t *rapid.T, key string) outcome {
	out := newOutcome()
	client := fake.NewClientset()
	client.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) { return d.answer(t, &out, action) })
	factory := informers.NewSharedInformerFactory(client, 0)
	resources := factory.Resource().V1()
	controller, err := upstreamclaims.NewController(klog.Background(), client, factory.Core().V1().Pods(), factory.Scheduling().V1beta1().PodGroups(),
		resources.ResourceClaims(), resources.ResourceClaimTemplates())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range d.pods {
		err = cmp.Or(err, factory.Core().V1().Pods().Informer().GetStore().Add(o))
	}
	for _, o := range d.claims {
		err = cmp.Or(err, resources.ResourceClaims().Informer().GetStore().Add(o))
	}
	for _, o := range d.templates {
		err = cmp.Or(err, resources.ResourceClaimTemplates().Informer().GetStore().Add(o))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Nothing that it exports handles one key.
	field := reflect.ValueOf(controller).Elem().FieldByName("syncHandlerFunc")
	sync := *(*func(context.Context, string) error)(unsafe.Pointer(field.UnsafeAddr()))
	if err := sync(t.Context(), key); err != nil && strings.Contains(err.Error(), "PodResourceClaim ") {
		_, out.Fault, _ = strings.Cut(err.Error(), ", ")
	}
	return out
}

// answer is the API server: it takes whatever is written, and says what.
func (d *depot) answer(t *rapid.T, out *outcome, action clienttesting.Action) (bool, runtime.Object, error) {
	missing := func(name string) error {
		return apierrors.NewNotFound(action.GetResource().GroupResource(), name)
	}
	switch a := action.(type) {
	case clienttesting.GetActionImpl:
		if pod := d.pods[a.Name]; a.Resource.Resource == "pods" && pod != nil {
			return true, pod, nil
		}
		return true, nil, missing(a.Name)
	case clienttesting.CreateActionImpl:
		claim := a.Object.(*resourceapi.ResourceClaim).DeepCopy()
		claim.Namespace = a.Namespace
		out.put(claim)
		claim.Name = claim.GenerateName
		return true, claim, nil
	case clienttesting.UpdateActionImpl:
		claim := a.Object.(*resourceapi.ResourceClaim)
		out.put(claim)
		return true, claim, nil
	case clienttesting.DeleteActionImpl:
		if d.claims[a.Name].DeletionTimestamp != nil {
			return true, nil, missing(a.Name) // it went with its finalizer, or will
		}
		out.Gone = append(out.Gone, a.Name)
		return true, nil, nil
	case clienttesting.PatchActionImpl:
		pod := &corev1.Pod{}
		if err := json.Unmarshal(a.Patch, pod); err != nil {
			t.Fatal(err)
		}
		for _, s := range pod.Status.ResourceClaimStatuses {
			out.Told[s.Name] = *s.ResourceClaimName
		}
		return true, pod, nil
	}
	t.Fatalf("upstream asks for %s %s", action.GetVerb(), action.GetResource())
	return false, nil, nil
}

func (d *depot) podPlan(name string) plan.Plan {
	return resourceclaim.Pod{
		Pod: d.pods[name], Claims: d.claims, Templates: d.templates, Taken: func(name string) bool { return d.claims[name] != nil },
	}.Sync()
}

func (d *depot) claimPlan(name string) plan.Plan {
	return resourceclaim.Claim{Claim: d.claims[name], Pods: d.pods}.Sync()
}

// ofPlan is what a plan writes.
func (d *depot) ofPlan(p plan.Plan) outcome {
	out := newOutcome()
	bases := map[string]string{}
	for _, w := range p.Writes {
		switch o := w.Object.(type) {
		case *resourceapi.ResourceClaim:
			if w.Verb == plan.Create {
				bases[o.Name] = o.GenerateName
			}
			out.put(o)
		case *corev1.Pod:
			for _, s := range o.Status.ResourceClaimStatuses {
				if s.ResourceClaimName == nil {
					continue // upstream leaves those as they are
				}
				out.Told[s.Name] = *s.ResourceClaimName
				if base, made := bases[*s.ResourceClaimName]; made {
					out.Told[s.Name] = base
				}
			}
		default:
			out.Gone = append(out.Gone, w.Name)
		}
	}
	for _, n := range p.Notices {
		out.Fault = n.Message
	}
	return out
}

func anyDepot(t *rapid.T) *depot {
	d := &depot{pods: map[string]*corev1.Pod{}, claims: map[string]*resourceapi.ResourceClaim{}, templates: map[string]*resourceapi.ResourceClaimTemplate{}}
	coin := func(what string, in int) bool { return rapid.IntRange(1, in).Draw(t, what) == 1 }
	for i := range rapid.IntRange(1, 3).Draw(t, "pods") {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%d", i), UID: types.UID(fmt.Sprintf("uid-p%d", i)), ResourceVersion: "1"}}
		for j := range rapid.IntRange(0, 3).Draw(t, "uses") {
			use := corev1.PodResourceClaim{Name: fmt.Sprintf("u%d", j)}
			switch name := fmt.Sprintf("c%d", rapid.IntRange(0, 3).Draw(t, "uses claim")); rapid.IntRange(0, 5).Draw(t, "how") {
			case 0, 1:
				use.ResourceClaimName = &name
			case 2, 3, 4:
				use.ResourceClaimTemplateName = new(rapid.SampledFrom([]string{"t0", "t0", "t0", "t1"}).Draw(t, "template"))
				if coin("is told", 2) {
					status := corev1.PodResourceClaimStatus{Name: use.Name, ResourceClaimName: &name}
					if coin("needs none", 4) {
						status.ResourceClaimName = nil
					}
					pod.Status.ResourceClaimStatuses = append(pod.Status.ResourceClaimStatuses, status)
				}
			}
			pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, use)
		}
		if coin("has a node", 2) {
			pod.Spec.NodeName = "n"
		}
		if coin("leaves", 4) {
			pod.DeletionTimestamp = new(metav1.NewTime(now))
		}
		pod.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodPending, corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed}).Draw(t, "phase")
		d.pods[pod.Name] = pod
	}
	anyone := func(what string) (string, types.UID) {
		name := fmt.Sprintf("p%d", rapid.IntRange(0, 3).Draw(t, what))
		uid := types.UID("uid-" + name)
		if coin(what+" was replaced", 6) {
			uid += "-before"
		}
		return name, uid
	}
	for i := range 4 {
		if coin("there is no claim", 4) {
			continue
		}
		claim := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c%d", i), UID: types.UID(fmt.Sprintf("uid-c%d", i)), ResourceVersion: "1"}}
		if coin("is of a pod", 2) {
			name, uid := anyone("owner")
			claim.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: name, UID: uid, Controller: new(!coin("is no controller", 6))}}
			// Of two claims for one use upstream takes any.
			if use := fmt.Sprintf("u%d", i); !coin("is not annotated", 4) {
				claim.Annotations = map[string]string{resourceapi.PodResourceClaimAnnotation: use}
			}
		}
		if coin("has devices", 2) {
			claim.Status.Allocation = &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{{Device: "d"}}}}
		}
		if claim.Status.Allocation != nil != coin("finalizer is odd", 6) {
			claim.Finalizers = []string{resourceapi.Finalizer}
		}
		for range rapid.IntRange(0, 2).Draw(t, "reservations") {
			name, uid := anyone("reserved for")
			r := resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: name, UID: uid}
			if coin("is no pod", 8) {
				r.APIGroup, r.Resource = "example.com", "things"
			}
			claim.Status.ReservedFor = append(claim.Status.ReservedFor, r)
		}
		if coin("claim goes", 4) {
			claim.DeletionTimestamp = new(metav1.NewTime(now))
		}
		d.claims[claim.Name] = claim
	}
	if !coin("there is no template", 4) {
		d.templates["t0"] = &resourceapi.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "t0"}, Spec: resourceapi.ResourceClaimTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: rapid.SampledFrom([]map[string]string{nil, {"c": "d"}}).Draw(t, "annotations")},
			Spec:       resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{Name: "r"}}}},
		}}
	}
	return d
}
