package nodes

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// ttlSteps say for how many seconds kubelets may keep Secrets and ConfigMaps in clusters of some size. They overlap, so that a
// cluster that grows and shrinks about a limit does not have its nodes written again and again.
//
// Upstream: ttlBoundaries in pkg/controller/ttl/ttl_controller.go.
var ttlSteps = []struct{ fewest, most, seconds int }{
	{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, math.MaxInt32, 300},
}

// TTL annotates a node with what a cluster of so many nodes asks for. Like upstream it is asked when the node itself has changed, and
// when the number of nodes alone has, nobody is: kubelets write their nodes' statuses every few minutes.
//
// Upstream has the cluster's step in memory. Here it is the node's own annotation: a step that still covers the number stays,
// one that does not becomes the next that does, and a node without gets the lowest, as all do after upstream's controller was
// started again. So a node that joins where two steps overlap may have another than those that were there before.
//
// Upstream: updateNodeIfNeeded and patchNodeWithAnnotation in pkg/controller/ttl/ttl_controller.go.
func TTL(node *corev1.Node, count int) plan.Plan {
	want := ttlSeconds(node, count)
	if have, ok := ttlOf(node); ok && have == want {
		return plan.Plan{}
	}
	// Of plain strings, which always encode.
	body, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "annotations": map[string]string{corev1.ObjectTTLAnnotationKey: strconv.Itoa(want)}},
	})
	// It is held to the node by its version, and to no read: of thousands of nodes that come at once each would look at all changes.
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Patch, Resource: plan.Nodes, Name: node.Name, UID: node.UID,
			PatchType: types.StrategicMergePatchType, PatchBody: body, Reason: "the size of the cluster asks for it",
		}},
	}
}

// ttlSeconds is what the node's annotation should say. One or two steps cover the number.
func ttlSeconds(node *corev1.Node, count int) int {
	var fit []int
	for _, step := range ttlSteps {
		if step.fewest <= count && count <= step.most {
			fit = append(fit, step.seconds)
		}
	}
	have, ok := ttlOf(node)
	highest := fit[len(fit)-1]
	switch {
	case ok && slices.Contains(fit, have):
		return have
	case ok && have > highest: // the cluster has come down from there
		return highest
	}
	return fit[0]
}

// ttlOf is what the node's annotation says. It is not ok if there is none, or no number.
func ttlOf(node *corev1.Node) (seconds int, ok bool) {
	seconds, err := strconv.Atoi(node.Annotations[corev1.ObjectTTLAnnotationKey])
	return seconds, err == nil
}
