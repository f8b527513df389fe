package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// A pod that no node took sleeps until a change may let it in. What it remembers is which plugins refused it on some node:
// each is asked about each change, and pods that all of them shrug at are not tried again. A plugin without hints takes any
// change for a reason, and so does a change of which nobody tells here (one that is only counted in Cluster.changes).
//
// Upstream: queueing hints (KEP 4247), isPodWorthRequeuing in backend/queue/scheduling_queue.go.

// wakeHint tells for each kind of object whether its change could have a plugin let in a pod that it refused. The object is nil
// before it came and after it went. No function means that no such change does. Wider than necessary is right, narrower wrong.
//
// Upstream: EventsToRegister of each plugin, and the functions that it names. Those miss changes that do let pods in, for
// which upstream tries all pods again every five minutes; these here must miss none (wake_test.go).
type wakeHint struct {
	node        func(c *Cluster, s *sleeper, old, now *corev1.Node) bool
	pod         func(c *Cluster, s *sleeper, old, now *entry) bool
	namespace   func(c *Cluster, s *sleeper, old, now *corev1.Namespace) bool
	claim       func(c *Cluster, s *sleeper, old, now *corev1.PersistentVolumeClaim) bool
	volume      func(c *Cluster, s *sleeper, old, now *corev1.PersistentVolume) bool
	class       func(c *Cluster, s *sleeper, old, now *storagev1.StorageClass) bool
	csiNode     func(c *Cluster, s *sleeper, old, now *storagev1.CSINode) bool
	driver      func(c *Cluster, s *sleeper, old, now *storagev1.CSIDriver) bool
	capacity    func(c *Cluster, s *sleeper, old, now *storagev1.CSIStorageCapacity) bool
	attachment  func(c *Cluster, s *sleeper, old, now *storagev1.VolumeAttachment) bool
	deviceClaim func(c *Cluster, s *sleeper, old, now *resourceapi.ResourceClaim) bool
	slice       func(c *Cluster, s *sleeper, old, now *resourceapi.ResourceSlice) bool
	deviceClass func(c *Cluster, s *sleeper, old, now *resourceapi.DeviceClass) bool
	taintRule   func(c *Cluster, s *sleeper, old, now *resourceapi.DeviceTaintRule) bool
}

// wakeHints are those of the plugins that have some.
var wakeHints = []struct {
	plugin string
	wakeHint
}{
	{NodeUnschedulable, wakeHint{node: uncordoned}},
	{TaintToleration, wakeHint{node: untainted}},
	{NodeAffinity, wakeHint{node: nowMatches}},
	{NodeDeclaredFeatures, wakeHint{node: declaresOthers}},
	{NodePorts, wakeHint{node: cameNode, pod: freesPorts}},
	{NodeResourcesFit, wakeHint{node: hasRoom, pod: freesRoom, deviceClass: backsAsked}},
	{PodTopologySpread, wakeHint{node: changesDomains, pod: changesSpread}},
	{InterPodAffinity, wakeHint{node: changesNeighbourhood, pod: changesNeighbours, namespace: renamesNeighbours}},
	{VolumeRestrictions, wakeHint{node: freesUsers, pod: freesDisks, claim: changesUse}},
	{NodeVolumeLimits, wakeHint{
		node: cameNode, pod: detaches, claim: changesAttached, volume: anyVolume, class: anyClass, csiNode: raisesLimits,
		driver: dropsDriver, attachment: detached,
	}},
	{VolumeBinding, wakeHint{
		node: cameOrRelabelled, claim: mountedClaimChanged, volume: anyVolume, class: changesClass, csiNode: migrates, driver: stopsCounting,
		capacity: moreCapacity,
	}},
	{VolumeZone, wakeHint{node: cameOrRelabelled, claim: namedClaimChanged, volume: changesZones, class: cameDelayed}},
	{DynamicResources, wakeHint{
		node: cameOrOffers, deviceClaim: changesDevices, slice: anySlice, deviceClass: anyDeviceClass, taintRule: anyTaintRule,
	}},
}

// pluginSet is a set of plugins: a bit for each that has hints, by its place among them, and one for all others.
type pluginSet uint32

// unhinted is the bit of plugins that have no hints.
var unhinted = pluginSet(1) << len(wakeHints)

var bitOf = func() map[string]pluginSet {
	bits := map[string]pluginSet{}
	for i := range wakeHints {
		bits[wakeHints[i].plugin] = 1 << i
	}
	return bits
}()

// with is the set with one more plugin.
func (p pluginSet) with(plugin string) pluginSet {
	if bit, known := bitOf[plugin]; known {
		return p | bit
	}
	return p | unhinted
}

// sleeper is pods alike that sleep for the same plugins. Those refused by none, since there was no node, wake by anything.
type sleeper struct {
	class         *class
	neighbourhood *neighbourhood
	mounts        *mounts
	kin           *kin
	// needs are nil for pods that were refused by other rules than that about devices.
	needs   *needs
	refused pluginSet
}

// dormitory is who sleeps, and who does not.
type dormitory struct {
	// awake are the waiting pods that the next run tries.
	awake map[*entry]bool
	// sleepers are all that sleep, with their pods, and by the same by the plugins that refused them.
	sleepers map[sleeper]map[*entry]bool
	by       []map[sleeper]bool
	// woken are the pods that woke, in no order, for a run to take.
	woken []*entry
	// untold are those whose message was not seen on them yet.
	untold map[*entry]bool
	// expected is what a run took for granted of pods, and was not seen yet: pods that failed then know no other world.
	expected map[*entry]expectation
	// told counts the changes that plugins were asked about, and uncounted is how many of the others have woken everybody.
	told, uncounted int
}

// expectation is where a run has placed a pod, or left room to it; no node if it took its nomination back.
type expectation struct {
	node string
	// placed is set for a placement, and waits if the pod's claims are to be bound first.
	placed, waits bool
}

func newDormitory() dormitory {
	d := dormitory{
		awake: map[*entry]bool{}, sleepers: map[sleeper]map[*entry]bool{}, by: make([]map[sleeper]bool, len(wakeHints)+1),
		untold: map[*entry]bool{}, expected: map[*entry]expectation{},
	}
	for i := range d.by {
		d.by[i] = map[sleeper]bool{}
	}
	return d
}

// rest puts a pod to sleep that plugins have refused, and that is told a message.
func (d *dormitory) rest(e *entry, refused pluginSet, message string) {
	if refused == 0 {
		refused = unhinted
	}
	s := sleeper{class: e.class, neighbourhood: e.neighbourhood, mounts: e.mounts, kin: e.kin, refused: refused}
	if refused&bitOf[DynamicResources] != 0 {
		s.needs = e.needs
	}
	if d.sleepers[s] == nil {
		d.sleepers[s] = map[*entry]bool{}
		for i := range d.by {
			if refused&(1<<i) != 0 {
				d.by[i][s] = true
			}
		}
	}
	d.sleepers[s][e] = true
	delete(d.awake, e)
	e.asleep, e.message = &s, message
	if !known(e.pod, message) {
		d.untold[e] = true
	}
}

// rise takes a pod out of those that sleep.
func (d *dormitory) rise(e *entry) {
	s := *e.asleep
	e.asleep, e.message = nil, ""
	delete(d.untold, e)
	if delete(d.sleepers[s], e); len(d.sleepers[s]) > 0 {
		return
	}
	delete(d.sleepers, s)
	for i := range d.by {
		delete(d.by[i], s)
	}
}

// stir has the next run try a pod.
func (d *dormitory) stir(e *entry) {
	if e.asleep == nil {
		return
	}
	d.rise(e)
	d.awake[e] = true
	d.woken = append(d.woken, e)
}

func (d *dormitory) stirAlike(s sleeper) {
	for e := range d.sleepers[s] {
		d.stir(e)
	}
}

// stirAll has it try all.
func (d *dormitory) stirAll() {
	for s := range d.sleepers {
		d.stirAlike(s)
	}
	clear(d.expected)
}

// leave forgets a pod.
func (d *dormitory) leave(e *entry) {
	if e.asleep != nil {
		d.rise(e)
	}
	delete(d.awake, e)
	delete(d.expected, e)
}

// tell asks the plugins about a change of one object: of says by which of their hints.
func tell[T any](c *Cluster, of func(*wakeHint) func(*Cluster, *sleeper, *T, *T) bool, old, now *T) {
	c.tellNothing()
	d := &c.dormitory
	for s := range d.by[len(wakeHints)] {
		d.stirAlike(s)
	}
	for i := range wakeHints {
		wakes := of(&wakeHints[i].wakeHint)
		if wakes == nil {
			continue
		}
		for s := range d.by[i] {
			if wakes(c, &s, old, now) {
				d.stirAlike(s)
			}
		}
	}
}

// tellNothing counts a change that no plugin can mind.
func (c *Cluster) tellNothing() {
	c.changes++
	c.dormitory.told++
}

// rouse wakes whom changes concern that were not told of.
func (c *Cluster) rouse() {
	d := &c.dormitory
	c.regroup()
	if untyped := c.changes - d.told; untyped != d.uncounted {
		d.uncounted = untyped
		d.stirAll()
	}
	// What a run took for granted has not come true: its plan was not carried out, or another's was.
	for e, x := range d.expected {
		if !x.waits || e.pod.Status.NominatedNodeName != x.node || !c.promised(e) {
			d.stirAll()
			break
		}
	}
	for e := range d.untold {
		d.stir(e)
	}
}

func nodeHint(h *wakeHint) func(*Cluster, *sleeper, *corev1.Node, *corev1.Node) bool { return h.node }
func podHint(h *wakeHint) func(*Cluster, *sleeper, *entry, *entry) bool              { return h.pod }
func namespaceHint(h *wakeHint) func(*Cluster, *sleeper, *corev1.Namespace, *corev1.Namespace) bool {
	return h.namespace
}
func claimHint(h *wakeHint) func(*Cluster, *sleeper, *corev1.PersistentVolumeClaim, *corev1.PersistentVolumeClaim) bool {
	return h.claim
}
func volumeHint(h *wakeHint) func(*Cluster, *sleeper, *corev1.PersistentVolume, *corev1.PersistentVolume) bool {
	return h.volume
}
func classHint(h *wakeHint) func(*Cluster, *sleeper, *storagev1.StorageClass, *storagev1.StorageClass) bool {
	return h.class
}
func csiNodeHint(h *wakeHint) func(*Cluster, *sleeper, *storagev1.CSINode, *storagev1.CSINode) bool {
	return h.csiNode
}
func driverHint(h *wakeHint) func(*Cluster, *sleeper, *storagev1.CSIDriver, *storagev1.CSIDriver) bool {
	return h.driver
}
func capacityHint(h *wakeHint) func(*Cluster, *sleeper, *storagev1.CSIStorageCapacity, *storagev1.CSIStorageCapacity) bool {
	return h.capacity
}
func attachmentHint(h *wakeHint) func(*Cluster, *sleeper, *storagev1.VolumeAttachment, *storagev1.VolumeAttachment) bool {
	return h.attachment
}
