package localhost

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/core/plan"
)

var errTrouble = errors.New("the store has trouble")

// troubled is a store that fails for a while from when something is done to a partition of nodes.
type troubled struct {
	table.Store
	// reads and commits are how many are yet to fail.
	reads, commits atomic.Int64
}

func (s *troubled) fails(left *atomic.Int64, partition string) error {
	if strings.HasSuffix(partition, "|"+kubestorage.GroupOf(plan.Nodes.GroupResource())) && left.Add(-1) >= 0 {
		return errTrouble
	}
	return nil
}

func (s *troubled) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if err := s.fails(&s.reads, partition); err != nil {
		return table.Page{}, err
	}
	return s.Store.Range(ctx, partition, q)
}

func (s *troubled) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if err := s.fails(&s.commits, partition); err != nil {
		return err
	}
	return s.Store.Commit(ctx, partition, ops)
}

// TestAStartWaitsUntilTheStoreIsWell: the simulated nodes are there in the end, each once.
func TestAStartWaitsUntilTheStoreIsWell(t *testing.T) {
	t.Setenv(SealKeyEnv, "")
	for name, trouble := range map[string]func(*troubled){
		"reads": func(s *troubled) { s.reads.Store(3) }, "commits": func(s *troubled) { s.commits.Store(3) },
	} {
		t.Run(name, func(t *testing.T) {
			const nodes = 3
			store, dir := &troubled{Store: memorytable.New()}, t.TempDir()
			_, stop := serve(t, Options{Data: dir, MaxAwake: 1, Store: lent(store)}) // the cluster is made
			stop()
			trouble(store)
			h, _ := serve(t, Options{Data: dir, MaxAwake: 1, SimulateNodes: nodes, Store: lent(store)})
			if store.reads.Load() > 0 || store.commits.Load() > 0 {
				t.Errorf("the store had no trouble: %d reads and %d commits are yet to fail", store.reads.Load(), store.commits.Load())
			}
			list, err := admin(t, h, h).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
			if err != nil || len(list.Items) != nodes {
				t.Errorf("%d nodes, %v", len(list.Items), err)
			}
		})
	}
}

func TestAStartIsGivenUpWhereWaitingIsOfNoUse(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for name, tt := range map[string]struct {
		ctx      context.Context
		err      error
		patience time.Duration
	}{
		"damage":        {t.Context(), fmt.Errorf("row: %w", table.ErrCorrupt), time.Hour},
		"told to stop":  {ended, errTrouble, time.Hour},
		"no patience":   {t.Context(), errTrouble, firstPause / 2},
		"host is ended": {t.Context(), errStopping, time.Hour},
	} {
		calls := 0
		err := persist(tt.ctx, tt.patience, func(context.Context) error { calls++; return tt.err })
		if calls != 1 || !errors.Is(err, tt.err) {
			t.Errorf("%s: %d attempts, %v", name, calls, err)
		}
	}
}
