package kubestorage

import (
	"context"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

func getPod(ctx context.Context, t testing.TB, s *Storage, name string) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := s.Get(ctx, keyOf(name), storage.GetOptions{}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// expired puts an object whose time is over beside the storage.
func expired(ctx context.Context, t *testing.T, s *Storage, name string) {
	t.Helper()
	data, _, err := s.encode(pod(name, ""))
	if err != nil {
		t.Fatal(err)
	}
	change := tablelog.Change{Key: keyOf(name)[1:], Value: data, Expires: time.Now().Unix() - 1}
	if _, _, err := s.Log.Commit(ctx, []tablelog.Change{change}, nil); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	select {
	case ev := <-w.ResultChan():
		return ev
	case <-timeout.C:
		t.Fatal("the watch says nothing")
		return watch.Event{}
	}
}

func TestWhatHasExpiredIsNotThere(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	expired(ctx, t, s, "over")
	create(ctx, t, s, "here", "")
	if got := nodeOf(ctx, t, s, "over"); got != "-" {
		t.Error("get finds it")
	}
	if got := names(ctx, t, s); len(got) != 1 {
		t.Errorf("list finds %q", got)
	}
	if stats, err := s.Stats(ctx); err != nil || stats.ObjectCount != 1 {
		t.Errorf("stats count %d, %v", stats.ObjectCount, err)
	}
	if err := place(ctx, s, "over", "n1"); !storage.IsNotFound(err) {
		t.Errorf("update: %v", err)
	}
	if err := remove(ctx, s, "over"); !storage.IsNotFound(err) {
		t.Errorf("delete: %v", err)
	}
	w, err := s.Watch(ctx, "/core/pods", storage.ListOptions{ResourceVersion: "0", Predicate: storage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if ev := next(t, w); ev.Type != watch.Added || ev.Object.(*example.Pod).Name != "here" {
		t.Errorf("a watch begins with %v", ev)
	}
}

func TestAnObjectThatTakesThePlaceOfAnExpiredOneIsSeenToBeNew(t *testing.T) {
	ctx := t.Context()
	for name, make := range map[string]func(s *Storage) error{
		"create": func(s *Storage) error { return s.Create(ctx, keyOf("x"), pod("x", "n"), nil, 0) },
		"update": func(s *Storage) error {
			return s.GuaranteedUpdate(ctx, keyOf("x"), &example.Pod{}, true, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
				if obj.(*example.Pod).Name != "" {
					t.Error("the update saw the expired object")
				}
				return pod("x", "n"), nil
			}), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStorage(memory.New(), tablelog.Options{})
			expired(ctx, t, s, "x")
			w, err := s.Watch(ctx, "/core/pods", storage.ListOptions{ResourceVersion: "2", Predicate: storage.Everything, Recursive: true})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			if err := make(s); err != nil {
				t.Fatal(err)
			}
			if gone, come := next(t, w), next(t, w); gone.Type != watch.Deleted || come.Type != watch.Added {
				t.Errorf("the watch saw %s and %s", gone.Type, come.Type)
			}
		})
	}
}

func TestATimeToLiveIsNotCutShort(t *testing.T) {
	for range 5 {
		before := time.Now()
		if left := time.Unix(expiry(3), 0).Sub(before); left < 3*time.Second || left > 4*time.Second+100*time.Millisecond {
			t.Errorf("3 s are %v", left)
		}
	}
}

// custom returns the storage of a custom kind's version over a log.
func custom(log *tablelog.Log, version string) *Storage {
	gvk := schema.GroupVersionKind{Group: "example.com", Version: version, Kind: "Thing"}
	return New(Config{
		Log: log, Codec: versionCodec{unstructured.UnstructuredJSONScheme, gvk}, Resource: schema.GroupResource{Group: "example.com", Resource: "things"},
		NewFunc: func() runtime.Object {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(gvk)
			return u
		},
	})
}

// versionCodec reads every object as one version.
type versionCodec struct {
	runtime.Codec
	gvk schema.GroupVersionKind
}

func (c versionCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := c.Codec.Decode(data, defaults, into)
	if err == nil {
		obj.(*unstructured.Unstructured).SetGroupVersionKind(c.gvk)
	}
	return obj, gvk, err
}

func TestEachVersionOfACustomKindIsReadAsItself(t *testing.T) {
	ctx := t.Context()
	log := tablelog.New(memory.New(), Partition("default", ObjectsGroup), tablelog.Options{})
	v1, v2 := custom(log, "v1"), custom(log, "v2")
	thing := v1.NewFunc().(*unstructured.Unstructured)
	thing.SetName("x")
	if err := v1.Create(ctx, "/example.com/things/x", thing, v1.NewFunc(), 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for version, s := range map[string]*Storage{"v1": v1, "v2": v2} {
			out := s.NewFunc().(*unstructured.Unstructured)
			if err := s.Get(ctx, "/example.com/things/x", storage.GetOptions{}, out); err != nil {
				t.Fatal(err)
			}
			if got := out.GroupVersionKind().Version; got != version {
				t.Errorf("the storage of %s gave %s", version, got)
			}
		}
	}
}

func TestADeletedCustomObjectHasItsRevisionAndOthersKeepTheirs(t *testing.T) {
	ctx := t.Context()
	s := custom(tablelog.New(memory.New(), Partition("default", ObjectsGroup), tablelog.Options{}), "v1")
	thing := s.NewFunc().(*unstructured.Unstructured)
	thing.SetName("x")
	created := s.NewFunc().(*unstructured.Unstructured)
	if err := s.Create(ctx, "/example.com/things/x", thing, created, 0); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(ctx, "/example.com/things", storage.ListOptions{ResourceVersion: created.GetResourceVersion(), Predicate: storage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	deleted := s.NewFunc().(*unstructured.Unstructured)
	if err := s.Delete(ctx, "/example.com/things/x", deleted, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ev := next(t, w)
	seen := ev.Object.(*unstructured.Unstructured).GetResourceVersion()
	if created.GetResourceVersion() != "2" || deleted.GetResourceVersion() != "3" || seen != "3" || ev.Type != watch.Deleted {
		t.Errorf("created at %s, deleted at %s, seen %s at %s", created.GetResourceVersion(), deleted.GetResourceVersion(), ev.Type, seen)
	}
}

func TestAnObjectTooLargeIsRefusedAsByEtcd(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	p := pod("x", "")
	p.Annotations = map[string]string{"a": strings.Repeat("x", maxObjectBytes)}
	if err := s.Create(ctx, keyOf("x"), p, nil, 0); err == nil || err.Error() != "etcdserver: request is too large" {
		t.Errorf("create: %v", err)
	}
	p.Annotations["a"] = strings.Repeat("x", maxObjectBytes-1000)
	if err := s.Create(ctx, keyOf("x"), p, nil, 0); err != nil {
		t.Errorf("one that just fits: %v", err)
	}
}

func TestAWatchThatFellTooFarBehindEndsWithoutAnError(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{SoleWriter: true})
	rev, err := s.GetCurrentResourceVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := s.Log.Subscribe(ctx, "core/pods/", rev)
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := s.encode(pod("x", ""))
	if err != nil {
		t.Fatal(err)
	}
	for expect := uint64(0); rev < 21_100; { // more than a watch may have waiting
		_, next, err := s.Log.Commit(ctx, []tablelog.Change{{Key: "core/pods/ns/x", Expect: expect, Value: data}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		expect, rev = next, next
	}
	w := &watcher{
		storage: s, key: "core/pods/", sub: sub, result: make(chan watch.Event, 30_000),
		opts: storage.ListOptions{Predicate: storage.Everything, Recursive: true},
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.run(false)
	n := 0
	for ev := range w.result {
		n++
		if ev.Type == watch.Error {
			t.Errorf("event %d is an error: %v", n, ev.Object)
		}
	}
	if n < 20_000 {
		t.Errorf("%d events were sent before the end", n)
	}
}

// What follows was found by tests/etcd3, which compares with upstream's storage.

func TestAnUpdateWithoutATimeToLiveLetsTheObjectStay(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	if err := s.Create(ctx, keyOf("x"), pod("x", ""), nil, 3600); err != nil {
		t.Fatal(err)
	}
	if err := place(ctx, s, "x", "n"); err != nil {
		t.Fatal(err)
	}
	state, err := s.Log.Current(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e := state.Get(keyOf("x")[1:]); e.Expires != 0 {
		t.Errorf("it expires at %d", e.Expires)
	}
}

func TestAWatchFromTheFutureThatWantsTheStateFailsInItsStream(t *testing.T) {
	s := newStorage(memory.New(), tablelog.Options{})
	w, err := s.Watch(t.Context(), "/core/pods", storage.ListOptions{
		ResourceVersion: "7", SendInitialEvents: new(true), Predicate: storage.Everything, Recursive: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ev := next(t, w)
	if status, ok := ev.Object.(*metav1.Status); !ok || ev.Type != watch.Error || status.Message != "Timeout: Too large resource version: 7, current: 1" {
		t.Errorf("the watch says %s %v", ev.Type, ev.Object)
	}
	if _, more := <-w.ResultChan(); more {
		t.Error("the watch goes on")
	}
}

func TestAListOfACompactedRevisionIsRefusedInUpstreamsWords(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	for _, name := range []string{"a", "b", "c"} {
		create(ctx, t, s, name, "")
	}
	if _, err := s.Log.Compact(ctx, 4, 100); err != nil {
		t.Fatal(err)
	}
	err := s.GetList(ctx, "/core/pods", storage.ListOptions{
		ResourceVersion: "2", ResourceVersionMatch: metav1.ResourceVersionMatchExact, Predicate: storage.Everything, Recursive: true,
	}, &example.PodList{})
	if !apierrors.IsResourceExpired(err) || err.Error() != "The resourceVersion for the provided list is too old." {
		t.Errorf("the list fails with %v", err)
	}
}
