package instances

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// broken is a store that breaks a promise of the port.
type broken struct {
	table.Store
	commit func(ctx context.Context, s table.Store, partition string, ops []table.Op) error
	page   func(q table.Query, p table.Page) table.Page
	// hidden rows are not found.
	hidden func(key string) bool
}

// Get implements table.Store.
func (b *broken) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if b.hidden != nil && b.hidden(key) {
		return table.Row{}, table.ErrNotFound
	}
	return b.Store.Get(ctx, partition, key)
}

// Range implements table.Store.
func (b *broken) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	p, err := b.Store.Range(ctx, partition, q)
	if err == nil && b.page != nil {
		p = b.page(q, p)
	}
	return p, err
}

// Commit implements table.Store.
func (b *broken) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if b.commit != nil {
		return b.commit(ctx, b.Store, partition, ops)
	}
	return b.Store.Commit(ctx, partition, ops)
}

// sometimes is one time in n.
func sometimes(n int) bool { return rand.IntN(n) == 0 }

func isLog(key string) bool    { return strings.HasPrefix(key, "l-") }
func isObject(key string) bool { return strings.HasPrefix(key, "o-") }

// altered returns operations with a change to each.
func altered(ops []table.Op, alter func(*table.Op)) []table.Op {
	out := append([]table.Op(nil), ops...)
	for i := range out {
		alter(&out[i])
	}
	return out
}

// without returns the operations that are not left out.
func without(ops []table.Op, leaveOut func(table.Op) bool) []table.Op {
	var out []table.Op
	for _, op := range ops {
		if !leaveOut(op) {
			out = append(out, op)
		}
	}
	return out
}

func upsert(op *table.Op) {
	if op.Kind == table.Insert {
		op.Kind = table.Put
	}
}

var errReplyLost = errors.New("the reply was lost")

// tailOf reports whether a query reads the log after a revision.
func tailOf(q table.Query) bool { return isLog(q.From) && q.Limit == 0 }

// brokenStores break one protective step of the store each.
var brokenStores = map[string]broken{
	"a log row is put, not inserted, so that two writers take one revision": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			return s.Commit(ctx, partition, altered(ops, upsert))
		},
	},
	"a conflict with another's row is hidden: the rest of the transaction is applied": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			err := s.Commit(ctx, partition, ops)
			if conflict, ok := errors.AsType[*table.ConflictError](err); ok {
				rest := without(ops, func(op table.Op) bool { return op.Key == conflict.Key })
				if len(rest) > 0 {
					_ = s.Commit(ctx, partition, rest)
				}
				return nil
			}
			return err
		},
	},
	"a transaction is two, with a crash between: log rows first": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			logs := without(ops, func(op table.Op) bool { return isObject(op.Key) })
			rest := without(ops, func(op table.Op) bool { return !isObject(op.Key) })
			if err := s.Commit(ctx, partition, logs); err != nil || len(rest) == 0 {
				return err
			}
			if sometimes(20) {
				return errReplyLost
			}
			return s.Commit(ctx, partition, rest)
		},
	},
	"a transaction is two, with a crash between: object rows first": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			logs := without(ops, func(op table.Op) bool { return isObject(op.Key) })
			rest := without(ops, func(op table.Op) bool { return !isObject(op.Key) })
			if len(rest) > 0 {
				if err := s.Commit(ctx, partition, rest); err != nil {
					return err
				}
			}
			if sometimes(20) {
				return errReplyLost
			}
			return s.Commit(ctx, partition, logs)
		},
	},
	"a lost request is reported as success": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			if sometimes(20) {
				return nil
			}
			return s.Commit(ctx, partition, ops)
		},
	},
	"a lost request is sent again blindly, over what others wrote meanwhile": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			if sometimes(4) {
				time.Sleep(2 * time.Millisecond)
				return s.Commit(ctx, partition, altered(ops, upsert))
			}
			return s.Commit(ctx, partition, ops)
		},
	},
	"a tail misses the newest row": {
		page: func(q table.Query, p table.Page) table.Page {
			if tailOf(q) && len(p.Rows) > 0 && sometimes(4) {
				p.Rows = p.Rows[1:]
			}
			return p
		},
	},
	"the head lags, and scans of objects with it": {
		page: func(q table.Query, p table.Page) table.Page {
			if isLog(q.From) && len(p.Rows) > 1 && sometimes(2) {
				p.Rows = p.Rows[1:]
			}
			return p
		},
	},
	"a tail has a gap": {
		page: func(q table.Query, p table.Page) table.Page {
			if n := len(p.Rows); tailOf(q) && n > 2 && sometimes(4) {
				p.Rows = append(append([]table.Row(nil), p.Rows[:n/2]...), p.Rows[n/2+1:]...)
			}
			return p
		},
	},
	"a page of a scan is dropped": {
		page: func(q table.Query, p table.Page) table.Page {
			if isObject(q.From) && sometimes(3) {
				p.Rows = nil
			}
			return p
		},
	},
	"a log row is not what the object row is": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			return s.Commit(ctx, partition, altered(ops, func(op *table.Op) {
				if isLog(op.Key) && sometimes(20) {
					op.Value = bytes.ReplaceAll(op.Value, []byte("op-0"), []byte("op-9"))
				}
			}))
		},
	},
	"an object row is not written": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			return s.Commit(ctx, partition, without(ops, func(op table.Op) bool {
				return isObject(op.Key) && op.Kind == table.Put && sometimes(20)
			}))
		},
	},
	"an object row is not deleted": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			return s.Commit(ctx, partition, without(ops, func(op table.Op) bool {
				return isObject(op.Key) && op.Kind == table.Delete && sometimes(10)
			}))
		},
	},
	"what compaction left is not known": {hidden: func(key string) bool { return key == "m-floor" }},
	"log rows go that are still kept": {
		commit: func(ctx context.Context, s table.Store, partition string, ops []table.Op) error {
			err := s.Commit(ctx, partition, ops)
			for _, op := range ops {
				if err == nil && op.Kind == table.Insert && isLog(op.Key) && sometimes(40) {
					// Once it was read by the one who knows, and before it could be compacted.
					time.AfterFunc(compactAfter/2, func() {
						_ = s.Commit(context.Background(), partition, []table.Op{{Kind: table.Delete, Key: op.Key, ETag: table.Any}})
					})
				}
			}
			return err
		},
	},
}

// attempts at a mutant, and how long each is: most are seen in the first.
const (
	attempts      = 6
	attemptLength = time.Second
)

func TestABrokenStoreIsCaught(t *testing.T) {
	for name, b := range brokenStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			through := func(s table.Store) table.Store {
				b := b
				b.Store = s
				return &b
			}
			for range attempts {
				if _, r := attempt(t, attemptLength, options{seed: seed(t), instances: 3}, through); len(r.Violations) > 0 {
					t.Logf("caught, %d times: %v", len(r.Violations), r.Violations[0])
					return
				}
			}
			t.Error("it survives")
		})
	}
}

// TestMain keeps what instances say of a store that cannot be reached out of the output.
func TestMain(m *testing.M) {
	quiet()
	os.Exit(m.Run())
}
