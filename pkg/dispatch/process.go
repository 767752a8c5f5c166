package dispatch

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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

// processSink runs a program and writes records to its standard input, a socket.
//
// The goroutine of run alone starts and ends children, takes records from the queue and
// writes; rest and enc are its own. mu guards what others read or set meanwhile. A record is
// taken out of the queue when it was written, and what a child has not read when it ends is
// taken back out of the socket into rest: so the next child gets every record that no child
// has begun to read.
type processSink struct {
	p      *plugin
	q      *queue
	enc    encoder
	stderr *os.File
	done   chan struct{} // closed when run has ended
	again  wake.Signal   // ends a pause: revive or stop was called

	rest []byte // encoded records that a dead child had not read; they go before the queue's

	// It died too often: put drops, and run waits for again. Set with mu held, and read without: put takes no lock that
	// is held while the system starts a program.
	failed atomic.Bool

	mu       sync.Mutex // guards everything below; never held while the system starts a program
	running  *child     // nil between two children
	stopping bool       // stop was called
	deadline time.Time  // of stop
	restarts int        // since the last stable run
}

func newProcessSink(p *plugin, limit bound, stderr *os.File) *processSink {
	return &processSink{p: p, q: newQueue(limit), enc: encoder{format: p.conf.Format}, stderr: stderr, done: make(chan struct{}), again: wake.New()}
}

func (s *processSink) put(b *Batch) int {
	if s.failed.Load() {
		// Logged when it failed; this is no overflow.
		s.p.dropped.Add(uint64(b.Len()))
		return 0
	}
	return s.q.put(b)
}

func (s *processSink) resize(depth int) { s.q.resize(depth) }

// hup says nothing to a program that is being started: it has its configuration to read yet, and may not know signals.
func (s *processSink) hup() { s.signal(unix.SIGHUP) }

// signal sends a signal to the child, if there is one.
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
	s.restarts = 0
	s.failed.Store(false)
	s.mu.Unlock()
	s.again.Set()
}

func (s *processSink) fill(st *Stats) {
	st.Queued, st.MostQueue = s.q.len()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Failed = s.failed.Load()
	if s.running != nil {
		st.PID, st.Up = s.running.cmd.Process.Pid, true
	}
}

// run starts the program, feeds it, and starts it again when it ends, with longer and longer
// pauses, until stop. After more than max_restarts deaths in a row it waits for revive.
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
		s.failed.Store(n > most)
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
			if !s.failed.Load() {
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

// abandon counts and drops everything that is queued or in rest.
func (s *processSink) abandon(why error) {
	reason := "it was ended"
	if why != nil {
		reason = why.Error()
	}
	s.p.lose(s.q.clear()+s.enc.count(s.rest), reason)
	s.rest = nil
}

// once is one run of the program, until it has ended. It returns why, nil when it ended
// because the queue was closed. What the child had not read is in rest afterwards.
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
		// Off the queue even after a failed write: what was not written is in rest then.
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

// writeErr returns why a write has failed, in words for the log.
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

// stop has run deliver what is queued, within two thirds of the time to the deadline, and
// end the process, and waits for it.
func (s *processSink) stop(deadline time.Time) {
	s.mu.Lock()
	s.stopping, s.deadline = true, deadline
	s.failed.Store(false)
	s.limitLocked()
	s.mu.Unlock()
	s.q.close()
	s.again.Set()
	<-s.done
}

// limitLocked bounds how long the last writes may take; s.mu is held.
func (s *processSink) limitLocked() {
	if s.running == nil || s.running.gone {
		return
	}
	// An error: it was closed, as it has ended.
	_ = s.running.in.SetWriteDeadline(time.Now().Add(time.Until(s.deadline) * 2 / 3))
}
