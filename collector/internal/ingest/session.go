package ingest

import (
	"bytes"
	"container/list"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/auditfleet/auditfleet/proto/remote"
	"golang.org/x/sys/unix"
)

const (
	// readSize is the most one turn takes: a window of 256 ordinary records.
	readSize = 128 << 10
	// turnFrames is how many frames end a turn, which reads by steps of stepSize: a
	// sender of heartbeats, 16 bytes each, has fewer than twice as many a turn, and
	// others have theirs sooner.
	turnFrames = 512
	stepSize   = turnFrames * remote.HeaderSize
	stepLeast  = turnFrames // of steps of a sender whose frames are smaller than a header: empty lines
	// keepLeft is the most an idle session keeps allocated for unfinished frames.
	keepLeft = 2 << 10
	// linger is how long a closed connection's remaining input is thrown away: a
	// socket closed with unread input sends a reset, which may overtake our replies.
	linger = 500 * time.Millisecond
)

// A sender that sends hotStreak times in a row within hotAfter of its last answer, or
// before it, sends as fast as it is answered: what comes is taken at once. Of others,
// it is a record now and then, and the poller may wait a moment for those of others.
// Over a link of hotAfter and more the former can't be told from the latter, and its
// round trip becomes longer by that moment.
const (
	hotAfter  = 20 * time.Millisecond
	hotStreak = 3
)

// session is one connection.
type session struct {
	in   *Ingest
	c    Conn
	lane *lane
	poll *poll.Handle
	host string // the sender's address: its identity where records carry no node=

	// Only who reads uses these: the poller, or the session's goroutine while it has
	// the connection.
	dec    remote.Decoder
	left   []byte // an unfinished frame or line
	offset int64  // of the stream: where left begins
	size   sizer  // of the next read
	sc     *scratch
	n      int // bytes in sc
	most   int // that a turn reads into sc
	readFn func(fd uintptr)
	rdErr  error // of readFn
	polled bool  // it is the poller that reads
	load   load
	steps  int // bytes of a step
	stuck  []*intake
	err    error // why the poller gave the connection back, nil when it is to go on
	streak int   // batches in a row that came soon after the last answer

	room wake.Signal // for the session's goroutine: replies were made, or the session is broken

	mu       sync.Mutex
	own      *pending   // guarded by mu: is being submitted; the reader writes its replies if it is done by then
	queue    []*pending // guarded by mu; in the order of receipt
	inFlight int        // guarded by mu; bytes of queue
	made     []byte     // guarded by mu: replies to what is stored, which nobody writes yet
	owed     int        // guarded by mu; bytes of made and out
	news     news       // guarded by mu: to be told by who writes
	writing  bool       // guarded by mu: an acker or a slow writer has it
	replied  time.Time  // guarded by mu: when the last replies were made
	broken   bool       // guarded by mu: nothing can be written any more
	ending   bool       // guarded by mu: the collector stops
	out      []byte     // used by whoever set writing, as are the following
	outAt    int        // out[outAt:] is not written
	writeFn  func(fd uintptr)
	wrErr    error

	blockedAt *list.Element // guarded by in.owed.mu: the sender does not take its replies
}

// pending is a batch on its way through the journal, and heartbeats that came
// with it, until its replies are made. Guarded by its session's mu once queued.
type pending struct {
	s        *session
	seqs     []uint32 // of its records; the batch itself is the journal's
	text     int      // bytes of its records
	managed  bool
	beats    []beat
	size     int
	received time.Time
	finished bool
	err      error
}

// beat is a heartbeat that came after so many of the batch's records.
type beat struct{ after, seq uint32 }

func newSession(in *Ingest, c Conn) (*session, error) {
	s := &session{
		in: in, c: c, lane: in.lanes[c.ID()%uint64(len(in.lanes))],
		host: c.Peer().Addr().Unmap().WithZone("").String(),
		room: wake.New(),
		load: newLoad(in.cfg.Now()), steps: stepSize,
	}
	// Made once: a closure a call would be an allocation a record.
	s.readFn, s.writeFn = s.readSocket, s.writeSocket
	var err error
	s.poll, err = s.lane.poller.Register(c.Sock(), s.ready)
	return s, err
}

// errMalformed ends a session whose stream can't be read any further.
var errMalformed = errors.New("malformed stream")

func (s *session) run() {
	for s.err == nil && s.waitRoom() {
		err := s.poll.Serve()
		if errors.Is(s.err, errNoRoom) {
			s.err = s.awaitTurn()
		} else if s.err == nil {
			s.err = err
		}
		s.submitStuck()
	}
	s.dropScratch()
	s.finish(s.err)
}

// submitStuck hands over what the journal's queue had no room for. Of those that are not
// light, one at a time waits for room: the others' records come before the rest.
func (s *session) submitStuck() {
	if len(s.stuck) == 0 {
		return
	}
	if s.load.class != poll.Light {
		select {
		case s.in.heavy <- struct{}{}:
			defer func() { <-s.in.heavy }()
		case <-s.in.ctx.Done(): // submit says so
		}
	}
	for _, x := range s.stuck {
		s.submit(x)
	}
	clear(s.stuck)
	s.stuck = s.stuck[:0]
}

// ready is called by the poller when there is something to be read. It keeps the
// connection until something would block, or is over.
func (s *session) ready() (stays bool, class poll.Class) {
	if _, over := s.state(); over {
		return false, s.load.class
	}
	s.polled = true
	s.err = s.readBurst()
	s.polled = false
	if errors.Is(s.err, errNothing) {
		s.err = nil
	}
	room, _ := s.state()
	return s.err == nil && len(s.stuck) == 0 && room, s.load.class
}

// state says whether more may be in flight, and whether the session is over.
func (s *session) state() (room, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight < s.in.cfg.MaxInFlight && s.owed < s.in.cfg.MaxReplies, s.broken || s.ending
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
			s.in.cfg.Metrics.Pauses.Inc()
			s.dropScratch() // others can use it meanwhile
		}
		select {
		case <-s.room:
		case <-s.in.ctx.Done():
			return false
		}
	}
}

// readBurst is a turn: it reads and passes on every whole frame of it. The buffer is
// given back before the journal is waited for.
func (s *session) readBurst() error {
	if err := s.read(); err != nil {
		return err
	}
	b := burst{s: s, sc: s.sc, received: s.in.cfg.Now()}
	used, err := b.parse(0, s.n)
	for at := len(s.left); err == nil && s.n == at+s.steps && s.n < s.most && b.frames < turnFrames; {
		if at = s.n; s.step() != nil {
			break // the next turn meets it again
		}
		used, err = b.parse(used, s.n)
	}
	s.size.filled(s.n)
	s.weigh(&b)
	last := b.pack(used)
	s.offset += int64(used)
	rest := b.sc.buf[used:s.n]
	switch {
	case len(rest) == 0 && cap(s.left) > keepLeft:
		s.left = nil
	case used == 0:
		s.left = append(s.left, rest[len(s.left):]...)
	default:
		s.left = append(s.left[:0], rest...)
	}
	s.in.giveScratch(s.sc)
	s.sc = nil
	s.c.Received(used > 0, len(rest) > 0)
	s.submit(last)
	return err
}

// weigh says what the session is after a turn, and how much its next one reads at a time.
func (s *session) weigh(b *burst) {
	more := s.load.class == poll.Light && s.n == s.most
	s.load.turn(b.frames, b.useless, more, s.lane.poller.Len(), b.received)
	switch {
	case b.frames >= 2*turnFrames:
		s.steps = max(s.steps/2, stepLeast)
	case b.frames < turnFrames:
		s.steps = min(s.steps*2, stepSize)
	}
	if s.in.cfg.turn != nil {
		s.in.cfg.turn(b.frames)
	}
}

// parse cuts sc.buf[used:n] into frames, adds them and says up to where it used them.
func (b *burst) parse(used, n int) (int, error) {
	s := b.s
	for used < n {
		f, k, err := s.dec.Decode(b.sc.buf[used:n])
		if err == nil && !f.ASCII && k > 0 && f.Type.IsReply() {
			err = errReplyType{f.Type}
		}
		if err != nil {
			s.malformed(used, err)
			return used, errMalformed
		}
		if k == 0 {
			break
		}
		b.add(f, used)
		b.frames++
		used += k
	}
	return used, nil
}

// errReplyType is a sender that sends what only a server may.
type errReplyType struct{ t remote.Type }

func (e errReplyType) Error() string {
	return "a sender's message has the type of a reply: " + e.t.String()
}

// malformed counts and logs why a stream can't be read on.
func (s *session) malformed(used int, err error) {
	cause := metrics.MalformedType
	switch {
	case errors.Is(err, remote.ErrVersion):
		cause = metrics.MalformedVersion
	case errors.Is(err, remote.ErrLength):
		cause = metrics.MalformedLength
	case errors.Is(err, remote.ErrLineTooLong):
		cause = metrics.MalformedLine
	}
	s.in.cfg.Metrics.Malformed.Add(cause, 1)
	s.warn("closed a connection: what it sent is neither a frame nor a line of the audisp-remote protocol",
		"offset", s.offset+int64(used), "cause", err)
}

func (s *session) warn(msg string, args ...any) {
	ok, suppressed := s.in.bad.Allow()
	if !ok {
		return
	}
	args = append([]any{"peer", s.c.Peer()}, args...)
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	s.in.cfg.Log.Warn(msg, args...)
}

// burst is what one read brought, on its way to the journal: usually one batch;
// a new one begins where a sender changes between managed and ascii.
type burst struct {
	s        *session
	sc       *scratch
	received time.Time
	frames   int // so far
	useless  int // of frames: those with nothing to store
	start    int // of the batch in sc.buf
	managed  bool
}

// beat notes a heartbeat, or what is owed an answer like one.
func (b *burst) beat(seq uint32) {
	b.sc.beats = append(b.sc.beats, beat{after: uint32(len(b.sc.spans)), seq: seq}) //nolint:gosec // a turn's
}

func (b *burst) add(f remote.Frame, start int) {
	m := b.s.in.cfg.Metrics
	if managed := !f.ASCII; managed != b.managed {
		b.s.submit(b.pack(start))
		b.managed = managed
	}
	switch {
	case f.Type == remote.Heartbeat && !f.ASCII:
		b.useless++
		m.Heartbeats.Inc()
		b.beat(f.Seq)
	case len(f.Payload) == 0:
		// Nothing to store; a managed one is owed its reply all the same.
		b.useless++
		m.Empty.Inc()
		if !f.ASCII {
			b.beat(f.Seq)
		}
	case f.ASCII:
		b.sc.spans = append(b.sc.spans, span{start: start, end: start + len(f.Payload)})
	default:
		// An unknown type that is no reply is a record, as for the stock server.
		text := start + remote.HeaderSize // its end may be a newline, which is no part of the record
		b.sc.spans = append(b.sc.spans, span{seq: f.Seq, start: text, end: text + len(f.Payload)})
	}
}

// intake is a batch and what is to become of it, in one piece of memory; one and
// seq hold what a batch of one record needs.
type intake struct {
	pending
	batch journal.Batch
	one   [1]journal.Record
	seq   [1]uint32
}

// pack makes a batch of what was added since the last one, which ends at end, and
// puts it into the session's queue; nil when there is nothing.
func (b *burst) pack(end int) *intake {
	start, spans, beats := b.start, b.sc.spans, b.sc.beats
	b.start, b.sc.spans, b.sc.beats = end, spans[:0], beats[:0]
	if len(spans) == 0 && len(beats) == 0 {
		return nil
	}
	s := b.s
	x := &intake{pending: pending{s: s, managed: b.managed, beats: slices.Clone(beats), size: end - start, received: b.received}}
	if len(spans) > 0 {
		// The records' bytes belong to the journal and what comes after it from now
		// on: they get memory of their own, of exactly their size.
		own := append([]byte(nil), b.sc.buf[start:end]...)
		records := x.one[:]
		x.seqs = x.seq[:]
		if len(spans) > 1 {
			records, x.seqs = make([]journal.Record, len(spans)), make([]uint32, len(spans))
		}
		for i, sp := range spans {
			records[i] = journal.Record{Seq: sp.seq, Raw: own[sp.start-start : sp.end-start : sp.end-start]}
			x.seqs[i] = sp.seq
			x.text += sp.end - sp.start
		}
		x.batch = journal.Batch{
			Conn: s.c.ID(), Sender: journal.Sender{Node: s.host, Addr: s.c.Peer(), Transport: event.TransportTCP}, Managed: b.managed, Heavy: s.load.class != poll.Light,
			Received: b.received, Records: records,
		}
	}
	b.sc.moved += x.size
	s.in.cfg.Metrics.InFlight.Add(float64(x.size))
	s.mu.Lock()
	s.queue = append(s.queue, &x.pending)
	first := s.inFlight == 0
	soon := !first || b.received.Sub(s.replied) < hotAfter
	s.inFlight += x.size
	if first {
		s.c.Busy(true)
	}
	s.mu.Unlock()
	if s.streak++; !soon {
		s.streak = 0
	}
	if s.streak >= hotStreak {
		s.lane.poller.Hot()
	}
	return x
}

// submit hands a batch to the journal. When it is stored at once, its replies are
// written here, without another goroutine being woken. The poller leaves those that
// would have to wait to the session's goroutine.
func (s *session) submit(x *intake) {
	if x == nil {
		return
	}
	if x.batch.Deferred = s.polled; s.polled && len(s.stuck) > 0 {
		s.stuck = append(s.stuck, x)
		return
	}
	s.mu.Lock()
	s.own = &x.pending
	s.mu.Unlock()
	var err error
	if len(x.batch.Records) > 0 {
		err = s.in.cfg.Journal.Submit(s.in.ctx, &x.batch, x.done)
	} else {
		x.done(nil)
	}
	switch {
	case s.polled && errors.Is(err, journal.ErrBusy):
		s.stuck = append(s.stuck, x)
	case err != nil:
		x.done(err)
	case s.polled:
		s.lane.brought.Store(true)
	}
	s.mu.Lock()
	s.own = nil
	start := s.conclude()
	s.mu.Unlock()
	if start {
		s.writeReplies()
	}
}

// conclude settles, and says whether the caller is to have the replies written. mu is
// held.
func (s *session) conclude() (start bool) {
	start = s.settle() > 0 && !s.writing
	s.writing = s.writing || start
	return start
}

// done is called when p's records are stored, or are not. It doesn't block.
func (p *pending) done(err error) {
	s := p.s
	start := false
	s.mu.Lock()
	p.finished, p.err = true, err
	if s.own != p {
		start = s.conclude()
	}
	s.mu.Unlock()
	if start {
		s.in.ackers.push(s)
	}
}

// finish ends a session: waits until everything received has its reply, and says
// ENDING when it is the collector that goes.
func (s *session) finish(err error) {
	s.mu.Lock()
	ending := s.ending
	s.mu.Unlock()
	cause := metrics.ClosedByPeer
	switch {
	case errors.Is(err, errMalformed):
		cause = metrics.ClosedMalformed
	case ending:
		cause = metrics.ClosedShutdown
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET):
		cause = metrics.ClosedError
	}
	if len(s.left) > 0 && cause == metrics.ClosedByPeer && s.c.Cause() == "" {
		s.in.cfg.Metrics.Truncated.Inc()
		s.warn("a connection ended within a "+leftKind(s.left), "offset", s.offset, "bytes", len(s.left))
	}
	if s.drain() && ending && s.c.Cause() == "" {
		s.sayEnding()
	}
	if cause == metrics.ClosedMalformed || ending {
		s.discard()
	}
	s.c.Shut(cause)
}

func leftKind(left []byte) string {
	if bytes.HasPrefix(left, []byte{0xfe}) {
		return "frame"
	}
	return "line"
}

// drain waits until the queue is empty and nobody writes. It is false when all is given
// up before: somebody may be writing still.
func (s *session) drain() bool {
	for {
		s.mu.Lock()
		empty := len(s.queue) == 0 && !s.writing
		s.mu.Unlock()
		if empty {
			return true
		}
		select {
		case <-s.room:
		case <-s.in.ctx.Done():
			return false
		}
	}
}

// end makes the session stop reading. See Ingest.End.
func (s *session) end() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.poll.Kick()
	s.room.Set()
}

// sayEnding tells the sender that the collector stops. Nobody else writes now.
func (s *session) sayEnding() {
	s.out, s.outAt = remote.Append(s.out[:0], remote.Ending, 0, nil), 0
	_ = s.writeFor(linger)
}

// discard takes what the sender still sends until it has seen our end, for a
// short while.
func (s *session) discard() {
	if s.c.Sock().CloseWrite() != nil {
		return
	}
	s.left = nil
	for began := time.Now(); ; {
		switch err := s.read(); {
		case errors.Is(err, errNothing):
			if s.poll.Wait(poll.In, linger-time.Since(began)) != nil {
				return
			}
		case err != nil || time.Since(began) > linger:
			s.dropScratch()
			return
		}
		s.dropScratch()
	}
}

// timedOut says whether err is a deadline's.
func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
