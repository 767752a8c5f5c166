package dispatch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// child is one run of the program.
type child struct {
	cmd    *exec.Cmd
	in     *os.File // our end of the socketpair
	theirs *os.File // the child's end, kept so that what it leaves unread can be taken back
	exited chan struct{}
	err    error // of Wait, after exited
	gone   bool  // Wait has returned: its write deadline must not be set again. Guarded by processSink.mu
}

// errEnded is why a program ended that nobody asked to.
var errEnded = errors.New("it exited")

// start starts the program with one end of a socketpair as its standard input. We keep that
// end, too: what the child leaves unread stays in the socket, and drain takes it back.
func (s *processSink) start() (_ *child, err error) {
	if err := conf.Executable(s.p.conf.Path); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	c := &child{exited: make(chan struct{})}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(fmt.Errorf("socketpair: %w", err), unix.Close(fds[0]), unix.Close(fds[1]))
	}
	c.in, c.theirs = os.NewFile(uintptr(fds[0]), "plugin"), os.NewFile(uintptr(fds[1]), "plugin-stdin")
	c.cmd = exec.Command(s.p.conf.Path, s.p.conf.Args...)
	c.cmd.Stdin, c.cmd.Dir = c.theirs, "/"
	// Next to no environment, as the stock daemon's plugins have.
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if s.stderr != nil {
		c.cmd.Stderr = s.stderr
	}
	// A process group of its own: a key pressed at our terminal ends us, not the plugin.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil { // as long as it takes to read the program
		return nil, errors.Join(err, c.in.Close(), c.theirs.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = c
	if s.stopping {
		s.limitLocked()
	}
	go func() {
		c.err = c.cmd.Wait()
		s.mu.Lock()
		c.gone = true
		// Wakes a write that waits for a reader that is gone.
		_ = c.in.SetWriteDeadline(time.Unix(1, 0)) // an error: closed already
		s.mu.Unlock()
		close(c.exited)
	}()
	return c, nil
}

// end ends a process: the end of its input first, by which the stock plugins
// deliver what they hold, then SIGTERM, then SIGKILL. Only stop sets a deadline.
func (s *processSink) end(c *child) {
	select {
	case <-c.exited:
		return
	default:
	}
	s.mu.Lock()
	deadline := s.deadline
	s.mu.Unlock()
	if deadline.IsZero() {
		// It ended by itself, or can't be written to.
		deadline = time.Now()
	}
	if err := unix.Shutdown(int(fd(c.in)), unix.SHUT_WR); err != nil {
		s.p.logger.Debug("shutdown of a plugin's input", "plugin", s.p.conf.Name, "error", err)
	}
	wait := func(d time.Duration) bool {
		select {
		case <-c.exited:
			return true
		case <-time.After(d):
			return false
		}
	}
	left := time.Until(deadline)
	if wait(min(endGrace, left/2)) {
		return
	}
	s.signal(unix.SIGTERM)
	if wait(max(time.Until(deadline), endGrace/2)) {
		return
	}
	s.p.logger.Warn("plugin did not end and is killed", "plugin", s.p.conf.Name)
	s.signal(unix.SIGKILL)
	<-c.exited
}

// fd returns a file's descriptor. File.Fd would make it blocking.
func fd(f *os.File) uintptr {
	raw, err := f.SyscallConn()
	if err != nil {
		return ^uintptr(0)
	}
	var n uintptr
	if err := raw.Control(func(fd uintptr) { n = fd }); err != nil {
		return ^uintptr(0)
	}
	return n
}

// drain reads what is left in a socket of which the other reader has ended; it does not
// wait.
func drain(f *os.File) []byte {
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(int(fd(f)), buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return all
		}
		all = append(all, buf[:n]...)
	}
}
