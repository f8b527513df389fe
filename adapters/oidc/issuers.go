package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
	certutil "k8s.io/client-go/util/cert"
)

// Issuers authenticates tokens of a configuration's issuers. It holds what is known of their keys, so a process needs
// one for all clusters. Nothing runs, and no connection is open, but while a token is looked at.
type Issuers struct {
	// byURL returns the authenticator of an issuer's tokens, which is made when the first comes: it compiles expressions.
	byURL map[string]func() (authenticator.Token, error)
	at    underway
}

var _ authenticator.Token = (*Issuers)(nil)

// New returns the authenticator of a configuration, nil for one of no issuers. It asks nobody and compiles nothing. Now
// is the wall clock.
func New(c *Config, now func() time.Time) *Issuers {
	all := &Issuers{byURL: map[string]func() (authenticator.Token, error){}}
	if c == nil {
		return all
	}
	for _, a := range c.JWT {
		all.byURL[a.Issuer.URL] = sync.OnceValues(func() (authenticator.Token, error) { return c.authenticator(a, now) })
	}
	return all
}

// authenticator returns upstream's, which is ready at once when it is given its keys. With them it may not be given a
// discoveryURL, which is for finding the keys and of no use to it but for that.
func (c *Config) authenticator(a apiserver.JWTAuthenticator, now func() time.Time) (authenticator.Token, error) {
	transport, err := transportOf(a.Issuer)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of %s: %w", a.Issuer.URL, err)
	}
	keys := newKeySet(a.Issuer, transport, now)
	a.Issuer.DiscoveryURL = ""
	return oidc.New(context.Background(), oidc.Options{
		JWTAuthenticator: a, KeySet: keys, Client: &http.Client{Transport: noDistributedClaims{}}, Compiler: c.compiler,
		SupportedSigningAlgs: oidc.AllValidSigningAlgorithms(), // as upstream, where there is a configuration
	})
}

// AuthenticateToken implements authenticator.Token. It has no opinion about tokens of other issuers. A token of an issuer
// that cannot be asked is refused.
func (i *Issuers) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if len(i.byURL) == 0 {
		return nil, false, nil
	}
	of := i.byURL[claimedIssuer(token)]
	if of == nil {
		return nil, false, nil
	}
	i.at.begin()
	defer i.at.end()
	a, err := of()
	if err != nil {
		return nil, false, err
	}
	return a.AuthenticateToken(ctx, token)
}

// Idle returns when no token is being looked at, or fails with the context's error.
func (i *Issuers) Idle(ctx context.Context) error {
	for {
		over := i.at.over()
		if over == nil {
			return nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return fmt.Errorf("asking issuers for their keys: %w", ctx.Err())
		}
	}
}

// claimedIssuer returns the issuer that a token names, empty for none, before anything of the token was checked. As
// upstream's untrustedIssuer; upstream's authenticator looks again.
func claimedIssuer(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	middle, _, found := strings.Cut(rest, ".")
	if !found {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(middle)
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	if claims.Issuer == "accounts.google.com" {
		return "https://accounts.google.com"
	}
	return claims.Issuer
}

// transportOf returns what asks an issuer. HTTP/2 would send pings over a connection that is not closed yet.
func transportOf(i apiserver.Issuer) (*http.Transport, error) {
	var roots *x509.CertPool // nil for the system's
	if i.CertificateAuthority != "" {
		var err error
		if roots, err = certutil.NewPoolFromBytes([]byte(i.CertificateAuthority)); err != nil {
			return nil, err
		}
	}
	return utilnet.SetTransportDefaults(&http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
	}), nil
}

// noDistributedClaims has no claim fetched that a token only refers to: to check what it gets, upstream asks whoever
// that names as its issuer every ten seconds, in the background and until it answers (newAsyncIDTokenVerifier). The token
// is refused, as upstream refuses it when nothing is got. Entra's references to groups, of users in more than 200, cannot
// be followed without a right to its Graph either.
type noDistributedClaims struct{}

var errDistributed = errors.New("claims that a token refers to are not fetched")

// RoundTrip implements http.RoundTripper.
func (noDistributedClaims) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errDistributed
}

// underway counts what is being done.
type underway struct {
	mu   sync.Mutex
	n    int
	done chan struct{}
}

func (u *underway) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == 0 {
		u.done = make(chan struct{})
	}
	u.n++
}

func (u *underway) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 {
		close(u.done)
	}
}

// over returns what is closed when nothing is being done, nil if that is so.
func (u *underway) over() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == 0 {
		return nil
	}
	return u.done
}
