// Package table is the port to the database: rows in partitions, read by key order and committed in
// small transactions. It promises no more than Azure Table Storage gives, so that every adapter can
// keep it (docs/row-schema.md):
//
//   - a transaction touches one partition, at most MaxOps rows and MaxCommitBytes, each row once;
//   - every row carries an ETag that changes with each write;
//   - a page of a range may be short, or empty, and still have a continuation;
//   - pages of one range are not one snapshot.
//
// Adapters: memory (tests), pebble (one machine), azure (Azure Table Storage).
package table

import (
	"context"
	"errors"
	"fmt"
)

// Limits that every adapter enforces. They are Azure Table Storage's, less what its wire format
// adds: values travel in base64, four bytes for three, inside a multipart body.
const (
	// MaxOps is the number of rows in one transaction.
	MaxOps = 100
	// MaxRowBytes is the size of a row's value: 1 MiB less keys, names and types of properties.
	MaxRowBytes = 960 << 10
	// MaxCommitBytes is the sum of the values in a transaction: 4 MiB of wire, in base64.
	MaxCommitBytes = 2900 << 10
	// MaxKeyBytes is the length of a row key or a partition key.
	MaxKeyBytes = 512
	// MaxPage is the number of rows in one page.
	MaxPage = 1000
)

var (
	// ErrNotFound is returned by Get, and wrapped by a ConflictError whose row does not exist.
	ErrNotFound = errors.New("row not found")
	// ErrExists is wrapped by a ConflictError whose inserted row exists already.
	ErrExists = errors.New("row exists")
	// ErrChanged is wrapped by a ConflictError whose row has another ETag.
	ErrChanged = errors.New("row has changed")
	// ErrInvalid is wrapped by errors about requests that no table could accept: too many rows, too
	// large, a row twice, a key with a forbidden character, an update or delete without an ETag.
	ErrInvalid = errors.New("invalid table request")
	// ErrCorrupt is wrapped by errors about data that cannot be what was written.
	ErrCorrupt = errors.New("corrupt data")
)

// ConflictError says which operation of a transaction failed, and so that nothing was written.
type ConflictError struct {
	// Index of the operation in the transaction.
	Index int
	// Key of its row.
	Key string
	// Err is ErrExists, ErrChanged or ErrNotFound.
	Err error
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("operation %d on row %q: %v", e.Index, e.Key, e.Err)
}

func (e *ConflictError) Unwrap() error { return e.Err }

// Any as the ETag of an update or a delete means whatever version the row has; the row must exist.
const Any = "*"

// Row is one row of a partition.
type Row struct {
	Key   string
	Value []byte
	ETag  string
}

// Query selects the rows From <= key < To.
type Query struct {
	From, To string
	// Limit on the rows of a page; 0 or more than MaxPage means MaxPage.
	Limit int
	// Continue is the Next of the page before, empty for the first.
	Continue string
}

// Page is a part of a range, in key order. Next is empty on the last page only.
type Page struct {
	Rows []Row
	Next string
}

// OpKind is what an operation does to its row.
type OpKind uint8

// The operations of a transaction.
const (
	// Insert fails with ErrExists when the row exists.
	Insert OpKind = iota + 1
	// Put writes the row whether it exists or not.
	Put
	// Update writes the row if it has the ETag.
	Update
	// Delete removes the row if it has the ETag.
	Delete
)

// Op is one operation of a transaction.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte
	// ETag that Update and Delete require; Any or a version, never empty.
	ETag string
	// Exists says of a Delete of Any version that the row is there if the transaction's other operations can be
	// applied, so that a store need not look.
	Exists bool
}

// Store is a database of partitions.
type Store interface {
	// Get returns a row, or ErrNotFound.
	Get(ctx context.Context, partition, key string) (Row, error)
	// Range returns one page of a range.
	Range(ctx context.Context, partition string, q Query) (Page, error)
	// Commit makes all operations durable together, or none. It fails with a *ConflictError, with
	// ErrInvalid, or with an error after which the outcome is unknown.
	Commit(ctx context.Context, partition string, ops []Op) error
}

// Lister is what a store can do beside the port, if it can: an operator's check looks for partitions that
// belong to nobody. Nothing that serves requests needs it.
type Lister interface {
	// Partitions returns names of partitions that have rows, in their order, the first ones after a name;
	// none if there are no more.
	Partitions(ctx context.Context, after string) ([]string, error)
}

// ValidateCommit returns an ErrInvalid for a transaction that Azure Table Storage would refuse.
func ValidateCommit(partition string, ops []Op) error {
	if err := ValidateKey(partition); err != nil {
		return fmt.Errorf("partition: %w", err)
	}
	if len(ops) == 0 || len(ops) > MaxOps {
		return fmt.Errorf("%w: %d rows in a transaction, 1 to %d are allowed", ErrInvalid, len(ops), MaxOps)
	}
	total := 0
	seen := make(map[string]struct{}, len(ops))
	for i, op := range ops {
		if err := validateOp(op); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		if _, twice := seen[op.Key]; twice {
			return fmt.Errorf("%w: row %q occurs twice in a transaction", ErrInvalid, op.Key)
		}
		seen[op.Key] = struct{}{}
		total += len(op.Value)
	}
	if total > MaxCommitBytes {
		return fmt.Errorf("%w: %d bytes in a transaction, %d are allowed", ErrInvalid, total, MaxCommitBytes)
	}
	return nil
}

func validateOp(op Op) error {
	if err := ValidateKey(op.Key); err != nil {
		return err
	}
	if len(op.Value) > MaxRowBytes {
		return fmt.Errorf("%w: row %q has %d bytes, %d are allowed", ErrInvalid, op.Key, len(op.Value), MaxRowBytes)
	}
	switch op.Kind {
	case Insert, Put:
		return nil
	case Update, Delete:
		if op.ETag == "" {
			return fmt.Errorf("%w: row %q is updated or deleted without an ETag", ErrInvalid, op.Key)
		}
		return nil
	default:
		return fmt.Errorf("%w: unknown operation %d", ErrInvalid, op.Kind)
	}
}

// ValidateKey returns an ErrInvalid for a key that Azure Table Storage would refuse or that is
// known to trouble its clients.
func ValidateKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: key of %d bytes, 1 to %d are allowed", ErrInvalid, len(key), MaxKeyBytes)
	}
	for i := range len(key) {
		switch c := key[i]; {
		case c < 0x20, c >= 0x7f, c == '/', c == '\\', c == '#', c == '?', c == '\'':
			return fmt.Errorf("%w: key %q has the forbidden byte %#x", ErrInvalid, key, c)
		}
	}
	return nil
}

// All calls yield for every row of a range, page by page, until it returns false.
func All(ctx context.Context, s Store, partition string, q Query, yield func(Row) bool) error {
	for {
		page, err := s.Range(ctx, partition, q)
		if err != nil {
			return err
		}
		for _, row := range page.Rows {
			if !yield(row) {
				return nil
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Continue = page.Next
	}
}

// maxRepeats of a transaction whose outcome stays unknown.
const maxRepeats = 4

// Repeat commits a transaction that may be applied twice or late: it is sent again, a few times, while its outcome is
// unknown. A repetition may meet what an earlier one did, so a Delete may fail with ErrNotFound after it was done.
func Repeat(ctx context.Context, s Store, partition string, ops []Op) error {
	for attempt := 1; ; attempt++ {
		err := s.Commit(ctx, partition, ops)
		if err == nil || !OutcomeUnknown(err) || attempt == maxRepeats || ctx.Err() != nil {
			return err
		}
	}
}

// OutcomeUnknown reports whether a transaction that failed with err may have been applied, or may yet be.
func OutcomeUnknown(err error) bool {
	var conflict *ConflictError
	return err != nil && !errors.As(err, &conflict) && !errors.Is(err, ErrInvalid)
}

// Check returns why an operation cannot be applied to a row that exists or not, nil if it can.
func Check(op Op, etag string, exists bool) error {
	switch op.Kind {
	case Insert:
		if exists {
			return ErrExists
		}
	case Update, Delete:
		if !exists {
			return ErrNotFound
		}
		if op.ETag != Any && op.ETag != etag {
			return ErrChanged
		}
	case Put:
	}
	return nil
}
