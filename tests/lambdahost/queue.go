package lambdahost

import (
	"context"
	"crypto/md5" //nolint:gosec // what the service answers with
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// maxDelay and maxMessage are the service's bounds, in seconds and bytes.
	maxDelay, maxMessage = 900, 1 << 20
	// longPoll is how long a look at the queue waits for a message.
	longPoll = 20 * time.Second
)

// message is one in the queue.
type message struct {
	id, body string
	// visible is when it can be seen, received how often it was, sent when it came.
	visible, sent time.Time
	received      int
}

// queue stands in for a queue of SQS and the one of its dead letters. It is sent to by HTTP, in the JSON protocol.
type queue struct {
	settings queueSettings
	url      string
	key      string

	mu       sync.Mutex
	messages map[string]*message
	dead     []string
	// calls are those that QueueCalls counts.
	calls int
	// changed is closed, and made anew, when there may be something to see.
	changed chan struct{}
}

func newQueue(settings queueSettings, url, key string) *queue {
	return &queue{settings: settings, url: url, key: key, messages: map[string]*message{}, changed: make(chan struct{})}
}

// fault is an error of the service.
type fault struct{ code, text string }

// ServeHTTP takes requests of the AWS SDK.
func (q *queue) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var in struct {
		QueueURL     string `json:"QueueUrl"`
		MessageBody  string
		DelaySeconds int
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 2*maxMessage)).Decode(&in)
	var bad *fault
	signed := strings.Contains(req.Header.Get("Authorization"), "Credential="+q.key+"/") && req.Header.Get("X-Amz-Security-Token") != ""
	switch target := req.Header.Get("X-Amz-Target"); {
	case err != nil:
		bad = &fault{"com.amazon.coral.service#SerializationException", err.Error()}
	case target != "AmazonSQS.SendMessage":
		bad = &fault{"com.amazon.coral.service#UnknownOperationException", target}
	case !signed:
		bad = &fault{"com.amazon.coral.service#UnrecognizedClientException", "the request is not signed as the role"}
	case in.QueueURL != q.url:
		bad = &fault{"com.amazonaws.sqs#QueueDoesNotExist", in.QueueURL}
	case in.DelaySeconds < 0 || in.DelaySeconds > maxDelay:
		bad = &fault{"com.amazonaws.sqs#InvalidParameterValue", fmt.Sprintf("DelaySeconds is %d", in.DelaySeconds)}
	case in.MessageBody == "" || len(in.MessageBody) > maxMessage:
		bad = &fault{"com.amazonaws.sqs#InvalidParameterValue", fmt.Sprintf("the message has %d bytes", len(in.MessageBody))}
	}
	if bad != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": bad.code, "message": bad.text})
		return
	}
	id := q.send(in.MessageBody, time.Duration(in.DelaySeconds)*time.Second)
	_ = json.NewEncoder(w).Encode(map[string]string{"MessageId": id, "MD5OfMessageBody": sum(in.MessageBody)})
}

func sum(text string) string {
	s := md5.Sum([]byte(text)) //nolint:gosec // as the service does
	return hex.EncodeToString(s[:])
}

// send adds a message.
func (q *queue) send(body string, delay time.Duration) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	m := &message{id: uuid.NewString(), body: body, visible: now.Add(delay), sent: now}
	q.messages[m.id] = m
	q.calls++
	q.change()
	return m.id
}

// change wakes those who wait for a message. The caller holds mu.
func (q *queue) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// receive waits for messages and leases at most n. One that was received too often is dead.
func (q *queue) receive(ctx context.Context, n int) []*message {
	end := time.Now().Add(longPoll)
	for ctx.Err() == nil {
		got, next, changed := q.take(n)
		if len(got) > 0 || time.Now().After(end) {
			return got
		}
		wait := time.NewTimer(min(time.Until(next), time.Until(end)))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-wait.C:
		}
		wait.Stop()
	}
	return nil
}

// take leases what can be seen, or returns when something can be.
func (q *queue) take(n int) (got []*message, next time.Time, changed chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	next = now.Add(longPoll)
	for id, m := range q.messages {
		switch {
		case m.visible.After(now):
			if m.visible.Before(next) {
				next = m.visible
			}
		case m.received >= q.settings.maxReceive:
			delete(q.messages, id)
			q.dead = append(q.dead, m.body)
		case len(got) < n:
			m.received++
			m.visible = now.Add(q.settings.visibility)
			leased := *m
			got = append(got, &leased)
		}
	}
	if len(got) > 0 {
		q.calls++
	}
	return got, next, q.changed
}

// remove deletes the messages of a batch but those that failed.
func (q *queue) remove(batch []*message, failed map[string]bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	removed := false
	for _, m := range batch {
		if !failed[m.id] {
			delete(q.messages, m.id)
			removed = true
		}
	}
	if removed {
		q.calls++
	}
}

// bury adds to the dead letters.
func (q *queue) bury(body string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead = append(q.dead, body)
}

// event is what a function gets (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html).
func (q *queue) event(messages []*message) map[string]any {
	records := make([]map[string]any, 0, len(messages))
	for _, m := range messages {
		records = append(records, map[string]any{
			"messageId": m.id, "receiptHandle": m.id, "body": m.body, "md5OfBody": sum(m.body), "messageAttributes": map[string]any{},
			"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:" + region + ":" + account + ":" + queueName, "awsRegion": region,
			"attributes": map[string]string{
				"ApproximateReceiveCount": fmt.Sprint(m.received), "SentTimestamp": fmt.Sprint(m.sent.UnixMilli()),
				"ApproximateFirstReceiveTimestamp": fmt.Sprint(time.Now().UnixMilli()), "SenderId": "AIDA",
			},
		})
	}
	return map[string]any{"Records": records}
}

// poll gives a function what comes to the queue, until the host ends.
func (h *Host) poll() {
	f := h.functions[h.stack.sqs]
	for h.ctx.Err() == nil {
		got := h.queue.receive(h.ctx, f.settings.batch)
		if len(got) == 0 {
			continue
		}
		answer, err := h.callFunction(f, "sqs", h.queue.event(got))
		if err != nil {
			h.note("a batch of %d failed: %v", len(got), err)
			continue // all of it comes again
		}
		failed, err := failures(answer, f.settings.partial, got)
		if err != nil {
			h.note("%v", err)
			continue
		}
		h.queue.remove(got, failed)
	}
}

// failures reads which messages a function wants to get again. An answer that cannot be read, or that names what was not
// in the batch, is a failure of all.
func failures(answer []byte, partial bool, got []*message) (map[string]bool, error) {
	failed := map[string]bool{}
	if !partial {
		return failed, nil
	}
	var out struct {
		BatchItemFailures []struct {
			ItemIdentifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("the answer to a batch is %q: %w", answer, err)
	}
	known := map[string]bool{}
	for _, m := range got {
		known[m.id] = true
	}
	for _, f := range out.BatchItemFailures {
		if !known[f.ItemIdentifier] {
			return nil, fmt.Errorf("the answer to a batch names %q, which is none of it", f.ItemIdentifier)
		}
		failed[f.ItemIdentifier] = true
	}
	return failed, nil
}
