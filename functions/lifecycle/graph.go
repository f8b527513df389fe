package lifecycle

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/lifecycle"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// graph reads the graph of owners from a snapshot.
type graph struct {
	*consumer.Snapshot
	mapper meta.RESTMapper
}

func (b *batch) graph(s *consumer.Snapshot) graph { return graph{s, b.discovered.Mapper} }

// object returns an entry as a node of the graph, nil for no entry or for a kind without metadata.
func (g graph) object(e *tablelog.Entry) (*lifecycle.Object, error) {
	obj, ok, err := consumer.Read[metav1.Object](g.Snapshot, e)
	if err != nil || !ok {
		return nil, err
	}
	kind, custom, err := g.kind(obj.(runtime.Object))
	if err != nil {
		return nil, fmt.Errorf("finding the kind of %s: %w", e.Key, err)
	}
	gr, namespace, name := kubestorage.ParseKey(e.Key)
	return &lifecycle.Object{
		Ref:        plan.Ref{Resource: gr.WithVersion(kind.Version), Namespace: namespace, Name: name, UID: obj.GetUID()},
		APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Custom: custom,
		ResourceVersion: obj.GetResourceVersion(), OwnerReferences: obj.GetOwnerReferences(),
		Finalizers: obj.GetFinalizers(), DeletionTimestamp: obj.GetDeletionTimestamp(),
	}, nil
}

// kind returns the kind of an object, of a custom one at the version that clients prefer: what it was stored at may be served no more. If
// nobody defines its kind any more it is what was stored.
func (g graph) kind(obj runtime.Object) (kind schema.GroupVersionKind, custom bool, err error) {
	if _, custom = obj.(runtime.Unstructured); custom {
		kind = obj.GetObjectKind().GroupVersionKind()
		mapping, err := g.mapper.RESTMapping(kind.GroupKind())
		if err == nil {
			kind = mapping.GroupVersionKind
		} else if meta.IsNoMatchError(err) {
			err = nil
		}
		return kind, true, err
	}
	kinds, _, err := apiserver.Scheme.ObjectKinds(obj)
	if err == nil {
		kind = kinds[0]
	}
	return kind, false, err
}

// at returns the object of a key, nil if there is none.
func (g graph) at(key string) (*lifecycle.Object, error) {
	gr, _, _ := kubestorage.ParseKey(key)
	return g.object(g.States[kubestorage.GroupOf(gr)].Get(key))
}

// resolve returns where a reference from a namespace points. It is false for an unknown kind.
func (g graph) resolve(ref metav1.OwnerReference, namespace string) (key string, state lifecycle.OwnerState, known bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", state, false
	}
	mapping, err := g.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
	if err != nil {
		return "", state, false
	}
	state.Resource, state.Scope = mapping.Resource, lifecycle.NamespaceScoped
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		state.Scope, namespace = lifecycle.ClusterScoped, ""
	}
	return kubestorage.KeyOf(mapping.Resource.GroupResource(), namespace, ref.Name), state, true
}

// node returns an object with its owners and dependents.
func (g graph) node(obj *lifecycle.Object) (lifecycle.Node, error) {
	n := lifecycle.Node{Object: *obj, Owners: lifecycle.Owners{}}
	for _, ref := range obj.OwnerReferences {
		key, state, known := g.resolve(ref, obj.Ref.Namespace)
		if !known {
			continue
		}
		var err error
		if state.Found, err = g.at(key); err != nil {
			return n, err
		}
		n.Owners[lifecycle.CoordinatesOf(ref)] = state
	}
	var err error
	n.Dependents, err = g.dependents(obj)
	return n, err
}

// lookElsewhere has the owners of an object that are not where its references point be looked for under the same kind and name in all
// other namespaces. No index finds an object by its UID alone, so one that has another name too is not found; upstream has all
// UIDs in memory. It takes a look for each namespace, and is for objects that are new, or refer to new owners.
func (g graph) lookElsewhere(n lifecycle.Node) error {
	for _, ref := range n.OwnerReferences {
		at := lifecycle.CoordinatesOf(ref)
		state := n.Owners[at]
		if state.Scope != lifecycle.NamespaceScoped || state.Found != nil && state.Found.Ref.UID == ref.UID {
			continue
		}
		var err error
		if state.Elsewhere, err = g.namespaceOf(state.Resource.GroupResource(), ref); err != nil {
			return err
		}
		n.Owners[at] = state
	}
	return nil
}

// namespaceOf returns the namespace of the object of a resource that has the reference's name and UID, empty if there is none.
func (g graph) namespaceOf(gr schema.GroupResource, ref metav1.OwnerReference) (string, error) {
	var found string
	var err error
	g.States[kubestorage.GroupOf(namespaceResource)].Ascend(kubestorage.Prefix(namespaceResource)+"/", "", func(e *tablelog.Entry) bool {
		_, _, namespace := kubestorage.ParseKey(e.Key)
		var owner *lifecycle.Object
		if owner, err = g.at(kubestorage.KeyOf(gr, namespace, ref.Name)); owner != nil && owner.Ref.UID == ref.UID {
			found = namespace
		}
		return err == nil && found == ""
	})
	return found, err
}

// dependents returns the objects that refer to an object, from all logs.
func (g graph) dependents(obj *lifecycle.Object) ([]lifecycle.Object, error) {
	var out []lifecycle.Object
	for _, group := range kubestorage.Groups {
		for _, e := range g.States[group].OwnedBy(string(obj.Ref.UID)) {
			d, err := g.object(e)
			if err != nil {
				return nil, err
			}
			if d != nil {
				out = append(out, *d)
			}
		}
	}
	return out, nil
}

// dependentNodes returns the objects that refer to an object, each with its owners and dependents.
func (g graph) dependentNodes(obj *lifecycle.Object) ([]lifecycle.Node, error) {
	dependents, err := g.dependents(obj)
	if err != nil {
		return nil, err
	}
	nodes := make([]lifecycle.Node, 0, len(dependents))
	for i := range dependents {
		n, err := g.node(&dependents[i])
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}
