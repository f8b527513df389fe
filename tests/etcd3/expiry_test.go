package etcd3

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

// lives are what is done to an object, and how long each update has it live: short ends within the test.
type life struct {
	created uint64
	updates []*uint64
	// unchanged updates have nothing to write.
	unchanged bool
	gone      bool
}

const short, long = uint64(1), uint64(3600)

var lives = map[string]life{
	"created to last":                                  {},
	"created to go":                                    {created: short, gone: true},
	"created to go later":                              {created: long},
	"an update that says nothing lets it stay":         {created: short, updates: []*uint64{nil}},
	"an update to zero lets it stay":                   {created: short, updates: []*uint64{new(uint64(0))}},
	"an update gives more time":                        {created: short, updates: []*uint64{new(long)}},
	"an update gives less time":                        {created: long, updates: []*uint64{new(short)}, gone: true},
	"an update takes its time away":                    {updates: []*uint64{new(short)}, gone: true},
	"an update that changes nothing gives no time":     {created: short, updates: []*uint64{new(long)}, unchanged: true, gone: true},
	"an update that changes nothing takes no time":     {created: long, updates: []*uint64{new(short)}, unchanged: true},
	"the last of several updates counts, and it stays": {updates: []*uint64{new(short), nil}},
	"the last of several updates counts, and it goes":  {updates: []*uint64{nil, new(long), new(short)}, gone: true},
}

func live(ctx context.Context, s storage.Interface, key string, l life) error {
	if err := s.Create(ctx, key, podNamed(key), nil, l.created); err != nil {
		return err
	}
	for n, ttl := range l.updates {
		err := s.GuaranteedUpdate(ctx, key, newPod(), false, nil, func(in runtime.Object, _ storage.ResponseMeta) (runtime.Object, *uint64, error) {
			if !l.unchanged {
				addMark(in.(*example.Pod), n)
			}
			return in, ttl, nil
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

func TestTimesToLiveAreAsUpstreamsStorageHasThem(t *testing.T) {
	ctx := t.Context()
	peers, err := startPeer(t).newTheirs()
	if err != nil {
		t.Fatal(err)
	}
	defer peers.stop()
	both := map[string]storage.Interface{"ours": newOurs(soleWriter, 1).of[0], "etcd3's": peers.of[0]}
	keys := map[string]string{}
	for name, l := range lives {
		keys[name] = fmt.Sprintf("%sns1/p%d", resourcePrefix, len(keys))
		for side, s := range both {
			if err := live(ctx, s, keys[name], l); err != nil {
				t.Fatalf("%s: %s: %v", side, name, err)
			}
		}
	}
	time.Sleep(4500 * time.Millisecond) // etcd's shortest lease is 2 s, and it looks twice a second
	for name, l := range lives {
		for side, s := range both {
			err := s.Get(ctx, keys[name], storage.GetOptions{}, newPod())
			if gone := storage.IsNotFound(err); gone != l.gone || err != nil && !gone {
				t.Errorf("%s: %s: gone is %t, want %t (%v)", side, name, gone, l.gone, err)
			}
		}
	}
}
