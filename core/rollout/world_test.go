package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a cluster in memory: enough of the API server's rules to run plans, and a kubelet that
// makes pods ready unless their image is "bad".
type world struct {
	now         time.Time
	version     int
	names       int
	deployments map[string]*appsv1.Deployment
	sets        map[string]*appsv1.ReplicaSet
	pods        map[string]*corev1.Pod
	later       map[string]plan.Later
	events      []string
	writes      int
	// refusePods makes every create of a pod fail with this message.
	refusePods string
}

func newWorld() *world {
	return &world{
		now: epoch, deployments: map[string]*appsv1.Deployment{}, sets: map[string]*appsv1.ReplicaSet{},
		pods: map[string]*corev1.Pod{}, later: map[string]plan.Later{},
	}
}

func sorted[T any](objects map[string]T) []T {
	var all []T
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		all = append(all, objects[name])
	}
	return all
}

func (w *world) stamp(meta *metav1.ObjectMeta) {
	w.version++
	meta.ResourceVersion = strconv.Itoa(w.version)
	if meta.UID == "" {
		meta.UID = types.UID("uid-" + strconv.Itoa(w.version))
		meta.CreationTimestamp = metav1.NewTime(w.now).Rfc3339Copy()
	}
}

// stored is an object after a trip through the API, as a reader would see it.
func stored[T any](object *T) *T {
	read := new(T)
	if err := json.Unmarshal(encoded(object), read); err != nil {
		panic(err)
	}
	return read
}

func encoded(object any) []byte {
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return body
}

// edit changes the spec or the annotations of a Deployment as a user would.
func (w *world) edit(name string, change func(*appsv1.Deployment)) {
	d := w.deployments[name].DeepCopy()
	change(d)
	w.putDeployment(d)
}

func (w *world) putDeployment(d *appsv1.Deployment) {
	old := w.deployments[d.Name]
	if old == nil {
		d.Generation = 1
	} else if !apiequality.Semantic.DeepEqual(old.Spec, d.Spec) || !apiequality.Semantic.DeepEqual(old.Annotations, d.Annotations) {
		d.Generation = old.Generation + 1
	}
	w.stamp(&d.ObjectMeta)
	w.deployments[d.Name] = stored(d)
}

func (w *world) deploymentSnapshot(name string) DeploymentSnapshot {
	d := w.deployments[name]
	s := DeploymentSnapshot{Deployment: d, SameName: w.sets[NewReplicaSetName(d)], Now: w.now}
	selector, _ := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	owned := map[types.UID]bool{}
	for _, rs := range sorted(w.sets) {
		ref := metav1.GetControllerOf(rs)
		if metav1.IsControlledBy(rs, d) || ref == nil && selector.Matches(labelSet(rs.Labels)) {
			s.ReplicaSets = append(s.ReplicaSets, rs)
			owned[rs.UID] = true
		}
	}
	for _, pod := range sorted(w.pods) {
		if ref := metav1.GetControllerOf(pod); ref != nil && owned[ref.UID] {
			s.Pods = append(s.Pods, pod)
		}
	}
	return s
}

func (w *world) replicaSetSnapshot(name string) ReplicaSetSnapshot {
	rs := w.sets[name]
	s := ReplicaSetSnapshot{ReplicaSet: rs, Now: w.now}
	selector, _ := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	owner := metav1.GetControllerOf(rs)
	for _, pod := range sorted(w.pods) {
		ref := metav1.GetControllerOf(pod)
		if metav1.IsControlledBy(pod, rs) || ref == nil && selector.Matches(labelSet(pod.Labels)) {
			s.Pods = append(s.Pods, pod)
			continue
		}
		if owner == nil {
			continue
		}
		for _, other := range w.sets {
			if otherSelector, _ := metav1.LabelSelectorAsSelector(other.Spec.Selector); metav1.IsControlledBy(other, controllerOf(owner)) && otherSelector.Matches(labelSet(pod.Labels)) {
				s.SiblingPods = append(s.SiblingPods, pod)
				break
			}
		}
	}
	return s
}

func controllerOf(ref *metav1.OwnerReference) metav1.Object {
	return &metav1.ObjectMeta{UID: ref.UID}
}

type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, ok := l[key]; return ok }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { v, ok := l[key]; return v, ok }

// decideDeployment decides and applies one step. An error is a rule that the decision broke.
func (w *world) decideDeployment(name string) error {
	s := w.deploymentSnapshot(name)
	before := encoded(s)
	p := Deployment(s)
	if !bytes.Equal(before, encoded(s)) {
		return fmt.Errorf("the decision altered its snapshot")
	}
	return w.apply(p)
}

func (w *world) decideReplicaSet(name string) error {
	s := w.replicaSetSnapshot(name)
	before := encoded(s)
	p := ReplicaSet(s)
	if !bytes.Equal(before, encoded(s)) {
		return fmt.Errorf("the decision altered its snapshot")
	}
	if w.refusePods != "" {
		for _, write := range p.Writes {
			if write.Verb == plan.Create {
				w.notice(write.IfFailed, strings.NewReplacer("%v", w.refusePods))
				return w.apply(ReplicaSetFailed(s, w.refusePods))
			}
		}
	}
	return w.apply(p)
}

func (w *world) notice(n *plan.Notice, replace *strings.Replacer) {
	w.events = append(w.events, fmt.Sprintf("%s %s %s/%s: %s", n.Type, n.Reason,
		strings.ToLower(n.Regarding.Kind), n.Regarding.Name, replace.Replace(n.Message)))
}

// apply commits a plan. An error is a rule that the plan broke.
func (w *world) apply(p plan.Plan) error {
	written := map[string]bool{}
	for _, write := range p.Writes {
		name, err := w.write(write)
		if err != nil {
			return fmt.Errorf("%s %s/%s: %w", write.Verb, write.Resource.Resource, write.Name, err)
		}
		key := write.Resource.Resource + "/" + name
		if written[key] {
			return fmt.Errorf("%s is written twice in one plan", key)
		}
		written[key] = true
		w.writes++
		if write.OnSuccess != nil {
			w.notice(write.OnSuccess, strings.NewReplacer("{{name}}", name))
		}
	}
	for _, n := range p.Notices {
		w.notice(&n, strings.NewReplacer())
	}
	for _, l := range p.Later {
		key := l.Subject.Resource.Resource + "/" + l.Subject.Name + "/" + l.Kind
		w.later[key] = l
		if l.At.IsZero() {
			delete(w.later, key)
		}
	}
	return nil
}

func (w *world) write(write plan.Write) (string, error) {
	switch object := write.Object.(type) {
	case *appsv1.Deployment:
		return write.Name, w.writeDeployment(write.Verb, object.DeepCopy())
	case *appsv1.ReplicaSet:
		return write.Name, w.writeReplicaSet(write.Verb, object.DeepCopy())
	case *corev1.Pod:
		pod := object.DeepCopy()
		w.names++
		pod.Name = fmt.Sprintf("%s%05d", pod.GenerateName, w.names)
		pod.Status.Phase = corev1.PodPending
		w.stamp(&pod.ObjectMeta)
		w.pods[pod.Name] = stored(pod)
		return pod.Name, nil
	}
	switch {
	case write.Verb == plan.Patch && write.Resource == plan.ReplicaSets:
		return write.Name, patch(w.sets, write, func(rs *appsv1.ReplicaSet) { w.stamp(&rs.ObjectMeta) })
	case write.Verb == plan.Patch && write.Resource == plan.Pods:
		return write.Name, patch(w.pods, write, func(pod *corev1.Pod) { w.stamp(&pod.ObjectMeta) })
	case write.Verb == plan.Delete && write.Resource == plan.ReplicaSets:
		rs := w.sets[write.Name]
		if rs == nil || rs.UID != write.UID || rs.ResourceVersion != write.ResourceVersion {
			return "", fmt.Errorf("conflict")
		}
		delete(w.sets, write.Name)
		return write.Name, nil
	case write.Verb == plan.Delete && write.Resource == plan.Pods:
		return write.Name, w.deletePod(write.Name, write.UID)
	}
	return "", fmt.Errorf("the world does not know this write")
}

func patch[T any](objects map[string]*T, write plan.Write, stamp func(*T)) error {
	old, err := json.Marshal(objects[write.Name])
	if err != nil {
		return err
	}
	body, err := strategicpatch.StrategicMergePatch(old, write.PatchBody, new(T))
	if err != nil {
		return err
	}
	object := new(T)
	if err := json.Unmarshal(body, object); err != nil {
		return err
	}
	stamp(object)
	objects[write.Name] = object
	return nil
}

func (w *world) writeDeployment(verb plan.Verb, d *appsv1.Deployment) error {
	old := w.deployments[d.Name]
	if old == nil || old.ResourceVersion != d.ResourceVersion {
		return fmt.Errorf("conflict")
	}
	if verb == plan.Update {
		d.Status = old.Status
		w.putDeployment(d)
		return nil
	}
	d.Spec, d.Labels = old.Spec, old.Labels
	if apiequality.Semantic.DeepEqual(stored(d), old) {
		return fmt.Errorf("nothing changed")
	}
	w.stamp(&d.ObjectMeta)
	w.deployments[d.Name] = stored(d)
	return nil
}

func (w *world) writeReplicaSet(verb plan.Verb, rs *appsv1.ReplicaSet) error {
	old := w.sets[rs.Name]
	switch {
	case verb == plan.Create && old != nil:
		return fmt.Errorf("already exists")
	case verb == plan.Create:
		rs.Generation, rs.Status = 1, appsv1.ReplicaSetStatus{}
	case old == nil || old.ResourceVersion != rs.ResourceVersion:
		return fmt.Errorf("conflict")
	case apiequality.Semantic.DeepEqual(stored(rs), old):
		return fmt.Errorf("nothing changed")
	case verb == plan.Update:
		rs.Status = old.Status
		if !apiequality.Semantic.DeepEqual(rs.Spec, old.Spec) {
			rs.Generation = old.Generation + 1
		}
	}
	w.stamp(&rs.ObjectMeta)
	w.sets[rs.Name] = stored(rs)
	return nil
}

// deletePod takes a pod away at once if it has no node, else it leaves that to the kubelet.
func (w *world) deletePod(name string, uid types.UID) error {
	pod := w.pods[name]
	switch {
	case pod == nil || pod.UID != uid || pod.DeletionTimestamp != nil:
		return fmt.Errorf("conflict")
	case pod.Spec.NodeName == "":
		delete(w.pods, name)
	default:
		pod = pod.DeepCopy()
		deleted := metav1.NewTime(w.now)
		pod.DeletionTimestamp = &deleted
		w.stamp(&pod.ObjectMeta)
		w.pods[name] = stored(pod)
	}
	return nil
}

// kubelet moves every pod one state on and reports whether any moved.
func (w *world) kubelet() bool {
	moved := false
	for _, pod := range sorted(w.pods) {
		moved = w.runPod(pod) || moved
	}
	return moved
}

func (w *world) runPod(pod *corev1.Pod) bool {
	running := pod.DeepCopy()
	switch {
	case pod.DeletionTimestamp != nil:
		delete(w.pods, pod.Name)
		return true
	case pod.Spec.NodeName == "":
		running.Spec.NodeName = "node-" + pod.Name[len(pod.Name)-1:]
	case pod.Status.Phase == corev1.PodFailed:
		return false
	case pod.Spec.Containers[0].Image != "bad" && !podstate.IsReady(pod):
		running.Status.Phase = corev1.PodRunning
		running.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now),
		}}
	default:
		return false
	}
	w.stamp(&running.ObjectMeta)
	w.pods[pod.Name] = stored(running)
	return true
}

// round lets everyone act once, a second apart. It reports whether anything happened.
func (w *world) round() (bool, error) {
	before := w.writes
	for _, d := range sorted(w.deployments) {
		if err := w.decideDeployment(d.Name); err != nil {
			return false, err
		}
	}
	for _, rs := range sorted(w.sets) {
		if err := w.decideReplicaSet(rs.Name); err != nil {
			return false, err
		}
	}
	moved := w.kubelet()
	w.now = w.now.Add(time.Second)
	return moved || w.writes > before, nil
}

// settleRounds bounds how many rounds a world may need: far more than any rollout here takes.
const settleRounds = 300

func (w *world) settle() error {
	for range settleRounds {
		busy, err := w.round()
		if err != nil || !busy {
			return err
		}
	}
	return fmt.Errorf("not settled after %d rounds", settleRounds)
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	quarter := intstr.FromString("25%")
	deadline, history := int32(600), int32(10)
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &history,
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &quarter, MaxUnavailable: &quarter},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
}
