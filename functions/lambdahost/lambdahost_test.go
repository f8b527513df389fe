package lambdahost

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	own "github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// breakable is a store that can be out of reach.
type breakable struct {
	table.Store
	broken atomic.Bool
}

var errOutOfReach = errors.New("out of reach")

func (b *breakable) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if b.broken.Load() {
		return table.Row{}, errOutOfReach
	}
	return b.Store.Get(ctx, partition, key)
}

func (b *breakable) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if b.broken.Load() {
		return table.Page{}, errOutOfReach
	}
	return b.Store.Range(ctx, partition, q)
}

func (b *breakable) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if b.broken.Load() {
		return errOutOfReach
	}
	return b.Store.Commit(ctx, partition, ops)
}

// sender notes what is sent, or fails.
type sender struct {
	mu   sync.Mutex
	sent []string
	err  error
}

func (s *sender) Reach() time.Duration { return time.Minute }

func (s *sender) Send(_ context.Context, e cloudevents.Event, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.sent = append(s.sent, e.ID()+" at "+at.UTC().Format(time.RFC3339))
	}
	return s.err
}

// open returns a handler on a store of its own.
func open(t *testing.T, o Options) (*Handler, *breakable, *sender) {
	t.Helper()
	t.Setenv(localhost.SealKeyEnv, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	store, bells := &breakable{Store: memorytable.New()}, &sender{}
	h, err := localhost.OpenBehind(localhost.Options{
		Store: localhost.Store{Store: store, Close: func() error { return nil }, Shared: true},
		Front: localhost.Front{Address: "app.example.com", Freezes: true}, Bells: bells, MaxAwake: 1,
	})
	if err == nil {
		_, err = h.Kubeconfig(t.Context()) // the default cluster is there
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.broken.Store(false)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	bells.sent = nil
	o.Host, o.Bells = h, bells
	return New(o), store, bells
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// batch is a payload of SQS with messages that are named by their place, from 0.
func batch(t *testing.T, bodies ...string) json.RawMessage {
	t.Helper()
	var in events.SQSEvent
	for i, body := range bodies {
		in.Records = append(in.Records, events.SQSMessage{MessageId: fmt.Sprint(i), Body: body, EventSource: "aws:sqs"})
	}
	return json.RawMessage(encode(t, in))
}

func bell(t *testing.T, at time.Time) string {
	t.Helper()
	return encode(t, own.Timer{Cluster: cluster.Default, Time: at}.Event())
}

// bridged is a payload of EventBridge.
func bridged(source, kind, detail string) string {
	return `{"version":"0","id":"1","account":"123456789012","region":"eu-west-1","time":"2026-11-24T08:00:00Z","resources":[],` +
		`"source":"` + source + `","detail-type":"` + kind + `","detail":` + detail + `}`
}

func TestPayloadsAreToldApart(t *testing.T) {
	h, _, _ := open(t, Options{})
	const none = `{"batchItemFailures":[]}`
	spot := "EC2 Spot Instance Interruption Warning"
	for name, tt := range map[string]struct {
		payload string
		answer  string
		err     error
	}{
		"a bell":                      {string(batch(t, bell(t, time.Now()))), none, nil},
		"the schedule":                {bridged("aws.events", "Scheduled Event", "{}"), "null", nil},
		"an event of EC2":             {bridged("aws.ec2", spot, `{"instance-id":"i-0123456789abcdef0","instance-action":"stop"}`), "null", nil},
		"a malformed event of EC2":    {bridged("aws.ec2", spot, `{"instance-id":7}`), "null", nil},
		"an event that nobody knows":  {bridged("com.example", "Strange", "{}"), "null", nil},
		"an envelope that is no such": {`{"detail-type":"Strange"}`, "null", nil},
		"a payload of no kind":        {`{"hello":"world"}`, "null", own.ErrMalformed},
		"what is no object":           {`"hello"`, "null", own.ErrMalformed},
		"a batch of another service":  {`{"Records":[{"eventSource":"aws:s3"}]}`, "null", own.ErrMalformed},
		"a batch whose form is wrong": {`{"Records":[{"eventSource":"aws:sqs","body":7}]}`, "null", own.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := h.Invoke(t.Context(), json.RawMessage(tt.payload))
			if got := encode(t, answer); got != tt.answer || !errors.Is(err, tt.err) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

func TestOnlyMessagesThatMaySucceedLaterComeAgain(t *testing.T) {
	h, store, bells := open(t, Options{})
	now := time.Now()
	payload := batch(t,
		bell(t, now), "hello", bell(t, now.Add(-time.Minute)),
		`{"specversion":"1.0","type":"com.example.strange","source":"/s","id":"1"}`, bell(t, now.Add(time.Hour)),
		strings.Replace(bell(t, now), `"source":"`, `"source":"/nowhere`, 1),
	)
	failed := func() string {
		t.Helper()
		answer, err := h.Invoke(t.Context(), payload)
		if err != nil {
			t.Fatal(err)
		}
		return encode(t, answer)
	}
	if got := failed(); got != `{"batchItemFailures":[]}` || len(bells.sent) != 1 {
		t.Errorf("%s failed, and %v were sent on", got, bells.sent)
	}
	store.broken.Store(true)
	bells.err = errors.New("no")
	if got := failed(); got != `{"batchItemFailures":[{"itemIdentifier":"1"},{"itemIdentifier":"4"},{"itemIdentifier":"5"},{"itemIdentifier":"0"},{"itemIdentifier":"2"}]}` {
		t.Errorf("without the store and the queue, %s failed", got)
	}
}

func TestWhatIsMalformedIsKeptAmongTheDeadLetters(t *testing.T) {
	h, store, _ := open(t, Options{})
	info, err := (cluster.Registry{Store: store}).Get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	samples := `{"specversion":"1.0","type":"` + own.SamplesType + `","source":"/clusters/default","id":"1"}`
	for _, payload := range []json.RawMessage{
		batch(t, "hello", strings.Replace(bell(t, time.Now()), `"source":"`, `"source":"/nowhere`, 1), samples),
		json.RawMessage(bridged("aws.ec2", "EC2 Spot Instance Interruption Warning", `{"instance-id":7}`)),
		json.RawMessage(`{"detail-type":"Strange"}`),
	} {
		if answer, err := h.Invoke(t.Context(), payload); err != nil || strings.Contains(encode(t, answer), "itemIdentifier") {
			t.Errorf("%v, %v", answer, err)
		}
	}
	letters, err := deadletter.New(store, info.Partition()).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]int{}
	for _, l := range letters {
		kept[l.Via]++
	}
	if diff := cmp.Diff(map[string]int{deadletter.Queue: 3, deadletter.EventBridge: 2}, kept); diff != "" {
		t.Error(diff)
	}
}

func TestABellThatIsHeardTooEarlyIsSentOnAndNothingElseIsDone(t *testing.T) {
	h, store, bells := open(t, Options{})
	store.broken.Store(true)
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	if answer, err := h.Invoke(t.Context(), batch(t, bell(t, at))); err != nil || encode(t, answer) != `{"batchItemFailures":[]}` {
		t.Errorf("%v, %v", answer, err)
	}
	if len(bells.sent) != 1 || !strings.HasSuffix(bells.sent[0], " at "+at.Format(time.RFC3339)) {
		t.Errorf("it sent %v", bells.sent)
	}
}

func TestTheTimerFailsSoThatItCountsWhenTheStoreCannotBeReached(t *testing.T) {
	h, store, _ := open(t, Options{})
	store.broken.Store(true)
	if _, err := h.Invoke(t.Context(), json.RawMessage(bridged("aws.events", "Scheduled Event", "{}"))); !errors.Is(err, errOutOfReach) {
		t.Errorf("%v", err)
	}
}

func TestConnectionsAreGivenUpAfterTheProcessWasFrozen(t *testing.T) {
	now, thawed := time.Now(), 0
	h, _, _ := open(t, Options{Now: func() time.Time { return now }, Thawed: func() { thawed++ }})
	for i, tt := range []struct {
		pause time.Duration
		want  int
	}{{time.Hour, 0}, {time.Second, 0}, {thawAfter, 1}, {time.Hour, 2}} {
		now = now.Add(tt.pause)
		if _, err := h.Invoke(t.Context(), batch(t, "hello")); err != nil || thawed != tt.want {
			t.Errorf("call %d: given up %d times: %v", i, thawed, err)
		}
	}
}

// urlRequest is a payload of the function's URL.
func urlRequest(change func(*events.LambdaFunctionURLRequest)) events.LambdaFunctionURLRequest {
	in := events.LambdaFunctionURLRequest{Version: "2.0", RawPath: "/api", Headers: map[string]string{}}
	in.RequestContext.DomainName, in.RequestContext.HTTP.Method, in.RequestContext.HTTP.SourceIP = "abc.lambda-url.eu-west-1.on.aws", "GET", "192.0.2.1"
	change(&in)
	return in
}

func TestARequestIsWhatTheClientSent(t *testing.T) {
	type sent struct {
		Target, Path, Host, From, Body string
		Header                         http.Header
	}
	plain := func(change func(*sent)) sent {
		s := sent{Target: "/api", Path: "/api", Host: "abc.lambda-url.eu-west-1.on.aws", From: "192.0.2.1:0", Header: http.Header{}}
		change(&s)
		return s
	}
	for name, tt := range map[string]struct {
		in   func(*events.LambdaFunctionURLRequest)
		want func(*sent)
	}{
		"a path and a query": {
			func(in *events.LambdaFunctionURLRequest) {
				in.RawPath, in.RawQueryString = "/api/v1/pods", "watch=1&labelSelector=a%3Db"
			},
			func(s *sent) { s.Target, s.Path = "/api/v1/pods?watch=1&labelSelector=a%3Db", "/api/v1/pods" },
		},
		"a name that is escaped": {
			func(in *events.LambdaFunctionURLRequest) { in.RawPath = "/roles/system%3Aa%2Fb" },
			func(s *sent) { s.Target, s.Path = "/roles/system%3Aa%2Fb", "/roles/system:a/b" },
		},
		"a name that was unescaped": {
			func(in *events.LambdaFunctionURLRequest) { in.RawPath = "/roles/a b%" },
			func(s *sent) { s.Target, s.Path = "/roles/a%20b%25", "/roles/a b%" },
		},
		"no path": {
			func(in *events.LambdaFunctionURLRequest) { in.RawPath = "" },
			func(s *sent) { s.Target, s.Path = "/", "/" },
		},
		"text": {
			func(in *events.LambdaFunctionURLRequest) { in.Body = "hello" },
			func(s *sent) { s.Body = "hello" },
		},
		"bytes": {
			func(in *events.LambdaFunctionURLRequest) {
				in.Body, in.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte{0, 255, 'k'}), true
			},
			func(s *sent) { s.Body = "\x00\xffk" },
		},
		"headers": {
			func(in *events.LambdaFunctionURLRequest) {
				in.Headers = map[string]string{"host": "plane.example.com", "authorization": "Bearer a", "accept": "a/b,c/d"}
			},
			func(s *sent) {
				s.Host, s.Header = "plane.example.com", http.Header{"Authorization": {"Bearer a"}, "Accept": {"a/b,c/d"}}
			},
		},
		"headers that come once for each value": {
			func(in *events.LambdaFunctionURLRequest) {
				in.Headers = map[string]string{"impersonate-user": "a,b", "impersonate-group": "a,b", "impersonate-extra-c": "d,e"}
			},
			func(s *sent) {
				s.Header = http.Header{"Impersonate-User": {"a,b"}, "Impersonate-Group": {"a", "b"}, "Impersonate-Extra-C": {"d", "e"}}
			},
		},
		"cookies": {
			func(in *events.LambdaFunctionURLRequest) { in.Cookies = []string{"a=1", "b=2"} },
			func(s *sent) { s.Header = http.Header{"Cookie": {"a=1; b=2"}} },
		},
		"an address of version 6": {
			func(in *events.LambdaFunctionURLRequest) { in.RequestContext.HTTP.SourceIP = "2001:db8::1" },
			func(s *sent) { s.From = "[2001:db8::1]:0" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := urlRequest(tt.in)
			req, err := request(t.Context(), &in)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := sent{Target: req.RequestURI, Path: req.URL.Path, Host: req.Host, From: req.RemoteAddr, Body: string(body), Header: req.Header}
			if diff := cmp.Diff(plain(tt.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// answerOf calls a handler whose API is a function.
func answerOf(t *testing.T, api http.HandlerFunc) (*events.LambdaFunctionURLStreamingResponse, error) {
	t.Helper()
	h, _, _ := open(t, Options{})
	h.api = api
	out, err := h.Invoke(t.Context(), json.RawMessage(encode(t, urlRequest(func(*events.LambdaFunctionURLRequest) {}))))
	if err != nil {
		return nil, err
	}
	return out.(*events.LambdaFunctionURLStreamingResponse), nil
}

func TestAnAnswerIsStreamedAndClosingItEndsTheRequest(t *testing.T) {
	ended := make(chan struct{})
	out, err := answerOf(t, func(w http.ResponseWriter, req *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "99")
		w.Header()["Warning"] = []string{"299 - a", "299 - b"}
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "first")
		<-req.Context().Done()
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"Content-Type": "application/json", "Warning": "299 - a, 299 - b"}
	if diff := cmp.Diff(want, out.Headers); diff != "" || out.StatusCode != http.StatusTeapot || len(out.Cookies) != 2 {
		t.Errorf("%d %v\n%s", out.StatusCode, out.Cookies, diff)
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(out.Body, first); err != nil || string(first) != "first" {
		t.Errorf("%q, %v", first, err)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("the request goes on")
	}
}

func TestTheAnswerToHeadHasNoBody(t *testing.T) {
	h, _, _ := open(t, Options{})
	for method, want := range map[string]bool{http.MethodHead: true, http.MethodGet: false} {
		in := urlRequest(func(in *events.LambdaFunctionURLRequest) {
			in.RawPath, in.RequestContext.HTTP.Method = "/version", method
		})
		out, err := h.Invoke(t.Context(), json.RawMessage(encode(t, in)))
		if err != nil {
			t.Fatal(err)
		}
		answer := out.(*events.LambdaFunctionURLStreamingResponse)
		body, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Close()); err != nil || (len(body) == 0) != want {
			t.Errorf("%s: %d, %d bytes, %v", method, answer.StatusCode, len(body), err)
		}
	}
}

func TestAnAnswerThatIsGivenUpIsNotTakenForOne(t *testing.T) {
	for name, p := range map[string]any{"as the API does": http.ErrAbortHandler, "by mistake": "oops"} {
		if _, err := answerOf(t, func(http.ResponseWriter, *http.Request) { panic(p) }); err == nil {
			t.Errorf("%s, before it began: no error", name)
		}
		out, err := answerOf(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			panic(p)
		})
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(out.Body); string(body) != "half" || err == nil {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
}

func TestARequestThatCannotBeReadIsRefused(t *testing.T) {
	h, _, _ := open(t, Options{})
	in := urlRequest(func(in *events.LambdaFunctionURLRequest) { in.Body, in.IsBase64Encoded = "%", true })
	out, err := h.Invoke(t.Context(), json.RawMessage(encode(t, in)))
	if err != nil {
		t.Fatal(err)
	}
	if code := out.(*events.LambdaFunctionURLStreamingResponse).StatusCode; code != http.StatusBadRequest {
		t.Errorf("%d", code)
	}
}

func TestAFailedStartIsReported(t *testing.T) {
	var got string
	runtime := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		got = req.Method + " " + req.URL.Path + " " + req.Header.Get("Lambda-Runtime-Function-Error-Type") + " " + string(body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer runtime.Close()
	t.Setenv(RuntimeEnv, strings.TrimPrefix(runtime.URL, "http://"))
	if err := ReportFailedStart(t.Context(), errors.New("no key")); err != nil {
		t.Fatal(err)
	}
	want := `POST /2018-06-01/runtime/init/error Zeroplane.Start {"errorMessage":"no key","errorType":"Zeroplane.Start","stackTrace":[]}`
	if got != want {
		t.Errorf("%s", got)
	}
}
