package azure

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// chunkBytes is the size of a binary property, the most that the service takes.
	chunkBytes = 64 << 10
	// maxChunks is the number of properties of the largest value.
	maxChunks = (table.MaxRowBytes + chunkBytes - 1) / chunkBytes
	// firstChunk names the first property; the others have the letters after it.
	firstChunk = 'a'
	binaryType = "Edm.Binary"
	typeOf     = "@odata.type"
)

// encode returns a row as an entity in JSON. The keys were validated.
func encode(partition, key string, value []byte) []byte {
	chunks := (len(value) + chunkBytes - 1) / chunkBytes
	const perChunk = len(`,"a":"","a@odata.type":"Edm.Binary"`) + 2
	b := make([]byte, 0, len(partition)+len(key)+64+base64.StdEncoding.EncodedLen(len(value))+chunks*perChunk)
	b = append(b, `{"PartitionKey":`...)
	b = appendString(b, partition)
	b = append(b, `,"RowKey":`...)
	b = appendString(b, key)
	for i := range chunks {
		name := byte(firstChunk + i)
		b = append(b, ',', '"', name, '"', ':', '"')
		b = base64.StdEncoding.AppendEncode(b, value[i*chunkBytes:min(len(value), (i+1)*chunkBytes)])
		b = append(b, '"', ',', '"', name)
		b = append(b, typeOf+`":"`+binaryType+`"`...)
	}
	return append(b, '}')
}

// appendString appends a valid key, which is ASCII without control characters, in JSON.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// decodePage returns the rows of a query's answer.
func decodePage(body []byte) ([]table.Row, error) {
	d := scanner{data: body}
	var rows []table.Row
	err := d.object(func(name []byte) error {
		if string(name) != "value" {
			return d.skip()
		}
		return d.array(func() error {
			row, err := decodeRow(&d)
			rows = append(rows, row)
			return err
		})
	})
	if err == nil {
		err = d.end()
	}
	return rows, corrupt(err)
}

// decodeEntity returns the row of an answer that is one entity.
func decodeEntity(body []byte) (table.Row, error) {
	d := scanner{data: body}
	row, err := decodeRow(&d)
	if err == nil {
		err = d.end()
	}
	return row, corrupt(err)
}

func corrupt(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", table.ErrCorrupt, err)
}

// decodeRow reads an entity. It may have no property but those that encode writes and the service adds.
func decodeRow(d *scanner) (table.Row, error) {
	var row table.Row
	var chunks [maxChunks][]byte // in base64, nil where there is none
	var binary [maxChunks]bool
	err := d.object(func(name []byte) error {
		switch i, suffix := chunk(name); {
		case i >= 0 && suffix == "":
			raw, err := d.text()
			chunks[i] = raw
			return err
		case i >= 0 && suffix == typeOf:
			raw, err := d.text()
			binary[i] = string(raw) == binaryType
			return err
		}
		switch string(name) {
		case "RowKey":
			raw, err := d.text()
			row.Key = string(raw)
			return err
		case "odata.etag":
			raw, err := d.text()
			row.ETag = string(raw)
			return err
		case "PartitionKey", "Timestamp", "Timestamp" + typeOf:
			return d.skip()
		}
		if bytes.HasPrefix(name, []byte("odata.")) {
			return d.skip()
		}
		return fmt.Errorf("property %q was not written by this store", name)
	})
	if err == nil && (row.Key == "" || row.ETag == "") {
		err = errors.New("an entity without a row key or an ETag")
	}
	if err == nil {
		row.Value, err = join(chunks, binary)
	}
	if err != nil && row.Key != "" {
		err = fmt.Errorf("row %q: %w", row.Key, err)
	}
	return row, err
}

// chunk returns which part of a value a property is, or is about, -1 for none, and what follows in its name.
func chunk(name []byte) (i int, suffix string) {
	if len(name) == 0 || name[0] < firstChunk || name[0] >= firstChunk+maxChunks {
		return -1, ""
	}
	return int(name[0]) - firstChunk, string(name[1:])
}

// join returns the value whose parts are in the chunks. All but the last are full.
func join(chunks [maxChunks][]byte, binary [maxChunks]bool) ([]byte, error) {
	total := 0
	for _, c := range chunks {
		total += base64.StdEncoding.DecodedLen(len(c))
	}
	value := make([]byte, 0, total)
	for i, c := range chunks {
		if c == nil {
			continue
		}
		name := string(rune(firstChunk + i))
		if !binary[i] {
			return nil, fmt.Errorf("property %q is not binary", name)
		}
		if len(value) != i*chunkBytes {
			return nil, fmt.Errorf("property %q comes after %d bytes", name, len(value))
		}
		var err error
		if value, err = base64.StdEncoding.AppendDecode(value, c); err != nil {
			return nil, fmt.Errorf("property %q: %w", name, err)
		}
		if n := len(value) - i*chunkBytes; n == 0 || n > chunkBytes {
			return nil, fmt.Errorf("property %q has %d bytes", name, n)
		}
	}
	return value, nil
}

// scanner reads JSON that is known to be mostly strings of base64, without copying them.
type scanner struct {
	data []byte
	pos  int
}

var errSyntax = errors.New("not the JSON of a table service")

// peek returns the next byte that is not white space, 0 at the end.
func (d *scanner) peek() byte {
	for ; d.pos < len(d.data); d.pos++ {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (d *scanner) expect(c byte) error {
	if d.peek() != c {
		return errSyntax
	}
	d.pos++
	return nil
}

func (d *scanner) end() error {
	if d.peek() != 0 {
		return errSyntax
	}
	return nil
}

// object calls field for each name; field reads the value.
func (d *scanner) object(field func(name []byte) error) error {
	return d.list('{', '}', func() error {
		name, err := d.text()
		if err != nil {
			return err
		}
		if err := d.expect(':'); err != nil {
			return err
		}
		return field(name)
	})
}

// array calls element for each element, which reads it.
func (d *scanner) array(element func() error) error { return d.list('[', ']', element) }

func (d *scanner) list(first, last byte, item func() error) error {
	if err := d.expect(first); err != nil {
		return err
	}
	if d.peek() == last {
		d.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if d.peek() != ',' {
			return d.expect(last)
		}
		d.pos++
	}
}

// text returns a string, which is a part of the data unless something in it is escaped.
func (d *scanner) text() ([]byte, error) {
	if err := d.expect('"'); err != nil {
		return nil, err
	}
	start := d.pos
	end := bytes.IndexByte(d.data[start:], '"')
	if end < 0 {
		return nil, errSyntax
	}
	if raw := d.data[start : start+end]; bytes.IndexByte(raw, '\\') < 0 {
		d.pos = start + end + 1
		return raw, nil
	}
	for i := start; i < len(d.data); i++ {
		switch d.data[i] {
		case '\\':
			i++
		case '"':
			d.pos = i + 1
			var s string
			err := json.Unmarshal(d.data[start-1:d.pos], &s)
			return []byte(s), err
		}
	}
	return nil, errSyntax
}

// skip passes over a value of any kind. Entities are flat, and what describes them is, too.
func (d *scanner) skip() error {
	switch c := d.peek(); c {
	case '"':
		_, err := d.text()
		return err
	case 0, '{', '[', '}', ']', ',', ':':
		return errSyntax
	}
	for ; d.pos < len(d.data); d.pos++ {
		switch d.data[d.pos] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return nil
		}
	}
	return nil
}
