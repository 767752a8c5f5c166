package remote

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// session is one connection. Its fields belong to who reads it, to mu, or to who writes
// its replies.
type session struct {
	all    *Sessions
	c      Conn
	lane   *lane
	poll   *poll.Handle
	source intake.Source

	// Only who reads uses these: the poller, or the session's goroutine while it has
	// the connection.
	dec        remote.Decoder
	unfinished []byte  // the frame or line that the last turn ended within
	offset     int64   // of the stream: where unfinished begins
	size       sizer   // of the next buffer
	buf        *buffer // nil but in a turn, or while waiting for one
	n          int     // bytes in buf
	most       int     // that a turn reads into buf
	step       int     // that is read at once
	readFn     func(fd uintptr)
	readErr    error // of readFn
	polled     bool  // it is the poller that reads
	load       load
	waiting    []*pending // the journal's queue had no room for them when the poller submitted
	err        error      // why the poller gave the connection back; nil when it is to go on
	streak     int        // batches in a row that came soon after the last answer

	progress wake.Signal // for the session's goroutine: replies were made or written, or the session is broken

	mu sync.Mutex
	// submitting is in Submit, guarded by mu: if it is done before that returns, who
	// submits it writes its replies, and nobody else has to be woken.
	submitting *pending
	queue      []*pending // guarded by mu; batches without replies yet, in the order of receipt
	inFlight   int        // guarded by mu; bytes of queue
	replies    []byte     // guarded by mu: made, and nobody writes them yet
	owed       int        // guarded by mu; bytes of replies and out
	writing    bool       // guarded by mu: somebody writes replies, or is about to
	replied    time.Time  // guarded by mu: when the last replies were made
	broken     bool       // guarded by mu: nothing can be written any more
	ending     bool       // guarded by mu: the collector stops

	// Only who has set writing uses these.
	out      []byte
	outAt    int // out[outAt:] is not written
	writeFn  func(fd uintptr)
	writeErr error // of writeFn

	blockedAt *list.Element // guarded by all.owed.mu: the sender does not take its replies
}

func newSession(all *Sessions, c Conn, from journal.Sender) (*session, error) {
	s := &session{
		all: all, c: c, progress: wake.New(), load: newLoad(all.cfg.Now()), step: stepSize,
		source: all.in.Connect(from),
	}
	s.lane = all.lanes[s.source.Conn%uint64(len(all.lanes))]
	// Made once: a closure a call would be an allocation a record.
	s.readFn, s.writeFn = s.readSocket, s.writeSocket
	var err error
	s.poll, err = s.lane.poller.Register(c.Sock(), s.ready)
	return s, err
}

// run is the session's goroutine: it does what the poller must not wait for.
func (s *session) run() {
	for s.err == nil && s.waitRoom() {
		err := s.poll.Serve()
		if errors.Is(s.err, errNoRoom) {
			s.err = s.awaitBuffer()
		} else if s.err == nil {
			s.err = err
		}
		s.submitWaiting()
	}
	s.dropBuffer()
	s.finish(s.err)
}

// ready is called by the poller when there is something to be read. It keeps the
// connection until something would block, or is over.
func (s *session) ready() (stays bool, class poll.Class) {
	if _, over := s.state(); over {
		return false, s.load.class
	}
	s.polled = true
	s.err = s.readTurn()
	s.polled = false
	if errors.Is(s.err, errNothing) {
		s.err = nil
	}
	room, _ := s.state()
	return s.err == nil && len(s.waiting) == 0 && room, s.load.class
}

// state says whether more may be in flight, and whether the session is over.
func (s *session) state() (room, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight < s.all.cfg.MaxInFlight && s.owed < s.all.cfg.MaxReplies, s.broken || s.ending
}

// waitRoom blocks while too much is in flight, or too many replies are not taken. It
// is false when the session is over.
func (s *session) waitRoom() bool {
	for paused := false; ; {
		room, over := s.state()
		if over || room {
			return !over
		}
		if !paused {
			paused = true
			s.all.cfg.Metrics.Pauses.Inc()
			s.dropBuffer() // others can use it meanwhile
		}
		select {
		case <-s.progress:
		case <-s.all.ctx.Done():
			return false
		}
	}
}

// end makes the session stop reading. See Sessions.End.
func (s *session) end() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.poll.Kick()
	s.progress.Set()
}

// warn logs something about what the sender sends, unless there was too much of it.
func (s *session) warn(msg string, args ...any) {
	ok, suppressed := s.all.bad.Allow()
	if !ok {
		return
	}
	args = append([]any{"peer", s.c.Peer()}, args...)
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	s.all.cfg.Log.Warn(msg, args...)
}
