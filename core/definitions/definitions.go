// Package definitions decides what becomes of CustomResourceDefinitions: which of the names that one asks for it
// has, what its conditions say, when its kind is served, and how one that is deleted takes its objects along.
//
// Each file follows one of the controllers that upstream runs in its API server, most of them of
// k8s.io/apiextensions-apiserver v0.37.2 (pkg/controller):
//
//	names.go       status/naming_controller.go
//	establish.go   establish/establishing_controller.go
//	structural.go  nonstructuralschema/nonstructuralschema_controller.go
//	approval.go    apiapproval/apiapproval_controller.go
//	finalize.go    finalizer/crd_finalizer.go
//	register.go    pkg/controlplane/controller/crdregistration of k8s.io/kubernetes
//
// Upstream writes the status once for each of them; here all that a definition is to say is written at once.
package definitions

import (
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

type (
	definition = apiextensionsv1.CustomResourceDefinition
	condition  = apiextensionsv1.CustomResourceDefinitionCondition
)

// Input is what a definition is decided on.
type Input struct {
	Definition *definition
	// Others are the other definitions of its group.
	Others []*definition
	// Instances are its objects. They are wanted only if it is being deleted.
	Instances []Instance
	Now       time.Time
}

// Instance is an object of the kind that is defined.
type Instance struct {
	Namespace, Name string
	UID             types.UID
	Deleted         bool
}

// Reconcile decides what is written of a definition.
func Reconcile(in Input) plan.Plan {
	was := in.Definition
	d := draft{definition: was.DeepCopy(), now: metav1.NewTime(in.Now)}
	d.name(in.Others)
	d.checkStructure()
	d.checkApproval()
	d.establish()
	deletes := d.finalize(in.Instances)
	p := plan.Plan{Reads: []plan.Read{{Resource: plan.Definitions}}}
	if !equality.Semantic.DeepEqual(was.Status, d.Status) || len(was.Finalizers) != len(d.Finalizers) {
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.UpdateStatus, Resource: plan.Definitions, Name: was.Name, Object: d.definition, Reason: "its names, conditions or finalizers change",
		})
	}
	p.Writes = append(p.Writes, deletes...)
	if len(was.Finalizers) != len(d.Finalizers) {
		// No object may appear meanwhile: it would outlive its definition.
		p.Reads = append(p.Reads, plan.Read{Resource: d.resource(), Again: true})
	}
	return p
}

// draft is a definition that is being altered.
type draft struct {
	*definition
	now metav1.Time
}

// find returns a condition, nil if there is none.
func (d draft) find(of apiextensionsv1.CustomResourceDefinitionConditionType) *condition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == of {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func (d draft) holds(of apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	c := d.find(of)
	return c != nil && c.Status == apiextensionsv1.ConditionTrue
}

// set sets a condition, whose time is that at which its status last changed (SetCRDCondition of pkg/apihelpers).
func (d draft) set(c condition) {
	c.LastTransitionTime = d.now
	old := d.find(c.Type)
	if old == nil {
		d.Status.Conditions = append(d.Status.Conditions, c)
		return
	}
	if old.Status == c.Status && !old.LastTransitionTime.IsZero() {
		c.LastTransitionTime = old.LastTransitionTime
	}
	c.ObservedGeneration = old.ObservedGeneration
	*old = c
}

// same reports whether two conditions say the same.
func same(a, b *condition) bool {
	return a != nil && b != nil && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}
