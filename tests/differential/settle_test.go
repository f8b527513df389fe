package differential_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
)

const (
	// quiet is for how long nothing may change in what has settled. What controllers put off for longer than that, scripts wait
	// for by name.
	quiet = 2 * time.Second
	// settleLimit bounds how long that may take: where something changes for ever, what is there then is compared.
	settleLimit = 45 * time.Second
	// retryPause is between two questions to a server that is about to answer otherwise.
	retryPause = 50 * time.Millisecond
)

// clients are what all scripts of one cluster share.
type clients struct {
	dynamic dynamic.Interface
	typed   kubernetes.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	// discovery remembers which kinds there are until the mapper is reset.
	discovery discovery.CachedDiscoveryInterface
	tracker   *tracker
}

func newClients(t *testing.T, config *rest.Config) *clients {
	t.Helper()
	var errs [4]error
	c := &clients{tracker: newTracker()}
	c.dynamic, errs[0] = dynamic.NewForConfig(config)
	typed, err := kubernetes.NewForConfig(config)
	c.typed, errs[1] = typed, err
	var metadataClient metadata.Interface
	metadataClient, errs[2] = metadata.NewForConfig(config)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	c.discovery = memory.NewMemCacheClient(typed.Discovery())
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(c.discovery)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	c.tracker.factory = metadatainformer.NewSharedInformerFactory(metadataClient, 0)
	c.tracker.stop = ctx.Done()
	resources, err := c.kinds(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.tracker.add(ctx, resources...); err != nil {
		t.Fatal(err)
	}
	return c
}

// again does something again when it found a kind missing that a script may just have made.
func (c *clients) again(_ context.Context, f func() error) error {
	err := f()
	if meta.IsNoMatchError(err) {
		c.mapper.Reset()
		err = f()
	}
	return err
}

// watched tells the kinds whose objects a script's state consists of: those that can be listed and watched. Samples of metrics
// are no objects, and Events have a second name.
func watched(group string, r *metav1.APIResource) bool {
	return group != "metrics.k8s.io" && group != "events.k8s.io" && !strings.Contains(r.Name, "/") &&
		slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "watch")
}

// kinds are the resources that the server prefers, all or the (not) namespaced ones.
func (c *clients) kinds(namespaced *bool) ([]schema.GroupVersionResource, error) {
	lists, err := discovery.ServerPreferredResources(c.discovery)
	if err != nil && len(lists) == 0 {
		return nil, fmt.Errorf("asking for the kinds: %w", err)
	}
	var out []schema.GroupVersionResource
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for i := range list.APIResources {
			r := &list.APIResources[i]
			if watched(version.Group, r) && (namespaced == nil || *namespaced == r.Namespaced) {
				out = append(out, version.WithResource(r.Name))
			}
		}
	}
	return out, nil
}

// tracker notes, from one watch for each kind, when something changed last in which namespace, and outside.
type tracker struct {
	factory metadatainformer.SharedInformerFactory
	stop    <-chan struct{}

	mu      sync.Mutex
	last    map[string]time.Time
	changed chan struct{}
}

func newTracker() *tracker {
	return &tracker{last: map[string]time.Time{}, changed: make(chan struct{})}
}

// add has kinds watched, and returns when they are.
func (t *tracker) add(ctx context.Context, resources ...schema.GroupVersionResource) error {
	var synced []cache.InformerSynced
	for _, resource := range resources {
		touch := func(o any) { t.touch(resource, o) }
		handler := cache.ResourceEventHandlerFuncs{AddFunc: touch, DeleteFunc: touch}
		if resource.Resource != "events" {
			// An Event that is counted on is no change of the state: some are for as long as their cause lasts.
			handler.UpdateFunc = func(_, o any) { touch(o) }
		}
		registration, err := t.factory.ForResource(resource).Informer().AddEventHandler(handler)
		if err != nil {
			return err
		}
		synced = append(synced, registration.HasSynced)
	}
	t.factory.Start(t.stop)
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("the watches did not start in time")
	}
	return nil
}

// key is what changes are noted under: the namespace, or the kind and name of what has none.
func key(resource schema.GroupVersionResource, namespace, name string) string {
	if namespace != "" {
		return namespace
	}
	return resource.Resource + "/" + name
}

func (t *tracker) touch(resource schema.GroupVersionResource, o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	m, err := meta.Accessor(o)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last[key(resource, m.GetNamespace(), m.GetName())] = time.Now()
	close(t.changed)
	t.changed = make(chan struct{})
}

// next is closed when anything changes.
func (t *tracker) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// latest is when any of the keys changed last.
func (t *tracker) latest(keys []string) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	var latest time.Time
	for _, k := range keys {
		if t.last[k].After(latest) {
			latest = t.last[k]
		}
	}
	return latest
}

// settle returns when nothing has changed in what a script made for a while.
func (s *script) settle(ctx context.Context) {
	keys := slices.Clone(s.namespaces)
	for _, o := range s.applied {
		keys = append(keys, key(o.resource, "", o.name))
	}
	for {
		latest := s.tracker.latest(keys)
		if s.touched.After(latest) {
			latest = s.touched
		}
		rest := quiet - time.Since(latest)
		if rest <= 0 {
			return
		}
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
