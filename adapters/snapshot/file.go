package snapshot

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// A file is gzip of lines. A line is a sum, a space and a record in JSON. The sum is the first half, in hex,
// of the SHA-256 of the sum before (all of it, zero before the first line) and the JSON. So a line that was
// altered, left out, put in or moved does not fit, and the last record says that there are no more. JSON
// lines, since `zcat FILE | cut -c34- | jq` shows what is in a backup without this program, and since they
// are written and read in one pass, whatever their number.

// Version of the format. A reader refuses others.
const Version = 1

const (
	sumBytes = 16
	// maxLine bounds a record: the largest value in base64, and what stands beside it.
	maxLine = 8 << 20
)

var (
	// ErrDamaged is wrapped by errors about a file that is not as it was written.
	ErrDamaged = errors.New("the snapshot is damaged")
	// ErrFormat is wrapped by errors about a file that is no snapshot, or of another version.
	ErrFormat = errors.New("not a snapshot that this program can read")
)

// Header is the first record.
type Header struct {
	// Version of the format.
	Version int `json:"snapshot"`
	// Made is when the file was written, and At the time that was asked for, if one was.
	Made time.Time  `json:"made"`
	At   *time.Time `json:"at,omitempty"`
	// OneInstant is set when the logs were at these revisions at the same time. Else each log is exact, and
	// one may be some milliseconds ahead of another.
	OneInstant bool         `json:"oneInstant"`
	Cluster    cluster.Info `json:"cluster"`
	Logs       []Log        `json:"logs"`
}

// Log is the place of one log in a snapshot.
type Log struct {
	Group    string `json:"group"`
	Revision uint64 `json:"revision"`
	// Written is when that revision was, in Unix milliseconds, 0 if it was not noted.
	Written int64 `json:"written,omitempty"`
}

// record is a line after the first. One of its fields is set.
type record struct {
	// Group names the log of a change.
	Group  string  `json:"log,omitempty"`
	Change *change `json:"change,omitempty"`
	Due    *due    `json:"due,omitempty"`
	End    *End    `json:"end,omitempty"`
}

// change is tablelog.Saved.
type change struct {
	Type      string   `json:"type"`
	Key       string   `json:"key"`
	Object    bool     `json:"object"`
	Revision  uint64   `json:"revision"`
	Created   uint64   `json:"created"`
	Previous  uint64   `json:"previous,omitempty"`
	PrevParts int      `json:"previousParts,omitempty"`
	Written   int64    `json:"written,omitempty"`
	Expires   int64    `json:"expires,omitempty"`
	WriteID   uint64   `json:"writeID,string"`
	Owners    []string `json:"owners,omitempty"`
	Value     []byte   `json:"value,omitempty"`
}

// due is a row of what functions put off.
type due struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// End is the last record.
type End struct {
	// Records before it.
	Records int `json:"records"`
	// Objects by log.
	Objects map[string]int `json:"objects"`
	Due     int            `json:"due"`
}

func changeOf(s tablelog.Saved) *change {
	return &change{
		Type: s.Type.String(), Key: s.Key, Object: s.Object, Revision: s.Rev, Created: s.Created, Previous: s.Prev, PrevParts: s.PrevParts,
		Written: s.Written, Expires: s.Expires, WriteID: s.WriteID, Owners: s.Owners, Value: s.Value,
	}
}

func (c *change) saved() (tablelog.Saved, error) {
	s := tablelog.Saved{
		Key: c.Key, Object: c.Object, Rev: c.Revision, Created: c.Created, Prev: c.Previous, PrevParts: c.PrevParts,
		Written: c.Written, Expires: c.Expires, WriteID: c.WriteID, Owners: c.Owners, Value: c.Value,
	}
	for _, t := range []tablelog.Type{tablelog.Created, tablelog.Updated, tablelog.Deleted} {
		if t.String() == c.Type {
			s.Type = t
			return s, nil
		}
	}
	return s, fmt.Errorf("%w: the change of %q is of type %q", ErrFormat, c.Key, c.Type)
}

// writer writes a file.
type writer struct {
	gzip    *gzip.Writer
	sum     [sha256.Size]byte
	records int
}

func newWriter(w io.Writer) *writer { return &writer{gzip: gzip.NewWriter(w)} }

func (w *writer) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a record: %w", err)
	}
	w.sum = chain(w.sum, line)
	w.records++
	head := append(hex.AppendEncode(nil, w.sum[:sumBytes]), ' ')
	for _, b := range [][]byte{head, line, {'\n'}} {
		if _, err := w.gzip.Write(b); err != nil {
			return fmt.Errorf("writing the snapshot: %w", err)
		}
	}
	return nil
}

func (w *writer) close() error {
	if err := w.gzip.Close(); err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	return nil
}

func chain(before [sha256.Size]byte, line []byte) [sha256.Size]byte {
	return sha256.Sum256(append(before[:], line...))
}

// reader reads a file.
type reader struct {
	lines   *bufio.Scanner
	gzip    *gzip.Reader
	sum     [sha256.Size]byte
	records int
}

// newReader returns a reader after the header.
func newReader(r io.Reader) (*reader, Header, error) {
	var h Header
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, h, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	in := &reader{lines: bufio.NewScanner(unzipped), gzip: unzipped}
	in.lines.Buffer(nil, maxLine)
	if err := in.read(&h); err != nil {
		return nil, h, err
	}
	if h.Version != Version {
		return nil, h, fmt.Errorf("%w: it is of version %d, this program knows %d", ErrFormat, h.Version, Version)
	}
	return in, h, nil
}

// read reads the next record. The end of the file is ErrDamaged: the last record says that it comes.
func (r *reader) read(v any) error {
	n := r.records + 1
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrDamaged, n, err)
		}
		return fmt.Errorf("%w: it ends before record %d", ErrDamaged, n)
	}
	sum, line, _ := bytes.Cut(r.lines.Bytes(), []byte{' '})
	next := chain(r.sum, line)
	if string(sum) != hex.EncodeToString(next[:sumBytes]) {
		return fmt.Errorf("%w: record %d is not as it was written, or not in its place", ErrDamaged, n)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%w: record %d: %w", ErrFormat, n, err)
	}
	r.sum, r.records = next, n
	return nil
}

// each calls yield for the records after the header, and returns the last one.
func (r *reader) each(yield func(record) error) (End, error) {
	for {
		var rec record
		if err := r.read(&rec); err != nil {
			return End{}, err
		}
		if rec.End == nil {
			if err := yield(rec); err != nil {
				return End{}, fmt.Errorf("record %d: %w", r.records, err)
			}
			continue
		}
		if rec.End.Records != r.records-1 {
			return End{}, fmt.Errorf("%w: it has %d records, and its end says %d", ErrDamaged, r.records-1, rec.End.Records)
		}
		if r.lines.Scan() {
			return End{}, fmt.Errorf("%w: record %d comes after its end", ErrDamaged, r.records+1)
		}
		if err := r.lines.Err(); err != nil {
			return End{}, fmt.Errorf("%w: after its end: %w", ErrDamaged, err)
		}
		return *rec.End, nil
	}
}

// Verify reads a snapshot to its end and returns what it is of. It fails with ErrDamaged or ErrFormat.
func Verify(r io.Reader) (Header, End, error) {
	in, h, err := newReader(r)
	if err != nil {
		return h, End{}, err
	}
	end, err := in.each(func(record) error { return nil })
	return h, end, err
}
