// Package issuer is a stand-in for an issuer of OpenID Connect: it serves its discovery document and its keys over TLS,
// and signs tokens, right ones and others. It signs with the standard library alone, so that who checks its tokens is not
// checked by itself.
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// Paths of the documents, below the issuer's URL.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/keys"
	// OtherPath has the discovery document too.
	OtherPath = "/elsewhere"
)

// rsaBits of a key, as Entra's.
const rsaBits = 2048

// Claims of a token.
type Claims map[string]any

// With returns the claims with others in place or beside them; a nil one is left out.
func (c Claims) With(others Claims) Claims {
	out := maps.Clone(c)
	maps.Copy(out, others)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// Key signs tokens.
type Key struct {
	// ID of the key, the kid of a token's header.
	ID     string
	signer crypto.Signer
}

// NewRSA makes a key for RS256.
func NewRSA(id string) (*Key, error) {
	k, err := rsa.GenerateKey(rand.Reader, rsaBits)
	return &Key{id, k}, err
}

// NewEC makes a key for ES256.
func NewEC(id string) (*Key, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &Key{id, k}, err
}

// Algorithm that the key signs with.
func (k *Key) Algorithm() string {
	if _, ok := k.signer.(*rsa.PrivateKey); ok {
		return "RS256"
	}
	return "ES256"
}

// Sign returns a token.
func (k *Key) Sign(c Claims) (string, error) {
	return k.SignAs(map[string]any{"alg": k.Algorithm(), "typ": "JWT", "kid": k.ID}, c)
}

// SignAs returns a token with a header of its own, which the key signs whatever it says.
func (k *Key) SignAs(header map[string]any, c Claims) (string, error) {
	signed, err := Unsigned(header, c)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	switch key := k.signer.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, key, sum[:]); err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// Unsigned returns a token without its signature, and the point before it.
func Unsigned(header map[string]any, c Claims) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(body), nil
}

// public returns the key as a document of keys has it.
func (k *Key) public() (map[string]string, error) {
	encode := base64.RawURLEncoding.EncodeToString
	out := map[string]string{"kid": k.ID, "use": "sig", "alg": k.Algorithm()}
	switch key := k.signer.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", encode(key.N.Bytes()), encode(big.NewInt(int64(key.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, and the coordinates
		if err != nil {
			return nil, err
		}
		out["kty"], out["crv"] = "EC", "P-256"
		out["x"], out["y"] = encode(point[1:33]), encode(point[33:])
	}
	return out, nil
}

// Issuer is a server.
type Issuer struct {
	*httptest.Server
	mu sync.Mutex
	// name is what the discovery document says that the issuer is, empty for its URL.
	name         string
	cacheControl string
	keys         []*Key
	down         bool
	asked        map[string]int
	held         map[string]*hold
	open         map[net.Conn]struct{}
}

// hold has the next request for a path wait.
type hold struct{ begun, release chan struct{} }

// Start serves an issuer with keys. The caller closes it.
func Start(keys ...*Key) *Issuer {
	i := &Issuer{keys: keys, asked: map[string]int{}, held: map[string]*hold{}, open: map[net.Conn]struct{}{}}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(i.serve))
	i.Config.ErrorLog = log.New(io.Discard, "", 0)
	i.Config.ConnState = i.connection
	i.StartTLS()
	return i
}

// CA is what its certificate is checked with, in PEM.
func (i *Issuer) CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
}

// Call has the discovery document name another issuer.
func (i *Issuer) Call(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.name = name
}

// Rotate has the document of keys hold others.
func (i *Issuer) Rotate(keys ...*Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Cache has the documents say how long they may be kept.
func (i *Issuer) Cache(control string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cacheControl = control
}

// SetDown has every request be answered 503, or not.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Asked returns how often a path was asked for.
func (i *Issuer) Asked(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

// Connections is how many are open, as far as the issuer has heard.
func (i *Issuer) Connections() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.open)
}

func (i *Issuer) connection(c net.Conn, s http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s == http.StateClosed {
		delete(i.open, c)
	} else {
		i.open[c] = struct{}{}
	}
}

// Hold has the next request for a path wait until it is released. Begun is closed when it has come.
func (i *Issuer) Hold(path string) (begun <-chan struct{}, release func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	h := &hold{make(chan struct{}), make(chan struct{})}
	i.held[path] = h
	return h.begun, sync.OnceFunc(func() { close(h.release) })
}

func (i *Issuer) await(path string) {
	i.mu.Lock()
	h := i.held[path]
	delete(i.held, path)
	i.mu.Unlock()
	if h != nil {
		close(h.begun)
		<-h.release
	}
}

func (i *Issuer) serve(w http.ResponseWriter, req *http.Request) {
	i.await(req.URL.Path)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[req.URL.Path]++
	if i.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	name := i.name
	if name == "" {
		name = i.URL
	}
	var document any
	switch req.URL.Path {
	case DiscoveryPath, OtherPath:
		document = map[string]string{"issuer": name, "jwks_uri": i.URL + KeysPath}
	case KeysPath:
		keys := []map[string]string{}
		for _, k := range i.keys {
			public, err := k.public()
			if err != nil {
				panic(fmt.Errorf("encoding the key %s: %w", k.ID, err))
			}
			keys = append(keys, public)
		}
		document = map[string]any{"keys": keys}
	default:
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if i.cacheControl != "" {
		w.Header().Set("Cache-Control", i.cacheControl)
	}
	if err := json.NewEncoder(w).Encode(document); err != nil {
		panic(fmt.Errorf("writing %s: %w", req.URL.Path, err))
	}
}

// audience of the tokens that Configuration accepts.
const audience = "zeroplane"

// Configuration is an AuthenticationConfiguration that accepts the issuer's tokens, as Token makes them.
func (i *Issuer) Configuration() string {
	return fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: %q, audiences: [%s], certificateAuthority: %q}
  claimMappings:
    username: {claim: sub, prefix: "issuer:"}
    groups: {claim: groups, prefix: "issuer:"}
`, i.URL, audience, i.CA())
}

// tokenLife is how long a token is good.
const tokenLife = time.Hour

// Token returns a token for a user in groups.
func (i *Issuer) Token(k *Key, user string, groups ...string) (string, error) {
	return k.Sign(Claims{"iss": i.URL, "aud": audience, "exp": time.Now().Add(tokenLife).Unix(), "sub": user, "groups": groups})
}

// Clock is one that is moved by hand.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at a time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is the time that it stands at.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass moves it.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
