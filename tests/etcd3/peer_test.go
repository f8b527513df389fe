package etcd3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/tests/upstream"
)

const (
	// clients is how many clients a history has, each with what it remembers.
	clients = 3
	// resourcePrefix starts the keys of the resource under test.
	resourcePrefix = "/core/pods/"
	// otherKey is one of another resource, which shares the revisions.
	otherKey = "core/others/x"
)

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	codec  = codecs.LegacyCodec(examplev1.SchemeGroupVersion)
	pods   = schema.GroupResource{Resource: "pods"}
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

// side is one of the two storages that a history is run on.
type side struct {
	// of holds each client's storage.
	of [clients]storage.Interface
	// bump changes an object of another resource, which uses up a revision.
	bump func(ctx context.Context) error
	// compact drops what is before a revision.
	compact func(ctx context.Context, rev uint64) error
	// compactFirst does so on the first client's instance alone.
	compactFirst func(ctx context.Context, rev uint64) error
	// catchUp lets watches of all clients hear of what others wrote.
	catchUp func(ctx context.Context) error
	// watching is called before a watch is made that begins with reads; what it returns waits for them.
	watching func(expected reads) (began func(ctx context.Context) error)
	// rooted is what stands before every key in messages.
	rooted string
	stop   func()
}

func nothing(context.Context) error { return nil }

// layout says how our storage is set up under a history.
type layout int

const (
	// soleWriter is one instance, which holds the store alone.
	soleWriter layout = iota
	// manyWriters are an instance for each client, over one store that does all that a table may do.
	manyWriters
	layouts
)

// newOurs returns our storage on an empty store.
func newOurs(l layout, seed uint64) *side {
	faulty := contract.NewFaulty(memory.New(), seed)
	instances := 1
	if l == manyWriters {
		instances = clients
		faulty.ShortPages, faulty.EmptyPages, faulty.Retried, faulty.LostReplies = 0.3, 0.1, 0.1, 0.05
	}
	logs := make([]*tablelog.Log, instances)
	for i := range logs {
		logs[i] = tablelog.New(faulty, kubestorage.Partition("default", kubestorage.PodsGroup), tablelog.Options{SoleWriter: l == soleWriter})
	}
	s := &side{rooted: "/", stop: func() {}}
	for i := range s.of {
		s.of[i] = kubestorage.New(kubestorage.Config{Log: logs[i%instances], Codec: codec, Resource: pods, NewFunc: newPod})
	}
	s.bump = func(ctx context.Context) error { return bumpOurs(ctx, logs[0]) }
	s.compact = func(ctx context.Context, rev uint64) error { return compactOurs(ctx, logs, rev) }
	s.compactFirst = func(ctx context.Context, rev uint64) error { return compactOurs(ctx, logs[:1], rev) }
	s.catchUp = func(ctx context.Context) error {
		for _, l := range logs {
			if _, err := l.Current(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	s.watching = func(reads) func(context.Context) error { return nothing }
	return s
}

func bumpOurs(ctx context.Context, log *tablelog.Log) error {
	state, err := log.Current(ctx)
	if err != nil {
		return err
	}
	change := tablelog.Change{Key: otherKey, Value: []byte("x")}
	if e := state.Get(otherKey); e != nil {
		change.Expect = e.Rev
	}
	_, _, err = log.Commit(ctx, []tablelog.Change{change}, nil)
	return err
}

// compactOurs compacts, and has every instance look at what is kept (see the difference "compaction by another").
func compactOurs(ctx context.Context, logs []*tablelog.Log, rev uint64) error {
	for _, l := range logs {
		floor, err := l.Compact(ctx, rev, 1<<20)
		for errors.Is(err, contract.ErrReplyLost) {
			floor, err = l.Compact(ctx, rev, 1<<20)
		}
		if err != nil {
			return err
		}
		if floor < rev {
			return fmt.Errorf("compacted to %d, not %d", floor, rev)
		}
	}
	return nil
}

// peer is the etcd that all histories share.
type peer struct {
	server *upstream.EtcdServer
	client *kubernetes.Client
	kv     *countingKV
	// histories counts those that were given a prefix of their own.
	histories atomic.Int64
}

var (
	peerOnce sync.Once
	thePeer  *peer
	errPeer  error
)

func TestMain(m *testing.M) {
	// etcd's client logs every request that is refused, and many are.
	if err := os.Setenv("ETCD_CLIENT_DEBUG", "fatal"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if thePeer != nil {
		if err := thePeer.close(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping etcd:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// startPeer starts etcd once.
func startPeer(t *testing.T) *peer {
	t.Helper()
	peerOnce.Do(func() { thePeer, errPeer = newPeer(context.Background()) })
	if errPeer != nil {
		t.Fatal(errPeer)
	}
	return thePeer
}

func newPeer(ctx context.Context) (*peer, error) {
	server, err := upstream.StartEtcd(ctx, "", false)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.New(clientv3.Config{Endpoints: []string{server.Endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		_ = server.Stop()
		return nil, err
	}
	p := &peer{server: server, client: client, kv: &countingKV{KV: client.KV}}
	client.KV = p.kv
	return p, nil
}

func (p *peer) close() error {
	_ = p.client.Close()
	return p.server.Stop()
}

// newTheirs returns upstream's storage under a prefix that nothing was written to.
func (p *peer) newTheirs() (*side, error) {
	prefix := fmt.Sprintf("/registry-%d", p.histories.Add(1))
	versioner := storage.APIObjectVersioner{}
	store, err := etcd3.New(p.client, nil, codec, newPod, newPodList, prefix, resourcePrefix, pods, identity.NewEncryptCheckTransformer(),
		etcd3.LeaseManagerConfig{ReuseDurationSeconds: 1, MaxObjectCount: 1}, etcd3.NewDefaultDecoder(codec, versioner), versioner)
	if err != nil {
		return nil, err
	}
	s := &side{rooted: prefix + "/", stop: store.Close, catchUp: nothing}
	for i := range s.of {
		s.of[i] = store
	}
	s.bump = func(ctx context.Context) error {
		_, err := p.client.Put(ctx, prefix+"/"+otherKey, "x")
		return err
	}
	s.compact = func(ctx context.Context, rev uint64) error {
		_, err := p.client.Compact(ctx, int64(rev))
		return err
	}
	s.compactFirst = s.compact
	s.watching = p.kv.watching
	return s, nil
}

// countingKV counts the reads that have ended, so that it is known when a watch has read its first state.
type countingKV struct {
	clientv3.KV
	gets, streams atomic.Int64
}

func (c *countingKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	defer c.gets.Add(1)
	return c.KV.Get(ctx, key, opts...)
}

func (c *countingKV) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	in, err := c.KV.GetStream(ctx, key, opts...)
	if err != nil {
		c.streams.Add(1)
		return nil, err
	}
	out := make(chan clientv3.RangeStreamResponse)
	go func() {
		defer close(out)
		defer c.streams.Add(1)
		for r := range in {
			out <- r
		}
	}()
	return out, nil
}

// reads are what etcd3 does in the background when a watch begins.
type reads struct{ gets, streams int64 }

// watching waits until a watch that is made after this call has read its first state.
func (c *countingKV) watching(expected reads) func(context.Context) error {
	expected.gets += c.gets.Load()
	expected.streams += c.streams.Load()
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for c.gets.Load() < expected.gets || c.streams.Load() < expected.streams {
			select {
			case <-ctx.Done():
				return fmt.Errorf("etcd3 does not read the first state of a watch: %w", ctx.Err())
			case <-time.After(100 * time.Microsecond):
			}
		}
		return nil
	}
}
