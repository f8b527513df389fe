package foreign

import (
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// Types of the health of virtual machines and scale sets.
const (
	AvailabilityStatusChangedType = "Microsoft.ResourceNotifications.HealthResources.AvailabilityStatusChanged"
	ResourceAnnotatedType         = "Microsoft.ResourceNotifications.HealthResources.ResourceAnnotated"
)

// AvailabilityChange says that a virtual machine, one of a scale set or a whole scale set became
// available, or ceased to be. See
// https://learn.microsoft.com/en-us/azure/event-grid/event-schema-health-resources.
type AvailabilityChange struct {
	Origin
	// Target is the Azure resource id of the machine, TargetType such as Microsoft.Compute/virtualMachines.
	Target     string
	TargetType string
	// State is one of Available, Unavailable, Degraded, Unknown; Previous may be empty.
	State    string
	Previous string
	Occurred time.Time
}

// HealthAnnotation says why the health of a machine is affected, in the same schema.
type HealthAnnotation struct {
	Origin
	Target     string
	TargetType string
	// Name is one of https://learn.microsoft.com/en-us/azure/service-health/resource-health-vm-annotation.
	Name    string
	Reason  string
	Summary string
	// Context says whether Azure or the customer caused it, Category whether it was planned. All that
	// describes may be empty.
	Context  string
	Category string
	Occurred time.Time
}

type healthData struct {
	ResourceInfo struct {
		Properties healthProperties `json:"properties"`
	} `json:"resourceInfo"`
}

type healthProperties struct {
	TargetResourceID   string `json:"targetResourceId"`
	TargetResourceType string `json:"targetResourceType,omitempty"`
	OccurredTime       string `json:"occurredTime"`

	AvailabilityState         string `json:"availabilityState,omitempty"`
	PreviousAvailabilityState string `json:"previousAvailabilityState,omitempty"`

	AnnotationName string `json:"annotationName,omitempty"`
	Reason         string `json:"reason,omitempty"`
	Summary        string `json:"summary,omitempty"`
	Context        string `json:"context,omitempty"`
	Category       string `json:"category,omitempty"`
}

const healthPath = "data.resourceInfo.properties."

// Event returns the CloudEvent.
func (a AvailabilityChange) Event() cloudevents.Event {
	var data healthData
	data.ResourceInfo.Properties = healthProperties{
		TargetResourceID: a.Target, TargetResourceType: a.TargetType, OccurredTime: a.Occurred.Format(time.RFC3339Nano),
		AvailabilityState: a.State, PreviousAvailabilityState: a.Previous,
	}
	return a.event(AvailabilityStatusChangedType, data)
}

// Event returns the CloudEvent.
func (a HealthAnnotation) Event() cloudevents.Event {
	var data healthData
	data.ResourceInfo.Properties = healthProperties{
		TargetResourceID: a.Target, TargetResourceType: a.TargetType, OccurredTime: a.Occurred.Format(time.RFC3339Nano),
		AnnotationName: a.Name, Reason: a.Reason, Summary: a.Summary, Context: a.Context, Category: a.Category,
	}
	return a.event(ResourceAnnotatedType, data)
}

// health reads what both events have.
func health(e cloudevents.Event) (Origin, healthProperties, time.Time, error) {
	var data healthData
	origin, err := decode(e, &data)
	if err != nil {
		return Origin{}, healthProperties{}, time.Time{}, err
	}
	p := data.ResourceInfo.Properties
	if !strings.HasPrefix(strings.ToLower(p.TargetResourceID), "/subscriptions/") {
		reason := fmt.Sprintf("%.80q is not an Azure resource id", p.TargetResourceID)
		return Origin{}, healthProperties{}, time.Time{}, &events.FieldError{Field: healthPath + "targetResourceId", Reason: reason}
	}
	occurred, err := events.ParseTime(healthPath+"occurredTime", p.OccurredTime)
	return origin, p, occurred, err
}

func parseAvailabilityChange(e cloudevents.Event) (AvailabilityChange, error) {
	origin, p, occurred, err := health(e)
	if err != nil {
		return AvailabilityChange{}, err
	}
	if err := need(healthPath+"availabilityState", p.AvailabilityState); err != nil {
		return AvailabilityChange{}, err
	}
	return AvailabilityChange{
		Origin: origin, Target: p.TargetResourceID, TargetType: p.TargetResourceType,
		State: p.AvailabilityState, Previous: p.PreviousAvailabilityState, Occurred: occurred,
	}, nil
}

func parseHealthAnnotation(e cloudevents.Event) (HealthAnnotation, error) {
	origin, p, occurred, err := health(e)
	if err != nil {
		return HealthAnnotation{}, err
	}
	if err := need(healthPath+"annotationName", p.AnnotationName); err != nil {
		return HealthAnnotation{}, err
	}
	return HealthAnnotation{
		Origin: origin, Target: p.TargetResourceID, TargetType: p.TargetResourceType,
		Name: p.AnnotationName, Reason: p.Reason, Summary: p.Summary, Context: p.Context, Category: p.Category, Occurred: occurred,
	}, nil
}
