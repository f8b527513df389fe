package limits_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
)

// client is the SDK's client of a new table, reached through a transport.
func client(t *testing.T, endpoint string, transport policy.Transporter) *aztables.Client {
	t.Helper()
	o := &aztables.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: transport, Retry: policy.RetryOptions{MaxRetries: -1}}}
	service, err := aztables.NewServiceClientFromConnectionString(azurite.ConnectionString(endpoint), o)
	if err != nil {
		t.Fatal(err)
	}
	c := service.NewClient(azurite.TableName(t))
	if _, err := c.CreateTable(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return c
}

type entity map[string]any

func row(partition, key string) entity { return entity{"PartitionKey": partition, "RowKey": key} }

func (e entity) with(name string, value []byte) entity {
	e[name], e[name+"@odata.type"] = base64.StdEncoding.EncodeToString(value), "Edm.Binary"
	return e
}

func inserts(t *testing.T, entities ...entity) []aztables.TransactionAction {
	t.Helper()
	actions := make([]aztables.TransactionAction, len(entities))
	for i, e := range entities {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		actions[i] = aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: data}
	}
	return actions
}

// said is all that a failed request was told.
func said(err error) string {
	r, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return fmt.Sprint(err)
	}
	body, _ := io.ReadAll(r.RawResponse.Body)
	return fmt.Sprint(r.StatusCode, " ", r.ErrorCode, " ", string(body))
}

func TestWhatTheServiceRefusesIsRefused(t *testing.T) {
	limited := limits.New(nil, limits.Options{})
	c := client(t, azurite.Shared(t).Endpoint, limited)
	many := func(n int, of func(i int) entity) (out []entity) {
		for i := range n {
			out = append(out, of(i))
		}
		return out
	}
	wide := func(n int) entity {
		e := row("p", "wide")
		for i := range n {
			e[fmt.Sprintf("p%d", i)] = "v"
		}
		return e
	}
	long := func(chunks int) entity {
		e := row("p", fmt.Sprintf("long%d", chunks))
		for i := range chunks {
			e.with(fmt.Sprintf("p%d", i), make([]byte, 64<<10))
		}
		return e
	}
	cases := map[string]struct {
		entities []entity
		code     string
	}{
		"two partitions":           {[]entity{row("p", "a"), row("q", "b")}, "CommandsInBatchActOnDifferentPartitions"},
		"a row twice":              {[]entity{row("p", "a"), row("p", "a")}, "InvalidDuplicateRow"},
		"101 rows":                 {many(101, func(i int) entity { return row("p", fmt.Sprint(i)) }), "InvalidInput"},
		"4 MiB":                    {many(4, func(i int) entity { return long(12 + i) }), "RequestBodyTooLarge"},
		"a row of 1 MiB":           {[]entity{row("p", "a"), long(16)}, "EntityTooLarge"},
		"253 properties":           {[]entity{row("p", "a"), wide(253)}, "TooManyProperties"},
		"a property of 64 KiB + 1": {[]entity{row("p", "a"), row("p", "b").with("v", make([]byte, 64<<10+1))}, "PropertyValueTooLarge"},
		"a text of 32 Ki + 1":      {[]entity{row("p", "a"), {"PartitionKey": "p", "RowKey": "b", "v": strings.Repeat("x", 32<<10+1)}}, "PropertyValueTooLarge"},
		"a key of 513":             {[]entity{row("p", strings.Repeat("k", 513)), row("p", "b")}, "KeyValueTooLarge"},
		"a slash in a key":         {[]entity{row("p", "a"), row("p", "a/b")}, "OutOfRangeInput"},
		"a backslash in a key":     {[]entity{row("p", "a"), row("p", `a\b`)}, "OutOfRangeInput"},
		"a tab in a key":           {[]entity{row("p", "a"), row("p", "a\tb")}, "OutOfRangeInput"},
		"a name with a dash":       {[]entity{row("p", "a"), {"PartitionKey": "p", "RowKey": "b", "a-b": "v"}}, "PropertyNameInvalid"},
	}
	for name, c1 := range cases {
		t.Run(name, func(t *testing.T) {
			before := limited.Counts()
			_, err := c.SubmitTransaction(t.Context(), inserts(t, c1.entities...), nil)
			if err == nil || !strings.Contains(said(err), c1.code) {
				t.Errorf("gave %.500s, want %s", said(err), c1.code)
			}
			if after := limited.Counts(); after.Refused != before.Refused+1 || after.Transactions != before.Transactions {
				t.Errorf("counted %+v after %+v", after, before)
			}
		})
	}
	if _, err := c.SubmitTransaction(t.Context(), inserts(t, wide(252), long(15), row("p", strings.Repeat("k", 512))), nil); err != nil {
		t.Errorf("what is at the limits: %s", said(err))
	}
	data, _ := json.Marshal(row("p", "a").with("v", make([]byte, 64<<10+1)))
	if _, err := c.AddEntity(t.Context(), data, nil); err == nil || !strings.Contains(said(err), "PropertyValueTooLarge") {
		t.Errorf("alone: %.500s", said(err))
	}
}

// keys reads all of a partition, page by page, and returns the keys and the sizes of the pages.
func keys(t *testing.T, c *aztables.Client) (keys []string, pages []int) {
	t.Helper()
	filter, top := "PartitionKey eq 'p'", int32(50)
	pager := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter, Top: &top})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, len(page.Entities))
		for _, data := range page.Entities {
			var e struct{ RowKey string }
			if err := json.Unmarshal(data, &e); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, e.RowKey)
		}
	}
	return keys, pages
}

func TestShortAndEmptyPagesFollowFromTheSeedAndHideNothing(t *testing.T) {
	endpoint := azurite.Shared(t).Endpoint
	var want []string
	var batch []entity
	for i := range 100 {
		want = append(want, fmt.Sprintf("k%02d", i))
		batch = append(batch, row("p", want[i]))
	}
	read := func(seed uint64) []int {
		limited := limits.New(nil, limits.Options{Seed: seed})
		c := client(t, endpoint, limited)
		if _, err := c.SubmitTransaction(t.Context(), inserts(t, batch...), nil); err != nil {
			t.Fatal(said(err))
		}
		limited.SetFaults(limits.Faults{ShortPages: 0.6, EmptyPages: 0.4})
		got, pages := keys(t, c)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		if n := limited.Counts(); n.ShortPages == 0 || n.EmptyPages == 0 {
			t.Errorf("counted %+v", n)
		}
		return pages
	}
	first, again, other := read(1), read(1), read(2)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("one seed gave two sequences of pages:\n%s", diff)
	}
	if cmp.Equal(first, other) {
		t.Errorf("two seeds gave one sequence of pages: %v", first)
	}
}

func TestEachFaultIsWhatItSays(t *testing.T) {
	cases := map[string]struct {
		faults  limits.Faults
		want    string
		arrived bool
	}{
		"busy":         {limits.Faults{Busy: 1}, "", false},
		"unconnected":  {limits.Faults{Unconnected: 1}, "connection refused", false},
		"failed":       {limits.Faults{FailedBefore: 1}, "500 InternalError", false},
		"failed after": {limits.Faults{FailedAfter: 1}, "500 OperationTimedOut", true},
		"reset":        {limits.Faults{ResetBefore: 1}, "connection reset", false},
		"reply lost":   {limits.Faults{LostReplies: 1}, "connection reset", true},
	}
	for name, c1 := range cases {
		t.Run(name, func(t *testing.T) {
			limited := limits.New(nil, limits.Options{})
			c := client(t, azurite.Shared(t).Endpoint, limited)
			limited.SetFaults(c1.faults)
			_, err := c.SubmitTransaction(t.Context(), inserts(t, row("p", "a"), row("p", "b")), nil)
			if err == nil || !strings.Contains(said(err), c1.want) {
				t.Errorf("gave %s, want %s", said(err), c1.want)
			}
			limited.SetFaults(limits.Faults{})
			if got, _ := keys(t, c); (len(got) == 2) != c1.arrived {
				t.Errorf("%q are there", got)
			}
		})
	}
}

func TestAPartitionIsThrottledAndOthersAreNot(t *testing.T) {
	limited := limits.New(nil, limits.Options{RowsPerSecond: 200})
	c := client(t, azurite.Shared(t).Endpoint, limited)
	write := func(partition string, n int) error {
		var batch []entity
		for i := range 50 {
			batch = append(batch, row(partition, fmt.Sprintf("%d-%d", n, i)))
		}
		_, err := c.SubmitTransaction(t.Context(), inserts(t, batch...), nil)
		return err
	}
	refused, start := 0, time.Now()
	for n := range 8 {
		if err := write("p", n); err != nil {
			if !strings.Contains(said(err), "503 ServerBusy") {
				t.Fatal(said(err))
			}
			refused++
		}
	}
	if took := time.Since(start); took < 500*time.Millisecond && refused == 0 {
		t.Errorf("400 rows in %s were not refused", took)
	}
	if err := write("q", 0); err != nil {
		t.Errorf("another partition: %s", said(err))
	}
	time.Sleep(600 * time.Millisecond)
	if err := write("p", 9); err != nil {
		t.Errorf("later: %s", said(err))
	}
}

func TestAnotherProcessGoesThroughTheProxy(t *testing.T) {
	endpoint, err := url.Parse(azurite.Shared(t).Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	limited := limits.New(nil, limits.Options{})
	server := httptest.NewServer(limited.Proxy(endpoint))
	defer server.Close()
	c := client(t, server.URL+endpoint.Path, nil)
	if _, err := c.SubmitTransaction(t.Context(), inserts(t, row("p", "a b%"), row("p", "b").with("v", bytes.Repeat([]byte("x"), 60000))), nil); err != nil {
		t.Fatal(said(err))
	}
	if got, _ := keys(t, c); len(got) != 2 {
		t.Errorf("%q are there", got)
	}
	if _, err := c.SubmitTransaction(t.Context(), inserts(t, row("p", "a"), row("q", "b")), nil); err == nil || !strings.Contains(said(err), "DifferentPartitions") {
		t.Errorf("two partitions: %s", said(err))
	}
	limited.SetFaults(limits.Faults{LostReplies: 1})
	if _, err := c.SubmitTransaction(t.Context(), inserts(t, row("p", "c"), row("p", "d")), nil); err == nil {
		t.Error("a lost reply was not lost")
	}
	limited.SetFaults(limits.Faults{})
	if got, _ := keys(t, c); len(got) != 4 {
		t.Errorf("%q are there after a lost reply", got)
	}
}
