package dispatch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

const (
	firstPause = 100 * time.Millisecond // before a plugin that died is started again
	longPause  = 10 * time.Second
	// stableRun is how long a plugin must have run for its earlier deaths not to
	// count against max_restarts any more.
	stableRun = time.Hour
	// endGrace is how long a plugin has to end by itself at the end of its input.
	endGrace = 2 * time.Second
)

// processSink runs a program and writes records to its standard input.
type processSink struct {
	p      *plugin
	q      *queue
	enc    encoder
	stderr *os.File
	done   chan struct{}
	again  wake.Signal // an administrator asked for another try, or for the end

	rest []byte // of the stream: what a dead process had not read; run's

	mu       sync.Mutex // guards what follows
	running  *child
	failed   bool
	stopping bool
	deadline time.Time // once stopping
	restarts int       // since the last stable run
}

// child is one run of the program.
type child struct {
	cmd    *exec.Cmd
	in     *os.File // our end of the socketpair
	theirs *os.File // the child's end, kept so that what it leaves unread can be taken back
	exited chan struct{}
	err    error // of Wait, after exited
	gone   bool  // guarded by processSink.mu
}

func newProcessSink(p *plugin, limit bound, stderr *os.File) *processSink {
	return &processSink{p: p, q: newQueue(limit), enc: encoder{format: p.conf.Format}, stderr: stderr, done: make(chan struct{}), again: wake.New()}
}

func (s *processSink) put(b *Batch) int {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed {
		// Said when it failed; no overflow.
		s.p.dropped.Add(uint64(b.Len()))
		return 0
	}
	return s.q.put(b)
}

func (s *processSink) resize(depth int) { s.q.resize(depth) }

func (s *processSink) hup() { s.signal(unix.SIGHUP) }

func (s *processSink) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return
	}
	if err := s.running.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.p.logger.Warn("plugin could not be signalled", "plugin", s.p.conf.Name, "signal", sig.String(), "error", err)
	}
}

func (s *processSink) revive() {
	s.mu.Lock()
	s.failed, s.restarts = false, 0
	s.mu.Unlock()
	s.again.Set()
}

func (s *processSink) fill(st *Stats) {
	st.Queued, st.MostQueue = s.q.len()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Failed = s.failed
	if s.running != nil {
		st.PID, st.Up = s.running.cmd.Process.Pid, true
	}
}

// run starts the program, feeds it and starts it again, until stop.
func (s *processSink) run() {
	defer close(s.done)
	<-s.p.ready
	pause := firstPause
	for {
		began := time.Now()
		why := s.once()
		if s.isStopping() {
			s.abandon(why)
			return
		}
		s.p.restarts.Add(1)
		s.mu.Lock()
		if time.Since(began) >= stableRun {
			s.restarts, pause = 0, firstPause
		}
		s.restarts++
		n, most := s.restarts, s.p.maxRestarts()
		s.failed = n > most
		s.mu.Unlock()
		if n > most {
			s.p.restarts.Add(^uint64(0)) // it is not started again
			s.p.logger.Error("plugin died too often and is not started again until resumed (SIGUSR2)", "plugin", s.p.conf.Name, "path", s.p.conf.Path, "error", why, "max_restarts", most)
			s.abandon(errors.New("it died too often"))
			pause = firstPause
			s.pauseFor(-1)
			if s.isStopping() {
				return
			}
		} else {
			s.p.logger.Warn("plugin ended unexpectedly and is started again", "plugin", s.p.conf.Name, "path", s.p.conf.Path, "error", why, "restart", n, "max_restarts", most)
			s.pauseFor(pause)
			pause = min(2*pause, longPause)
		}
		if n, _ := s.q.len(); s.isStopping() && n+len(s.rest) == 0 {
			return // nothing is left for which to start it once more
		}
	}
}

// pauseFor waits for d, negative for ever, or until revive or stop.
func (s *processSink) pauseFor(d time.Duration) {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	for {
		select {
		case <-timer:
			return
		case <-s.again:
			s.mu.Lock()
			failed := s.failed
			s.mu.Unlock()
			if !failed {
				return
			}
		}
	}
}

func (s *processSink) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// abandon counts what will not be delivered any more.
func (s *processSink) abandon(why error) {
	reason := "it was ended"
	if why != nil {
		reason = why.Error()
	}
	s.p.lose(s.q.clear()+s.enc.count(s.rest), reason)
	s.rest = nil
}

// once is one run of the program: it returns why it ended, nil when it ended
// because it was to.
func (s *processSink) once() error {
	c, err := s.start()
	if err != nil {
		return err
	}
	err = s.feed(c)
	s.end(c)
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
	// What it had not read goes to the next one, from a record's beginning on.
	unread := append(drain(c.theirs), s.rest...)
	s.rest = append([]byte(nil), s.enc.align(unread)...)
	closeErr := errors.Join(c.in.Close(), c.theirs.Close())
	if c.err != nil {
		err = c.err
	}
	return errors.Join(err, closeErr)
}

var errEnded = errors.New("it exited")

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
	// As the stock daemon's: next to no environment.
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if s.stderr != nil {
		c.cmd.Stderr = s.stderr
	}
	// A key pressed at our terminal is for us alone: we end plugins in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, c.in.Close(), c.theirs.Close())
	}
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

// feed writes until the queue is closed and empty, or the process has ended.
func (s *processSink) feed(c *child) error {
	for {
		select {
		case <-c.exited:
			return errEnded
		default:
		}
		if len(s.rest) > 0 {
			n, err := c.in.Write(s.rest)
			s.rest = s.rest[n:]
			if err != nil {
				return s.writeErr(c, err)
			}
		}
		head, closed := s.q.head()
		if head.b == nil {
			s.p.caughtUp()
			if closed {
				return nil
			}
			select {
			case <-s.q.changed:
			case <-c.exited:
			}
			continue
		}
		out, records := s.enc.chunk(head)
		n, err := c.in.Write(out)
		s.q.pop(records)
		s.p.handed.Add(uint64(records))
		if err != nil {
			s.rest = append([]byte(nil), out[n:]...)
			return s.writeErr(c, err)
		}
	}
}

func (s *processSink) writeErr(c *child, err error) error {
	select {
	case <-c.exited:
		return errEnded
	default:
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("it does not read")
	}
	return fmt.Errorf("write: %w", err)
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

// fd is a descriptor without making it blocking, as File.Fd may.
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

// drain reads what lies in a socket that nobody reads any more.
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

// stop delivers what is queued, within two thirds of the time to the deadline,
// and ends the process.
func (s *processSink) stop(deadline time.Time) {
	s.mu.Lock()
	s.stopping, s.deadline, s.failed = true, deadline, false
	s.limitLocked()
	s.mu.Unlock()
	s.q.close()
	s.again.Set()
	<-s.done
}

// limitLocked bounds how long the last writes may take.
func (s *processSink) limitLocked() {
	if s.running == nil || s.running.gone {
		return
	}
	// An error: it was closed, as it has ended.
	_ = s.running.in.SetWriteDeadline(time.Now().Add(time.Until(s.deadline) * 2 / 3))
}
