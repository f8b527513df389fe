package oidc_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	upstream "k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"

	"github.com/zeroplane/zeroplane/adapters/oidc"
	"github.com/zeroplane/zeroplane/tests/issuer"
)

// entra is a configuration as for Microsoft Entra, of an issuer's URL and CA.
const entra = `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: %s
    certificateAuthority: %q
    audiences: [api, other-api]
    audienceMatchPolicy: MatchAny
  claimValidationRules:
  - {claim: ver, requiredValue: "2.0"}
  - {expression: "claims.tid == 'tenant'", message: another tenant's}
  claimMappings:
    username: {expression: "'entra:' + claims.oid"}
    groups: {claim: groups, prefix: "entra:"}
    uid: {claim: oid}
    extra:
    - {key: example.com/app, valueExpression: "has(claims.azp) ? claims.azp : ''"}
  userValidationRules:
  - {expression: "!user.groups.exists(g, g == 'entra:banned')", message: is banned}
`

// own is who has no issuer.
func own(string) bool { return false }

func load(t *testing.T, document string) *oidc.Config {
	t.Helper()
	c, err := oidc.Load([]byte(document), own)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rsaKey(t *testing.T, id string) *issuer.Key { return made(t)(issuer.NewRSA(id)) }

func ecKey(t *testing.T, id string) *issuer.Key { return made(t)(issuer.NewEC(id)) }

func made(t *testing.T) func(*issuer.Key, error) *issuer.Key {
	t.Helper()
	return func(k *issuer.Key, err error) *issuer.Key {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}

// start serves an issuer until the test ends.
func start(t *testing.T, keys ...*issuer.Key) *issuer.Issuer {
	t.Helper()
	i := issuer.Start(keys...)
	t.Cleanup(i.Close)
	return i
}

// claims of a good token.
func claims(i *issuer.Issuer) issuer.Claims {
	now := time.Now()
	return issuer.Claims{
		"iss": i.URL, "aud": "api", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "sub": "s", "ver": "2.0",
		"tid": "tenant", "oid": "0001", "azp": "cli", "groups": []string{"g1", "g2"}, "jti": "j",
	}
}

// none says that a token is not the authenticator's.
const none = "-"

// tokens are right and wrong ones, by what they are, with a part of the error that is wanted of the wrong ones.
func tokens(t *testing.T, i *issuer.Issuer, key, second, stranger *issuer.Key) map[string]struct{ token, err string } {
	t.Helper()
	as := func(k *issuer.Key, header map[string]any, c issuer.Claims) string {
		t.Helper()
		token, err := k.SignAs(header, c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	signed := func(k *issuer.Key, c issuer.Claims) string {
		t.Helper()
		return as(k, map[string]any{"alg": k.Algorithm(), "kid": k.ID}, c)
	}
	unsigned, err := issuer.Unsigned(map[string]any{"alg": "none"}, claims(i))
	if err != nil {
		t.Fatal(err)
	}
	good, now := claims(i), time.Now()
	with := func(name string, v any) string { return signed(key, good.With(issuer.Claims{name: v})) }
	token := signed(key, good)
	parts := strings.Split(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	signature[10] ^= 1
	root := strings.Split(with("oid", "root"), ".")[1]
	return map[string]struct{ token, err string }{
		"signed by RSA":           {token, ""},
		"signed by EC":            {signed(second, good), ""},
		"the other audience":      {with("aud", "other-api"), ""},
		"several audiences":       {with("aud", []string{"x", "api"}), ""},
		"no groups":               {with("groups", nil), ""},
		"one group, no list":      {with("groups", "g1"), ""},
		"no app":                  {with("azp", nil), ""},
		"no key ID":               {as(key, map[string]any{"alg": "RS256"}, good), ""},
		"not before, with leeway": {with("nbf", now.Add(30*time.Second).Unix()), ""},

		"expired":                   {with("exp", now.Add(-time.Minute).Unix()), "token is expired"},
		"no expiry":                 {with("exp", nil), "token is expired"},
		"not yet":                   {with("nbf", now.Add(10*time.Minute).Unix()), "before the nbf"},
		"another audience":          {with("aud", "someone"), "expected audience"},
		"no audience":               {with("aud", nil), "expected audience"},
		"unknown key":               {signed(stranger, good), "failed to verify"},
		"unknown key, a known ID":   {as(stranger, map[string]any{"alg": "RS256", "kid": key.ID}, good), "failed to verify"},
		"another's signature":       {parts[0] + "." + root + "." + parts[2], "failed to verify"},
		"a broken signature":        {parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(signature), "failed to verify"},
		"no algorithm":              {unsigned + ".", "unsupported algorithm"},
		"no algorithm, a signature": {as(key, map[string]any{"alg": "none", "kid": key.ID}, good), "unsupported algorithm"},
		"signed by the public key":  {as(key, map[string]any{"alg": "HS256", "kid": key.ID}, good), "unsupported algorithm"},
		"another key's algorithm":   {as(key, map[string]any{"alg": "ES256", "kid": key.ID}, good), "failed to verify"},
		"no user":                   {with("oid", nil), "no such key: oid"},
		"a user that is a number":   {with("oid", 1), "username"},
		"groups that are none":      {with("groups", 1), "parse groups claim"},
		"no version":                {with("ver", nil), "required claim ver not present"},
		"another version":           {with("ver", "1.0"), "required claim ver value does not match"},
		"no tenant":                 {with("tid", nil), "no such key: tid"},
		"another tenant":            {with("tid", "other"), "another tenant's"},
		"a group that is banned":    {with("groups", []string{"banned"}), "is banned"},

		"another issuer":     {with("iss", i.URL+"/"), none},
		"no issuer":          {with("iss", nil), none},
		"issuer of no text":  {with("iss", 1), none},
		"four parts":         {token + ".x", none},
		"two parts":          {parts[0] + "." + parts[1], none},
		"no token":           {"token", none},
		"nothing":            {"", none},
		"points":             {"..", none},
		"JSON":               {`{"payload":"` + parts[1] + `"}`, none},
		"a payload of words": {parts[0] + ".words." + parts[2], none},
	}
}

// described is what an authenticator makes of a token.
type described struct {
	User user.Info
	OK   bool
	Err  string
}

func describe(t *testing.T, a authenticator.Token, token string) described {
	t.Helper()
	r, ok, err := a.AuthenticateToken(t.Context(), token)
	d := described{OK: ok}
	if r != nil {
		d.User = r.User
	}
	if err != nil {
		d.Err = err.Error()
	}
	return d
}

// TestTokensAreJudgedAsByUpstream compares with upstream's own authenticator, which has found the keys by itself.
func TestTokensAreJudgedAsByUpstream(t *testing.T) {
	key, second, stranger := rsaKey(t, "k1"), ecKey(t, "k2"), rsaKey(t, "k3")
	i := start(t, key, second)
	i.Cache("max-age=3600") // so that neither asks for newer keys
	c := load(t, fmt.Sprintf(entra, i.URL, i.CA()))
	ca, err := dynamiccertificates.NewStaticCAContent("issuer", []byte(i.CA()))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := upstream.New(t.Context(), upstream.Options{
		JWTAuthenticator: c.JWT[0], CAContentProvider: ca, SupportedSigningAlgs: upstream.AllValidSigningAlgorithms(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); theirs.HealthCheck() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(theirs.HealthCheck())
		}
	}
	ours := oidc.New(c, time.Now)
	// The first is good: a broken one could have it fetch the keys.
	all := tokens(t, i, key, second, stranger)
	if d := describe(t, ours, all["signed by RSA"].token); !d.OK {
		t.Fatalf("%+v", d)
	}
	for name, tt := range all {
		t.Run(name, func(t *testing.T) {
			got, want := describe(t, ours, tt.token), describe(t, theirs, tt.token)
			// The time in an error is not the same.
			got.Err, _, _ = strings.Cut(got.Err, "current time")
			want.Err, _, _ = strings.Cut(want.Err, "current time")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-upstream +ours):\n%s", diff)
			}
			switch full := describe(t, ours, tt.token); {
			case tt.err == "" && (!full.OK || !strings.HasPrefix(full.User.GetName(), "entra:")):
				t.Errorf("refused: %+v", full)
			case tt.err == none && (full.OK || full.Err != ""):
				t.Errorf("it is not the issuer's: %+v", full)
			case tt.err != "" && tt.err != none && (full.OK || !strings.Contains(full.Err, tt.err)):
				t.Errorf("%+v, want an error of %q", full, tt.err)
			}
		})
	}
	want := &user.DefaultInfo{
		Name: "entra:0001", UID: "0001", Groups: []string{"entra:g1", "entra:g2"},
		Extra: map[string][]string{"example.com/app": {"cli"}, user.CredentialIDKey: {"JTI=j"}},
	}
	if diff := cmp.Diff(described{User: want, OK: true}, describe(t, ours, all["signed by RSA"].token)); diff != "" {
		t.Errorf("the user (-want +got):\n%s", diff)
	}
}

// sign returns a good token.
func sign(t *testing.T, k *issuer.Key, i *issuer.Issuer) string {
	t.Helper()
	token, err := k.Sign(claims(i))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// soon is how long what a token gets may take to show: who waited for an issuer's keys is answered a moment before they are
// noted (updateKeys of github.com/coreos/go-oidc).
const soon = 10 * time.Second

// accepted waits until a token is accepted.
func accepted(t *testing.T, a authenticator.Token, token string) {
	t.Helper()
	becomes(t, a, token, func(d described) bool { return d.OK })
}

// refused waits until a token is refused with an error.
func refused(t *testing.T, a authenticator.Token, token, says string) {
	t.Helper()
	becomes(t, a, token, func(d described) bool { return !d.OK && strings.Contains(d.Err, says) })
}

func becomes(t *testing.T, a authenticator.Token, token string, holds func(described) bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		d := describe(t, a, token)
		if holds(d) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%+v", d)
			return
		}
	}
}

// asked checks how often an issuer was asked for its documents.
func asked(t *testing.T, i *issuer.Issuer, discovery, keys int) {
	t.Helper()
	if d, k := i.Asked(issuer.DiscoveryPath), i.Asked(issuer.KeysPath); d != discovery || k != keys {
		t.Errorf("the issuer was asked %d times for its configuration and %d for its keys, want %d and %d", d, k, discovery, keys)
	}
}

func TestAnIssuerIsAskedWhenATokenOfItsComesAndThenNoMore(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), time.Now)
	for _, token := range []string{"", "admin", "a.b.c", sign(t, key, start(t, key))} {
		refused(t, a, token, "")
	}
	asked(t, i, 0, 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { accepted(t, a, sign(t, key, i)) })
	}
	all.Wait()
	asked(t, i, 1, 1)
	if err := a.Idle(t.Context()); err != nil {
		t.Error(err)
	}
	// The server hears of it a moment later.
	for deadline := time.Now().Add(10 * time.Second); i.Connections() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open", i.Connections())
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if strings.Contains(string(stacks), "PollUntilContextCancel") {
		t.Errorf("something polls:\n%s", stacks)
	}
}

// TestTokensThatComeAtOnceAreAllAccepted has several be the first.
func TestTokensThatComeAtOnceAreAllAccepted(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	c, token := load(t, fmt.Sprintf(entra, i.URL, i.CA())), sign(t, key, i)
	for n := range 50 {
		a := oidc.New(c, time.Now)
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if d := describe(t, a, token); !d.OK {
					t.Errorf("%+v", d)
				}
			})
		}
		all.Wait()
		asked(t, i, n+1, n+1)
	}
}

func TestKeysMayBeChanged(t *testing.T) {
	first, second := ecKey(t, "k1"), ecKey(t, "k2")
	i := start(t, first)
	now := issuer.NewClock(time.Now())
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), now.Now)
	accepted(t, a, sign(t, first, i))
	i.Rotate(second)
	refused(t, a, sign(t, second, i), "failed to verify id token signature")
	asked(t, i, 1, 1)
	now.Pass(10 * time.Second)
	accepted(t, a, sign(t, second, i))
	refused(t, a, sign(t, first, i), "") // it was taken back
	asked(t, i, 1, 2)
}

func TestForgedTokensHaveAnIssuerBeAskedSeldom(t *testing.T) {
	key, forger := ecKey(t, "k1"), ecKey(t, "k1")
	i := start(t, key)
	now := issuer.NewClock(time.Now())
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), now.Now)
	for range 5 {
		for range 10 {
			refused(t, a, sign(t, forger, i), "")
		}
		accepted(t, a, sign(t, key, i))
		now.Pass(10 * time.Second)
	}
	// Fewer, where a forged one was judged by what the one before had fetched.
	if n := i.Asked(issuer.KeysPath); n < 2 || n > 5 {
		t.Errorf("the issuer was asked %d times for its keys", n)
	}
}

// TestAnIssuerThatIsDownIsTriedAgain has either document be unavailable, and the clock be put back.
func TestAnIssuerThatIsDownIsTriedAgain(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	now := issuer.NewClock(time.Now())
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), now.Now)
	token := sign(t, key, i)
	i.SetDown(true)
	refused(t, a, token, "503")
	i.SetDown(false)
	refused(t, a, token, "503")
	asked(t, i, 1, 0)
	now.Pass(-time.Hour)
	accepted(t, a, token)
	asked(t, i, 2, 1)

	other := ecKey(t, "k2")
	i.Rotate(other)
	i.SetDown(true)
	now.Pass(10 * time.Second)
	refused(t, a, sign(t, other, i), "503")
	accepted(t, a, token) // what is known stays
	i.SetDown(false)
	now.Pass(10 * time.Second)
	accepted(t, a, sign(t, other, i))
	asked(t, i, 2, 3)
}

func TestAnIssuerThatCannotBeReachedOrTrustedIsNoHang(t *testing.T) {
	key := ecKey(t, "k1")
	gone := issuer.Start(key)
	gone.Close()
	strangers := start(t, key)
	for name, tt := range map[string]struct {
		i        *issuer.Issuer
		ca, want string
	}{
		"nobody listens": {gone, gone.CA(), "connection refused"},
		"another's CA":   {strangers, otherCA, "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			a := oidc.New(load(t, fmt.Sprintf(entra, tt.i.URL, tt.ca)), time.Now)
			refused(t, a, sign(t, key, tt.i), tt.want)
		})
	}
}

func TestWhatAnIssuerSaysOfItselfIsChecked(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	i.Call("https://other.example.com")
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), time.Now)
	refused(t, a, sign(t, key, i), "issuer did not match")
}

func TestADiscoveryURLIsAskedInPlaceOfTheIssuer(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	i.Call("https://issuer.example.com")
	document := strings.Replace(fmt.Sprintf(entra, "https://issuer.example.com", i.CA()), "    audiences:", "    discoveryURL: "+i.URL+issuer.OtherPath+"\n    audiences:", 1)
	a := oidc.New(load(t, document), time.Now)
	token, err := key.Sign(claims(i).With(issuer.Claims{"iss": "https://issuer.example.com"}))
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, a, token)
	if n := i.Asked(issuer.OtherPath); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// TestAClaimThatATokenRefersToIsNotFetched is what Entra sends of users in more than 200 groups.
func TestAClaimThatATokenRefersToIsNotFetched(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), time.Now)
	var called atomic.Bool
	source := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	defer source.Close()
	token, err := key.Sign(claims(i).With(issuer.Claims{
		"groups": nil, "_claim_names": map[string]string{"groups": "src1"},
		"_claim_sources": map[string]any{"src1": map[string]string{"endpoint": source.URL}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, a, token, "claims that a token refers to are not fetched")
	if called.Load() {
		t.Error("it was asked for")
	}
}

func TestWithoutAConfigurationNoTokenIsKnown(t *testing.T) {
	key := ecKey(t, "k1")
	for name, c := range map[string]*oidc.Config{"none": nil, "of no issuers": load(t, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration")} {
		if d := describe(t, oidc.New(c, time.Now), sign(t, key, start(t, key))); d.OK || d.Err != "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestWhoWaitsForRestWaitsForTheIssuer(t *testing.T) {
	key := ecKey(t, "k1")
	i := start(t, key)
	begun, release := i.Hold(issuer.KeysPath)
	defer release()
	token := sign(t, key, i)
	a := oidc.New(load(t, fmt.Sprintf(entra, i.URL, i.CA())), time.Now)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan bool, 1)
	go func() {
		_, ok, _ := a.AuthenticateToken(ctx, token)
		ended <- ok
	}()
	<-begun
	leave() // whoever asked is gone
	late, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := a.Idle(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the issuer is asked: %v", err)
	}
	release()
	if err := a.Idle(t.Context()); err != nil {
		t.Error(err)
	}
	if ok := <-ended; !ok {
		t.Error("the token was refused")
	}
}
