package functionshost

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/queueerror"
)

// firstPoll is the pause after a queue was found empty, which doubles up to maxPollingInterval
// (RandomizedExponentialBackoffStrategy of the WebJobs SDK).
const firstPoll = 100 * time.Millisecond

const poisonSuffix = "-poison"

// poll reads a queue until the host ends.
func (h *Host) poll(function string, b binding) {
	name := strings.NewReplacer("%ZEROPLANE_BELLS_QUEUE%", h.queueName()).Replace(b.QueueName)
	client, err := h.queue(name)
	if err != nil {
		panic(err)
	}
	pause := firstPoll
	for h.ctx.Err() == nil {
		lease := int32(time.Duration(h.app.queues.VisibilityTimeout).Seconds())
		got, err := client.DequeueMessages(h.ctx, &azqueue.DequeueMessagesOptions{NumberOfMessages: &h.app.queues.BatchSize, VisibilityTimeout: &lease})
		if err != nil && !queueerror.HasCode(err, queueerror.QueueNotFound) && h.ctx.Err() == nil {
			h.count("failed polls")
		}
		if err != nil || len(got.Messages) == 0 {
			select {
			case <-time.After(pause):
			case <-h.ctx.Done():
			}
			pause = min(2*pause, time.Duration(h.app.queues.MaxPollingInterval))
			continue
		}
		pause = firstPoll
		for _, m := range got.Messages {
			h.deliver(client, function, name, b, m)
		}
	}
}

func (h *Host) queueName() string {
	for _, e := range h.o.Environment {
		if v, ok := strings.CutPrefix(e, "ZEROPLANE_BELLS_QUEUE="); ok {
			return v
		}
	}
	if v := os.Getenv("ZEROPLANE_BELLS_QUEUE"); v != "" {
		return v
	}
	return "zeroplane-bells"
}

// deliver calls the function with a message, and deletes it, hands it back, or moves it to the poison queue.
func (h *Host) deliver(client *azqueue.QueueClient, function, name string, b binding, m *azqueue.DequeuedMessage) {
	text, err := base64.StdEncoding.DecodeString(*m.MessageText)
	if err != nil {
		text = []byte(*m.MessageText)
	}
	once, err := json.Marshal(string(text))
	if err == nil {
		err = h.call(h.ctx, function, map[string]any{b.Name: string(once)}, map[string]any{
			"DequeueCount": *m.DequeueCount, "Id": *m.MessageID, "PopReceipt": *m.PopReceipt, "InsertionTime": *m.InsertionTime,
		})
	}
	switch {
	case h.ctx.Err() != nil:
		return
	case err == nil:
	case *m.DequeueCount >= h.app.queues.MaxDequeueCount:
		h.count("poison")
		poison, err := h.queue(name + poisonSuffix)
		if err == nil {
			_, err = poison.Create(h.ctx, nil)
		}
		if err == nil || queueerror.HasCode(err, queueerror.QueueAlreadyExists) {
			_, err = poison.EnqueueMessage(h.ctx, *m.MessageText, nil)
		}
		if err != nil {
			return // it comes again
		}
	default:
		now := int32(0)
		_, _ = client.UpdateMessage(h.ctx, *m.MessageID, *m.PopReceipt, *m.MessageText, &azqueue.UpdateMessageOptions{VisibilityTimeout: &now})
		return
	}
	_, _ = client.DeleteMessage(h.ctx, *m.MessageID, *m.PopReceipt, nil)
}
