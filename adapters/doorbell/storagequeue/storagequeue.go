// Package storagequeue carries bells in an Azure Storage queue: they outlast the process, and need not be heard
// before a time. A message is one CloudEvent as JSON, in base64 as the Functions host has it.
package storagequeue

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/queueerror"
	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// DefaultQueue is the name of the queue if none is given.
const DefaultQueue = "zeroplane-bells"

// maxDelay is the service's own bound on how long a message may be hidden. Whoever hears one that was for later
// rings again.
const maxDelay = 7 * 24 * time.Hour

// Options say where the queue is and how to be let in: a connection string, or an account with a key, or an account
// with an identity of Microsoft Entra.
type Options struct {
	ConnectionString        string
	AccountName, AccountKey string
	// Endpoint of the queue service, where it does not follow from the account.
	Endpoint string
	// Queue is the name of the queue, DefaultQueue if empty.
	Queue string
	// Credential is an identity, nil for azidentity's default chain.
	Credential azcore.TokenCredential
}

// OptionsFromEnv returns what the environment says: AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT,
// AZURE_STORAGE_KEY and ZEROPLANE_BELLS_QUEUE.
func OptionsFromEnv() Options {
	return Options{
		ConnectionString: os.Getenv("AZURE_STORAGE_CONNECTION_STRING"),
		AccountName:      os.Getenv("AZURE_STORAGE_ACCOUNT"),
		AccountKey:       os.Getenv("AZURE_STORAGE_KEY"),
		Queue:            os.Getenv("ZEROPLANE_BELLS_QUEUE"),
	}
}

// Bells of one queue.
type Bells struct{ client *azqueue.QueueClient }

// Open returns the bells of a queue. It is made when a message finds it missing.
func Open(o Options) (*Bells, error) {
	if o.Queue == "" {
		o.Queue = DefaultQueue
	}
	client, err := o.connect()
	if err != nil {
		return nil, fmt.Errorf("opening the queue %q: %w", o.Queue, err)
	}
	return &Bells{client: client}, nil
}

func (o Options) connect() (*azqueue.QueueClient, error) {
	if o.ConnectionString != "" {
		return azqueue.NewQueueClientFromConnectionString(o.ConnectionString, o.Queue, nil)
	}
	if o.Endpoint == "" {
		if o.AccountName == "" {
			return nil, errors.New("no storage account is named: set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT")
		}
		o.Endpoint = "https://" + o.AccountName + ".queue.core.windows.net"
	}
	url := o.Endpoint + "/" + o.Queue
	if o.AccountKey != "" {
		key, err := azqueue.NewSharedKeyCredential(o.AccountName, o.AccountKey)
		if err != nil {
			return nil, fmt.Errorf("reading the account key: %w", err)
		}
		return azqueue.NewQueueClientWithSharedKeyCredential(url, key, nil)
	}
	if o.Credential == nil {
		found, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("looking for an identity: %w", err)
		}
		o.Credential = found
	}
	return azqueue.NewQueueClient(url, o.Credential, nil)
}

// Send has an event be heard at a time, or as soon after it as the queue's readers look, and no later than in 7 days.
func (b *Bells) Send(ctx context.Context, e cloudevents.Event, at time.Time) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event %s: %w", e.ID(), err)
	}
	message := base64.StdEncoding.EncodeToString(body)
	hidden := int32(min(max(time.Until(at), 0), maxDelay).Round(time.Second).Seconds())
	forever := int32(-1) // by itself a message goes when it could first be seen
	options := &azqueue.EnqueueMessageOptions{VisibilityTimeout: &hidden, TimeToLive: &forever}
	_, err = b.client.EnqueueMessage(ctx, message, options)
	if queueerror.HasCode(err, queueerror.QueueNotFound) {
		if _, err = b.client.Create(ctx, nil); err == nil || queueerror.HasCode(err, queueerror.QueueAlreadyExists) {
			_, err = b.client.EnqueueMessage(ctx, message, options)
		}
	}
	if err != nil {
		return fmt.Errorf("sending the event %s: %w", e.ID(), err)
	}
	return nil
}
