package foreign

import (
	"encoding/json"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// AlertType is the schemaId of the common alert schema. It is the type of the CloudEvent that is made of
// an alert that comes as it is; an alert wrapped in an event of another type is known by its schemaId.
const AlertType = "azureMonitorCommonAlertSchema"

// Alert is an alert of Azure Monitor. See
// https://learn.microsoft.com/en-us/azure/azure-monitor/alerts/alerts-common-schema.
type Alert struct {
	Origin
	// AlertID is the same when it fires and when it is resolved.
	AlertID  string
	Rule     string
	Severity string // Sev0 to Sev4
	// Condition is Fired or Resolved, Signal one of Metric, Log and Activity Log.
	Condition string
	Signal    string
	FiredAt   time.Time
	// Targets are Azure resource ids; there may be none.
	Targets []string
	// Context differs from signal to signal; it may be nil.
	Context json.RawMessage
}

type alertBody struct {
	SchemaID string `json:"schemaId"`
	Data     struct {
		Essentials struct {
			AlertID          string   `json:"alertId"`
			AlertRule        string   `json:"alertRule"`
			Severity         string   `json:"severity"`
			SignalType       string   `json:"signalType"`
			MonitorCondition string   `json:"monitorCondition"`
			AlertTargetIDs   []string `json:"alertTargetIDs,omitempty"`
			FiredDateTime    string   `json:"firedDateTime"`
		} `json:"essentials"`
		AlertContext json.RawMessage `json:"alertContext,omitempty"`
	} `json:"data"`
}

// isAlert reports whether JSON says that it is of the common alert schema.
func isAlert(data []byte) bool {
	var body struct {
		SchemaID string `json:"schemaId"`
	}
	return json.Unmarshal(data, &body) == nil && strings.EqualFold(body.SchemaID, AlertType)
}

// fromAlert makes a CloudEvent of the body of an action group's webhook, which has no attributes: an alert
// fires and is resolved once, so these two tell its events apart.
func fromAlert(body []byte) ([]cloudevents.Event, error) {
	var b alertBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, notJSON("data", err)
	}
	essentials := b.Data.Essentials
	if err := need("data.data.essentials.alertId", essentials.AlertID, "data.data.essentials.monitorCondition", essentials.MonitorCondition); err != nil {
		return nil, err
	}
	fired, err := events.ParseTime("data.data.essentials.firedDateTime", essentials.FiredDateTime)
	if err != nil {
		return nil, err
	}
	origin := Origin{Source: essentials.AlertID, ID: essentials.MonitorCondition + "/" + essentials.FiredDateTime, Time: fired}
	e := origin.event(AlertType, json.RawMessage(body))
	if err := e.Validate(); err != nil {
		return nil, &events.FieldError{Field: "data.data.essentials.alertId", Reason: err.Error()}
	}
	return []cloudevents.Event{e}, nil
}

// Event returns the CloudEvent.
func (a Alert) Event() cloudevents.Event {
	var b alertBody
	b.SchemaID = AlertType
	b.Data.AlertContext = a.Context
	essentials := &b.Data.Essentials
	essentials.AlertID, essentials.AlertRule, essentials.Severity = a.AlertID, a.Rule, a.Severity
	essentials.SignalType, essentials.MonitorCondition, essentials.AlertTargetIDs = a.Signal, a.Condition, a.Targets
	essentials.FiredDateTime = a.FiredAt.Format(time.RFC3339Nano)
	return a.event(AlertType, b)
}

func parseAlert(e cloudevents.Event) (Alert, error) {
	var b alertBody
	origin, err := decode(e, &b)
	if err != nil {
		return Alert{}, err
	}
	if !strings.EqualFold(b.SchemaID, AlertType) {
		return Alert{}, &events.FieldError{Field: "data.schemaId", Reason: "is not " + AlertType}
	}
	const at = "data.data.essentials."
	essentials := b.Data.Essentials
	if err := need(at+"alertId", essentials.AlertID, at+"alertRule", essentials.AlertRule, at+"severity", essentials.Severity,
		at+"signalType", essentials.SignalType, at+"monitorCondition", essentials.MonitorCondition); err != nil {
		return Alert{}, err
	}
	fired, err := events.ParseTime(at+"firedDateTime", essentials.FiredDateTime)
	if err != nil {
		return Alert{}, err
	}
	a := Alert{
		Origin: origin, AlertID: essentials.AlertID, Rule: essentials.AlertRule, Severity: essentials.Severity, Signal: essentials.SignalType,
		Condition: essentials.MonitorCondition, FiredAt: fired,
	}
	if len(essentials.AlertTargetIDs) > 0 {
		a.Targets = essentials.AlertTargetIDs
	}
	if raw := b.Data.AlertContext; len(raw) > 0 && string(raw) != "null" {
		// Encoded once, it does not change when it is encoded again.
		if a.Context, err = json.Marshal(raw); err != nil {
			return Alert{}, notJSON("data.data.alertContext", err)
		}
	}
	return a, nil
}
