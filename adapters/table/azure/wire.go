package azure

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// maxBodyBytes is the size of a transaction's request. The service breaks the connection at more, which would
// look like an outcome that is unknown.
const maxBodyBytes = 4 << 20

// Stats counts what was asked of the service since the store was opened. An attempt counts each time.
type Stats struct {
	// Queries, Gets and Commits are ranges, reads of one row, and transactions.
	Queries, Gets, Commits uint64
	// RowsRead and RowsWritten count rows of requests that succeeded.
	RowsRead, RowsWritten uint64
	// Retries counts the attempts after the first.
	Retries uint64
	// BytesSent and BytesReceived are of bodies.
	BytesSent, BytesReceived uint64
}

type counters struct {
	queries, gets, commits, rowsRead, rowsWritten, retries, sent, received atomic.Uint64
}

// Stats returns what was counted so far.
func (s *Store) Stats() Stats {
	c := &s.counters
	return Stats{
		Queries: c.queries.Load(), Gets: c.gets.Load(), Commits: c.commits.Load(),
		RowsRead: c.rowsRead.Load(), RowsWritten: c.rowsWritten.Load(), Retries: c.retries.Load(),
		BytesSent: c.sent.Load(), BytesReceived: c.received.Load(),
	}
}

// answer is where the body of an answer is put that is not the SDK's to decode.
type answer struct{ body []byte }

// errNoParts is that a transaction's answer says nothing about its operations.
var errNoParts = errors.New("the answer has no parts")

type answerKey struct{}

// withAnswer asks for the body of the answer. The SDK would make a map of each entity, and JSON of the map.
func withAnswer(ctx context.Context) (context.Context, *answer) {
	a := &answer{}
	return context.WithValue(ctx, answerKey{}, a), a
}

// wire is the policy that all requests pass.
type wire struct{ store *Store }

// Do implements policy.Policy.
func (w wire) Do(req *policy.Request) (*http.Response, error) {
	raw, c := req.Raw(), &w.store.counters
	batch := strings.HasSuffix(raw.URL.Path, "/$batch")
	switch {
	case batch && raw.ContentLength > maxBodyBytes:
		return nil, errTooLarge
	case raw.Method == http.MethodGet && strings.HasSuffix(raw.URL.Path, "()"):
		c.queries.Add(1)
	case raw.Method == http.MethodGet:
		c.gets.Add(1)
	case raw.Method == http.MethodPost && !batch && !strings.HasSuffix(raw.URL.Path, "/Tables"):
		// An insert's answer would have the entity in it.
		raw.Header.Set("Prefer", "return-no-content")
	}
	c.sent.Add(uint64(max(0, raw.ContentLength)))
	resp, err := req.Next()
	if err != nil {
		return resp, err
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return resp, err
	}
	c.received.Add(uint64(len(body)))
	if batch && resp.StatusCode == http.StatusAccepted && !bytes.HasPrefix(body, []byte("--")) {
		// The SDK would panic.
		return nil, errNoParts
	}
	if a, ok := raw.Context().Value(answerKey{}).(*answer); ok {
		a.body = body
		if resp.StatusCode == http.StatusOK {
			resp.Body = io.NopCloser(bytes.NewReader([]byte("{}")))
		}
	}
	return resp, nil
}
