package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/audit"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// audited returns the findings, as "partition row invariant", with the cluster's own name left out.
func audited(t *testing.T, store table.Store, info cluster.Info) []string {
	t.Helper()
	plain := func(row table.Row) error {
		if !json.Valid(row.Value) {
			return errors.New("not JSON")
		}
		return nil
	}
	a := audit.Audit{Store: store, DueRow: plain, DirtyRow: plain, MetricsRow: plain, DirtyPartition: "_dirty", HostRow: plain, HostPartition: "_host"}
	report, err := a.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, wrong := []string{}, false
	for _, f := range report.Findings {
		kind := ""
		if f.Note {
			kind = " (note)"
		}
		wrong = wrong || !f.Note
		out = append(out, strings.ReplaceAll(fmt.Sprintf("%s %s %s%s", f.Partition, f.Row, f.Invariant, kind), info.Partition(), "CLUSTER"))
		if f.Message == "" || !strings.Contains(f.String(), f.Message) {
			t.Errorf("%v: no message", f)
		}
	}
	if report.Wrong() != wrong {
		t.Errorf("Wrong() is %t", report.Wrong())
	}
	return out
}

func encoded(t *testing.T, pod *corev1.Pod) []byte {
	t.Helper()
	value, err := apiserver.Encode(corev1.SchemeGroupVersion, pod)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func pod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "u"}}
}

// TestTheAuditFindsEachDamageAndNothingElse plants one at a time in a cluster that was just born.
func TestTheAuditFindsEachDamageAndNothingElse(t *testing.T) {
	type planting struct {
		t     *testing.T
		store table.Store
		info  cluster.Info
	}
	put := func(p planting, partition, key, value string) {
		p.t.Helper()
		partition = strings.ReplaceAll(partition, "CLUSTER", p.info.Partition())
		if err := p.store.Commit(p.t.Context(), partition, []table.Op{{Kind: table.Put, Key: key, Value: []byte(value)}}); err != nil {
			p.t.Fatal(err)
		}
	}
	// object writes an object through the log, as only a faulty storage would.
	object := func(p planting, group, key string, value []byte) {
		p.t.Helper()
		l := tablelog.New(p.store, kubestorage.Partition(p.info.Partition(), group), tablelog.Options{})
		if _, _, err := l.Commit(p.t.Context(), []tablelog.Change{{Key: key, Value: value}}, nil); err != nil {
			p.t.Fatal(err)
		}
	}
	entry := func(p planting, alter func(map[string]any)) {
		p.t.Helper()
		row, err := p.store.Get(p.t.Context(), "_clusters", "c-born")
		if err != nil {
			p.t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(row.Value, &v); err != nil {
			p.t.Fatal(err)
		}
		alter(v)
		value, err := json.Marshal(v)
		if err != nil {
			p.t.Fatal(err)
		}
		put(p, "_clusters", "c-born", string(value))
	}
	const newest = "l-fffffffffffffffd" // revision 2 of a log that was empty
	cases := map[string]struct {
		plant func(p planting)
		want  []string
	}{
		"nothing": {func(planting) {}, []string{}},
		"good objects": {func(p planting) {
			object(p, "pods", "core/pods/default/a", encoded(p.t, pod()))
			object(p, "objects", "example.com/sites/default/a", []byte(`{"apiVersion":"example.com/v1","kind":"Site","metadata":{"name":"a","namespace":"default"}}`))
			object(p, "objects", "core/secrets/default/a", []byte("k8s:enc:aescbc:v1:key1:\x00\x01\x02"))
			put(p, "CLUSTER|cursors", "c-upkeep", `{"pods": 2}`)
			put(p, "CLUSTER|cursors", "d-1", `{}`)
			put(p, "_dirty", "d-born", `{}`)
		}, []string{}},
		"a registry entry that cannot be decoded": {
			func(p planting) { put(p, "_clusters", "c-born", "{") }, []string{"_clusters c-born registry"},
		},
		"a registry entry of another name": {
			func(p planting) { entry(p, func(v map[string]any) { v["name"] = "other" }) }, []string{"_clusters c-born registry"},
		},
		"a registry entry without keys": {
			func(p planting) { entry(p, func(v map[string]any) { delete(v, "sealed") }) }, []string{"_clusters c-born registry"},
		},
		"a registry entry whose id is none": {
			func(p planting) { entry(p, func(v map[string]any) { v["id"] = "x" }) }, []string{"_clusters c-born registry"},
		},
		"a cluster without partitions": {
			func(p planting) {
				put(p, "_clusters", "c-ghost", `{"name":"ghost","id":"01234567","created":"2026-03-01T12:00:00Z","sealed":"AAAA"}`)
			}, []string{"ghost.01234567|config  partitions"},
		},
		"a stranger in the registry": {
			func(p planting) { put(p, "_clusters", "q", "") }, []string{"_clusters q registry"},
		},
		"a cluster that is being made": {
			func(p planting) {
				put(p, "_clusters", "x-next.01234567", "next.01234567")
				put(p, "next.01234567|pods", "o-x", "")
			}, []string{"_clusters x-next.01234567 registry (note)"},
		},
		"a note of what is left that names others": {
			func(p planting) { put(p, "_clusters", "x-next.01234567", "born") }, []string{"_clusters x-next.01234567 registry"},
		},
		"a partition of no cluster": {
			func(p planting) { put(p, "gone.01234567|pods", "o-x", "") }, []string{"gone.01234567|pods  partitions"},
		},
		"a partition of an earlier cluster of the name": {
			func(p planting) { put(p, "born.01234567|pods", "o-x", "") }, []string{"born.01234567|pods  partitions"},
		},
		"a partition of no log": {
			func(p planting) { put(p, "CLUSTER|gadgets", "o-x", "") }, []string{"CLUSTER|gadgets  partitions"},
		},
		"a partition whose name means nothing": {
			func(p planting) { put(p, "what", "o-x", "") }, []string{"what  partitions"},
		},
		"a cursor that cannot be decoded": {
			func(p planting) { put(p, "CLUSTER|cursors", "c-upkeep", `{"pods": "x"}`) }, []string{"CLUSTER|cursors c-upkeep cursors"},
		},
		"a cursor ahead of its log": {
			func(p planting) { put(p, "CLUSTER|cursors", "c-upkeep", `{"pods": 99}`) }, []string{"CLUSTER|cursors c-upkeep cursors (note)"},
		},
		"something due that cannot be decoded": {
			func(p planting) { put(p, "CLUSTER|cursors", "d-1", "{") }, []string{"CLUSTER|cursors d-1 due"},
		},
		"a stranger among the cursors": {
			func(p planting) { put(p, "CLUSTER|cursors", "q", "{}") }, []string{"CLUSTER|cursors q cursors"},
		},
		"a dirty row that cannot be decoded": {
			func(p planting) { put(p, "_dirty", "d-born", "{") }, []string{"_dirty d-born dirty"},
		},
		"a dirty row of no cluster": {
			func(p planting) { put(p, "_dirty", "d-gone", "{}") }, []string{"_dirty d-gone dirty (note)"},
		},
		"a row of a new cluster": {
			func(p planting) { put(p, "_dirty", "d-born.born", `{}`) }, []string{},
		},
		"a row that says when to look for what was left of clusters": {
			func(p planting) { put(p, "_dirty", "s-0123456789abcdef", `{}`) }, []string{},
		},
		"such a row that cannot be decoded": {
			func(p planting) { put(p, "_dirty", "s-0123456789abcdef", "{") }, []string{"_dirty s-0123456789abcdef dirty"},
		},
		"a stranger among the dirty rows": {
			func(p planting) { put(p, "_dirty", "q", "{}") }, []string{"_dirty q dirty"},
		},
		"an object that cannot be decoded": {
			func(p planting) {
				object(p, "pods", "core/pods/default/a", encoded(p.t, pod())[:20])
			}, []string{"CLUSTER|pods " + newest + " objects"},
		},
		"an object that nothing knows": {
			func(p planting) { object(p, "pods", "core/pods/default/a", []byte("what")) }, []string{"CLUSTER|pods " + newest + " objects"},
		},
		"an object with a resourceVersion": {
			func(p planting) {
				o := pod()
				o.ResourceVersion = "7"
				object(p, "pods", "core/pods/default/a", encoded(p.t, o))
			}, []string{"CLUSTER|pods " + newest + " objects"},
		},
		"an object under another's name": {
			func(p planting) { object(p, "pods", "core/pods/default/b", encoded(p.t, pod())) }, []string{"CLUSTER|pods " + newest + " objects"},
		},
		"an object in another namespace": {
			func(p planting) { object(p, "pods", "core/pods/other/a", encoded(p.t, pod())) }, []string{"CLUSTER|pods " + newest + " objects"},
		},
		"a name that is none": {
			func(p planting) { object(p, "pods", "pods", encoded(p.t, pod())) }, []string{"CLUSTER|pods " + newest + " objects"},
		},
		"a kind in the log of another group": {
			func(p planting) { object(p, "nodes", "core/pods/default/a", encoded(p.t, pod())) }, []string{"CLUSTER|nodes " + newest + " groups"},
		},
		"a damaged row of a log": {
			func(p planting) { put(p, "CLUSTER|events", "o-x", "x") }, []string{"CLUSTER|events o-x records"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			born := clustertest.New(t)
			c.plant(planting{t, born.Store, born.Info})
			if diff := cmp.Diff(c.want, audited(t, born.Store, born.Info)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// unlisted is a store that cannot say which partitions it has.
type unlisted struct{ table.Store }

func TestAStoreThatListsNoPartitionsIsAuditedWithoutThem(t *testing.T) {
	born := clustertest.New(t)
	want := []string{"-  partitions (note)"}
	if diff := cmp.Diff(want, audited(t, unlisted{born.Store}, born.Info)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// TestClustersThatComeAndGoAreNoFinding: clusters are made and deleted while the audit looks, again and again.
func TestClustersThatComeAndGoAreNoFinding(t *testing.T) {
	born := clustertest.New(t)
	seal, err := cluster.NewSeal(make([]byte, cluster.SealBytes))
	if err != nil {
		t.Fatal(err)
	}
	maker := cluster.Maker{Registry: cluster.Registry{Store: born.Store}, Seal: seal, Host: "127.0.0.1", Port: 6443, RootCA: []byte("none")}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	made := 0
	go func() {
		var err error
		for ; ctx.Err() == nil && err == nil; made++ {
			if _, _, err = maker.Create(context.Background(), "brief", time.Now()); err != nil {
				break
			}
			var info cluster.Info
			if info, err = maker.Unregister(context.Background(), "brief"); err == nil {
				err = maker.RemoveRows(context.Background(), info)
			}
		}
		ended <- err
	}()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, f := range audited(t, born.Store, born.Info) {
			if !strings.HasSuffix(f, "(note)") {
				t.Fatalf("found %s", f)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil || made < 3 {
		t.Errorf("%d clusters were made: %v", made, err)
	}
}
