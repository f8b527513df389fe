package definitions

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// deleted is a definition that is being deleted.
func deleted(alter ...func(*definition)) *definition {
	d := &definition{ObjectMeta: metav1.ObjectMeta{
		Name: "widgets.example.com", DeletionTimestamp: &metav1.Time{Time: time.Unix(5, 0)}, Finalizers: []string{apiextensionsv1.CustomResourceCleanupFinalizer},
	}}
	d.Spec.Group = "example.com"
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true}, {Name: "v2", Served: true, Storage: true}}
	d.Status.AcceptedNames = d.Spec.Names
	d.Status.Conditions = []condition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1, 0))}}
	for _, f := range alter {
		f(d)
	}
	return d
}

var widgets = schema.GroupVersionResource{Group: "example.com", Version: "v2", Resource: "widgets"}

// told is what a plan does, in words.
func told(p plan.Plan) (out []string) {
	for _, w := range p.Writes {
		if w.Verb == plan.Delete {
			out = append(out, fmt.Sprintf("delete %s %s/%s", w.Resource.Version, w.Namespace, w.Name))
			continue
		}
		d := draft{definition: w.Object.(*definition)}
		said := "nothing"
		if c := d.find(apiextensionsv1.Terminating); c != nil {
			said = string(c.Status) + " " + c.Reason
		}
		out = append(out, fmt.Sprintf("terminating %s, finalizers %v", said, d.Finalizers))
	}
	return out
}

func TestADefinitionTakesItsObjectsAlong(t *testing.T) {
	const held = "[" + apiextensionsv1.CustomResourceCleanupFinalizer + "]"
	for claim, c := range map[string]struct {
		definition *definition
		instances  []Instance
		want       []string
	}{
		"what is there is deleted, what is being deleted waited for": {
			definition: deleted(), instances: []Instance{{Namespace: "a", Name: "x"}, {Namespace: "a", Name: "y", Deleted: true}, {Name: "z"}},
			want: []string{"terminating True InstanceDeletionInProgress, finalizers " + held, "delete v2 a/x", "delete v2 /z"},
		},
		"where that is all said, nothing is written": {
			definition: deleted(func(d *definition) {
				d.Status.Conditions = append(d.Status.Conditions, condition{
					Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionInProgress",
					Message: "CustomResource deletion is in progress", LastTransitionTime: metav1.NewTime(time.Unix(5, 0)),
				})
			}),
			instances: []Instance{{Namespace: "a", Name: "y", Deleted: true}},
		},
		"without objects it goes": {
			definition: deleted(), want: []string{"terminating False InstanceDeletionCompleted, finalizers []"},
		},
		"objects of what was never served are nobody's to delete": {
			definition: deleted(func(d *definition) { d.Status.Conditions = nil }), instances: []Instance{{Name: "x"}},
			want: []string{"terminating False NeverEstablished, finalizers []"},
		},
		"built-in objects stay": {
			definition: deleted(func(d *definition) {
				d.Spec.Group, d.Spec.Names.Plural = "apiregistration.k8s.io", "apiservices"
				d.Status.AcceptedNames = d.Spec.Names
				d.Annotations = map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "https://example.com/x"}
			}),
			instances: []Instance{{Name: "x"}},
			want:      []string{"terminating False OverlappingBuiltInResource, finalizers []"},
		},
		"another's finalizer keeps it, and is none of ours": {
			definition: deleted(func(d *definition) { d.Finalizers = []string{"example.com/hold"} }),
		},
		"what is not deleted is left alone": {
			definition: deleted(func(d *definition) { d.DeletionTimestamp = nil }), instances: []Instance{{Name: "x"}},
		},
		"what is served at another version than is stored is asked for there": {
			definition: deleted(func(d *definition) { d.Spec.Versions[1].Served = false }), instances: []Instance{{Name: "x"}},
			want: []string{"terminating True InstanceDeletionInProgress, finalizers " + held, "delete v1 /x"},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			got := told(Reconcile(Input{Definition: c.definition, Instances: c.instances, Now: time.Unix(9, 0)}))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatAPlanReadsKeepsANameAndTheObjectsFromMoving(t *testing.T) {
	p := Reconcile(Input{Definition: deleted(), Now: time.Unix(9, 0)})
	want := []plan.Read{{Resource: plan.Definitions}, {Resource: widgets, Again: true}}
	if diff := cmp.Diff(want, p.Reads); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
