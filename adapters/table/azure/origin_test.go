package azure

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/zeroplane/zeroplane/adapters/table"
)

type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(req *http.Request) (*http.Response, error) { return t(req) }

func TestACallNamesWhatItIsMadeFor(t *testing.T) {
	var sent string
	pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{PerCall: []policy.Policy{origin{}}}, &policy.ClientOptions{
		Transport: transport(func(req *http.Request) (*http.Response, error) {
			sent = req.Header.Get(clientRequestID)
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
		}),
	})
	for given, want := range map[string]string{"": `^[0-9a-f-]*$`, "function/workloads": `^function/workloads/[0-9a-f]{16}$`} {
		ctx := t.Context()
		if given != "" {
			ctx = table.WithOrigin(ctx, given)
		}
		req, err := runtime.NewRequest(table.WithOrigin(ctx, given), http.MethodGet, "https://account.table.core.windows.net")
		if err != nil {
			t.Fatal(err)
		}
		res, err := pipeline.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).MatchString(sent) {
			t.Errorf("a call for %q says %q", given, sent)
		}
	}
}
