package foreign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/events"
)

const (
	subscription = "/subscriptions/11111111-2222-3333-4444-555555555555"
	registry     = subscription + "/resourceGroups/shop/providers/Microsoft.ContainerRegistry/registries/shop"
	machine      = subscription + "/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/node-1"
	digest       = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
	alertID      = subscription + "/providers/Microsoft.AlertsManagement/alerts/7c6d5e4f-0000-4000-8000-00000000000f"
	instance     = "arn:aws:ec2:us-east-2:123456789012:instance/i-0123456789abcdef0"
)

// at returns a time after 2026-11-24 08:00.
func at(seconds, nanoseconds int) time.Time {
	return time.Date(2026, 11, 24, 8, 0, seconds, nanoseconds, time.UTC)
}

func id(n int) string { return fmt.Sprintf("5a1b0c9d-0000-4000-8000-%012d", n) }

// samples are what the files of testdata say; those that come in two envelopes stand once.
var samples = map[string]Message{
	"image-pushed": RegistryChange{
		Origin: Origin{Source: registry, ID: id(1), Subject: "team/web:v2", Time: at(0, 654961400)},
		Type:   ImagePushedType, Registry: "shop.azurecr.io", Repository: "team/web", Tag: "v2", Digest: digest,
	},
	"image-pushed.registry": RegistryChange{
		Origin: Origin{Source: "shop.azurecr.io", ID: id(15), Time: at(11, 276585742)},
		Type:   ImagePushedType, Registry: "shop.azurecr.io", Repository: "team/web", Tag: "v2", Digest: digest,
	},
	"image-deleted": RegistryChange{
		Origin: Origin{Source: registry, ID: id(2), Subject: "team/web", Time: at(1, 821126800)},
		Type:   ImageDeletedType, Registry: "shop.azurecr.io", Repository: "team/web", Digest: digest,
	},
	"chart-pushed": RegistryChange{
		Origin: Origin{Source: registry, ID: id(3), Subject: "web:1.4.0", Time: at(2, 431261400)},
		Type:   ChartPushedType, Repository: "charts", Tag: "web-1.4.0.tgz", Digest: digest,
	},
	"availability-changed": AvailabilityChange{
		Origin: Origin{Source: subscription, ID: id(4), Subject: machine, Time: at(3, 924507100)},
		Target: machine, TargetType: "Microsoft.Compute/virtualMachines", State: "Unavailable", Previous: "Available", Occurred: at(0, 924507100),
	},
	"resource-annotated": HealthAnnotation{
		Origin: Origin{Source: subscription, ID: id(5), Subject: machine, Time: at(4, 924507100)},
		Target: machine, TargetType: "Microsoft.Compute/virtualMachines", Name: "VirtualMachineDeallocationInitiated", Reason: "Stopping and deallocating",
		Summary: "The machine is being stopped and deallocated as a user asked.", Context: "Customer Initiated", Category: "Not Applicable", Occurred: at(0, 924507100),
	},
	"subscription-validation": SubscriptionValidation{
		Origin: Origin{Source: registry, ID: id(6), Time: at(5, 455681100)}, Code: "9A8B7C6D-0000-4000-8000-00000000000E",
		URL: "https://rp-westeurope.eventgrid.azure.net:553/eventsubscriptions/zeroplane/validate?id=9A8B7C6D-0000-4000-8000-00000000000E&t=2026-11-24T08:00:05.4556811Z&apiVersion=2023-12-15-preview&token=ZXhhbXBsZQ%3d%3d",
	},
	"subscription-deleted": SubscriptionDeleted{
		Origin:              Origin{Source: subscription, ID: id(7), Time: at(6, 455681100)},
		EventSubscriptionID: registry + "/providers/Microsoft.EventGrid/eventSubscriptions/zeroplane",
	},
	"alert.webhook":     alert(Origin{Source: alertID, ID: "Fired/2026-11-24T08:00:07.3713213Z", Time: at(7, 371321300)}),
	"alert.cloudevents": alert(Origin{Source: "/logic-apps/forward-alerts", ID: "9d0e1f2a-0000-4000-8000-000000000010", Time: at(8, 0)}),
	"scheduled-events": ScheduledEvents{
		Origin: Origin{Source: "/nodes/node-1", ID: "node-1/12", Time: at(9, 0)}, Incarnation: 12,
		Events: []ScheduledEvent{
			{ID: "C7061BAC-0000-4000-8000-000000000011", Kind: Preempt, Resources: []string{"node-1"}, Status: "Scheduled", NotBefore: at(39, 0), DurationSeconds: -1},
			{ID: "C7061BAC-0000-4000-8000-000000000012", Kind: Freeze, Resources: []string{"node-2", "node-3"}, Status: "Started", DurationSeconds: 5},
		},
	},
	"spot-interruption": SpotInterruption{
		Origin:   Origin{Source: "aws.ec2/123456789012/us-east-2", ID: id(13), Subject: instance, Time: at(10, 0)},
		Instance: Instance{Account: "123456789012", Region: "us-east-2", ID: "i-0123456789abcdef0"}, Action: "terminate",
	},
	"rebalance-recommendation": RebalanceRecommendation{
		Origin:   Origin{Source: "aws.ec2/123456789012/us-east-2", ID: id(14), Subject: instance, Time: at(10, 0)},
		Instance: Instance{Account: "123456789012", Region: "us-east-2", ID: "i-0123456789abcdef0"},
	},
}

func alert(o Origin) Alert {
	return Alert{
		Origin: o, AlertID: alertID, Rule: "orders waiting", Severity: "Sev3", Condition: "Fired", Signal: "Metric", FiredAt: at(7, 371321300),
		Targets: []string{subscription + "/resourcegroups/shop/providers/microsoft.servicebus/namespaces/shop"},
		Context: json.RawMessage(`{"properties":null,"conditionType":"SingleResourceMultipleMetricCriteria","condition":{"windowSize":"PT5M","allOf":[{` +
			`"metricName":"ActiveMessages","metricNamespace":"Microsoft.ServiceBus/namespaces","operator":"GreaterThan","threshold":"25","timeAggregation":"Average",` +
			`"dimensions":[{"name":"EntityName","value":"orders"}],"metricValue":31.7,"webTestName":null}],` +
			`"windowStartTime":"2026-11-24T07:54:00Z","windowEndTime":"2026-11-24T07:59:00Z"}}`),
	}
}

// bodies returns the files of testdata by name.
func bodies(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		if all[strings.TrimSuffix(filepath.Base(name), ".json")], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// open returns the CloudEvent in a body, whatever its envelope.
func open(body []byte) (cloudevents.Event, error) {
	var shape struct {
		SpecVersion string `json:"specversion"`
	}
	if json.Unmarshal(body, &shape) == nil && shape.SpecVersion != "" {
		var e cloudevents.Event
		err := json.Unmarshal(body, &e)
		return e, err
	}
	list, err := Read(body)
	if err != nil {
		return cloudevents.Event{}, err
	}
	return list[0], nil
}

func parseBody(body []byte) (Message, error) {
	e, err := open(body)
	if err != nil {
		return nil, err
	}
	return Parse(e)
}

func TestPublishedShapesAreRead(t *testing.T) {
	seen := map[string]bool{}
	for name, body := range bodies(t) {
		t.Run(name, func(t *testing.T) {
			key := name
			if _, ok := samples[key]; !ok {
				key, _, _ = strings.Cut(name, ".")
			}
			seen[key] = true
			got, err := parseBody(body)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(samples[key], got); d != "" {
				t.Error(d)
			}
		})
	}
	for key := range samples {
		if !seen[key] {
			t.Errorf("there is no file of %s", key)
		}
	}
}

func TestMessagesSurviveTheirCloudEvents(t *testing.T) {
	for name, want := range samples {
		wire, err := json.Marshal(want.Event())
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseBody(wire)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestTypesMatchWhateverTheirCase(t *testing.T) {
	for name, body := range bodies(t) {
		e, err := open(body)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Parse(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, spelled := range []func(string) string{strings.ToLower, strings.ToUpper} {
			e.SetType(spelled(e.Type()))
			got, err := Parse(e)
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("%s as %s: %v %s", name, e.Type(), err, d)
			}
		}
	}
}

func TestAnAlertIsKnownByItsTypeOrItsSchema(t *testing.T) {
	want := samples["alert.cloudevents"]
	e := want.Event()
	for _, eventType := range []string{AlertType, "com.example.alert"} {
		e.SetType(eventType)
		got, err := Parse(e)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", eventType, err, d)
		}
	}
	other := strings.Replace(string(e.Data()), AlertType, "AzureMonitorMetricAlert", 1)
	e.DataEncoded = []byte(other)
	if _, err := Parse(e); !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("another schema: got %v, want %v", err, events.ErrUnknownType)
	}
	e.SetType(AlertType)
	_, err := Parse(e)
	wantRefused(t, err, "data.schemaId")
}

func TestABatchOfEventGridIsReadInItsOrder(t *testing.T) {
	all := bodies(t)
	var batch []json.RawMessage
	var want []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasSuffix(name, ".event-grid") {
			continue
		}
		var one []json.RawMessage
		if err := json.Unmarshal(all[name], &one); err != nil {
			t.Fatal(err)
		}
		batch = append(batch, one...)
		list, err := Read(one[0]) // alone, without the array
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: got %d events and %v", name, len(list), err)
		}
		want = append(want, list[0].ID())
	}
	body, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Read(body)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.ID())
	}
	if d := cmp.Diff(want, got); len(want) != 7 || d != "" {
		t.Errorf("%d events: %s", len(want), d)
	}
}

func wantRefused(t *testing.T, err error, field string) {
	t.Helper()
	fe, ok := errors.AsType[*events.FieldError](err)
	if !ok || !errors.Is(err, events.ErrMalformed) || fe.Field != field {
		t.Errorf("got %v, want an error of %s", err, field)
	}
	if err != nil && len(err.Error()) > 500 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

func TestMissingAndOddFieldsAreNamed(t *testing.T) {
	all := bodies(t)
	const health = "data.resourceInfo.properties."
	for name, c := range map[string]struct{ file, old, new, field string }{
		"no repository":             {"image-pushed.cloudevents", `"repository"`, `"x"`, "data.target.repository"},
		"no registry":               {"image-pushed.cloudevents", `"host"`, `"x"`, "data.request.host"},
		"no digest":                 {"image-pushed.cloudevents", `"digest"`, `"x"`, "data.target.digest"},
		"a digest that is cut":      {"image-pushed.cloudevents", digest, digest[:70], "data.target.digest"},
		"a digest in capitals":      {"image-pushed.cloudevents", digest, "sha256:" + strings.Repeat("A", 64), "data.target.digest"},
		"a registry with a path":    {"image-pushed.cloudevents", `"shop.azurecr.io"`, `"evil.example/shop"`, "data.request.host"},
		"a registry with a user":    {"image-pushed.cloudevents", `"shop.azurecr.io"`, `"a@shop"`, "data.request.host"},
		"a repository that climbs":  {"image-pushed.cloudevents", `"team/web"`, `"../web"`, "data.target.repository"},
		"a repository and a tag":    {"image-pushed.cloudevents", `"team/web"`, `"web:latest"`, "data.target.repository"},
		"a tag with a blank":        {"image-pushed.cloudevents", `"v2"`, `"v 2"`, "data.target.tag"},
		"a tag that is an option":   {"image-pushed.cloudevents", `"v2"`, `"-v2"`, "data.target.tag"},
		"a deletion of nothing":     {"image-deleted.cloudevents", `"repository"`, `"x"`, "data.target.repository"},
		"a chart of nothing":        {"chart-pushed.cloudevents", `"repository"`, `"x"`, "data.target.repository"},
		"a target that is a word":   {"chart-pushed.cloudevents", `"repository": "charts"`, `"repository": 7`, "data.target.repository"},
		"no state":                  {"availability-changed.cloudevents", `"availabilityState"`, `"x"`, health + "availabilityState"},
		"no machine":                {"availability-changed.cloudevents", `"targetResourceId"`, `"x"`, health + "targetResourceId"},
		"no time of occurrence":     {"availability-changed.cloudevents", `"occurredTime"`, `"x"`, health + "occurredTime"},
		"no annotation":             {"resource-annotated.cloudevents", `"annotationName"`, `"x"`, health + "annotationName"},
		"no code":                   {"subscription-validation.cloudevents", `"validationCode"`, `"x"`, "data.validationCode"},
		"a URL without TLS":         {"subscription-validation.cloudevents", `"https://rp`, `"http://rp`, "data.validationUrl"},
		"no subscription":           {"subscription-deleted.cloudevents", `"eventSubscriptionId"`, `"x"`, "data.eventSubscriptionId"},
		"Event Grid without id":     {"image-pushed.event-grid", `"id": "5a1b0c9d-0000-4000-8000-000000000001"`, `"x": ""`, "[0].id"},
		"Event Grid without topic":  {"image-pushed.event-grid", `"topic"`, `"x"`, "[0].topic"},
		"Event Grid without type":   {"image-pushed.event-grid", `"eventType"`, `"x"`, "[0].eventType"},
		"Event Grid without time":   {"image-pushed.event-grid", `"eventTime"`, `"x"`, "[0].eventTime"},
		"Event Grid without data":   {"image-pushed.event-grid", `"data":`, `"x":`, "[0].data"},
		"no alert id":               {"alert.webhook", `"alertId"`, `"x"`, "data.data.essentials.alertId"},
		"no alert rule":             {"alert.webhook", `"alertRule"`, `"x"`, "data.data.essentials.alertRule"},
		"no severity":               {"alert.webhook", `"severity"`, `"x"`, "data.data.essentials.severity"},
		"no condition":              {"alert.webhook", `"monitorCondition"`, `"x"`, "data.data.essentials.monitorCondition"},
		"no signal":                 {"alert.cloudevents", `"signalType"`, `"x"`, "data.data.essentials.signalType"},
		"no time of firing":         {"alert.cloudevents", `"firedDateTime"`, `"x"`, "data.data.essentials.firedDateTime"},
		"no incarnation":            {"scheduled-events.cloudevents", `"DocumentIncarnation"`, `"x"`, "data.DocumentIncarnation"},
		"no kind":                   {"scheduled-events.cloudevents", `"EventType"`, `"x"`, "data.Events[0].EventType"},
		"no event id":               {"scheduled-events.cloudevents", `"EventId"`, `"x"`, "data.Events[0].EventId"},
		"no status":                 {"scheduled-events.cloudevents", `"EventStatus"`, `"x"`, "data.Events[0].EventStatus"},
		"no machines":               {"scheduled-events.cloudevents", `"Resources"`, `"x"`, "data.Events[0].Resources"},
		"no time before":            {"scheduled-events.cloudevents", `"NotBefore"`, `"x"`, "data.Events[0].NotBefore"},
		"a time in another zone":    {"scheduled-events.cloudevents", `08:00:39 GMT`, `08:00:39 PST`, "data.Events[0].NotBefore"},
		"a negative duration":       {"scheduled-events.cloudevents", `"DurationInSeconds": -1`, `"DurationInSeconds": -2`, "data.Events[0].DurationInSeconds"},
		"no instance":               {"spot-interruption.eventbridge", `"instance-id"`, `"x"`, "data.instance-id"},
		"an odd instance":           {"spot-interruption.eventbridge", `"i-0123456789abcdef0"`, `"node-1"`, "data.instance-id"},
		"no action":                 {"spot-interruption.eventbridge", `"instance-action"`, `"x"`, "data.instance-action"},
		"no instance to rebalance":  {"rebalance-recommendation.eventbridge", `"instance-id"`, `"x"`, "data.instance-id"},
		"EventBridge without id":    {"spot-interruption.eventbridge", `"id"`, `"x"`, "id"},
		"EventBridge, no account":   {"spot-interruption.eventbridge", `"account"`, `"x"`, "account"},
		"EventBridge, no region":    {"spot-interruption.eventbridge", `"region"`, `"x"`, "region"},
		"EventBridge without time":  {"spot-interruption.eventbridge", `"time"`, `"x"`, "time"},
		"EventBridge, no detail":    {"spot-interruption.eventbridge", `"detail":`, `"x":`, "detail"},
		"EventBridge, empty source": {"spot-interruption.eventbridge", `"aws.ec2"`, `""`, "source"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := strings.Replace(string(all[c.file]), c.old, c.new, 1)
			if broken == string(all[c.file]) {
				t.Fatalf("%s does not contain %s", c.file, c.old)
			}
			m, err := parseBody([]byte(broken))
			wantRefused(t, err, c.field)
			if m != nil {
				t.Errorf("got %+v too", m)
			}
		})
	}
}

func TestBodiesThatAreNotKnownAreToldFromThoseThatAreBroken(t *testing.T) {
	for body, want := range map[string]error{
		`{"hello": "world"}`:                      events.ErrUnknownType,
		`{"schemaId": "AzureMonitorMetricAlert"}`: events.ErrUnknownType,
		`{}`:                   events.ErrUnknownType,
		``:                     events.ErrMalformed,
		`hello`:                events.ErrMalformed,
		`[]`:                   events.ErrMalformed,
		`[1, 2]`:               events.ErrMalformed,
		`"text"`:               events.ErrMalformed,
		`{"eventType": 7}`:     events.ErrMalformed,
		`{"eventType": "x"}`:   events.ErrMalformed,
		`{"detail-type": "x"}`: events.ErrMalformed,

		`{"action": "push", "timestamp": "soon", "id": "1"}`:            events.ErrMalformed,
		`{"action": "push", "timestamp": "2026-11-24T08:00:00Z"}`:       events.ErrMalformed,
		`{"action": 1, "timestamp": "2026-11-24T08:00:00Z", "id": "1"}`: events.ErrMalformed,
	} {
		if list, err := Read([]byte(body)); !errors.Is(err, want) || list != nil {
			t.Errorf("%s: got %v and %v, want %v", body, list, err, want)
		}
	}
	e := samples["image-pushed"].Event()
	e.SetType("Microsoft.ContainerRegistry.ImageQuarantined")
	if m, err := Parse(e); !errors.Is(err, events.ErrUnknownType) || m != nil {
		t.Errorf("got %+v and %v, want %v", m, err, events.ErrUnknownType)
	}
}

// padded returns the JSON object with blanks at its end, so that it has a size.
func padded(body []byte, size int) []byte {
	return append(body, strings.Repeat(" ", size-len(body))...)
}

func TestSizesHaveLimits(t *testing.T) {
	all := bodies(t)
	for name, limit := range map[string]int{
		"image-pushed.event-grid": events.MaxBytes, "alert.webhook": events.MaxBytes, "spot-interruption.eventbridge": MaxEventBridgeBytes,
	} {
		if _, err := Read(padded(all[name], limit)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := Read(padded(all[name], limit+1))
		wantRefused(t, err, "data")
	}
	for name, limit := range map[string]int{"image-pushed": events.MaxBytes, "scheduled-events": MaxScheduledEventsBytes} {
		e := samples[name].Event()
		e.DataEncoded = padded(e.Data(), limit)
		if _, err := Parse(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		e.DataEncoded = padded(e.Data(), limit+1)
		_, err := Parse(e)
		wantRefused(t, err, "data")
	}
	_, err := Read([]byte("[" + strings.Repeat("{},", MaxBatch) + "{}]"))
	wantRefused(t, err, "body")
}
