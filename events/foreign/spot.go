package foreign

import (
	"encoding/json"
	"fmt"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// Types that Read gives to events of EC2: the source, a point, and the detail-type in lower case with
// hyphens.
const (
	SpotInterruptionType        = "aws.ec2.ec2-spot-instance-interruption-warning"
	RebalanceRecommendationType = "aws.ec2.ec2-instance-rebalance-recommendation"
)

// MaxEventBridgeBytes is the size of the largest event that EventBridge has, see
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html.
const MaxEventBridgeBytes = 256 << 10

// Extension attributes that Read gives to events of EventBridge.
const (
	awsAccount = "awsaccount"
	awsRegion  = "awsregion"
)

// eventBridgeEvent is EventBridge's envelope, see
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html.
type eventBridgeEvent struct {
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// fromEventBridge makes a CloudEvent. Its subject is the first resource.
func fromEventBridge(body []byte) ([]cloudevents.Event, error) {
	if len(body) > MaxEventBridgeBytes {
		return nil, tooLarge(len(body), MaxEventBridgeBytes)
	}
	var b eventBridgeEvent
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, notJSON("body", err)
	}
	if err := need("id", b.ID, "detail-type", b.DetailType, "source", b.Source, "account", b.Account, "region", b.Region, "detail", string(b.Detail)); err != nil {
		return nil, err
	}
	when, err := events.ParseTime("time", b.Time)
	if err != nil {
		return nil, err
	}
	origin := Origin{Source: fmt.Sprintf("%s/%s/%s", b.Source, b.Account, b.Region), ID: b.ID, Time: when}
	if len(b.Resources) > 0 {
		origin.Subject = b.Resources[0]
	}
	e := origin.event(b.Source+"."+strings.ToLower(strings.Join(strings.Fields(b.DetailType), "-")), b.Detail)
	e.SetExtension(awsAccount, b.Account)
	e.SetExtension(awsRegion, b.Region)
	if err := e.Validate(); err != nil {
		return nil, &events.FieldError{Field: "body", Reason: err.Error()}
	}
	return []cloudevents.Event{e}, nil
}

// Instance is a machine of EC2.
type Instance struct {
	Account string
	Region  string
	// ID is as at the end of a node's provider id, such as i-0123456789abcdef0.
	ID string
}

// SpotInterruption says that a spot instance is taken away in two minutes. See
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html.
type SpotInterruption struct {
	Origin
	Instance Instance
	// Action is terminate, stop or hibernate.
	Action string
}

// RebalanceRecommendation says that a spot instance is more likely than others to be taken away. See
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html.
type RebalanceRecommendation struct {
	Origin
	Instance Instance
}

type spotDetail struct {
	InstanceID     string `json:"instance-id"`
	InstanceAction string `json:"instance-action,omitempty"`
}

// Event returns the CloudEvent.
func (s SpotInterruption) Event() cloudevents.Event {
	return s.Instance.mark(s.event(SpotInterruptionType, spotDetail{InstanceID: s.Instance.ID, InstanceAction: s.Action}))
}

// Event returns the CloudEvent.
func (r RebalanceRecommendation) Event() cloudevents.Event {
	return r.Instance.mark(r.event(RebalanceRecommendationType, spotDetail{InstanceID: r.Instance.ID}))
}

func (i Instance) mark(e cloudevents.Event) cloudevents.Event {
	e.SetExtension(awsAccount, i.Account)
	e.SetExtension(awsRegion, i.Region)
	return e
}

// spot reads what both events have.
func spot(e cloudevents.Event) (Origin, Instance, string, error) {
	var detail spotDetail
	origin, err := decode(e, &detail)
	if err != nil {
		return Origin{}, Instance{}, "", err
	}
	i := Instance{ID: detail.InstanceID}
	i.Account, _ = e.Extensions()[awsAccount].(string)
	i.Region, _ = e.Extensions()[awsRegion].(string)
	if err := need(awsAccount, i.Account, awsRegion, i.Region, "data.instance-id", i.ID); err != nil {
		return Origin{}, Instance{}, "", err
	}
	if sum, ok := strings.CutPrefix(i.ID, "i-"); !ok || sum == "" || len(sum) > 17 || !consistsOf(sum, hex) {
		return Origin{}, Instance{}, "", &events.FieldError{Field: "data.instance-id", Reason: fmt.Sprintf("%.80q is not the id of an instance", i.ID)}
	}
	return origin, i, detail.InstanceAction, nil
}

func parseSpotInterruption(e cloudevents.Event) (SpotInterruption, error) {
	origin, instance, action, err := spot(e)
	if err != nil {
		return SpotInterruption{}, err
	}
	if err := need("data.instance-action", action); err != nil {
		return SpotInterruption{}, err
	}
	return SpotInterruption{Origin: origin, Instance: instance, Action: action}, nil
}

func parseRebalanceRecommendation(e cloudevents.Event) (RebalanceRecommendation, error) {
	origin, instance, _, err := spot(e)
	if err != nil {
		return RebalanceRecommendation{}, err
	}
	return RebalanceRecommendation{Origin: origin, Instance: instance}, nil
}
