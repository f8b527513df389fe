package azure

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// ErrCosmos is wrapped by Open's error for a table that is not Azure Table Storage's.
var ErrCosmos = errors.New("Azure Cosmos DB's Table API, which cannot hold clusters: its queries do not return rows in key order, " + //nolint:staticcheck // a name
	"a row key ends at 255 bytes and a transaction at 2 MB; use a storage account")

// isCosmos tells Cosmos DB by the names of its hosts; those behind other names, checkOrder tells.
func isCosmos(host string) bool {
	host = strings.ToLower(host)
	return strings.Contains(host, ".table.cosmos.") || strings.Contains(host, ".table.cosmosdb.") || strings.Contains(host, ".documents.azure.")
}

const (
	// storePartition holds what is said of the table as a whole.
	storePartition = "_store"
	// checkedKey is the row that says that the table was seen to be in key order. Its value is the version
	// of how rows are mapped to entities.
	checkedKey = "checked"
	// mapping is the only version there is.
	mapping = 1
	// scratch starts the name of a partition that is used once, to look at the order of rows.
	scratch = "_check-"
)

// ErrNoTable is wrapped by Open's error for a table that is missing, or not zeroplane's, where it must exist.
var ErrNoTable = errors.New("there is no such table of zeroplane")

// Open returns the store in a table, which it makes when it is missing. It sends one request, a read of one row,
// unless the table is new: then it makes it and looks whether it is in key order. It fails with ErrCosmos,
// with ErrNoTable, with table.ErrCorrupt for a table of another version of zeroplane, and otherwise with what went wrong.
func Open(ctx context.Context, o Options) (*Store, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("opening an Azure table: %w", err)
	}
	s := &Store{table: o.Table}
	service, err := o.connect(wire{s})
	if err != nil {
		return nil, fmt.Errorf("opening table %s at %s: %w", o.Table, o.Endpoint, err)
	}
	s.service, s.client = service, service.NewClient(o.Table)
	if err := s.prepare(ctx, o.Existing); err != nil {
		return nil, fmt.Errorf("opening table %s at %s: %w", o.Table, o.Endpoint, err)
	}
	return s, nil
}

// prepare makes sure that the table is there and is in key order.
func (s *Store) prepare(ctx context.Context, existing bool) error {
	row, err := s.Get(ctx, storePartition, checkedKey)
	switch {
	case err == nil:
		if len(row.Value) != 1 || row.Value[0] != mapping {
			return fmt.Errorf("%w: it was made by another version of zeroplane", table.ErrCorrupt)
		}
		return nil
	case errors.Is(err, errNoTable) && existing:
		return ErrNoTable
	case errors.Is(err, errNoTable):
		if err := s.create(ctx); err != nil {
			return err
		}
	case !errors.Is(err, table.ErrNotFound):
		return err
	case existing:
		return fmt.Errorf("%w: it is a table of something else", ErrNoTable)
	}
	if err := s.checkOrder(ctx); err != nil {
		return err
	}
	return s.Commit(ctx, storePartition, []table.Op{{Kind: table.Put, Key: checkedKey, Value: []byte{mapping}}})
}

// create makes the table. Another instance may do so at the same time, and so may an attempt of one's own
// whose reply was lost.
func (s *Store) create(ctx context.Context) error {
	return s.retry(ctx, "creating the table", mayPass, func(ctx context.Context) error {
		_, err := s.service.CreateTable(ctx, s.table, nil)
		err = failure(err)
		if e, ok := errors.AsType[*Error](err); ok && e.Code == "TableAlreadyExists" {
			return nil
		}
		return err
	})
}

// checkOrder writes rows out of order, one of them with the longest of keys, reads them in pages, and removes
// them: Cosmos DB does not sort, and refuses such a key.
func (s *Store) checkOrder(ctx context.Context) error {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("naming a partition: %w", err)
	}
	partition := scratch + hex.EncodeToString(id[:])
	keys := []string{"m", "c", "~", "C", "a-2", strings.Repeat("k", table.MaxKeyBytes), "a-10", "0", "z", "a"}
	ops := make([]table.Op, len(keys))
	for i, key := range keys {
		ops[i] = table.Op{Kind: table.Insert, Key: key}
	}
	if err := s.Commit(ctx, partition, ops); err != nil {
		if errors.Is(err, table.ErrInvalid) {
			return fmt.Errorf("it refuses rows that Azure Table Storage takes (%w); it may be %w", err, ErrCosmos)
		}
		return fmt.Errorf("checking the order of rows: %w", err)
	}
	var read []string
	remove := make([]table.Op, 0, len(keys))
	err := table.All(ctx, s, partition, table.Query{To: "~~", Limit: 4}, func(row table.Row) bool {
		read = append(read, row.Key)
		remove = append(remove, table.Op{Kind: table.Delete, Key: row.Key, ETag: row.ETag})
		return len(read) < 2*len(keys)
	})
	if err != nil {
		return fmt.Errorf("checking the order of rows: %w", err)
	}
	slices.Sort(keys)
	if !slices.Equal(read, keys) {
		err = fmt.Errorf("it does not return rows in key order; it may be %w", ErrCosmos)
	}
	if len(remove) == 0 || len(remove) > len(keys) {
		return err
	}
	return errors.Join(err, s.Commit(ctx, partition, remove))
}
