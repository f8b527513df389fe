package azure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const etag = `W/"datetime'2026-11-24T14%3A52%3A58.8879407Z'"`

func genRow() *rapid.Generator[table.Row] {
	return rapid.Custom(func(t *rapid.T) table.Row {
		size := rapid.SampledFrom([]int{0, 1, 2, 100, 101, 102, 103, 104, 105, 106, chunkBytes, chunkBytes + 1}).Draw(t, "size")
		seed := rapid.Byte().Draw(t, "seed")
		value := make([]byte, size)
		for i := range value {
			value[i] = byte(i*7) + seed
		}
		return table.Row{Key: rapid.StringMatching(`[ -&(-.0-\[\]-~]{1,40}`).Filter(func(s string) bool { return table.ValidateKey(s) == nil }).Draw(t, "key"), Value: value, ETag: etag}
	})
}

// served is an entity as the service returns it: what was sent, in an order of its own, with what it adds.
func served(t *rapid.T, row table.Row) []byte {
	var sent map[string]string
	if err := json.Unmarshal(encode("p|q", row.Key, row.Value), &sent); err != nil {
		t.Fatalf("what is sent is not JSON: %v", err)
	}
	sent["odata.etag"], sent["Timestamp"] = row.ETag, "2026-11-24T14:52:58.8879407Z"
	names := rapid.Permutation(keysOf(sent)).Draw(t, "order")
	escape := rapid.Bool().Draw(t, "escape")
	var b bytes.Buffer
	for i, name := range names {
		value, _ := json.Marshal(sent[name])
		if escape {
			value = bytes.ReplaceAll(value, []byte("/"), []byte(`\/`))
			value = bytes.ReplaceAll(value, []byte("+"), []byte(`\u002B`))
		}
		fmt.Fprintf(&b, "%s%q: %s", []string{"{ ", ",\r\n"}[min(i, 1)], name, value)
	}
	b.WriteString("\t}")
	return b.Bytes()
}

func keysOf(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	// A map's order would make the draw another each time.
	for i := range out {
		for j := range out[:i] {
			if out[i] < out[j] {
				out[i], out[j] = out[j], out[i]
			}
		}
	}
	return out
}

func TestARowComesBackAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(genRow(), 0, 3).Draw(t, "rows")
		page := []byte(`{"odata.metadata":"http://x/$metadata#t","value":[`)
		for i, row := range rows {
			entity := served(t, row)
			got, err := decodeEntity(entity)
			if err != nil || !cmp.Equal(got, row) {
				t.Fatalf("%q came back as %q of %d bytes: %v", row.Key, got.Key, len(got.Value), err)
			}
			if i > 0 {
				page = append(page, ',')
			}
			page = append(page, entity...)
		}
		got, err := decodePage(append(page, "]}\n"...))
		if err != nil || len(got) != len(rows) {
			t.Fatalf("%d rows of %d: %v", len(got), len(rows), err)
		}
		for i := range rows {
			if !cmp.Equal(got[i], rows[i]) {
				t.Fatalf("row %d came back otherwise", i)
			}
		}
	})
}

func TestWhatIsCutShortOrAlteredIsCorruptAndDoesNotPanic(t *testing.T) {
	whole := []byte(`{"odata.metadata":"x","value":[{"odata.etag":"e","PartitionKey":"p","RowKey":"r","a@odata.type":"Edm.Binary","a":"AAECAw==","Timestamp":"t"}]}`)
	if _, err := decodePage(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if _, err := decodePage(whole[:i]); !errors.Is(err, table.ErrCorrupt) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(whole)
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		if _, err := decodePage(b); err != nil && !errors.Is(err, table.ErrCorrupt) {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

// TestAFailedTransactionIsReadFromInsideItsAnswer has answers as Azure gives them; the SDK says of each no more than
// that the status was 202.
func TestAFailedTransactionIsReadFromInsideItsAnswer(t *testing.T) {
	const start = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
	part := func(text string) string {
		return "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" + text + "\r\n"
	}
	failed := func(status int, code, message string) string {
		return part(fmt.Sprintf("HTTP/1.1 %d %s\r\nX-Content-Type-Options: nosniff\r\nContent-Type: application/json\r\n\r\n"+
			`{"odata.error":{"code":%q,"message":{"lang":"en-US","value":%q}}}`, status, http.StatusText(status), code, message+"\nRequestId:1\nTime:2"))
	}
	const end = "--changesetresponse_1--\r\n--batchresponse_1--\r\n"
	fine := part("HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n")
	ops := []table.Op{{Kind: table.Insert, Key: "a"}, {Kind: table.Insert, Key: "b"}, {Kind: table.Update, Key: "c", ETag: "x"}}
	cases := map[string]struct {
		body  string
		index int
		want  error
	}{
		"exists":              {start + failed(409, "EntityAlreadyExists", "1:The specified entity already exists.") + end, 1, table.ErrExists},
		"changed":             {start + failed(412, "UpdateConditionNotSatisfied", "2:The update condition was not satisfied.") + end, 2, table.ErrChanged},
		"gone":                {start + failed(404, "ResourceNotFound", "2:The specified resource does not exist.") + end, 2, table.ErrNotFound},
		"after one that went": {start + fine + failed(409, "EntityAlreadyExists", "0:The specified entity already exists.") + end, 0, table.ErrExists},
		"too large":           {start + failed(400, "EntityTooLarge", "1:The entity is larger than allowed.") + end, -1, table.ErrInvalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			resp := &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: readCloser(c.body)}
			err := conflict(failure(&azcore.ResponseError{StatusCode: http.StatusAccepted, RawResponse: resp}), ops)
			if !errors.Is(err, c.want) || mayBeApplied(err) {
				t.Fatalf("gave %v", err)
			}
			found, ok := errors.AsType[*table.ConflictError](err)
			if ok != (c.index >= 0) || ok && (found.Index != c.index || found.Key != ops[c.index].Key) {
				t.Errorf("gave %#v", found)
			}
		})
	}
	busy := start + failed(503, "ServerBusy", "0:The server is busy.") + end
	resp := &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: readCloser(busy)}
	if err := failure(&azcore.ResponseError{StatusCode: http.StatusAccepted, RawResponse: resp}); !neverApplied(err) {
		t.Errorf("a refusal inside: %v", err)
	}
	timedOut := start + failed(500, "OperationTimedOut", "0:Operation could not be completed.") + end
	resp = &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: readCloser(timedOut)}
	if err := failure(&azcore.ResponseError{StatusCode: http.StatusAccepted, RawResponse: resp}); neverApplied(err) || !mayBeApplied(err) {
		t.Errorf("a timeout inside: %v", err)
	}
}

type closer struct{ *bytes.Reader }

func (closer) Close() error { return nil }

func readCloser(s string) closer { return closer{bytes.NewReader([]byte(s))} }

func TestWaitsGrowAndAreJittered(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 50 {
		d := delay(3, errors.New("x"))
		if d < 100*time.Millisecond || d > 200*time.Millisecond {
			t.Errorf("third wait %s", d)
		}
		seen[d] = true
	}
	if len(seen) < 10 {
		t.Errorf("%d different waits of 50", len(seen))
	}
	if d := delay(100, errors.New("x")); d > maxWait {
		t.Errorf("a late wait is %s", d)
	}
	if d := delay(1, &Error{Status: 503, after: 7 * time.Second}); d < 7*time.Second {
		t.Errorf("waits %s of the 7 s asked for", d)
	}
}

func BenchmarkEncode(b *testing.B) {
	value := bytes.Repeat([]byte("abcd"), 500)
	b.ReportAllocs()
	for b.Loop() {
		encode("cluster.01234567|pods", "o-core.1pods.1default.1web-1", value)
	}
}

func BenchmarkDecodePage(b *testing.B) {
	page := []byte(`{"odata.metadata":"x","value":[`)
	for i := range 1000 {
		if i > 0 {
			page = append(page, ',')
		}
		e := encode("cluster.01234567|pods", fmt.Sprintf("o-core.1pods.1default.1web-%d", i), bytes.Repeat([]byte("abcd"), 500))
		page = append(page, `{"odata.etag":"W/\"datetime'2026-11-24T14%3A52%3A58.8879407Z'\"",`...)
		page = append(page, e[1:]...)
	}
	page = append(page, "]}"...)
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		if rows, err := decodePage(page); err != nil || len(rows) != 1000 {
			b.Fatal(err)
		}
	}
}
