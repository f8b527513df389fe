package lifecycle

import (
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var definitionResource = plan.Definitions.GroupResource()

// definitionChange notes a custom kind that is served from now on. Nothing could be decided about what it owns before; upstream tries
// again and again (garbagecollector.go, attemptToDeleteWorker).
func (b *batch) definitionChange(ev tablelog.Event) error {
	kind, now, err := b.served(ev.Entry)
	if err != nil || !now {
		return err
	}
	if _, before, err := b.served(ev.Prev); before || err != nil {
		return err
	}
	b.kinds[kind] = true
	return nil
}

// served returns the kind that a definition defines, and whether it is served.
func (b *batch) served(e *tablelog.Entry) (kind schema.GroupKind, established bool, err error) {
	crd, ok, err := consumer.Read[*apiextensionsv1.CustomResourceDefinition](b.Snapshot, e)
	if err != nil || !ok {
		return kind, false, err
	}
	return schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Status.AcceptedNames.Kind}, apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established), nil
}

// ofNewKinds adds the dependents of the kinds that are served from now on.
func (b *batch) ofNewKinds() error {
	if len(b.kinds) == 0 {
		return nil
	}
	for _, group := range kubestorage.Groups {
		var err error
		b.States[group].Ascend("", "", func(e *tablelog.Entry) bool {
			if len(e.Owners) == 0 {
				return true
			}
			var obj metav1.Object
			var ok bool
			if obj, ok, err = consumer.Read[metav1.Object](b.Snapshot, e); ok && b.ownedByNew(obj) {
				b.dependents[e.Key] = true
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) ownedByNew(obj metav1.Object) bool {
	for _, ref := range obj.GetOwnerReferences() {
		if gv, err := schema.ParseGroupVersion(ref.APIVersion); err == nil && b.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}] {
			return true
		}
	}
	return false
}
