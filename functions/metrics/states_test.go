package metrics

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/core/autoscaling"
)

var then = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func recommended(n int32) autoscaling.State {
	return autoscaling.State{Recommendations: []autoscaling.Recommendation{{Replicas: n, At: then}}}
}

// decided reads what was decided about autoscalers, and decides on a number of replicas.
func decided(t *testing.T, s states, replicas int32, uids ...types.UID) []kept {
	t.Helper()
	var out []kept
	for _, uid := range uids {
		k, err := s.get(t.Context(), uid)
		if err != nil {
			t.Fatal(err)
		}
		k.after = recommended(replicas)
		out = append(out, *k)
	}
	return out
}

func TestWhatAnotherInstanceDecidedStands(t *testing.T) {
	store := contract.NewCounting(memory.New())
	s := states{store: store, partition: "p"}
	if err := s.put(t.Context(), decided(t, s, 1, "a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	if n := store.Commits.Load(); n != 1 {
		t.Errorf("3 autoscalers take %d transactions, want 1", n)
	}
	mine := decided(t, s, 2, "a", "b", "c", "new")
	if err := s.put(t.Context(), decided(t, s, 3, "b", "new")); err != nil {
		t.Fatal(err)
	}
	if err := s.put(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	got := map[types.UID]int32{}
	for _, uid := range []types.UID{"a", "b", "c", "new"} {
		k, err := s.get(t.Context(), uid)
		if err != nil {
			t.Fatal(err)
		}
		got[uid] = k.before.Recommendations[0].Replicas
	}
	if diff := cmp.Diff(map[types.UID]int32{"a": 2, "b": 3, "c": 2, "new": 3}, got); diff != "" {
		t.Errorf("what was decided last (-want +got):\n%s", diff)
	}
}

func TestWhatHasNotChangedIsNotWritten(t *testing.T) {
	store := contract.NewCounting(memory.New())
	s := states{store: store, partition: "p"}
	for range 3 {
		if err := s.put(t.Context(), decided(t, s, 1, "a")); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.Commits.Load(); n != 1 {
		t.Errorf("%d transactions, want 1", n)
	}
}

func TestAStateThatCannotBeReadIsALostOne(t *testing.T) {
	s := states{store: memory.New(), partition: "p"}
	row := table.Op{Kind: table.Insert, Key: stateKey("a"), Value: []byte("{")}
	if err := s.store.Commit(t.Context(), s.partition, []table.Op{row}); err != nil {
		t.Fatal(err)
	}
	if err := s.put(t.Context(), decided(t, s, 4, "a")); err != nil {
		t.Fatal(err)
	}
	k, err := s.get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recommended(4), k.before); diff != "" {
		t.Errorf("it is not written over (-want +got):\n%s", diff)
	}
	if err := s.remove(t.Context(), []types.UID{"a", "a"}); err != nil {
		t.Errorf("removing it twice: %v", err)
	}
}

func TestRowsThatNobodyCanHaveWrittenAreFound(t *testing.T) {
	for name, test := range map[string]struct {
		key, value string
		fine       bool
	}{
		"a state":                     {"h-1", `{"recommendations":[{"replicas":3,"at":"2026-11-24T12:00:00Z"}]}`, true},
		"a node's row":                {"n-n1", `{"node":{"t":1,"w":1,"cpu":1}}`, true},
		"external metrics":            {"x-00", `{"series":[]}`, true},
		"a damaged state":             {"h-1", `{"recommendations":3}`, false},
		"a damaged node's row":        {"n-n1", `{"pods":3}`, false},
		"a value that is none":        {"x-00", `{"series":[{"name":"m","v":"much"}]}`, false},
		"a metric in another's row":   {"x-zz", `{"series":[{"name":"m","v":"1"}]}`, false},
		"a key of no kind":            {"z-1", `{}`, false},
		"external metrics cut in two": {"x-00", `{"series":[{"na`, false},
	} {
		if err := CheckRow(table.Row{Key: test.key, Value: []byte(test.value)}); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}
