package need

import (
	"os/exec"
	"syscall"
	"time"
)

// EndStock ends a stock auditd, and waits for it. A signal that comes while it begins is lost, though it is registered by then, so it is sent until it ends;
// after a minute the daemon is killed, which Wait returns as an error.
func EndStock(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	patience := time.After(time.Minute)
	for {
		select {
		case err := <-ended:
			return err
		case <-patience:
			_ = cmd.Process.Kill() // or it has ended just now
		case <-time.After(time.Second):
			_ = cmd.Process.Signal(syscall.SIGTERM) // likewise
		}
	}
}
