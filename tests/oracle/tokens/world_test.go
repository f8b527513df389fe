package tokens_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"

	"github.com/zeroplane/zeroplane/core/plan"
)

// draws is how many worlds each test makes, edits how often one is edited.
const (
	draws = 200
	edits = 6
)

// rest is how long controllers may work until they rest: on the clock of a bubble, which takes no time.
const rest = time.Minute

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pick[T any](rng *rand.Rand, values ...T) T { return values[rng.IntN(len(values))] }

// one reports whether something is so in one of n cases.
func one(rng *rand.Rand, n int) bool { return rng.IntN(n) == 0 }

// world is what there is: Secrets, accounts and ConfigMaps by kind, namespace and name.
type world map[string]runtime.Object

func keyOf(o runtime.Object) string {
	m := o.(metav1.Object)
	return fmt.Sprintf("%T %s/%s", o, m.GetNamespace(), m.GetName())
}

func (w world) put(o runtime.Object) { w[keyOf(o)] = o.DeepCopyObject() }

// take removes an object.
func (w world) take(o runtime.Object) { delete(w, keyOf(o)) }

// get returns an object of a world, nil if there is none.
func get[T runtime.Object](w world, like T) T {
	o, _ := w[keyOf(like)].(T)
	return o
}

func secretAt(namespace, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func accountAt(namespace, name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func configMapAt(namespace, name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func all[T runtime.Object](w world) []T {
	var out []T
	for _, o := range w {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// apply carries out a plan, and reports whether it writes anything.
func (w world) apply(p plan.Plan) bool {
	for _, write := range p.Writes {
		switch {
		case write.Verb == plan.Delete && write.Resource == plan.Secrets:
			w.take(secretAt(write.Namespace, write.Name))
		case write.Verb == plan.Patch && write.Resource == plan.Secrets:
			var patch corev1.Secret
			if err := json.Unmarshal(write.PatchBody, &patch); err != nil {
				panic(err)
			}
			patched := get(w, secretAt(write.Namespace, write.Name)).DeepCopy()
			for k, v := range patch.Labels {
				metav1.SetMetaDataLabel(&patched.ObjectMeta, k, v)
			}
			w.put(patched)
		case write.Verb == plan.Create || write.Verb == plan.Update:
			w.put(write.Object)
		default:
			panic(fmt.Sprintf("a plan writes %+v", write))
		}
	}
	return len(p.Writes) > 0
}

// server is a fake API server with controllers of upstream.
type server struct {
	client  *fake.Clientset
	factory informers.SharedInformerFactory
	stop    context.CancelFunc
}

// serve gives a world to controllers: assemble makes them over the informers, and returns what runs them when these have synced.
func serve(t *testing.T, w world, assemble func(*server) (run func(context.Context))) *server {
	t.Helper()
	s := &server{client: fake.NewClientset()}
	for _, o := range w {
		if err := s.client.Tracker().Add(o.DeepCopyObject()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	s.factory = informers.NewSharedInformerFactory(s.client, 0)
	run := assemble(s)
	s.factory.Start(ctx.Done())
	s.factory.WaitForCacheSync(ctx.Done())
	go run(ctx)
	s.rest()
	return s
}

func (s *server) rest() {
	time.Sleep(rest)
	synctest.Wait()
}

func (s *server) end() {
	s.stop()
	s.factory.Shutdown()
	synctest.Wait()
}

// world is what there is.
func (s *server) world() world {
	w := world{}
	ctx := context.Background()
	for _, o := range must(s.client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})).Items {
		w.put(&o)
	}
	for _, o := range must(s.client.CoreV1().ServiceAccounts("").List(ctx, metav1.ListOptions{})).Items {
		w.put(&o)
	}
	for _, o := range must(s.client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{})).Items {
		w.put(&o)
	}
	return w
}

// set makes, replaces or, if gone is set, removes an object on the server and in a world.
func (s *server) set(w world, o runtime.Object, gone bool) {
	_, there := w[keyOf(o)]
	var err error
	switch o := o.(type) {
	case *corev1.Secret:
		err = set(there, gone, o, s.client.CoreV1().Secrets(o.Namespace))
	case *corev1.ServiceAccount:
		err = set(there, gone, o, s.client.CoreV1().ServiceAccounts(o.Namespace))
	case *corev1.ConfigMap:
		err = set(there, gone, o, s.client.CoreV1().ConfigMaps(o.Namespace))
	}
	if err != nil {
		panic(err)
	}
	if gone {
		w.take(o)
	} else {
		w.put(o)
	}
	s.rest()
}

type client[T any] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

func set[T metav1.Object](there, gone bool, o T, c client[T]) error {
	ctx := context.Background()
	var err error
	switch {
	case gone && there:
		err = c.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
	case gone:
	case there:
		_, err = c.Update(ctx, o, metav1.UpdateOptions{})
	default:
		_, err = c.Create(ctx, o, metav1.CreateOptions{})
	}
	return err
}

// compare compares two worlds, but for what the API server counts.
func compare(t *testing.T, after string, want, got world) {
	t.Helper()
	uncounted := cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion", "Generation", "ManagedFields")
	if diff := cmp.Diff(map[string]runtime.Object(want), map[string]runtime.Object(got), cmpopts.EquateEmpty(), uncounted, cmpopts.IgnoreTypes(metav1.TypeMeta{})); diff != "" {
		t.Fatalf("after %s (-upstream +core):\n%s", after, diff)
	}
}
