// Package definitions is the function that establishes CustomResourceDefinitions, says in their conditions what is wrong with them,
// registers what they serve, and deletes their objects with them: definitions and objects that come, change or go in, statuses,
// APIServices and deletes out. The decisions are
// those of core/definitions.
package definitions

import (
	"context"
	"strings"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/definitions"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// component is the API server: upstream's controllers of definitions are part of it.
const component = user.APIServerUser

// longestPause bounds the pause after a refused write.
const longestPause = time.Minute

var (
	resource = plan.Definitions.GroupResource()
	services = plan.APIServices.GroupResource()
)

type definition = apiextensionsv1.CustomResourceDefinition

// Function returns the function. The logs are those in which objects of custom kinds may be.
func Function() consumer.Function {
	return consumer.Function{Name: "definitions", Groups: []string{kubestorage.ConfigGroup, kubestorage.ObjectsGroup}, Handle: handle}
}

func handle(ctx context.Context, b *consumer.Batch) error {
	names, groups := consumer.Set{}, consumer.Set{}
	everything := func() error {
		b.States[kubestorage.ConfigGroup].Ascend(kubestorage.Prefix(resource)+"/", "", func(e *tablelog.Entry) bool {
			_, _, name := kubestorage.ParseKey(e.Key)
			names.Add("", name)
			return true
		})
		return nil
	}
	change := func(ev tablelog.Event) error {
		if gr, _, name := kubestorage.ParseKey(ev.Key); gr == services {
			_, group, _ := strings.Cut(name, ".")
			groups.Add("", group)
			return nil
		}
		return touched(b.Snapshot, ev, names)
	}
	if err := b.Gather(everything, change, func(l plan.Later) { names.Add("", l.Subject.Name) }); err != nil {
		return err
	}
	// One after the other: two of one group may ask for the same name.
	for _, n := range names.Sorted() {
		if err := decide(ctx, b, n.Name); err != nil {
			return err
		}
		_, group, _ := strings.Cut(n.Name, ".")
		groups.Add("", group)
	}
	for _, n := range groups.Sorted() {
		if err := register(ctx, b, n.Name); err != nil {
			return err
		}
	}
	return nil
}

// register decides the APIServices of a group.
func register(ctx context.Context, b *consumer.Batch, group string) error {
	return consumer.Refused(b.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		g := definitions.Group{Name: group}
		var err error
		if g.Definitions, err = ofGroup[*definition](s, resource, group, ""); err != nil {
			return plan.Plan{}, err
		}
		g.Services, err = ofGroup[*apiregistrationv1.APIService](s, services, group, "")
		return definitions.Register(g), err
	}))
}

// touched adds the definitions that a change is of: the one that changed and those of its group that wait for a name, or the one that is
// being deleted and whose object has gone.
func touched(s *consumer.Snapshot, ev tablelog.Event, names consumer.Set) error {
	gr, _, name := kubestorage.ParseKey(ev.Key)
	if gr == resource {
		names.Add("", name)
		_, group, _ := strings.Cut(name, ".")
		others, err := ofGroup[*definition](s, resource, group, name)
		for _, o := range others {
			if !named(o) {
				names.Add("", o.Name)
			}
		}
		return err
	}
	of := gr.Resource + "." + gr.Group
	d, ok, err := consumer.Get[*definition](s, resource, "", of)
	if ok && d.DeletionTimestamp != nil {
		names.Add("", of)
	}
	return err
}

// named reports whether a definition has all names that it asks for.
func named(d *definition) bool {
	return apihelpers.IsCRDConditionTrue(d, apiextensionsv1.NamesAccepted)
}

// ofGroup returns the definitions or APIServices of a group but one. Their names end with the group's, so others are not decoded.
func ofGroup[T any](s *consumer.Snapshot, gr schema.GroupResource, group, but string) (out []T, err error) {
	s.States[kubestorage.ConfigGroup].Ascend(kubestorage.Prefix(gr)+"/", "", func(e *tablelog.Entry) bool {
		_, _, name := kubestorage.ParseKey(e.Key)
		if _, of, _ := strings.Cut(name, "."); of != group || name == but {
			return true
		}
		var obj T
		var ok bool
		if obj, ok, err = consumer.Read[T](s, e); ok {
			out = append(out, obj)
		}
		return err == nil
	})
	return out, err
}

func decide(ctx context.Context, b *consumer.Batch, name string) error {
	return consumer.Step[definitions.Input]{
		Load:   func(s *consumer.Snapshot) (definitions.Input, bool, error) { return load(s, name, b.Now) },
		Decide: definitions.Reconcile,
		Again: func(in definitions.Input) plan.Later {
			ref := plan.Ref{Resource: plan.Definitions, Name: name, UID: in.Definition.UID}
			return consumer.TryAgain(ref, b.Now, consumer.LastEdited(in.Definition), longestPause)
		},
	}.Take(ctx, b, component)
}

func load(s *consumer.Snapshot, name string, now time.Time) (in definitions.Input, ok bool, err error) {
	in.Now = now
	if in.Definition, ok, err = consumer.Get[*definition](s, resource, "", name); err != nil || !ok {
		return in, false, err
	}
	if in.Others, err = ofGroup[*definition](s, resource, in.Definition.Spec.Group, name); err != nil {
		return in, false, err
	}
	if in.Definition.DeletionTimestamp != nil {
		in.Instances, err = instances(s, in.Definition)
	}
	return in, err == nil, err
}

// instances returns the objects of a definition's kind.
func instances(s *consumer.Snapshot, d *definition) (out []definitions.Instance, err error) {
	gr := schema.GroupResource{Group: d.Spec.Group, Resource: d.Spec.Names.Plural}
	objects, err := consumer.List[metav1.Object](s, gr, "")
	for _, o := range objects {
		out = append(out, definitions.Instance{
			Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), Deleted: o.GetDeletionTimestamp() != nil,
		})
	}
	return out, err
}
