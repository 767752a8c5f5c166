package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// program hands the message to a program on its standard input.
type program struct{ s Settings }

// exitRefused is the status by which a program refuses a message for good (EX_DATAERR of
// sysexits.h).
const exitRefused = 65

func (p *program) deliver(ctx context.Context, m *message) error {
	if err := conf.Executable(p.s.Program); err != nil {
		return err
	}
	body, err := m.json()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.s.Program, p.s.Args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(body)
	var out beginning
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The group is killed while its leader is not waited for, so its number is still its own.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		// The program has ended well, and something that it started holds its output.
		return nil
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s was killed: it took longer than %s (timeout): %s", p.s.Program, p.s.Timeout, said(out))
	}
	told := fmt.Errorf("%s: %w: %s", p.s.Program, err, said(out))
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitRefused {
		return refusal{told}
	}
	return told
}

// beginning keeps the beginning of what a program says.
type beginning []byte

func (b *beginning) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), 1000-min(len(*b), 1000))]...)
	return len(p), nil
}
