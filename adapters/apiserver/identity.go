package apiserver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

type identityKey struct{}

// inProcess authenticates requests that were made inside the process: their identity is in the
// context, where no request from outside can put it.
func inProcess(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		if u, ok := req.Context().Value(identityKey{}).(user.Info); ok {
			return &authenticator.Response{User: u}, true, nil
		}
		return next.AuthenticateRequest(req)
	})
}

// System is who the API server itself is.
var System user.Info = &user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

// ServiceAccount is a controller of kube-system, with the rights that the bootstrap policy gives it.
func ServiceAccount(name string) user.Info {
	return &user.DefaultInfo{
		Name:   "system:serviceaccount:kube-system:" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", user.AllAuthenticated},
	}
}

// Component is a user of upstream's bootstrap policy, such as "system:kube-scheduler".
func Component(name string) user.Info {
	return &user.DefaultInfo{Name: name, Groups: []string{user.AllAuthenticated}}
}

// ClientConfig returns the configuration of a client that calls the API in memory as who.
func (s *Server) ClientConfig(who user.Info, agent string) *rest.Config {
	return clientConfig(&transport{handler: s, who: who}, agent)
}

func clientConfig(t http.RoundTripper, agent string) *rest.Config {
	return &rest.Config{
		// The scheme matters: clients send no credential over plain HTTP.
		Host:      "https://in-memory.zeroplane.dev",
		Transport: t,
		UserAgent: agent,
		QPS:       -1,
		ContentConfig: rest.ContentConfig{
			ContentType:        "application/vnd.kubernetes.protobuf",
			AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
		},
		DisableCompression: true,
	}
}

// transport is an http.RoundTripper that calls a handler. The context, and with it a commit scope,
// reaches the storage.
type transport struct {
	handler http.Handler
	who     user.Info
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := context.WithValue(req.Context(), identityKey{}, t.who)
	inner := req.Clone(ctx)
	inner.RequestURI = req.URL.RequestURI()
	inner.URL = &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	inner.RemoteAddr = "127.0.0.1:0"
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	if isWatch, _ := strconv.ParseBool(req.URL.Query().Get("watch")); isWatch {
		return t.stream(inner, req)
	}
	w := &buffered{header: http.Header{}}
	t.handler.ServeHTTP(w, inner)
	return w.response(req), nil
}

// stream serves a request whose answer has no end of its own.
func (t *transport) stream(inner, req *http.Request) (*http.Response, error) {
	r, pw := io.Pipe()
	w := &streamed{header: http.Header{}, pipe: pw, started: make(chan struct{})}
	go func() {
		t.handler.ServeHTTP(w, inner)
		w.WriteHeader(http.StatusOK)
		_ = pw.Close()
	}()
	select {
	case <-w.started:
		return answer(req, w.code, w.sent, r), nil
	case <-req.Context().Done():
		_ = r.CloseWithError(req.Context().Err())
		return nil, req.Context().Err()
	}
}

func answer(req *http.Request, code int, header http.Header, body io.ReadCloser) *http.Response {
	return &http.Response{
		StatusCode: code, Status: strconv.Itoa(code) + " " + http.StatusText(code), Header: header, Body: body,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Request: req,
	}
}

// buffered is a response that is read when it is whole.
type buffered struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header { return b.header }

func (b *buffered) WriteHeader(code int) {
	if b.code == 0 {
		b.code = code
	}
}

func (b *buffered) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return b.body.Write(p)
}

// Flush implements http.Flusher.
func (b *buffered) Flush() {}

// CloseNotify implements http.CloseNotifier, which go-restful asks for.
func (b *buffered) CloseNotify() <-chan bool { return nil }

func (b *buffered) response(req *http.Request) *http.Response {
	b.WriteHeader(http.StatusOK)
	return answer(req, b.code, b.header, io.NopCloser(&b.body))
}

// streamed is a response that is read while it is written.
type streamed struct {
	header, sent http.Header
	code         int
	pipe         *io.PipeWriter
	started      chan struct{}
}

func (s *streamed) Header() http.Header { return s.header }

func (s *streamed) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
		s.sent = s.header.Clone()
		close(s.started)
	}
}

func (s *streamed) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return s.pipe.Write(p)
}

// Flush implements http.Flusher: a pipe holds nothing back.
func (s *streamed) Flush() { s.WriteHeader(http.StatusOK) }

// CloseNotify implements http.CloseNotifier, which go-restful asks for.
func (s *streamed) CloseNotify() <-chan bool { return nil }
