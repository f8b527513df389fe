package azure

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Store is a table store in one table of Azure Table Storage.
type Store struct {
	table    string
	service  *aztables.ServiceClient
	client   *aztables.Client
	counters counters
}

var _ table.Store = (*Store)(nil)

// Get implements table.Store.
func (s *Store) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if !possible(partition) || !possible(key) {
		// The service would not know what to make of such a key, and cannot hold it.
		return table.Row{}, fmt.Errorf("row %q of partition %q: %w", key, partition, table.ErrNotFound)
	}
	var row table.Row
	err := s.retry(ctx, fmt.Sprintf("reading row %q of partition %q", key, partition), mayPass, func(ctx context.Context) error {
		ctx, answer := withAnswer(ctx, 0)
		if _, err := s.client.GetEntity(ctx, partition, key, nil); err != nil {
			return notFound(failure(err))
		}
		var err error
		row, err = decodeEntity(answer.body)
		return err
	})
	if err != nil {
		return table.Row{}, err
	}
	s.counters.rowsRead.Add(1)
	return row, nil
}

// possible reports whether a row can have the key.
func possible(key string) bool { return table.ValidateKey(key) == nil }

// continuation separates the two parts of where a query goes on; neither can hold it, as they travel in headers.
const continuation = "\n"

// Range implements table.Store.
func (s *Store) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if q.From >= q.To || !possible(partition) {
		return table.Page{}, nil
	}
	limit := q.Limit
	if limit <= 0 || limit > table.MaxPage {
		limit = table.MaxPage
	}
	top, filter := int32(limit), rangeFilter(partition, q.From, q.To)
	options := &aztables.ListEntitiesOptions{Filter: &filter, Top: &top}
	if q.Continue != "" {
		nextPartition, nextRow, ok := strings.Cut(q.Continue, continuation)
		if !ok {
			return table.Page{}, fmt.Errorf("%w: %q is no continuation of a range", table.ErrInvalid, q.Continue)
		}
		// The second part may be missing, and then must not be sent.
		options.NextPartitionKey = &nextPartition
		if nextRow != "" {
			options.NextRowKey = &nextRow
		}
	}
	var page table.Page
	err := s.retry(ctx, fmt.Sprintf("reading partition %q", partition), mayPass, func(ctx context.Context) error {
		ctx, answer := withAnswer(ctx, 0)
		resp, err := s.client.NewListEntitiesPager(options).NextPage(ctx)
		if err != nil {
			return failure(err)
		}
		page = table.Page{Next: next(resp.NextPartitionKey, resp.NextRowKey)}
		page.Rows, err = decodePage(answer.body)
		return err
	})
	if err != nil {
		return table.Page{}, err
	}
	s.counters.rowsRead.Add(uint64(len(page.Rows)))
	return page, nil
}

func next(partition, row *string) string {
	var p, r string
	if partition != nil {
		p = *partition
	}
	if row != nil {
		r = *row
	}
	if p == "" && r == "" {
		return ""
	}
	return p + continuation + r
}

func rangeFilter(partition, from, to string) string {
	filter := "PartitionKey eq '" + quote(partition) + "' and RowKey lt '" + quote(bound(to)) + "'"
	if from != "" {
		filter += " and RowKey ge '" + quote(bound(from)) + "'"
	}
	return filter
}

func quote(s string) string { return strings.ReplaceAll(s, "'", "''") }

// bound returns a string that divides the keys that there can be as s does, without bytes that no key has: the
// service compares text.
func bound(s string) string {
	for i := range len(s) {
		switch {
		case s[i] < ' ':
			return s[:i] + " "
		case s[i] > '~':
			return s[:i] + "\u00ff"
		}
	}
	return s
}

// Commit implements table.Store. An error that wraps neither a *table.ConflictError nor table.ErrInvalid wraps
// ErrOutcomeUnknown where the transaction may have been applied; after any other nothing was.
func (s *Store) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if err := table.ValidateCommit(partition, ops); err != nil {
		return err
	}
	send := s.transaction(partition, ops)
	if len(ops) == 1 {
		send = s.single(partition, ops[0])
	}
	err := s.retry(ctx, fmt.Sprintf("committing to partition %q", partition), neverApplied, func(ctx context.Context) error {
		s.counters.commits.Add(1)
		return conflict(failure(send(ctx)), ops)
	})
	if err != nil {
		if mayBeApplied(err) {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return err
	}
	s.counters.rowsWritten.Add(uint64(len(ops)))
	return nil
}

// transaction returns what sends the operations as one entity group transaction.
func (s *Store) transaction(partition string, ops []table.Op) func(context.Context) error {
	actions := make([]aztables.TransactionAction, len(ops))
	for i, op := range ops {
		a := aztables.TransactionAction{Entity: encode(partition, op.Key, op.Value)}
		switch op.Kind {
		case table.Insert:
			a.ActionType = aztables.TransactionTypeAdd
		case table.Put:
			a.ActionType = aztables.TransactionTypeInsertReplace
		case table.Update:
			a.ActionType, a.IfMatch = aztables.TransactionTypeUpdateReplace, ifMatch(op.ETag)
		case table.Delete:
			a.ActionType, a.IfMatch = aztables.TransactionTypeDelete, ifMatch(op.ETag)
			a.Entity = encode(partition, op.Key, nil)
		}
		actions[i] = a
	}
	return func(ctx context.Context) error {
		ctx, _ = withAnswer(ctx, len(ops))
		_, err := s.client.SubmitTransaction(ctx, actions, nil)
		return err
	}
}

// single returns what sends one operation, which needs no transaction to be atomic.
func (s *Store) single(partition string, op table.Op) func(context.Context) error {
	entity := encode(partition, op.Key, op.Value)
	return func(ctx context.Context) error {
		var err error
		switch op.Kind {
		case table.Insert:
			_, err = s.client.AddEntity(ctx, entity, nil)
		case table.Put:
			_, err = s.client.UpsertEntity(ctx, entity, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
		case table.Update:
			_, err = s.client.UpdateEntity(ctx, entity, &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeReplace, IfMatch: ifMatch(op.ETag)})
		case table.Delete:
			_, err = s.client.DeleteEntity(ctx, partition, op.Key, &aztables.DeleteEntityOptions{IfMatch: ifMatch(op.ETag)})
		}
		return err
	}
}

// noVersion has the form of an ETag of the service, and is that of no row.
const noVersion = `W/"datetime'1601-01-01T00%3A00%3A00.0000000Z'"`

// ifMatch returns the condition for a version. An ETag that the service cannot have given is that of no row; the
// service would refuse the request for its form. The SDK takes none at all for any, so it is never nil.
func ifMatch(etag string) *azcore.ETag {
	tag := azcore.ETag(etag)
	if etag != table.Any && (!strings.HasPrefix(etag, `W/"`) || !strings.HasSuffix(etag, `"`)) {
		tag = noVersion
	}
	return &tag
}

// conflict returns a transaction's failure as the port's.
func conflict(err error, ops []table.Op) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	if e.refused() {
		return fmt.Errorf("%w: %w", table.ErrInvalid, err)
	}
	index := e.index
	if len(ops) == 1 {
		index = 0
	}
	why := e.conflict()
	if why == nil || index < 0 || index >= len(ops) {
		return err
	}
	return &table.ConflictError{Index: index, Key: ops[index].Key, Err: why}
}

// notFound returns a read's failure as the port's.
func notFound(err error) error {
	e, ok := errors.AsType[*Error](err)
	if ok && errors.Is(e.conflict(), table.ErrNotFound) {
		return table.ErrNotFound
	}
	return err
}
