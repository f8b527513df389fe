package lambdahost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zeroplane/zeroplane/tests/hosted"
)

const (
	// initTimeout is how long a process may take to ask for its first call.
	initTimeout = 30 * time.Second
	// apiVersion of the runtime API.
	apiVersion = "/2018-06-01/runtime/"
	// streamType is how a function says that its answer is one of HTTP, whose header comes first.
	streamType = "application/vnd.awslambda.http-integration-response"
	// preludeEnd ends the header of such an answer, which has maxPrelude bytes at most.
	preludeEnd, maxPrelude = 8, 64 << 10
	// maxAnswer is how much an answer that is not streamed can have, in bytes.
	maxAnswer = 6 << 20
)

// errFunction is a call that the function failed.
var errFunction = errors.New("the function failed")

// instance is a process and the runtime API that it sees.
type instance struct {
	function *function
	name     string
	cmd      *exec.Cmd
	api      *http.Server
	// gone is closed when the process has ended, ready when it has asked for a call for the first time.
	gone, ready chan struct{}
	readyOnce   sync.Once
	// calls are given to who asks for the next one.
	calls chan *call

	mu      sync.Mutex
	current *call
	// began is when the process was started or got its call, zero while it has none.
	began time.Time
	// failed is what the process said of its start.
	failed error
	frozen bool
	idle   *time.Timer
}

// start starts a process, and returns when it asks for a call.
func (f *function) start() (*instance, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := f.host
	name := fmt.Sprintf("%s-%d", f.name, h.count(f.name+" starts"))
	in := &instance{function: f, name: name, gone: make(chan struct{}), ready: make(chan struct{}), calls: make(chan *call)}
	in.api = &http.Server{Handler: in.routes(), ReadHeaderTimeout: initTimeout}
	go func() { _ = in.api.Serve(l) }() // until it is closed
	log, err := os.OpenFile(filepath.Join(h.o.Dir, f.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()       // the child has its own
	in.cmd = exec.Command(h.stack.bootstrap) //nolint:gosec // of this repository
	in.cmd.Env = append(os.Environ(), h.Environment()...)
	in.cmd.Env = append(in.cmd.Env,
		"AWS_LAMBDA_RUNTIME_API="+l.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME="+f.name, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1024",
		"LAMBDA_TASK_ROOT="+h.root, "_HANDLER=bootstrap")
	in.cmd.Stdout, in.cmd.Stderr = log, log
	in.began = time.Now()
	if err := in.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = in.cmd.Wait()
		close(in.gone)
		in.ended()
	}()
	select {
	case <-in.ready:
		return in, nil
	case <-in.gone:
		in.mu.Lock()
		defer in.mu.Unlock()
		return nil, errors.Join(fmt.Errorf("%w: %s ended: %s", errFunction, in.name, hosted.Tail(log.Name())), in.failed)
	case <-time.After(initTimeout):
		in.kill()
		return nil, fmt.Errorf("%w: %s asked for no call: %s", errFunction, in.name, hosted.Tail(log.Name()))
	}
}

// ended is called when the process has ended: a call that it was at has failed.
func (in *instance) ended() {
	_ = in.api.Close()
	in.bill()
	in.mu.Lock()
	c := in.current
	in.mu.Unlock()
	if c != nil {
		c.finish(fmt.Errorf("%w: %s exited", errFunction, in.name))
	}
	in.function.remove(in)
}

func (in *instance) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+apiVersion+"invocation/next", in.next)
	mux.HandleFunc("POST "+apiVersion+"invocation/{id}/response", in.response)
	mux.HandleFunc("POST "+apiVersion+"invocation/{id}/error", in.failure)
	mux.HandleFunc("POST "+apiVersion+"init/error", in.initFailure)
	return mux
}

// next gives the process a call. It is frozen until there is one.
func (in *instance) next(w http.ResponseWriter, req *http.Request) {
	in.mu.Lock()
	c := in.current
	in.current = nil
	in.mu.Unlock()
	if c != nil && !c.finished() {
		c.finish(fmt.Errorf("%w: %s asked for another call before it answered %s", errFunction, in.name, c.id))
	}
	in.freeze()
	in.bill()
	in.readyOnce.Do(func() { close(in.ready) })
	if c != nil {
		in.function.put(in)
	}
	select {
	case c = <-in.calls:
	case <-in.gone:
		return
	case <-req.Context().Done():
		return
	}
	in.mu.Lock()
	in.current, in.began = c, time.Now()
	in.mu.Unlock()
	in.thaw()
	header := w.Header()
	header.Set("Lambda-Runtime-Aws-Request-Id", c.id)
	header.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(c.deadline.UnixMilli()))
	header.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+region+":"+account+":function:"+in.function.name)
	header.Set("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0")
	header.Set("Content-Type", "application/json")
	_, _ = w.Write(c.payload)
}

// bill has what the process was at be paid for.
func (in *instance) bill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.began.IsZero() {
		in.function.host.bill(in.began)
		in.began = time.Time{}
	}
}

// freeze stops the process where it is.
func (in *instance) freeze() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.frozen = true
	_ = in.cmd.Process.Signal(syscall.SIGSTOP) // it may have ended
}

func (in *instance) thaw() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.frozen = false
	_ = in.cmd.Process.Signal(syscall.SIGCONT)
}

// kill ends the process as the service does: without a word.
func (in *instance) kill() {
	_ = in.cmd.Process.Kill()
	<-in.gone
}

// at returns the call that a request is about.
func (in *instance) at(w http.ResponseWriter, req *http.Request) *call {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.current == nil || in.current.id != req.PathValue("id") {
		http.Error(w, `{"errorMessage":"no such call","errorType":"InvalidRequestID"}`, http.StatusBadRequest)
		return nil
	}
	return in.current
}

// response takes an answer. One of HTTP, or one that says that it is streamed, is passed on as it comes.
func (in *instance) response(w http.ResponseWriter, req *http.Request) {
	c := in.at(w, req)
	if c == nil {
		return
	}
	var err error
	streamed := req.Header.Get("Lambda-Runtime-Function-Response-Mode") == "streaming"
	if contentType := req.Header.Get("Content-Type"); contentType == streamType || streamed {
		err = c.stream(req.Body, contentType == streamType)
	} else {
		c.answer, err = io.ReadAll(io.LimitReader(req.Body, maxAnswer+1))
		if err == nil && len(c.answer) > maxAnswer {
			err = fmt.Errorf("%w: the answer has more than %d bytes", errFunction, maxAnswer)
		}
	}
	if kind := req.Trailer.Get("Lambda-Runtime-Function-Error-Type"); err == nil && kind != "" {
		err = fmt.Errorf("%w in its answer: %s", errFunction, kind)
	}
	c.finish(err)
	w.WriteHeader(http.StatusAccepted)
}

// failure takes an error instead of an answer.
func (in *instance) failure(w http.ResponseWriter, req *http.Request) {
	c := in.at(w, req)
	if c == nil {
		return
	}
	c.finish(readError(req))
	w.WriteHeader(http.StatusAccepted)
}

func (in *instance) initFailure(w http.ResponseWriter, req *http.Request) {
	in.mu.Lock()
	in.failed = readError(req)
	in.mu.Unlock()
	w.WriteHeader(http.StatusAccepted)
}

// readError reads what a function says went wrong.
func readError(req *http.Request) error {
	var said struct{ ErrorMessage, ErrorType string }
	if err := json.NewDecoder(io.LimitReader(req.Body, maxAnswer)).Decode(&said); err != nil {
		return fmt.Errorf("%w and does not say why: %w", errFunction, err)
	}
	return fmt.Errorf("%w: %s: %s", errFunction, said.ErrorType, strings.TrimSpace(said.ErrorMessage))
}
