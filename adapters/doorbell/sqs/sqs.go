// Package sqs carries bells in a queue of Amazon SQS: they outlast the process, and need not be heard before a time. A
// message is one CloudEvent as JSON.
package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// MaxDelay is the service's own bound on how long a message may be put off (DelaySeconds of SendMessage). Whoever
// hears a bell before its time sends it again.
const MaxDelay = 15 * time.Minute

// Options say where the queue is and how to be let in.
type Options struct {
	// QueueURL is the queue's address, as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME.
	QueueURL string
	// Region of the queue.
	Region string
	// Endpoint of the service, where it does not follow from the region.
	Endpoint string
	// AccessKeyID, SecretAccessKey and, for a role, SessionToken sign requests.
	AccessKeyID, SecretAccessKey, SessionToken string
	// Client sends the requests, nil for http.DefaultClient.
	Client *http.Client
}

// OptionsFromEnv returns what the environment says, in the names that AWS gives a function: ZEROPLANE_BELLS_QUEUE is the
// queue's address, and AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_ENDPOINT_URL_SQS
// are what AWS's tools take them for.
func OptionsFromEnv() Options {
	return Options{
		QueueURL: os.Getenv("ZEROPLANE_BELLS_QUEUE"), Region: os.Getenv("AWS_REGION"), Endpoint: os.Getenv("AWS_ENDPOINT_URL_SQS"),
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN"),
	}
}

// Bells of one queue.
type Bells struct {
	client *sqs.Client
	queue  string
}

// Open returns the bells of a queue. It sends nothing.
func Open(o Options) (*Bells, error) {
	if u, err := url.Parse(o.QueueURL); err != nil || u.Host == "" {
		return nil, fmt.Errorf("the queue %q is no URL: ZEROPLANE_BELLS_QUEUE is the address of an SQS queue", o.QueueURL)
	}
	for name, value := range map[string]string{"AWS_REGION": o.Region, "AWS_ACCESS_KEY_ID": o.AccessKeyID, "AWS_SECRET_ACCESS_KEY": o.SecretAccessKey} {
		if value == "" {
			return nil, errors.New(name + " is not set: AWS Lambda sets it")
		}
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	options := sqs.Options{
		Region: o.Region, HTTPClient: o.Client,
		// By hand: Lambda gives a role's credentials in the environment, and there is nowhere else to look for them.
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey, SessionToken: o.SessionToken}, nil
		}),
	}
	if o.Endpoint != "" {
		options.BaseEndpoint = &o.Endpoint
	}
	return &Bells{client: sqs.New(options), queue: o.QueueURL}, nil
}

// Reach is how long a bell can be put off.
func (b *Bells) Reach() time.Duration { return MaxDelay }

// Send has an event be heard at a time, or as soon after it as the queue's readers look. One that is for later than
// MaxDelay is heard then, too early.
func (b *Bells) Send(ctx context.Context, e cloudevents.Event, at time.Time) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event %s: %w", e.ID(), err)
	}
	message := string(body)
	in := &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: &message, DelaySeconds: delay(at, time.Now())}
	if _, err := b.client.SendMessage(ctx, in); err != nil {
		return fmt.Errorf("sending the event %s: %w", e.ID(), err)
	}
	return nil
}

// delay is in whole seconds, rounded up: a bell that is heard too early has to be sent again.
func delay(at, now time.Time) int32 {
	wait := min(max(at.Sub(now), 0), MaxDelay)
	return int32((wait + time.Second - 1) / time.Second)
}
