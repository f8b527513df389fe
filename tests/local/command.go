package local

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// commandTimeout ends a command that hangs.
const commandTimeout = time.Minute

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs bin/zeroplane to its end.
func Run(t testing.TB, arguments ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, binary(t), arguments...) // #nosec G204 -- the test's own
	command.Env = append(os.Environ(), "HOME="+t.TempDir())
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("zeroplane %q: %v\n%s", arguments, err, stderr.String())
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: command.ProcessState.ExitCode()}
}

func binary(t testing.TB) string {
	t.Helper()
	path, err := target.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}
