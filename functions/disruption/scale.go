package disruption

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/disruption"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	replicaSets  = plan.ReplicaSets.GroupResource()
	deployments  = plan.Deployments.GroupResource()
	statefulSets = schema.GroupResource{Group: "apps", Resource: "statefulsets"}
	controllers  = schema.GroupResource{Resource: "replicationcontrollers"}
)

// scaleFinder finds how many pods their controllers ask for.
//
// Upstream: the finders of pkg/controller/disruption/disruption.go.
type scaleFinder struct {
	*consumer.Snapshot
	api interface {
		Discover() (*apiserver.Discovered, error)
	}
}

// add adds what is known of a pod's controller.
func (f scaleFinder) add(known map[types.UID]disruption.Controller, pod *corev1.Pod) error {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return nil
	}
	if _, seen := known[ref.UID]; seen {
		return nil
	}
	discovered, err := f.api.Discover()
	if err != nil {
		return err
	}
	c, found, err := f.find(discovered.Mapper, ref, pod.Namespace)
	if found {
		known[ref.UID] = c
	}
	return err
}

// find returns the scale behind a reference. A kind that has none is the budget's error, and not the
// function's.
func (f scaleFinder) find(mapper meta.RESTMapper, ref *metav1.OwnerReference, namespace string) (c disruption.Controller, found bool, err error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return disruption.Controller{Err: err}, true, nil //nolint:nilerr // the budget tells of it
	}
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
	if err != nil {
		return disruption.Controller{Err: err}, true, nil //nolint:nilerr // the budget tells of it
	}
	switch gr := mapping.Resource.GroupResource(); gr {
	case replicaSets:
		return f.replicaSet(ref, namespace)
	case deployments, statefulSets, controllers:
		return f.get(gr, namespace, ref.Name, ref.UID)
	default:
		return disruption.Controller{Err: fmt.Errorf("%s does not implement the scale subresource", gr)}, true, nil
	}
}

// replicaSet returns the scale of the Deployment that controls a ReplicaSet, or else its own.
func (f scaleFinder) replicaSet(ref *metav1.OwnerReference, namespace string) (c disruption.Controller, found bool, err error) {
	rs, ok, err := consumer.Get[*appsv1.ReplicaSet](f.Snapshot, replicaSets, namespace, ref.Name)
	if err != nil || !ok || rs.UID != ref.UID {
		return c, false, err
	}
	if above := metav1.GetControllerOf(rs); above != nil && above.Kind == "Deployment" {
		if c, found, err = f.get(deployments, namespace, above.Name, above.UID); err != nil || found {
			return c, found, err
		}
	}
	return disruption.Controller{UID: rs.UID, Replicas: replicas(rs.Spec.Replicas)}, true, nil
}

// get returns the scale of an object, if it is still the one that is meant.
func (f scaleFinder) get(gr schema.GroupResource, namespace, name string, uid types.UID) (c disruption.Controller, found bool, err error) {
	state := f.States[kubestorage.GroupOf(gr)]
	obj, ok, err := consumer.Read[metav1.Object](f.Snapshot, state.Get(kubestorage.KeyOf(gr, namespace, name)))
	if err != nil || !ok || obj.GetUID() != uid {
		return c, false, err
	}
	c.UID = uid
	switch o := obj.(type) {
	case *appsv1.Deployment:
		c.Replicas = replicas(o.Spec.Replicas)
	case *appsv1.StatefulSet:
		c.Replicas = replicas(o.Spec.Replicas)
	case *corev1.ReplicationController:
		c.Replicas = replicas(o.Spec.Replicas)
	}
	return c, true, nil
}

// replicas is what a spec asks for. What was stored without its defaults asks for one.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
