package planclient

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

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
