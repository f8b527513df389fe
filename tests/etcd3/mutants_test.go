package etcd3

import (
	"context"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

// maxMutantHistories is how many histories a mutant may survive.
const maxMutantHistories = 400

// mutant is our storage with one thing broken. Fields that are nil leave things as they are.
type mutant struct {
	storage.Interface
	create func(ctx context.Context, s storage.Interface, key string, obj, out runtime.Object, ttl uint64) error
	get    func(ctx context.Context, s storage.Interface, key string, opts storage.GetOptions, out runtime.Object) error
	list   func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error
	update func(ctx context.Context, s storage.Interface, u updateCall) error
	delete func(ctx context.Context, s storage.Interface, d deleteCall) error
	watch  func(opts *storage.ListOptions)
	// events alters what a watch says; it is given a copy of its own for each watch.
	events func() func(watch.Event) []watch.Event
	stats  func(storage.Stats) storage.Stats
}

type updateCall struct {
	key            string
	out            runtime.Object
	ignoreNotFound bool
	preconditions  *storage.Preconditions
	update         storage.UpdateFunc
	cached         runtime.Object
}

func (u updateCall) on(ctx context.Context, s storage.Interface) error {
	return s.GuaranteedUpdate(ctx, u.key, u.out, u.ignoreNotFound, u.preconditions, u.update, u.cached)
}

type deleteCall struct {
	key           string
	out           runtime.Object
	preconditions *storage.Preconditions
	validate      storage.ValidateObjectFunc
	cached        runtime.Object
	opts          storage.DeleteOptions
}

func (d deleteCall) on(ctx context.Context, s storage.Interface) error {
	return s.Delete(ctx, d.key, d.out, d.preconditions, d.validate, d.cached, d.opts)
}

func (m *mutant) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	if m.create != nil {
		return m.create(ctx, m.Interface, key, obj, out, ttl)
	}
	return m.Interface.Create(ctx, key, obj, out, ttl)
}

func (m *mutant) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	if m.get != nil {
		return m.get(ctx, m.Interface, key, opts, out)
	}
	return m.Interface.Get(ctx, key, opts, out)
}

func (m *mutant) GetList(ctx context.Context, key string, opts storage.ListOptions, out runtime.Object) error {
	if m.list != nil {
		return m.list(ctx, m.Interface, key, opts, out)
	}
	return m.Interface.GetList(ctx, key, opts, out)
}

func (m *mutant) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	p *storage.Preconditions, update storage.UpdateFunc, cached runtime.Object,
) error {
	u := updateCall{key, out, ignoreNotFound, p, update, cached}
	if m.update != nil {
		return m.update(ctx, m.Interface, u)
	}
	return u.on(ctx, m.Interface)
}

func (m *mutant) Delete(ctx context.Context, key string, out runtime.Object, p *storage.Preconditions,
	validate storage.ValidateObjectFunc, cached runtime.Object, opts storage.DeleteOptions,
) error {
	d := deleteCall{key, out, p, validate, cached, opts}
	if m.delete != nil {
		return m.delete(ctx, m.Interface, d)
	}
	return d.on(ctx, m.Interface)
}

func (m *mutant) Stats(ctx context.Context) (storage.Stats, error) {
	stats, err := m.Interface.Stats(ctx)
	if m.stats != nil {
		stats = m.stats(stats)
	}
	return stats, err
}

func (m *mutant) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	if m.watch != nil {
		m.watch(&opts)
	}
	w, err := m.Interface.Watch(ctx, key, opts)
	if err != nil || m.events == nil {
		return w, err
	}
	out := &alteredWatch{Interface: w, events: make(chan watch.Event), done: make(chan struct{})}
	go out.run(m.events())
	return out, nil
}

// alteredWatch passes on what a mutant makes of a watch's events.
type alteredWatch struct {
	watch.Interface
	events chan watch.Event
	done   chan struct{}
	once   sync.Once
}

func (w *alteredWatch) ResultChan() <-chan watch.Event { return w.events }

func (w *alteredWatch) Stop() {
	w.once.Do(func() { close(w.done) })
	w.Interface.Stop()
}

func (w *alteredWatch) run(alter func(watch.Event) []watch.Event) {
	defer close(w.events)
	for ev := range w.Interface.ResultChan() {
		for _, altered := range alter(ev) {
			select {
			case w.events <- altered:
			case <-w.done:
				return
			}
		}
	}
}

// each alters events one by one.
func each(alter func(watch.Event) []watch.Event) func() func(watch.Event) []watch.Event {
	return func() func(watch.Event) []watch.Event { return alter }
}

// isLast says whether an event is the one by which a comparison sees that it has seen all.
func isLast(ev watch.Event) bool {
	p, ok := ev.Object.(*example.Pod)
	return ok && p.Annotations[sentinel] != ""
}

// swapped exchanges neighbouring events.
func swapped() func(watch.Event) []watch.Event {
	var held *watch.Event
	return func(ev watch.Event) []watch.Event {
		switch {
		case held != nil:
			first := *held
			held = nil
			return []watch.Event{ev, first}
		case isLast(ev) || ev.Type == watch.Error:
			return []watch.Event{ev}
		default:
			held = &ev
			return nil
		}
	}
}

// mutants are ways in which a storage could be wrong.
var mutants = map[string]mutant{
	"creations write over what exists": {create: func(ctx context.Context, s storage.Interface, key string, obj, out runtime.Object, ttl uint64) error {
		err := s.Create(ctx, key, obj, out, ttl)
		if storage.IsExist(err) {
			if out == nil {
				out = newPod()
			}
			return s.GuaranteedUpdate(ctx, key, out, false, nil, storage.SimpleUpdate(func(runtime.Object) (runtime.Object, error) { return obj.DeepCopyObject(), nil }), nil)
		}
		return err
	}},
	"creations take a version": {create: func(ctx context.Context, s storage.Interface, key string, obj, out runtime.Object, ttl uint64) error {
		obj.(*example.Pod).ResourceVersion = ""
		return s.Create(ctx, key, obj, out, ttl)
	}},
	"gets ignore the version": {get: func(ctx context.Context, s storage.Interface, key string, opts storage.GetOptions, out runtime.Object) error {
		opts.ResourceVersion = ""
		return s.Get(ctx, key, opts, out)
	}},
	"gets leave what was in the answer": {get: func(ctx context.Context, s storage.Interface, key string, opts storage.GetOptions, out runtime.Object) error {
		if !opts.IgnoreNotFound {
			return s.Get(ctx, key, opts, out)
		}
		opts.IgnoreNotFound = false
		if err := s.Get(ctx, key, opts, out); !storage.IsNotFound(err) {
			return err
		}
		return nil
	}},
	"gets fail otherwise": {get: func(ctx context.Context, s storage.Interface, key string, opts storage.GetOptions, out runtime.Object) error {
		err := s.Get(ctx, key, opts, out)
		if storage.IsNotFound(err) {
			return apierrors.NewNotFound(pods, key)
		}
		return err
	}},
	"lists drop resourceVersionMatch": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		opts.ResourceVersionMatch = ""
		return s.GetList(ctx, key, opts, out)
	}},
	"lists give the version that was asked for": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		err := s.GetList(ctx, key, opts, out)
		if l := out.(*example.PodList); err == nil && opts.ResourceVersion != "" && opts.ResourceVersion != "0" {
			l.ResourceVersion = opts.ResourceVersion
		}
		return err
	}},
	"lists drop the limit": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		opts.Predicate.Limit = 0
		return s.GetList(ctx, key, opts, out)
	}},
	"pages are of the newest state": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		if t, err := parseToken(opts.Predicate.Continue); err == nil && opts.Recursive {
			opts.Predicate.Continue, _ = storage.EncodeContinue("/"+t.Start, "/", -1)
		}
		return s.GetList(ctx, key, opts, out)
	}},
	"the last page says that there is another": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		err := s.GetList(ctx, key, opts, out)
		l := out.(*example.PodList)
		if n := len(l.Items); err == nil && n > 0 && l.Continue == "" && opts.Predicate.Limit > 0 {
			l.Continue, _ = storage.EncodeContinue("/"+l.Items[n-1].Name+"\x00", "/", 2)
		}
		return err
	}},
	"counts of what remains count the page": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		err := s.GetList(ctx, key, opts, out)
		if l := out.(*example.PodList); err == nil && l.RemainingItemCount != nil {
			*l.RemainingItemCount += int64(len(l.Items))
		}
		return err
	}},
	"selectors of fields are dropped": {list: func(ctx context.Context, s storage.Interface, key string, opts storage.ListOptions, out runtime.Object) error {
		opts.Predicate.Field = filters[0].Field
		return s.GetList(ctx, key, opts, out)
	}},
	"a stale page": {list: staleList()},
	"updates ignore preconditions": {update: func(ctx context.Context, s storage.Interface, u updateCall) error {
		u.preconditions = nil
		return u.on(ctx, s)
	}},
	"updates are made on the cached object": {update: func(ctx context.Context, s storage.Interface, u updateCall) error {
		inner := u.update
		if u.cached != nil {
			cached := u.cached.DeepCopyObject()
			u.update = func(now runtime.Object, meta storage.ResponseMeta) (runtime.Object, *uint64, error) {
				_, _, _ = inner(now, meta)
				return inner(cached.DeepCopyObject(), meta)
			}
		}
		return u.on(ctx, s)
	}},
	"updates that change nothing are written": {update: func(ctx context.Context, s storage.Interface, u updateCall) error {
		inner := u.update
		u.update = func(now runtime.Object, meta storage.ResponseMeta) (runtime.Object, *uint64, error) {
			out, ttl, err := inner(now, meta)
			if p, ok := out.(*example.Pod); ok {
				p.GenerateName = "touched"
			}
			return out, ttl, err
		}
		return u.on(ctx, s)
	}},
	"updates make what is not there": {update: func(ctx context.Context, s storage.Interface, u updateCall) error {
		u.ignoreNotFound = true
		return u.on(ctx, s)
	}},
	"updates are not tried again": {update: func(ctx context.Context, s storage.Interface, u updateCall) error {
		inner, tries := u.update, 0
		u.update = func(now runtime.Object, meta storage.ResponseMeta) (runtime.Object, *uint64, error) {
			if tries++; tries > 1 {
				return nil, nil, storage.NewResourceVersionConflictsError(u.key, 0)
			}
			return inner(now, meta)
		}
		return u.on(ctx, s)
	}},
	"deletions ignore preconditions": {delete: func(ctx context.Context, s storage.Interface, d deleteCall) error {
		d.preconditions = nil
		return d.on(ctx, s)
	}},
	"deletions are not validated": {delete: func(ctx context.Context, s storage.Interface, d deleteCall) error {
		inner := d.validate
		d.validate = func(ctx context.Context, obj runtime.Object) error {
			_ = inner(ctx, obj)
			return nil
		}
		return d.on(ctx, s)
	}},
	"deletions give the object at its last revision": {delete: func(ctx context.Context, s storage.Interface, d deleteCall) error {
		before := &example.Pod{}
		_ = s.Get(ctx, d.key, storage.GetOptions{}, before)
		version := before.ResourceVersion
		err := d.on(ctx, s)
		if p := d.out.(*example.Pod); err == nil {
			p.ResourceVersion = version
		}
		return err
	}},
	"watches swap events":            {events: swapped},
	"watches lose deletions":         {events: each(without(watch.Deleted))},
	"watches lose bookmarks":         {events: each(without(watch.Bookmark))},
	"watches end without an error":   {events: each(without(watch.Error))},
	"watches say modified for added": {events: each(renamed(watch.Added, watch.Modified))},
	"watches say added for modified": {events: each(renamed(watch.Modified, watch.Added))},
	"watches say things twice":       {events: each(func(ev watch.Event) []watch.Event { return []watch.Event{ev, ev} })},
	"watches begin with nothing":     {watch: func(opts *storage.ListOptions) { opts.SendInitialEvents = new(false) }},
	"watches begin with the state":   {watch: func(opts *storage.ListOptions) { opts.SendInitialEvents = new(true) }},
	"watches ignore the version":     {watch: func(opts *storage.ListOptions) { opts.ResourceVersion = "" }},
	"watches drop selectors": {watch: func(opts *storage.ListOptions) {
		opts.Predicate.Label, opts.Predicate.Field = filters[0].Label, filters[0].Field
	}},
	"watches of one object are of all":   {watch: func(opts *storage.ListOptions) { opts.Recursive = true }},
	"bookmarks do not end the beginning": {events: each(plainBookmarks)},
	"deleted objects keep their revision": {events: func() func(watch.Event) []watch.Event {
		last := map[string]string{}
		return func(ev watch.Event) []watch.Event {
			if p, ok := ev.Object.(*example.Pod); ok && ev.Type != watch.Bookmark {
				if ev.Type == watch.Deleted && last[p.Namespace+p.Name] != "" {
					p = p.DeepCopy()
					p.ResourceVersion = last[p.Namespace+p.Name]
					ev.Object = p
				}
				last[p.Namespace+p.Name] = p.ResourceVersion
			}
			return []watch.Event{ev}
		}
	}},
	"counts are off by one": {stats: func(s storage.Stats) storage.Stats {
		s.ObjectCount++
		return s
	}},
}

// staleList answers the second of two equal requests as the first.
func staleList() func(context.Context, storage.Interface, string, storage.ListOptions, runtime.Object) error {
	var key string
	var last *example.PodList
	return func(ctx context.Context, s storage.Interface, k string, opts storage.ListOptions, out runtime.Object) error {
		if last != nil && key == k && opts.ResourceVersion == "" && opts.Predicate.Continue == "" && opts.Predicate.Empty() && opts.Predicate.Limit == 0 {
			last.DeepCopyInto(out.(*example.PodList))
			return nil
		}
		err := s.GetList(ctx, k, opts, out)
		if err == nil && opts.ResourceVersion == "" && opts.Predicate.Empty() && opts.Predicate.Limit == 0 && opts.Predicate.Continue == "" {
			key, last = k, out.(*example.PodList).DeepCopy()
		}
		return err
	}
}

func without(kind watch.EventType) func(watch.Event) []watch.Event {
	return func(ev watch.Event) []watch.Event {
		if ev.Type == kind {
			return nil
		}
		return []watch.Event{ev}
	}
}

func renamed(from, to watch.EventType) func(watch.Event) []watch.Event {
	return func(ev watch.Event) []watch.Event {
		if ev.Type == from {
			ev.Type = to
		}
		return []watch.Event{ev}
	}
}

func plainBookmarks(ev watch.Event) []watch.Event {
	if p, ok := ev.Object.(*example.Pod); ok && ev.Type == watch.Bookmark {
		p = p.DeepCopy()
		p.Annotations = nil
		ev.Object = p
	}
	return []watch.Event{ev}
}

// TestEveryMutantIsCaught shows that agreement means something: each mutant differs from upstream's storage within a
// few of the histories that our storage passes.
func TestEveryMutantIsCaught(t *testing.T) {
	p := startPeer(t)
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range maxMutantHistories {
				h := histories.Example(seed)
				peers, err := p.newTheirs()
				if err != nil {
					t.Fatal(err)
				}
				mine := newOurs(h.Layout, h.Seed)
				for i := range mine.of {
					broken := m
					broken.Interface = mine.of[i]
					mine.of[i] = &broken
				}
				if err := run(t.Context(), h, mine, peers); err != nil {
					t.Logf("caught by history %d: %.300v", seed, err)
					return
				}
			}
			t.Errorf("%d histories do not tell it from upstream's storage", maxMutantHistories)
		})
	}
}
