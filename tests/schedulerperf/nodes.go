package schedulerperf

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// heartbeatAhead is how far in the future a node's only heartbeat lies: longer than any workload runs.
const heartbeatAhead = 24 * time.Hour

// createNodes makes nodes and prepares them.
//
// Upstream: createNodesOp in operations.go, IntegrationTestNodePreparer in node_util.go, the strategies in runners.go.
type createNodes struct {
	code
	Count            int
	NodeTemplatePath string
	TemplateParams   map[string]any

	NodeAllocatableStrategy  *nodeAllocatable
	LabelNodePrepareStrategy *struct {
		LabelKey    string
		LabelValues []string
	}
	UniqueNodeLabelStrategy *struct{ LabelKey string }
}

// nodeAllocatable says what volumes nodes take. What upstream adds to a node's allocatable resources does not last, as it
// patches the node and not its status; so only the CSINode is made.
type nodeAllocatable struct {
	NodeAllocatable    map[corev1.ResourceName]string
	CsiNodeAllocatable map[string]*storagev1.VolumeNodeResources
	MigratedPlugins    []string
}

func (o *createNodes) run(ctx context.Context, e *executor, index int) error {
	err := parallel(ctx, o.Count, func(i int) error {
		node, err := o.node(e.w, index, i)
		if err != nil {
			return err
		}
		_, err = e.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	first := e.nextNode
	e.nextNode += o.Count
	if len(nodes.Items) < e.nextNode {
		return fmt.Errorf("there are %d of %d nodes", len(nodes.Items), e.nextNode)
	}
	if err := parallel(ctx, o.Count, func(i int) error { return o.prepare(ctx, e, &nodes.Items[first+i], i) }); err != nil {
		return err
	}
	return e.nodesReady(ctx)
}

// node is the i-th that the operation makes.
func (o *createNodes) node(w *Workload, operation, i int) (*corev1.Node, error) {
	node := baseNode(fmt.Sprintf("node-%d-", operation))
	if o.NodeTemplatePath != "" {
		node = &corev1.Node{}
		if err := (source{path: o.NodeTemplatePath, params: o.TemplateParams, count: o.Count}).decode(w.dir, i, node); err != nil {
			return nil, err
		}
	}
	if node.Name == "" {
		node.Name = node.GenerateName + rand.String(8)
	}
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	node.Labels[corev1.LabelHostname] = node.Name
	stampNode(node)
	return node, nil
}

// baseNode is upstream's makeBaseNode in util.go.
func baseNode(prefix string) *corev1.Node {
	has := corev1.ResourceList{
		corev1.ResourcePods:   *resource.NewQuantity(110, resource.DecimalSI),
		corev1.ResourceCPU:    resource.MustParse("4"),
		corev1.ResourceMemory: resource.MustParse("32Gi"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{GenerateName: prefix},
		Status: corev1.NodeStatus{
			Capacity: has, Allocatable: has.DeepCopy(), Phase: corev1.NodeRunning,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// stampNode keeps a node from being lost (see the package's documentation).
func stampNode(node *corev1.Node) {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			c.LastHeartbeatTime = metav1.NewTime(time.Now().Add(heartbeatAhead))
		}
	}
}

// stampAny is stampNode for objects of any kind.
func stampAny(object *unstructured.Unstructured) {
	if object.GetKind() != "Node" {
		return
	}
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if condition, ok := c.(map[string]any); ok && condition["type"] == string(corev1.NodeReady) {
			condition["lastHeartbeatTime"] = metav1.NewTime(time.Now().Add(heartbeatAhead)).UTC().Format(time.RFC3339)
		}
	}
	if len(conditions) > 0 {
		_ = unstructured.SetNestedSlice(object.Object, conditions, "status", "conditions")
	}
}

// prepare labels the i-th node, or says what volumes it takes.
func (o *createNodes) prepare(ctx context.Context, e *executor, node *corev1.Node, i int) error {
	label := func(key, value string) error {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{key: value}}})
		if err != nil {
			return err
		}
		_, err = e.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	switch {
	case o.NodeAllocatableStrategy != nil:
		return o.NodeAllocatableStrategy.prepare(ctx, e, node.Name)
	case o.LabelNodePrepareStrategy != nil:
		s := o.LabelNodePrepareStrategy
		return label(s.LabelKey, s.LabelValues[i%len(s.LabelValues)])
	case o.UniqueNodeLabelStrategy != nil:
		return label(o.UniqueNodeLabelStrategy.LabelKey, string(uuid.NewUUID()))
	default:
		return nil
	}
}

func (s *nodeAllocatable) prepare(ctx context.Context, e *executor, name string) error {
	csi := s.csiNode(name)
	_, err := e.client.StorageV1().CSINodes().Create(ctx, csi, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	present, err := e.client.StorageV1().CSINodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	present.Spec, present.Annotations = csi.Spec, csi.Annotations
	_, err = e.client.StorageV1().CSINodes().Update(ctx, present, metav1.UpdateOptions{})
	return err
}

func (s *nodeAllocatable) csiNode(name string) *storagev1.CSINode {
	csi := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: map[string]string{corev1.MigratedPluginsAnnotationKey: strings.Join(s.MigratedPlugins, ",")},
	}}
	for driver, allocatable := range s.CsiNodeAllocatable {
		csi.Spec.Drivers = append(csi.Spec.Drivers, storagev1.CSINodeDriver{Name: driver, NodeID: name, Allocatable: allocatable})
	}
	return csi
}

// nodesReady waits until no node has the taint any more that admission gives to new ones, and the controllers that look at new
// nodes have done so: what they do is not measured, as upstream runs none.
func (e *executor) nodesReady(ctx context.Context) error {
	var last string
	err := poll(ctx, readyTimeout, func() (bool, error) {
		if last != "" { // a look at all of them costs the server as much as what it is to do
			node, err := e.client.CoreV1().Nodes().Get(ctx, last, metav1.GetOptions{})
			if err != nil || isNew(node) {
				return false, err
			}
		}
		nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range nodes.Items {
			if isNew(&nodes.Items[i]) {
				last = nodes.Items[i].Name
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until node %s and others count as ready: %w", last, err)
	}
	return e.quiet(ctx)
}

func isNew(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	})
}

// quiet waits until nodes have not changed, and nothing was told of them, for a while.
func (e *executor) quiet(ctx context.Context) error {
	var nodes, events string
	unchanged := 0
	err := poll(ctx, readyTimeout, func() (bool, error) {
		n, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return false, err
		}
		told, err := e.client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return false, err
		}
		if n.ResourceVersion != nodes || told.ResourceVersion != events {
			nodes, events, unchanged = n.ResourceVersion, told.ResourceVersion, 0
		}
		unchanged++
		return unchanged > int(quietFor/readyInterval), nil
	})
	if err != nil {
		return fmt.Errorf("waiting until nobody writes about nodes any more: %w", err)
	}
	return nil
}

func (o *createNodes) objects(w *Workload) ([]runtime.Object, error) {
	node, err := o.node(w, 0, 0)
	if err != nil {
		return nil, err
	}
	all := []runtime.Object{node}
	if o.NodeAllocatableStrategy != nil {
		all = append(all, o.NodeAllocatableStrategy.csiNode(node.Name))
	}
	return all, nil
}
