package apiserver

import (
	"context"
	"strings"
	"sync"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	informersv1 "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	listersv1 "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

var definitionResource = schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}

// definitions are the cluster's CustomResourceDefinitions as upstream's handler of custom resources
// wants them: an informer and a lister, which read the state of the log when they are asked. A
// definition is decoded when somebody asks for it by name or group, and not before.
type definitions struct {
	cache.SharedIndexInformer // for what nobody calls
	log                       *tablelog.Log
	prefix                    string
	decoder                   kubestorage.Decoder

	// syncing is held while the handlers are called.
	syncing sync.Mutex
	seen    uint64

	mu       sync.Mutex
	handlers []cache.ResourceEventHandler
	// used are the definitions that somebody made something of, as the handlers know them.
	used map[string]*tablelog.Entry
}

var (
	_ informersv1.CustomResourceDefinitionInformer = (*definitions)(nil)
	_ listersv1.CustomResourceDefinitionLister     = (*definitions)(nil)
)

func newDefinitions(of *informers) *definitions {
	o := newOnDemand(of, definitionResource)
	return &definitions{SharedIndexInformer: o, log: o.log, prefix: o.prefix, decoder: of.decoder, used: map[string]*tablelog.Entry{}}
}

// Informer implements upstream's CustomResourceDefinitionInformer.
func (d *definitions) Informer() cache.SharedIndexInformer { return d }

// Lister implements upstream's CustomResourceDefinitionInformer.
func (d *definitions) Lister() listersv1.CustomResourceDefinitionLister { return d }

// AddEventHandler implements cache.SharedInformer. The handler hears of changes of those definitions
// that were used, and of nothing else: it has made nothing of the others.
func (d *definitions) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handlers = append(d.handlers, h)
	return registration{}, nil
}

// AddEventHandlerWithResyncPeriod implements cache.SharedInformer; nothing is ever resynced.
func (d *definitions) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return d.AddEventHandler(h)
}

// AddEventHandlerWithOptions implements cache.SharedInformer.
func (d *definitions) AddEventHandlerWithOptions(h cache.ResourceEventHandler, _ cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return d.AddEventHandler(h)
}

// known is the newest state that a request may rely on, which the filters have made current.
func (d *definitions) known() (*tablelog.State, error) {
	ctx, cancel := context.WithTimeout(context.Background(), listerTimeout)
	defer cancel()
	return d.log.Known(ctx)
}

// read decodes a definition. It is shared: nobody may alter it.
func (d *definitions) read(e *tablelog.Entry) (*apiextensionsv1.CustomResourceDefinition, error) {
	obj, err := d.decoder.Object(e)
	if err != nil {
		return nil, err
	}
	return obj.(*apiextensionsv1.CustomResourceDefinition), nil
}

// Get implements the lister, for the handler of custom resources.
func (d *definitions) Get(name string) (*apiextensionsv1.CustomResourceDefinition, error) {
	state, err := d.known()
	if err != nil {
		return nil, err
	}
	e := state.Get(d.prefix + name)
	if e == nil {
		return nil, apierrors.NewNotFound(definitionResource, name)
	}
	crd, err := d.read(e)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.used[name] == nil {
		d.used[name] = e
		d.seen = 0 // it may have changed since the state was read
	}
	d.mu.Unlock()
	return longEstablished(crd), nil
}

// longEstablished returns a definition that was not established just now. Upstream's handler sleeps for
// two seconds before the first objects of a new kind are made, until other servers' informers have heard of
// it (serveResource of customresource_handler.go). Here every server reads the log at each request.
func longEstablished(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	out := *crd
	out.Status.Conditions = append([]apiextensionsv1.CustomResourceDefinitionCondition(nil), crd.Status.Conditions...)
	if c := apihelpers.FindCRDCondition(&out, apiextensionsv1.Established); c != nil {
		c.LastTransitionTime = metav1.Time{}
	}
	return &out
}

// List implements the lister, for the handler, which forgets what is not in it: only what was used can be
// of interest to it.
func (d *definitions) List(selector labels.Selector) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	state, err := d.known()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	names := make([]string, 0, len(d.used))
	for name := range d.used {
		names = append(names, name)
	}
	d.mu.Unlock()
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, name := range names {
		e := state.Get(d.prefix + name)
		if e == nil {
			continue
		}
		crd, err := d.read(e)
		if err != nil {
			return nil, err
		}
		if selector.Matches(labels.Set(crd.Labels)) {
			out = append(out, crd)
		}
	}
	return out, nil
}

// sync tells the handlers what became of the definitions that were used.
func (d *definitions) sync(ctx context.Context) error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	state, err := d.log.Known(ctx)
	if err != nil {
		return err
	}
	for name, before := range d.changed(state) {
		if err := d.tell(before, state.Get(d.prefix+name)); err != nil {
			return err
		}
	}
	return nil
}

// changed returns the definitions that were used and have changed, as they were, and takes note of what they are.
func (d *definitions) changed(state *tablelog.State) map[string]*tablelog.Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == state.Rev {
		return nil
	}
	d.seen = state.Rev
	var out map[string]*tablelog.Entry
	for name, before := range d.used {
		now := state.Get(d.prefix + name)
		if now != nil && now.Rev == before.Rev {
			continue
		}
		if out == nil {
			out = map[string]*tablelog.Entry{}
		}
		out[name] = before
		if now == nil {
			delete(d.used, name)
		} else {
			d.used[name] = now
		}
	}
	return out
}

// tell calls the handlers. A change is told as an addition, at which upstream's handler forgets what it
// has made of another specification: at an update it would also ask the establishing controller, whose work a function does.
func (d *definitions) tell(before, after *tablelog.Entry) error {
	old, err := d.read(before)
	if err != nil {
		return err
	}
	var now *apiextensionsv1.CustomResourceDefinition
	if after != nil {
		if now, err = d.read(after); err != nil {
			return err
		}
	}
	d.mu.Lock()
	handlers := d.handlers
	d.mu.Unlock()
	for _, h := range handlers {
		if now == nil || now.UID != old.UID {
			h.OnDelete(old)
		}
		if now != nil {
			h.OnAdd(now, false)
		}
	}
	return nil
}

// mark tells two states of the definitions apart: a change makes the newest revision greater, a deletion the number less.
type mark struct {
	newest uint64
	number int
}

func (d *definitions) mark(state *tablelog.State) (m mark) {
	state.Ascend(d.prefix, "", func(e *tablelog.Entry) bool {
		m.newest = max(m.newest, e.Rev)
		m.number++
		return true
	})
	return m
}

// all returns the definitions of a group, or of every group if it is empty, in the order of their names. A definition's name
// ends with its group (ValidateCustomResourceDefinition), so no other is decoded.
func (d *definitions) all(state *tablelog.State, group string) (out []*apiextensionsv1.CustomResourceDefinition, err error) {
	state.Ascend(d.prefix, "", func(e *tablelog.Entry) bool {
		if _, of, _ := strings.Cut(e.Key[len(d.prefix):], "."); group != "" && of != group {
			return true
		}
		var crd *apiextensionsv1.CustomResourceDefinition
		if crd, err = d.read(e); err == nil {
			out = append(out, crd)
		}
		return err == nil
	})
	return out, err
}
