// Package eventgrid sends bells to a topic of Azure Event Grid, which pushes them over HTTP to whoever subscribed: to a
// custom topic (https://learn.microsoft.com/azure/event-grid/post-to-custom-topic) or to a topic of a namespace
// (https://learn.microsoft.com/azure/event-grid/publisher-operations). One POST is all there is to it, so azcore's
// pipeline does it: either SDK of the service would be one more module and another type of CloudEvent.
package eventgrid

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	cloudevents "github.com/cloudevents/sdk-go/v2"
)

const (
	// MaxBytes of a request: the service's bound for an array of events.
	MaxBytes = 1 << 20
	// MaxEvents of a request: fewer than the service takes.
	MaxEvents = 1000
	// maxRetries of a request, and the pauses before them: what is sent here is worth little a moment later.
	maxRetries              = 2
	firstRetry, latestRetry = 200 * time.Millisecond, time.Second
	// customVersion and namespaceVersion are the versions of the service's interface.
	customVersion, namespaceVersion = "2018-01-01", "2024-06-01"
	// scope of an identity's token, the same for both.
	scope = "https://eventgrid.azure.net/.default"
)

// ErrTooLarge is returned for an event that no request can hold.
var ErrTooLarge = errors.New("the event is too large")

// Options say where a topic is and how to be let in: with a key, or with an identity of Microsoft Entra that has the role
// EventGrid Data Sender.
type Options struct {
	// Endpoint is the topic's: https://TOPIC.REGION-1.eventgrid.azure.net/api/events, or of a namespace
	// https://NAMESPACE.REGION-1.eventgrid.azure.net/topics/TOPIC.
	Endpoint string
	// Key of the topic or the namespace.
	Key string
	// Credential is an identity, nil for azidentity's default chain. It means nothing where there is a key.
	Credential azcore.TokenCredential
	// Client sends requests, nil for azcore's own.
	Client policy.Transporter
}

// TopicFromEnv returns what the environment says of the topic that pushes bells: ZEROPLANE_EVENTGRID_TOPIC and, for a topic
// with keys, ZEROPLANE_EVENTGRID_KEY. The endpoint is empty if there is none.
func TopicFromEnv() Options { return fromEnv("ZEROPLANE_EVENTGRID_TOPIC", "ZEROPLANE_EVENTGRID_KEY") }

// StreamFromEnv returns what the environment says of the topic that gets the stream of changes: ZEROPLANE_EVENTGRID_STREAM
// and, with keys, ZEROPLANE_EVENTGRID_STREAM_KEY. The endpoint is empty if there is none.
func StreamFromEnv() Options {
	return fromEnv("ZEROPLANE_EVENTGRID_STREAM", "ZEROPLANE_EVENTGRID_STREAM_KEY")
}

func fromEnv(endpoint, key string) Options {
	return Options{Endpoint: os.Getenv(endpoint), Key: os.Getenv(key)}
}

// Topic is where events are published.
type Topic struct {
	url      string
	pipeline runtime.Pipeline
}

// kind is what custom topics and those of namespaces differ in.
type kind struct{ version, header, prefix, suffix string }

// Open returns a topic. It asks nothing of the service.
func Open(o Options) (*Topic, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("the topic %q is no endpoint of Event Grid: https://TOPIC.REGION-1.eventgrid.azure.net/api/events", o.Endpoint)
	}
	near := u.Scheme == "http" && isLoopback(u.Hostname())
	if u.Scheme != "https" && !near {
		return nil, fmt.Errorf("the topic %q is not https: what lets in would pass in the clear", o.Endpoint)
	}
	k := kind{version: customVersion, header: "aeg-sas-key"}
	if strings.HasPrefix(u.Path, "/topics/") {
		k = kind{version: namespaceVersion, header: "Authorization", prefix: "SharedAccessKey ", suffix: ":publish"}
	}
	auth, err := o.authorization(k, near)
	if err != nil {
		return nil, err
	}
	u.Path += k.suffix
	u.RawQuery = url.Values{"api-version": {k.version}}.Encode()
	return &Topic{url: u.String(), pipeline: runtime.NewPipeline("zeroplane", "1", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &policy.ClientOptions{
		Transport: o.Client,
		Retry:     policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: firstRetry, MaxRetryDelay: latestRetry},
	})}, nil
}

// authorization lets requests in.
func (o Options) authorization(k kind, near bool) (policy.Policy, error) {
	if o.Key != "" {
		return runtime.NewKeyCredentialPolicy(azcore.NewKeyCredential(o.Key), k.header, &runtime.KeyCredentialPolicyOptions{
			Prefix: k.prefix, InsecureAllowCredentialWithHTTP: near,
		}), nil
	}
	if o.Credential == nil {
		found, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("looking for an identity: %w", err)
		}
		o.Credential = found
	}
	return runtime.NewBearerTokenPolicy(o.Credential, []string{scope}, &policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: near}), nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Publish sends events, in as few requests as hold them. It fails with ErrTooLarge, or with what the service said; events
// of the requests before are published then.
func (t *Topic) Publish(ctx context.Context, list []cloudevents.Event) error {
	var body bytes.Buffer
	n := 0
	for _, e := range list {
		one, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encoding the event %s: %w", e.ID(), err)
		}
		if len(one)+len("[]") > MaxBytes {
			return fmt.Errorf("%w: %s has %d bytes", ErrTooLarge, e.ID(), len(one))
		}
		if n == MaxEvents || n > 0 && body.Len()+len(one)+len(",]") > MaxBytes {
			if err := t.post(ctx, &body); err != nil {
				return err
			}
			n = 0
		}
		separator := byte(',')
		if n == 0 {
			body.Reset()
			separator = '['
		}
		body.WriteByte(separator)
		body.Write(one)
		n++
	}
	if n == 0 {
		return nil
	}
	return t.post(ctx, &body)
}

// post sends an array that lacks its end.
func (t *Topic) post(ctx context.Context, body *bytes.Buffer) error {
	body.WriteByte(']')
	req, err := runtime.NewRequest(ctx, http.MethodPost, t.url)
	if err != nil {
		return fmt.Errorf("publishing events: %w", err)
	}
	content := streaming.NopCloser(bytes.NewReader(body.Bytes()))
	if err := req.SetBody(content, cloudevents.ApplicationCloudEventsBatchJSON+"; charset=utf-8"); err != nil {
		return fmt.Errorf("publishing events: %w", err)
	}
	resp, err := t.pipeline.Do(req)
	if err != nil {
		return fmt.Errorf("publishing events: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return fmt.Errorf("publishing events: %w", runtime.NewResponseError(resp))
	}
	return nil
}
