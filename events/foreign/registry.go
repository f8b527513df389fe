package foreign

import (
	"encoding/json"
	"fmt"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/zeroplane/zeroplane/events"
)

// Types of Azure Container Registry.
const (
	ImagePushedType  = "Microsoft.ContainerRegistry.ImagePushed"
	ImageDeletedType = "Microsoft.ContainerRegistry.ImageDeleted"
	ChartPushedType  = "Microsoft.ContainerRegistry.ChartPushed"
	ChartDeletedType = "Microsoft.ContainerRegistry.ChartDeleted"
)

// RegistryChange says that an image or a chart was pushed to an Azure Container Registry, or deleted. See
// https://learn.microsoft.com/en-us/azure/event-grid/event-schema-container-registry.
type RegistryChange struct {
	Origin
	// Type is one of the four, as spelled here.
	Type string
	// Registry is the login server, such as example.azurecr.io; the events of charts do not name it.
	Registry   string
	Repository string
	// Tag is empty when the push or deletion was by digest. Digest is there for every image that was pushed.
	Tag    string
	Digest string
}

type registryData struct {
	Target struct {
		Digest     string `json:"digest,omitempty"`
		Repository string `json:"repository"`
		Tag        string `json:"tag,omitempty"`
	} `json:"target"`
	Request struct {
		Host string `json:"host,omitempty"`
	} `json:"request"`
}

// Event returns the CloudEvent.
func (r RegistryChange) Event() cloudevents.Event {
	var data registryData
	data.Target.Digest, data.Target.Repository, data.Target.Tag = r.Digest, r.Repository, r.Tag
	data.Request.Host = r.Registry
	return r.event(r.Type, data)
}

func parseRegistryChange(e cloudevents.Event) (RegistryChange, error) {
	var data registryData
	origin, err := decode(e, &data)
	if err != nil {
		return RegistryChange{}, err
	}
	r := RegistryChange{
		Origin: origin, Registry: data.Request.Host, Repository: data.Target.Repository, Tag: data.Target.Tag, Digest: data.Target.Digest,
	}
	for _, t := range []string{ImagePushedType, ImageDeletedType, ChartPushedType, ChartDeletedType} {
		if strings.EqualFold(t, e.Type()) {
			r.Type = t
		}
	}
	if err := need("data.target.repository", r.Repository); err != nil {
		return RegistryChange{}, err
	}
	if r.Type == ImagePushedType || r.Type == ImageDeletedType {
		if err := need("data.request.host", r.Registry); err != nil {
			return RegistryChange{}, err
		}
	}
	if r.Type == ImagePushedType {
		if err := need("data.target.digest", r.Digest); err != nil {
			return RegistryChange{}, err
		}
	}
	return r, r.check()
}

// webhookActions are the types of what a registry's own webhook calls so.
var webhookActions = map[string]string{
	"push": ImagePushedType, "delete": ImageDeletedType, "chart_push": ChartPushedType, "chart_delete": ChartDeletedType,
}

// registryWebhook is what a registry's own webhook sends: the data of the event that Event Grid would have, see
// https://learn.microsoft.com/en-us/azure/container-registry/container-registry-webhook-reference.
type registryWebhook struct {
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Action    string `json:"action"`
	Request   struct {
		Host string `json:"host"`
	} `json:"request"`
}

// fromRegistry makes a CloudEvent. An action that is not known, such as ping, is the end of its type.
func fromRegistry(body []byte) ([]cloudevents.Event, error) {
	var b registryWebhook
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, notJSON("body", err)
	}
	if err := need("id", b.ID, "action", b.Action); err != nil {
		return nil, err
	}
	when, err := events.ParseTime("timestamp", b.Timestamp)
	if err != nil {
		return nil, err
	}
	origin := Origin{Source: b.Request.Host, ID: b.ID, Time: when}
	if origin.Source == "" { // charts, and pings
		origin.Source = "container-registry"
	}
	eventType := webhookActions[b.Action]
	if eventType == "" {
		eventType = "Microsoft.ContainerRegistry." + b.Action
	}
	e := origin.event(eventType, json.RawMessage(body))
	if err := e.Validate(); err != nil {
		return nil, &events.FieldError{Field: "body", Reason: err.Error()}
	}
	return []cloudevents.Event{e}, nil
}

// check refuses what cannot be part of an image's name, since it may become one: see
// https://github.com/distribution/reference/blob/main/reference.go.
func (r RegistryChange) check() error {
	for _, part := range []struct {
		field, value string
		ok           func(string) bool
	}{
		{"data.request.host", r.Registry, isRegistry},
		{"data.target.repository", r.Repository, isRepository},
		{"data.target.tag", r.Tag, isTag},
		{"data.target.digest", r.Digest, isDigest},
	} {
		if part.value != "" && !part.ok(part.value) {
			return &events.FieldError{Field: part.field, Reason: fmt.Sprintf("%.80q cannot be in the name of an image", part.value)}
		}
	}
	return nil
}

func isRegistry(s string) bool {
	host, port, ok := strings.Cut(s, ":")
	if ok && (port == "" || len(port) > len("65535") || !consistsOf(port, digits)) {
		return false
	}
	return len(validation.IsDNS1123Subdomain(host)) == 0
}

func isRepository(s string) bool {
	const maxBytes = 255
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || !consistsOf(part, lower+digits+"._-") || strings.ContainsAny(part[:1]+part[len(part)-1:], "._-") || strings.Contains(part, "..") {
			return false
		}
	}
	return len(s) <= maxBytes
}

func isTag(s string) bool {
	const maxBytes = 128
	return len(s) <= maxBytes && consistsOf(s, lower+upper+digits+"._-") && !strings.ContainsAny(s[:1], ".-")
}

func isDigest(s string) bool {
	algorithm, sum, _ := strings.Cut(s, ":")
	want := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	return want > 0 && len(sum) == want && consistsOf(sum, hex)
}
