package azure

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// DefaultTable is the name of the table when none is given.
const DefaultTable = "zeroplane"

// Azurite's account, which UseDevelopmentStorage=true stands for.
const (
	developmentAccount  = "devstoreaccount1"
	developmentKey      = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	developmentEndpoint = "http://127.0.0.1:10002/devstoreaccount1"
)

// publicSuffix is the domain of the public cloud; others are named by Endpoint or by the connection string.
const publicSuffix = "core.windows.net"

// Options say where the table is and how to be let in. The first credentials that are set count, in the order
// of the fields; without any, azidentity's default chain is asked: environment, workload identity, managed
// identity, the Azure CLI.
type Options struct {
	// Endpoint is the URL of the table service, as https://ACCOUNT.table.core.windows.net. It may be empty where
	// the connection string or the account's name says it.
	Endpoint string
	// Table is the name of the table, DefaultTable if empty: 3 to 63 letters and digits, the first a letter.
	Table string

	// ConnectionString is that of a storage account.
	ConnectionString string
	// AccountName and AccountKey are those of a storage account.
	AccountName, AccountKey string
	// SASToken is a shared access signature, with or without its question mark.
	SASToken string
	// Credential is a Microsoft Entra identity.
	Credential azcore.TokenCredential

	// Existing refuses a table that is missing or is not zeroplane's, with ErrNoTable, instead of making it.
	Existing bool

	// Transport sends the requests, nil for the SDK's own.
	Transport policy.Transporter
}

// OptionsFromEnv returns what the environment says, in the names that Azure's tools use:
// AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY and AZURE_STORAGE_SAS_TOKEN. Identities
// (AZURE_TENANT_ID, AZURE_CLIENT_ID, ..., and managed ones) are azidentity's to find.
func OptionsFromEnv() Options {
	return Options{
		ConnectionString: os.Getenv("AZURE_STORAGE_CONNECTION_STRING"),
		AccountName:      os.Getenv("AZURE_STORAGE_ACCOUNT"),
		AccountKey:       os.Getenv("AZURE_STORAGE_KEY"),
		SASToken:         os.Getenv("AZURE_STORAGE_SAS_TOKEN"),
	}
}

var tableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,62}$`)

// complete returns the options with a table, an endpoint, and no connection string.
func (o Options) complete() (Options, error) {
	if o.Table == "" {
		o.Table = DefaultTable
	}
	if !tableName.MatchString(o.Table) {
		return o, fmt.Errorf("table %q: a name has 3 to 63 letters and digits, the first a letter", o.Table)
	}
	if o.ConnectionString != "" {
		if err := o.readConnectionString(); err != nil {
			return o, err
		}
	}
	if o.Endpoint == "" && o.AccountName != "" {
		o.Endpoint = "https://" + o.AccountName + ".table." + publicSuffix
	}
	if o.Endpoint == "" {
		return o, errors.New("no storage account is named: set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT, or give the endpoint")
	}
	if err := checkEndpoint(o.Endpoint); err != nil {
		return o, err
	}
	if o.AccountKey != "" && o.AccountName == "" {
		return o, errors.New("there is an account key but no account: set AZURE_STORAGE_ACCOUNT")
	}
	return o, nil
}

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("endpoint %q is no URL of a table service, as https://ACCOUNT.table.%s", endpoint, publicSuffix)
	}
	if isCosmos(u.Host) {
		return fmt.Errorf("%s is %w", u.Host, ErrCosmos)
	}
	return nil
}

// readConnectionString replaces what the other options say by what the connection string does. It says the
// endpoint of the table service also beside a shared access signature, where the SDK would not look for it.
func (o *Options) readConnectionString() error {
	parts := map[string]string{}
	for part := range strings.SplitSeq(strings.Trim(strings.TrimSpace(o.ConnectionString), ";"), ";") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return errors.New("the connection string is no list of NAME=VALUE, separated by semicolons")
		}
		parts[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	o.ConnectionString = ""
	if parts["usedevelopmentstorage"] == "true" {
		o.Endpoint, o.AccountName, o.AccountKey = developmentEndpoint, developmentAccount, developmentKey
		return nil
	}
	o.AccountName, o.AccountKey, o.SASToken = parts["accountname"], parts["accountkey"], parts["sharedaccesssignature"]
	switch endpoint := parts["tableendpoint"]; {
	case endpoint != "":
		o.Endpoint = endpoint
	case o.AccountName != "":
		o.Endpoint = fmt.Sprintf("%s://%s.table.%s", or(parts["defaultendpointsprotocol"], "https"), o.AccountName, or(parts["endpointsuffix"], publicSuffix))
	default:
		return errors.New("the connection string has neither AccountName nor TableEndpoint")
	}
	if o.AccountKey == "" && o.SASToken == "" {
		return errors.New("the connection string has neither AccountKey nor SharedAccessSignature")
	}
	return nil
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// origin names, in the header that the account's logs keep, what a call is made for.
type origin struct{}

// clientRequestID is the header: at most 1 KiB of the client's choice.
const clientRequestID = "x-ms-client-request-id"

// Do implements policy.Policy.
func (origin) Do(req *policy.Request) (*http.Response, error) {
	if o := table.Origin(req.Raw().Context()); o != "" {
		req.Raw().Header.Set(clientRequestID, fmt.Sprintf("%s/%016x", o, rand.Uint64())) //nolint:gosec // a name, no secret
	}
	return req.Next()
}

// connect returns the SDK's client of the service. The options are complete.
func (o Options) connect(first policy.Policy) (*aztables.ServiceClient, error) {
	c := &aztables.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport:       o.Transport,
		PerCallPolicies: []policy.Policy{first, origin{}},
		// Package azure decides what may be sent again.
		Retry: policy.RetryOptions{MaxRetries: -1},
	}}
	switch {
	case o.AccountKey != "":
		key, err := aztables.NewSharedKeyCredential(o.AccountName, o.AccountKey)
		if err != nil {
			return nil, fmt.Errorf("reading the account key: %w", err)
		}
		return aztables.NewServiceClientWithSharedKey(o.Endpoint, key, c)
	case o.SASToken != "":
		return aztables.NewServiceClientWithNoCredential(strings.TrimSuffix(o.Endpoint, "/")+"/?"+strings.TrimPrefix(o.SASToken, "?"), c)
	case o.Credential != nil:
		return aztables.NewServiceClient(o.Endpoint, identity{o.Credential}, c)
	}
	found, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: o.Transport}})
	if err != nil {
		return nil, fmt.Errorf("looking for an identity: %w", err)
	}
	return aztables.NewServiceClient(o.Endpoint, identity{found}, c)
}
