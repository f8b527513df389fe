package contract

import (
	"context"
	"sync/atomic"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Counting is a store that counts what is asked of it.
type Counting struct {
	table.Store
	// Gets, Ranges and Commits are calls; Rows are those read in pages and written.
	Gets, Ranges, Commits, Read, Written atomic.Int64
}

// NewCounting returns a store that counts.
func NewCounting(s table.Store) *Counting { return &Counting{Store: s} }

// Queries are the calls that read.
func (c *Counting) Queries() int64 { return c.Gets.Load() + c.Ranges.Load() }

// Get implements table.Store.
func (c *Counting) Get(ctx context.Context, partition, key string) (table.Row, error) {
	c.Gets.Add(1)
	return c.Store.Get(ctx, partition, key)
}

// Range implements table.Store.
func (c *Counting) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	c.Ranges.Add(1)
	page, err := c.Store.Range(ctx, partition, q)
	c.Read.Add(int64(len(page.Rows)))
	return page, err
}

// Commit implements table.Store.
func (c *Counting) Commit(ctx context.Context, partition string, ops []table.Op) error {
	c.Commits.Add(1)
	c.Written.Add(int64(len(ops)))
	return c.Store.Commit(ctx, partition, ops)
}
