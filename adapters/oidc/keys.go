package oidc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	// for one that does not answer as often. It also bounds what forged tokens have it be asked, which seem to need newer
	// keys.
	askAgainAfter = 10 * time.Second
	// maxDocument is how many bytes of a document are read. Entra's have 2 and 20 KB.
	maxDocument = 1 << 20
)

// keySet is an issuer's keys, which are fetched when a token is to be checked and they are not known, or do not fit and
// may be newer by now. How long they are known follows from the answer's Cache-Control, as upstream.
type keySet struct {
	issuer    string
	transport *http.Transport
	// discovery says where the keys are.
	discovery, keys *document

	mu sync.Mutex
	// set is nil until the issuer has said where its keys are.
	set oidc.KeySet
}

var _ oidc.KeySet = (*keySet)(nil)

func newKeySet(i apiserver.Issuer, transport *http.Transport, now func() time.Time) *keySet {
	client := &http.Client{Transport: transport, Timeout: askTimeout}
	return &keySet{
		issuer: i.URL, transport: transport,
		discovery: &document{client: client, url: i.DiscoveryURL, now: now}, keys: &document{client: client, now: now},
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
	provider, err := oidc.NewProvider(k.discovery.context(), k.issuer)
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
	k.set = oidc.NewRemoteKeySet(k.keys.context(), found.URL)
	return k.set, nil
}

// document is one of an issuer's. Whoever asks for it again too soon gets what came last.
type document struct {
	client *http.Client
	// url, if set, is where the document is, in place of the request's URL.
	url string
	now func() time.Time

	mu    sync.Mutex
	asked time.Time
	// response, without its body, and err are what came last.
	response http.Response
	body     []byte
	err      error
}

// context is one with which go-oidc asks for the document.
func (d *document) context() context.Context {
	return oidc.ClientContext(context.Background(), &http.Client{Transport: d})
}

// RoundTrip implements http.RoundTripper.
func (d *document) RoundTrip(req *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now().Round(0) // the wall clock's: the other stands still while the process is frozen
	ago := now.Sub(d.asked)
	switch {
	case ago < 0 || ago >= askAgainAfter: // or the clock was put back
		d.asked = now
		if d.err = d.fetch(req); d.err != nil {
			return nil, d.err
		}
	case d.err != nil:
		return nil, fmt.Errorf("it failed %s ago, and is tried again after %s: %w", ago.Round(time.Second), askAgainAfter, d.err)
	}
	response := d.response
	response.Body, response.Request = io.NopCloser(bytes.NewReader(d.body)), req
	return &response, nil
}

// fetch asks the issuer.
func (d *document) fetch(req *http.Request) error {
	address := req.URL.String()
	if d.url != "" {
		address = d.url
	}
	ask, err := http.NewRequestWithContext(req.Context(), http.MethodGet, address, nil) //nolint:gosec // the operator names the issuer
	if err != nil {
		return err
	}
	response, err := d.client.Do(ask) //nolint:gosec // the operator names the issuer
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if len(body) > maxDocument {
		err = fmt.Errorf("it has more than %d bytes", maxDocument)
	}
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("reading %s: %w", address, err)
	}
	d.response, d.body = *response, body
	return nil
}
