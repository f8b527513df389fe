// Package process starts daemons that end with the program that started them, and stops them by process id.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// logTail is how many bytes of a daemon's log an error about it quotes.
const logTail = 2000

// Process is one daemon. It ends with this program, even if this program is killed.
type Process struct {
	PID    int
	log    string
	exited chan struct{}
	err    error // how it ended; read after exited is closed
}

type started struct {
	pid int
	err error
}

// Start starts a binary with its output in a log file that is appended to.
func Start(binary string, arguments []string, log string) (*Process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // a test names its log
	if err != nil {
		return nil, err
	}
	p := &Process{log: log, exited: make(chan struct{})}
	result := make(chan started, 1)
	go func() {
		// Linux sends the parent-death signal when the *thread* that started the child ends, so that
		// thread is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		defer func() { _ = output.Close() }()
		command := exec.Command(binary, arguments...) //nolint:gosec // a test names the daemon that it drives
		command.Stdout, command.Stderr = output, output
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := command.Start(); err != nil {
			result <- started{err: err}
			return
		}
		result <- started{pid: command.Process.Pid}
		p.err = command.Wait()
	}()
	s := <-result
	if s.err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, s.err)
	}
	p.PID = s.pid
	return p, nil
}

// Failure is nil while the process runs, then what its log ended with.
func (p *Process) Failure() error {
	select {
	case <-p.exited:
		status := "exit status 0"
		if p.err != nil {
			status = p.err.Error()
		}
		return fmt.Errorf("ended (%s), its log says:\n%s", status, tail(p.log))
	default:
		return nil
	}
}

// Stop asks the process to end and kills it after the grace.
func (p *Process) Stop(grace time.Duration) error {
	// An error here means that it has ended already.
	_ = syscall.Kill(p.PID, syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-p.exited
	return nil
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Kill ends the process as a crash does, and returns when it is gone.
func (p *Process) Kill() error {
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-p.exited
	return nil
}

// ExitCode is the code that the process ended with, -1 while it runs and after a signal.
func (p *Process) ExitCode() int {
	select {
	case <-p.exited:
	default:
		return -1
	}
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	default:
		return -1
	}
}

func tail(path string) string {
	content, err := os.ReadFile(path) // #nosec G304 -- a log that Start wrote
	if err != nil {
		return err.Error()
	}
	if len(content) > logTail {
		content = content[len(content)-logTail:]
	}
	return string(content)
}
