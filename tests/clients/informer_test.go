package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/features"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// writers at once, each with objects of its own, that write the given number together.
	writers = 10
	writes  = 500
	// existing objects are there before the informer starts.
	existing = 25
	// writePace slows each writer down so that the writes outlast several watches of shortWatch.
	writePace  = 100 * time.Millisecond
	shortWatch = int64(1) // seconds
)

// history is what was seen or done, by object: resource versions in order, and "gone" for the deletion.
type history struct {
	mu      sync.Mutex
	objects map[string][]string
	// faults are events that contradict those before them.
	faults []string
}

const gone = "gone"

func newHistory() *history { return &history{objects: map[string][]string{}} }

func (h *history) add(name, entry string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.objects[name] = append(h.objects[name], entry)
}

func (h *history) snapshot() map[string][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	objects := map[string][]string{}
	for name, entries := range h.objects {
		objects[name] = append([]string(nil), entries...)
	}
	return objects
}

// last is the newest entry of an object.
func (h *history) last(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries := h.objects[name]
	if len(entries) == 0 {
		return ""
	}
	return entries[len(entries)-1]
}

func (h *history) fault(format string, arguments ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, fmt.Sprintf(format, arguments...))
}

// handler records events and checks each against what was seen of its object before.
func (h *history) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			o := object.(*corev1.ConfigMap)
			if last := h.last(o.Name); last != "" && last != gone {
				h.fault("%s was added at %s when it was there at %s", o.Name, o.ResourceVersion, last)
			}
			h.add(o.Name, o.ResourceVersion)
		},
		UpdateFunc: func(before, after any) {
			b, a := before.(*corev1.ConfigMap), after.(*corev1.ConfigMap)
			if last := h.last(a.Name); last != b.ResourceVersion {
				h.fault("%s was updated from %s when it was last seen at %s", a.Name, b.ResourceVersion, last)
			}
			h.add(a.Name, a.ResourceVersion)
		},
		DeleteFunc: func(object any) {
			o, ok := object.(*corev1.ConfigMap)
			if !ok {
				h.fault("a deletion was missed: %T", object)
				return
			}
			h.add(o.Name, gone)
		},
	}
}

// watchCounter counts the watches that a client opens.
type watchCounter struct {
	next                http.RoundTripper
	watches, watchLists atomic.Int64
}

func (c *watchCounter) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	if query.Get("watch") != "" {
		c.watches.Add(1)
	}
	if query.Get("sendInitialEvents") == "true" {
		c.watchLists.Add(1)
	}
	return c.next.RoundTrip(request)
}

func TestAnInformerSeesEveryWriteOnceAndInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		watchSeconds *int64
		minWatches   int64
	}{
		"on one watch":                       {minWatches: 1},
		"over watches that end all the time": {watchSeconds: new(shortWatch), minWatches: 3},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t)
			namespace := newNamespace(t, client, "informer")
			done := newHistory()
			for i := range existing {
				createConfigMap(t, client, namespace, fmt.Sprintf("existing-%d", i), done)
			}
			seen, counter, informer := startInformer(t, namespace, c.watchSeconds)
			write(t, client, namespace, done)
			want := done.snapshot()
			eventually(t, "the informer to see every write", func() error {
				if diff := cmp.Diff(want, seen.snapshot()); diff != "" {
					return errors.New("written (-) and seen (+) differ:\n" + diff)
				}
				return nil
			})
			for _, fault := range seen.faults {
				t.Error(fault)
			}
			if n := counter.watches.Load(); n < c.minWatches {
				t.Errorf("there were %d watches, want at least %d", n, c.minWatches)
			}
			if features.FeatureGates().Enabled(features.WatchListClient) && counter.watchLists.Load() == 0 {
				t.Error("the informer listed, want it to be told the initial state by its watch")
			}
			if n := len(informer.GetStore().List()); n != existing {
				t.Errorf("the informer's store has %d objects, want the %d that are left", n, existing)
			}
		})
	}
}

// startInformer gives an informer that has synced.
func startInformer(t *testing.T, namespace string, watchSeconds *int64) (*history, *watchCounter, cache.SharedIndexInformer) {
	t.Helper()
	config, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	counter := &watchCounter{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		counter.next = next
		return counter
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.LabelSelector = "informer=yes"
			if watchSeconds != nil {
				options.TimeoutSeconds = watchSeconds
			}
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	seen := newHistory()
	registration, err := informer.AddEventHandler(seen.handler())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
	eventually(t, "the informer to sync", func() error {
		if !registration.HasSynced() {
			return errors.New("it has not")
		}
		return nil
	})
	if n := len(seen.snapshot()); n != existing {
		t.Fatalf("the informer synced with %d objects, want %d", n, existing)
	}
	return seen, counter, informer
}

// write has the writers create, update and delete objects of their own.
func write(t *testing.T, client kubernetes.Interface, namespace string, done *history) {
	t.Helper()
	const perObject = 5 // one creation, three updates, one deletion
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			ticker := time.NewTicker(writePace)
			defer ticker.Stop()
			for i := range writes / writers / perObject {
				<-ticker.C
				object := createConfigMap(t, client, namespace, fmt.Sprintf("w%d-%d", w, i), done)
				for u := range perObject - 2 {
					<-ticker.C
					object = updateConfigMap(t, client, object, u, done)
				}
				<-ticker.C
				if object == nil {
					return
				}
				if err := client.CoreV1().ConfigMaps(namespace).Delete(t.Context(), object.Name, metav1.DeleteOptions{}); err != nil {
					t.Errorf("deleting %s: %v", object.Name, err)
				}
				done.add(object.Name, gone)
			}
		})
	}
	group.Wait()
}

func createConfigMap(t *testing.T, client kubernetes.Interface, namespace, name string, done *history) *corev1.ConfigMap {
	t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: namespace, Labels: map[string]string{"informer": "yes"},
	}}
	object, err := client.CoreV1().ConfigMaps(namespace).Create(t.Context(), object, metav1.CreateOptions{})
	if err != nil {
		t.Errorf("creating %s: %v", name, err)
		return nil
	}
	done.add(name, object.ResourceVersion)
	return object
}

func updateConfigMap(t *testing.T, client kubernetes.Interface, object *corev1.ConfigMap, u int, done *history) *corev1.ConfigMap {
	t.Helper()
	if object == nil {
		return nil
	}
	object.Data = map[string]string{"update": strconv.Itoa(u)}
	updated, err := client.CoreV1().ConfigMaps(object.Namespace).Update(t.Context(), object, metav1.UpdateOptions{})
	if err != nil {
		t.Errorf("updating %s: %v", object.Name, err)
		return nil
	}
	done.add(updated.Name, updated.ResourceVersion)
	return updated
}

func TestAWatchWithInitialEventsTellsWhenTheyEnd(t *testing.T) {
	client := newClient(t)
	namespace := newNamespace(t, client, "initial")
	done := newHistory()
	for i := range existing {
		createConfigMap(t, client, namespace, fmt.Sprintf("existing-%d", i), done)
	}
	w, err := client.CoreV1().ConfigMaps(namespace).Watch(t.Context(), metav1.ListOptions{
		LabelSelector:        "informer=yes",
		SendInitialEvents:    new(true),
		AllowWatchBookmarks:  true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	added := map[string]bool{}
	for {
		select {
		case event, open := <-w.ResultChan():
			if !open {
				t.Fatal("the watch ended before the bookmark")
			}
			object, ok := event.Object.(*corev1.ConfigMap)
			switch {
			case ok && event.Type == watch.Added:
				added[object.Name] = true
			case ok && event.Type == watch.Bookmark && object.Annotations[metav1.InitialEventsAnnotationKey] == "true":
				if len(added) != existing {
					t.Errorf("the bookmark came after %d objects, want %d", len(added), existing)
				}
				return
			default:
				t.Fatalf("unexpected event %s %T", event.Type, event.Object)
			}
		case <-deadline.C:
			t.Fatalf("no bookmark in %v, after %d objects", waitTimeout, len(added))
		}
	}
}
