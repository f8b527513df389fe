// Package lifecycle is the function that clears away what nobody asks for any more, and gives every
// namespace what it must have: any change in; deletes, patches of owners and finalizers, accounts and
// CA bundles out. The decisions are those of core/lifecycle.
//
//	lifecycle.go  which subjects a batch is about
//	graph.go      an object with its owners and dependents, from the snapshot
//	kinds.go      custom kinds that are served from now on
//	garbage.go    garbage collection
//	namespaces.go namespaces: deletion, accounts, root CA
//	protection.go claims, volumes and their classes, for as long as they are used
package lifecycle

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/lifecycle"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// The controllers of kube-system in whose names the function acts.
const (
	garbageCollector    = "generic-garbage-collector"
	namespaceController = "namespace-controller"
	accountController   = "service-account-controller"
	rootCAPublisher     = "root-ca-cert-publisher"
	claimProtector      = "pvc-protection-controller"
	volumeProtector     = "pv-protection-controller"
	classProtector      = "volumeattributesclass-protection-controller"
)

var (
	namespaceResource = plan.Namespaces.GroupResource()
	accountResource   = plan.ServiceAccounts.GroupResource()
	configMapResource = plan.ConfigMaps.GroupResource()
	podResource       = plan.Pods.GroupResource()
	claimResource     = plan.Claims.GroupResource()
	volumeResource    = plan.Volumes.GroupResource()
	classResource     = plan.AttributesClasses.GroupResource()
	eventResource     = schema.GroupResource{Resource: "events"}
)

// Function returns the function. RootCA, in PEM, is what kube-root-ca.crt holds.
func Function(rootCA string) consumer.Function {
	f := function{rootCA: rootCA}
	return consumer.Function{Name: "lifecycle", Groups: kubestorage.Groups, Handle: f.handle}
}

type function struct{ rootCA string }

// batch is a consumer's batch, with what this function finds in it.
type batch struct {
	*consumer.Batch
	discovered *apiserver.Discovered
	rootCA     string

	// dependents and owners are keys of objects to decide, gone are objects that are no more.
	dependents, owners map[string]bool
	gone               []lifecycle.Object
	// kinds are custom kinds that are served from now on.
	kinds map[schema.GroupKind]bool
	// namespaces to look at: their deletion, and what they must have.
	namespaces consumer.Set
	inUse      inUse
}

func (f function) handle(ctx context.Context, in *consumer.Batch) error {
	b := &batch{
		Batch: in, rootCA: f.rootCA, dependents: map[string]bool{}, owners: map[string]bool{},
		kinds:      map[schema.GroupKind]bool{},
		namespaces: consumer.Set{}, inUse: inUse{claims: consumer.Set{}, volumes: consumer.Set{}, classes: consumer.Set{}},
	}
	var err error
	if b.discovered, err = in.Discover(); err != nil {
		return err
	}
	err = in.Gather(b.everything, b.change, func(l plan.Later) {
		if l.Subject.Resource == plan.Namespaces {
			b.namespaces.Add("", l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	if err := b.ofNewKinds(); err != nil {
		return err
	}
	if err := b.collect(ctx); err != nil {
		return err
	}
	if err := b.protect(ctx); err != nil {
		return err
	}
	return consumer.Each(ctx, b.namespaces.Sorted(), b.namespace)
}

// everything looks at all objects, when it is not known what changed.
func (b *batch) everything() error {
	for _, group := range kubestorage.Groups {
		var err error
		b.States[group].Ascend("", "", func(e *tablelog.Entry) bool {
			err = b.change(tablelog.Event{Rev: e.Rev, Type: tablelog.Created, Key: e.Key, Entry: e})
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// change adds the subjects that a change calls for.
func (b *batch) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch {
	case gr == namespaceResource:
		b.namespaces.Add("", name)
	case gr == accountResource && name == lifecycle.DefaultServiceAccount, gr == configMapResource && name == lifecycle.RootCAConfigMap:
		b.namespaces.Add("", namespace)
	case gr == definitionResource:
		if err := b.definitionChange(ev); err != nil {
			return err
		}
	case namespace != "" && b.terminating(namespace):
		b.namespaces.Add("", namespace)
	}
	if gr == eventResource {
		return nil
	}
	if err := b.storageChange(ev); err != nil {
		return err
	}
	return b.graphChange(ev)
}
