package etcd3

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

// which of the two sides.
type which int

const (
	ours which = iota
	theirs
	sides
)

// pairOf is the same thing on both sides.
type pairOf[T any] [sides]T

// world is where a history stands.
type world struct {
	sides pairOf[*side]
	revs  *revisions
	// now is the newest revision of each side, seen those of every moment so far, and floor what was compacted to, an
	// index into seen.
	now   pairOf[uint64]
	seen  []pairOf[uint64]
	floor int
	// remembered is what each client last saw of each key, and pages where its last list went on.
	remembered [clients][]pairOf[*example.Pod]
	pages      [clients]*page
	watches    []*watching
	// made counts objects and marks, which are all told apart.
	made int
}

// page is a list that has more pages.
type page struct {
	step  step
	token pairOf[string]
}

// answer of one side to one step.
type answer struct {
	err  error
	pod  *example.Pod
	list *example.PodList
	n    int64
	// saw is what an update was last given to change.
	saw        *example.Pod
	sawVersion uint64
}

// run runs a history on both sides and returns the first difference, or an error.
func run(ctx context.Context, h history, mine, peers *side) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer mine.stop()
	defer peers.stop()
	w := &world{sides: pairOf[*side]{mine, peers}, revs: newRevisions()}
	for i := range w.remembered {
		w.remembered[i] = make([]pairOf[*example.Pod], len(keys)+len(badKeys))
	}
	defer w.stopWatches()
	if err := w.look(ctx); err != nil {
		return err
	}
	for i, s := range h.Steps {
		if err := w.take(ctx, s); err != nil {
			return fmt.Errorf("step %d, %v: %w", i, s, err)
		}
	}
	if err := w.settle(ctx); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// look pairs the newest revisions of both sides: what used one up here did so there.
func (w *world) look(ctx context.Context) error {
	var now pairOf[uint64]
	for i, s := range w.sides {
		var err error
		if now[i], err = s.of[0].GetCurrentResourceVersion(ctx); err != nil {
			return err
		}
	}
	if len(w.seen) > 0 && now != w.now && now[ours] > w.now[ours]+1 {
		// More than one change: those between have no name yet.
		for n := w.now[ours] + 1; n < now[ours]; n++ {
			between := pairOf[uint64]{n, w.now[theirs] + n - w.now[ours]}
			if err := w.revs.pair(between[ours], between[theirs]); err != nil {
				return err
			}
			w.seen = append(w.seen, between)
		}
	}
	if err := w.revs.pair(now[ours], now[theirs]); err != nil {
		return fmt.Errorf("the newest revisions: %w", err)
	}
	if now != w.now {
		w.now = now
		w.seen = append(w.seen, now)
	}
	return nil
}

// take takes one step on both sides and compares.
func (w *world) take(ctx context.Context, s step) error {
	switch s.Verb {
	case compact:
		if err := w.compact(ctx, s); err != nil {
			return err
		}
		return w.look(ctx)
	case watchFrom:
		return w.watch(ctx, s)
	case others:
		for _, side := range w.sides {
			if err := side.bump(ctx); err != nil {
				return err
			}
		}
		return w.look(ctx)
	case nextPage:
		if w.pages[s.Client] == nil {
			return nil
		}
	case count:
		// See the difference "counts that lag".
		if err := w.sides[ours].catchUp(ctx); err != nil {
			return err
		}
	case create, get, list, update, remove:
	}
	w.made++
	var answers pairOf[answer]
	for i := range w.sides {
		answers[i] = w.ask(ctx, which(i), s)
	}
	if err := w.same(answers); err != nil {
		return err
	}
	w.remember(s, answers)
	return w.look(ctx)
}

// ask takes a step on one side.
func (w *world) ask(ctx context.Context, i which, s step) answer {
	client := w.sides[i].of[s.Client]
	switch s.Verb {
	case create:
		return w.create(ctx, client, s)
	case get:
		out := garbage()
		err := client.Get(ctx, keyOf(s.Key), storage.GetOptions{ResourceVersion: w.version(i, s.Version), IgnoreNotFound: s.IgnoreNotFound}, out)
		return answer{err: err, pod: out}
	case list:
		return w.list(ctx, i, s, "")
	case nextPage:
		p := w.pages[s.Client]
		again := p.step
		again.Client, again.Limit = s.Client, s.Limit
		if s.Change != refuse { // else a version beside a token, which is an error unless it is 0
			again.Version = version{Form: versionForm(s.Key % 2)}
		}
		return w.list(ctx, i, again, p.token[i])
	case update:
		return w.update(ctx, i, s)
	case remove:
		return w.delete(ctx, i, s)
	case count:
		stats, err := client.Stats(ctx)
		return answer{err: err, n: stats.ObjectCount}
	case watchFrom, compact, others:
	}
	return answer{err: fmt.Errorf("no step is %v", s)}
}

func (w *world) same(a pairOf[answer]) error {
	if err := w.revs.sameError(a[ours].err, a[theirs].err, w.sides[theirs].rooted); err != nil {
		return err
	}
	// What a write that failed was given before is a matter of each side (see the difference "cached objects").
	if (a[ours].err == nil || errors.Is(a[ours].err, errRefused)) && (a[theirs].saw != nil || a[ours].saw != nil) {
		if a[theirs].saw == nil || a[ours].saw == nil {
			return fmt.Errorf("an update was given an object: ours %t, etcd3's %t", a[ours].saw != nil, a[theirs].saw != nil)
		}
		if err := w.revs.sameObject(a[ours].saw, a[theirs].saw); err != nil {
			return fmt.Errorf("what an update was given: %w", err)
		}
		if err := w.revs.pairText(strconv.FormatUint(a[ours].sawVersion, 10), strconv.FormatUint(a[theirs].sawVersion, 10)); err != nil {
			return fmt.Errorf("the revision that an update was given: %w", err)
		}
	}
	if a[ours].err != nil {
		return nil //nolint:nilerr // both failed, in the same way
	}
	if a[ours].n != a[theirs].n {
		return fmt.Errorf("we count %d objects, etcd3 counts %d", a[ours].n, a[theirs].n)
	}
	if a[theirs].pod != nil {
		if err := w.revs.sameObject(a[ours].pod, a[theirs].pod); err != nil {
			return err
		}
	}
	if a[theirs].list != nil {
		return w.revs.sameList(a[ours].list, a[theirs].list)
	}
	return nil
}

// remember keeps what a client saw.
func (w *world) remember(s step, a pairOf[answer]) {
	if a[ours].err == nil && a[ours].pod != nil && s.Verb != remove && a[ours].pod.ResourceVersion != "" {
		w.remembered[s.Client][s.Key] = pairOf[*example.Pod]{a[ours].pod.DeepCopy(), a[theirs].pod.DeepCopy()}
	}
	if s.Verb != list && s.Verb != nextPage {
		return
	}
	from := s
	if s.Verb == nextPage {
		from = w.pages[s.Client].step
	}
	next := pairOf[string]{continueOf(a[ours]), continueOf(a[theirs])}
	if next[ours] != "" {
		w.pages[s.Client] = &page{step: from, token: next}
	}
}

// continueOf is where an answer says that its list goes on: in the list, or in an error that offers a way.
func continueOf(a answer) string {
	var status apierrors.APIStatus
	if errors.As(a.err, &status) {
		return status.Status().Continue
	}
	if a.list != nil && a.err == nil {
		return a.list.Continue
	}
	return ""
}

// version is a step's resource version as a side knows it.
func (w *world) version(i which, v version) string {
	back := func(n int) string { return strconv.FormatUint(w.seen[max(len(w.seen)-1-n, 0)][i], 10) }
	switch v.Form {
	case unset:
		return ""
	case zero:
		return "0"
	case past:
		return back(v.Back)
	case current:
		return back(0)
	case future:
		return strconv.FormatUint(w.now[i]+uint64(min(v.Back, 4)), 10)
	default:
		return "x" + strconv.Itoa(v.Back)
	}
}

// garbage is an object whose contents no answer may leave standing.
func garbage() *example.Pod {
	p := &example.Pod{}
	p.Name, p.ResourceVersion, p.Labels = "garbage", "77777", map[string]string{"garbage": "yes"}
	return p
}

func (w *world) create(ctx context.Context, client storage.Interface, s step) answer {
	in := &example.Pod{}
	in.Namespace, in.Name, _ = strings.Cut(keys[s.Key%len(keys)], "/")
	in.UID = types.UID(fmt.Sprintf("uid-%d", w.made))
	content(in, s)
	if s.Large {
		in.Annotations = map[string]string{"large": strings.Repeat("x", 1700<<10)}
	}
	if s.Refuse {
		in.ResourceVersion = "5" // which creations may not have
	}
	out := garbage()
	var err error
	if s.Bookmarks {
		err = client.Create(ctx, keyOf(s.Key), in, out, ttls[s.TTL])
	} else if err = client.Create(ctx, keyOf(s.Key), in, nil, ttls[s.TTL]); err == nil {
		err = client.Get(ctx, keyOf(s.Key), storage.GetOptions{}, out) // the answer is not asked for
	}
	return answer{err: err, pod: out}
}

func content(p *example.Pod, s step) {
	p.Labels = nil
	if apps[s.App] != "" {
		p.Labels = map[string]string{"app": apps[s.App]}
	}
	p.Spec.NodeName = nodes[s.Node]
}

// options of a list or a watch as a side knows them, and its key.
func (w *world) options(i which, s step, continued string) (string, storage.ListOptions) {
	opts := storage.ListOptions{
		ResourceVersion: w.version(i, s.Version), ResourceVersionMatch: matches[s.Match],
		Predicate: filter(s.Filter), Recursive: true,
	}
	opts.Predicate.Limit, opts.Predicate.Continue = s.Limit, continued
	key := scopes[s.Scope]
	if key == oneObject {
		key, opts.Recursive = keyOf(s.Key), false
	}
	return key, opts
}

func (w *world) list(ctx context.Context, i which, s step, continued string) answer {
	key, opts := w.options(i, s, continued)
	out := &example.PodList{}
	err := w.sides[i].of[s.Client].GetList(ctx, key, opts, out)
	return answer{err: err, list: out}
}

// precondition of a write as a side knows it, nil for none.
func (w *world) precondition(i which, s step) *storage.Preconditions {
	seen := w.remembered[s.Client][s.Key][i]
	if seen == nil {
		seen = &example.Pod{}
		seen.UID, seen.ResourceVersion = "nobody", w.version(i, version{Form: current})
	}
	switch s.Precondition {
	case rightUID:
		return storage.NewUIDPreconditions(string(seen.UID))
	case wrongUID:
		return storage.NewUIDPreconditions("another")
	case rightVersion:
		return &storage.Preconditions{ResourceVersion: &seen.ResourceVersion}
	case staleVersion:
		stale := w.version(i, version{Form: past, Back: 3})
		return &storage.Preconditions{ResourceVersion: &stale}
	default:
		return nil
	}
}

// cachedObject is what a caller passes as the existing object, nil for none.
func (w *world) cachedObject(ctx context.Context, i which, s step) runtime.Object {
	switch s.Cached {
	case freshCached:
		out := &example.Pod{}
		if err := w.sides[i].of[s.Client].Get(ctx, keyOf(s.Key), storage.GetOptions{}, out); err == nil {
			return out.DeepCopy()
		}
	case rememberedCached:
		if seen := w.remembered[s.Client][s.Key][i]; seen != nil {
			return seen.DeepCopy()
		}
	case noCached, cachedForms:
	}
	return nil
}

var errRefused = errors.New("the caller refuses")

const mark = "marks"

func (w *world) update(ctx context.Context, i which, s step) answer {
	var a answer
	a.pod = garbage()
	cached := w.cachedObject(ctx, i, s)
	meddled := false
	a.err = w.sides[i].of[s.Client].GuaranteedUpdate(ctx, keyOf(s.Key), a.pod, s.IgnoreNotFound, w.precondition(i, s),
		func(in runtime.Object, meta storage.ResponseMeta) (runtime.Object, *uint64, error) {
			p := in.(*example.Pod)
			a.saw, a.sawVersion = p.DeepCopy(), meta.ResourceVersion
			if !meddled && w.isNewest(ctx, i, s, meta.ResourceVersion) {
				meddled = w.meddle(ctx, i, s)
			}
			return w.change(p, s)
		}, cached)
	return a
}

// change is what an update makes of an object.
func (w *world) change(p *example.Pod, s step) (runtime.Object, *uint64, error) {
	var ttl *uint64
	if s.Bookmarks {
		ttl = &ttls[s.TTL]
	}
	switch s.Change {
	case setContent:
		content(p, s)
	case appendMark, afterAnother, afterDeletion:
		addMark(p, w.made)
	case refuse:
		return nil, nil, errRefused
	case refuseUnmarked:
		if p.Annotations[mark] == "" {
			return nil, nil, errRefused
		}
		addMark(p, w.made)
	case clearName:
		p.Name = ""
	case keep, changes:
	}
	return p, ttl, nil
}

func addMark(p *example.Pod, n int) {
	marks := p.Annotations[mark]
	p.Annotations = map[string]string{mark: fmt.Sprintf("%s %d", marks, n)}
}

// isNewest says whether an update was given the object as it is now. Of a cached one that is stale it is not, and
// the two sides may be given different ones on the way to the same end.
func (w *world) isNewest(ctx context.Context, i which, s step, version uint64) bool {
	now := &example.Pod{}
	err := w.sides[i].of[s.Client].Get(ctx, keyOf(s.Key), storage.GetOptions{IgnoreNotFound: true}, now)
	newest := strconv.FormatUint(version, 10)
	return err == nil && (now.ResourceVersion == newest || now.ResourceVersion == "" && version == 0)
}

// meddle has another client write in the middle of an update.
func (w *world) meddle(ctx context.Context, i which, s step) bool {
	another := w.sides[i].of[(s.Client+1)%clients]
	switch s.Change {
	case afterAnother:
		_ = another.GuaranteedUpdate(ctx, keyOf(s.Key), &example.Pod{}, true, nil, storage.SimpleUpdate(func(in runtime.Object) (runtime.Object, error) {
			addMark(in.(*example.Pod), 1000+w.made)
			return in, nil
		}), nil)
	case afterDeletion:
		_ = another.Delete(ctx, keyOf(s.Key), &example.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{})
	default:
		return false
	}
	return true
}

func (w *world) delete(ctx context.Context, i which, s step) answer {
	var a answer
	a.pod = garbage()
	cached := w.cachedObject(ctx, i, s)
	meddled := false
	validate := func(_ context.Context, obj runtime.Object) error {
		p := obj.(*example.Pod)
		version, _ := strconv.ParseUint(p.ResourceVersion, 10, 64)
		a.saw, a.sawVersion = p.DeepCopy(), version
		if !meddled && w.isNewest(ctx, i, s, version) {
			meddled = w.meddle(ctx, i, s)
		}
		if s.Change == refuse || s.Change == refuseUnmarked && p.Annotations[mark] == "" {
			return errRefused
		}
		return nil
	}
	a.err = w.sides[i].of[s.Client].Delete(ctx, keyOf(s.Key), a.pod, w.precondition(i, s), validate, cached, storage.DeleteOptions{})
	return a
}

// compact drops the past up to a revision. Watches hear of what came before first: etcd's begin in the background.
func (w *world) compact(ctx context.Context, s step) error {
	if err := w.settle(ctx); err != nil {
		return err
	}
	to := max(len(w.seen)-1-s.Version.Back, 0)
	if to <= w.floor {
		return nil
	}
	for i, side := range w.sides {
		if err := side.compact(ctx, w.seen[to][i]); err != nil {
			return fmt.Errorf("compacting to %d: %w", w.seen[to][i], err)
		}
	}
	w.floor = to
	return nil
}
