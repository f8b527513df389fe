package azure

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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

// answer is what is to be known of an answer that is not the SDK's to read. Of rows it would make maps, and JSON of
// the maps. Of transactions it takes an operation that is not answered for one that succeeded, and panics where
// there is nothing to find.
type answer struct {
	// body is that of rows.
	body []byte
	// ops is the number of operations of a transaction.
	ops int
}

type answerKey struct{}

func withAnswer(ctx context.Context, ops int) (context.Context, *answer) {
	a := &answer{ops: ops}
	return context.WithValue(ctx, answerKey{}, a), a
}

// nothingFailed is a transaction's answer in which the SDK finds no failure.
const nothingFailed = "--batch\r\nContent-Type: multipart/mixed; boundary=set\r\n\r\n--set--\r\n\r\n--batch--\r\n"

// transacted returns nil for an answer which says that all operations were done.
func transacted(resp *http.Response, body []byte, ops int) error {
	if _, _, failed := failedOperation(body); failed {
		return &azcore.ResponseError{StatusCode: resp.StatusCode, RawResponse: resp}
	}
	if done := bytes.Count(body, []byte("\nHTTP/1.1 20")); done != ops {
		return fmt.Errorf("%d of %d operations were answered", done, ops)
	}
	return nil
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
	a, ok := raw.Context().Value(answerKey{}).(*answer)
	if !ok {
		return resp, nil
	}
	return a.take(resp, body, batch)
}

// take keeps from the SDK what is not its to read.
func (a *answer) take(resp *http.Response, body []byte, batch bool) (*http.Response, error) {
	switch {
	case batch && resp.StatusCode == http.StatusAccepted:
		if err := transacted(resp, body, a.ops); err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(strings.NewReader(nothingFailed))
	case resp.StatusCode == http.StatusOK:
		a.body = body
		resp.Body = io.NopCloser(strings.NewReader("{}"))
	}
	return resp, nil
}
