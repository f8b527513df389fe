package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Here are the recorded bugs of kine (etcd's API on SQL; numbers are of github.com/k3s-io/kine) and of london (etcd's
// API on Azure Tables), each as a test of what is true of our storage instead.

// observed is a store that counts what is asked of it and notes what is written.
type observed struct {
	table.Store
	calls atomic.Int64
	// hold, if set, is called before a transaction.
	hold func()

	mu         sync.Mutex
	partitions map[string]int
	written    map[string]int
}

func observe(s table.Store) *observed {
	return &observed{Store: s, partitions: map[string]int{}, written: map[string]int{}}
}

func (o *observed) note(partition string) {
	o.calls.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partitions[partition]++
}

func (o *observed) Get(ctx context.Context, partition, key string) (table.Row, error) {
	o.note(partition)
	return o.Store.Get(ctx, partition, key)
}

func (o *observed) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	o.note(partition)
	return o.Store.Range(ctx, partition, q)
}

func (o *observed) Commit(ctx context.Context, partition string, ops []table.Op) error {
	o.note(partition)
	if o.hold != nil {
		o.hold()
	}
	err := o.Store.Commit(ctx, partition, ops)
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, op := range ops {
			o.written[op.Key]++
		}
	}
	return err
}

// watchAll watches all pods after a revision.
func watchAll(ctx context.Context, t *testing.T, s *Storage, since string) watch.Interface {
	t.Helper()
	w, err := s.Watch(ctx, "/core/pods", storage.ListOptions{ResourceVersion: since, Predicate: storage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// look has an instance hear of what others wrote, as a host does while somebody watches.
func look(ctx context.Context, t *testing.T, s *Storage) {
	t.Helper()
	if _, err := s.Log.Current(ctx); err != nil {
		t.Fatal(err)
	}
}

// wantEvent checks the next event of a watch.
func wantEvent(t *testing.T, w watch.Interface, want string) {
	t.Helper()
	ev := next(t, w)
	p, ok := ev.Object.(*example.Pod)
	if !ok {
		t.Fatalf("the watch says %s %v, want %s", ev.Type, ev.Object, want)
	}
	if got := fmt.Sprintf("%s %s %s", ev.Type, p.Name, p.ResourceVersion); got != want {
		t.Fatalf("the watch says %q, want %q", got, want)
	}
}

// kine #676: a revision was allocated before its transaction was committed. A later revision became visible first, and
// watches that had passed on to it never saw the earlier one.
func TestAWriteThatTakesLongIsNotLostToWatches(t *testing.T) {
	ctx := t.Context()
	rows := memory.New()
	slow := observe(rows)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow.hold = func() {
		once.Do(func() {
			close(entered)
			<-release
		})
	}
	a, b := newStorage(slow, tablelog.Options{}), newStorage(rows, tablelog.Options{})
	early := watchAll(ctx, t, b, "1")
	made := make(chan error, 1)
	go func() { made <- a.Create(ctx, keyOf("slow"), pod("slow", ""), nil, 0) }()
	<-entered
	if got := create(ctx, t, b, "quick", ""); got.ResourceVersion != "2" {
		t.Fatalf("the quick write has revision %s: the slow one holds 2 already", got.ResourceVersion)
	}
	wantEvent(t, early, "ADDED quick 2")
	late := watchAll(ctx, t, b, "2") // begins after what it has seen, as an informer does
	close(release)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	look(ctx, t, b)
	wantEvent(t, early, "ADDED slow 3")
	wantEvent(t, late, "ADDED slow 3")
}

// kine #71, #82, #759: revisions that were allocated and never committed left gaps, at which watches waited for ever.
func TestFailedWritesLeaveNoGapsAtWhichWatchesStall(t *testing.T) {
	ctx := t.Context()
	faulty := contract.NewFaulty(memory.New(), 71)
	faulty.Unsent, faulty.LostReplies, faulty.Retried, faulty.ShortPages = 0.7, 0.2, 0.2, 0.5 // most attempts of a transaction fail
	instances := []*Storage{newStorage(faulty, tablelog.Options{}), newStorage(faulty, tablelog.Options{})}
	watches := []watch.Interface{watchAll(ctx, t, instances[0], "1"), watchAll(ctx, t, instances[1], "1")}
	const writers, each = 4, 25
	var failed atomic.Int64
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("pod-%d-%d", writer, i)
				err := instances[writer%2].Create(ctx, keyOf(name), pod(name, ""), nil, 0)
				if err != nil && !errors.Is(err, contract.ErrReplyLost) {
					t.Error(err)
				}
				if err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() == 0 {
		t.Fatal("no write failed")
	}
	for n, s := range instances {
		look(ctx, t, s)
		state, err := s.Log.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if state.Rev < writers*each/4 {
			t.Fatalf("the log ends at %d", state.Rev)
		}
		for rev := uint64(2); rev <= state.Rev; rev++ {
			got, err := versionOf(next(t, watches[n]))
			if err != nil || got != rev {
				t.Fatalf("instance %d: the event after %d is of %d: %v", n, rev-1, got, err)
			}
		}
	}
}

func versionOf(ev watch.Event) (uint64, error) {
	return storage.APIObjectVersioner{}.ObjectResourceVersion(ev.Object)
}

// london: one row held the current revision, and every write contended on it.
func TestNoRowIsWrittenByMoreThanOneChange(t *testing.T) {
	ctx := t.Context()
	store := observe(memory.New())
	instances := []*Storage{newStorage(store, tablelog.Options{}), newStorage(store, tablelog.Options{})}
	const objects = 20
	for i := range objects {
		create(ctx, t, instances[i%2], fmt.Sprintf("pod-%d", i), "")
	}
	if len(store.written) != 2*objects {
		t.Errorf("%d rows for %d objects", len(store.written), objects)
	}
	for key, times := range store.written {
		if times != 1 {
			t.Errorf("row %q was written %d times", key, times)
		}
	}
}

// london: the table was asked every 50 ms whether something had changed. Here a log is looked at while somebody
// watches what others may write, some 75 times a minute (tablelog/follow.go), and otherwise never.
func TestAnIdleInstanceAsksTheStoreNothing(t *testing.T) {
	const idle, looks = time.Second, 4 // after 100, 300, 700 and 1500 ms
	for name, o := range map[string]tablelog.Options{"sole writer": {SoleWriter: true}, "one of many": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			store := observe(memory.New())
			s := newStorage(store, o)
			create(ctx, t, s, "a", "")
			names(ctx, t, s)
			watched, stop := context.WithCancel(ctx)
			defer stop()
			wantEvent(t, watchAll(watched, t, s, "1"), "ADDED a 2") // and stays open
			before := store.calls.Load()
			time.Sleep(idle)
			if asked := store.calls.Load() - before; before == 0 || o.SoleWriter && asked != 0 || asked > looks {
				t.Errorf("it asked %d times before, and %d times while nothing happened", before, asked)
			}
			stop()
			time.Sleep(idle) // what was under way ends
			before = store.calls.Load()
			time.Sleep(idle)
			if asked := store.calls.Load() - before; asked != 0 {
				t.Errorf("it asked %d times while nobody watched", asked)
			}
		})
	}
}

// london: all objects were loaded when a process started.
func TestAStartLoadsNothingAndARequestOnlyItsOwnLog(t *testing.T) {
	ctx := t.Context()
	store := observe(memory.New())
	options := func(string) tablelog.Options { return tablelog.Options{} }
	before := NewLogs(store, "default", options)
	for group, log := range before {
		change := tablelog.Change{Key: "x/" + group, Value: []byte("x")}
		if group == PodsGroup {
			data, _, err := (&Storage{Config: Config{Codec: codecs.LegacyCodec(examplev1.SchemeGroupVersion)}}).encode(pod("a", ""))
			if err != nil {
				t.Fatal(err)
			}
			change = tablelog.Change{Key: keyOf("a")[1:], Value: data}
		}
		if _, _, err := log.Commit(ctx, []tablelog.Change{change}, nil); err != nil {
			t.Fatal(err)
		}
	}
	clear(store.partitions)
	store.calls.Store(0)
	started := NewLogs(store, "default", options)
	s := newStorage(store, tablelog.Options{})
	s.Log = started.Of(pods)
	if n := store.calls.Load(); n != 0 {
		t.Errorf("a start asks the store %d times", n)
	}
	getPod(ctx, t, s, "a")
	if own := Partition("default", PodsGroup); len(store.partitions) != 1 || store.partitions[own] == 0 {
		t.Errorf("a get of a pod reads %v", store.partitions)
	}
	// Once a log is in memory, a request costs one look at its end.
	warm := store.calls.Load()
	getPod(ctx, t, s, "a")
	names(ctx, t, s)
	if n := store.calls.Load() - warm; n != 2 {
		t.Errorf("two requests of a warm instance ask the store %d times", n)
	}
}

// kine #238, #311, #489: watches did not notice that what they had yet to read was compacted, and stayed silent.
func TestAWatchThatCompactionOvertakesIsToldSo(t *testing.T) {
	ctx := t.Context()
	rows := memory.New()
	a, b := newStorage(rows, tablelog.Options{}), newStorage(rows, tablelog.Options{})
	create(ctx, t, a, "x", "")
	look(ctx, t, b)
	behind, current := watchAll(ctx, t, b, "1"), watchAll(ctx, t, a, "1")
	wantEvent(t, behind, "ADDED x 2")
	wantEvent(t, current, "ADDED x 2")
	for i := range 3 {
		update(ctx, t, a, "x", fmt.Sprintf("n%d", i))
		wantEvent(t, current, fmt.Sprintf("MODIFIED x %d", 3+i))
	}
	if floor, err := a.Log.Compact(ctx, 5, 100); err != nil || floor != 5 {
		t.Fatalf("compacted to %d: %v", floor, err)
	}
	look(ctx, t, b)
	wantGone(t, behind)
	wantGone(t, watchAll(ctx, t, a, "2"))
	wantGone(t, watchAll(ctx, t, b, "2"))
	// One that had seen all goes on.
	update(ctx, t, a, "x", "n9")
	wantEvent(t, current, "MODIFIED x 6")
}

func update(ctx context.Context, t *testing.T, s *Storage, name, node string) {
	t.Helper()
	err := s.GuaranteedUpdate(ctx, keyOf(name), &example.Pod{}, false, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		obj.(*example.Pod).Spec.NodeName = node
		return obj, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
}

// wantGone checks that a watch says 410 Gone, and ends.
func wantGone(t *testing.T, w watch.Interface) {
	t.Helper()
	ev := next(t, w)
	status, ok := ev.Object.(*metav1.Status)
	if !ok || ev.Type != watch.Error || status.Code != http.StatusGone || status.Reason != metav1.StatusReasonExpired {
		t.Fatalf("the watch says %s %v", ev.Type, ev.Object)
	}
	if ev, more := <-w.ResultChan(); more {
		t.Fatalf("the watch goes on with %s %v", ev.Type, ev.Object)
	}
}

// kine #267, #268: watches were never told how far they were, so that clients of quiet resources fell behind until
// they were compacted, and lists could not be made of watches.
func TestAQuietWatchIsToldHowFarItIs(t *testing.T) {
	s := newStorage(memory.New(), tablelog.Options{})
	create(t.Context(), t, s, "a", "")
	ctx, cancel := context.WithTimeout(t.Context(), bookmarkBeforeEnd+500*time.Millisecond) // the end is told of before
	defer cancel()
	predicate := storage.Everything
	predicate.AllowWatchBookmarks = true
	w, err := s.Watch(ctx, "/core/pods/ns", storage.ListOptions{SendInitialEvents: new(true), Predicate: predicate, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	wantEvent(t, w, "ADDED a 2")
	if ev := next(t, w); ev.Type != watch.Bookmark || ev.Object.(*example.Pod).ResourceVersion != "2" || !endsTheBeginning(ev) {
		t.Fatalf("after the initial events the watch says %s %v", ev.Type, ev.Object)
	}
	// Another's object moves the log on; the watch has nothing to say but that.
	if err := s.Create(t.Context(), "/core/pods/other/b", pod("b", ""), nil, 0); err != nil {
		t.Fatal(err)
	}
	if ev := next(t, w); ev.Type != watch.Bookmark || ev.Object.(*example.Pod).ResourceVersion != "3" || endsTheBeginning(ev) {
		t.Fatalf("while all is quiet the watch says %s %v", ev.Type, ev.Object)
	}
}

func endsTheBeginning(ev watch.Event) bool {
	ends, err := storage.HasInitialEventsEndBookmarkAnnotation(ev.Object)
	return err == nil && ends
}
