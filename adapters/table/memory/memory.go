// Package memory is a table store in memory, for tests and for clusters that need not last.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/google/btree"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const treeDegree = 32

// Store is a table store in memory.
type Store struct {
	mu         sync.RWMutex
	partitions map[string]*btree.BTreeG[table.Row]
	version    uint64
}

var (
	_ table.Store  = (*Store)(nil)
	_ table.Lister = (*Store)(nil)
)

// New returns an empty store.
func New() *Store {
	return &Store{partitions: map[string]*btree.BTreeG[table.Row]{}}
}

func byKey(a, b table.Row) bool { return a.Key < b.Key }

// Get implements table.Store.
func (s *Store) Get(_ context.Context, partition, key string) (table.Row, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.partitions[partition]; t != nil {
		if row, ok := t.Get(table.Row{Key: key}); ok {
			return row, nil
		}
	}
	return table.Row{}, fmt.Errorf("row %q of partition %q: %w", key, partition, table.ErrNotFound)
}

// Partitions implements table.Lister.
func (s *Store) Partitions(_ context.Context, after string) ([]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for name, t := range s.partitions {
		if name > after && t.Len() > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), table.MaxPage)], nil
}

// Range implements table.Store.
func (s *Store) Range(_ context.Context, partition string, q table.Query) (table.Page, error) {
	limit := q.Limit
	if limit <= 0 || limit > table.MaxPage {
		limit = table.MaxPage
	}
	from := q.From
	if q.Continue != "" {
		from = q.Continue
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var page table.Page
	t := s.partitions[partition]
	if t == nil {
		return page, nil
	}
	t.AscendRange(table.Row{Key: from}, table.Row{Key: q.To}, func(row table.Row) bool {
		if len(page.Rows) == limit {
			page.Next = row.Key
			return false
		}
		page.Rows = append(page.Rows, row)
		return true
	})
	return page, nil
}

// Commit implements table.Store.
func (s *Store) Commit(_ context.Context, partition string, ops []table.Op) error {
	if err := table.ValidateCommit(partition, ops); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.partitions[partition]
	if t == nil {
		t = btree.NewG(treeDegree, byKey)
		s.partitions[partition] = t
	}
	for i, op := range ops {
		row, exists := t.Get(table.Row{Key: op.Key})
		if err := table.Check(op, row.ETag, exists); err != nil {
			return &table.ConflictError{Index: i, Key: op.Key, Err: err}
		}
	}
	s.version++
	etag := strconv.FormatUint(s.version, 10)
	for _, op := range ops {
		if op.Kind == table.Delete {
			t.Delete(table.Row{Key: op.Key})
			continue
		}
		t.ReplaceOrInsert(table.Row{Key: op.Key, Value: append([]byte(nil), op.Value...), ETag: etag})
	}
	return nil
}
