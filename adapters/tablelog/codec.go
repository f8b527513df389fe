package tablelog

import (
	"encoding/binary"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// The first byte of every row is its schema. A row of a later schema is refused, not guessed at.
const (
	// untimedSchema is that of records without the time at which they were written: read, not written.
	untimedSchema = 1
	// uncausedSchema is that of records that do not say why they were written: read, not written.
	uncausedSchema = 2
	// recordSchema is that of records.
	recordSchema = 3
	// floorSchema is that of the row that says what is kept.
	floorSchema = 1
)

// Type is what a change did to its object.
type Type uint8

// The types of a change.
const (
	Created Type = iota + 1
	Updated
	Deleted
)

func (t Type) String() string {
	return [...]string{"", "created", "updated", "deleted"}[t]
}

// record is what a log row holds, and what the row of its object holds, too.
type record struct {
	typ Type
	// writeID names the commit, so that a writer whose reply was lost recognises its own rows.
	writeID uint64
	// written is when its transaction left, in Unix milliseconds by the writer's clock, and never before
	// that of the record before; 0 if it was not noted (untimedSchema).
	written int64
	rev     uint64
	// prev is the revision of the object's change before, 0 for none. A log row without its
	// predecessor's number could not serve filtered watches after a restart.
	prev uint64
	// prevParts is the number of value rows of that change, so that compaction need not look it up.
	prevParts int
	// created is the revision of the object's creation.
	created uint64
	// expires is a Unix time in seconds after which the object is not there, 0 for never.
	expires int64
	// cause of the change, nil if it was not noted.
	cause  *Cause
	key    string
	owners []string
	value  []byte
	// parts is the number of value rows that hold the value when it is too large to stand here.
	parts int
}

// fixedFields is what a record holds beside its strings, at most, in bytes.
const fixedFields = 72 + fixedCause + maxBy

func (r record) encode() []byte {
	size := fixedFields + len(r.key) + len(r.value)
	for _, o := range r.owners {
		size += len(o) + 1
	}
	b := make([]byte, 0, size)
	b = append(b, recordSchema, byte(r.typ))
	b = binary.BigEndian.AppendUint64(b, r.writeID)
	b = binary.BigEndian.AppendUint64(b, uint64(r.written)) //nolint:gosec // a time
	b = binary.AppendUvarint(b, r.rev)
	b = binary.AppendUvarint(b, r.prev)
	b = binary.AppendUvarint(b, uint64(r.prevParts)) //nolint:gosec // a count
	b = binary.AppendUvarint(b, r.created)
	b = binary.AppendVarint(b, r.expires)
	b = appendCause(b, r.cause)
	b = appendString(b, r.key)
	b = binary.AppendUvarint(b, uint64(len(r.owners)))
	for _, o := range r.owners {
		b = appendString(b, o)
	}
	b = binary.AppendUvarint(b, uint64(r.parts)) //nolint:gosec // a count
	return append(b, r.value...)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func decodeRecord(b []byte) (record, error) {
	d := decoder{b: b}
	var r record
	schema := d.byte()
	if (schema == 0 || schema > recordSchema) && d.err == nil {
		return r, fmt.Errorf("%w: row of schema %d, this program knows %d to %d", table.ErrCorrupt, schema, untimedSchema, recordSchema)
	}
	r.typ = Type(d.byte())
	r.writeID = d.fixed64()
	if schema > untimedSchema {
		r.written = int64(d.fixed64()) //nolint:gosec // a time, checked below
	}
	r.rev = d.uvarint()
	r.prev = d.uvarint()
	r.prevParts = d.parts()
	r.created = d.uvarint()
	r.expires = d.varint()
	if schema > uncausedSchema {
		r.cause = d.cause()
	}
	r.key = d.string()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		r.owners = append(r.owners, d.string())
	}
	r.parts = d.parts()
	r.value = d.b
	if d.err == nil && (r.typ == 0 || r.typ > Deleted || r.rev == 0 || r.key == "" || r.written < 0) {
		d.err = table.ErrCorrupt
	}
	return r, d.err
}

// decoder reads fields until one does not fit, and remembers that.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = fmt.Errorf("%w: row ends early", table.ErrCorrupt)
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); d.err == nil {
		return b[0]
	}
	return 0
}

func (d *decoder) fixed64() uint64 {
	if b := d.take(8); d.err == nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// parts reads a number of value rows.
func (d *decoder) parts() int {
	n := d.uvarint()
	if n > table.MaxOps {
		d.err = fmt.Errorf("%w: value of %d parts", table.ErrCorrupt, n)
		return 0
	}
	return int(n)
}

func (d *decoder) uvarint() uint64 { return number(d, binary.Uvarint) }

func (d *decoder) varint() int64 { return number(d, binary.Varint) }

// number reads a number of variable length.
func number[T uint64 | int64](d *decoder, read func([]byte) (T, int)) T {
	v, n := read(d.b)
	d.take(max(n, -1))
	if n <= 0 {
		d.err = fmt.Errorf("%w: row ends early", table.ErrCorrupt)
		return 0
	}
	return v
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > table.MaxRowBytes {
		d.err = fmt.Errorf("%w: field of %d bytes", table.ErrCorrupt, n)
		return ""
	}
	return string(d.take(int(n)))
}
