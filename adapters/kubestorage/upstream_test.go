package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
)

// maxInapplicable is how many functions of upstream's suite may go without being run.
const maxInapplicable = 8

// inapplicable are the functions of upstream's suite that are not run, over any table, and why.
var inapplicable = map[string]string{
	"RunTestGetListWithErrorAggregation": "collects the errors of etcd3's own unexported error type",
}

// upstreamKeys maps the keys of upstream's suite, "/pods/...", to those of a resource of the core group.
type upstreamKeys struct {
	*Storage
}

func mapped(key string) string {
	if strings.HasPrefix(key, "/pods") {
		return "/" + coreGroup + key
	}
	return key
}

func (s *upstreamKeys) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	return s.Storage.Create(ctx, mapped(key), obj, out, ttl)
}

func (s *upstreamKeys) Delete(ctx context.Context, key string, out runtime.Object, p *storage.Preconditions,
	validate storage.ValidateObjectFunc, cached runtime.Object, opts storage.DeleteOptions,
) error {
	return s.Storage.Delete(ctx, mapped(key), out, p, validate, cached, opts)
}

func (s *upstreamKeys) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	return s.Storage.Watch(ctx, mapped(key), opts)
}

func (s *upstreamKeys) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	return s.Storage.Get(ctx, mapped(key), opts, out)
}

func (s *upstreamKeys) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	err := s.Storage.GetList(ctx, mapped(key), opts, list)
	if storage.IsInternalError(err) {
		return storage.NewInternalError(errors.New(strings.ReplaceAll(err.Error(), "/core/pods", "/pods")))
	}
	return err
}

func (s *upstreamKeys) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	p *storage.Preconditions, update storage.UpdateFunc, cached runtime.Object,
) error {
	return s.Storage.GuaranteedUpdate(ctx, mapped(key), out, ignoreNotFound, p, update, cached)
}

// UpdatePrefixTransformer implements storagetesting.InterfaceWithPrefixTransformer.
func (s *upstreamKeys) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	original := *s.Transformer.(*storagetesting.PrefixTransformer)
	return s.swap(modify(&original))
}

// UpdateTransformer implements storagetesting.InterfaceWithTransformerOverride.
func (s *upstreamKeys) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return s.swap(modify(s.Transformer))
}

// swap exchanges the transformer. Decoded forms are forgotten with it, as by an instance that starts.
func (s *upstreamKeys) swap(transformer value.Transformer) func() {
	original := s.Transformer
	s.Transformer, s.form = transformer, new(int)
	return func() { s.Transformer, s.form = original, new(int) }
}

// fixture is one storage for upstream's suite.
type fixture struct {
	store *upstreamKeys
	log   *tablelog.Log
}

func (f fixture) compact(ctx context.Context, t *testing.T, version string) {
	t.Helper()
	rev, err := f.store.versioner.ParseResourceVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	if floor, err := f.log.Compact(ctx, rev, 1<<20); err != nil || floor != rev {
		t.Fatalf("compacted to %d: %v, want %d", floor, err, rev)
	}
}

// compactAsEtcd adds the revision that upstream's compaction takes for a row of its own.
func (f fixture) compactAsEtcd(ctx context.Context, t *testing.T, version string) {
	t.Helper()
	f.compact(ctx, t, version)
	f.increase(ctx, t)
}

// expiring runs a test beside what deletes expired objects, which a host does at due times.
func expiring(test func(context.Context, *testing.T, storage.Interface)) upstreamTest {
	return func(ctx context.Context, t *testing.T, f fixture) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case now := <-ticker.C:
					if _, _, err := f.log.DeleteExpired(ctx, now, 10); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			}
		})
		test(ctx, t, f.store)
		cancel()
		wg.Wait()
	}
}

func (f fixture) increase(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	s, err := f.log.Current(ctx)
	if err != nil {
		t.Fatal(err)
	}
	change := tablelog.Change{Key: "core/others/x", Value: []byte("x")}
	if e := s.Get(change.Key); e != nil {
		change.Expect = e.Rev
	}
	_, rev, err := f.log.Commit(ctx, []tablelog.Change{change}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return int64(rev)
}

// stored checks what upstream's checkStorageInvariants checks: no version is stored.
func (f fixture) stored(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	s, err := f.log.Current(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e := s.Get(mapped(key)[1:])
	if e == nil {
		t.Fatalf("nothing is stored at %q", key)
	}
	data, _, err := f.store.plain(e)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := runtime.Decode(f.store.Codec, data)
	if err != nil {
		t.Fatal(err)
	}
	pod := obj.(*example.Pod)
	version, link := pod.ResourceVersion, pod.SelfLink //nolint:staticcheck // upstream checks the deprecated link, too
	if version != "" || link != "" {
		t.Errorf("stored with version %q and self link %q", version, link)
	}
}

// stores are the tables and modes that upstream's suite runs over.
var stores = map[string]struct {
	open func(t *testing.T) table.Store
	sole bool
}{
	"memory, sole writer": {open: func(*testing.T) table.Store { return memory.New() }, sole: true},
	"memory, one of many, short pages": {open: func(*testing.T) table.Store {
		f := contract.NewFaulty(memory.New(), 1)
		f.ShortPages, f.EmptyPages, f.Retried = 0.5, 0.3, 0.2
		return f
	}},
	"pebble": {sole: true, open: func(t *testing.T) table.Store {
		s, err := pebble.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}},
	"Azurite, sole writer": {sole: true, open: func(t *testing.T) table.Store { return azurite.Open(t, nil) }},
	"Azurite behind limits, one of many": {open: func(t *testing.T) table.Store {
		limited := limits.New(nil, limits.Options{Seed: 1})
		s := azurite.Open(t, limited)
		limited.SetFaults(limits.Faults{ShortPages: 0.3, EmptyPages: 0.1, Busy: 0.005, Unconnected: 0.005})
		return s
	}},
}

type options struct {
	codec       runtime.Codec
	transformer value.Transformer
	// parallel tests alter nothing that others share, such as feature gates.
	parallel bool
}

// over runs a test over every kind of store.
func over(t *testing.T, o options, test func(ctx context.Context, t *testing.T, f fixture)) {
	t.Helper()
	for name, kind := range stores {
		t.Run(name, func(t *testing.T) {
			if o.parallel {
				t.Parallel()
			}
			codec, transformer := o.codec, o.transformer
			if codec == nil {
				codec = apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion)
			}
			if transformer == nil {
				transformer = storagetesting.NewPrefixTransformer([]byte("test!"), false)
			}
			log := tablelog.New(kind.open(t), Partition("default", PodsGroup), tablelog.Options{SoleWriter: kind.sole})
			s := New(Config{
				Log: log, Codec: codec, Resource: pods, Transformer: transformer,
				NewFunc: func() runtime.Object { return &example.Pod{} },
			})
			test(t.Context(), t, fixture{store: &upstreamKeys{Storage: s}, log: log})
		})
	}
}

// failing is a codec or a transformer that fails when told to.
type failing struct {
	runtime.Codec
	value.Transformer
	fail atomic.Bool
}

var errSynthetic = errors.New("synthetic error")

func (f *failing) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if f.fail.Load() {
		return nil, nil, errSynthetic
	}
	return f.Codec.Decode(data, defaults, into)
}

func (f *failing) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	if f.fail.Load() {
		return nil, false, errSynthetic
	}
	return f.Transformer.TransformFromStorage(ctx, data, dataCtx)
}

func noCalls(*testing.T, uint64, uint64) {}

type upstreamTest func(ctx context.Context, t *testing.T, f fixture)

// plainly runs one of upstream's functions that need a storage and nothing else.
func plainly(run func(context.Context, *testing.T, storage.Interface)) upstreamTest {
	return func(ctx context.Context, t *testing.T, f fixture) { run(ctx, t, f.store) }
}

var storeTests = map[string]upstreamTest{
	"RunTestCreate": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestCreate(ctx, t, f.store, f.stored)
	},
	"RunTestCreateWithTTL":                              expiring(storagetesting.RunTestCreateWithTTL),
	"RunTestCreateWithKeyExist":                         plainly(storagetesting.RunTestCreateWithKeyExist),
	"RunTestGet":                                        plainly(storagetesting.RunTestGet),
	"RunTestUnconditionalDelete":                        plainly(storagetesting.RunTestUnconditionalDelete),
	"RunTestConditionalDelete":                          plainly(storagetesting.RunTestConditionalDelete),
	"RunTestDeleteWithSuggestion":                       plainly(storagetesting.RunTestDeleteWithSuggestion),
	"RunTestDeleteWithSuggestionAndConflict":            plainly(storagetesting.RunTestDeleteWithSuggestionAndConflict),
	"RunTestDeleteWithConflict":                         plainly(storagetesting.RunTestDeleteWithConflict),
	"RunTestDeleteWithSuggestionOfDeletedObject":        plainly(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject),
	"RunTestValidateDeletionWithSuggestion":             plainly(storagetesting.RunTestValidateDeletionWithSuggestion),
	"RunTestValidateDeletionWithOnlySuggestionValid":    plainly(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid),
	"RunTestPreconditionalDeleteWithSuggestion":         plainly(storagetesting.RunTestPreconditionalDeleteWithSuggestion),
	"RunTestPreconditionalDeleteWithOnlySuggestionPass": plainly(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass),
	"RunTestGetListRecursivePrefix":                     plainly(storagetesting.RunTestGetListRecursivePrefix),
	"RunTestGuaranteedUpdateWithTTL":                    expiring(storagetesting.RunTestGuaranteedUpdateWithTTL),
	"RunTestGuaranteedUpdateWithConflict":               plainly(storagetesting.RunTestGuaranteedUpdateWithConflict),
	"RunTestGuaranteedUpdateWithSuggestionAndConflict":  plainly(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict),
	"RunTestListPaging":                                 plainly(storagetesting.RunTestListPaging),
	"RunTestNamespaceScopedList":                        plainly(storagetesting.RunTestNamespaceScopedList),
	"RunTestKeySchema":                                  plainly(storagetesting.RunTestKeySchema),
	"RunTestList": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestList(ctx, t, f.store, f.compactAsEtcd, false, storagetesting.NewKubernetesRecorder(nil))
	},
	"RunTestConsistentList": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestConsistentList(ctx, t, f.store, f.increase, false, true, false)
	},
	"RunTestGetListNonRecursive": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestGetListNonRecursive(ctx, t, f.increase, f.store)
	},
	"RunTestListContinuation": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestListContinuation(ctx, t, f.store, noCalls)
	},
	"RunTestListPaginationRareObject": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestListPaginationRareObject(ctx, t, f.store, noCalls)
	},
	"RunTestListContinuationWithFilter": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestListContinuationWithFilter(ctx, t, f.store, noCalls)
	},
	"RunTestListInconsistentContinuation": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestListInconsistentContinuation(ctx, t, f.store, f.compact)
	},
	"RunTestListResourceVersionMatch": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestListResourceVersionMatch(ctx, t, f.store)
	},
	"RunTestGuaranteedUpdate": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestGuaranteedUpdate(ctx, t, f.store, f.stored)
	},
	"RunTestGuaranteedUpdateChecksStoredData": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, f.store)
	},
	"RunTestTransformationFailure": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestTransformationFailure(ctx, t, f.store)
	},
	"RunTestStats": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestStats(ctx, t, f.store, f.store.Codec, f.store.Transformer, true)
	},
	"RunTestCompactRevision": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestCompactRevision(ctx, t, f.store, f.increase, f.compact)
	},
	"RunTestGetListWithoutErrorAggregation": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestGetListWithoutErrorAggregation(ctx, t, f.store, fmt.Errorf("bits flipped"))
	},
}

var watchTests = map[string]upstreamTest{
	"RunTestWatch":                                            plainly(storagetesting.RunTestWatch),
	"RunTestClusterScopedWatch":                               plainly(storagetesting.RunTestClusterScopedWatch),
	"RunTestNamespaceScopedWatch":                             plainly(storagetesting.RunTestNamespaceScopedWatch),
	"RunTestDeleteTriggerWatch":                               plainly(storagetesting.RunTestDeleteTriggerWatch),
	"RunTestWatchFromNonZero":                                 plainly(storagetesting.RunTestWatchFromNonZero),
	"RunTestDelayedWatchDelivery":                             plainly(storagetesting.RunTestDelayedWatchDelivery),
	"RunTestWatchContextCancel":                               plainly(storagetesting.RunTestWatchContextCancel),
	"RunTestWatcherTimeout":                                   plainly(storagetesting.RunTestWatcherTimeout),
	"RunTestWatchDeleteEventObjectHaveLatestRV":               plainly(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV),
	"RunTestWatchInitializationSignal":                        plainly(storagetesting.RunTestWatchInitializationSignal),
	"RunSendInitialEventsBackwardCompatibility":               plainly(storagetesting.RunSendInitialEventsBackwardCompatibility),
	"RunWatchSemantics":                                       plainly(storagetesting.RunWatchSemantics),
	"RunWatchSemanticInitialEventsExtended":                   plainly(storagetesting.RunWatchSemanticInitialEventsExtended),
	"RunWatchListMatchSingle":                                 plainly(storagetesting.RunWatchListMatchSingle),
	"RunTestOptionalWatchBookmarksWithCorrectResourceVersion": plainly(storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion),
	"RunTestWatchFromZero": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestWatchFromZero(ctx, t, f.store, f.compact)
	},
	"RunOptionalTestProgressNotify": func(ctx context.Context, t *testing.T, f fixture) {
		ctx, cancel := context.WithTimeout(ctx, bookmarkBeforeEnd+500*time.Millisecond) // the end is told of before
		defer cancel()
		storagetesting.RunOptionalTestProgressNotify(ctx, t, f.store, f.increase)
	},
	"RunTestWatchError": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestWatchError(ctx, t, f.store)
	},
	"RunTestWatchDispatchBookmarkEvents": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, f.store, true)
	},
	"RunWatchErrorIsBlockingFurtherEvents": func(ctx context.Context, t *testing.T, f fixture) {
		storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, f.store)
	},
}

func TestUpstreamsStoreSuite(t *testing.T) {
	for name, test := range storeTests {
		t.Run(name, func(t *testing.T) {
			// RunTestGet reads an object that lives a second, so it may not wait for its turn.
			hurried := name == "RunTestGet"
			if !hurried {
				t.Parallel()
			}
			over(t, options{parallel: !hurried}, test)
		})
	}
}

func TestUpstreamsWatchSuite(t *testing.T) {
	for name, test := range watchTests {
		t.Run(name, func(t *testing.T) {
			// Upstream's functions of this kind set a feature gate.
			gated := strings.HasPrefix(name, "RunWatch")
			if !gated {
				t.Parallel()
			}
			over(t, options{parallel: !gated}, test)
		})
	}
}

func TestUpstreamsSuiteOfUnsafeDeletion(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.AllowUnsafeMalformedObjectDeletion, true)
	newFailing := func() *failing {
		return &failing{
			Codec:       apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion),
			Transformer: storagetesting.NewPrefixTransformer([]byte("test!"), false),
		}
	}
	t.Run("RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError", func(t *testing.T) {
		f := newFailing()
		over(t, options{codec: f}, func(ctx context.Context, t *testing.T, fx fixture) {
			storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(ctx, t, fx.store, f.fail.Store)
		})
	})
	t.Run("RunTestDeleteExpectedTransformOrDecodeError", func(t *testing.T) {
		f := newFailing()
		over(t, options{codec: f}, func(ctx context.Context, t *testing.T, fx fixture) {
			f.fail.Store(false)
			storagetesting.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, fx.store, f.fail.Store)
		})
	})
	t.Run("RunTestDeleteExpectedTransformOrDecodeError of a transformer", func(t *testing.T) {
		f := newFailing()
		over(t, options{transformer: f}, func(ctx context.Context, t *testing.T, fx fixture) {
			f.fail.Store(false)
			storagetesting.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, fx.store, f.fail.Store)
		})
	})
	t.Run("RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError", func(t *testing.T) {
		over(t, options{}, plainly(func(ctx context.Context, t *testing.T, s storage.Interface) {
			storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(ctx, t, s)
		}))
	})
	t.Run("RunTestWatchWithUnsafeDelete", func(t *testing.T) {
		over(t, options{}, func(ctx context.Context, t *testing.T, f fixture) {
			storagetesting.RunTestWatchWithUnsafeDelete(ctx, t, f.store, fmt.Errorf("bits flipped"))
		})
	})
}

// TestNoFunctionOfUpstreamsSuiteIsForgotten reads upstream's source, so that a function which a later
// version adds is either run or named as inapplicable.
func TestNoFunctionOfUpstreamsSuiteIsForgotten(t *testing.T) {
	unsafe := map[string]bool{
		"RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError":   true,
		"RunTestDeleteExpectedTransformOrDecodeError":                         true,
		"RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError": true,
		"RunTestWatchWithUnsafeDelete":                                        true,
	}
	dir, err := upstreamDir()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Run") || strings.HasPrefix(f.Name.Name, "RunBenchmark") {
				continue
			}
			name := f.Name.Name
			found[name] = true
			run := storeTests[name] != nil || watchTests[name] != nil || unsafe[name]
			if !run && inapplicable[name] == "" {
				t.Errorf("%s is neither run nor inapplicable", name)
			}
			if run && inapplicable[name] != "" {
				t.Errorf("%s is run and inapplicable", name)
			}
		}
	}
	for name := range inapplicable {
		if !found[name] {
			t.Errorf("%s is inapplicable but does not exist", name)
		}
	}
	if len(inapplicable) > maxInapplicable {
		t.Errorf("%d functions are inapplicable, %d may be", len(inapplicable), maxInapplicable)
	}
	if len(found) < 60 {
		t.Errorf("found %d functions in %s", len(found), dir)
	}
}

// upstreamDir is where the source of upstream's suite lies.
func upstreamDir() (string, error) {
	pc := reflect.ValueOf(storagetesting.RunTestCreate).Pointer()
	file, _ := goruntime.FuncForPC(pc).FileLine(pc)
	if !filepath.IsAbs(file) {
		return "", fmt.Errorf("the source of upstream's suite is not known: %q", file)
	}
	return filepath.Dir(file), nil
}
