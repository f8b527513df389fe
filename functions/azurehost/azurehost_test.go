package azurehost

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
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
