package dispatch

import (
	"fmt"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// syslogSink is the builtin syslog: it sends each record as a message, in the form of the
// stock plugin's. The goroutine of run alone uses w until stop has joined it.
type syslogSink struct {
	p    *plugin
	q    *queue
	w    *syslog.Writer
	pri  syslog.Priority
	done chan struct{} // closed when run has ended

	mu    sync.Mutex // guards until
	until time.Time  // the deadline of stop; zero before
}

// syslogPause is how long run waits before it sends a message again that was not taken.
const syslogPause = 100 * time.Millisecond

// newSyslogSink reads the builtin's arguments: a level and a facility, in either
// order, LOG_INFO and LOG_USER when they are missing.
func newSyslogSink(p *plugin, limit bound, path string) (*syslogSink, error) {
	level, facility := syslog.Info, syslog.User
	for _, arg := range p.conf.Args {
		v, isFacility, err := syslog.ParseWord(arg)
		switch {
		case err != nil:
			return nil, fmt.Errorf("args: %w", err)
		case isFacility:
			facility = v
		default:
			level = v
		}
	}
	return &syslogSink{
		p: p, q: newQueue(limit), w: syslog.New(path, "audispd", time.Second), pri: facility | level,
		done: make(chan struct{}),
	}, nil
}

// run sends the queue's records, one after the other, and each until it is taken, until the
// queue is closed and empty or stop's deadline is near.
func (s *syslogSink) run() {
	defer close(s.done)
	<-s.p.ready
	failing := false
	for {
		head, closed := s.q.head()
		if head.b == nil {
			s.p.caughtUp()
			if closed {
				return
			}
			<-s.q.changed
			continue
		}
		err := s.w.Write(s.pri, head.b.line(head.from))
		if err == nil {
			s.q.pop(1)
			s.p.handed.Add(1)
			failing = false
			continue
		}
		if !failing {
			failing = true
			s.p.logger.Warn("syslog does not take records, it is tried again", "plugin", s.p.conf.Name, "error", err)
		}
		if s.late() {
			s.p.lose(s.q.clear(), "syslog does not take them")
			return
		}
		time.Sleep(syslogPause)
	}
}

// late reports whether stop's deadline would pass during another pause.
func (s *syslogSink) late() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.until.IsZero() && time.Now().Add(syslogPause).After(s.until)
}

func (s *syslogSink) put(b *Batch) int { return s.q.put(b) }
func (s *syslogSink) hup()             {}
func (s *syslogSink) revive()          {}
func (s *syslogSink) resize(depth int) { s.q.resize(depth) }
func (s *syslogSink) fill(st *Stats) {
	st.Queued, st.MostQueue = s.q.len()
	st.Up = true
}

func (s *syslogSink) stop(deadline time.Time) {
	s.mu.Lock()
	s.until = deadline
	s.mu.Unlock()
	s.q.close()
	<-s.done
	if err := s.w.Close(); err != nil {
		s.p.logger.Warn("syslog", "plugin", s.p.conf.Name, "error", err)
	}
}
