package oidc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/apis/apiserver"
	kubeoptions "k8s.io/kubernetes/pkg/kubeapiserver/options"

	"github.com/zeroplane/zeroplane/adapters/oidc"
)

const header = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"

// otherCA is one that has signed nothing.
const otherCA = `-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUSY1zNasEkyaf3FkeOKdEqHB00PswCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTI4MTkwNDQ5WhgPMjEyNjExMDQxOTA0
NDlaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
e+uDTEsWeNhrAwoCp5hI+i4/AtrOuZvsDtM30iGisqjUN3tyO+k0rwkgqcej2NOf
/f3v7VpaSfGi/m8wNhHHkqNTMFEwHQYDVR0OBBYEFGd1VT/R9LutQL01fEwPbwWQ
KFwfMB8GA1UdIwQYMBaAFGd1VT/R9LutQL01fEwPbwWQKFwfMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgSiM8MxbHKVHHe6exitXbISbUDrO6SqTK
Aljg6ABM8AwCIQDFzHCJT8i72DJVGCZKkplh2GLJh0fTDUajxPZFbWyt3g==
-----END CERTIFICATE-----
`

// documents are configurations, with a part of the error that is wanted of those that are refused.
var documents = map[string]struct{ document, err string }{
	"for Entra":           {fmt.Sprintf(entra, "https://login.example.com/tenant/v2.0", otherCA), ""},
	"of no issuers":       {header, ""},
	"anonymous":           {header + "anonymous: {enabled: true, conditions: [{path: /livez}]}\n", ""},
	"nobody is anonymous": {header + "anonymous: {enabled: false}\n", ""},
	"v1beta1":             {strings.Replace(header, "/v1", "/v1beta1", 1), ""},
	"v1alpha1":            {strings.Replace(header, "/v1", "/v1alpha1", 1), ""},
	"JSON":                {`{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[{"issuer":{"url":"https://a.example.com","audiences":["a"]},"claimMappings":{"username":{"claim":"sub","prefix":""}}}]}`, ""},

	"empty":                     {"", "empty config data"},
	"no YAML":                   {"{", "unexpected end of JSON input"},
	"no kind":                   {"apiVersion: apiserver.config.k8s.io/v1\n", "Kind"},
	"another kind":              {strings.Replace(header, "AuthenticationC", "AuthorizationC", 1), "expected AuthenticationConfiguration"},
	"a version of none":         {strings.Replace(header, "/v1", "/v9", 1), "v9"},
	"an unknown field":          {header + "jwts: []\n", `unknown field "jwts"`},
	"no audience":               {header + "jwt: [{issuer: {url: https://a.example.com}, claimMappings: {username: {claim: sub, prefix: ''}}}]\n", "jwt[0].issuer.audiences"},
	"no TLS":                    {header + "jwt: [{issuer: {url: http://a.example.com, audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}]\n", "jwt[0].issuer.url"},
	"a CA that is none":         {header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a], certificateAuthority: x}, claimMappings: {username: {claim: sub, prefix: ''}}}]\n", "jwt[0].issuer.certificateAuthority"},
	"no user":                   {header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a]}}]\n", "jwt[0].claimMappings.username"},
	"no prefix":                 {header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a]}, claimMappings: {username: {claim: sub}}}]\n", "jwt[0].claimMappings.username.prefix"},
	"an expression of nonsense": {header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a]}, claimMappings: {username: {expression: 'claims.'}}}]\n", "jwt[0].claimMappings.username.expression"},
	"a rule of nonsense":        {header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}, claimValidationRules: [{expression: '1'}]}]\n", "jwt[0].claimValidationRules[0].expression"},
	"an issuer twice":           {header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}, {issuer: {url: https://a.example.com, audiences: [b]}, claimMappings: {username: {claim: sub, prefix: ''}}}]\n", "jwt[1].issuer.url"},
	"conditions of nobody":      {header + "anonymous: {enabled: false, conditions: [{path: /livez}]}\n", "anonymous.conditions"},
}

// TestConfigurationsAreReadAsByUpstream compares with what kube-apiserver makes of the file of its flag.
func TestConfigurationsAreReadAsByUpstream(t *testing.T) {
	for name, tt := range documents {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "authentication.yaml")
			if err := os.WriteFile(file, []byte(tt.document), 0o600); err != nil {
				t.Fatal(err)
			}
			options := kubeoptions.NewBuiltInAuthenticationOptions()
			options.AuthenticationConfigFile = file
			theirs, theirErr := options.ToAuthenticationConfig()
			ours, err := oidc.Load([]byte(tt.document), own)
			if theirErr != nil || err != nil {
				var got, want string
				if err != nil {
					got = err.Error()
				}
				if theirErr != nil {
					want = strings.TrimPrefix(theirErr.Error(), fmt.Sprintf("failed to load authentication configuration from file %q: ", file))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("the error (-upstream +ours):\n%s", diff)
				}
				if tt.err == "" || !strings.Contains(got, tt.err) {
					t.Errorf("%q, want %q", got, tt.err)
				}
				return
			}
			if diff := cmp.Diff(theirs.AuthenticationConfig, ours.AuthenticationConfiguration); diff != "" || tt.err != "" {
				t.Errorf("want %q (-upstream +ours):\n%s", tt.err, diff)
			}
		})
	}
}

func TestIssuersOfOursAndEgressSelectorsAreRefused(t *testing.T) {
	document := header + "jwt: [{issuer: {url: https://a.example.com, audiences: [a], egressSelectorType: cluster}, claimMappings: {username: {claim: sub, prefix: ''}}}]\n"
	ours := func(url string) bool { return url == "https://a.example.com" }
	_, err := oidc.Load([]byte(document), ours)
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, part := range []string{"jwt[0].issuer.url: Invalid value", "must not overlap with disallowed issuers", "jwt[0].issuer.egressSelectorType: Invalid value", string(apiserver.EgressSelectorCluster)} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %q", err, part)
		}
	}
}
