package etcd3

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

// difference is one that is there on purpose. The comparison passes over it, and over nothing else.
type difference struct {
	// why we differ, and why no client minds.
	why    string
	layout layout
	// show returns an error unless the difference is there, so that the table has no entry too many.
	show func(ctx context.Context, mine, peers *side) error
}

var differences = map[string]difference{
	"keys in messages": {
		why: "Etcd's keys begin with a prefix that an operator chooses and that ours have no use for. Keys in messages name the " +
			"object to a reader; nobody takes them apart.",
		show: showKeysInMessages,
	},
	"when to come again": {
		why: "Upstream draws from 1 to 3 seconds, to spread the clients of one cache that lags. Here nothing lags: a second is " +
			"enough. A read of the future is told nothing by etcd3, and a second by the cache before it: that is what clients see. " +
			"The comparison takes any number for any other there, and elsewhere any positive one for any other.",
		show: showWhenToComeAgain,
	},
	"what is no revision": {
		why: "Etcd3 refuses the request to get something at it. The cache before it, whose answers clients see, passes on what the parser " +
			"says, which the API makes an internal error of, and so does ours.",
		show: showWhatIsNoRevision,
	},
	"the change at the floor": {
		why: "A watch from just before the oldest revision kept is answered 410 Gone. Etcd serves the change at that revision " +
			"if it is a creation and ends with an internal error if it is not. Clients list again either way.",
		show: showTheChangeAtTheFloor,
	},
	"compaction by another": {
		layout: manyWriters,
		why: "An instance that has the past in memory may serve it after another has compacted it, until it looks at what is " +
			"kept. It is what it was, so that nobody is told anything wrong.",
		show: showCompactionByAnother,
	},
	"counts that lag": {
		layout: manyWriters,
		why: "Stats are for metrics and for guessing what a list costs. Our count is of what the instance last saw, so that a " +
			"scrape costs no request to a table.",
		show: showCountsThatLag,
	},
	"cached objects": {
		why: "Upstream tries an update or a deletion on the caller's cached object first, to save a read, and on the current " +
			"one if that fails. Our reads cost no more than the check that the cached one is current, so the current one is used at once: " +
			"callbacks are called less often, and with the same object the last time.",
		show: showCachedObjects,
	},
	"the size of a request": {
		why:  "Etcd's limit is on a request, key and all; ours is on the object. So a few bytes more fit.",
		show: showTheSizeOfARequest,
	},
	"short times to live": {
		why: "Etcd grants no lease of less than 2 seconds, and looks for those that ended twice a second. Ours end at a whole " +
			"second, at most one late, and are not seen from then on. Events live an hour.",
		show: showShortTimesToLive,
	},
}

func TestEveryDifferenceIsThere(t *testing.T) {
	p := startPeer(t)
	for name, d := range differences {
		t.Run(name, func(t *testing.T) {
			peers, err := p.newTheirs()
			if err != nil {
				t.Fatal(err)
			}
			defer peers.stop()
			if err := d.show(t.Context(), newOurs(d.layout, 1), peers); err != nil {
				t.Error(err)
			}
		})
	}
}

func podNamed(key string) *example.Pod {
	p := &example.Pod{}
	p.Namespace, p.Name, _ = strings.Cut(strings.TrimPrefix(key, resourcePrefix), "/")
	return p
}

func made(ctx context.Context, s *side, i int) (*example.Pod, error) {
	out := &example.Pod{}
	return out, s.of[0].Create(ctx, keyOf(i), podNamed(keyOf(i)), out, 0)
}

func showKeysInMessages(ctx context.Context, mine, peers *side) error {
	for key, s := range map[string]*side{"Key: /core/pods/ns1/a": mine, "Key: " + peers.rooted + "core/pods/ns1/a": peers} {
		if err := s.of[0].Get(ctx, keyOf(0), storage.GetOptions{}, newPod()); err == nil || !strings.Contains(err.Error(), key) {
			return fmt.Errorf("an error does not name %q: %w", key, err)
		}
	}
	return nil
}

func showWhenToComeAgain(ctx context.Context, mine, peers *side) error {
	for s, most := range map[*side]int32{mine: 1, peers: 3} {
		rev, err := s.of[0].GetCurrentResourceVersion(ctx)
		if err != nil {
			return err
		}
		opts := storage.ListOptions{
			ResourceVersion: strconv.FormatUint(rev+1000, 10), SendInitialEvents: new(true), Predicate: filter(0), Recursive: true,
		}
		ev, err := firstEvent(ctx, s, opts)
		if err != nil {
			return err
		}
		read := s.of[0].Get(ctx, keyOf(0), storage.GetOptions{ResourceVersion: opts.ResourceVersion}, newPod())
		if after, _ := apierrors.SuggestsClientDelay(read); (after == 1) != (s == mine) {
			return fmt.Errorf("a read of the future, after %d s: %w", after, read)
		}
		status, ok := ev.Object.(*metav1.Status)
		if !ok || status.Details == nil || status.Details.RetryAfterSeconds < 1 || status.Details.RetryAfterSeconds > most {
			return fmt.Errorf("an event from the future is %v", ev)
		}
	}
	return nil
}

func showWhatIsNoRevision(ctx context.Context, mine, peers *side) error {
	get := func(s *side) error {
		return s.of[0].Get(ctx, keyOf(0), storage.GetOptions{ResourceVersion: "x"}, newPod())
	}
	if ours, theirs := get(mine), get(peers); !isNoRevision(ours, theirs) {
		return fmt.Errorf("our error is %w, etcd3's %w", ours, theirs)
	}
	return nil
}

func firstEvent(ctx context.Context, s *side, opts storage.ListOptions) (watch.Event, error) {
	w, err := s.of[0].Watch(ctx, "/core/pods", opts)
	if err != nil {
		return watch.Event{}, err
	}
	defer w.Stop()
	select {
	case ev := <-w.ResultChan():
		return ev, nil
	case <-time.After(patience):
		return watch.Event{}, errors.New("a watch says nothing")
	}
}

func showTheChangeAtTheFloor(ctx context.Context, mine, peers *side) error {
	var got pairOf[watch.EventType]
	for i, s := range []*side{mine, peers} {
		if _, err := made(ctx, s, 0); err != nil {
			return err
		}
		p, err := made(ctx, s, 1)
		if err != nil {
			return err
		}
		rev, err := versionOf(p)
		if err != nil {
			return err
		}
		if err := s.compact(ctx, rev); err != nil {
			return err
		}
		ev, err := firstEvent(ctx, s, storage.ListOptions{ResourceVersion: strconv.FormatUint(rev-1, 10), Predicate: filter(0), Recursive: true})
		if err != nil {
			return err
		}
		got[i] = ev.Type
	}
	if want := (pairOf[watch.EventType]{watch.Error, watch.Added}); got != want {
		return fmt.Errorf("watches begin with %v, want %v", got, want)
	}
	return nil
}

func showCompactionByAnother(ctx context.Context, mine, peers *side) error {
	for i, s := range []*side{mine, peers} {
		first, err := made(ctx, s, 0)
		if err != nil {
			return err
		}
		second, err := made(ctx, s, 1)
		if err != nil {
			return err
		}
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		rev, err := versionOf(second)
		if err != nil {
			return err
		}
		if err := s.compactFirst(ctx, rev); err != nil {
			return err
		}
		opts := storage.ListOptions{
			ResourceVersion: first.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact, Predicate: filter(0), Recursive: true,
		}
		list := &example.PodList{}
		err = s.of[1].GetList(ctx, "/core/pods", opts, list)
		if gone := apierrors.IsResourceExpired(err); gone != (which(i) == theirs) {
			return fmt.Errorf("side %d: %w", i, err)
		}
		if which(i) == ours && (err != nil || len(list.Items) != 1) {
			return fmt.Errorf("another instance lists %d objects: %w", len(list.Items), err)
		}
	}
	return nil
}

func showCountsThatLag(ctx context.Context, mine, peers *side) error {
	for i, s := range []*side{mine, peers} {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		if _, err := made(ctx, s, 0); err != nil {
			return err
		}
		stats, err := s.of[1].Stats(ctx)
		if err != nil || stats.ObjectCount != int64(i) {
			return fmt.Errorf("side %d counts %d: %w", i, stats.ObjectCount, err)
		}
	}
	return nil
}

func showCachedObjects(ctx context.Context, mine, peers *side) error {
	var calls pairOf[int]
	for i, s := range []*side{mine, peers} {
		stale, err := made(ctx, s, 0)
		if err != nil {
			return err
		}
		stale = stale.DeepCopy()
		for range 2 {
			err := s.of[0].GuaranteedUpdate(ctx, keyOf(0), newPod(), false, nil, func(in runtime.Object, _ storage.ResponseMeta) (runtime.Object, *uint64, error) {
				calls[i]++
				addMark(in.(*example.Pod), calls[i])
				return in, nil, nil
			}, stale.DeepCopy())
			if err != nil {
				return err
			}
		}
	}
	if want := (pairOf[int]{2, 3}); calls != want {
		return fmt.Errorf("two updates, the second with a stale object, call back %v times, want %v", calls, want)
	}
	return nil
}

func showTheSizeOfARequest(ctx context.Context, mine, peers *side) error {
	p := podNamed(keyOf(0))
	p.Annotations = map[string]string{"a": ""}
	empty, err := runtime.Encode(codec, p.DeepCopy())
	if err != nil {
		return err
	}
	p.Annotations["a"] = strings.Repeat("x", 3<<19-len(empty))
	for i, s := range []*side{mine, peers} {
		err := s.of[0].Create(ctx, keyOf(0), p.DeepCopy(), nil, 0)
		if refused := err != nil && strings.Contains(err.Error(), "request is too large"); refused != (which(i) == theirs) {
			return fmt.Errorf("side %d: %w", i, err)
		}
	}
	return nil
}

func showShortTimesToLive(ctx context.Context, mine, peers *side) error {
	var lived pairOf[time.Duration]
	start := time.Now()
	for _, s := range []*side{mine, peers} {
		if err := s.of[0].Create(ctx, keyOf(0), podNamed(keyOf(0)), nil, 1); err != nil {
			return err
		}
	}
	for i, s := range []*side{mine, peers} {
		for !storage.IsNotFound(s.of[0].Get(ctx, keyOf(0), storage.GetOptions{}, newPod())) {
			if time.Since(start) > 2*patience {
				return fmt.Errorf("side %d does not expire", i)
			}
			time.Sleep(10 * time.Millisecond)
		}
		lived[i] = time.Since(start)
	}
	if lived[ours] < time.Second || lived[theirs] < lived[ours] {
		return fmt.Errorf("an object for a second lived %v", lived)
	}
	return nil
}
