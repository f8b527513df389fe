package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	pods   = schema.GroupResource{Resource: "pods"}
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// newStorage returns the storage of one instance over a store that others may write to.
func newStorage(store table.Store, o tablelog.Options) *Storage {
	return New(Config{
		Log:   tablelog.New(store, Partition("default", PodsGroup), o),
		Codec: codecs.LegacyCodec(examplev1.SchemeGroupVersion), Resource: pods,
		NewFunc: func() runtime.Object { return &example.Pod{} },
	})
}

func keyOf(name string) string { return "/core/pods/ns/" + name }

func pod(name, node string) *example.Pod {
	return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: example.PodSpec{NodeName: node}}
}

func create(ctx context.Context, t testing.TB, s *Storage, name, node string) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := s.Create(ctx, keyOf(name), pod(name, node), out, 0); err != nil {
		t.Fatalf("creating %s: %v", name, err)
	}
	return out
}

// place is an update that puts a pod on a node, as a binding does.
func place(ctx context.Context, s *Storage, name, node string) error {
	return s.GuaranteedUpdate(ctx, keyOf(name), &example.Pod{}, false, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		p := obj.(*example.Pod)
		if p.Spec.NodeName != "" && p.Spec.NodeName != node {
			return nil, errPlaced
		}
		p.Spec.NodeName = node
		return p, nil
	}), nil)
}

var errPlaced = errors.New("the pod is on another node")

func remove(ctx context.Context, s *Storage, name string) error {
	return s.Delete(ctx, keyOf(name), &example.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{})
}

// nodeOf says where a pod is, "" for nowhere, "-" if there is none.
func nodeOf(ctx context.Context, t testing.TB, s *Storage, name string) string {
	t.Helper()
	out := &example.Pod{}
	err := s.Get(ctx, keyOf(name), storage.GetOptions{}, out)
	if storage.IsNotFound(err) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Spec.NodeName
}

func names(ctx context.Context, t testing.TB, s *Storage) []string {
	t.Helper()
	list := &example.PodList{}
	if err := s.GetList(ctx, "/core/pods", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, list); err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, p := range list.Items {
		out = append(out, fmt.Sprintf("%s on %q", p.Name, p.Spec.NodeName))
	}
	return out
}
