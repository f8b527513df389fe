package azure_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/tests/azurite"
)

// seen opens a store with options over a service that lets nobody in, and returns the first request and the error.
func seen(t *testing.T, o azure.Options) (*http.Request, error) {
	t.Helper()
	var first *http.Request
	o.Transport = transport(func(req *http.Request) (*http.Response, error) {
		if first == nil {
			first = req
		}
		return canned(req, http.StatusForbidden, odataError("AuthenticationFailed", "no"), "x-ms-request-id", "id-1"), nil
	})
	_, err := azure.Open(t.Context(), o)
	if err == nil {
		t.Fatal("a service that lets nobody in was opened")
	}
	return first, err
}

func TestOptionsSayWhereTheServiceIs(t *testing.T) {
	const key = "AccountKey=a2V5"
	cases := map[string]struct {
		o        azure.Options
		url, how string
	}{
		"an account":            {azure.Options{AccountName: "acme", AccountKey: "a2V5"}, "https://acme.table.core.windows.net/zeroplane(", "SharedKeyLite acme:"},
		"an endpoint":           {azure.Options{Endpoint: "https://acme.table.core.chinacloudapi.cn", AccountName: "acme", AccountKey: "a2V5", Table: "other"}, "https://acme.table.core.chinacloudapi.cn/other(", "SharedKeyLite acme:"},
		"a string":              {azure.Options{ConnectionString: "DefaultEndpointsProtocol=https;AccountName=acme;" + key + ";EndpointSuffix=core.usgovcloudapi.net"}, "https://acme.table.core.usgovcloudapi.net/zeroplane(", "SharedKeyLite acme:"},
		"a string first":        {azure.Options{ConnectionString: "AccountName=acme;" + key, AccountName: "other", AccountKey: "eA==", SASToken: "sig=x"}, "https://acme.table.core.windows.net/zeroplane(", "SharedKeyLite acme:"},
		"Azurite":               {azure.Options{ConnectionString: "UseDevelopmentStorage=true"}, "http://127.0.0.1:10002/devstoreaccount1/zeroplane(", "SharedKeyLite devstoreaccount1:"},
		"a signature":           {azure.Options{AccountName: "acme", SASToken: "?sv=1&sig=abc"}, "https://acme.table.core.windows.net/zeroplane(", ""},
		"a signature in string": {azure.Options{ConnectionString: "TableEndpoint=https://acme.table.core.usgovcloudapi.net/;SharedAccessSignature=sv=1&sig=abc"}, "https://acme.table.core.usgovcloudapi.net/zeroplane(", ""},
		"an identity":           {azure.Options{AccountName: "acme", Credential: token{}}, "https://acme.table.core.windows.net/zeroplane(", "Bearer secret"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			req, err := seen(t, c.o)
			if req == nil || !strings.HasPrefix(req.URL.String(), c.url) || !strings.HasPrefix(req.Header.Get("Authorization"), c.how) {
				t.Fatalf("asked %v: %v", req, err)
			}
			if signed := strings.Contains(req.URL.RawQuery, "sig=abc"); signed != (c.how == "") {
				t.Errorf("the query is %q", req.URL.RawQuery)
			}
		})
	}
}

func TestTheEnvironmentIsReadAsAzuresToolsReadIt(t *testing.T) {
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "c")
	t.Setenv("AZURE_STORAGE_ACCOUNT", "a")
	t.Setenv("AZURE_STORAGE_KEY", "k")
	t.Setenv("AZURE_STORAGE_SAS_TOKEN", "s")
	if got, want := azure.OptionsFromEnv(), (azure.Options{ConnectionString: "c", AccountName: "a", AccountKey: "k", SASToken: "s"}); got != want {
		t.Errorf("read %+v", got)
	}
}

func TestOptionsThatCannotWorkAreRefusedBeforeAnythingIsSent(t *testing.T) {
	cases := map[string]struct {
		o    azure.Options
		want string
	}{
		"nothing":                   {azure.Options{}, "AZURE_STORAGE_ACCOUNT"},
		"a bad table":               {azure.Options{AccountName: "a", AccountKey: "a2V5", Table: "a-b"}, "3 to 63"},
		"a short table":             {azure.Options{AccountName: "a", AccountKey: "a2V5", Table: "ab"}, "3 to 63"},
		"no URL":                    {azure.Options{Endpoint: "acme", AccountName: "a", AccountKey: "a2V5"}, "no URL"},
		"a key without account":     {azure.Options{Endpoint: "https://a.table.core.windows.net", AccountKey: "a2V5"}, "AZURE_STORAGE_ACCOUNT"},
		"a bad key":                 {azure.Options{AccountName: "a", AccountKey: "?"}, "account key"},
		"a bad string":              {azure.Options{ConnectionString: "what"}, "NAME=VALUE"},
		"a string without account":  {azure.Options{ConnectionString: "AccountKey=a2V5"}, "AccountName"},
		"a string without a secret": {azure.Options{ConnectionString: "AccountName=a"}, "AccountKey"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.o.Transport = transport(func(req *http.Request) (*http.Response, error) {
				t.Errorf("asked %s", req.URL)
				return nil, errors.New("no")
			})
			if _, err := azure.Open(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("gave %v", err)
			}
		})
	}
}

func TestARefusalSaysWhatToSet(t *testing.T) {
	_, err := seen(t, azure.Options{AccountName: "acme", SASToken: "sv=1&sig=verysecret"})
	for _, want := range []string{"AZURE_STORAGE_CONNECTION_STRING", "403", "AuthenticationFailed", "id-1", "acme.table.core.windows.net"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q in it", err, want)
		}
	}
	o := azure.Options{AccountName: "acme", Credential: token{}, Transport: transport(func(req *http.Request) (*http.Response, error) {
		return canned(req, http.StatusForbidden, odataError("AuthorizationPermissionMismatch", "no")), nil
	})}
	if _, err := azure.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "Storage Table Data Contributor") {
		t.Errorf("an identity without a role: %v", err)
	}
	bad := options(t)
	bad.ConnectionString = strings.Replace(bad.ConnectionString, azurite.Key, "a2V5", 1)
	if _, err := azure.Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "AZURE_STORAGE_KEY") {
		t.Errorf("a wrong key: %v", err)
	}
}

func TestNoErrorHasASecretInIt(t *testing.T) {
	const secret = "verysecret"
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	// Nobody listens at this port, so that the error is net/http's own, which has the URL in it.
	_, err := azure.Open(ctx, azure.Options{Endpoint: "http://127.0.0.1:1/acme", SASToken: "sv=1&sig=" + secret})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("not connected: %v", err)
	}
	_, err = seen(t, azure.Options{AccountName: "acme", SASToken: "sv=1&sig=" + secret})
	if strings.Contains(err.Error(), secret) {
		t.Errorf("refused: %v", err)
	}
}

// token is an identity, or none.
type token struct{ err error }

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "secret", ExpiresOn: time.Now().Add(time.Hour)}, k.err
}

func TestWithoutAnIdentityTheErrorSaysWhatToSetAndComesAtOnce(t *testing.T) {
	asked := 0
	o := azure.Options{AccountName: "acme", Credential: token{errors.New("no identity here")}, Transport: transport(func(*http.Request) (*http.Response, error) {
		asked++
		return nil, errors.New("no")
	})}
	start := time.Now()
	_, err := azure.Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "AZURE_CLIENT_ID") || !strings.Contains(err.Error(), "no identity here") {
		t.Errorf("gave %v", err)
	}
	if asked > 0 || time.Since(start) > time.Second {
		t.Errorf("asked %d times in %s", asked, time.Since(start))
	}
	// A token is not sent in the clear.
	o = azure.Options{Endpoint: azurite.Shared(t).Endpoint, Credential: token{}}
	start = time.Now()
	if _, err := azure.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "TLS") || time.Since(start) > time.Second {
		t.Errorf("over HTTP, after %s: %v", time.Since(start), err)
	}
}

func TestASharedAccessSignatureIsEnough(t *testing.T) {
	server := azurite.Shared(t)
	key, err := aztables.NewSharedKeyCredential(azurite.Account, azurite.Key)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(permissions aztables.AccountSASPermissions, types string) string {
		signed, err := aztables.AccountSASSignatureValues{
			Version: aztables.SASVersion, Protocol: aztables.SASProtocolHTTPSandHTTP, ExpiryTime: time.Now().Add(time.Hour).UTC(),
			Permissions: permissions.String(), Services: "t", ResourceTypes: types,
		}.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed.Encode()
	}
	all := aztables.AccountSASPermissions{Read: true, Write: true, Add: true, Create: true, Update: true, Delete: true, List: true}
	o := azure.Options{Endpoint: server.Endpoint, Table: azurite.TableName(t), SASToken: sign(all, "o")}
	if _, err := azure.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "resource types co") {
		t.Errorf("making the table with a signature for rows: %v", err)
	}
	o.SASToken = sign(all, "co")
	s := open(t, o)
	if err := s.Commit(t.Context(), partition, []table.Op{insert("a"), insert("b")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Range(t.Context(), partition, table.Query{From: "a", To: "z"}); err != nil {
		t.Fatal(err)
	}
	o.SASToken = sign(aztables.AccountSASPermissions{Read: true, List: true}, "co")
	err = open(t, o).Commit(t.Context(), partition, []table.Op{insert("c")})
	if err == nil || !strings.Contains(err.Error(), "permissions raud") || errors.Is(err, azure.ErrOutcomeUnknown) {
		t.Errorf("a signature for reading: %v", err)
	}
}
