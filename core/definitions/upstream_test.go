package definitions

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/fake"
	"k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions"
	"k8s.io/apiextensions-apiserver/pkg/controller/apiapproval"
	"k8s.io/apiextensions-apiserver/pkg/controller/establish"
	"k8s.io/apiextensions-apiserver/pkg/controller/nonstructuralschema"
	"k8s.io/apiextensions-apiserver/pkg/controller/status"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"pgregory.net/rapid"
)

// worlds is how many random worlds are given to Kubernetes's own controllers.
const worlds = 150

// step is one thing that somebody does. A definition of the same name that is there is replaced, or deleted.
type step struct {
	name       string
	definition *definition
}

func drawSteps(t *rapid.T) (out []step) {
	group := rapid.SampledFrom([]string{"example.com", "stuff.k8s.io"}).Draw(t, "group")
	names := []string{"a", "b", "c"}
	for i := range rapid.IntRange(1, 6).Draw(t, "steps") {
		name := names[min(i, len(names)-1)]
		if i >= len(names) {
			name = rapid.SampledFrom(names).Draw(t, "again")
		}
		s := step{name: name + "." + group}
		if i < len(names) || rapid.IntRange(0, 3).Draw(t, "kept") > 0 {
			s.definition = drawDefinition(t, name, group)
		}
		out = append(out, s)
	}
	return out
}

func drawDefinition(t *rapid.T, plural, group string) *definition {
	word := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	d := &definition{ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group}}
	d.Spec.Group = group
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{
		Plural: plural, Singular: word("singular", plural+"1", "one", "b"), Kind: word("kind", "K"+plural, "K"), ListKind: word("list", "L"+plural, "K", "L"),
		ShortNames: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s", "one", "a", plural + "s"}), 0, 2, rapid.ID).Draw(t, "short"),
	}
	switch word("annotation", "none", "url", "unapproved", "odd") {
	case "url":
		d.Annotations = map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "https://github.com/kubernetes/kubernetes/pull/1"}
	case "unapproved":
		d.Annotations = map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "unapproved, an experiment"}
	case "odd":
		d.Annotations = map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "maybe"}
	}
	root := &apiextensionsv1.JSONSchemaProps{Type: "object"}
	switch word("schema", "structural", "structural", "typeless", "odd") {
	case "typeless":
		root.Properties = map[string]apiextensionsv1.JSONSchemaProps{"spec": {}}
	case "odd":
		root.Properties = map[string]apiextensionsv1.JSONSchemaProps{"spec": {Ref: new("#/elsewhere")}}
	}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: root},
	}}
	d.Spec.PreserveUnknownFields = rapid.IntRange(0, 4).Draw(t, "preserve") == 0
	if rapid.IntRange(0, 3).Draw(t, "webhook") == 0 {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Webhook: &apiextensionsv1.WebhookConversion{
			ClientConfig: &apiextensionsv1.WebhookClientConfig{CABundle: []byte(word("bundle", "", "none"))},
		}}
	}
	return d
}

// said is what is compared of a definition.
type said struct {
	Names      apiextensionsv1.CustomResourceDefinitionNames
	Conditions []condition
}

func saidBy(all map[string]*definition) map[string]said {
	out := map[string]said{}
	for name, d := range all {
		s := said{Names: d.Status.AcceptedNames, Conditions: slices.Clone(d.Status.Conditions)}
		for i := range s.Conditions {
			s.Conditions[i].LastTransitionTime = metav1.Time{}
		}
		slices.SortFunc(s.Conditions, func(a, b condition) int { return cmp.Compare(a.Type, b.Type) })
		out[name] = s
	}
	return out
}

// replaced is a definition with what the one before it says.
func replaced(before, after *definition) *definition {
	out := after.DeepCopy()
	out.Generation = 1
	if before != nil {
		out.Status = *before.Status.DeepCopy()
		out.Generation, out.ResourceVersion = before.Generation+1, before.ResourceVersion
	}
	return out
}

// TestTheControllersOfKubernetesDoTheSame does the same random things before Kubernetes's own controllers, over a fake API server and
// by a virtual clock, and before this package, and compares names and conditions at the end.
func TestTheControllersOfKubernetesDoTheSame(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	for seed := range worlds {
		steps := rapid.Custom(drawSteps).Example(seed)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, decided := ours(steps)
				if !decided {
					return // who is given a name for which several wait is upstream's chance
				}
				if diff := gocmp.Diff(saidBy(theirs(t, steps)), saidBy(all), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("(-upstream +ours):\n%s", diff)
				}
			})
		})
	}
}

// refuseStale has the fake API server refuse updates of what has changed: else controllers undo what others have written.
func refuseStale(client *fake.Clientset) {
	crds := apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")
	version := 0
	client.PrependReactor("*", crds.Resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
		version++
		switch a := action.(type) {
		case clienttesting.CreateActionImpl:
			d := a.GetObject().(*definition)
			d.ResourceVersion = strconv.Itoa(version)
			return true, d, client.Tracker().Create(crds, d, "")
		case clienttesting.UpdateActionImpl:
			d := a.GetObject().(*definition)
			now, err := client.Tracker().Get(crds, "", d.Name)
			if err == nil && now.(*definition).ResourceVersion != d.ResourceVersion {
				err = apierrors.NewConflict(crds.GroupResource(), d.Name, nil)
			}
			if err != nil {
				return true, nil, err
			}
			d.ResourceVersion = strconv.Itoa(version)
			return true, d, client.Tracker().Update(crds, d, "")
		}
		return false, nil, nil
	})
}

func theirs(t *testing.T, steps []step) map[string]*definition {
	ctx, cancel := context.WithCancel(t.Context())
	client := fake.NewClientset()
	refuseStale(client)
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	factory := externalversions.NewSharedInformerFactory(client, 0)
	informer := factory.Apiextensions().V1().CustomResourceDefinitions()
	establishing := establish.NewEstablishingController(informer, client.ApiextensionsV1())
	// As the handler of custom resources does it (updateCustomResourceDefinition).
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, obj any) {
		was, d := old.(*definition), draft{definition: obj.(*definition)}
		if was.Generation == d.Generation && equality.Semantic.DeepEqual(was.Status, d.Status) {
			return // the fake API server tells of what changes nothing
		}
		if !d.holds(apiextensionsv1.Established) && d.holds(apiextensionsv1.NamesAccepted) {
			establishing.QueueCRD(d.Name, 0)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	names := status.NewNamingConditionController(klog.Background(), informer, client.ApiextensionsV1())
	structural := nonstructuralschema.NewConditionController(informer, client.ApiextensionsV1())
	approval := apiapproval.NewKubernetesAPIApprovalPolicyConformantConditionController(informer, client.ApiextensionsV1())
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	var running sync.WaitGroup
	running.Go(func() { establishing.RunWithContext(ctx) })
	running.Go(func() { names.RunWithContext(ctx) })
	running.Go(func() { structural.RunWithContext(1, ctx) })
	running.Go(func() { approval.RunWithContext(1, ctx) })
	for _, s := range steps {
		before, err := crds.Get(ctx, s.name, metav1.GetOptions{})
		switch {
		case s.definition == nil:
			err = crds.Delete(ctx, s.name, metav1.DeleteOptions{})
		case err != nil:
			_, err = crds.Create(ctx, replaced(nil, s.definition), metav1.CreateOptions{})
		default:
			_, err = crds.Update(ctx, replaced(before, s.definition), metav1.UpdateOptions{})
		}
		if err != nil && s.definition != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
	}
	list, err := crds.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	running.Wait()
	factory.Shutdown()
	out := map[string]*definition{}
	for i := range list.Items {
		out[list.Items[i].Name] = &list.Items[i]
	}
	return out
}

// ours decides what changed and those that wait, as functions/definitions does, until nothing more is to be done. It is not decided what comes
// of it when more than one waits.
func ours(steps []step) (all map[string]*definition, decided bool) {
	all = map[string]*definition{}
	for _, s := range steps {
		if s.definition == nil {
			delete(all, s.name)
		} else {
			all[s.name] = replaced(all[s.name], s.definition)
		}
		for changed := true; changed; {
			changed = false
			for _, name := range slices.Sorted(maps.Keys(all)) {
				in := Input{Definition: all[name], Now: time.Unix(1, 0)}
				for other, d := range all {
					if other != name {
						in.Others = append(in.Others, d)
					}
				}
				for _, w := range Reconcile(in).Writes {
					all[name] = w.Object.(*definition)
					changed = true
				}
			}
		}
		waiting := 0
		for _, d := range all {
			if !(draft{definition: d}).holds(apiextensionsv1.NamesAccepted) {
				waiting++
			}
		}
		if waiting > 1 {
			return all, false
		}
	}
	return all, true
}
