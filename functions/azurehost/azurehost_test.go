package azurehost

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// open returns the handler of an app on a store that counts.
func open(t *testing.T) (http.Handler, *contract.Counting) {
	t.Helper()
	t.Setenv(localhost.SealKeyEnv, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	store := contract.NewCounting(memorytable.New())
	h, err := localhost.OpenBehind(localhost.Options{
		Store: localhost.Store{Store: store, Close: func() error { return nil }, Shared: true},
		Front: localhost.Front{Address: "app.example.com"}, MaxAwake: 1,
	})
	if err == nil {
		_, err = h.Kubeconfig(t.Context()) // the default cluster is there
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(h), store
}

// post sends a request and returns the answer's code and body.
func post(h http.Handler, path, body string, header ...string) (int, string) {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	b, _ := io.ReadAll(w.Body)
	return w.Code, strings.TrimSpace(string(b))
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const done = `{"Outputs":{},"Logs":[],"ReturnValue":null}`

func TestCallsOfTheHostAreAnsweredAsItWants(t *testing.T) {
	h, _ := open(t)
	bell := encode(t, events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event())
	strange := strings.Replace(bell, events.TimerType, "com.example.strange", 1)
	elsewhere := encode(t, events.Timer{Cluster: "gone", Time: time.Now()}.Event())
	for name, tt := range map[string]struct {
		path, body string
		code       int
	}{
		"a message encoded twice":        {"/bells", `{"Data":{"bell":` + encode(t, encode(t, bell)) + `},"Metadata":{}}`, http.StatusOK},
		"a message encoded once":         {"/bells", `{"Data":{"bell":` + encode(t, bell) + `},"Metadata":{}}`, http.StatusOK},
		"an event as an object":          {"/eventgrid", `{"Data":{"event":` + bell + `},"Metadata":{}}`, http.StatusOK},
		"several events":                 {"/eventgrid", `{"Data":{"event":[` + bell + "," + bell + `]},"Metadata":{}}`, http.StatusOK},
		"an event of nobody":             {"/bells", `{"Data":{"bell":` + elsewhere + `},"Metadata":{}}`, http.StatusOK},
		"an event that nobody knows":     {"/eventgrid", `{"Data":{"event":` + strange + `},"Metadata":{}}`, http.StatusOK},
		"a message that is no event":     {"/bells", `{"Data":{"bell":"hello"},"Metadata":{}}`, http.StatusOK},
		"the timer":                      {"/timer", `{"Data":{"timer":{"IsPastDue":false}},"Metadata":{}}`, http.StatusOK},
		"what is no envelope":            {"/bells", `hello`, http.StatusBadRequest},
		"more than the host passes":      {"/bells", `{"Data":{"bell":"` + strings.Repeat("x", maxEnvelope) + `"}}`, http.StatusBadRequest},
		"an envelope that ends too soon": {"/bells", `{"Data":{"bell":"`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := post(h, tt.path, tt.body)
			if code != tt.code || tt.code == http.StatusOK && body != done {
				t.Errorf("%d %s, want %d", code, body, tt.code)
			}
		})
	}
}

// deadLetters returns what the default cluster has.
func deadLetters(t *testing.T, store table.Store) []deadletter.Letter {
	t.Helper()
	info, err := cluster.Registry{Store: store}.Get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	all, err := deadletter.New(store, info.Partition()).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatCanNeverBeDoneIsKeptAndDoesNotComeAgain(t *testing.T) {
	h, store := open(t)
	bell := encode(t, events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event())
	untimed := strings.Replace(bell, `"time":`, `"tide":`, 1)
	pushed := `{"id": "1", "topic": "/t", "eventType": "Microsoft.ContainerRegistry.ImagePushed", "eventTime": "2026-11-24T08:00:00Z", "data": {}}`
	for name, tt := range map[string]struct{ path, body, via, field string }{
		"a message that is no event":      {"/bells", `{"Data":{"bell":"hello"},"Metadata":{}}`, deadletter.Queue, ""},
		"a malformed bell":                {"/bells", `{"Data":{"bell":` + encode(t, encode(t, untimed)) + `},"Metadata":{}}`, deadletter.Queue, "time"},
		"a malformed event of Event Grid": {"/eventgrid", `{"Data":{"event":` + pushed + `},"Metadata":{}}`, deadletter.EventGrid, "data.target.repository"},
		"one of several":                  {"/eventgrid", `{"Data":{"event":[` + bell + "," + untimed + `]},"Metadata":{}}`, deadletter.EventGrid, "time"},
	} {
		before := len(deadLetters(t, store))
		if code, body := post(h, tt.path, tt.body); code != http.StatusOK || body != done {
			t.Errorf("%s: %d %s", name, code, body)
		}
		all := deadLetters(t, store)
		if len(all) != before+1 {
			t.Fatalf("%s: %d more are kept", name, len(all)-before)
		}
		if all[0].Via != tt.via || all[0].Field != tt.field || all[0].Reason == "" {
			t.Errorf("%s: %+v", name, all[0])
		}
	}
}

func TestAMessageThatFailedAsOftenAsTheQueueTriesIsKept(t *testing.T) {
	h, store := open(t)
	bell := encode(t, events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event())
	call := func(count string) int {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the cluster cannot be waited for
		body := `{"Data":{"bell":` + bell + `},"Metadata":{"DequeueCount":` + count + `}}`
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/bells", strings.NewReader(body)))
		return w.Code
	}
	if code := call("1"); code != http.StatusInternalServerError || len(deadLetters(t, store)) != 0 {
		t.Errorf("the first time: %d, %d are kept", code, len(deadLetters(t, store)))
	}
	if code := call(`"5"`); code != http.StatusOK || len(deadLetters(t, store)) != 1 {
		t.Errorf("the last time: %d, %d are kept", code, len(deadLetters(t, store)))
	}
	text, err := os.ReadFile("../host.json")
	if err != nil {
		t.Fatal(err)
	}
	var app struct {
		Extensions struct{ Queues struct{ MaxDequeueCount int } }
	}
	if err := json.Unmarshal(text, &app); err != nil || app.Extensions.Queues.MaxDequeueCount != maxDequeueCount {
		t.Errorf("host.json has %d attempts, %v", app.Extensions.Queues.MaxDequeueCount, err)
	}
}

func TestNobodyOutsideCallsAFunction(t *testing.T) {
	h, _ := open(t)
	bell := encode(t, events.Timer{Cluster: cluster.Default, Time: time.Now()}.Event())
	for _, path := range []string{"/bells", "/eventgrid", "/timer"} {
		code, body := post(h, path, `{"Data":{"bell":`+bell+`},"Metadata":{}}`, "X-Forwarded-For", "192.0.2.1")
		if code != http.StatusForbidden && code != http.StatusUnauthorized || !strings.Contains(body, `"kind":"Status"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestATimerRunWithNothingToDoCostsTwoQueriesAtMost(t *testing.T) {
	h, store := open(t)
	timer := func() {
		if code, body := post(h, "/timer", `{"Data":{"timer":{}},"Metadata":{}}`); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
	}
	timer()
	queries, commits := store.Queries(), store.Commits.Load()
	timer()
	if q, c := store.Queries()-queries, store.Commits.Load()-commits; q > 2 || c > 0 {
		t.Errorf("%d queries and %d transactions", q, c)
	}
}
