package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

var errDisk = errors.New("the disk failed")

// mortal is a store that fails for ever after a number of commits, as a process that dies does.
type mortal struct {
	*memory.Store
	left int
}

func (m *mortal) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if m.left--; m.left < 0 {
		return errDisk
	}
	return m.Store.Commit(ctx, partition, ops)
}

func maker(t *testing.T, store table.Store) Maker {
	t.Helper()
	seal, err := NewSeal(make([]byte, SealBytes))
	if err != nil {
		t.Fatal(err)
	}
	return Maker{Registry: Registry{Store: store}, Seal: seal, Host: "127.0.0.1", Port: 6443, RootCA: []byte("none")}
}

// rows counts the rows of a cluster's partitions.
func rows(t *testing.T, store table.Store, partition string) int {
	t.Helper()
	n := 0
	for _, groups := range [][]string{kubestorage.Groups, EventGroups} {
		for _, group := range groups {
			err := table.All(t.Context(), store, kubestorage.Partition(partition, group), table.Query{From: firstKey, To: lastKey}, func(table.Row) bool {
				n++
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

func TestNamesAreDNSLabels(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "a-1": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false, "a_b": false, "ä": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		if err := ValidateName(name); ok != (err == nil) || !ok && !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAClusterIsCreatedOnceAndDeletedWithItsRows(t *testing.T) {
	store := memory.New()
	m := maker(t, store)
	info, keys, err := m.Create(t.Context(), "dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Create(t.Context(), "dev", time.Now()); !errors.Is(err, ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	found, err := m.Registry.Get(t.Context(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := m.Seal.Open(found); err != nil || opened.AdminToken != keys.AdminToken {
		t.Errorf("the keys read are not those made: %v", err)
	}
	if n := rows(t, store, info.Partition()); n == 0 {
		t.Error("it is born with nothing")
	}
	gone, err := m.Unregister(t.Context(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Unregister(t.Context(), "dev"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := m.RemoveRows(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, store, info.Partition()); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if left, err := m.Registry.left(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("the registry still knows of %v, %v", left, err)
	}
}

func TestOfTwoThatCreateAClusterAtOnceOneDoes(t *testing.T) {
	store := memory.New()
	m := maker(t, store)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, _, errs[i] = m.Create(t.Context(), "dev", time.Now()) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if left, err := m.Registry.left(t.Context()); made != 1 || err != nil || len(left) > 0 {
		t.Errorf("%d were made, and %v are left, %v", made, left, err)
	}
}

// TestWhatACrashLeavesOfAClusterIsSwept ends the process after each commit of a creation and a deletion.
func TestWhatACrashLeavesOfAClusterIsSwept(t *testing.T) {
	ended := false
	for commits := 0; !ended; commits++ {
		store := &mortal{Store: memory.New(), left: commits}
		m := maker(t, store)
		info, _, err := m.Create(t.Context(), "dev", time.Now())
		if err == nil {
			if info, err = m.Unregister(t.Context(), "dev"); err == nil {
				err = m.RemoveRows(t.Context(), info)
			}
		}
		ended = err == nil
		if err != nil && !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		alive := maker(t, store.Store)
		begun, err := alive.Registry.left(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := alive.Sweep(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		exists, err := alive.Registry.Get(t.Context(), "dev")
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for _, l := range append(begun, left{Partition: info.Partition()}) {
			partition := l.Partition
			if n := rows(t, store, partition); (n > 0) != (err == nil && partition == exists.Partition()) {
				t.Errorf("after %d commits and a sweep there are %d rows in %q, cluster: %v", commits, n, partition, err)
			}
		}
		if commits > 1000 {
			t.Fatal("it never ends")
		}
	}
}

func TestADeletionOfAnOldClusterSparesANewOneOfItsName(t *testing.T) {
	m := maker(t, memory.New())
	old, _, err := m.Create(t.Context(), "dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	read, err := m.Registry.Get(t.Context(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Unregister(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	second, _, err := m.Create(t.Context(), "dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Registry.remove(t.Context(), read); !errors.Is(err, ErrNotFound) {
		t.Errorf("who read the old one removes: %v", err)
	}
	if now, err := m.Registry.Get(t.Context(), "dev"); err != nil || now.ID != second.ID || now.ID == old.ID {
		t.Errorf("there is %+v, %v", now, err)
	}
}

func TestClustersAreListedByName(t *testing.T) {
	m := maker(t, memory.New())
	for _, name := range []string{"b", "a-1", "a"} {
		if err := m.Registry.insertNew(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	list, err := m.Registry.List(t.Context())
	if err != nil || len(list) != 3 || list[0].Name != "a" || list[1].Name != "a-1" || list[2].Name != "b" {
		t.Errorf("%+v, %v", list, err)
	}
}

// insertNew registers a cluster without objects.
func (r Registry) insertNew(ctx context.Context, name string) error {
	i := Info{Name: name, ID: "1"}
	if err := r.announce(ctx, i); err != nil {
		return err
	}
	return r.insert(ctx, i)
}

func TestKeysOpenWithTheirSealAndForTheirClusterOnly(t *testing.T) {
	keys, err := newKeys("dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seal := maker(t, memory.New()).Seal
	other, err := NewSeal([]byte(strings.Repeat("k", SealBytes)))
	if err != nil {
		t.Fatal(err)
	}
	info := Info{Name: "dev", ID: "1"}
	if info.Sealed, err = seal.close(keys, info.Partition()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(info.Sealed), keys.AdminToken) {
		t.Error("the token is legible")
	}
	opened, err := seal.Open(info)
	if err != nil || fmt.Sprint(opened) != fmt.Sprint(keys) {
		t.Errorf("opened: %v", err)
	}
	if _, err := opened.ForServer(); err != nil {
		t.Error(err)
	}
	moved, torn, short := info, info, info
	moved.ID = "2"
	torn.Sealed = append([]byte(nil), info.Sealed...)
	torn.Sealed[len(torn.Sealed)-1] ^= 1
	short.Sealed = info.Sealed[:4]
	for name, try := range map[string]func() (Keys, error){
		"another seal":    func() (Keys, error) { return other.Open(info) },
		"another cluster": func() (Keys, error) { return seal.Open(moved) },
		"damaged":         func() (Keys, error) { return seal.Open(torn) },
		"too short":       func() (Keys, error) { return seal.Open(short) },
	} {
		if _, err := try(); !errors.Is(err, ErrUnseal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, size := range []int{0, 16, SealBytes + 1} {
		if _, err := NewSeal(make([]byte, size)); err == nil {
			t.Errorf("a key of %d bytes is taken", size)
		}
	}
}

func TestEverythingThatAClusterIsBornWithCanBeReadBack(t *testing.T) {
	store := memory.New()
	info, _, err := maker(t, store).Create(t.Context(), "dev", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	logs := kubestorage.NewLogs(store, info.Partition(), func(string) tablelog.Options { return tablelog.Options{} })
	decoder := legacyscheme.Codecs.UniversalDeserializer()
	kinds := map[string]int{}
	for _, log := range logs {
		s, err := log.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Ascend("", "", func(e *tablelog.Entry) bool {
			obj, gvk, err := decoder.Decode(e.Value, nil, nil)
			if runtime.IsNotRegisteredError(err) {
				return true // of another scheme than the built-in kinds'
			}
			if err != nil || obj == nil {
				t.Errorf("%s: %v", e.Key, err)
				return true
			}
			kinds[gvk.Kind]++
			return true
		})
	}
	for kind, least := range map[string]int{
		"Namespace": 4, "ServiceAccount": 4, "ConfigMap": 5, "Service": 1, "EndpointSlice": 1, "ClusterRole": 50, "ClusterRoleBinding": 40,
		"Role": 5, "RoleBinding": 5, "PriorityClass": 2, "FlowSchema": 10, "PriorityLevelConfiguration": 5, "ServiceCIDR": 1, "IPAddress": 1,
	} {
		if kinds[kind] < least {
			t.Errorf("%d objects of kind %s, want %d", kinds[kind], kind, least)
		}
	}
}

// TestATransactionThatIsSentTwiceMakesAClusterEvenSo: the second one is refused because of the first.
func TestATransactionThatIsSentTwiceMakesAClusterEvenSo(t *testing.T) {
	faulty := contract.NewFaulty(memory.New(), 1)
	faulty.Retried = 1
	m := maker(t, faulty)
	info, keys, err := m.Create(t.Context(), "made", time.Now())
	if err != nil || rows(t, faulty, info.Partition()) == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	write := func(ctx context.Context, partition string) error {
		return faulty.Commit(ctx, kubestorage.Partition(partition, kubestorage.PodsGroup), []table.Op{{Kind: table.Put, Key: "o-x"}})
	}
	adopted, err := m.Adopt(t.Context(), Adoption{Name: "adopted", Created: info.Created, Keys: keys, Write: write})
	if err != nil || rows(t, faulty, adopted.Partition()) != 1 {
		t.Fatalf("%+v, %v", adopted, err)
	}
	faulty.Retried = 0
	left, err := m.Registry.left(t.Context())
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	again, err := m.Adopt(t.Context(), Adoption{Name: "adopted", Created: info.Created, Keys: keys, Replace: true, Write: write})
	if err != nil || again.ID == adopted.ID || rows(t, faulty, adopted.Partition()) != 0 || rows(t, faulty, again.Partition()) != 1 {
		t.Errorf("replaced by %+v, %v", again, err)
	}
}

// TestAClusterIsReplacedOnlyIfItIsTheOneThatWasRead: of two that replace it at the same time, one is refused.
func TestAClusterIsReplacedOnlyIfItIsTheOneThatWasRead(t *testing.T) {
	store := memory.New()
	m := maker(t, store)
	info, keys, err := m.Create(t.Context(), "made", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var other Info
	_, err = m.Adopt(t.Context(), Adoption{Name: "made", Created: info.Created, Keys: keys, Replace: true, Write: func(ctx context.Context, _ string) (err error) {
		other, err = m.Adopt(ctx, Adoption{Name: "made", Created: info.Created, Keys: keys, Replace: true, Write: func(context.Context, string) error { return nil }})
		return err
	}})
	if now, found := m.Registry.Get(t.Context(), "made"); !errors.Is(err, ErrExists) || found != nil || now.ID != other.ID {
		t.Errorf("%v; now it is %+v, want %+v", err, now, other)
	}
	if left, err := m.Registry.left(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
