package scheduling_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

// world is a cluster that is kept while things happen to it, and the objects that there are.
type world struct {
	*rapid.T
	kept       *scheduling.Cluster
	nodes      map[string]*corev1.Node
	pods       map[string]*corev1.Pod
	namespaces map[string]*corev1.Namespace
	services   map[string]*corev1.Service
	drivers    map[string]*storagev1.CSIDriver
	stored     storage
	racked     rack
	version    int
}

var (
	worldNodes      = []string{"a", "b", "c", "d"}
	worldNamespaces = []string{"default", "other"}
)

func newWorld(t *rapid.T) *world {
	return &world{
		T: t, kept: scheduling.NewCluster(), nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}, services: map[string]*corev1.Service{},
		namespaces: map[string]*corev1.Namespace{}, drivers: map[string]*storagev1.CSIDriver{}, stored: newStorage(),
		racked: newRack(),
	}
}

// rebuilt is the same cluster, built from nothing.
func (w *world) rebuilt() *scheduling.Cluster {
	c := scheduling.NewCluster()
	every(w.nodes, c.SetNode)
	every(w.namespaces, c.SetNamespace)
	every(w.services, c.SetService)
	every(w.pods, c.SetPod)
	every(w.drivers, c.SetCSIDriver)
	every(w.stored.claims, c.SetClaim)
	every(w.stored.volumes, c.SetVolume)
	every(w.stored.classes, c.SetStorageClass)
	every(w.stored.csiNodes, c.SetCSINode)
	every(w.stored.capacities, c.SetStorageCapacity)
	every(w.stored.attachments, c.SetAttachment)
	every(w.racked.claims, c.SetResourceClaim)
	every(w.racked.slices, c.SetResourceSlice)
	every(w.racked.classes, c.SetDeviceClass)
	every(w.racked.rules, c.SetDeviceTaintRule)
	return c
}

func every[T any](all map[string]T, set func(T)) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		set(all[name])
	}
}

func (w *world) set(p *corev1.Pod) {
	w.version++
	p.ResourceVersion = fmt.Sprint(w.version)
	w.pods[p.Namespace+"/"+p.Name] = p
	w.kept.SetPod(p)
}

// pick is one of the objects that there are.
func pick[T any](w *world, all map[string]T, what string) (object T, found bool) {
	if len(all) == 0 {
		return object, false
	}
	return all[rapid.SampledFrom(slices.Sorted(maps.Keys(all))).Draw(w.T, what)], true
}

func (w *world) chance(what string, in int) bool { return rapid.IntRange(1, in).Draw(w.T, what) == in }

func (w *world) newPod() {
	w.version++
	p := anyPod(w.T, fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(w.T, "pod name")), worldNodes)
	p.Namespace = rapid.SampledFrom(worldNamespaces).Draw(w.T, "namespace")
	p.UID = types.UID(fmt.Sprint(w.version))
	p.Generation = int64(w.version)
	p.Labels = map[string]string{"app": rapid.SampledFrom([]string{"web", "db"}).Draw(w.T, "app")}
	topology := rapid.SampledFrom([]string{"zone", corev1.LabelHostname}).Draw(w.T, "topology")
	term := corev1.PodAffinityTerm{TopologyKey: topology, LabelSelector: chosenBy(rapid.SampledFrom([]string{"web", "db"}).Draw(w.T, "chosen"))}
	switch rapid.IntRange(0, 3).Draw(w.T, "of namespaces") {
	case 0:
		term.NamespaceSelector = &metav1.LabelSelector{}
	case 1:
		term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}
	}
	switch rapid.IntRange(0, 7).Draw(w.T, "asks of others") {
	case 0, 1:
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
	case 2, 3:
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
	case 4, 5:
		constraint := corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: term.LabelSelector}
		if w.chance("minds taints", 2) {
			constraint.NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
		}
		if w.chance("needs two domains", 3) {
			constraint.MinDomains = new(int32(2))
		}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{constraint}
	}
	w.set(p)
}

// touchPod changes a pod a little, or takes it away.
func (w *world) touchPod() {
	p, found := pick(w, w.pods, "touched")
	if !found {
		return
	}
	p = p.DeepCopy()
	switch rapid.IntRange(0, 7).Draw(w.T, "touch") {
	case 0, 1:
		delete(w.pods, p.Namespace+"/"+p.Name)
		w.kept.DeletePod(p.Namespace, p.Name)
		return
	case 2:
		p.Status.Phase = corev1.PodFailed
	case 3:
		p.Labels = map[string]string{"app": rapid.SampledFrom([]string{"web", "db", "none"}).Draw(w.T, "new app")}
	case 4:
		if p.DeletionTimestamp == nil {
			p.DeletionTimestamp = new(metav1.NewTime(now))
		}
	case 5:
		for name := range p.Spec.Containers[0].Resources.Requests {
			p.Spec.Containers[0].Resources.Requests[name] = resource.MustParse("0")
		}
		p.Generation++
	case 6:
		p.Status.Phase = corev1.PodRunning
	case 7:
		p.Spec.SchedulingGates = nil
		p.Generation++
	}
	w.set(p)
}

func (w *world) changeNode() {
	name := rapid.SampledFrom(worldNodes).Draw(w.T, "node name")
	n := w.nodes[name]
	switch kind := rapid.IntRange(0, 8).Draw(w.T, "node change"); {
	case n == nil || kind == 0:
		n = anyNode(w.T, name)
	case kind == 1:
		delete(w.nodes, name)
		w.kept.DeleteNode(name)
		return
	default:
		n = n.DeepCopy()
		switch kind {
		case 2:
			n.Spec.Unschedulable = !n.Spec.Unschedulable
		case 3:
			n.Spec.Taints = nil
		case 4:
			n.Labels["zone"] = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(w.T, "zone")
			n.Labels[corev1.LabelTopologyZone] = n.Labels["zone"]
		case 5:
			delete(n.Labels, "zone")
		case 6:
			n.Labels["other"] = fmt.Sprint(w.version)
		case 7:
			n.Status.Allocatable[corev1.ResourceCPU] = *resource.NewQuantity(rapid.Int64Range(0, 8).Draw(w.T, "cpu"), resource.DecimalSI)
		case 8:
			delete(n.Labels, corev1.LabelHostname)
		}
	}
	w.nodes[name] = n
	w.kept.SetNode(n)
}

func (w *world) happen() {
	switch kind := rapid.IntRange(0, 26).Draw(w.T, "kind"); {
	case kind < 5:
		w.newPod()
	case kind < 10:
		w.touchPod()
	case kind < 15:
		w.changeNode()
	case kind < 19:
		w.stored.change(w.T, w.kept, worldNodes)
	case kind > 23:
		w.racked.change(w.T, w.kept, worldNodes)
	case kind == 23:
		if claim, found := pick(w, w.racked.claims, "device claim"); found {
			w.tellReady(claim.DeepCopy())
		}
	case kind == 22:
		if pv, found := pick(w, w.stored.volumes, "volume"); found {
			pv = pv.DeepCopy()
			pv.Labels[corev1.LabelTopologyZone] = rapid.SampledFrom([]string{"x", "y", "x__y"}).Draw(w.T, "of zone")
			w.stored.volumes[pv.Name] = pv
			w.kept.SetVolume(pv)
		}
	case kind == 19:
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rapid.SampledFrom(worldNamespaces).Draw(w.T, "namespace")}}
		ns.Labels = map[string]string{"team": rapid.SampledFrom([]string{"x", "y"}).Draw(w.T, "team")}
		w.namespaces[ns.Name] = ns
		w.kept.SetNamespace(ns)
	case kind == 20:
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}}
		s.Spec.Selector = map[string]string{"app": rapid.SampledFrom([]string{"web", "db"}).Draw(w.T, "serves")}
		w.services["s"] = s
		w.kept.SetService(s)
	default:
		d := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}}
		d.Spec.StorageCapacity, d.Spec.PreventPodSchedulingIfMissing = new(w.chance("counts", 2)), new(w.chance("must be there", 2))
		apply(w.chance("driver goes", 4), w.drivers, "d", d, w.kept.SetCSIDriver, w.kept.DeleteCSIDriver)
		w.kept.SetBudget(&policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{Selector: chosenBy("web")}})
		w.kept.DeleteBudget("", "")
	}
}

// tellReady has drivers say that a claim's devices are ready, or that they failed, or gives them back.
func (w *world) tellReady(claim *resourceapi.ResourceClaim) {
	if claim.Status.Allocation == nil {
		return
	}
	said := rapid.SampledFrom([]string{"ready", "ready", "failed", "given back"}).Draw(w.T, "drivers say")
	claim.Status.Devices = nil
	for _, r := range claim.Status.Allocation.Devices.Results {
		claim.Status.Devices = append(claim.Status.Devices, resourceapi.AllocatedDeviceStatus{
			Driver: r.Driver, Pool: r.Pool, Device: r.Device, Conditions: []metav1.Condition{{Type: said, Status: metav1.ConditionTrue}},
		})
	}
	if said == "given back" {
		claim.Status = resourceapi.ResourceClaimStatus{}
	}
	w.racked.claims[claim.Name] = claim
	w.kept.SetResourceClaim(claim)
}

// carryOut writes a plan, or the part of it up to some write.
func (w *world) carryOut(p plan.Plan) {
	writes := p.Writes
	switch {
	case w.chance("lost", 5):
		return
	case w.chance("cut", 5):
		writes = writes[:rapid.IntRange(0, len(writes)).Draw(w.T, "up to")]
	}
	for _, write := range writes {
		switch o := write.Object.(type) {
		case *corev1.Pod:
			w.set(o.DeepCopy())
		case *corev1.PersistentVolume:
			w.stored.volumes[o.Name] = o
			w.kept.SetVolume(o)
		case *corev1.PersistentVolumeClaim:
			w.stored.claims[o.Name] = o
			w.kept.SetClaim(o)
		case *resourceapi.ResourceClaim:
			w.racked.claims[o.Name] = o
			w.kept.SetResourceClaim(o)
		default:
			if write.Resource == plan.ResourceClaims {
				delete(w.racked.claims, write.Name)
				w.kept.DeleteResourceClaim(write.Namespace, write.Name)
				continue
			}
			p := w.pods[write.Namespace+"/"+write.Name].DeepCopy()
			if write.Verb == plan.Bind {
				p.Spec.NodeName = write.Node
				p.Generation++
			} else {
				p.DeletionTimestamp = new(metav1.NewTime(now))
			}
			w.set(p)
		}
	}
}

// decisions are what a run does to pods, but for what it says.
func decisions(r scheduling.Result) (out []string) {
	for _, p := range r.Placements {
		text := fmt.Sprintf("%s/%s to %s", p.Pod.Namespace, p.Pod.Name, p.Node)
		for _, v := range p.Volumes {
			text += " volume " + v.Name
		}
		for _, c := range p.Claims {
			text += " claim " + c.Name
		}
		for _, use := range p.Devices {
			text += fmt.Sprintf(" devices of %s %v", use.After.Name, use.After.Status)
		}
		out = append(out, text)
	}
	for _, p := range r.Preemptions {
		text := fmt.Sprintf("%s/%s on %s for", p.Pod.Namespace, p.Pod.Name, p.Node)
		for _, v := range p.Victims {
			text += " " + v.Namespace + "/" + v.Name
		}
		out = append(out, text)
	}
	for _, f := range r.Unschedulable {
		if f.Release != nil {
			out = append(out, fmt.Sprintf("%s/%s has %s given back", f.Pod.Namespace, f.Pod.Name, f.Release.Claim.Name))
		}
		if f.Forget {
			out = append(out, fmt.Sprintf("%s/%s forgets its node", f.Pod.Namespace, f.Pod.Name))
		}
	}
	return out
}

// asked are the writes of a plan that do more than say something.
func asked(p plan.Plan) (out []string) {
	for _, write := range p.Writes {
		told, ok := write.Object.(*corev1.Pod)
		if ok && told.Status.NominatedNodeName == "" && write.Verb == plan.UpdateStatus {
			continue
		}
		out = append(out, fmt.Sprintf("%s %s %s/%s", write.Verb, write.Resource.Resource, write.Namespace, write.Name))
	}
	return out
}

func TestAPodThatIsNotWokenWouldNotBePlaced(t *testing.T) {
	tried, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		if rapid.Bool().Draw(t, "has devices") {
			w.racked.start(w.kept, worldNodes)
		}
		seed := rapid.Uint64().Draw(t, "seed") // one: another may prefer another of two equal victims
		for range rapid.IntRange(1, 25).Draw(t, "rounds") {
			for range rapid.IntRange(0, 6).Draw(t, "changes") {
				w.happen()
			}
			want := w.rebuilt().Place(seed, now)
			all += len(want.Placements) + len(want.Preemptions) + len(want.Unschedulable)
			if w.kept.Settled(now) {
				if todo := asked(want.Plan); len(todo) > 0 {
					t.Fatalf("it is settled, and there is something to do: %s", todo)
				}
				continue
			}
			got := w.kept.PlaceWoken(seed, now)
			tried += len(got.Placements) + len(got.Preemptions) + len(got.Unschedulable)
			if diff := cmp.Diff(decisions(want), decisions(got)); diff != "" {
				t.Fatalf("pods that sleep would be placed (-rebuilt +kept):\n%s", diff)
			}
			w.carryOut(got.Plan)
		}
	})
	t.Logf("figure: %d of %d tries were made", tried, all)
	if tried*4 > all*3 {
		t.Errorf("%d of %d tries were made: hardly anybody slept", tried, all)
	}
}
