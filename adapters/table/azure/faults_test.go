package azure_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
)

const partition = "cluster|group"

// transport is a function that sends requests.
type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(req *http.Request) (*http.Response, error) { return t(req) }

// faulty opens a store whose requests, once it is open, pass a transport with these faults.
func faulty(t *testing.T, f limits.Faults) (*azure.Store, *limits.Transport) {
	t.Helper()
	limited := limits.New(nil, limits.Options{Seed: 1, RowsPerSecond: -1})
	o := options(t)
	o.Transport = limited
	s := open(t, o)
	limited.SetFaults(f)
	return s, limited
}

// through opens a store whose requests, once it is open, are sent by a function.
func through(t *testing.T, send transport) *azure.Store {
	t.Helper()
	var on atomic.Bool
	o := options(t)
	o.Transport = transport(func(req *http.Request) (*http.Response, error) {
		if on.Load() {
			return send(req)
		}
		return http.DefaultClient.Do(req)
	})
	s := open(t, o)
	on.Store(true)
	return s
}

// canned is an answer.
func canned(req *http.Request, status int, body string, headers ...string) *http.Response {
	resp := &http.Response{
		Status: fmt.Sprint(status), StatusCode: status, Header: http.Header{}, Request: req,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	for i := 0; i < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	return resp
}

func odataError(code, message string) string {
	return fmt.Sprintf(`{"odata.error":{"code":%q,"message":{"lang":"en-US","value":%q}}}`, code, message)
}

func insert(key string) table.Op {
	return table.Op{Kind: table.Insert, Key: key, Value: []byte("v")}
}

func TestAzuriteBehindItsLimitsAndFaultsKeepsTheContract(t *testing.T) {
	t.Parallel()
	var reads, writes *limits.Transport
	contract.Run(t, contract.Adapter{New: func(t *testing.T) table.Store {
		// A transaction may only be refused here: the contract does not say what one of unknown outcome did.
		writes = limits.New(nil, limits.Options{Seed: 2, Faults: limits.Faults{Busy: 0.02, Unconnected: 0.02}})
		reads = limits.New(nil, limits.Options{Seed: 3, Faults: limits.Faults{
			ShortPages: 0.5, EmptyPages: 0.3, Busy: 0.005, Unconnected: 0.005, FailedBefore: 0.005, FailedAfter: 0.005, ResetBefore: 0.005, LostReplies: 0.005,
		}})
		o := options(t)
		o.Transport = transport(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodGet {
				return reads.RoundTrip(req)
			}
			return writes.RoundTrip(req)
		})
		t.Cleanup(func() {
			if n := writes.Counts(); n.Refused > 0 {
				t.Errorf("%d requests were such as the service refuses", n.Refused)
			}
		})
		return open(t, o)
	}})
}

// TestATransactionOfUnknownOutcomeIsSentOnce has the SDK's habit of sending again as its counter-example: the second
// attempt would be answered with a conflict with the first.
func TestATransactionOfUnknownOutcomeIsSentOnce(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		faults  limits.Faults
		applied bool
	}{
		"reply lost":           {limits.Faults{LostReplies: 1}, true},
		"500 after it arrived": {limits.Faults{FailedAfter: 1}, true},
		"reset":                {limits.Faults{ResetBefore: 1}, false},
		"500":                  {limits.Faults{FailedBefore: 1}, false},
	}
	for name, c := range cases {
		for kind, ops := range map[string][]table.Op{"transaction": {insert("a"), insert("b")}, "one operation": {insert("a")}} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s, limited := faulty(t, c.faults)
				before := limited.Counts()
				err := s.Commit(t.Context(), partition, ops)
				if _, conflict := errors.AsType[*table.ConflictError](err); conflict || !errors.Is(err, azure.ErrOutcomeUnknown) {
					t.Errorf("gave %v", err)
				}
				if n := limited.Counts(); n.Requests != before.Requests+1 {
					t.Errorf("it was sent %d times", n.Requests-before.Requests)
				}
				limited.SetFaults(limits.Faults{})
				if _, err := s.Get(t.Context(), partition, "a"); errors.Is(err, table.ErrNotFound) == c.applied {
					t.Errorf("then the row: %v", err)
				}
			})
		}
	}
}

func TestARefusedTransactionIsSentAgainAndAppliedOnce(t *testing.T) {
	t.Parallel()
	s, limited := faulty(t, limits.Faults{Busy: 0.3, Unconnected: 0.2})
	for i := range 30 {
		ops := []table.Op{insert(fmt.Sprintf("a%d", i)), insert(fmt.Sprintf("b%d", i))}
		if err := s.Commit(t.Context(), partition, ops[:1+i%2]); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
	n, stats := limited.Counts(), s.Stats()
	if n.Busy == 0 || n.Unconnected == 0 {
		t.Errorf("nothing was refused: %+v", n)
	}
	if stats.Retries != uint64(n.Busy+n.Unconnected) || stats.RowsWritten < 45 {
		t.Errorf("refusals %+v, stats %+v", n, stats)
	}
}

func TestReadsAreSentAgainAfterAnyFailureThatMayPass(t *testing.T) {
	t.Parallel()
	s, limited := faulty(t, limits.Faults{})
	if err := s.Commit(t.Context(), partition, []table.Op{insert("a"), insert("b"), insert("c")}); err != nil {
		t.Fatal(err)
	}
	limited.SetFaults(limits.Faults{
		ShortPages: 0.5, EmptyPages: 0.3, Busy: 0.08, Unconnected: 0.08, FailedBefore: 0.08, FailedAfter: 0.08, ResetBefore: 0.08, LostReplies: 0.08,
	})
	for range 20 {
		if _, err := s.Get(t.Context(), partition, "b"); err != nil {
			t.Fatal(err)
		}
		rows := 0
		if err := table.All(t.Context(), s, partition, table.Query{From: "a", To: "z"}, func(table.Row) bool { rows++; return true }); err != nil || rows != 3 {
			t.Fatalf("%d rows, %v", rows, err)
		}
	}
	n := limited.Counts()
	for name, count := range map[string]int{
		"busy": n.Busy, "unconnected": n.Unconnected, "500": n.FailedBefore, "500 after": n.FailedAfter, "reset": n.ResetBefore,
		"lost": n.LostReplies, "short": n.ShortPages, "empty": n.EmptyPages,
	} {
		if count == 0 {
			t.Errorf("no request had the fault %q", name)
		}
	}
}

func TestRetriesEndBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	s, _ := faulty(t, limits.Faults{Busy: 1})
	const most = 2 * time.Second
	calls := map[string]func(context.Context) error{
		"get": func(ctx context.Context) error { _, err := s.Get(ctx, partition, "a"); return err },
		"range": func(ctx context.Context) error {
			_, err := s.Range(ctx, partition, table.Query{From: "a", To: "b"})
			return err
		},
		"commit": func(ctx context.Context) error { return s.Commit(ctx, partition, []table.Op{insert("a"), insert("b")}) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), most)
			defer cancel()
			err := call(ctx)
			if ctx.Err() != nil {
				t.Error("it waited until the deadline")
			}
			answer, ok := errors.AsType[*azure.Error](err)
			if !ok || answer.Status != http.StatusServiceUnavailable && answer.Status != http.StatusTooManyRequests {
				t.Errorf("gave %v", err)
			}
			if errors.Is(err, azure.ErrOutcomeUnknown) {
				t.Errorf("what was refused is not unknown: %v", err)
			}
		})
	}
	if retries := s.Stats().Retries; retries < 6 {
		t.Errorf("%d retries of three calls", retries)
	}
}

func TestWhatTheServiceAsksToWaitIsWaited(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	s := through(t, func(req *http.Request) (*http.Response, error) {
		if asked.Swap(true) {
			return http.DefaultClient.Do(req)
		}
		return canned(req, http.StatusServiceUnavailable, odataError("ServerBusy", "busy"), "Retry-After", "1"), nil
	})
	start := time.Now()
	if err := s.Commit(t.Context(), partition, []table.Op{insert("a"), insert("b")}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("it was sent again after %s", took)
	}
	asked.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
	defer cancel()
	start = time.Now()
	if _, err := s.Get(ctx, partition, "a"); err == nil || time.Since(start) > 500*time.Millisecond {
		t.Errorf("after %s: %v, want the refusal at once", time.Since(start), err)
	}
}

func TestACallerThatGivesUpIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	s, limited := faulty(t, limits.Faults{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := limited.Counts().Requests
	err := s.Commit(ctx, partition, []table.Op{insert("a"), insert("b")})
	if !errors.Is(err, context.Canceled) || errors.Is(err, azure.ErrOutcomeUnknown) {
		t.Errorf("before it was sent: %v", err)
	}
	if n := limited.Counts().Requests; n != before {
		t.Errorf("%d requests", n-before)
	}
	// Once it is on its way nobody knows.
	ctx, cancel = context.WithCancel(t.Context())
	s = through(t, func(req *http.Request) (*http.Response, error) {
		cancel()
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	if err := s.Commit(ctx, partition, []table.Op{insert("a"), insert("b")}); !errors.Is(err, context.Canceled) || !errors.Is(err, azure.ErrOutcomeUnknown) {
		t.Errorf("after it was sent: %v", err)
	}
}

func TestAnEmptyETagNeverReachesTheService(t *testing.T) {
	t.Parallel()
	s, limited := faulty(t, limits.Faults{})
	if err := s.Commit(t.Context(), partition, []table.Op{insert("a")}); err != nil {
		t.Fatal(err)
	}
	before := limited.Counts().Requests
	for name, ops := range map[string][]table.Op{
		"update":             {{Kind: table.Update, Key: "a", Value: []byte("2")}},
		"delete":             {{Kind: table.Delete, Key: "a"}},
		"update with others": {insert("b"), {Kind: table.Update, Key: "a", Value: []byte("2")}},
		"delete with others": {insert("b"), {Kind: table.Delete, Key: "a"}},
	} {
		if err := s.Commit(t.Context(), partition, ops); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := limited.Counts().Requests; n != before {
		t.Errorf("%d requests were sent", n-before)
	}
}

// TestAnAnswerThatDoesNotSayThatAllWasDoneIsNoSuccess has the SDK as its counter-example, which panics at the first
// of these answers and takes the others for success.
func TestAnAnswerThatDoesNotSayThatAllWasDoneIsNoSuccess(t *testing.T) {
	t.Parallel()
	const head = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
	const done = "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n"
	const tail = "--changesetresponse_1--\r\n--batchresponse_1--\r\n"
	for name, body := range map[string]string{
		"nothing": "", "no operations": head + tail, "one of two": head + done + tail, "cut short": head + done,
	} {
		t.Run(name, func(t *testing.T) {
			s := through(t, func(req *http.Request) (*http.Response, error) { return canned(req, http.StatusAccepted, body), nil })
			if err := s.Commit(t.Context(), partition, []table.Op{insert("a"), insert("b")}); !errors.Is(err, azure.ErrOutcomeUnknown) {
				t.Errorf("gave %v", err)
			}
		})
	}
}

func TestATransactionTooLongForTheWireIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	s, limited := faulty(t, limits.Faults{})
	before := limited.Counts()
	ops := make([]table.Op, table.MaxOps)
	for i := range ops {
		key := fmt.Sprintf("%03d%s", i, strings.Repeat("%", table.MaxKeyBytes-3)) // three bytes each in a URL
		ops[i] = table.Op{Kind: table.Put, Key: key, Value: make([]byte, table.MaxCommitBytes/table.MaxOps)}
	}
	if err := s.Commit(t.Context(), partition, ops); !errors.Is(err, table.ErrInvalid) || errors.Is(err, azure.ErrOutcomeUnknown) {
		t.Errorf("gave %v", err)
	}
	if n := limited.Counts(); n.Requests != before.Requests {
		t.Errorf("%d requests", n.Requests-before.Requests)
	}
}

// raw is the SDK's client of a store's table.
func raw(t *testing.T, o azure.Options) *aztables.Client {
	t.Helper()
	service, err := aztables.NewServiceClientFromConnectionString(o.ConnectionString, nil)
	if err != nil {
		t.Fatal(err)
	}
	return service.NewClient(o.Table)
}

func TestAMissingTableIsNotAMissingRow(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	if _, err := raw(t, o).Delete(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	update := table.Op{Kind: table.Update, Key: "a", ETag: table.Any}
	for name, err := range map[string]error{
		"get":           func() error { _, err := s.Get(t.Context(), partition, "a"); return err }(),
		"range":         func() error { _, err := s.Range(t.Context(), partition, table.Query{From: "a", To: "b"}); return err }(),
		"one operation": s.Commit(t.Context(), partition, []table.Op{update}),
		"transaction":   s.Commit(t.Context(), partition, []table.Op{update, insert("b")}),
	} {
		if err == nil || errors.Is(err, table.ErrNotFound) || !strings.Contains(err.Error(), "the table specified does not exist") &&
			!strings.Contains(err.Error(), "The table specified does not exist") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARowThatThisStoreDidNotWriteIsCorrupt(t *testing.T) {
	t.Parallel()
	full := make([]byte, 64<<10)
	cases := map[string]map[string]any{
		"a text":                    {"a": "aGk="},
		"a number":                  {"a": 7},
		"another property":          {"Name": "x"},
		"a part missing":            {"b": full},
		"a part that is not full":   {"a": []byte("x"), "b": []byte("y")},
		"an empty part":             {"a": full, "b": []byte{}},
		"more parts than there are": {"p": []byte("x")},
	}
	for name, properties := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			s := open(t, o)
			entity := map[string]any{"PartitionKey": partition, "RowKey": "foreign"}
			for k, v := range properties {
				entity[k] = v
				if _, binary := v.([]byte); binary {
					entity[k+"@odata.type"] = "Edm.Binary"
				}
			}
			data, err := json.Marshal(entity)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := raw(t, o).AddEntity(t.Context(), data, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), partition, "foreign"); !errors.Is(err, table.ErrCorrupt) || !strings.Contains(err.Error(), "foreign") {
				t.Errorf("get: %v", err)
			}
			if _, err := s.Range(t.Context(), partition, table.Query{From: "a", To: "z"}); !errors.Is(err, table.ErrCorrupt) || !strings.Contains(err.Error(), "foreign") {
				t.Errorf("range: %v", err)
			}
		})
	}
}

func TestAColdStartReadsOneRow(t *testing.T) {
	t.Parallel()
	o := options(t)
	if first := open(t, o).Stats(); first.Commits == 0 || first.Queries == 0 {
		t.Errorf("the first start did not look at the order of rows: %+v", first)
	}
	second := open(t, o).Stats()
	if second.Gets != 1 || second.Queries+second.Commits+second.Retries != 0 {
		t.Errorf("the second start: %+v", second)
	}
	left := 0
	pager := raw(t, o).NewListEntitiesPager(nil)
	page, err := pager.NextPage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entities {
		if !bytes.Contains(e, []byte(`"PartitionKey":"_store"`)) {
			left++
		}
	}
	if left != 0 || len(page.Entities) != 1 {
		t.Errorf("%d rows are left of the look at their order, of %d", left, len(page.Entities))
	}
}

func TestInstancesMayStartAtOnceOnATableThatIsMissing(t *testing.T) {
	t.Parallel()
	o := options(t)
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := azure.Open(t.Context(), o)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestTheTableIsMadeThoughTheReplyIsLost(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	o := options(t)
	o.Transport = transport(func(req *http.Request) (*http.Response, error) {
		resp, err := http.DefaultClient.Do(req)
		if err == nil && strings.HasSuffix(req.URL.Path, "/Tables") && !lost.Swap(true) {
			_ = resp.Body.Close()
			return nil, io.ErrUnexpectedEOF
		}
		return resp, err
	})
	open(t, o)
	if !lost.Load() {
		t.Error("no reply was lost")
	}
}

// unordered makes Azurite answer queries as Cosmos DB does, in an order of its own.
func unordered(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil || req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, "()") {
		return resp, err
	}
	defer func() { _ = resp.Body.Close() }()
	var page struct {
		Value []json.RawMessage `json:"value"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, err
	}
	if n := len(page.Value); n > 1 {
		page.Value[0], page.Value[n-1] = page.Value[n-1], page.Value[0]
	}
	body, err := json.Marshal(page)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}

// shortKeys makes Azurite refuse keys that Cosmos DB refuses.
func shortKeys(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(body, bytes.Repeat([]byte("k"), 256)) {
			return canned(req, http.StatusBadRequest, odataError("InvalidInput", "RowKey is too long")), nil
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return http.DefaultClient.Do(req)
}

func TestCosmosIsRefusedAndTheMessageSaysWhy(t *testing.T) {
	t.Parallel()
	local := options(t)
	cases := map[string]azure.Options{
		"by its name":               {Endpoint: "https://x.table.cosmos.azure.com:443/", AccountName: "x", AccountKey: azurite.Key},
		"by its name in a string":   {ConnectionString: "AccountName=x;AccountKey=" + azurite.Key + ";TableEndpoint=https://x.table.cosmos.azure.com:443/;"},
		"by its old name":           {Endpoint: "https://x.table.cosmosdb.azure.com", AccountName: "x", AccountKey: azurite.Key},
		"by the order of its rows":  {ConnectionString: local.ConnectionString, Table: local.Table + "a", Transport: transport(unordered)},
		"by the length of its keys": {ConnectionString: local.ConnectionString, Table: local.Table + "b", Transport: transport(shortKeys)},
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the first must not leave a mark that the second trusts
				_, err := azure.Open(t.Context(), o)
				if !errors.Is(err, azure.ErrCosmos) || !strings.Contains(fmt.Sprint(err), "key order") || !strings.Contains(fmt.Sprint(err), "storage account") {
					t.Fatalf("gave %v", err)
				}
			}
		})
	}
}

func TestATableOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	if err := s.Commit(t.Context(), "_store", []table.Op{{Kind: table.Put, Key: "checked", Value: []byte{2}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := azure.Open(t.Context(), o); !errors.Is(err, table.ErrCorrupt) || !strings.Contains(err.Error(), "another version") {
		t.Errorf("gave %v", err)
	}
}

func TestStatsCountWhatWasAsked(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	before := s.Stats()
	if err := s.Commit(t.Context(), partition, []table.Op{insert("a"), insert("b")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), partition, []table.Op{insert("c")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), partition, []table.Op{insert("c")}); !errors.Is(err, table.ErrExists) {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), partition, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Range(t.Context(), partition, table.Query{From: "a", To: "z"}); err != nil {
		t.Fatal(err)
	}
	after := s.Stats()
	got := azure.Stats{
		Queries: after.Queries - before.Queries, Gets: after.Gets - before.Gets, Commits: after.Commits - before.Commits,
		RowsRead: after.RowsRead - before.RowsRead, RowsWritten: after.RowsWritten - before.RowsWritten, Retries: after.Retries - before.Retries,
	}
	if want := (azure.Stats{Queries: 1, Gets: 1, Commits: 3, RowsRead: 4, RowsWritten: 3}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if after.BytesSent <= before.BytesSent || after.BytesReceived <= before.BytesReceived {
		t.Errorf("bytes went from %+v to %+v", before, after)
	}
}

var _ policy.Transporter = transport(nil)
