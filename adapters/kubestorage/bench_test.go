package kubestorage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// parallel runs n operations from some goroutines.
func parallel(b *testing.B, goroutines, n int, op func(i int) error) {
	b.Helper()
	var at atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := int(at.Add(1)) - 1; i < n; i = int(at.Add(1)) - 1 {
				if err := op(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func nth(i int) string { return fmt.Sprintf("pod-%07d", i) }

// bench is one storage under measurement.
type bench struct {
	*Storage
	ctx context.Context //nolint:containedctx // of the benchmark
}

func (s bench) create(i int) error {
	p := pod(nth(i), "node")
	p.Labels = map[string]string{"app": "web", "tier": "front", "release": "stable"}
	return s.Create(s.ctx, keyOf(p.Name), p, &example.Pod{}, 0)
}

func (s bench) fill(b *testing.B, n int) {
	b.Helper()
	parallel(b, 64, n, s.create)
}

func (s bench) get(i int) error {
	return s.Get(s.ctx, keyOf(nth(i)), storage.GetOptions{}, &example.Pod{})
}

func (s bench) update(i int) error {
	return s.GuaranteedUpdate(s.ctx, keyOf(nth(i)), &example.Pod{}, false, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		p := obj.(*example.Pod)
		p.Labels["tier"] += "x"
		if len(p.Labels["tier"]) > 20 {
			p.Labels["tier"] = "front"
		}
		return p, nil
	}), nil)
}

func (s bench) list(int) error {
	return s.GetList(s.ctx, "/core/pods", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, &example.PodList{})
}

func (s bench) delete(i int) error { return remove(s.ctx, s.Storage, nth(i)) }

func BenchmarkStorage(b *testing.B) {
	const objects = 2000
	engines := map[string]func(b *testing.B) table.Store{
		"memory": func(*testing.B) table.Store { return memory.New() },
		"pebble": func(b *testing.B) table.Store {
			s, err := pebble.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			return s
		},
	}
	ops := []struct {
		name string
		fill func(n int) int
		op   func(s bench, i int) error
	}{
		{"create", func(int) int { return 0 }, bench.create},
		{"get", func(int) int { return objects }, func(s bench, i int) error { return s.get(i % objects) }},
		{"update", func(int) int { return objects }, func(s bench, i int) error { return s.update(i % objects) }},
		{"list2000", func(int) int { return objects }, bench.list},
		{"delete", func(n int) int { return n }, bench.delete},
	}
	for _, engine := range []string{"memory", "pebble"} {
		for _, op := range ops {
			for _, goroutines := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/%s/%d", engine, op.name, goroutines), func(b *testing.B) {
					s := bench{newStorage(engines[engine](b), tablelog.Options{SoleWriter: true}), b.Context()}
					s.fill(b, op.fill(b.N))
					b.ReportAllocs()
					b.ResetTimer()
					parallel(b, goroutines, b.N, func(i int) error { return op.op(s, i) })
				})
			}
		}
	}
}
