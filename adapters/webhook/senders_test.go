package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/events"
)

var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

const (
	key      = "0123456789abcdef01234567"
	otherKey = "76543210fedcba9876543210"
	body     = `{"hello": "world"}`
)

// signature is that of the one body that is sent here, as the message "m".
func signature(key string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "m.%d.%s", at.Unix(), body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func secrets() []Secret {
	return []Secret{
		{Name: "new", User: "shop", Key: []byte(key)}, {Name: "old", User: "shop", Key: []byte(otherKey)},
		{Name: "github", User: "octocat", Key: []byte(key), GitHub: true},
	}
}

func TestWhoSignsIsWhoTheSecretSays(t *testing.T) {
	s := &Signatures{Path: "/events", Secrets: func(context.Context) ([]Secret, error) { return secrets(), nil }, Now: func() time.Time { return now }}
	hub := hmac.New(sha256.New, []byte(key))
	hub.Write([]byte(body))
	good := signature(key, now)
	for name, tt := range map[string]struct {
		header map[string]string
		body   string
		// who is authenticated, nobody if empty; fails says that the request is refused.
		who   string
		fails bool
	}{
		"a secret":               {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": good}, body, "shop", false},
		"one that is going":      {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": signature(otherKey, now)}, body, "shop", false},
		"two signatures":         {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": "v1,AAAA v1a,BBBB " + good}, body, "shop", false},
		"5 minutes ago":          {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now.Add(-replayWindow)), "webhook-signature": signature(key, now.Add(-replayWindow))}, body, "shop", false},
		"longer ago":             {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now.Add(-replayWindow - time.Second)), "webhook-signature": signature(key, now.Add(-replayWindow-time.Second))}, body, "", true},
		"from the future":        {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now.Add(replayWindow + time.Second)), "webhook-signature": signature(key, now.Add(replayWindow+time.Second))}, body, "", true},
		"another body":           {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": good}, body + " ", "", true},
		"another id":             {map[string]string{"webhook-id": "n", "webhook-timestamp": unix(now), "webhook-signature": good}, body, "", true},
		"another time":           {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now.Add(time.Second)), "webhook-signature": good}, body, "", true},
		"no time":                {map[string]string{"webhook-id": "m", "webhook-signature": good}, body, "", true},
		"a time that is no time": {map[string]string{"webhook-id": "m", "webhook-timestamp": "soon", "webhook-signature": good}, body, "", true},
		"no id":                  {map[string]string{"webhook-timestamp": unix(now), "webhook-signature": good}, body, "", true},
		"another key":            {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": signature("xxxxxxxxxxxxxxxxxxxxxxxx", now)}, body, "", true},
		"another version":        {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": strings.Replace(good, "v1", "v2", 1)}, body, "", true},
		"not base64":             {map[string]string{"webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": "v1,***"}, body, "", true},
		"GitHub's":               {map[string]string{"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(hub.Sum(nil))}, body, "octocat", false},
		"GitHub's, another body": {map[string]string{"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(hub.Sum(nil))}, "x", "", true},
		"GitHub's, of SHA-1":     {map[string]string{"X-Hub-Signature-256": "sha1=00"}, body, "", true},
		"with another credential": {map[string]string{
			"Authorization": "Bearer x", "webhook-id": "m", "webhook-timestamp": unix(now), "webhook-signature": good,
		}, body, "", false},
		"none": {nil, body, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(tt.body))
			for k, v := range tt.header {
				req.Header.Set(k, v)
			}
			resp, ok, err := s.AuthenticateRequest(req)
			if ok != (tt.who != "") || (err != nil) != tt.fails {
				t.Fatalf("%t, %v", ok, err)
			}
			if ok && (resp.User.GetName() != tt.who || !cmp.Equal(resp.User.GetGroups(), []string{SendersGroup, user.AllAuthenticated})) {
				t.Errorf("it is %+v", resp.User)
			}
			if left, _ := io.ReadAll(req.Body); err == nil && string(left) != tt.body {
				t.Errorf("%q is left of the body", left)
			}
		})
	}
	elsewhere := httptest.NewRequest(http.MethodPost, "/api/v1/pods", strings.NewReader(body))
	elsewhere.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(hub.Sum(nil)))
	// As a TokenReview asks (k8s.io/kubernetes/pkg/registry/authentication/tokenreview/storage.go).
	review := &http.Request{Header: http.Header{"Authorization": {"Bearer token"}}}
	if _, ok, err := s.AuthenticateRequest(review); ok || err != nil {
		t.Errorf("a token that is reviewed: %t, %v", ok, err)
	}
	if _, ok, err := s.AuthenticateRequest(elsewhere); ok || err != nil {
		t.Errorf("on another path: %t, %v", ok, err)
	}
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func TestSecretsThatCannotBeUsedAreSaidToBe(t *testing.T) {
	for name, tt := range map[string]struct {
		data map[string]string
		says string
	}{
		"bytes":            {map[string]string{"user": "shop", "secret": key}, ""},
		"whsec":            {map[string]string{"user": "shop", "secret": "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) + "\n"}, ""},
		"GitHub's":         {map[string]string{"user": "shop", "secret": key, "scheme": "github"}, ""},
		"no user":          {map[string]string{"secret": key}, "user"},
		"a system's user":  {map[string]string{"user": "system:admin", "secret": key}, "user"},
		"too short":        {map[string]string{"user": "shop", "secret": "short"}, "secret"},
		"too short within": {map[string]string{"user": "shop", "secret": "whsec_" + base64.StdEncoding.EncodeToString([]byte("short"))}, "secret"},
		"no base64":        {map[string]string{"user": "shop", "secret": "whsec_***************************"}, "secret"},
		"another scheme":   {map[string]string{"user": "shop", "secret": key, "scheme": "md5"}, "scheme"},
	} {
		s := &corev1.Secret{Type: SecretType, Data: map[string][]byte{}}
		for k, v := range tt.data {
			s.Data[k] = []byte(v)
		}
		got, err := ReadSecret(s)
		if (err == nil) != (tt.says == "") || err != nil && !strings.HasPrefix(err.Error(), tt.says+":") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && string(got.Key) != key {
			t.Errorf("%s: the key is %q", name, got.Key)
		}
	}
}

func TestANoisySenderLeavesTheOthersTheirShare(t *testing.T) {
	l := newLimits()
	refused := 0
	for range 10 * senderBurst {
		leave, ok := l.enter("noisy")
		if !ok {
			refused++
			continue
		}
		leave()
	}
	if refused < 8*senderBurst {
		t.Errorf("%d of %d were refused", refused, 10*senderBurst)
	}
	for i := range senderAtOnce {
		if _, ok := l.enter("quiet"); !ok {
			t.Errorf("request %d of another sender is refused", i)
		}
	}
	if _, ok := l.enter("quiet"); ok {
		t.Errorf("more than %d requests of a sender are under way", senderAtOnce)
	}
	for i := range 2 * maxSenders {
		l.of(fmt.Sprint(i))
	}
	if n := l.senders.Len(); n > maxSenders {
		t.Errorf("%d senders are remembered", n)
	}
}

// foreignBody returns an example of another's event.
func foreignBody(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../events/foreign/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOthersEnvelopesAreRead(t *testing.T) {
	for name, want := range map[string]string{
		"image-pushed.event-grid":         "Microsoft.ContainerRegistry.ImagePushed",
		"alert.webhook":                   "azureMonitorCommonAlertSchema",
		"spot-interruption.eventbridge":   "aws.ec2.ec2-spot-instance-interruption-warning",
		"subscription-deleted.event-grid": "Microsoft.EventGrid.SubscriptionDeletedEvent",
	} {
		s := newSink()
		resp, status := s.post(t, "sender", "application/json; charset=utf-8", foreignBody(t, name))
		if resp.StatusCode != http.StatusAccepted || len(s.heard) != 1 || s.heard[0].Type() != want {
			t.Errorf("%s: %s %s, heard %v", name, resp.Status, status.Message, s.heard)
		}
	}
	s := newSink()
	if resp, _ := s.post(t, "sender", "application/json", `{"hello": "world"}`); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("an envelope that nobody knows: %s", resp.Status)
	}
	if resp, status := s.post(t, "sender", "application/json", `[{"id": "1"}]`); resp.StatusCode != http.StatusBadRequest || !strings.Contains(status.Message, "topic") {
		t.Errorf("a broken envelope: %s %s", resp.Status, status.Message)
	}
}

func TestEventGridIsToldThatItMaySend(t *testing.T) {
	s := newSink()
	req := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(foreignBody(t, "subscription-validation.event-grid")))
	req.Header.Set("Content-Type", "application/json")
	for who, code := range map[string]int{"sender": http.StatusOK, "nobody": http.StatusForbidden} {
		w := httptest.NewRecorder()
		again := req.Clone(request.WithUser(t.Context(), &user.DefaultInfo{Name: who}))
		again.Body = io.NopCloser(strings.NewReader(foreignBody(t, "subscription-validation.event-grid")))
		s.ServeHTTP(w, again)
		if w.Code != code || (code == http.StatusOK) != strings.Contains(w.Body.String(), `{"validationResponse":"`) {
			t.Errorf("%s: %d %s", who, w.Code, w.Body)
		}
	}
	if len(s.heard) > 0 {
		t.Errorf("%v was heard", s.heard)
	}
}

func letters(t *testing.T, s *sink) []deadletter.Letter {
	t.Helper()
	all, err := s.box.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ask sends a request about dead letters and returns the answer.
func (s *sink) ask(t *testing.T, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(request.WithUser(t.Context(), &user.DefaultInfo{Name: "sender"}), method, "/events/dead-letters"+path, nil)
	s.ServeLetters(w, req)
	return w.Code, w.Body.String()
}

func TestMalformedEventsAreKeptAndPostedAgain(t *testing.T) {
	s := newSink()
	bell := events.Timer{Cluster: "default", Time: now}.Event()
	broken := strings.Replace(encode(t, bell), `"time":`, `"tide":`, 1)
	resp, status := s.post(t, "sender", batched, "["+encode(t, bell)+","+broken+"]")
	all := letters(t, s)
	if resp.StatusCode != http.StatusBadRequest || len(all) != 1 || len(s.heard) != 1 || !strings.Contains(status.Message, "event 1 of 2") || !strings.Contains(status.Message, all[0].ID) {
		t.Fatalf("%s %s, %d letters, %d heard", resp.Status, status.Message, len(all), len(s.heard))
	}
	l := all[0]
	if l.Sender != "sender" || l.Field != "time" || l.Type != events.TimerType || l.EventID != bell.ID() || l.Via != deadletter.Webhook {
		t.Errorf("%+v", l)
	}
	code, body := s.ask(t, http.MethodGet, "/"+l.ID)
	if code != http.StatusOK || !strings.Contains(body, "tide") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := s.ask(t, http.MethodPost, "/"+l.ID+"/replay"); code != http.StatusBadRequest || !strings.Contains(body, "stays") || len(letters(t, s)) != 1 {
		t.Errorf("while it is malformed: %d %s", code, body)
	}
	// A program that understands it takes it.
	ok, err := s.box.Keep(t.Context(), deadletter.Letter{Sender: "x", Reason: "old"}, deadletter.Content{
		Header: map[string]string{"Ce-Specversion": "1.0", "Ce-Id": bell.ID(), "Ce-Type": bell.Type(), "Ce-Source": bell.Source(), "Ce-Time": now.Format(time.RFC3339), "Ce-Partitionkey": "default"},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := s.ask(t, http.MethodPost, "/"+ok.ID+"/replay"); code != http.StatusOK || len(s.heard) != 2 || len(letters(t, s)) != 1 {
		t.Errorf("%d %s, heard %d", code, body, len(s.heard))
	}
	for _, path := range []string{"/" + ok.ID + "/replay", "/0000000000000000/replay"} {
		if code, body := s.ask(t, http.MethodPost, path); code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := s.ask(t, http.MethodDelete, ""); code != http.StatusOK || !strings.Contains(body, `"removed":1`) || len(letters(t, s)) != 0 {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := s.ask(t, http.MethodPut, ""); code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", code)
	}
}

func TestWhoMayNotSendFillsNothing(t *testing.T) {
	s := newSink()
	for who, event := range map[string]string{
		"nobody":       strings.Replace(encode(t, events.Timer{Cluster: "default", Time: now}.Event()), `"time":`, `"tide":`, 1),
		"sender":       strings.Replace(encode(t, events.Due{Cluster: "default", Function: "f", Time: now}.Event()), `"time":`, `"tide":`, 1),
		user.Anonymous: "hello",
	} {
		before := rowsOf(t, s.store)
		if resp, _ := s.post(t, who, structured, event); resp.StatusCode != http.StatusForbidden && who != user.Anonymous {
			t.Errorf("%s: %s", who, resp.Status)
		}
		if diff := cmp.Diff(before, rowsOf(t, s.store)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", who, diff)
		}
	}
}

// rowsOf returns everything in a store.
func rowsOf(t *testing.T, store table.Store) map[string]string {
	t.Helper()
	names, err := store.(table.Lister).Partitions(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range names {
		err := table.All(t.Context(), store, name, table.Query{From: " ", To: "\x7f"}, func(r table.Row) bool {
			out[name+"/"+r.Key] = r.ETag
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// hasty lets bodies take no time.
type hasty struct{ http.ResponseWriter }

func (h hasty) SetReadDeadline(time.Time) error {
	return http.NewResponseController(h.ResponseWriter).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
}

func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	s := newSink()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if Buffer(hasty{w}, req) {
			s.ServeHTTP(hasty{w}, req.WithContext(request.WithUser(req.Context(), &user.DefaultInfo{Name: "sender"})))
		}
	}))
	defer server.Close()
	for _, header := range []string{"X-Nothing", signatureHeader} {
		r, w := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", structured)
		req.Header.Set(header, "v1,x")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = errors.Join(resp.Body.Close(), w.Close())
		if resp.StatusCode != http.StatusRequestTimeout || len(s.heard) > 0 {
			t.Errorf("%s: %s", header, resp.Status)
		}
	}
}

func TestWhatIsSignedIsBoundBeforeItIsKnownWhoSigned(t *testing.T) {
	req := httptest.NewRequest(http.MethodPost, "/events", bytes.NewReader(make([]byte, MaxBytes+1)))
	req.ContentLength = -1
	req.Header.Set(signatureHeader, "v1,x")
	w := httptest.NewRecorder()
	if Buffer(w, req) || w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for range maxBuffered {
		buffering <- struct{}{}
	}
	defer func() {
		for range maxBuffered {
			<-buffering
		}
	}()
	req.Body = http.NoBody
	w = httptest.NewRecorder()
	if Buffer(w, req) || w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("while there are many: %d %s", w.Code, w.Body)
	}
}
