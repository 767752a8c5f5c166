package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"golang.org/x/sys/unix"
)

var ctlSignals = map[string]unix.Signal{
	"TERM": unix.SIGTERM, "HUP": unix.SIGHUP, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2, "CONT": unix.SIGCONT,
}

// termWait is how long --signal TERM waits at most for the daemon to end, so that a
// daemon started afterwards does not find the old one running.
const termWait = 30 * time.Second

// signal sends a signal to the registered daemon. A pidfd makes sure it reaches
// that process and no later one with its number.
func (c *ctl) signal(conn *kernel.Conn, name string) int {
	s, err := conn.Status()
	if err != nil {
		return c.sent("Error sending status request", err)
	}
	if s.PID == 0 {
		fmt.Fprintln(c.err, "Auditd is not running")
		return 0 // as auditctl 3.0.9
	}
	fd, err := unix.PidfdOpen(int(s.PID), 0)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.PidfdSendSignal(fd, ctlSignals[name], nil, 0)
	}
	if err != nil {
		fmt.Fprintf(c.err, "Failed sending signal to auditd (%s)\n", errnoText(err))
		return 1
	}
	if name != "TERM" {
		return 0
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(termWait); ; {
		n, err := unix.Poll(poll, int(max(0, time.Until(deadline).Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n > 0:
			return 0
		}
		fmt.Fprintf(c.err, "auditd (pid %d) got the signal but has not ended after %s\n", s.PID, termWait)
		return 1
	}
}
