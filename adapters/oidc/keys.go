package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc"
	"k8s.io/apiserver/pkg/apis/apiserver"
)

const (
	// askTimeout is how long an issuer may take for a document. A request may need two, and who delivers an event waits
	// for half a minute.
	askTimeout = 5 * time.Second
	// askAgainAfter is how long an issuer is not asked for a document again, whether it answered or not. Upstream looks
	// for one that does not answer as often. It also bounds what forged tokens, which seem to need newer keys, have it
	// be asked.
	askAgainAfter = 10 * time.Second
	// maxDocument is how many bytes of a document are read. Entra's have 2 and 20 KB.
	maxDocument = 1 << 20
)

// keySet is an issuer's keys, which are fetched when a token is to be checked and they are not known, or do not fit and
// may be newer by now. How long they are known follows from the answer's Cache-Control, as upstream.
type keySet struct {
	issuer    string
	transport *http.Transport
	discovery *http.Client
	documents *http.Client

	mu sync.Mutex
	// set is nil until the issuer has said where its keys are.
	set oidc.KeySet
}

var _ oidc.KeySet = (*keySet)(nil)

func newKeySet(i apiserver.Issuer, transport *http.Transport, now func() time.Time) *keySet {
	return &keySet{
		issuer: i.URL, transport: transport,
		discovery: &http.Client{Transport: &sparing{next: transport, url: i.DiscoveryURL, now: now}, Timeout: askTimeout},
		documents: &http.Client{Transport: &sparing{next: transport, now: now}, Timeout: askTimeout},
	}
}

// VerifySignature implements oidc.KeySet. When it returns, nothing that it began goes on, though whoever asked may be
// gone: the process may be frozen then.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	defer k.transport.CloseIdleConnections()
	set, err := k.discovered()
	if err != nil {
		return nil, fmt.Errorf("asking %s for its keys: %w", k.issuer, err)
	}
	return set.VerifySignature(context.WithoutCancel(ctx), token)
}

// discovered finds out where the keys are, once. Others who need them wait meanwhile, for no longer than askTimeout.
func (k *keySet) discovered() (oidc.KeySet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set != nil {
		return k.set, nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(context.Background(), k.discovery), k.issuer)
	if err != nil {
		return nil, err
	}
	var found struct {
		URL string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil {
		return nil, err
	}
	if found.URL == "" {
		return nil, errors.New("provider did not return JWKS URL")
	}
	k.set = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), k.documents), found.URL)
	return k.set, nil
}

// sparing asks for one document, and not again too soon.
type sparing struct {
	next http.RoundTripper
	// url, if set, is where the document is, in place of the request's URL.
	url string
	now func() time.Time

	mu    sync.Mutex
	asked time.Time
	// failure is how it last went wrong, nil if it did not.
	failure error
}

// RoundTrip implements http.RoundTripper.
func (s *sparing) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Response == nil { // else it follows a redirect
		if err := s.take(); err != nil {
			return nil, err
		}
		if s.url != "" {
			u, err := url.Parse(s.url)
			if err != nil {
				return nil, err
			}
			req = req.Clone(req.Context())
			req.URL, req.Host = u, ""
		}
	}
	resp, err := s.next.RoundTrip(req)
	failure := err
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxDocument)
		if resp.StatusCode >= http.StatusBadRequest {
			failure = errors.New(resp.Status)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = failure
	return resp, err
}

// take notes that the document is asked for, or says that it was lately.
func (s *sparing) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().Round(0) // the wall clock's: the other stands still while the process is frozen
	ago := now.Sub(s.asked)
	if ago < 0 || ago >= askAgainAfter { // or the clock was put back
		s.asked = now
		return nil
	}
	if s.failure != nil {
		return fmt.Errorf("it failed %s ago (%w), and is tried again after %s", ago.Round(time.Second), s.failure, askAgainAfter)
	}
	return fmt.Errorf("it was asked for %s ago, and is again after %s", ago.Round(time.Second), askAgainAfter)
}
