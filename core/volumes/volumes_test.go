package volumes

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

const (
	immediate = storagev1.VolumeBindingImmediate
	onDemand  = storagev1.VolumeBindingWaitForFirstConsumer
)

func policy(p corev1.PersistentVolumeReclaimPolicy) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = p }
}

func inPhase(p corev1.PersistentVolumePhase) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Status.Phase = p }
}

func annotatedVolume(annotation, value string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { metav1.SetMetaDataAnnotation(&v.ObjectMeta, annotation, value) }
}

func at(path string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}
	}
}

func volumeOfClass(class string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = class }
}

// byController is what a volume looks like that was given to the claim "c".
func byController(v *corev1.PersistentVolume) {
	reservedFor("c", "uid-of-c")(v)
	annotatedVolume(storagehelpers.AnnBoundByController, "yes")(v)
}

// TestAClaimAndAVolumeComeToRest gives a claim "c" and a volume "v" to the decisions until they ask for nothing.
func TestAClaimAndAVolumeComeToRest(t *testing.T) {
	const both = storagehelpers.AnnBindCompleted
	classes := []*storagev1.StorageClass{newClass("fast", "disks.example.com", immediate), newClass("late", "disks.example.com", onDemand)}
	for name, c := range map[string]struct {
		claim  *corev1.PersistentVolumeClaim
		volume *corev1.PersistentVolume
		want   string
		events []string
	}{
		"a claim gets a volume": {
			newClaim("c"), newVolume("v", inPhase(corev1.VolumePending)),
			`claim Bound "v" bind-completed bound-by-controller; volume Bound for c bound-by-controller`, nil,
		},
		"a volume that a user reserved": {
			newClaim("c"), newVolume("v", reservedFor("c", "")),
			`claim Bound "v" bind-completed bound-by-controller; volume Bound for c`, nil,
		},
		"a volume that the user asks for": {
			newClaim("c", asking("v")), newVolume("v"),
			`claim Bound "v" bind-completed; volume Bound for c bound-by-controller`, nil,
		},
		"a volume that the user asks for and is too small": {
			newClaim("c", asking("v")), newVolume("v", sized(1)), `claim Pending "v"; volume Available`,
			[]string{`Warning VolumeMismatch Cannot bind to requested volume "v": requested PV is too small`},
		},
		"a volume that the user asks for and another has": {
			newClaim("c", asking("v")), newVolume("v", reservedFor("d", "")), `claim Pending "v"; volume Available for d of any UID`,
			[]string{`Warning FailedBinding volume "v" already bound to a different claim.`},
		},
		"a volume that the user asks for and is not there": {newClaim("c", asking("v")), nil, `claim Pending "v"`, nil},
		"half a binding": {
			newClaim("c"), newVolume("v", byController),
			`claim Bound "v" bind-completed bound-by-controller; volume Bound for c bound-by-controller`, nil,
		},
		"no volume and no class": {
			newClaim("c"), nil, `claim Pending ""`,
			[]string{"Normal FailedBinding no persistent volumes available for this claim and no storage class is set"},
		},
		"a class with a provisioner": {
			newClaim("c", ofClass("fast")), nil, `claim Pending ""`,
			[]string{"Normal ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'disks.example.com' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."},
		},
		"a class that is not there": {
			newClaim("c", ofClass("absent")), nil, `claim Pending ""`,
			[]string{`Warning ProvisioningFailed storageclass.storage.k8s.io "absent" not found`},
		},
		"a claim that waits for a pod": {
			newClaim("c", ofClass("late")), newVolume("v", volumeOfClass("late")), `claim Pending ""; volume Available`,
			[]string{"Normal WaitForFirstConsumer waiting for first consumer to be created before binding"},
		},
		"a claim whose volume the scheduler chose": {
			newClaim("c", ofClass("late")), newVolume("v", volumeOfClass("late"), byController),
			`claim Bound "v" bind-completed bound-by-controller; volume Bound for c bound-by-controller`, nil,
		},
		"a bound claim whose volume is gone": {
			newClaim("c", asking("v"), annotatedClaim(both)), nil, `claim Lost "v" bind-completed`,
			[]string{"Warning ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		},
		"a bound claim that does not say to what": {
			newClaim("c", annotatedClaim(both)), nil, `claim Lost "" bind-completed`,
			[]string{"Warning ClaimLost Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"},
		},
		"a bound claim whose volume is another's": {
			newClaim("c", asking("v"), annotatedClaim(both)), newVolume("v", reservedFor("d", "uid-of-d"), inPhase(corev1.VolumeReleased)),
			`claim Lost "v" bind-completed; volume Released for d`,
			[]string{"Warning ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly"},
		},
		"a volume whose claim is gone": {nil, newVolume("v", byController, inPhase(corev1.VolumeBound)), "; volume Released for c bound-by-controller", nil},
		"a volume whose claim is another of its name": {
			newClaim("c", asking("w")), newVolume("v", reservedFor("c", "uid-before"), inPhase(corev1.VolumeBound)),
			`claim Pending "w"; volume Released for c`, nil,
		},
		"a volume whose claim is gone, to be wiped": {
			nil, newVolume("v", byController, inPhase(corev1.VolumeBound), policy(corev1.PersistentVolumeReclaimRecycle), at("/data")),
			"; volume Failed for c bound-by-controller", []string{"Warning VolumeFailedRecycle No recycler plugin found for the volume!"},
		},
		"a volume whose claim is gone, for its provisioner to delete": {
			nil, newVolume("v", byController, inPhase(corev1.VolumeBound), policy(corev1.PersistentVolumeReclaimDelete)),
			"; volume Released for c bound-by-controller", nil,
		},
		"a volume whose claim is gone, to be deleted from a host": {
			nil, newVolume("v", byController, inPhase(corev1.VolumeBound), policy(corev1.PersistentVolumeReclaimDelete), at("/data")),
			"; volume Failed for c bound-by-controller",
			[]string{"Warning VolumeFailedDelete host_path deleter only supports /tmp/.+ but received provided /data"},
		},
		"a volume whose claim is gone, to be deleted from a host's /tmp": {
			nil, newVolume("v", byController, inPhase(corev1.VolumeBound), policy(corev1.PersistentVolumeReclaimDelete), at("/tmp/v")), "", nil,
		},
		"a volume whose claim got another": {
			newClaim("c", asking("w")), newVolume("v", byController, inPhase(corev1.VolumeBound)), `claim Pending "w"; volume Available`, nil,
		},
		"a volume made for a claim that got another": {
			newClaim("c", asking("w")),
			newVolume("v", byController, annotatedVolume(storagehelpers.AnnDynamicallyProvisioned, "disks.example.com"), policy(corev1.PersistentVolumeReclaimDelete)),
			`claim Pending "w"; volume Released for c bound-by-controller`, nil,
		},
		"a volume reserved for a claim of another mode": {
			newClaim("c"), newVolume("v", reservedFor("c", "uid-of-c"), func(v *corev1.PersistentVolume) {
				block := corev1.PersistentVolumeBlock
				v.Spec.VolumeMode = &block
			}), `claim Pending ""; volume Available for c`,
			[]string{
				`Warning VolumeMismatch Cannot bind PersistentVolume to requested PersistentVolumeClaim "c" due to incompatible volumeMode.`,
				`Warning VolumeMismatch Cannot bind PersistentVolume "v" to requested PersistentVolumeClaim due to incompatible volumeMode.`,
				"Normal FailedBinding no persistent volumes available for this claim and no storage class is set",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for _, class := range classes {
				w.Put(plan.StorageClasses, class)
			}
			if c.claim != nil {
				w.Put(plan.Claims, c.claim)
			}
			if c.volume != nil {
				w.Put(plan.Volumes, c.volume)
			}
			w.settle(t)
			if diff := cmp.Diff(c.want, bindingOf(w.claim("c"), w.volume("v"))); diff != "" {
				t.Error(diff)
			}
			for _, p := range w.plans() { // what is said of what stays as it is
				if err := w.Apply(p); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(c.events, w.Events); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAClaimWithoutAClassGetsTheNewestDefaultOne(t *testing.T) {
	w := newWorld()
	for _, name := range []string{"b", "a", "old"} {
		class := newClass(name, "disks.example.com", onDemand)
		class.Annotations = map[string]string{isDefaultClass: "true"}
		class.CreationTimestamp = metav1.NewTime(epoch)
		if name == "old" {
			class.CreationTimestamp = metav1.NewTime(epoch.AddDate(-1, 0, 0))
		}
		w.Put(plan.StorageClasses, class)
	}
	w.Put(plan.Claims, newClaim("without", withoutClass))
	w.Put(plan.Claims, newClaim("none"))
	w.settle(t)
	if class := w.claim("without").Spec.StorageClassName; class == nil || *class != "a" {
		t.Errorf("class %v", class)
	}
	if class := w.claim("none").Spec.StorageClassName; *class != "" {
		t.Errorf("class %q of a claim that wants none", *class)
	}
}

func TestAClaimWithoutAClassGetsAVolumeWithoutOneFirst(t *testing.T) {
	w := newWorld()
	class := newClass("default", "disks.example.com", immediate)
	class.Annotations = map[string]string{betaIsDefaultClass: "true"}
	w.Put(plan.StorageClasses, class)
	w.Put(plan.Volumes, newVolume("v"))
	w.Put(plan.Claims, newClaim("c", withoutClass))
	w.settle(t)
	if claim := w.claim("c"); claim.Spec.VolumeName != "v" || claim.Spec.StorageClassName != nil {
		t.Errorf("%s", planworld.Text(claim))
	}
}

func TestAProvisionerThatADriverReplacedIsNamedByTheDriver(t *testing.T) {
	w := newWorld()
	w.Put(plan.StorageClasses, newClass("ebs", "kubernetes.io/aws-ebs", immediate))
	w.Put(plan.Claims, newClaim("c", ofClass("ebs")))
	w.Put(plan.Claims, newClaim("before", ofClass("ebs"), func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{storagehelpers.AnnBetaStorageProvisioner: "kubernetes.io/aws-ebs"}
	}))
	w.settle(t)
	const driver = "ebs.csi.aws.com"
	if diff := cmp.Diff(map[string]string{storagehelpers.AnnBetaStorageProvisioner: driver, storagehelpers.AnnStorageProvisioner: driver}, w.claim("c").Annotations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(driver, w.claim("before").Annotations[storagehelpers.AnnStorageProvisioner]); diff != "" {
		t.Error(diff)
	}
}

func TestVolumesHaveTheFinalizersOfWhoDeletesThem(t *testing.T) {
	const own, external = storagehelpers.PVDeletionInTreeProtectionFinalizer, storagehelpers.PVDeletionProtectionFinalizer
	for name, c := range map[string]struct {
		provisioner string
		policy      corev1.PersistentVolumeReclaimPolicy
		has, want   []string
	}{
		"made by a user":                {"", corev1.PersistentVolumeReclaimDelete, []string{own}, []string{own}},
		"made by somebody else":         {"disks.example.com", corev1.PersistentVolumeReclaimDelete, []string{external}, []string{external}},
		"made by a plugin":              {"kubernetes.io/host-path", corev1.PersistentVolumeReclaimDelete, []string{external}, []string{own}},
		"made by a plugin and kept":     {"kubernetes.io/host-path", corev1.PersistentVolumeReclaimRetain, []string{"other", own}, []string{"other"}},
		"made by a plugin that is gone": {"kubernetes.io/gce-pd", corev1.PersistentVolumeReclaimDelete, []string{own, external}, []string{external}},
	} {
		w := newWorld()
		volume := newVolume("v", policy(c.policy))
		volume.Finalizers = c.has
		if c.provisioner != "" {
			annotatedVolume(storagehelpers.AnnDynamicallyProvisioned, c.provisioner)(volume)
		}
		w.Put(plan.Volumes, volume)
		w.settle(t)
		if diff := cmp.Diff(c.want, w.volume("v").Finalizers); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestWhatIsDeletedFromAHostGoesWithItsFinalizer steps through a deletion as the API server does it: what has finalizers stays.
func TestWhatIsDeletedFromAHostGoesWithItsFinalizer(t *testing.T) {
	volume := newVolume("v", byController, inPhase(corev1.VolumeReleased), policy(corev1.PersistentVolumeReclaimDelete), at("/tmp/v"),
		annotatedVolume(storagehelpers.AnnDynamicallyProvisioned, hostPathPlugin))
	volume.Finalizers = []string{storagehelpers.PVDeletionInTreeProtectionFinalizer, "kubernetes.io/pv-protection"}
	verbs := func(p plan.Plan) (verbs []plan.Verb) {
		for _, w := range p.Writes {
			verbs = append(verbs, w.Verb)
		}
		return verbs
	}
	if got := verbs(Volume(volume, nil)); !slices.Equal(got, []plan.Verb{plan.Delete}) {
		t.Fatalf("%v", got)
	}
	deleted := metav1.NewTime(epoch)
	volume.DeletionTimestamp = &deleted
	p := Volume(volume, nil)
	if got := verbs(p); !slices.Equal(got, []plan.Verb{plan.Update}) {
		t.Fatalf("%v", got)
	}
	volume = p.Writes[0].Object.(*corev1.PersistentVolume)
	if !slices.Equal(volume.Finalizers, []string{"kubernetes.io/pv-protection"}) {
		t.Fatalf("finalizers %v", volume.Finalizers)
	}
	if p := Volume(volume, nil); !p.Empty() {
		t.Fatalf("%+v", p)
	}
}

func TestAClaimSaysForWhichPodsItWaits(t *testing.T) {
	pod := func(name string, alter func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
		alter(p)
		return p
	}
	waiting := func(*corev1.Pod) {}
	for name, c := range map[string]struct {
		pods []*corev1.Pod
		want string
	}{
		"one": {[]*corev1.Pod{pod("a", waiting)}, "Normal WaitForPodScheduled waiting for pod a to be scheduled"},
		"two": {[]*corev1.Pod{pod("a", waiting), pod("b", waiting)}, "Normal WaitForPodScheduled waiting for pods a,b to be scheduled"},
		"none that still waits": {
			[]*corev1.Pod{
				pod("placed", func(p *corev1.Pod) { p.Spec.NodeName = "n" }), pod("over", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
				pod("other", func(p *corev1.Pod) { p.Spec.Volumes = nil }),
			},
			"Normal WaitForFirstConsumer waiting for first consumer to be created before binding",
		},
	} {
		w := newWorld()
		w.Put(plan.StorageClasses, newClass("late", "disks.example.com", onDemand))
		w.Put(plan.Claims, newClaim("c", ofClass("late")))
		for _, p := range c.pods {
			w.Put(plan.Pods, p)
		}
		if err := w.Apply(Claim(w.snapshotOf(w.claim("c")))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{c.want}, w.Events); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestOfSeveralVolumesThatWillDoAClaimGets(t *testing.T) {
	modes := func(m ...corev1.PersistentVolumeAccessMode) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Spec.AccessModes = m }
	}
	const once, many = corev1.ReadWriteOnce, corev1.ReadWriteMany
	class := "gold"
	for name, c := range map[string]struct {
		volumes []*corev1.PersistentVolume
		want    string
	}{
		"the smallest":                      {[]*corev1.PersistentVolume{newVolume("a", sized(20)), newVolume("b", sized(6)), newVolume("c", sized(4))}, "b"},
		"the one with the fewest modes":     {[]*corev1.PersistentVolume{newVolume("a", modes(once, many), sized(6)), newVolume("b", modes(once), sized(20))}, "b"},
		"the one that is for it":            {[]*corev1.PersistentVolume{newVolume("a", sized(6)), newVolume("b", sized(20), reservedFor("claim", ""))}, "b"},
		"none that is another's":            {[]*corev1.PersistentVolume{newVolume("a", reservedFor("other", ""))}, ""},
		"none that is not available yet":    {[]*corev1.PersistentVolume{newVolume("a", inPhase(corev1.VolumePending))}, ""},
		"none of other modes":               {[]*corev1.PersistentVolume{newVolume("a", modes(many))}, ""},
		"none of another class":             {[]*corev1.PersistentVolume{newVolume("a", volumeOfClass("fast"))}, ""},
		"none of another attributes' class": {[]*corev1.PersistentVolume{newVolume("a", func(v *corev1.PersistentVolume) { v.Spec.VolumeAttributesClassName = &class })}, ""},
	} {
		got := ""
		if best := bestMatch(newClaim("claim"), c.volumes, false); best != nil {
			got = best.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestAClaimSaysWhatItGot(t *testing.T) {
	gold := "gold"
	w := newWorld()
	w.Put(plan.Volumes, newVolume("v", annotatedVolume(preResizeCapacity, "7Gi"), func(v *corev1.PersistentVolume) { v.Spec.VolumeAttributesClassName = &gold }))
	w.Put(plan.Claims, newClaim("c", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = &gold }))
	w.settle(t)
	want := corev1.PersistentVolumeClaimStatus{
		Phase: corev1.ClaimBound, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: quantity(7), CurrentVolumeAttributesClassName: &gold,
	}
	if got := w.claim("c").Status; planworld.Text(&got) != planworld.Text(&want) {
		t.Errorf("%s", planworld.Text(&got))
	}
	planworld.Edit(w.World, plan.Volumes, "v", func(v *corev1.PersistentVolume) { v.Annotations, v.Spec.Capacity = nil, quantity(20) })
	w.settle(t)
	if got := w.claim("c").Status.Capacity; got.Storage().String() != "7Gi" {
		t.Errorf("capacity %s after the volume has grown", got.Storage())
	}
}

func TestAPodGetsTheClaimsOfItsEphemeralVolumes(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "uid-of-web"}}
	volume := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": name}},
			Spec:       newClaim(name).Spec,
		}}}}
	}
	pod.Spec.Volumes = []corev1.Volume{volume("a"), {Name: "tmp"}, volume("b"), volume("c")}
	yes := true
	want := newClaim("web-a").Spec
	owned := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "uid-of-web", Controller: &yes, BlockOwnerDeletion: &yes}}

	p := Ephemeral(pod, []*corev1.PersistentVolumeClaim{newClaim("web-b")})
	if len(p.Writes) != 1 {
		t.Fatalf("%+v", p.Writes)
	}
	if diff := cmp.Diff(&corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "web-a", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "a"}, OwnerReferences: owned,
		},
		Spec: want,
	}, p.Writes[0].Object); diff != "" {
		t.Error(diff)
	}
	if got := p.Writes[0].IfFailed; got.Message != "ephemeral volume a: create PVC web-a: %v" || got.Reason != "FailedBinding" || got.Component != "ephemeral_volume" {
		t.Errorf("%+v", got)
	}
	if len(p.Notices) != 1 || p.Notices[0].Message != "ephemeral volume b: PVC default/web-b was not created for pod default/web (pod is not owner)" {
		t.Errorf("%+v", p.Notices)
	}

	mine := newClaim("web-b")
	mine.OwnerReferences = owned
	if p := Ephemeral(pod, []*corev1.PersistentVolumeClaim{mine}); len(p.Writes) != 2 || len(p.Notices) != 0 {
		t.Errorf("%+v", p)
	}
	deleted := metav1.NewTime(epoch)
	pod.DeletionTimestamp = &deleted
	if p := Ephemeral(pod, nil); !p.Empty() {
		t.Errorf("%+v", p)
	}
}

func TestAChangeIsAboutTheClaimsThatItMattersTo(t *testing.T) {
	late, defaulted := newClass("late", "disks.example.com", onDemand), newClass("default", "disks.example.com", immediate)
	defaulted.Annotations = map[string]string{isDefaultClass: "true"}
	classes := []*storagev1.StorageClass{late, defaulted}
	free := newVolume("v", volumeOfClass("late"))
	for name, c := range map[string]struct{ got, want bool }{
		"a free volume, to a claim that waits":        {MayGet(newClaim("c", ofClass("late")), free, classes), false},
		"a volume for the claim that waits":           {MayGet(newClaim("c", ofClass("late")), newVolume("v", volumeOfClass("late"), reservedFor("c", "")), classes), true},
		"a free volume":                               {MayGet(newClaim("c"), newVolume("v"), classes), true},
		"a free volume, to a claim that asks for one": {MayGet(newClaim("c", asking("v")), newVolume("v"), classes), false},
		"a class, to its claims":                      {MattersTo(late, newClaim("c", ofClass("late"))), true},
		"a class, to those of another":                {MattersTo(late, newClaim("c")), false},
		"a class, to those that have none":            {MattersTo(late, newClaim("c", withoutClass)), false},
		"the default class, to those":                 {MattersTo(defaulted, newClaim("c", withoutClass)), true},
		"a class, to a bound claim":                   {MattersTo(late, newClaim("c", ofClass("late"), asking("v"))), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", name, c.got)
		}
	}
}
