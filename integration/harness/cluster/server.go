package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// server is what nodes and keepers have in common: a program with a folder that can be started again.
// One goroutine at a time may call its methods.
type server struct {
	Name string // such as clickhouse-1-2: shard 1, replica 2
	Host string // its address
	dir  string
	args []string
	// answers says whether the server does its work.
	answers func() bool

	proc *harness.Proc // nil: never started
}

// Start starts the server and waits until it answers.
func (s *server) Start() error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.wait()
}

// launch starts the server and does not wait for it.
func (s *server) launch() error {
	if s.Running() {
		return fmt.Errorf("%s runs already", s.Name)
	}
	var err error
	s.proc, err = harness.Start(harness.Spec{Name: s.Name, Args: s.args, Dir: s.dir})
	return err
}

// wait waits until a server that was started answers.
func (s *server) wait() error {
	if harness.Poll(patience, func() bool { return s.proc.Exited() || s.answers() }) && !s.proc.Exited() {
		return nil
	}
	what := "does not answer"
	if s.proc.Exited() {
		what = "has ended"
	}
	return fmt.Errorf("%s %s; its output:\n%s", s.Name, what, s.Log())
}

// Running says whether the program runs, frozen or not.
func (s *server) Running() bool { return s.proc != nil && !s.proc.Exited() }

// Proc is the program, for its memory and time. It is another one after each start.
func (s *server) Proc() *harness.Proc { return s.proc }

// Log is the last part of what the program wrote.
func (s *server) Log() string {
	if s.proc == nil {
		return ""
	}
	return s.proc.Output()
}

// Kill ends the program as a power cut does, with SIGKILL.
func (s *server) Kill() {
	if s.Running() {
		s.proc.Kill()
	}
}

// Stop ends the program in good order, or after patience with SIGKILL, which is an error.
func (s *server) Stop() error {
	if !s.Running() {
		return fmt.Errorf("%s does not run", s.Name)
	}
	if err := s.proc.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := s.proc.Wait(patience)
	if errors.Is(err, harness.ErrStillRan) || s.proc.ExitCode() == -1 && err != nil {
		return err
	}
	return nil // ZooKeeper ends with 143
}

// Freeze stops the program without ending it: its connections stay and nothing answers on them.
func (s *server) Freeze() error { return s.proc.Signal(syscall.SIGSTOP) }

// Thaw has a frozen program go on.
func (s *server) Thaw() error { return s.proc.Signal(syscall.SIGCONT) }

// write writes one of the server's configuration files.
func (s *server) write(name, text string) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600)
}
