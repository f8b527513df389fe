package resourceclaim_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/resourceclaim"
)

type (
	pods   = map[string]*corev1.Pod
	claims = map[string]*resourceapi.ResourceClaim
)

// pod uses the claim "shared" by its name as "s", and one of a template as "t".
func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "uid-p", ResourceVersion: "3"}}
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "s", ResourceClaimName: new("shared")}, {Name: "t", ResourceClaimTemplateName: new("gpu")}}
	for _, f := range change {
		f(p)
	}
	return p
}

// told has the claim "c" for its template.
func told(p *corev1.Pod) {
	p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "t", ResourceClaimName: new("c")}}
}

func onNode(p *corev1.Pod)  { p.Spec.NodeName = "a" }
func ended(p *corev1.Pod)   { p.Status.Phase = corev1.PodSucceeded }
func leaving(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }

func claim(name string, change ...func(*resourceapi.ResourceClaim)) *resourceapi.ResourceClaim {
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "7"}}
	for _, f := range change {
		f(c)
	}
	return c
}

// ownedBy was made for a pod that uses it as "t".
func ownedBy(uid types.UID) func(*resourceapi.ResourceClaim) {
	return func(c *resourceapi.ResourceClaim) {
		c.Annotations = map[string]string{resourceapi.PodResourceClaimAnnotation: "t"}
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: uid, Controller: new(true)}}
	}
}

func allocated(c *resourceapi.ResourceClaim) {
	c.Finalizers = []string{"example.com/other", resourceapi.Finalizer}
	c.Status.Allocation = &resourceapi.AllocationResult{}
}

func goes(c *resourceapi.ResourceClaim) { c.DeletionTimestamp = new(metav1.Now()) }

func reservedFor(uids ...types.UID) func(*resourceapi.ResourceClaim) {
	return func(c *resourceapi.ResourceClaim) {
		for _, uid := range uids {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: strings.TrimPrefix(string(uid), "uid-"), UID: uid})
		}
	}
}

func template() *resourceapi.ResourceClaimTemplate {
	return &resourceapi.ResourceClaimTemplate{Spec: resourceapi.ResourceClaimTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "1"}},
		Spec:       resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{Name: "r"}}}},
	}}
}

// written says what a plan writes: of claims their finalizers and for whom they are, of the pod which claim it was told of.
func written(p plan.Plan) (out []string) {
	for _, w := range p.Writes {
		text := string(w.Verb) + " " + w.Name
		switch o := w.Object.(type) {
		case *resourceapi.ResourceClaim:
			if o.Status.Allocation != nil {
				text += " allocated"
			}
			for _, r := range o.Status.ReservedFor {
				text += " for " + r.Name
			}
			for _, f := range o.Finalizers {
				text += " " + f
			}
			if w.ResourceVersion != o.ResourceVersion {
				text += " of another version"
			}
			if w.ResourceVersion != "" {
				text += " at " + w.ResourceVersion
			}
		case *corev1.Pod:
			for _, s := range o.Status.ResourceClaimStatuses {
				text += " " + s.Name + "=" + *s.ResourceClaimName
			}
		}
		out = append(out, text)
	}
	for _, n := range p.Notices {
		out = append(out, n.Reason+": "+n.Message)
	}
	return out
}

func TestAPodGetsItsClaims(t *testing.T) {
	free := func(string) bool { return false }
	made := resourceclaim.Pod{Pod: pod(), Templates: map[string]*resourceapi.ResourceClaimTemplate{"gpu": template()}, Taken: free}.Sync().Writes[0].Object.(*resourceapi.ResourceClaim)
	want := claim(made.Name, ownedBy("uid-p"))
	want.UID, want.ResourceVersion, want.GenerateName, want.Labels, want.Annotations["a"], want.Spec = "", "", "p-t-", map[string]string{"l": "1"}, "1", template().Spec.Spec
	if diff := cmp.Diff(want, made); diff != "" || !strings.HasPrefix(made.Name, "p-t-") {
		t.Errorf("the claim is made as %s (-want +got):\n%s", made.Name, diff)
	}
	const missing = `FailedResourceClaimCreation: PodResourceClaim t: resource claim template "gpu": resourceclaimtemplate.resource.k8s.io "gpu" not found`
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		claims []*resourceapi.ResourceClaim
		want   []string
	}{
		"one of a template":                       {pod(), nil, []string{"create " + made.Name, "updateStatus p t=" + made.Name}},
		"it has one":                              {pod(told), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-p"))}, nil},
		"its claim is gone":                       {pod(told), nil, []string{"create " + made.Name, "updateStatus p t=" + made.Name}},
		"its claim is of another pod":             {pod(told), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-o"))}, []string{"create " + made.Name, "updateStatus p t=" + made.Name}},
		"it was not told":                         {pod(), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-p"))}, []string{"updateStatus p t=c"}},
		"it needs none":                           {pod(func(p *corev1.Pod) { p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "t"}} }), nil, nil},
		"it leaves":                               {pod(leaving), nil, nil},
		"the template is missing":                 {pod(func(p *corev1.Pod) { p.Spec.ResourceClaims[1].ResourceClaimTemplateName = new("gpu") }), nil, []string{missing}},
		"it has a node, and a claim no devices":   {pod(told, onNode), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-p"), allocated), claim("shared")}, []string{"updateStatus c allocated for p example.com/other resource.kubernetes.io/delete-protection at 7"}},
		"it has a node, and others use the claim": {pod(told, onNode), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-p"), allocated, reservedFor("uid-p")), claim("shared", allocated, reservedFor("uid-o"))}, []string{"updateStatus shared allocated for o for p example.com/other resource.kubernetes.io/delete-protection at 7"}},
		"it has a node, and a claim is missing":   {pod(told, onNode), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-p"), allocated)}, nil},
		"the scheduler reserves":                  {pod(told), []*resourceapi.ResourceClaim{claim("c", ownedBy("uid-p"), allocated), claim("shared")}, nil},
	} {
		in := resourceclaim.Pod{Pod: c.pod, Claims: claims{}, Taken: free}
		if name != "the template is missing" {
			in.Templates = map[string]*resourceapi.ResourceClaimTemplate{"gpu": template()}
		}
		for _, known := range c.claims {
			in.Claims[known.Name] = known
		}
		if diff := cmp.Diff(c.want, written(in.Sync())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNamesOfClaimsHaveSomethingOfBoth(t *testing.T) {
	p := pod(func(p *corev1.Pod) {
		p.Name, p.Spec.ResourceClaims[1].Name = strings.Repeat("p", 60), strings.Repeat("t", 60)
	})
	in := resourceclaim.Pod{Pod: p, Templates: map[string]*resourceapi.ResourceClaimTemplate{"gpu": template()}, Taken: func(string) bool { return false }}
	made := in.Sync().Writes[0].Object.(*resourceapi.ResourceClaim)
	if want := strings.Repeat("p", 28) + "-" + strings.Repeat("t", 28); made.GenerateName != want || len(made.Name) > 63 {
		t.Errorf("the claim is called %q, of %q", made.Name, made.GenerateName)
	}
}

func TestAClaimIsLetGo(t *testing.T) {
	const others, all = " example.com/other", " example.com/other resource.kubernetes.io/delete-protection"
	for name, c := range map[string]struct {
		claim *resourceapi.ResourceClaim
		pods  pods
		want  []string
	}{
		"by none": {claim("c", allocated, reservedFor("uid-p")), pods{"p": pod(onNode)}, nil},
		"by one of two": {
			claim("c", allocated, reservedFor("uid-p", "uid-o")), pods{"p": pod(onNode)}, []string{"updateStatus c allocated for p" + all + " at 7"},
		},
		"by a pod that ended":                  {claim("c", allocated, reservedFor("uid-p")), pods{"p": pod(onNode, ended)}, []string{"updateStatus c" + all + " at 7", "update c" + others}},
		"by a pod that is gone":                {claim("c", allocated, reservedFor("uid-p")), pods{}, []string{"updateStatus c" + all + " at 7", "update c" + others}},
		"by a pod that was replaced":           {claim("c", allocated, reservedFor("uid-old")), pods{"old": pod(onNode)}, []string{"updateStatus c" + all + " at 7", "update c" + others}},
		"by a pod that leaves and has no node": {claim("c", allocated, reservedFor("uid-p")), pods{"p": pod(leaving)}, []string{"updateStatus c" + all + " at 7", "update c" + others}},
		"by none, since the pod still runs":    {claim("c", allocated, reservedFor("uid-p")), pods{"p": pod(leaving, onNode)}, nil},
		"by what nobody knows": {claim("c", allocated, func(c *resourceapi.ResourceClaim) {
			c.Status.ReservedFor = []resourceapi.ResourceClaimConsumerReference{{APIGroup: "x", Resource: "y"}}
		}), pods{}, nil},
		"with devices that another has given":   {claim("c", reservedFor("uid-p"), func(c *resourceapi.ResourceClaim) { c.Status.Allocation = &resourceapi.AllocationResult{} }), pods{}, []string{"updateStatus c allocated at 7"}},
		"as nobody has used it":                 {claim("c", allocated), pods{}, nil},
		"as it goes":                            {claim("c", allocated, goes), pods{}, []string{"updateStatus c" + all + " at 7", "update c" + others}},
		"as it goes, without devices":           {claim("c", allocated, goes, func(c *resourceapi.ResourceClaim) { c.Status.Allocation = nil }), pods{}, []string{"update c" + others + " at 7"}},
		"as it goes, by none":                   {claim("c", allocated, goes, reservedFor("uid-p")), pods{"p": pod(onNode)}, nil},
		"as its pod is done":                    {claim("c", ownedBy("uid-p"), allocated, reservedFor("uid-p")), pods{"p": pod(onNode, ended)}, []string{"updateStatus c" + all + " at 7", "update c" + others, "delete c"}},
		"as its pod was replaced":               {claim("c", ownedBy("uid-old")), pods{"p": pod()}, []string{"delete c"}},
		"by none, as its pod is to come":        {claim("c", ownedBy("uid-p")), pods{"p": pod()}, nil},
		"as its pod is gone, by the collector":  {claim("c", ownedBy("uid-p")), pods{}, nil},
		"by its pod, which is done, as it goes": {claim("c", ownedBy("uid-p"), goes), pods{"p": pod(ended)}, nil},
	} {
		if diff := cmp.Diff(c.want, written(resourceclaim.Claim{Claim: c.claim, Pods: c.pods}.Sync())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
