package world

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Instance is one of several that decide about a world: on what it saw at some time, and it may be gone before all is written.
type Instance struct{ seen World }

// Look returns an instance that sees the world as it is now.
func (w *World) Look() *Instance {
	seen := *w
	seen.Services, seen.Pods, seen.Nodes = maps.Clone(w.Services), maps.Clone(w.Pods), maps.Clone(w.Nodes)
	seen.Objects, seen.Slices = maps.Clone(w.Objects), maps.Clone(w.Slices)
	return &Instance{seen: seen}
}

// Plans are what an instance decides about a name, in order.
func (i *Instance) Plans(name string) []plan.Plan {
	return []plan.Plan{i.seen.slices(name), i.seen.object(name), i.seen.mirror(name)}
}

// Commit carries out the first writes of an instance's plan, unless what it read of the log of Endpoints and EndpointSlices has moved since.
// Services, pods and nodes are in other logs, and may have.
func (w *World) Commit(i *Instance, p plan.Plan, most int) (stale bool, err error) {
	for _, read := range p.Reads {
		if moved(read, i.seen.Objects, w.Objects, plan.Endpoints == read.Resource) || moved(read, i.seen.Slices, w.Slices, plan.EndpointSlices == read.Resource) {
			return true, nil
		}
	}
	return false, w.applySome(p, most)
}

// moved reports whether what a read is of has changed, if it is of these objects.
func moved[P metav1.Object](read plan.Read, before, after map[string]P, concerned bool) bool {
	return concerned && !maps.Equal(versions(read, before), versions(read, after))
}

// versions are those of the objects that a read is of.
func versions[P metav1.Object](read plan.Read, in map[string]P) map[string]string {
	out := map[string]string{}
	for name, object := range in {
		if name == read.Name || read.Name == "" && read.Selector.Matches(labels.Set(object.GetLabels())) {
			out[name] = object.GetResourceVersion()
		}
	}
	return out
}
