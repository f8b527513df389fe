package etcd3

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

const (
	// maxWatches of a history at a time.
	maxWatches = 6
	// patience with a watch that says nothing.
	patience = 5 * time.Second
	// sentinel is the annotation by which a watch sees that it has seen all.
	sentinel = "sentinel"
)

// watching is one watch of both sides.
type watching struct {
	step    step
	streams pairOf[watch.Interface]
	// ended says that both sides ended the watch.
	ended bool
}

func (w *world) watch(ctx context.Context, s step) error {
	if len(w.watches) == maxWatches {
		return nil
	}
	s.Filter %= watchFilters
	if s.Key >= len(keys) && scopes[s.Scope] == oneObject && keyOf(s.Key) != "" {
		s.Key %= len(keys) // a bad key that is a good one to watch has no sentinel
	}
	if w.atTheFloor(s) {
		return nil
	}
	n := &watching{step: s}
	var errs pairOf[error]
	for i, side := range w.sides {
		key, opts := w.options(which(i), s, "")
		opts.SendInitialEvents, opts.Predicate.AllowWatchBookmarks, opts.Predicate.Limit = sendInitials[s.SendInitial], s.Bookmarks, 0
		began := side.watching(firstReads(opts, s.Version.Form == future))
		n.streams[i], errs[i] = side.of[s.Client].Watch(ctx, key, opts)
		if errs[i] == nil {
			if err := began(ctx); err != nil {
				return err
			}
		}
	}
	if err := w.revs.sameError(errs[ours], errs[theirs], w.sides[theirs].rooted); err != nil {
		return err
	}
	if errs[ours] == nil {
		w.watches = append(w.watches, n)
	}
	return nil
}

// firstReads of a watch: the newest revision if it begins with a state and names a version, and then the state, unless
// the version is from the future.
func firstReads(opts storage.ListOptions, fromTheFuture bool) reads {
	versioned := opts.ResourceVersion != "" && opts.ResourceVersion != "0"
	initial := opts.SendInitialEvents == nil && !versioned || opts.SendInitialEvents != nil && *opts.SendInitialEvents
	var r reads
	if initial && versioned {
		r.gets++
	}
	switch {
	case !initial || fromTheFuture:
	case opts.Recursive:
		r.streams++
	default:
		r.gets++
	}
	return r
}

// atTheFloor says whether a watch begins just before what was compacted to (see the difference "the change at the floor").
func (w *world) atTheFloor(s step) bool {
	if w.floor == 0 || s.Version.Form != past {
		return false
	}
	return max(len(w.seen)-1-s.Version.Back, 0) == w.floor-1
}

// settle compares what all watches have to say. An object that each of them must see, written last, shows where
// both sides' events end.
func (w *world) settle(ctx context.Context) error {
	if len(w.watches) == 0 {
		return nil
	}
	for _, side := range w.sides {
		for range 5 { // those from the future wait for what is yet to come
			if err := side.bump(ctx); err != nil {
				return err
			}
		}
	}
	ids := make([]string, len(w.watches))
	for n, watched := range w.watches {
		w.made++
		ids[n] = strconv.Itoa(w.made)
		if watched.ended {
			continue
		}
		for i := range w.sides {
			if err := w.putSentinel(ctx, which(i), watched.step, ids[n]); err != nil {
				return fmt.Errorf("writing what ends the events: %w", err)
			}
		}
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	for _, side := range w.sides {
		if err := side.catchUp(ctx); err != nil {
			return err
		}
	}
	for n, watched := range w.watches {
		if watched.ended {
			continue
		}
		if err := w.compareEvents(watched, ids[n]); err != nil {
			return fmt.Errorf("watch of %s from %+v, initial events %d, bookmarks %t, filter %d: %w", scopes[watched.step.Scope],
				watched.step.Version, watched.step.SendInitial, watched.step.Bookmarks, watched.step.Filter, err)
		}
	}
	return nil
}

// putSentinel writes an object that a watch sees, whatever it selects.
func (w *world) putSentinel(ctx context.Context, i which, s step, id string) error {
	key := "/core/pods/ns1/zz"
	switch scopes[s.Scope] {
	case oneObject:
		key = keyOf(s.Key)
	case "/core/pods/ns2":
		key = "/core/pods/ns2/zz"
	}
	return w.sides[i].of[0].GuaranteedUpdate(ctx, key, &example.Pod{}, true, nil, storage.SimpleUpdate(func(in runtime.Object) (runtime.Object, error) {
		p := in.(*example.Pod)
		p.Namespace, p.Name, _ = strings.Cut(strings.TrimPrefix(key, resourcePrefix), "/")
		p.Labels = map[string]string{"app": "web"}
		p.Spec.NodeName = "n1"
		p.Annotations = map[string]string{sentinel: id}
		return p, nil
	}), nil)
}

// compareEvents compares the events of a watch since it was last looked at.
func (w *world) compareEvents(watched *watching, id string) error {
	var events pairOf[[]watch.Event]
	var open pairOf[bool]
	for i, stream := range watched.streams {
		var err error
		events[i], open[i], err = readTo(stream, id)
		if err != nil {
			return fmt.Errorf("%s: %w", [...]string{"ours", "etcd3's"}[i], err)
		}
	}
	for n := range min(len(events[ours]), len(events[theirs])) {
		o, t := events[ours][n], events[theirs][n]
		if o.Type != t.Type {
			return fmt.Errorf("event %d: ours is %s, etcd3's %s\nours: %s\netcd3's: %s", n, o.Type, t.Type, eventNames(events[ours]), eventNames(events[theirs]))
		}
		if err := w.revs.sameObject(o.Object, t.Object); err != nil {
			return fmt.Errorf("event %d, %s: %w", n, t.Type, err)
		}
	}
	if len(events[ours]) != len(events[theirs]) || open[ours] != open[theirs] {
		return fmt.Errorf("%d events of ours, %d of etcd3's; open %t and %t\nours: %s\netcd3's: %s", len(events[ours]), len(events[theirs]),
			open[ours], open[theirs], eventNames(events[ours]), eventNames(events[theirs]))
	}
	watched.ended = !open[ours]
	return keepsOrder(events[ours])
}

// readTo reads a watch's events to the one that shows that all were read, or to the watch's end.
func readTo(stream watch.Interface, id string) (events []watch.Event, open bool, err error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case ev, more := <-stream.ResultChan():
			if !more {
				return events, false, nil
			}
			events = append(events, ev)
			if p, ok := ev.Object.(*example.Pod); ok && p.Annotations[sentinel] == id && ev.Type != watch.Deleted {
				return events, true, nil
			}
		case <-timeout.C:
			return events, true, fmt.Errorf("the watch says nothing more after %s", eventNames(events))
		}
	}
}

// keepsOrder checks what a bookmark promises: no event at its revision or before comes after it; and that events
// come in the order of their revisions, once the initial ones are over.
func keepsOrder(events []watch.Event) error {
	var promised uint64
	for n, ev := range events {
		if ev.Type == watch.Error {
			continue
		}
		version, err := versionOf(ev.Object)
		if err != nil {
			return err
		}
		if version <= promised {
			return fmt.Errorf("event %d is at revision %d, after a bookmark of %d: %s", n, version, promised, eventNames(events))
		}
		if ev.Type == watch.Bookmark {
			promised = version
		}
	}
	return nil
}

func versionOf(obj runtime.Object) (uint64, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(m.GetResourceVersion(), 10, 64)
}

func eventNames(events []watch.Event) string {
	out := make([]string, 0, len(events))
	for _, ev := range events {
		switch obj := ev.Object.(type) {
		case *example.Pod:
			out = append(out, fmt.Sprintf("%s %s/%s@%s", ev.Type, obj.Namespace, obj.Name, obj.ResourceVersion))
		case *metav1.Status:
			out = append(out, fmt.Sprintf("%s %s", ev.Type, obj.Message))
		default:
			out = append(out, fmt.Sprintf("%s %T", ev.Type, obj))
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func (w *world) stopWatches() {
	for _, watched := range w.watches {
		for _, stream := range watched.streams {
			stream.Stop()
		}
	}
}
