package lambdahost

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/aws/aws-lambda-go/events"

	own "github.com/zeroplane/zeroplane/events"
)

// serve answers a request to the function's URL. The answer is streamed as the API writes it.
func (h *Handler) serve(ctx context.Context, payload json.RawMessage) (any, error) {
	var in events.LambdaFunctionURLRequest
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: a request to the function's URL: %w", own.ErrMalformed, err), h.rest(ctx))
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := request(ctx, &in)
	if err != nil {
		cancel()
		return refuse(err), h.rest(ctx)
	}
	r, pipe := io.Pipe()
	w := &writer{header: http.Header{}, pipe: pipe, head: req.Method == http.MethodHead, began: make(chan struct{}), done: make(chan struct{})}
	go w.run(h.api, req)
	<-w.began
	body := &answer{PipeReader: r, end: func() error {
		cancel()
		<-w.done
		return h.rest(context.WithoutCancel(ctx))
	}}
	if w.failed != nil {
		return nil, errors.Join(w.failed, body.Close())
	}
	return w.response(body), nil
}

// refuse answers a request that cannot be read.
func refuse(err error) *events.LambdaFunctionURLStreamingResponse {
	return &events.LambdaFunctionURLStreamingResponse{
		StatusCode: http.StatusBadRequest, Headers: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, Body: strings.NewReader(err.Error() + "\n"),
	}
}

// request is what the client sent, which Lambda passes on as version 2.0 of its payload
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html).
func request(ctx context.Context, in *events.LambdaFunctionURLRequest) (*http.Request, error) {
	body := []byte(in.Body)
	if in.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.Body); err != nil {
			return nil, fmt.Errorf("the body is no base64: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, in.RequestContext.HTTP.Method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	req.URL = address(in)
	req.RequestURI = req.URL.RequestURI()
	req.RemoteAddr = net.JoinHostPort(in.RequestContext.HTTP.SourceIP, "0")
	for name, value := range in.Headers {
		name = http.CanonicalHeaderKey(name)
		if severable(name) {
			for one := range strings.SplitSeq(value, ",") {
				req.Header.Add(name, strings.TrimSpace(one))
			}
			continue
		}
		req.Header.Set(name, value)
	}
	if len(in.Cookies) > 0 {
		req.Header.Set("Cookie", strings.Join(in.Cookies, "; "))
	}
	req.Host = in.RequestContext.DomainName
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	return req, nil
}

// severable reports whether a header of clients of Kubernetes stands once for each value, which it does not read out of
// a list. Lambda makes one of those that came several times, with commas between them.
func severable(name string) bool {
	return name == "Impersonate-Group" || strings.HasPrefix(name, "Impersonate-Extra-")
}

// address is the URL's path and query. A path that is not escaped as a URL's is taken for one that was unescaped.
func address(in *events.LambdaFunctionURLRequest) *url.URL {
	u := &url.URL{Path: in.RawPath, RawQuery: in.RawQueryString}
	if path, err := url.PathUnescape(in.RawPath); err == nil && path != in.RawPath {
		u.Path, u.RawPath = path, in.RawPath
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u
}

// answer is the body of an answer. To close it ends the request.
type answer struct {
	*io.PipeReader
	end  func() error
	once sync.Once
	err  error
}

// Close implements io.Closer. It returns when nothing is under way any more that the request began.
func (a *answer) Close() error {
	a.once.Do(func() {
		err := a.PipeReader.Close()
		a.err = errors.Join(err, a.end())
		if a.err != nil {
			slog.Error("a request did not end well", "error", a.err)
		}
	})
	return a.err
}

// writer is an http.ResponseWriter into a stream.
type writer struct {
	header http.Header
	pipe   *io.PipeWriter
	// head is set where the answer has no body, whatever is written: net/http's server drops it, too.
	head bool
	// began is closed when code and sent are known, or failed is set; done when the request was handled.
	began, done chan struct{}
	once        sync.Once
	code        int
	sent        http.Header
	failed      error
}

// run has a request answered.
func (w *writer) run(handler http.Handler, req *http.Request) {
	defer close(w.done)
	defer func() {
		if p := recover(); p != nil {
			w.fail(p)
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = w.pipe.Close() // never fails
	}()
	handler.ServeHTTP(w, req)
}

// fail ends an answer that was given up: as none, if it has not begun, or in a way that the client sees.
func (w *writer) fail(p any) {
	err := fmt.Errorf("the answer was given up: %v", p)
	if p != http.ErrAbortHandler { //nolint:errorlint // a value of its own
		slog.Error("panic while answering a request", "panic", p)
	}
	w.once.Do(func() {
		w.failed = err
		close(w.began)
	})
	_ = w.pipe.CloseWithError(err) // never fails
}

// Header implements http.ResponseWriter.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. The service does not pass on what only informs.
func (w *writer) WriteHeader(code int) {
	if code < http.StatusOK {
		return
	}
	w.once.Do(func() {
		w.code, w.sent = code, w.header.Clone()
		close(w.began)
	})
}

// Write implements http.ResponseWriter. It returns when the runtime API has the bytes.
func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.head {
		return len(p), nil
	}
	return w.pipe.Write(p)
}

// Flush implements http.Flusher: nothing is held back but the header.
func (w *writer) Flush() { w.WriteHeader(http.StatusOK) }

// CloseNotify implements http.CloseNotifier, which the API server asks for beside http.Flusher. Lambda does not say that a
// client has gone.
func (w *writer) CloseNotify() <-chan bool { return nil }

// response is the answer as the service wants it: its header first, with one value for each name.
func (w *writer) response(body io.Reader) *events.LambdaFunctionURLStreamingResponse {
	out := &events.LambdaFunctionURLStreamingResponse{StatusCode: w.code, Headers: map[string]string{}, Body: body}
	for name, values := range w.sent {
		switch name {
		case "Set-Cookie":
			out.Cookies = values
		case "Content-Length", "Transfer-Encoding", "Connection": // the stream has none of its own
		default:
			out.Headers[name] = strings.Join(values, ", ")
		}
	}
	return out
}
