package oidc

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"

	"github.com/zeroplane/zeroplane/tests/issuer"
)

// TestAnIssuerThatDoesNotAnswerIsGivenUp has either document not come, with shorter patience than is used.
func TestAnIssuerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	key, err := issuer.NewEC("k1")
	if err != nil {
		t.Fatal(err)
	}
	i := issuer.Start(key)
	t.Cleanup(i.Close)
	from := apiserver.Issuer{URL: i.URL, CertificateAuthority: i.CA()}
	transport, err := transportOf(from)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	k := newKeySet(from, transport, func() time.Time { return at })
	patience := k.keys.client
	if patience.Timeout != askTimeout || k.discovery.client != patience {
		t.Errorf("%s of patience", patience.Timeout)
	}
	token, err := key.Sign(issuer.Claims{"iss": i.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{issuer.DiscoveryPath, issuer.KeysPath} {
		_, release := i.Hold(path)
		t.Cleanup(release)
		patience.Timeout = 50 * time.Millisecond
		for _, says := range []string{"exceeded", "it failed 0s ago, and is tried again after 10s"} {
			becomes(t, k, token, func(err error) bool { return err != nil && strings.Contains(err.Error(), says) })
		}
		patience.Timeout = askTimeout
		at = at.Add(askAgainAfter)
	}
	becomes(t, k, token, func(err error) bool { return err == nil })
}

// becomes waits until a token is judged as it should be: who waited for keys is answered a moment before they are noted
// (updateKeys of github.com/coreos/go-oidc).
func becomes(t *testing.T, k *keySet, token string, holds func(error) bool) {
	t.Helper()
	for deadline := time.Now().Add(askTimeout); ; time.Sleep(time.Millisecond) {
		_, err := k.VerifySignature(t.Context(), token)
		if holds(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestADocumentThatDoesNotEndIsNotReadWhole(t *testing.T) {
	body := &endless{}
	d := &document{now: time.Now, client: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
	})}}
	_, err := d.RoundTrip(httptest.NewRequest(http.MethodGet, "https://issuer.example.com/keys", nil))
	if err == nil || !strings.Contains(err.Error(), "it has more than 1048576 bytes") || body.read > 2*maxDocument || !body.closed {
		t.Errorf("%v after %d bytes, closed: %t", err, body.read, body.closed)
	}
}

// TestARedirectIsFollowedAndNotAskedForAgain has the document be elsewhere.
func TestARedirectIsFollowedAndNotAskedForAgain(t *testing.T) {
	calls := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		calls[req.URL.Path]++
		if req.URL.Path == "/keys" {
			http.Redirect(w, req, "/elsewhere", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("keys"))
	}))
	defer s.Close()
	at := time.Now()
	d := &document{now: func() time.Time { return at }, client: s.Client()}
	client := &http.Client{Transport: d}
	for n, after := range []time.Duration{0, askAgainAfter - time.Nanosecond, time.Nanosecond} {
		at = at.Add(after)
		resp, err := client.Get(s.URL + "/keys")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || string(body) != "keys" {
			t.Errorf("%q, %v", body, err)
		}
		if want := n/2 + 1; calls["/keys"] != want || calls["/elsewhere"] != want {
			t.Errorf("after %s more: %v, want %d each", after, calls, want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type endless struct {
	read   int
	closed bool
}

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func (e *endless) Close() error {
	e.closed = true
	return nil
}
