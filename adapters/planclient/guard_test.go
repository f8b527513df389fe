package planclient

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

var decoder = kubestorage.Decoder{Deserializer: clientscheme.Codecs.UniversalDeserializer()}

// pod returns the entry of a pod of a namespace, altered.
func pod(t *testing.T, namespace, name string, alter ...func(*corev1.Pod)) *tablelog.Entry {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)}}
	for _, f := range alter {
		f(p)
	}
	value, err := runtime.Encode(clientscheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion), p)
	if err != nil {
		t.Fatal(err)
	}
	e := &tablelog.Entry{Key: kubestorage.KeyOf(plan.Pods.GroupResource(), namespace, name), Rev: 2, Value: value}
	for _, o := range p.OwnerReferences {
		e.Owners = append(e.Owners, string(o.UID))
	}
	return e
}

// deviceClaim returns the entry of a claim that has a device, if one is named, and is reserved for pods.
func deviceClaim(t *testing.T, name, device string, pods ...string) *tablelog.Entry {
	t.Helper()
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-of-" + name)}}
	claim.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{
		DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1,
	}}}
	if device != "" {
		claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
			Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: "d", Pool: "n", Device: device}},
		}}
	}
	for _, pod := range pods {
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod, UID: types.UID("uid-of-" + pod)})
	}
	return claimEntry(t, claim)
}

func nodeWith(t *testing.T, name string, cidrs ...string) *tablelog.Entry {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: cidrs}}
	value, err := runtime.Encode(clientscheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion), node)
	if err != nil {
		t.Fatal(err)
	}
	return &tablelog.Entry{Key: kubestorage.KeyOf(plan.Nodes.GroupResource(), "", name), Rev: 2, Value: value}
}

func claimEntry(t *testing.T, claim *resourcev1.ResourceClaim) *tablelog.Entry {
	t.Helper()
	value, err := runtime.Encode(clientscheme.Codecs.LegacyCodec(resourcev1.SchemeGroupVersion), claim)
	if err != nil {
		t.Fatal(err)
	}
	return &tablelog.Entry{Key: kubestorage.KeyOf(plan.ResourceClaims.GroupResource(), claim.Namespace, claim.Name), Rev: 2, Value: value}
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func labelled(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": value} }
}
func phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}
func apart(p *corev1.Pod) {
	term := corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{}}
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
}
func address(p *corev1.Pod) { p.Status.PodIP = "10.0.0.1" }
func ownedBy(uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(uid)}} }
}

func change(before, after *tablelog.Entry) tablelog.Event {
	ev := tablelog.Event{Prev: before, Entry: after, Type: tablelog.Updated}
	switch {
	case before == nil:
		ev.Key, ev.Type = after.Key, tablelog.Created
	case after == nil:
		ev.Key, ev.Type = before.Key, tablelog.Deleted
	default:
		ev.Key = after.Key
	}
	return ev
}

func TestAChangeMovesAReadSetWhenItIsOfSomethingThatWasRead(t *testing.T) {
	byName := plan.Read{Resource: plan.Pods, Namespace: "default", Name: "a"}
	byOwner := plan.Read{Resource: plan.Pods, Namespace: "default", Owner: "set"}
	byNode := plan.Read{Resource: plan.Pods, Node: "n"}
	byLabel := plan.Read{Resource: plan.Pods, Namespace: "default", Selector: labels.SelectorFromSet(labels.Set{"app": "web"})}
	addresses := plan.Read{Resource: plan.Pods, Node: "n", Addresses: true}
	assigned := plan.Read{Resource: plan.Pods, Assigned: true}
	repelling := plan.Read{Resource: plan.Pods, Repelling: true}
	whole := plan.Read{Resource: plan.Nodes}
	allocated := plan.Read{Resource: plan.ResourceClaims, Allocated: true}
	cl := func(device string, pods ...string) *tablelog.Entry { return deviceClaim(t, "c", device, pods...) }
	ranged := plan.Read{Resource: plan.Nodes, Ranged: true}
	nd := func(cidrs ...string) *tablelog.Entry { return nodeWith(t, "n", cidrs...) }
	oddNode := &tablelog.Entry{Key: nd().Key, Value: []byte("no object")}
	oddClaim := &tablelog.Entry{Key: cl("").Key, Value: []byte("no object")}
	garbled := &tablelog.Entry{Key: "core/pods/default/a", Value: []byte("no object")}
	node := &tablelog.Entry{Key: "core/nodes/n"}
	p := func(alter ...func(*corev1.Pod)) *tablelog.Entry { return pod(t, "default", "a", alter...) }
	elsewhere := func(alter ...func(*corev1.Pod)) *tablelog.Entry { return pod(t, "other", "a", alter...) }
	for name, c := range map[string]struct {
		read  plan.Read
		event tablelog.Event
		want  bool
	}{
		"the named one":                    {byName, change(p(), p(on("n"))), true},
		"the named one appears":            {byName, change(nil, p()), true},
		"the named one goes":               {byName, change(p(), nil), true},
		"of that name elsewhere":           {byName, change(nil, elsewhere()), false},
		"another name":                     {byName, change(nil, pod(t, "default", "ab")), false},
		"one that is owned appears":        {byOwner, change(nil, p(ownedBy("set"))), true},
		"one that was owned goes":          {byOwner, change(p(ownedBy("set")), nil), true},
		"one is released":                  {byOwner, change(p(ownedBy("set")), p()), true},
		"one that another owns":            {byOwner, change(nil, p(ownedBy("set2"))), false},
		"a node's pod appears":             {byNode, change(p(), p(on("n"))), true},
		"a node's pod goes":                {byNode, change(p(on("n")), nil), true},
		"a node's pod ends":                {byNode, change(p(on("n")), p(on("n"), phase(corev1.PodSucceeded))), true},
		"a node's pod runs":                {byNode, change(p(on("n")), p(on("n"), phase(corev1.PodRunning))), false},
		"a node's ended pod goes":          {byNode, change(p(on("n"), phase(corev1.PodFailed)), nil), false},
		"another node's pod":               {byNode, change(p(), p(on("m"))), false},
		"an unbound pod":                   {byNode, change(nil, p()), false},
		"what cannot be read, on a node":   {byNode, change(nil, garbled), true},
		"a node's pod gets an address":     {addresses, change(p(on("n")), p(on("n"), address)), true},
		"a pod with an address appears":    {addresses, change(nil, p(on("n"), address)), true},
		"a pod with an address runs":       {addresses, change(p(on("n"), address), p(on("n"), address, phase(corev1.PodRunning))), false},
		"an address is free again":         {addresses, change(p(on("n"), address), nil), false},
		"an address of another node":       {addresses, change(p(on("m")), p(on("m"), address)), false},
		"a pod without one is bound":       {addresses, change(p(), p(on("n"))), false},
		"an address, for its resources":    {byNode, change(p(on("n")), p(on("n"), address)), false},
		"of all nodes, a pod is bound":     {assigned, change(p(), p(on("m"))), true},
		"of all nodes, a pod goes":         {assigned, change(p(on("m")), nil), true},
		"of all nodes, one is relabelled":  {assigned, change(p(on("m"), labelled("web")), p(on("m"), labelled("db"))), true},
		"of all nodes, a pod runs":         {assigned, change(p(on("m")), p(on("m"), phase(corev1.PodRunning))), false},
		"one that keeps others off comes":  {repelling, change(p(apart), p(apart, on("m"))), true},
		"one that keeps others off goes":   {repelling, change(p(apart, on("m")), nil), false},
		"one that keeps others off waits":  {repelling, change(nil, p(apart)), false},
		"one that keeps others off runs":   {repelling, change(p(apart, on("m")), p(apart, on("m"), phase(corev1.PodRunning))), false},
		"one that keeps nobody off comes":  {repelling, change(p(), p(on("m"))), false},
		"a claim gets a device":            {allocated, change(cl(""), cl("x", "p")), true},
		"one comes with a device":          {allocated, change(nil, cl("x")), true},
		"a device is given back":           {allocated, change(cl("x"), cl("")), false},
		"a claim with a device goes":       {allocated, change(cl("x"), nil), false},
		"one more pod uses a claim":        {allocated, change(cl("x", "p"), cl("x", "p", "q")), false},
		"a claim comes":                    {allocated, change(nil, cl("")), false},
		"a claim that cannot be read":      {allocated, change(cl(""), oddClaim), true},
		"a pod, where claims were read":    {allocated, change(nil, p(on("n"))), false},
		"a node gets a range":              {ranged, change(nd(), nd("10.0.0.0/24")), true},
		"a node comes with a range":        {ranged, change(nil, nd("10.0.0.0/24")), true},
		"a node comes without":             {ranged, change(nil, nd()), false},
		"a node with a range changes":      {ranged, change(nd("10.0.0.0/24"), nd("10.0.0.0/24")), false},
		"a node with a range goes":         {ranged, change(nd("10.0.0.0/24"), nil), false},
		"a node that cannot be read":       {ranged, change(nd(), oddNode), true},
		"a pod, where ranges were read":    {ranged, change(nil, p(on("n"))), false},
		"of all nodes, a pod waits":        {assigned, change(nil, p(labelled("web"))), false},
		"a selected one appears":           {byLabel, change(nil, p(labelled("web"))), true},
		"one is selected no more":          {byLabel, change(p(labelled("web")), p(labelled("db"))), true},
		"one with other labels":            {byLabel, change(nil, p(labelled("db"))), false},
		"one with the labels elsewhere":    {byLabel, change(nil, elsewhere(labelled("web"))), false},
		"what cannot be read, by a label":  {byLabel, change(nil, garbled), true},
		"any of a whole resource":          {whole, change(nil, node), true},
		"of another resource":              {whole, change(nil, p()), false},
		"another resource than the labels": {byLabel, change(nil, &tablelog.Entry{Key: "core/services/default/a"}), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newReadSet(decoder, []plan.Read{c.read}).touchedBy(c.event); got != c.want {
				t.Errorf("moved: %t, want %t", got, c.want)
			}
		})
	}
}

func TestGuardsAreOfTheLogsThatWereRead(t *testing.T) {
	logs := kubestorage.NewLogs(memory.New(), "c", func(string) tablelog.Options { return tablelog.Options{} })
	c := New(nil, logs, decoder)
	guards := c.guards([]plan.Read{
		{Resource: plan.Pods, Namespace: "default", Name: "a"}, {Resource: plan.Pods, Node: "n"}, {Resource: plan.Nodes, Name: "n"},
		{Resource: plan.Leases, Namespace: "kube-node-lease", Name: "n"}, // of a log that was not in the snapshot
	}, Revisions{kubestorage.PodsGroup: 7, kubestorage.NodesGroup: 3, kubestorage.WorkloadsGroup: 9})
	if len(guards) != 2 || guards[logs[kubestorage.PodsGroup]].Since != 7 || guards[logs[kubestorage.NodesGroup]].Since != 3 {
		t.Errorf("guards: %+v", guards)
	}
	conflicts := guards[logs[kubestorage.PodsGroup]].Conflicts
	if !conflicts(change(nil, pod(t, "default", "a"))) || !conflicts(change(nil, pod(t, "other", "b", on("n")))) || conflicts(change(nil, pod(t, "other", "b"))) {
		t.Error("the pods' guard does not know both of its reads")
	}
}

// TestAReadOfArrivalsIsOfThoseThatCome: what becomes of the pods that were there does not matter to who makes others.
func TestAReadOfArrivalsIsOfThoseThatCome(t *testing.T) {
	logs := kubestorage.NewLogs(memory.New(), "c", func(string) tablelog.Options { return tablelog.Options{} })
	guards := New(nil, logs, decoder).guards([]plan.Read{
		{Resource: plan.Pods, Namespace: "default", Owner: "set", Arrivals: true},
		{Resource: plan.Pods, Namespace: "default", Selector: labels.SelectorFromSet(labels.Set{"app": "web"}), Arrivals: true},
		{Resource: plan.Pods, Namespace: "default", Name: "named"},
	}, Revisions{kubestorage.PodsGroup: 7})
	conflicts := guards[logs[kubestorage.PodsGroup]].Conflicts
	p := func(alter ...func(*corev1.Pod)) *tablelog.Entry { return pod(t, "default", "a", alter...) }
	for name, c := range map[string]struct {
		event tablelog.Event
		want  bool
	}{
		"one that is owned comes":        {change(nil, p(ownedBy("set"))), true},
		"one is adopted":                 {change(p(), p(ownedBy("set"))), true},
		"one that is selected comes":     {change(nil, p(labelled("web"))), true},
		"one is labelled":                {change(p(labelled("db")), p(labelled("web"))), true},
		"one that is owned ends":         {change(p(ownedBy("set")), p(ownedBy("set"), phase(corev1.PodFailed))), false},
		"one that is owned goes":         {change(p(ownedBy("set")), nil), false},
		"one is released":                {change(p(ownedBy("set")), p()), false},
		"one that another owns comes":    {change(nil, p(ownedBy("other"))), false},
		"the one that was read by name":  {change(nil, pod(t, "default", "named")), true},
		"another one that nobody claims": {change(nil, p()), false},
	} {
		if got := conflicts(c.event); got != c.want {
			t.Errorf("%s: moved: %t, want %t", name, got, c.want)
		}
	}
}

// TestWhatIsReadAgainMakesAPlanStale where its own log, which the plan does not write first, has moved since the snapshot.
func TestWhatIsReadAgainMakesAPlanStale(t *testing.T) {
	ctx := t.Context()
	logs := kubestorage.NewLogs(memory.New(), "c", func(string) tablelog.Options { return tablelog.Options{} })
	c, log := New(nil, logs, decoder), logs[kubestorage.WorkloadsGroup]
	write := func(name string) {
		t.Helper()
		key := kubestorage.KeyOf(plan.Jobs.GroupResource(), "default", name)
		if _, _, err := log.Commit(ctx, []tablelog.Change{{Key: key, Value: []byte("{}")}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	write("other")
	state, err := log.Current(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := Revisions{kubestorage.WorkloadsGroup: state.Rev}
	once := plan.Read{Resource: plan.Jobs, Namespace: "default", Name: "work"}
	again := once
	again.Again = true
	look := func(r plan.Read) error { return c.lookAgain(ctx, []plan.Read{r}, at) }
	if err := look(again); err != nil {
		t.Errorf("nothing happened: %v", err)
	}
	write("another")
	if err := look(again); err != nil {
		t.Errorf("another one changed: %v", err)
	}
	write("work")
	if err := look(again); !errors.Is(err, ErrStale) {
		t.Errorf("it changed: %v", err)
	}
	if err := look(once); err != nil {
		t.Errorf("it changed, and is not to be looked at again: %v", err)
	}
}

// TestAPlacementIsStaleWhenOneComesThatKeepsItOff although nobody did when it was decided, and it asks nothing of others itself:
// one of two instances knew of the pod that keeps others off, the other did not yet.
func TestAPlacementIsStaleWhenOneComesThatKeepsItOff(t *testing.T) {
	waiting := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "quiet", UID: "quiet"}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("9")}}}
	decided := scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node}, Pods: []*corev1.Pod{waiting}})
	if len(decided.Placements) != 1 {
		t.Fatalf("%+v", decided)
	}
	set := newReadSet(decoder, decided.Plan.Reads)
	if comes := change(pod(t, "default", "loner", apart), pod(t, "default", "loner", apart, on("elsewhere"))); !set.touchedBy(comes) {
		t.Error("the plan holds although one came that keeps the pod off")
	}
	if comes := change(pod(t, "default", "other"), pod(t, "default", "other", on("elsewhere"))); set.touchedBy(comes) {
		t.Error("the plan is stale because of a pod that is nothing to it")
	}
}

// TestOfTwoThatGiveOneDeviceOneIsStale whatever pods and claims they are about: each of two instances gives what it knows to
// be free, and of two plans that give a device the second does not hold once the first is committed. What they write and read
// of claims and pods is in one log.
func TestOfTwoThatGiveOneDeviceOneIsStale(t *testing.T) {
	raced := 0
	rapid.Check(t, func(rt *rapid.T) {
		devices, claims := rapid.IntRange(1, 3).Draw(rt, "devices"), rapid.IntRange(1, 4).Draw(rt, "claims")
		in := scheduling.Input{
			Nodes:         []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("9")}}}},
			DeviceClasses: []*resourcev1.DeviceClass{{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}}},
			ResourceSlices: []*resourcev1.ResourceSlice{{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: resourcev1.ResourceSliceSpec{
				Driver: "d", NodeName: new("n"), Pool: resourcev1.ResourcePool{Name: "n", Generation: 1, ResourceSliceCount: 1},
			}}},
		}
		for i := range devices {
			in.ResourceSlices[0].Spec.Devices = append(in.ResourceSlices[0].Spec.Devices, resourcev1.Device{Name: fmt.Sprintf("d%d", i)})
		}
		stored := map[string]*tablelog.Entry{}
		for i := range claims {
			e := deviceClaim(t, fmt.Sprintf("c%d", i), "")
			obj, err := decoder.Object(e)
			if err != nil {
				rt.Fatal(err)
			}
			stored[e.Key] = e
			in.ResourceClaims = append(in.ResourceClaims, obj.(*resourcev1.ResourceClaim))
		}
		decide := func(who string) plan.Plan { // each knows of other pods
			in := in
			for i := range claims {
				if rapid.Bool().Draw(rt, who+" knows a pod") {
					name := fmt.Sprintf("p%d", i)
					in.Pods = append(in.Pods, &corev1.Pod{
						ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
						Spec:       corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "c", ResourceClaimName: new(fmt.Sprintf("c%d", i))}}},
					})
				}
			}
			return scheduling.Place(in).Plan
		}
		first, second := decide("first"), decide("second")
		given := func(p plan.Plan) map[string]bool {
			out := map[string]bool{}
			for _, w := range p.Writes {
				if claim, ok := w.Object.(*resourcev1.ResourceClaim); ok && w.Verb == plan.UpdateStatus {
					out[claim.Status.Allocation.Devices.Results[0].Device] = true
				}
			}
			return out
		}
		both := false
		for device := range given(second) {
			both = both || given(first)[device]
		}
		set, stale := newReadSet(decoder, second.Reads), false
		for _, w := range first.Writes {
			if claim, ok := w.Object.(*resourcev1.ResourceClaim); ok && w.Verb == plan.UpdateStatus {
				after := claimEntry(t, claim)
				stale = stale || set.touchedBy(change(stored[after.Key], after))
			}
		}
		if both {
			raced++
		}
		if both && !stale {
			rt.Errorf("both give a device, and both hold: %+v and %+v", first.Writes, second.Writes)
		}
	})
	if raced == 0 {
		t.Error("no two ever gave one device")
	}
	if a, b := kubestorage.GroupOf(plan.ResourceClaims.GroupResource()), kubestorage.GroupOf(plan.Pods.GroupResource()); a != b {
		t.Errorf("claims are in the log %s and pods in %s", a, b)
	}
}
