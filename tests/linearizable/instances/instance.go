package instances

import (
	"context"
	"errors"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	watchapi "k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/tests/linearizable/history"
	"github.com/zeroplane/zeroplane/tests/linearizable/workload"
)

const (
	clusterName = "default"
	tokenName   = "token"
	colourName  = "colour"
)

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	// resources are kinds in two log groups. Their objects are of one type.
	resources = []schema.GroupResource{{Resource: "pods"}, {Group: "apps", Resource: "replicasets"}}
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// targets are the resources as a workload knows them.
func targets() []workload.Target {
	var out []workload.Target
	for _, gr := range resources {
		out = append(out, workload.Target{
			Partition: kubestorage.Partition(clusterName, kubestorage.GroupOf(gr)), Prefix: kubestorage.Prefix(gr) + "/",
		})
	}
	return out
}

// instance is one instance until it is killed.
type instance struct {
	network  *network
	storages []*kubestorage.Storage
	life     context.Context //nolint:containedctx // until it is killed
	end      context.CancelFunc
}

var _ workload.Instance = (*instance)(nil)

// newInstance returns an instance whose requests to the store go through a network.
func newInstance(store table.Store, n *network, soleWriter bool) *instance {
	i := &instance{network: n}
	i.life, i.end = context.WithCancel(context.Background())
	for _, gr := range resources {
		i.storages = append(i.storages, kubestorage.New(kubestorage.Config{
			Log:   tablelog.New(store, kubestorage.Partition(clusterName, kubestorage.GroupOf(gr)), tablelog.Options{SoleWriter: soleWriter}),
			Codec: codecs.LegacyCodec(examplev1.SchemeGroupVersion), Resource: gr,
			NewFunc: func() runtime.Object { return &example.Pod{} },
		}))
	}
	return i
}

func (i *instance) kill() {
	i.network.kill()
	i.end()
}

// Do implements workload.Instance.
func (i *instance) Do(ctx context.Context, o *history.Operation) {
	ctx, cancel := context.WithCancel(tablelog.Begin(ctx))
	defer cancel()
	defer context.AfterFunc(i.life, cancel)()
	s := i.storages[o.Log]
	out := &example.Pod{}
	var err error
	switch o.Verb {
	case history.Create:
		err = s.Create(ctx, "/"+o.Key, object(o), out, 0)
	case history.Get:
		err = s.Get(ctx, "/"+o.Key, storage.GetOptions{}, out)
	case history.Update, history.Patch:
		err = s.GuaranteedUpdate(ctx, "/"+o.Key, out, false, nil, change(o), nil)
	case history.Delete:
		err = remove(ctx, s, o, &storage.Preconditions{ResourceVersion: new(strconv.FormatUint(o.Expect, 10))})
		out = nil
	case history.DeleteUID:
		err = remove(ctx, s, o, &storage.Preconditions{UID: new(types.UID(o.UID))})
		out = nil
	case history.List, history.ListAt:
		err = list(ctx, s, o)
		out = nil
	case history.Plan:
		err = plan(ctx, s, o)
		out = nil
	}
	conclude(o, err)
	if err != nil || out == nil {
		return
	}
	seen := see(out)
	o.Objects = map[string]history.Seen{o.Key: seen}
	if o.Verb != history.Get {
		o.Revision = seen.Rev
	}
}

// conclude notes how an operation ended.
func conclude(o *history.Operation, err error) {
	var conflict *tablelog.ConflictError
	switch {
	case err == nil:
		o.Outcome = history.OK
	case errors.Is(err, tablelog.ErrReadSetMoved), errors.As(err, &conflict), apierrors.IsConflict(err), storage.IsInvalidObj(err):
		o.Fail(history.Conflict, err)
	case storage.IsNotFound(err):
		o.Fail(history.NotFound, err)
	case storage.IsExist(err):
		o.Fail(history.Exists, err)
	case apierrors.IsResourceExpired(err):
		o.Fail(history.Gone, err)
	default:
		o.Fail(history.Unknown, err)
	}
}

func see(obj runtime.Object) history.Seen {
	m, err := meta.Accessor(obj)
	if err != nil {
		return history.Seen{}
	}
	rev, err := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	if err != nil {
		return history.Seen{}
	}
	return history.Seen{Rev: rev, Token: m.GetAnnotations()[tokenName], UID: string(m.GetUID())}
}

func mark(obj metav1.Object, token string) {
	obj.SetAnnotations(map[string]string{tokenName: token})
	obj.SetLabels(map[string]string{colourName: history.ColourOf(token)})
}

// object is what a creation makes. Its UID is that of the operation, as every creation has its own.
func object(o *history.Operation) runtime.Object {
	_, ns, name := kubestorage.ParseKey(o.Key)
	p := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + strings.Trim(o.Token, "opredblu-"))}}
	mark(p, o.Token)
	return p
}

var conflictOf = schema.GroupResource{Resource: "examples"}

// change is what an update or a patch does, as the generic registry does it.
func change(o *history.Operation) storage.UpdateFunc {
	return func(in runtime.Object, _ storage.ResponseMeta) (runtime.Object, *uint64, error) {
		seen := see(in)
		if o.Verb == history.Update && (seen.Rev != o.Expect || seen.UID != o.UID) {
			return nil, nil, apierrors.NewConflict(conflictOf, o.Key, errors.New("it was changed"))
		}
		mark(in.(*example.Pod), o.Token)
		return in, nil, nil
	}
}

func remove(ctx context.Context, s *kubestorage.Storage, o *history.Operation, p *storage.Preconditions) error {
	return s.Delete(ctx, "/"+o.Key, &example.Pod{}, p, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{})
}

// list reads a namespace, in pages if the operation says so, and keeps what is in the operation's space.
func list(ctx context.Context, s *kubestorage.Storage, o *history.Operation) error {
	o.Objects = map[string]history.Seen{}
	opts := storage.ListOptions{Recursive: true, Predicate: everything("")}
	opts.Predicate.Limit = int64(o.Limit)
	if o.Verb == history.ListAt {
		opts.ResourceVersion, opts.ResourceVersionMatch = strconv.FormatUint(o.Since, 10), metav1.ResourceVersionMatchExact
	}
	folder := o.Space[:strings.LastIndexByte(o.Space, '/')]
	for {
		page := &example.PodList{}
		// Every page is a request of its own.
		if err := s.GetList(tablelog.Begin(ctx), "/"+folder, opts, page); err != nil {
			return err
		}
		rev, err := strconv.ParseUint(page.ResourceVersion, 10, 64)
		if err != nil {
			return err
		}
		o.Revision = rev
		for n := range page.Items {
			if key := folder + "/" + page.Items[n].Name; strings.HasPrefix(key, o.Space) {
				o.Objects[key] = see(&page.Items[n])
			}
		}
		if page.Continue == "" {
			return nil
		}
		opts.Predicate.Continue, opts.ResourceVersion, opts.ResourceVersionMatch = page.Continue, "", ""
	}
}

// plan creates an object unless the operation's space has moved.
func plan(ctx context.Context, s *kubestorage.Storage, o *history.Operation) error {
	ctx, scope := kubestorage.WithScope(ctx)
	if err := s.Create(ctx, "/"+o.Key, object(o), nil, 0); err != nil {
		return err
	}
	moved := func(ev tablelog.Event) bool { return strings.HasPrefix(ev.Key, o.Space) }
	return scope.Commit(ctx, kubestorage.Guards{s.Log: tablelog.Guard{Since: o.Since, Conflicts: moved}})
}

func everything(colour string) storage.SelectionPredicate {
	p := storage.SelectionPredicate{Label: labels.Everything(), Field: fields.Everything(), GetAttrs: storage.DefaultNamespaceScopedAttr}
	if colour != "" {
		p.Label = labels.SelectorFromSet(labels.Set{colourName: colour})
	}
	return p
}

// Watch implements workload.Instance.
func (i *instance) Watch(ctx context.Context, r history.Request, yield func(history.Delivery)) (bool, error) {
	ctx, cancel := context.WithCancel(tablelog.Begin(ctx))
	defer cancel()
	defer context.AfterFunc(i.life, cancel)()
	opts := storage.ListOptions{Recursive: true, Predicate: everything(r.Colour)}
	opts.Predicate.AllowWatchBookmarks = r.Bookmarks
	if r.Initial {
		opts.SendInitialEvents, opts.ResourceVersionMatch = new(true), metav1.ResourceVersionMatchNotOlderThan
	} else {
		opts.ResourceVersion = strconv.FormatUint(r.From, 10)
	}
	w, err := i.storages[r.Log].Watch(ctx, "/"+strings.TrimSuffix(r.Prefix, "/"), opts)
	if err != nil {
		return false, corrupt(err)
	}
	defer w.Stop()
	for ev := range w.ResultChan() {
		if ev.Type == watchapi.Error {
			err := apierrors.FromObject(ev.Object)
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				return true, nil
			}
			return false, err
		}
		yield(delivery(r, ev))
	}
	return false, nil
}

// corrupt returns an error that no fault of the network excuses.
func corrupt(err error) error {
	if errors.Is(err, table.ErrCorrupt) {
		return err
	}
	return nil
}

func delivery(r history.Request, ev watchapi.Event) history.Delivery {
	seen := see(ev.Object)
	d := history.Delivery{Type: string(ev.Type), Rev: seen.Rev}
	m, err := meta.Accessor(ev.Object)
	if err != nil {
		return d
	}
	if ev.Type == watchapi.Bookmark {
		d.InitialEnd = m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
		return d
	}
	kind := strings.Join(strings.SplitN(r.Prefix, "/", 3)[:2], "/")
	d.Key, d.Token = kind+"/"+m.GetNamespace()+"/"+m.GetName(), seen.Token
	return d
}
