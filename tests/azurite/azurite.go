// Package azurite starts Azurite's table service, the emulator of Azure Table Storage, for tests. It is
// installed through npm, in the versions of package-lock.json, into .cache/azurite, once for each lock file.
//
// Azurite accepts what Azure refuses and is never slow, short of a page or out of reach: package limits is
// what stands between it and a test that must know.
package azurite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/zeroplane/zeroplane/adapters/table/azure"
)

// Azurite's well-known account, which it has on every machine.
const (
	Account = "devstoreaccount1"
	Key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

const (
	// installTimeout is for some 370 packages on a slow line.
	installTimeout = 5 * time.Minute
	// startTimeout is for a machine that does much else.
	startTimeout = time.Minute
	// keepAliveSeconds is how long Azurite keeps a connection that nobody uses: longer than a test takes, so
	// that no request meets one that is just being closed. Package limits breaks connections where that is
	// what is tested.
	keepAliveSeconds = "3600"
)

// Server is a running table service.
type Server struct {
	// Endpoint is the URL of the service with the account's name.
	Endpoint string

	cmd    *exec.Cmd
	stdin  io.Closer
	output *output
	exited chan struct{}
}

// ConnectionString is how clients are told of the service.
func (s *Server) ConnectionString() string { return ConnectionString(s.Endpoint) }

// ConnectionString is that of Azurite's account at an endpoint.
func ConnectionString(endpoint string) string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;TableEndpoint=%s;", Account, Key, endpoint)
}

var shared = sync.OnceValues(start)

// Shared returns the service that all tests of a process share, starting it for the first. It ends with the
// process. Tests keep apart by the names of their tables.
func Shared(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Start returns a service of the test's own, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func start() (*Server, error) {
	modules, err := install()
	if err != nil {
		return nil, fmt.Errorf("installing Azurite: %w", err)
	}
	s, err := run(modules)
	if err != nil {
		return nil, fmt.Errorf("starting Azurite: %w", err)
	}
	return s, nil
}

// folder is where this file and the lock file lie.
func folder() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", fmt.Errorf("the source of the tests is not known: %q (built with -trimpath?)", file)
	}
	return filepath.Dir(file), nil
}

// install returns a folder with Azurite's packages, made when it is missing. Suites that run at the same
// time wait for one of them.
func install() (string, error) {
	source, err := folder()
	if err != nil {
		return "", err
	}
	lockFile, err := os.ReadFile(filepath.Join(source, "package-lock.json")) //nolint:gosec // a folder of this repository
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lockFile)
	cache := filepath.Join(source, "..", "..", ".cache", "azurite")
	target := filepath.Join(cache, hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(cache, 0o750); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a folder of this repository
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for another suite: %w", err)
	}
	if _, err := os.Stat(target); err == nil { //nolint:gosec // a folder of this repository
		return target, nil
	}
	return target, installInto(target, source)
}

// installInto makes the folder elsewhere and moves it, so that it is whole when it is there.
func installInto(target, source string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not in PATH: install Node.js 20 or later (Debian: apt-get install nodejs npm)")
	}
	partial := target + ".partial"
	if err := os.RemoveAll(partial); err != nil { //nolint:gosec // a folder of this repository
		return err
	}
	if err := os.MkdirAll(partial, 0o750); err != nil { //nolint:gosec // a folder of this repository
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := os.ReadFile(filepath.Join(source, name)) //nolint:gosec // a file of this folder
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(partial, name), data, 0o600); err != nil { //nolint:gosec // a folder of this repository
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--omit=optional", "--omit=dev", "--no-audit", "--no-fund") //nolint:gosec // npm
	cmd.Dir = partial
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.Rename(partial, target) //nolint:gosec // a folder of this repository
}

// run starts the service on a port of its own choice and waits until it answers.
func run(modules string) (*Server, error) {
	source, err := folder()
	if err != nil {
		return nil, err
	}
	return runService(modules, "table", []string{"--require", filepath.Join(source, "before.js")}, "--tableKeepAliveTimeout", keepAliveSeconds)
}

// RunQueues is Run for the queue service.
func RunQueues() (*Server, error) {
	modules, err := install()
	if err != nil {
		return nil, err
	}
	return runService(modules, "queue", nil)
}

// runService runs one of Azurite's services, with flags of Node.js before it and its own after it.
func runService(modules, service string, before []string, after ...string) (*Server, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("node is not in PATH: install Node.js 20 or later (Debian: apt-get install nodejs)")
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{output: &output{}, exited: make(chan struct{}), Endpoint: "http://127.0.0.1:" + port + "/" + Account}
	main := filepath.Join(modules, "node_modules", "azurite", "dist", "src", service, "main.js")
	arguments := append(before, main, "--"+service+"Port", port, "--inMemoryPersistence", "--silent", "--disableTelemetry")
	s.cmd = exec.Command(node, append(arguments, after...)...) //nolint:gosec // Node.js
	s.cmd.Dir = os.TempDir()
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.ready(); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w\n%s", err, s.output.String())
	}
	return s, nil
}

func (s *Server) ready() error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	for {
		if resp, err := http.Get(s.Endpoint); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		select {
		case <-s.exited:
			return errors.New("it ended")
		case <-deadline.C:
			return fmt.Errorf("it did not answer within %s", startTimeout)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the service.
func (s *Server) Stop() {
	_ = s.stdin.Close()
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// Open opens a table of the test's own in the shared service, reached through a transport unless that is nil.
func Open(t testing.TB, transport policy.Transporter) *azure.Store {
	t.Helper()
	s, err := azure.Open(t.Context(), azure.Options{ConnectionString: Shared(t).ConnectionString(), Table: TableName(t), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var notInTableName = regexp.MustCompile(`[^A-Za-z0-9]`)

var tables struct {
	sync.Mutex
	n int
}

// TableName returns a name that no other table of this process has, and that tells the test's.
func TableName(t testing.TB) string {
	const keep = 40 // a name has at most 63 characters
	tables.Lock()
	defer tables.Unlock()
	tables.n++
	name := notInTableName.ReplaceAllString(t.Name(), "")
	return fmt.Sprintf("t%d%s", tables.n, strings.ToLower(name[:min(len(name), keep)]))
}

// output keeps the last of what a process says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	const most = 64 << 10 // bytes
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > most {
		o.buf.Reset()
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
