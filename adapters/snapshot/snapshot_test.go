package snapshot_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/audit"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/snapshot"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// loads are kinds in different logs that the load writes.
var loads = []schema.GroupResource{{Resource: "pods"}, {Resource: "nodes"}, {Resource: "configmaps"}, {Resource: "secrets"}}

// value is an object of a kind; large ones do not fit in a row.
func value(t testing.TB, gr schema.GroupResource, name, uid, note string) []byte {
	m := metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid)}
	var out []byte
	var err error
	switch gr.Resource {
	case "pods":
		out, err = apiserver.Encode(corev1.SchemeGroupVersion, &corev1.Pod{ObjectMeta: m, Spec: corev1.PodSpec{NodeName: note}})
	case "nodes":
		m.Namespace = ""
		out, err = apiserver.Encode(corev1.SchemeGroupVersion, &corev1.Node{ObjectMeta: m, Spec: corev1.NodeSpec{ProviderID: note}})
	case "configmaps":
		out, err = apiserver.Encode(corev1.SchemeGroupVersion, &corev1.ConfigMap{ObjectMeta: m, Data: map[string]string{"note": note}})
	default:
		out, err = apiserver.Encode(corev1.SchemeGroupVersion, &corev1.Secret{ObjectMeta: m, Data: map[string][]byte{"note": []byte(note)}})
	}
	if err != nil {
		t.Error(err)
	}
	return out
}

// churn creates, changes and deletes objects, each creation with a uid of its own, until the context ends.
func churn(ctx context.Context, t testing.TB, logs kubestorage.Logs, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 4))
	for n := 0; ctx.Err() == nil; n++ {
		gr := loads[rng.IntN(len(loads))]
		log := logs.Of(gr)
		state, err := log.Current(ctx)
		if err != nil {
			continue
		}
		name, namespace := fmt.Sprintf("o%d", rng.IntN(30)), "default"
		if gr.Resource == "nodes" {
			namespace = ""
		}
		c := tablelog.Change{Key: kubestorage.KeyOf(gr, namespace, name), Owners: []string{"owner"}}
		uid := fmt.Sprintf("%d-%d", seed, n)
		if e := state.Get(c.Key); e != nil {
			obj, _, err := apiserver.Codecs.UniversalDeserializer().Decode(e.Value, nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			m, _ := meta.Accessor(obj)
			uid = string(m.GetUID())
			c.Expect, c.Delete = e.Rev, rng.IntN(4) == 0
		}
		note := fmt.Sprint(n)
		if gr.Resource == "configmaps" && rng.IntN(20) == 0 {
			note = strings.Repeat("x", 700<<10)
		}
		if !c.Delete {
			c.Value, c.Expires = value(t, gr, name, uid, note), int64(rng.IntN(2))*time.Now().Add(time.Hour).Unix()
		}
		_, _, _ = log.Commit(ctx, []tablelog.Change{c}, nil)
	}
}

func seal(t testing.TB, first byte) cluster.Seal {
	t.Helper()
	key := make([]byte, cluster.SealBytes)
	key[0] = first
	s, err := cluster.NewSeal(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mark(context.Context, string) error { return nil }

// importer makes clusters in a store that has another seal than clustertest's.
func importer(t testing.TB, store table.Store) snapshot.Import {
	return snapshot.Import{
		Maker: cluster.Maker{Registry: cluster.Registry{Store: store}, Seal: seal(t, 9)}, Open: seal(t, 0).Open, Mark: mark,
	}
}

func export(t testing.TB, c *clustertest.Cluster) ([]byte, snapshot.Header, snapshot.End) {
	t.Helper()
	var file bytes.Buffer
	h, end, err := snapshot.Export{Store: c.Store, Cluster: c.Info, Now: time.Now()}.Write(t.Context(), &file)
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), h, end
}

// objects is a state as text: uid, revisions, expiry, owners and value of each object.
func objects(t testing.TB, s *tablelog.State) map[string]string {
	t.Helper()
	out := map[string]string{}
	s.Ascend("", "", func(e *tablelog.Entry) bool {
		obj, _, err := apiserver.Codecs.UniversalDeserializer().Decode(e.Value, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		uid := types.UID("none")
		if m, err := meta.Accessor(obj); err == nil {
			uid = m.GetUID()
		}
		out[e.Key] = fmt.Sprintf("uid %s resourceVersion %d created %d expires %d owners %v %x", uid, e.Rev, e.Created, e.Expires, e.Owners, e.Value)
		return true
	})
	return out
}

// sound fails the test unless an audit of the store finds nothing.
func sound(t testing.TB, store table.Store) {
	t.Helper()
	fine := func(table.Row) error { return nil }
	a := audit.Audit{Store: store, DueRow: fine, DirtyRow: fine, MetricsRow: fine, DirtyPartition: "_dirty"}
	if report, err := a.Run(t.Context()); err != nil || len(report.Findings) > 0 {
		t.Fatalf("audit: %v %v", report.Findings, err)
	}
}

// TestAClusterUnderLoadThatIsImportedElsewhereIsEqual to what Log.At says of each log at the revisions in the file,
// again and again while writers and compaction go on. The copy goes on from there.
func TestAClusterUnderLoadThatIsImportedElsewhereIsEqual(t *testing.T) {
	born := clustertest.New(t)
	logs := born.Logs(tablelog.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() { churn(ctx, t, logs, uint64(w)) })
	}
	db, err := pebble.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	targets := map[string]table.Store{"pebble": db}
	for i := range 4 {
		targets[fmt.Sprint("memory ", i)] = memory.New()
	}
	last := map[string]uint64{}
	for name, target := range targets {
		awaitChanges(t, logs)
		file, header, end := export(t, born)
		wants := map[string]*tablelog.State{}
		for _, l := range header.Logs {
			if wants[l.Group], err = logs[l.Group].At(t.Context(), l.Revision); err != nil {
				t.Fatal(err)
			}
			last[l.Group] = max(last[l.Group], l.Revision)
		}
		info, _, _, err := importer(t, target).Read(t.Context(), bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sound(t, target)
		for _, l := range header.Logs {
			checkLog(t, tablelog.New(target, kubestorage.Partition(info.Partition(), l.Group), tablelog.Options{}), wants[l.Group], l, end)
		}
		for _, group := range kubestorage.Groups { // beyond what is wanted above
			if _, err := logs[group].Compact(t.Context(), last[group], 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	wg.Wait()
	if last[kubestorage.PodsGroup] < 100 {
		t.Errorf("at the end the pods were at %d: that is no load", last[kubestorage.PodsGroup])
	}
	sound(t, born.Store)
}

// checkLog compares a log that was imported with the state that it was made of, and changes it.
func checkLog(t *testing.T, log *tablelog.Log, want *tablelog.State, l snapshot.Log, end snapshot.End) {
	t.Helper()
	got, err := log.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(objects(t, want), objects(t, got)); diff != "" || got.Rev != l.Revision {
		t.Fatalf("log %s at %d, want %d (-want +got):\n%s", l.Group, got.Rev, l.Revision, diff)
	}
	if end.Objects[l.Group] != want.Len() {
		t.Errorf("log %s: the file says %d objects, there are %d", l.Group, end.Objects[l.Group], want.Len())
	}
	if _, err := log.Subscribe(t.Context(), "", l.Revision-1); l.Revision > 1 && !errors.Is(err, tablelog.ErrCompacted) {
		t.Errorf("log %s: a watch from before: %v", l.Group, err)
	}
	sub, err := log.Subscribe(t.Context(), "", l.Revision)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Unsubscribe(sub)
	_, rev, err := log.Commit(t.Context(), []tablelog.Change{{Key: "core/pods/default/new", Value: []byte("1")}}, nil)
	if err != nil || rev != l.Revision+1 {
		t.Errorf("log %s: the next revision is %d: %v", l.Group, rev, err)
	}
	if events, _, err := sub.Next(t.Context()); err != nil || len(events) != 1 || events[0].Rev != rev {
		t.Errorf("log %s: the watch saw %v, %v", l.Group, events, err)
	}
}

func TestKeysAndWhatIsDueComeAlong(t *testing.T) {
	born := clustertest.New(t)
	rows := map[string]string{"d-0000000000000001-aa": `{"function":"f"}`, "d-0000000000000002-bb": `{"function":"g"}`}
	from := kubestorage.Partition(born.Info.Partition(), "cursors")
	for key, v := range rows {
		if err := born.Store.Commit(t.Context(), from, []table.Op{{Kind: table.Put, Key: key, Value: []byte(v)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := born.Store.Commit(t.Context(), from, []table.Op{{Kind: table.Put, Key: "c-f", Value: []byte(`{"pods":1}`)}}); err != nil {
		t.Fatal(err)
	}
	file, header, end := export(t, born)
	if !header.OneInstant || end.Due != 2 {
		t.Errorf("header %+v, end %+v", header, end)
	}
	target := memory.New()
	marked := ""
	in := importer(t, target)
	in.Name = "other"
	in.Mark = func(_ context.Context, name string) error { marked = name; return nil }
	info, _, _, err := in.Read(t.Context(), bytes.NewReader(file))
	if err != nil || info.Name != "other" || marked != "other" || !info.Created.Equal(born.Info.Created) {
		t.Fatalf("%+v, marked %q: %v", info, marked, err)
	}
	got := map[string]string{}
	err = table.All(t.Context(), target, kubestorage.Partition(info.Partition(), "cursors"), table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		got[row.Key] = string(row.Value)
		return true
	})
	if diff := cmp.Diff(rows, got); diff != "" || err != nil {
		t.Errorf("what is due (-want +got):\n%s%v", diff, err)
	}
	want, err := seal(t, 0).Open(born.Info)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal(t, 9).Open(info)
	if diff := cmp.Diff(want, keys); diff != "" || err != nil {
		t.Errorf("keys (-want +got):\n%s%v", diff, err)
	}
}

// lines returns the lines of a file; zip makes a file of lines.
func lines(t testing.TB, file []byte) []string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(all), "\n"), "\n")
}

func zip(all ...string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(strings.Join(all, "")))
	_ = w.Close()
	return b.Bytes()
}

// TestAnAlteredFileIsRefusedAndTheRecordNamed and nothing is left of it in the store.
func TestAnAlteredFileIsRefusedAndTheRecordNamed(t *testing.T) {
	born := clustertest.New(t)
	file, _, _ := export(t, born)
	all := lines(t, file)
	n := len(all)
	with := func(i int, line string) []byte {
		changed := append([]string(nil), all...)
		changed[i] = line
		return zip(changed...)
	}
	swapped := append([]string(nil), all...)
	swapped[20], swapped[21] = swapped[21], swapped[20]
	cases := map[string]struct {
		file []byte
		want string
	}{
		"cut in the middle":        {file[:len(file)/2], "damaged: record"},
		"cut at the end":           {file[:len(file)-1], "damaged: "},
		"a bit of the file":        {append(append([]byte(nil), file[:len(file)/2]...), append([]byte{file[len(file)/2] ^ 1}, file[len(file)/2+1:]...)...), "damaged: record"},
		"a line altered":           {with(11, strings.Replace(all[11], `"revision":`, `"revision":1`, 1)), "record 12 is not as it was written"},
		"a line left out":          {zip(append(append([]string(nil), all[:30]...), all[31:]...)...), "record 31 is not as it was written"},
		"two lines in wrong order": {zip(swapped...), "record 21 is not as it was written"},
		"without the end":          {zip(all[:n-1]...), fmt.Sprintf("it ends before record %d", n)},
		"something after the end":  {zip(append(append([]string(nil), all...), "\nmore")...), fmt.Sprintf("record %d comes after its end", n+1)},
		"no snapshot":              {[]byte("what"), "not a snapshot"},
		"empty":                    {nil, "not a snapshot"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			target := memory.New()
			_, _, verr := snapshot.Verify(bytes.NewReader(c.file))
			_, _, _, err := importer(t, target).Read(t.Context(), bytes.NewReader(c.file))
			for _, err := range []error{verr, err} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			}
			if names, err := target.Partitions(t.Context(), ""); err != nil || len(names) > 0 {
				t.Errorf("left: %v, %v", names, err)
			}
		})
	}
	if _, end, err := snapshot.Verify(bytes.NewReader(file)); err != nil || end.Records != n-1 {
		t.Errorf("the file itself: %+v, %v", end, err)
	}
}

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

// TestAnImportThatDiesAnywhereHarmsNothing: the cluster that was there is there, with all its rows, or the new one is; and
// the import can be run again.
func TestAnImportThatDiesAnywhereHarmsNothing(t *testing.T) {
	born := clustertest.New(t)
	file, _, _ := export(t, born)
	for _, replace := range []bool{false, true} {
		for dies := 0; ; dies++ {
			target := memory.New()
			dying := &mortal{Store: target, left: 1 << 30}
			in := importer(t, dying)
			if replace {
				if _, _, _, err := in.Read(t.Context(), bytes.NewReader(file)); err != nil {
					t.Fatal(err)
				}
			}
			dying.left, in.Replace = dies, replace
			_, _, _, err := in.Read(t.Context(), bytes.NewReader(file))
			if err == nil {
				if dies < 5 {
					t.Fatalf("an import is done after %d transactions", dies)
				}
				break
			}
			dying.left = 1 << 30
			_, found := in.Maker.Registry.Get(t.Context(), "born")
			if !replace && !errors.Is(found, cluster.ErrNotFound) || replace && found != nil {
				t.Fatalf("died after %d transactions (replace %t): %v", dies, replace, found)
			}
			if err := in.Maker.Sweep(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			sound(t, target)
			in.Replace = found == nil
			if _, _, _, err := in.Read(t.Context(), bytes.NewReader(file)); err != nil {
				t.Fatalf("again after %d transactions (replace %t): %v", dies, replace, err)
			}
			sound(t, target)
		}
	}
}

func TestAClusterIsNotReplacedUnasked(t *testing.T) {
	born := clustertest.New(t)
	file, _, _ := export(t, born)
	in := importer(t, born.Store)
	if _, _, _, err := in.Read(t.Context(), bytes.NewReader(file)); !errors.Is(err, cluster.ErrExists) {
		t.Errorf("unasked: %v", err)
	}
	in.Open = seal(t, 5).Open
	in.Replace = true
	if _, _, _, err := in.Read(t.Context(), bytes.NewReader(file)); !errors.Is(err, cluster.ErrUnseal) {
		t.Errorf("with another key: %v", err)
	}
	if now, err := in.Maker.Registry.Get(t.Context(), "born"); err != nil || now.ID != born.Info.ID {
		t.Errorf("%+v, %v", now, err)
	}
	in.Open = seal(t, 0).Open
	info, _, _, err := in.Read(t.Context(), bytes.NewReader(file))
	if err != nil || info.ID == born.Info.ID {
		t.Fatalf("%+v, %v", info, err)
	}
	sound(t, born.Store) // also says that nothing is left of the one before
}

// TestTheClusterOfAnEarlierTimeIsExact for the revisions that each log had then.
func TestTheClusterOfAnEarlierTimeIsExact(t *testing.T) {
	born := clustertest.New(t)
	now := time.Now().Add(time.Minute)
	logs := born.Logs(tablelog.Options{Now: func() time.Time { return now }})
	write := func(gr schema.GroupResource, name, note string) {
		t.Helper()
		s, err := logs.Of(gr).Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := tablelog.Change{Key: kubestorage.KeyOf(gr, "default", name), Value: value(t, gr, name, "u", note)}
		if e := s.Get(c.Key); e != nil {
			c.Expect = e.Rev
		}
		if _, _, err := logs.Of(gr).Commit(t.Context(), []tablelog.Change{c}, nil); err != nil {
			t.Fatal(err)
		}
	}
	pods, maps := loads[0], loads[2]
	write(pods, "a", "n1")
	write(maps, "a", "1")
	then := now
	want := map[string]map[string]string{}
	for group, log := range logs {
		s, err := log.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want[group] = objects(t, s)
	}
	now = now.Add(time.Hour)
	write(pods, "a", "n2")
	write(maps, "b", "2")
	x := snapshot.Export{Store: born.Store, Cluster: born.Info, At: then.Add(30 * time.Minute), Now: now}
	var file bytes.Buffer
	if _, _, err := x.Write(t.Context(), &file); err != nil {
		t.Fatal(err)
	}
	target := memory.New()
	info, header, _, err := importer(t, target).Read(t.Context(), &file)
	if err != nil || header.At == nil || !header.At.Equal(x.At) {
		t.Fatalf("%+v, %v", header, err)
	}
	for group, log := range kubestorage.NewLogs(target, info.Partition(), func(string) tablelog.Options { return tablelog.Options{} }) {
		s, err := log.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[group], objects(t, s)); diff != "" {
			t.Errorf("log %s (-want +got):\n%s", group, diff)
		}
	}
	// What is compacted is refused, and the oldest time named.
	s, err := logs.Of(pods).Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := logs.Of(pods).Compact(t.Context(), s.Rev, 100); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Time]string{
		x.At:                                "the oldest time that can be had is " + now.UTC().Add(999*time.Millisecond).Truncate(time.Second).Format(time.RFC3339),
		born.Info.Created.Add(-time.Second): "the cluster was created at",
		now.Add(time.Second):                "it is in the future",
	} {
		x.At = at
		if _, _, err := x.Write(t.Context(), io.Discard); !errors.Is(err, snapshot.ErrTooOld) || !strings.Contains(err.Error(), want) {
			t.Errorf("at %s: %v, want %q", at, err, want)
		}
	}
}

// awaitChanges waits until others have written some.
func awaitChanges(t *testing.T, logs kubestorage.Logs) {
	t.Helper()
	const some = 50
	written := func() (sum uint64) {
		for _, group := range kubestorage.Groups {
			state, err := logs[group].Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sum += state.Rev
		}
		return sum
	}
	before := written()
	for deadline := time.Now().Add(time.Minute); written() < before+some; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("fewer than %d changes in a minute", some)
		}
	}
}
