package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/events"
)

// LettersPath is where dead letters are served, below a webhook's path.
const LettersPath = "/dead-letters"

// maxKept letters of one request are kept: each costs a read and a transaction. The rest is counted.
const maxKept = 10

// LetterList is the answer to a request for all letters.
type LetterList struct {
	Items []deadletter.Letter `json:"items"`
}

// LetterContent is the answer to a request for one.
type LetterContent struct {
	deadletter.Letter
	// Header and Body are the request that carried the event. A body that is no text is base64.
	Header map[string]string `json:"header,omitempty"`
	Body   string            `json:"body,omitempty"`
	Base64 []byte            `json:"base64,omitempty"`
}

// LetterOutcome is the answer when letters were taken, or dropped.
type LetterOutcome struct {
	// Removed is how many are gone.
	Removed int `json:"removed"`
}

// keep keeps what is malformed of a sender that is somebody.
func (h *Handler) keep(ctx context.Context, list []item) string {
	sender := senderOf(ctx)
	if sender == "" || sender == user.Anonymous {
		return ""
	}
	var ids []string
	for _, it := range list[:min(len(list), maxKept)] {
		l, err := h.o.Letters.Keep(ctx, letterOf(it.err, deadletter.Letter{
			Sender: sender, Via: deadletter.Webhook, Type: it.event.Type(), Source: it.event.Source(), EventID: it.event.ID(),
		}), it.content, time.Now())
		if err != nil {
			slog.Warn("cannot keep a malformed event", "cluster", h.o.Cluster, "sender", sender, "error", err)
			break
		}
		ids = append(ids, l.ID)
	}
	if len(ids) == 0 {
		return ""
	}
	return "; kept among the dead letters as " + strings.Join(ids, ", ")
}

// letterOf adds to a letter why it is one.
func letterOf(err error, l deadletter.Letter) deadletter.Letter {
	l.Reason = err.Error()
	if field, ok := errors.AsType[*events.FieldError](err); ok {
		l.Field, l.Reason = field.Field, field.Reason
	}
	return l
}

var letterResource = schema.GroupResource{Group: "zeroplane.dev", Resource: "dead letters"}

// ServeLetters serves GET and DELETE of PATH/dead-letters and PATH/dead-letters/ID, and POST of
// PATH/dead-letters/ID/replay, which judges the event anew, as one of whoever asks.
func (h *Handler) ServeLetters(w http.ResponseWriter, req *http.Request) {
	rest := strings.Trim(strings.TrimPrefix(req.URL.Path, h.o.Path+LettersPath), "/")
	id, verb, _ := strings.Cut(rest, "/")
	ctx := req.Context()
	var answer any
	var err error
	switch key := req.Method + " " + verb; {
	case id == "" && key == "GET ":
		answer, err = h.listLetters(ctx)
	case id == "" && key == "DELETE ":
		var n int
		n, err = h.o.Letters.Clear(ctx)
		answer = LetterOutcome{n}
	case id != "" && key == "GET ":
		answer, err = h.showLetter(ctx, id)
	case id != "" && key == "DELETE ":
		answer, err = LetterOutcome{1}, h.o.Letters.Remove(ctx, id)
	case id != "" && key == "POST replay":
		answer, err = h.replay(ctx, id)
	default:
		err = apierrors.NewMethodNotSupported(letterResource, req.Method)
	}
	if errors.Is(err, deadletter.ErrNotFound) {
		err = apierrors.NewNotFound(letterResource, id)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // whoever hung up does not read it
}

func (h *Handler) listLetters(ctx context.Context) (any, error) {
	all, err := h.o.Letters.List(ctx)
	return LetterList{all}, err
}

func (h *Handler) showLetter(ctx context.Context, id string) (any, error) {
	l, c, err := h.o.Letters.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	out := LetterContent{Letter: l, Header: c.Header, Body: string(c.Body)}
	if strings.ToValidUTF8(out.Body, "") != out.Body {
		out.Body, out.Base64 = "", c.Body
	}
	return out, nil
}

// replay posts a letter again. When it is taken, it is removed.
func (h *Handler) replay(ctx context.Context, id string) (any, error) {
	l, c, err := h.o.Letters.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if l.Truncated {
		return nil, status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, fmt.Sprintf("only a part of the event's %d bytes is kept: it cannot be posted again", l.Bytes))
	}
	if _, err := h.take(ctx, c, func(context.Context, []item) string { return "; it stays among the dead letters" }); err != nil {
		return nil, err
	}
	if err := h.o.Letters.Remove(ctx, id); err != nil && !errors.Is(err, deadletter.ErrNotFound) {
		return nil, err
	}
	return LetterOutcome{1}, nil
}
