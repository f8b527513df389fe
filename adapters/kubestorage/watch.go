package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

const (
	// watchBuffer is the number of events that wait between a watch and the connection it serves.
	watchBuffer = 100
	// bookmarkInterval is how long a watch that asked for bookmarks goes without one while the log
	// moves, as upstream's cacher has it. While nothing changes no timer runs.
	bookmarkInterval = time.Minute
	// bookmarkBeforeEnd is how long before a watch ends its last bookmark is sent.
	bookmarkBeforeEnd = 2 * time.Second
)

// Watch implements storage.Interface.
func (s *Storage) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	key, err := s.key(key, opts.Recursive)
	if err != nil {
		return nil, err
	}
	since, err := s.versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	state, err := s.Log.Current(ctx)
	if ctx.Err() != nil {
		return ended(), nil //nolint:nilerr // upstream ends the watch of a request that is over, and does not fail it
	}
	if err != nil {
		return nil, err
	}
	w := &watcher{storage: s, key: key, opts: opts, since: since, result: make(chan watch.Event, watchBuffer)}
	sendInitial := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	if err := w.begin(state, sendInitial); err != nil {
		return failed(err), nil // upstream fails such a watch in its stream
	}
	if w.sub, err = s.Log.Subscribe(ctx, key, w.bookmarked); err != nil {
		return expiredWatch(err)
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	go w.run(sendInitial && opts.Predicate.AllowWatchBookmarks)
	utilflowcontrol.WatchInitialized(ctx)
	return w, nil
}

// begin chooses whether a watch sends the current state first, and the revision from which it goes on.
func (w *watcher) begin(state *tablelog.State, sendInitial bool) error {
	if sendInitial && w.since > state.Rev {
		return storage.NewTooLargeResourceVersionError(w.since, state.Rev, futureRetrySeconds)
	}
	if sendInitial || w.opts.SendInitialEvents == nil && w.since == 0 {
		w.initial = state
	}
	w.bookmarked = w.since
	if w.initial != nil || w.since == 0 || w.since > state.Rev {
		w.bookmarked = state.Rev
	}
	return nil
}

var errGone = apierrors.NewResourceExpired("The resourceVersion for the provided watch is too old.")

// expiredWatch answers a watch from a compacted revision as upstream does: with a stream that holds
// one error, "410 Gone".
func expiredWatch(err error) (watch.Interface, error) {
	if !errors.Is(err, tablelog.ErrCompacted) {
		return nil, err
	}
	return failed(errGone), nil
}

// failed answers a watch with a stream that holds one error.
func failed(err error) watch.Interface {
	result := make(chan watch.Event, 1)
	result <- watch.Event{Type: watch.Error, Object: statusOf(err)}
	close(result)
	return closedWatch(result)
}

func gone() watch.Event {
	return watch.Event{Type: watch.Error, Object: statusOf(errGone)}
}

// ended answers a watch whose request is over.
func ended() watch.Interface {
	result := make(chan watch.Event)
	close(result)
	return closedWatch(result)
}

type closedWatch chan watch.Event

func (closedWatch) Stop()                            {}
func (c closedWatch) ResultChan() <-chan watch.Event { return c }

// watcher is one watch. It lives as long as its request.
type watcher struct {
	storage *Storage
	key     string
	opts    storage.ListOptions
	// since is the revision that the client has seen; initial the state to send first, or nil.
	since   uint64
	initial *tablelog.State
	sub     *tablelog.Subscription
	result  chan watch.Event
	ctx     context.Context //nolint:containedctx // a watch.Interface has no other place for it
	cancel  context.CancelFunc
	// bookmarked is the revision that the client knows to have reached.
	bookmarked uint64
}

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.result }

func (w *watcher) run(endBookmark bool) {
	defer close(w.result)
	defer w.storage.Log.Unsubscribe(w.sub)
	defer w.cancel()
	if !w.sendInitial(endBookmark) {
		return
	}
	timer := w.newTimer()
	defer timer.stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.storage.over:
			return
		case <-timer.C():
			if !w.sendBookmark(false) {
				return
			}
			timer.rearm()
		case <-w.sub.Wake():
			events, rev, err := w.sub.Next(w.ctx)
			if !w.sendAll(events) {
				return
			}
			switch {
			case errors.Is(err, tablelog.ErrCompacted):
				w.send(gone())
				return
			case err != nil: // it is slow, or the table cannot be read: the client goes on from what it has seen
				return
			}
			timer.moved(rev)
		}
	}
}

func (w *watcher) sendInitial(endBookmark bool) bool {
	if w.initial == nil {
		return true
	}
	ok := true
	now := time.Now()
	w.initial.Ascend(w.key, "", func(e *tablelog.Entry) bool {
		if !w.opts.Recursive && e.Key != w.key || e.Expired(now) {
			return true
		}
		ok = w.transform(tablelog.Event{Rev: e.Rev, Type: tablelog.Created, Key: e.Key, Entry: e})
		return ok
	})
	w.initial = nil
	return ok && (!endBookmark || w.sendBookmark(true))
}

func (w *watcher) sendAll(events []tablelog.Event) bool {
	for _, ev := range events {
		if ev.Rev <= w.since || !w.opts.Recursive && ev.Key != w.key {
			continue
		}
		if !w.transform(ev) {
			return false
		}
	}
	return true
}

// transform sends what a change is to this watch: an object that comes to match its selector is
// added, one that ceases to is deleted, as in etcd3/watcher.go. It returns false when the watch is over.
func (w *watcher) transform(ev tablelog.Event) bool {
	current, err := w.matching(ev.Entry)
	if err == nil {
		var previous runtime.Object
		if previous, err = w.matching(ev.Prev); err == nil {
			return w.sendChange(ev, current, previous)
		}
	}
	if ev.Type == tablelog.Deleted {
		err = unreadableDeletion(err)
	}
	w.send(watch.Event{Type: watch.Error, Object: statusOf(err)})
	return false
}

// unreadableDeletion says that what was deleted cannot be told, as in etcd3/watcher.go.
func unreadableDeletion(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonStoreReadError,
		Message: fmt.Sprintf("saw a DELETED event, but object data is corrupt - %v", err),
	}}
}

func (w *watcher) sendChange(ev tablelog.Event, current, previous runtime.Object) bool {
	switch {
	case current != nil && previous != nil:
		return w.send(watch.Event{Type: watch.Modified, Object: current})
	case current != nil:
		return w.send(watch.Event{Type: watch.Added, Object: current})
	case previous != nil:
		last, err := w.storage.at(previous, ev.Rev)
		if err != nil {
			w.send(watch.Event{Type: watch.Error, Object: statusOf(err)})
			return false
		}
		return w.send(watch.Event{Type: watch.Deleted, Object: last})
	default:
		return true
	}
}

// matching returns the object of an entry if it is there and matches the watch's selector.
func (w *watcher) matching(e *tablelog.Entry) (runtime.Object, error) {
	if e == nil {
		return nil, nil
	}
	obj, err := w.storage.decode(e)
	if err != nil || w.opts.Predicate.Empty() {
		return obj, err
	}
	if ok, err := w.opts.Predicate.Matches(obj); err != nil || !ok {
		return nil, nil //nolint:nilerr // upstream's filter takes an error for no match
	}
	return obj, nil
}

func statusOf(err error) runtime.Object {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		return &s
	}
	s := apierrors.NewInternalError(fmt.Errorf("watching: %w", err)).Status()
	return &s
}

func (w *watcher) send(ev watch.Event) bool {
	select {
	case w.result <- ev:
		return true
	case <-w.ctx.Done():
		return false
	}
}

func (w *watcher) sendBookmark(initialEnd bool) bool {
	rev := w.bookmarked
	obj := w.storage.NewFunc()
	if err := w.storage.versioner.UpdateObject(obj, rev); err != nil {
		return false
	}
	if initialEnd {
		if err := storage.AnnotateInitialEventsEndBookmark(obj); err != nil {
			return false
		}
	}
	return w.send(watch.Event{Type: watch.Bookmark, Object: obj})
}

// bookmarkTimer runs only between a change and the bookmark that tells of it.
type bookmarkTimer struct {
	w       *watcher
	timer   *time.Timer
	last    time.Time
	running bool
}

func (w *watcher) newTimer() *bookmarkTimer {
	t := &bookmarkTimer{w: w, last: time.Now()}
	if w.opts.Predicate.AllowWatchBookmarks || w.opts.ProgressNotify {
		t.timer = time.NewTimer(time.Hour)
		t.timer.Stop()
	}
	return t
}

// C is signalled when a bookmark is due.
func (t *bookmarkTimer) C() <-chan time.Time {
	if t.timer == nil {
		return nil
	}
	return t.timer.C
}

// moved notes that everything up to a revision was sent.
func (t *bookmarkTimer) moved(rev uint64) {
	if rev == t.w.bookmarked {
		return
	}
	t.w.bookmarked = rev
	if t.timer == nil || t.running {
		return
	}
	wait := bookmarkInterval - time.Since(t.last)
	if deadline, ok := t.w.ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)-bookmarkBeforeEnd)
	}
	t.timer.Reset(max(wait, 0))
	t.running = true
}

// rearm notes that a bookmark was sent.
func (t *bookmarkTimer) rearm() {
	t.last = time.Now()
	t.running = false
}

func (t *bookmarkTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}
