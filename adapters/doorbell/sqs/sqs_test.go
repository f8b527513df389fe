package sqs

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// service stands in for SQS: it takes one message after the other, and may lose or refuse some.
type service struct {
	fail     int
	requests []map[string]any
	headers  []http.Header
	garble   bool
}

func (s *service) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.requests, s.headers = append(s.requests, in), append(s.headers, req.Header)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if s.fail > 0 {
		s.fail--
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprint(w, `{"__type":"com.amazonaws.sqs#ServiceUnavailable","message":"busy"}`)
		return
	}
	text := in["MessageBody"].(string)
	if s.garble {
		text += "?"
	}
	sum := md5.Sum([]byte(text))
	_ = json.NewEncoder(w).Encode(map[string]any{"MessageId": "1", "MD5OfMessageBody": hex.EncodeToString(sum[:])})
}

func open(t *testing.T, s *service) *Bells {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"ZEROPLANE_BELLS_QUEUE": "https://sqs.eu-west-1.amazonaws.com/123456789012/zeroplane-bells", "AWS_REGION": "eu-west-1",
		"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session", "AWS_ENDPOINT_URL_SQS": server.URL,
	} {
		t.Setenv(name, value)
	}
	b, err := Open(OptionsFromEnv())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bell() cloudevents.Event { return events.Timer{Cluster: "c", Time: time.Unix(1, 0)}.Event() }

func TestABellIsAMessageThatIsTheEventAndSignedAsTheRole(t *testing.T) {
	s := &service{}
	b := open(t, s)
	if err := b.Send(t.Context(), bell(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if len(s.requests) != 1 {
		t.Fatalf("%d requests", len(s.requests))
	}
	in, header := s.requests[0], s.headers[0]
	if in["QueueUrl"] != "https://sqs.eu-west-1.amazonaws.com/123456789012/zeroplane-bells" || header.Get("X-Amz-Target") != "AmazonSQS.SendMessage" {
		t.Errorf("it asked %s of %v", header.Get("X-Amz-Target"), in["QueueUrl"])
	}
	if a := header.Get("Authorization"); !strings.Contains(a, "Credential=AKIA/") || !strings.Contains(a, "/eu-west-1/sqs/aws4_request") || header.Get("X-Amz-Security-Token") != "session" {
		t.Errorf("it is signed %q", a)
	}
	var e cloudevents.Event
	if err := json.Unmarshal([]byte(in["MessageBody"].(string)), &e); err != nil {
		t.Fatal(err)
	}
	if m, err := events.ParseTimer(e); err != nil || m.Cluster != "c" || !m.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("it says %+v: %v", m, err)
	}
}

func TestABellIsNeverHeardTooEarlyButForTheServicesBound(t *testing.T) {
	now := time.Unix(1000, 0)
	for wait, want := range map[time.Duration]int32{
		-time.Hour: 0, 0: 0, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 15 * time.Minute: 900, time.Hour: 900,
	} {
		if got := delay(now.Add(wait), now); got != want {
			t.Errorf("%s: put off by %d s, want %d", wait, got, want)
		}
	}
}

func TestABellThatTheServiceCannotTakeNowIsSentAgain(t *testing.T) {
	s := &service{fail: 1}
	if err := open(t, s).Send(t.Context(), bell(), time.Now()); err != nil || len(s.requests) != 2 {
		t.Errorf("%d requests: %v", len(s.requests), err)
	}
}

func TestAMessageThatTheServiceGarbledIsNotTakenForSent(t *testing.T) {
	s := &service{garble: true}
	if err := open(t, s).Send(t.Context(), bell(), time.Now()); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("no error of the checksum: %v", err)
	}
}

func TestWhatIsMissingInTheEnvironmentIsNamed(t *testing.T) {
	for _, name := range []string{"ZEROPLANE_BELLS_QUEUE", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		open(t, &service{})
		t.Setenv(name, "")
		if _, err := Open(OptionsFromEnv()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
