package volumes

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
	ephemeralcontroller "k8s.io/kubernetes/pkg/controller/volume/ephemeral"
	"k8s.io/kubernetes/pkg/controller/volume/persistentvolume"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/nfs"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/controllers"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

const (
	// worlds is how many random worlds are given to Kubernetes's own controllers, at the same time.
	worlds = 40
	// restTimeout bounds how long they may take to come to the rest that ours has come to, restInterval is how often that is
	// looked at, and touchInterval how often they are made to look at everything, as they do themselves every 15 seconds.
	restTimeout   = 30 * time.Second
	restInterval  = 20 * time.Millisecond
	touchInterval = 250 * time.Millisecond
	// listenFor is how long something may be said that ours do not say: it was on its way when they came to rest.
	listenFor = 5 * time.Second
	// canary is a claim of which the controller says the same whenever it looks at it.
	canary = "zz-canary"
)

// TestTheControllersOfKubernetesComeToTheSameRest gives the same random worlds and edits to Kubernetes's own controllers of
// volumes and of ephemeral volumes, over a fake API server, and to this package, and compares claims, volumes, and what is said of them
// each time both have come to rest.
func TestTheControllersOfKubernetesComeToTheSameRest(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	var running sync.WaitGroup
	for seed := range worlds {
		running.Go(func() {
			h := rapid.Custom(drawHistory).Example(seed)
			u := newUpstream(t, h)
			defer u.stop()
			w := newWorld()
			for _, o := range h.objects {
				w.Put(o.resource, o.object)
			}
			for i := range len(h.edits) + 1 {
				if i > 0 {
					h.edits[i-1].ours(w)
					u.edit(h.edits[i-1])
				}
				w.settle(t)
				if diff := u.await(w.rest()); diff != "" {
					t.Errorf("world %d, after edit %d of %+v (-upstream +ours):\n%s", seed, i, h.edits, diff)
					return
				}
				if diff := u.awaitNotices(w.notices(), w.once); diff != "" {
					t.Errorf("world %d, after edit %d of %+v, what is said (-upstream +ours):\n%s", seed, i, h.edits, diff)
					return
				}
			}
		})
	}
	running.Wait()
}

type stored struct {
	resource schema.GroupVersionResource
	object   metav1.Object
}

// randomHistory is a random world and what users do to it.
type randomHistory struct {
	objects []stored
	edits   []edit
}

// edit makes an object, replaces it, or removes it if gone is set.
type edit struct {
	stored
	gone bool
}

func (e edit) String() string {
	return fmt.Sprintf("%s %s gone=%t", e.resource.Resource, e.object.GetName(), e.gone)
}

func (e edit) ours(w world) {
	if e.gone {
		w.Remove(e.resource, e.object.GetName())
	} else {
		w.Put(e.resource, e.object)
	}
}

// draw makes a random history. Where upstream takes any of several, or who comes first wins, there is only one: a class is of one
// claim, no two volumes are of one size, and what loses its claim is of a class that nobody asks for.
type draw struct {
	*rapid.T
	h    randomHistory
	made int
}

func (d *draw) add(resource schema.GroupVersionResource, object metav1.Object) {
	d.h.objects = append(d.h.objects, stored{resource, object})
}

func pick[E any](t *draw, label string, from ...E) E { return rapid.SampledFrom(from).Draw(t.T, label) }

// one reports whether something is so in one of n cases.
func (d *draw) one(n int, what string) bool { return rapid.IntRange(1, n).Draw(d.T, what) == n }

func drawHistory(t *rapid.T) randomHistory {
	d := &draw{T: t}
	for i := range 4 {
		class := newClass(fmt.Sprint("c", i), pick(d, "provisioner", "disks.example.com", "kubernetes.io/no-provisioner", "kubernetes.io/aws-ebs", hostPathPlugin, nfsPlugin),
			pick(d, "mode", immediate, onDemand))
		if d.one(4, "mount options") {
			class.MountOptions = []string{"ro", "soft"}
		}
		d.add(plan.StorageClasses, class)
	}
	for i := range 2 {
		class := newClass(fmt.Sprint("d", i), "disks.example.com", pick(d, "mode", immediate, onDemand))
		class.CreationTimestamp = metav1.NewTime(epoch.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "age")) * time.Hour))
		if d.one(3, "default") {
			class.Annotations = map[string]string{pick(d, "which", isDefaultClass, betaIsDefaultClass): "true"}
		}
		d.add(plan.StorageClasses, class)
	}
	d.add(plan.Claims, newClaim(canary, func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}))
	for i := range 4 {
		if !d.one(4, "no claim") {
			d.add(plan.Claims, d.freeClaim(fmt.Sprint("free-", i), fmt.Sprint("c", i)))
		}
	}
	if d.one(2, "without class") {
		d.add(plan.Claims, d.freeClaim("classless", ""))
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "pairs") {
		d.pair(i)
	}
	for range rapid.IntRange(0, 8).Draw(t, "volumes") {
		d.add(plan.Volumes, d.freeVolume())
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "pods") {
		d.pod(i)
	}
	for range rapid.IntRange(0, 4).Draw(t, "edits") {
		d.edit()
	}
	return d.h
}

// freeClaim is one that may get any volume of a class, empty for one that names none.
func (d *draw) freeClaim(name, class string) *corev1.PersistentVolumeClaim {
	return newClaim(name, func(c *corev1.PersistentVolumeClaim) {
		d.made++
		c.UID = types.UID(fmt.Sprint("uid-", d.made))
		c.Spec.StorageClassName = nil
		if class != "" {
			c.Spec.StorageClassName = &class
		}
		d.shape(&c.Spec.AccessModes, &c.Spec.VolumeMode, &c.Spec.VolumeAttributesClassName)
		c.Spec.Resources.Requests = quantity(rapid.IntRange(1, 12).Draw(d.T, "size"))
		if d.one(6, "selects") {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
		}
		if d.one(6, "node selected") {
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, storagehelpers.AnnSelectedNode, "n")
		}
		if d.one(8, "migrated") {
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, pick(d, "key", storagehelpers.AnnStorageProvisioner, storagehelpers.AnnBetaStorageProvisioner), pick(d, "was", "kubernetes.io/gce-pd", "disks.example.com"))
			if d.one(2, "says so") {
				metav1.SetMetaDataAnnotation(&c.ObjectMeta, storagehelpers.AnnMigratedTo, "other.example.com")
			}
		}
		if d.one(8, "source") {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "other"}
		}
	})
}

// shape draws what claims and volumes must agree about.
func (d *draw) shape(modes *[]corev1.PersistentVolumeAccessMode, mode **corev1.PersistentVolumeMode, attributes **string) {
	const once, many, read = corev1.ReadWriteOnce, corev1.ReadWriteMany, corev1.ReadOnlyMany
	type list = []corev1.PersistentVolumeAccessMode
	*modes = pick(d, "modes", list{once}, list{once}, list{once}, list{once, many}, list{once, read, many}, list{read})
	if d.one(6, "block") {
		block := corev1.PersistentVolumeBlock
		*mode = &block
	}
	if d.one(6, "attributes") {
		gold := "gold"
		*attributes = &gold
	}
}

// anyVolume is one of a size that no other has.
func (d *draw) anyVolume() *corev1.PersistentVolume {
	d.made++
	return newVolume(fmt.Sprint("v", d.made), func(v *corev1.PersistentVolume) {
		v.UID = types.UID("uid-of-" + v.Name)
		mi := rapid.IntRange(1, 12).Draw(d.T, "size")<<10 + d.made
		v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(fmt.Sprint(mi, "Mi"))}
		d.shape(&v.Spec.AccessModes, &v.Spec.VolumeMode, &v.Spec.VolumeAttributesClassName)
		if d.one(2, "labelled") {
			v.Labels = map[string]string{"tier": "gold"}
		}
		v.Spec.PersistentVolumeReclaimPolicy = pick(d, "policy", corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimDelete)
		switch rapid.IntRange(0, 7).Draw(d.T, "source") {
		case 0:
			at(pick(d, "path", "/data", "/tmp/", "/tmp/zeroplane-is-not-there/x"))(v)
		case 1:
			v.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}}
		case 2:
			v.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/data"}}
			// Wiping is left out where upstream can do it.
			v.Spec.PersistentVolumeReclaimPolicy = pick(d, "policy", corev1.PersistentVolumeReclaimRecycle, "Unknown", corev1.PersistentVolumeReclaimDelete)
		}
		if d.one(4, "provisioned") {
			by := pick(d, "by", "disks.example.com", "disks.example.com", "kubernetes.io/aws-ebs", "kubernetes.io/nfs", "kubernetes.io/glusterfs", hostPathPlugin)
			metav1.SetMetaDataAnnotation(&v.ObjectMeta, storagehelpers.AnnDynamicallyProvisioned, by)
			v.Finalizers = pick(d, "finalizers", nil, []string{storagehelpers.PVDeletionInTreeProtectionFinalizer}, []string{"other", storagehelpers.PVDeletionProtectionFinalizer})
		}
		if d.one(8, "migrated") {
			metav1.SetMetaDataAnnotation(&v.ObjectMeta, storagehelpers.AnnMigratedTo, "other.example.com")
		}
		if d.one(6, "resized") {
			metav1.SetMetaDataAnnotation(&v.ObjectMeta, preResizeCapacity, pick(d, "before", "1Gi", "much"))
		}
	})
}

// freeVolume is one that anybody may get.
func (d *draw) freeVolume() *corev1.PersistentVolume {
	v := d.anyVolume()
	v.Spec.StorageClassName = pick(d, "class", "c0", "c0", "c0", "c0", "c1", "c2", "c3", "", "", "d0", "d1")
	return v
}

// pair adds a claim that says to which volume it is bound, or is to be, and a volume that says whose it is. They may not agree.
func (d *draw) pair(i int) {
	v := d.anyVolume()
	v.Spec.StorageClassName = "used"
	name := fmt.Sprint("pair-", i)
	claim := d.freeClaim(name, pick(d, "class", "used", "used", "used", "other"))
	claim.Spec.Selector = nil
	claim.Spec.VolumeName = pick(d, "names", v.Name, v.Name, v.Name, "elsewhere", "")
	for _, a := range []string{storagehelpers.AnnBindCompleted, storagehelpers.AnnBoundByController} {
		if d.one(2, a) {
			annotatedClaim(a)(claim)
		}
	}
	if d.one(3, "was bound") {
		claim.Status = corev1.PersistentVolumeClaimStatus{Phase: pick(d, "claim's phase", corev1.ClaimBound, corev1.ClaimLost), AccessModes: v.Spec.AccessModes, Capacity: quantity(1)}
	}
	uid := string(claim.UID)
	switch rapid.IntRange(0, 5).Draw(d.T, "whose") {
	case 0:
	case 1:
		reservedFor(name, "uid-before")(v)
	case 2:
		reservedFor("nobody", "uid-of-nobody")(v)
	case 3:
		reservedFor(name, "")(v)
	default:
		reservedFor(name, uid)(v)
	}
	if v.Spec.ClaimRef != nil && v.Spec.ClaimRef.UID != "" {
		v.Status.Phase = pick(d, "phase", corev1.VolumePending, corev1.VolumeBound, corev1.VolumeAvailable, corev1.VolumeReleased, corev1.VolumeFailed)
	}
	if d.one(2, "by the controller") {
		annotatedVolume(storagehelpers.AnnBoundByController, "yes")(v)
	}
	if !d.one(5, "no claim") {
		d.add(plan.Claims, claim)
	}
	if !d.one(5, "no volume") {
		d.add(plan.Volumes, v)
	}
}

// pod uses a claim and has an ephemeral volume, whose claim may be there and another's.
func (d *draw) pod(i int) {
	name := fmt.Sprint("pod-", i)
	class := "of-" + name
	spec := newClaim("", ofClass(class)).Spec
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-of-" + name)}}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "used", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: fmt.Sprint("free-", rapid.IntRange(0, 3).Draw(d.T, "claim"))}}},
		{Name: "own", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec,
		}}}},
	}
	if d.one(3, "placed") {
		pod.Spec.NodeName = "n"
	}
	if d.one(4, "over") {
		pod.Status.Phase = corev1.PodSucceeded
	}
	if d.one(4, "claim of another") {
		d.add(plan.Claims, newClaim(name+"-own", ofClass(class)))
	}
	d.add(plan.Pods, pod)
}

// edit adds something that a user does.
func (d *draw) edit() {
	switch rapid.IntRange(0, 4).Draw(d.T, "edit") {
	case 0, 1:
		d.h.edits = append(d.h.edits, edit{stored: stored{plan.Volumes, d.freeVolume()}})
	case 2:
		// What controllers write to classes is nothing, so a class can be replaced.
		var classes []stored
		for _, o := range d.h.objects {
			if o.resource == plan.StorageClasses && strings.HasPrefix(o.object.GetName(), "d") {
				classes = append(classes, o)
			}
		}
		class := planworld.Copy(pick(d, "class", classes...).object.(*storagev1.StorageClass))
		class.Annotations = map[string]string{isDefaultClass: pick(d, "default", "true", "true", "false")}
		d.h.edits = append(d.h.edits, edit{stored: stored{plan.StorageClasses, class}})
	default:
		var storage []stored
		for _, o := range d.h.objects {
			if o.object.GetName() != canary && (o.resource == plan.Claims || o.resource == plan.Volumes) {
				storage = append(storage, o)
			}
		}
		if len(storage) > 0 {
			d.h.edits = append(d.h.edits, edit{stored: pick(d, "gone", storage...), gone: true})
		}
	}
}

// rest is what there is, by name, without what depends on who counts.
func (w world) rest() map[string]string {
	rest := map[string]string{}
	for _, claim := range w.claims() {
		describeClaim(rest, claim)
	}
	for _, volume := range w.volumes() {
		describeVolume(rest, volume)
	}
	return rest
}

func describeClaim(rest map[string]string, claim *corev1.PersistentVolumeClaim) {
	claim = claim.DeepCopy()
	claim.TypeMeta = metav1.TypeMeta{}
	anonymous(&claim.ObjectMeta)
	if metav1.GetControllerOf(claim) != nil {
		claim.UID = ""
		claim.Status = corev1.PersistentVolumeClaimStatus{} // the fake server does not say that new ones are pending
	}
	rest["claim "+claim.Name] = planworld.Text(claim)
}

func describeVolume(rest map[string]string, volume *corev1.PersistentVolume) {
	volume = volume.DeepCopy()
	volume.TypeMeta = metav1.TypeMeta{}
	anonymous(&volume.ObjectMeta)
	if volume.Spec.ClaimRef != nil {
		volume.Spec.ClaimRef.ResourceVersion = ""
	}
	rest["volume "+volume.Name] = planworld.Text(volume)
}

func anonymous(m *metav1.ObjectMeta) {
	m.ResourceVersion, m.Generation, m.CreationTimestamp, m.ManagedFields = "", 0, metav1.Time{}, nil
	delete(m.Labels, "round")
}

// notices are what is said of everything whenever somebody looks.
func (w world) notices() map[string]bool {
	said := map[string]bool{}
	for _, p := range w.plans() {
		for _, n := range p.Notices {
			said[noticeText(n.Regarding, n.Component, n.Type, n.Reason, n.Message)] = true
		}
	}
	return said
}

func noticeText(of corev1.ObjectReference, component, kind, reason, message string) string {
	return strings.Join([]string{of.Kind, of.Name, component, kind, reason, message}, " ")
}

// upstream is a fake API server with the controllers of Kubernetes.
type upstream struct {
	client  *fake.Clientset
	mu      sync.Mutex
	version int
	round   int
	// named are the texts of events by their names, ever those that were ever given, and since those since it was cleared.
	named       map[string]string
	ever, since map[string]bool
	stop        func()
}

func newUpstream(t *testing.T, h randomHistory) *upstream {
	var objects []runtime.Object
	for _, o := range h.objects {
		object := o.object.(runtime.Object).DeepCopyObject()
		accessor, _ := meta.Accessor(object)
		accessor.SetResourceVersion("1")
		objects = append(objects, object)
	}
	u := &upstream{client: fake.NewClientset(objects...), version: 1, named: map[string]string{}, ever: map[string]bool{}, since: map[string]bool{}}
	for _, verb := range []string{"create", "update"} {
		u.client.PrependReactor(verb, "*", u.serve)
	}
	u.client.PrependReactor("*", "events", u.hear)
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(u.client, 0)
	core, storage := factory.Core().V1(), factory.Storage().V1()
	plugins := append(hostpath.ProbeVolumePlugins(volume.VolumeConfig{}), nfs.ProbeVolumePlugins(volume.VolumeConfig{})...)
	binder, err := persistentvolume.NewController(ctx, persistentvolume.ControllerParameters{
		KubeClient: u.client, SyncPeriod: time.Hour, VolumePlugins: plugins, EnableDynamicProvisioning: true,
		VolumeInformer: core.PersistentVolumes(), ClaimInformer: core.PersistentVolumeClaims(), ClassInformer: storage.StorageClasses(),
		PodInformer: core.Pods(), NodeInformer: core.Nodes(),
	})
	if err != nil {
		panic(err)
	}
	ephemeral, err := ephemeralcontroller.NewController(ctx, u.client, core.Pods(), core.PersistentVolumeClaims())
	if err != nil {
		panic(err)
	}
	wait := controllers.Run(ctx, factory, binder.Run, func(ctx context.Context) { ephemeral.Run(ctx, 1) })
	u.stop = func() { cancel(); wait() }
	return u
}

// hear notes an event. It is stored under its name, so that the recorder counts it up.
func (u *upstream) hear(action clienttesting.Action) (bool, runtime.Object, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	name := ""
	switch a := action.(type) {
	case clienttesting.CreateAction:
		event := a.GetObject().(*corev1.Event)
		name = event.Name
		u.named[name] = noticeText(event.InvolvedObject, event.Source.Component, event.Type, event.Reason, inOrder(event.Message))
	case clienttesting.PatchAction:
		name = a.GetName()
	}
	if text := u.named[name]; text != "" {
		u.ever[text], u.since[text] = true, true
	}
	return false, nil, nil
}

// inOrder sorts the pods that a claim is said to wait for, which upstream names in the order of a map.
func inOrder(message string) string {
	const before, after = "waiting for pods ", " to be scheduled"
	list, ok := strings.CutPrefix(message, before)
	if !ok {
		return message
	}
	names := strings.Split(strings.TrimSuffix(list, after), ",")
	slices.Sort(names)
	return before + strings.Join(names, ",") + after
}

// serve does what the registry does before it stores: versions, conflicts, and what of an object a request may change.
func (u *upstream) serve(action clienttesting.Action) (bool, runtime.Object, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	object := action.(clienttesting.CreateAction).GetObject()
	accessor, err := meta.Accessor(object)
	if err != nil || action.GetResource().Resource == "events" {
		return false, nil, err
	}
	u.version++
	if action.GetVerb() == "create" {
		if accessor.GetUID() == "" {
			accessor.SetUID(types.UID("uid-made-" + strconv.Itoa(u.version)))
		}
	} else if err := u.update(action, object, accessor); err != nil {
		return true, nil, err
	}
	accessor.SetResourceVersion(strconv.Itoa(u.version))
	return false, nil, nil
}

func (u *upstream) update(action clienttesting.Action, object runtime.Object, accessor metav1.Object) error {
	stored, err := u.client.Tracker().Get(action.GetResource(), accessor.GetNamespace(), accessor.GetName())
	if err != nil {
		return err
	}
	old, _ := meta.Accessor(stored)
	if accessor.GetResourceVersion() != "" && old.GetResourceVersion() != accessor.GetResourceVersion() {
		return apierrors.NewConflict(schema.GroupResource{Resource: action.GetResource().Resource}, accessor.GetName(), fmt.Errorf("changed"))
	}
	kept := "Status"
	if action.GetSubresource() == "status" {
		kept = "Spec"
	}
	if field := reflect.ValueOf(object).Elem().FieldByName(kept); field.IsValid() {
		field.Set(reflect.ValueOf(stored.DeepCopyObject()).Elem().FieldByName(kept))
	}
	return nil
}

// edit does what a user does.
func (u *upstream) edit(e edit) {
	ctx := context.Background()
	var err error
	object := e.object.(runtime.Object).DeepCopyObject()
	switch o := object.(type) {
	case *corev1.PersistentVolume:
		if e.gone {
			err = u.client.CoreV1().PersistentVolumes().Delete(ctx, o.Name, metav1.DeleteOptions{})
		} else {
			_, err = u.client.CoreV1().PersistentVolumes().Create(ctx, o, metav1.CreateOptions{})
		}
	case *corev1.PersistentVolumeClaim:
		err = u.client.CoreV1().PersistentVolumeClaims(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{})
	case *storagev1.StorageClass:
		_, err = u.client.StorageV1().StorageClasses().Update(ctx, o, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) { // it may have been deleted by the controller
		panic(err)
	}
}

// touch has the controller look at everything, the canary last. What is changed in between is looked at anyway.
func (u *upstream) touch() {
	ctx := context.Background()
	u.round++
	round := strconv.Itoa(u.round)
	for _, v := range u.volumes() {
		metav1.SetMetaDataLabel(&v.ObjectMeta, "round", round)
		_, _ = u.client.CoreV1().PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{})
	}
	claims := u.claims()
	slices.SortFunc(claims, func(a, b *corev1.PersistentVolumeClaim) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range claims {
		metav1.SetMetaDataLabel(&c.ObjectMeta, "round", round)
		_, _ = u.client.CoreV1().PersistentVolumeClaims(c.Namespace).Update(ctx, c, metav1.UpdateOptions{})
	}
}

func (u *upstream) volumes() []*corev1.PersistentVolume {
	list, err := u.client.Tracker().List(plan.Volumes, corev1.SchemeGroupVersion.WithKind("PersistentVolume"), "")
	if err != nil {
		panic(err)
	}
	var all []*corev1.PersistentVolume
	for i := range list.(*corev1.PersistentVolumeList).Items {
		all = append(all, list.(*corev1.PersistentVolumeList).Items[i].DeepCopy())
	}
	return all
}

func (u *upstream) claims() []*corev1.PersistentVolumeClaim {
	list, err := u.client.Tracker().List(plan.Claims, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), "default")
	if err != nil {
		panic(err)
	}
	var all []*corev1.PersistentVolumeClaim
	for i := range list.(*corev1.PersistentVolumeClaimList).Items {
		all = append(all, list.(*corev1.PersistentVolumeClaimList).Items[i].DeepCopy())
	}
	return all
}

func (u *upstream) rest() map[string]string {
	rest := map[string]string{}
	for _, claim := range u.claims() {
		describeClaim(rest, claim)
	}
	for _, volume := range u.volumes() {
		describeVolume(rest, volume)
	}
	return rest
}

// until looks whether something is so until it is, or for too long, and has the controllers look at everything in between.
func (u *upstream) until(so func() bool) {
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	u.touch()
	touched := time.Now()
	for began := time.Now(); time.Since(began) < restTimeout && !so(); <-ticker.C {
		if time.Since(touched) > touchInterval {
			u.touch()
			touched = time.Now()
		}
	}
}

// await returns how the controllers' rest differs from ours, when they have had the time to come to it.
func (u *upstream) await(ours map[string]string) (diff string) {
	u.until(func() bool { return maps.Equal(u.rest(), ours) })
	return cmp.Diff(u.rest(), ours)
}

// awaitNotices returns how what the controllers say at rest differs from what ours say then, and have said once.
func (u *upstream) awaitNotices(ours, once map[string]bool) (diff string) {
	// What was on the way when they came to rest is out when they have looked again, but for what is said once.
	u.mu.Lock()
	clear(u.since)
	u.mu.Unlock()
	u.until(func() bool { return u.heard(canarys) })
	var listening time.Time
	u.until(func() bool {
		if time.Since(listening) > listenFor {
			u.mu.Lock()
			maps.DeleteFunc(u.since, func(text string, _ bool) bool { return !ours[text] })
			u.mu.Unlock()
			listening = time.Now()
		}
		diff = u.compare(ours, once)
		return u.heard(canarys) && diff == ""
	})
	return diff
}

// canarys is what is said of the canary.
var canarys = noticeText(corev1.ObjectReference{Kind: "PersistentVolumeClaim", Name: canary}, component, corev1.EventTypeNormal, failedBinding,
	"no persistent volumes available for this claim and no storage class is set")

// saidOnce are the reasons of what is said when something is written.
var saidOnce = []string{"ClaimLost", "ClaimMisbound", volumeFailedDelete, volumeFailedRecycle, "VolumeUnknownReclaimPolicy"}

func (u *upstream) heard(text string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.since[text]
}

func (u *upstream) compare(ours, once map[string]bool) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	said := maps.Clone(u.since)
	for text := range said {
		// Whether they get in each other's way is chance.
		if !ours[text] && once[text] || strings.Contains(text, "Operation cannot be fulfilled") {
			delete(said, text)
		}
	}
	for text := range ours {
		seldom := strings.HasPrefix(text, "Pod ") || strings.Contains(text, hostPathPlugin) || strings.Contains(text, "Mount options")
		if seldom && u.ever[text] {
			said[text] = true
		}
	}
	wanted := maps.Clone(ours)
	for text := range once {
		wanted["once: "+text] = true
	}
	for text := range u.ever {
		if once[text] || slices.ContainsFunc(saidOnce, func(reason string) bool { return strings.Contains(text, reason) }) {
			said["once: "+text] = true
		}
	}
	return cmp.Diff(sorted(said), sorted(wanted))
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
