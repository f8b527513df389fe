package limits

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// The service's limits.
const (
	maxOps           = 100
	maxBodyBytes     = 4 << 20
	maxEntityBytes   = 1 << 20
	maxProperties    = 252
	maxPropertyBytes = 64 << 10
	maxKeyChars      = 512
	maxNameChars     = 255
)

// request is a request to the table service, as far as the limits look at it.
type request struct {
	req       *http.Request
	size      int
	batch     bool
	query     bool
	writes    bool
	origin    string // what it is made for, the last part left out: x-ms-client-request-id, as adapters/table/azure sets it
	partition string // of the first operation, or of the query
	top       int
	ops       []operation
	refusal   *refusal
}

// operation is a read or a write of one entity.
type operation struct {
	method, partition, row string
	entity                 map[string]json.RawMessage
}

// refusal is an answer of the service. Index is the operation's in a transaction, -1 for none.
type refusal struct {
	status        int
	code, message string
	index         int
}

var (
	entityPath      = regexp.MustCompile(`\(PartitionKey='((?:[^']|'')*)',RowKey='((?:[^']|'')*)'\)$`)
	partitionFilter = regexp.MustCompile(`PartitionKey eq '((?:[^']|'')*)'`)
	propertyName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// parse reads a request and looks for what the service would refuse.
func parse(req *http.Request, body []byte) *request {
	r := &request{req: req, size: len(body), origin: path.Dir(req.Header.Get("X-Ms-Client-Request-Id"))}
	switch p := req.URL.Path; {
	case strings.HasSuffix(p, "/$batch"):
		r.batch, r.writes = true, true
		r.refusal = r.parseBatch(body)
	case strings.HasSuffix(p, "()"):
		r.query = true
		q := req.URL.Query()
		r.top = 1000
		if n, err := strconv.Atoi(q.Get("$top")); err == nil {
			r.top = n
		}
		if m := partitionFilter.FindStringSubmatch(q.Get("$filter")); m != nil {
			r.partition = m[1]
		}
	case strings.HasSuffix(p, "/Tables"), strings.Contains(p, "/Tables("):
	default:
		op, err := readOperation(req.Method, req.URL, body)
		if err != nil {
			return r // not an entity's; the server knows
		}
		r.ops, r.writes, r.partition = []operation{op}, req.Method != http.MethodGet, op.partition
		if r.writes {
			r.refusal = op.check()
		}
	}
	return r
}

func (r *request) parseBatch(body []byte) *refusal {
	if len(body) > maxBodyBytes {
		r.batch = false // the answer is a plain one
		return &refusal{http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.", -1}
	}
	ops, err := readBatch(r.req.Header.Get("Content-Type"), body)
	if err != nil {
		return &refusal{http.StatusBadRequest, "InvalidInput", err.Error(), 0}
	}
	r.ops = ops
	if len(ops) > 0 {
		r.partition = ops[0].partition
	}
	if len(ops) > maxOps {
		return &refusal{http.StatusBadRequest, "InvalidInput", "The batch request operation exceeds the maximum 100 changes per change set.", maxOps}
	}
	seen := map[string]bool{}
	for i, op := range ops {
		refused := op.check()
		switch {
		case op.partition != r.partition:
			refused = &refusal{status: http.StatusBadRequest, code: "CommandsInBatchActOnDifferentPartitions", message: "All commands in a batch must operate on same entity group."}
		case seen[op.row]:
			refused = &refusal{status: http.StatusBadRequest, code: "InvalidDuplicateRow", message: "A command with RowKey '" + op.row + "' is already present in the batch."}
		}
		if refused != nil {
			refused.index = i
			return refused
		}
		seen[op.row] = true
	}
	return nil
}

// readBatch reads the operations of a transaction: multipart in multipart, with an HTTP request in each part.
func readBatch(contentType string, body []byte) ([]operation, error) {
	outer, err := partsOf(contentType, body)
	if err != nil || len(outer) != 1 {
		return nil, fmt.Errorf("a batch of %d change sets: %w", len(outer), err)
	}
	inner, err := partsOf(outer[0].contentType, outer[0].body)
	if err != nil {
		return nil, fmt.Errorf("a change set: %w", err)
	}
	ops := make([]operation, len(inner))
	for i, p := range inner {
		head, entity, _ := bytes.Cut(p.body, []byte("\r\n\r\n"))
		line, _, _ := strings.Cut(string(head), "\r\n")
		words := strings.Fields(line)
		if len(words) != 3 {
			return nil, fmt.Errorf("operation %d begins with %q", i, line)
		}
		u, err := url.Parse(words[1])
		if err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		if ops[i], err = readOperation(words[0], u, entity); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return ops, nil
}

type part struct {
	contentType string
	body        []byte
}

func partsOf(contentType string, body []byte) ([]part, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	var parts []part
	for reader := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		p, err := reader.NextPart()
		if err == io.EOF { //nolint:errorlint // as documented
			return parts, nil
		}
		if err != nil {
			return parts, err
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return parts, err
		}
		parts = append(parts, part{p.Header.Get("Content-Type"), data})
	}
}

func readOperation(method string, u *url.URL, body []byte) (operation, error) {
	op := operation{method: method}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &op.entity); err != nil {
			return op, err
		}
	}
	if m := entityPath.FindStringSubmatch(u.Path); m != nil {
		op.partition, op.row = strings.ReplaceAll(m[1], "''", "'"), strings.ReplaceAll(m[2], "''", "'")
		return op, nil
	}
	for name, key := range map[string]*string{"PartitionKey": &op.partition, "RowKey": &op.row} {
		if err := json.Unmarshal(op.entity[name], key); err != nil {
			return op, fmt.Errorf("%s: %w", name, err)
		}
	}
	return op, nil
}

// check returns why the service refuses an operation that writes, nil if it takes it.
func (op operation) check() *refusal {
	refuse := func(code, message string) *refusal {
		return &refusal{http.StatusBadRequest, code, message, -1}
	}
	size := 4 + 2*(chars(op.partition)+chars(op.row))
	for _, key := range []string{op.partition, op.row} {
		if chars(key) > maxKeyChars {
			return refuse("KeyValueTooLarge", "The key is larger than the maximum allowed size.")
		}
		if strings.IndexFunc(key, forbidden) >= 0 {
			return refuse("OutOfRangeInput", "A key has a character that is not allowed.")
		}
	}
	properties := 0
	for name, value := range op.entity {
		switch {
		case name == "PartitionKey", name == "RowKey", name == "Timestamp", strings.Contains(name, "odata."):
			continue
		case chars(name) > maxNameChars:
			return refuse("PropertyNameTooLong", "The property name exceeds the maximum allowed length.")
		case !propertyName.MatchString(name):
			return refuse("PropertyNameInvalid", "The property name is invalid.")
		}
		n, ok := valueSize(value, op.entity[name+"@odata.type"])
		if !ok {
			return refuse("InvalidInput", "A value is not of its type.")
		}
		if n > maxPropertyBytes {
			return refuse("PropertyValueTooLarge", "The property value exceeds the maximum allowed size.")
		}
		properties++
		size += 8 + 2*chars(name) + 4 + n
	}
	if properties > maxProperties {
		return refuse("TooManyProperties", "The entity contains more properties than allowed.")
	}
	if size > maxEntityBytes {
		return refuse("EntityTooLarge", "The entity is larger than the maximum allowed size.")
	}
	return nil
}

// valueSize returns what a property takes in the service, and whether it is of the type it says.
func valueSize(value, typ json.RawMessage) (int, bool) {
	var s string
	if json.Unmarshal(value, &s) != nil {
		return 8, len(value) > 0 && value[0] != '{' && value[0] != '['
	}
	if string(typ) != `"Edm.Binary"` {
		return 2 * chars(s), true
	}
	data, err := base64.StdEncoding.DecodeString(s)
	return len(data), err == nil
}

func forbidden(c rune) bool {
	return c < 0x20 || c >= 0x7f && c <= 0x9f || c == '/' || c == '\\' || c == '#' || c == '?'
}

// chars is the length of a string as the service counts it.
func chars(s string) int { return len(utf16.Encode([]rune(s))) }

// refuse returns the service's answer that nothing was done: for a transaction, unless the answer is about the
// request as a whole, it is 202 with the answer to one operation inside.
func (r *request) refuse(f refusal) *http.Response {
	message := fmt.Sprintf("%s\nRequestId:%s\nTime:%s", f.message, requestID, time.Now().UTC().Format(time.RFC3339Nano))
	whole := !r.batch || f.index < 0
	if !whole {
		message = fmt.Sprintf("%d:%s", f.index, message)
	}
	said := map[string]any{"odata.error": map[string]any{"code": f.code, "message": map[string]string{"lang": "en-US", "value": message}}}
	body, _ := json.Marshal(said)
	const contentType = "application/json;odata=minimalmetadata;charset=utf-8"
	if whole {
		resp := r.respond(f.status, contentType, body)
		resp.Header.Set("x-ms-error-code", f.code)
		return resp
	}
	const text = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n" +
		"--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" +
		"HTTP/1.1 %d %s\r\nDataServiceVersion: 3.0;\r\nContent-Type: %s\r\n\r\n%s\r\n" +
		"--changesetresponse_1--\r\n--batchresponse_1--\r\n"
	answer := fmt.Sprintf(text, f.status, http.StatusText(f.status), contentType, body)
	return r.respond(http.StatusAccepted, "multipart/mixed; boundary=batchresponse_1", []byte(answer))
}

const requestID = "00000000-0000-0000-0000-000000000000"

func (r *request) respond(status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r.req,
		Header: http.Header{
			"Content-Type":    {contentType},
			"Content-Length":  {strconv.Itoa(len(body))},
			"X-Ms-Request-Id": {requestID},
		},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}
