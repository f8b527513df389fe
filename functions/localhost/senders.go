package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/trail"
	"github.com/zeroplane/zeroplane/adapters/webhook"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/signals"
)

// Who sends events from outside: with what they sign, what theirs cause, and where those are kept that are malformed.

// mountEvents serves the cluster's webhook and its dead letters.
func (h *Host) mountEvents(a *awake) {
	o := webhook.Options{Path: eventsPath, Authorizer: a.server.Authorizer(), Cluster: a.info.Name, Hear: a.hear, Letters: a.letters}
	if a.info.Name == cluster.Default {
		o.Others, o.Hear = clustersPath, func(ctx context.Context, e cloudevents.Event) error { return h.hearAny(ctx, a, e) }
	}
	w := webhook.New(o)
	a.server.Mount(eventsPath, w)
	a.server.Mount(eventsPath+webhook.LettersPath, http.HandlerFunc(w.ServeLetters))
	a.server.Mount(eventsPath+trail.Path, trail.Reader{Logs: a.logs, Decoder: a.server.Decoder()}.Handler(apiserver.Codecs))
}

// senderSecrets returns what senders sign with, in the order of the Secrets' names. One that cannot be used is logged.
func (a *awake) senderSecrets(ctx context.Context) ([]webhook.Secret, error) {
	state, err := a.logs[kubestorage.ObjectsGroup].Current(ctx)
	if err != nil {
		return nil, err
	}
	var out []webhook.Secret
	prefix := kubestorage.KeyOf(schema.GroupResource{Resource: "secrets"}, metav1.NamespaceSystem, "")
	state.Ascend(prefix, "", func(e *tablelog.Entry) bool {
		var obj any
		if obj, err = a.server.Decoder().Object(e); err != nil {
			err = fmt.Errorf("reading %s: %w", e.Key, err)
			return false
		}
		s, ok := obj.(*corev1.Secret)
		if !ok || s.Type != webhook.SecretType {
			return true
		}
		secret, problem := webhook.ReadSecret(s)
		if problem != nil {
			slog.Warn("no sender can sign with a secret", "cluster", a.info.Name, "secret", s.Name, "error", problem)
			return true
		}
		out = append(out, secret)
		return true
	})
	return out, err
}

// signal does what somebody else's event asks for. It fails with events.ErrMalformed or events.ErrUnknownType.
func (a *awake) signal(ctx context.Context, e cloudevents.Event) error {
	m, err := foreign.Parse(e)
	if err != nil {
		return err
	}
	ctx, end := because(ctx, e)
	defer end()
	acted, err := signals.Act(ctx, a.functions, m)
	if err != nil {
		return fmt.Errorf("acting on %s %s: %w", e.Type(), e.ID(), err)
	}
	if !acted {
		return fmt.Errorf("%w: nothing acts on %.80q", events.ErrUnknownType, e.Type())
	}
	return nil
}

// hearOthers does what somebody else's event asks of the default cluster, and returns when what follows is done.
func (h *Host) hearOthers(ctx context.Context, e cloudevents.Event) error {
	if _, err := foreign.Parse(e); err != nil {
		return err // no cluster is woken for it
	}
	a, err := h.clusters.get(ctx, cluster.Default)
	if err != nil {
		return err
	}
	defer a.leave()
	if err := a.signal(ctx, e); err != nil {
		return err
	}
	return a.settle(ctx)
}

// Bury keeps an event that came by a trigger and cannot be done among the dead letters: of the cluster that it names,
// if there is one, or of the default cluster.
func (h *Host) Bury(ctx context.Context, via string, raw []byte, reason error) error {
	var e cloudevents.Event
	_ = json.Unmarshal(raw, &e) // what it says itself, as far as it can be read
	name, _ := strings.CutPrefix(e.Source(), clustersPath)
	if cluster.ValidateName(name) != nil {
		name = cluster.Default
	}
	info, err := h.maker.Registry.Get(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		info, err = h.find(ctx, cluster.Default)
	}
	if err != nil {
		return err
	}
	l := deadletter.Letter{Sender: "trigger:" + via, Via: via, Reason: reason.Error(), Type: e.Type(), Source: e.Source(), EventID: e.ID()}
	if field, ok := errors.AsType[*events.FieldError](reason); ok {
		l.Field, l.Reason = field.Field, field.Reason
	}
	content := deadletter.Content{Header: map[string]string{"Content-Type": cloudevents.ApplicationCloudEventsJSON}, Body: raw}
	_, err = deadletter.New(h.store, info.Partition()).Keep(ctx, l, content, time.Now())
	return err
}
