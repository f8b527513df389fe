package oidc

import (
	"net/http"
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
	if k.discovery.Timeout != askTimeout || k.documents.Timeout != askTimeout {
		t.Errorf("%s and %s of patience", k.discovery.Timeout, k.documents.Timeout)
	}
	token, err := key.Sign(issuer.Claims{"iss": i.URL})
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]*http.Client{issuer.DiscoveryPath: k.discovery, issuer.KeysPath: k.documents}
	for _, path := range []string{issuer.DiscoveryPath, issuer.KeysPath} {
		_, release := i.Hold(path)
		t.Cleanup(release)
		clients[path].Timeout = 50 * time.Millisecond
		if _, err := k.VerifySignature(t.Context(), token); err == nil || !strings.Contains(err.Error(), "exceeded") {
			t.Errorf("%s: %v", path, err)
		}
		clients[path].Timeout = askTimeout
		at = at.Add(askAgainAfter)
	}
	if _, err := k.VerifySignature(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestADocumentThatDoesNotEndIsNotReadWhole(t *testing.T) {
	s := &sparing{now: time.Now, next: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: endless{}}, nil
	})}
	resp, err := s.RoundTrip(&http.Request{})
	if err != nil {
		t.Fatal(err)
	}
	n, buffer := 0, make([]byte, 1<<16)
	for err == nil && n <= 2*maxDocument {
		var some int
		some, err = resp.Body.Read(buffer)
		n += some
	}
	if err == nil || n != maxDocument {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func (endless) Close() error { return nil }
