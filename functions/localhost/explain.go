package localhost

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/functions/placement"
)

// PlacementPath is where a cluster tells how its nodes look to a pod, which the parameters "namespace" and "pod" name.
const PlacementPath = "/placement"

// Placement is the answer.
type Placement struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	// Node that the pod is on, empty for none.
	Node string `json:"node,omitempty"`
	// Message says why no node can take the pod, empty if one can.
	Message string `json:"message,omitempty"`
	// Hints are what would make the pod fit, the best first, if no node can take it.
	Hints []placement.Hint `json:"hints,omitempty"`
	// Nodes are all of the cluster, the best first, those that cannot take the pod last.
	Nodes []PlacementNode `json:"nodes"`
}

// PlacementNode is how one node looks to the pod.
type PlacementNode struct {
	Name string `json:"name"`
	// Rejected names the plugin that refuses the node, empty if none does, and Reasons say why.
	Rejected string   `json:"rejected,omitempty"`
	Reasons  []string `json:"reasons,omitempty"`
	// Scores are weighted, by plugin, without those that are zero, and Total their sum.
	Scores map[string]int64 `json:"scores,omitempty"`
	Total  int64            `json:"total"`
}

// explainPlacement serves PlacementPath.
func (a *awake) explainPlacement(w http.ResponseWriter, req *http.Request) {
	p, err := a.placementOf(req)
	if err != nil {
		responsewriters.ErrorNegotiated(err, apiserver.Codecs, schema.GroupVersion{}, w, req)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // whoever hung up does not read it
}

func (a *awake) placementOf(req *http.Request) (Placement, error) {
	q := req.URL.Query()
	p := Placement{Namespace: cmp.Or(q.Get("namespace"), metav1.NamespaceDefault), Pod: q.Get("pod"), Nodes: []PlacementNode{}}
	if req.Method != http.MethodGet {
		return p, apierrors.NewMethodNotSupported(corev1.Resource("pods"), req.Method)
	}
	if p.Pod == "" {
		return p, apierrors.NewBadRequest("the parameter pod is missing")
	}
	e, hints, node, err := placement.Evaluate(req.Context(), a.functions, a.profiles, p.Namespace, p.Pod)
	if errors.Is(err, placement.ErrNotFound) {
		return p, apierrors.NewNotFound(corev1.Resource("pods"), p.Pod)
	}
	if err != nil {
		return p, err
	}
	p.Node, p.Message, p.Hints = node, e.Message, placement.HintsOf(hints)
	for name, one := range e.Nodes {
		p.Nodes = append(p.Nodes, PlacementNode{Name: name, Rejected: one.Rejected, Reasons: one.Reasons, Scores: one.Scores, Total: one.Total})
	}
	slices.SortFunc(p.Nodes, func(a, b PlacementNode) int {
		return cmp.Or(cmp.Compare(min(len(a.Rejected), 1), min(len(b.Rejected), 1)), cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	return p, nil
}
