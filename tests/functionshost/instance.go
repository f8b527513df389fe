package functionshost

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/zeroplane/zeroplane/tests/hosted"
)

const (
	startTimeout = 30 * time.Second
	stopGrace    = 10 * time.Second
	readyPoll    = 2 * time.Millisecond
)

// group is what serves some functions: one instance or none.
type group struct {
	host *Host
	name string

	mu    sync.Mutex
	cmd   *exec.Cmd
	gone  chan struct{}
	url   *url.URL
	under int
	idle  *time.Timer
}

// enter returns where the group's instance listens, starting one if there is none, and counts a call.
func (g *group) enter(ctx context.Context) (*url.URL, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd != nil {
		select {
		case <-g.gone: // it crashed
			g.cmd = nil
		default:
		}
	}
	if g.cmd == nil {
		if err := g.start(ctx); err != nil {
			return nil, err
		}
	}
	g.under++
	if g.idle != nil {
		g.idle.Stop()
	}
	return g.url, nil
}

func (g *group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under--
	if g.under > 0 || g.host.o.Idle == 0 {
		return
	}
	g.idle = time.AfterFunc(g.host.o.Idle, func() { g.endIdle() })
}

func (g *group) running() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cmd != nil
}

// start starts an instance and waits until it answers. The caller holds mu.
func (g *group) start(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(g.host.o.Dir, g.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                            // the child has its own
	cmd := exec.Command(g.host.o.Binary, g.host.app.arguments...) //nolint:gosec // the binary under test
	cmd.Env = append(os.Environ(), g.host.Environment()...)
	cmd.Env = append(cmd.Env, fmt.Sprintf("FUNCTIONS_CUSTOMHANDLER_PORT=%d", address.Port))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	g.cmd, g.gone, g.url = cmd, gone, mustURL("http://"+address.String())
	deadline := time.Now().Add(startTimeout)
	for {
		if resp, err := http.Get(g.url.String()); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		select {
		case <-gone:
			g.cmd = nil
			return fmt.Errorf("the handler %s ended: %s", g.name, hosted.Tail(log.Name()))
		case <-time.After(readyPoll):
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			g.endLocked()
			return fmt.Errorf("the handler %s did not answer: %s", g.name, hosted.Tail(log.Name()))
		}
	}
}

// endIdle ends the instance unless it is at a call, and reports whether there is none then.
func (g *group) endIdle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.under > 0 {
		return false
	}
	g.endLocked()
	return true
}

func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endLocked()
}

func (g *group) endLocked() {
	if g.cmd == nil {
		return
	}
	signal := syscall.SIGTERM
	if g.host.o.Kill {
		signal = syscall.SIGKILL
	}
	_ = g.cmd.Process.Signal(signal)
	select {
	case <-g.gone:
	case <-time.After(stopGrace):
		_ = g.cmd.Process.Kill()
		<-g.gone
	}
	g.cmd = nil
}

// post makes a call and looks at the answer as the host does.
func post(ctx context.Context, to *url.URL, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Azure-Functions-Invocationid", "call")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var outcome struct {
		Outputs     map[string]any
		Logs        []string
		ReturnValue any
	}
	if err := json.Unmarshal(answer, &outcome); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s: %s", errRefused, resp.Status, answer)
	}
	return nil
}
