package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// SecretType is the type of the Secrets, in kube-system, with which senders sign.
const SecretType corev1.SecretType = "zeroplane.dev/webhook-secret" //nolint:gosec // a type, no secret

// Keys of such a Secret's data.
const (
	// userKey is who the sender acts as: what it may send, RBAC says.
	userKey = "user"
	// secretKey is the secret: whsec_ and base64, or the bytes themselves.
	secretKey = "secret"
	// schemeKey is standard, if it is left out, or github.
	schemeKey = "scheme"
)

// SendersGroup is a group that all who sign are in.
const SendersGroup = "zeroplane:webhook-senders"

const (
	// replayWindow is how far a signature's time may be from now, as Standard Webhooks has it.
	replayWindow = 5 * time.Minute
	// minSecretBytes of a secret, as Standard Webhooks has it.
	minSecretBytes = 24
	// maxSecrets are tried for a signature, and maxSignatures of a request looked at.
	maxSecrets, maxSignatures = 64, 8
	// maxMessageID is the length of the longest webhook-id, in bytes.
	maxMessageID = 256
	// maxBuffered bodies are in memory before it is known who sent them.
	maxBuffered = 32
)

// Headers of Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md) and of GitHub
// (https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries).
const (
	idHeader        = "Webhook-Id"
	timestampHeader = "Webhook-Timestamp"
	signatureHeader = "Webhook-Signature"
	githubHeader    = "X-Hub-Signature-256"
)

// Secret is what a sender signs with.
type Secret struct {
	// Name of the Kubernetes Secret.
	Name string
	// User that the sender acts as.
	User string
	// GitHub is set for a sender that signs as GitHub does, without a time: what it sent can be sent again at any time.
	GitHub bool
	Key    []byte
}

// ReadSecret returns what is in a Kubernetes Secret of SecretType.
func ReadSecret(s *corev1.Secret) (Secret, error) {
	out := Secret{Name: s.Name, User: string(s.Data[userKey]), Key: s.Data[secretKey]}
	switch scheme := string(s.Data[schemeKey]); scheme {
	case "", "standard":
	case "github":
		out.GitHub = true
	default:
		return out, fmt.Errorf("%s: %.40q is neither standard nor github", schemeKey, scheme)
	}
	if out.User == "" || strings.HasPrefix(out.User, "system:") {
		return out, fmt.Errorf("%s: %.80q cannot be who a sender is: it must not be empty or begin with \"system:\"", userKey, out.User)
	}
	if text, ok := bytes.CutPrefix(out.Key, []byte("whsec_")); ok && !out.GitHub {
		key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
		if err != nil {
			return out, fmt.Errorf("%s: not base64 after whsec_: %w", secretKey, err)
		}
		out.Key = key
	}
	if len(out.Key) < minSecretBytes {
		return out, fmt.Errorf("%s: has %d bytes, at least %d are needed", secretKey, len(out.Key), minSecretBytes)
	}
	return out, nil
}

// Signatures authenticates who signed a request to a webhook. A request with another credential is left to others.
type Signatures struct {
	// Path of the webhook.
	Path string
	// Secrets returns those of the cluster, in a fixed order.
	Secrets func(context.Context) ([]Secret, error)
	Now     func() time.Time
}

var _ authenticator.Request = (*Signatures)(nil)

var (
	errSignature = errors.New("no secret of the cluster makes the signature")
	errTimestamp = fmt.Errorf("%s is not within %s of now", timestampHeader, replayWindow)
	errHeader    = fmt.Errorf("%s and %s are needed too", idHeader, timestampHeader)
)

// signed reports whether a request claims to be from somebody who signs.
func signed(req *http.Request) bool {
	return req.Method == http.MethodPost && req.Header.Get("Authorization") == "" &&
		(req.Header.Get(signatureHeader) != "" || req.Header.Get(githubHeader) != "")
}

// AuthenticateRequest implements authenticator.Request.
func (s *Signatures) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if !signed(req) || req.URL.Path != s.Path { // what a TokenReview asks about has no URL
		return nil, false, nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, MaxBytes+1))
	if err != nil {
		return nil, false, fmt.Errorf("reading what was signed: %w", err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	secret, err := s.find(req.Context(), req.Header, body)
	if err != nil {
		slog.Info("a signed event is refused", "error", err)
		return nil, false, err
	}
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: secret.User, Groups: []string{SendersGroup, user.AllAuthenticated}, Extra: map[string][]string{"zeroplane.dev/webhook-secret": {secret.Name}},
	}}, true, nil
}

// find returns the secret that makes a request's signature.
func (s *Signatures) find(ctx context.Context, header http.Header, body []byte) (Secret, error) {
	github := header.Get(signatureHeader) == ""
	var message []byte
	var claims [][]byte
	if github {
		message, claims = body, hexClaims(header.Get(githubHeader))
	} else {
		var err error
		if message, err = s.message(header, body); err != nil {
			return Secret{}, err
		}
		claims = base64Claims(header.Get(signatureHeader))
	}
	if len(claims) == 0 {
		return Secret{}, errSignature
	}
	all, err := s.Secrets(ctx)
	if err != nil {
		return Secret{}, fmt.Errorf("reading the secrets of senders: %w", err)
	}
	for _, secret := range all[:min(len(all), maxSecrets)] {
		if secret.GitHub != github {
			continue
		}
		mac := hmac.New(sha256.New, secret.Key)
		mac.Write(message)
		sum := mac.Sum(nil)
		for _, c := range claims {
			if hmac.Equal(sum, c) {
				return secret, nil
			}
		}
	}
	return Secret{}, errSignature
}

// message is what is signed by Standard Webhooks: the id, the time and the body, with points between.
func (s *Signatures) message(header http.Header, body []byte) ([]byte, error) {
	id, timestamp := header.Get(idHeader), header.Get(timestampHeader)
	if id == "" || len(id) > maxMessageID || timestamp == "" {
		return nil, errHeader
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return nil, errTimestamp
	}
	if off := s.Now().Sub(time.Unix(seconds, 0)); off > replayWindow || off < -replayWindow {
		return nil, errTimestamp
	}
	return slices.Concat([]byte(id+"."+timestamp+"."), body), nil
}

// base64Claims are the signatures of a header such as "v1,BASE64 v1,BASE64". Other versions are another algorithm's.
func base64Claims(header string) (out [][]byte) {
	for part := range strings.FieldsSeq(header) {
		text, ok := strings.CutPrefix(part, "v1,")
		if sum, err := base64.StdEncoding.DecodeString(text); ok && err == nil && len(out) < maxSignatures {
			out = append(out, sum)
		}
	}
	return out
}

func hexClaims(header string) [][]byte {
	text, ok := strings.CutPrefix(header, "sha256=")
	sum, err := hex.DecodeString(text)
	if !ok || err != nil {
		return nil
	}
	return [][]byte{sum}
}

// buffering is held by those who send a body before it is known who they are.
var buffering = make(chan struct{}, maxBuffered)

// Buffer reads the body of a request that is signed, since who sent it is not known before that. It returns false if it
// has answered the request: its body is too large or too slow, or there are too many of them.
func Buffer(w http.ResponseWriter, req *http.Request) bool {
	if !signed(req) {
		return true
	}
	select {
	case buffering <- struct{}{}:
		defer func() { <-buffering }()
	default:
		fail(w, unavailable())
		return false
	}
	body, err := readBody(w, req)
	if err != nil {
		fail(w, err)
		return false
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return true
}
