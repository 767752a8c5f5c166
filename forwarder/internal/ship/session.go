package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

const (
	// writeSize is how much is put together for one write.
	writeSize = 64 << 10
	readSize  = 16 << 10
	// minRest and maxRest bound the reader's rests between reads.
	minRest = 100 * time.Microsecond
	maxRest = time.Millisecond
	// fewReplies at once, or less, make it rest.
	fewReplies = 32
)

// session is one connection: the writer is the goroutine that called run, the
// reader has its own. What Sender.mu guards of it is marked.
type session struct {
	*Sender
	conn   net.Conn
	server string

	wake chan struct{} // capacity 1: the reader has changed something
	dead chan struct{} // closed by the reader when it ends
	err  error         // why; read after dead

	out       []byte
	lastWrite time.Time // a write ended then
	deadline  time.Time // the write deadline that is set
	beatSeq   uint32

	settled atomic.Uint64 // replies that settled something, in all

	offers <-chan *preferred // of servers that come first; nil: none
	back   *preferred        // the one that was taken

	// The reader's own.
	rest      time.Duration // before the next read
	lastReply time.Time     // when replies were read last

	// Guarded by Sender.mu.
	round   int       // of refusals since a record was stored, for the back-off
	starved bool      // the last fill ended for want of room, not of records
	leaving bool      // finish waits for the last replies
	expires time.Time // the read deadline that is set, zero: none
	beating bool      // a heartbeat is in flight
	odd     int       // replies that settled nothing, less those that did since
	refused bool      // a record wasn't stored: nothing more is sent until the rest is answered
	ending  bool      // the server said that it stops
	decided error     // why to end it when all is answered
}

func newSession(s *Sender, conn net.Conn, server string) *session {
	c := &session{
		Sender: s, conn: conn, server: server,
		wake: make(chan struct{}, 1), dead: make(chan struct{}),
		out: make([]byte, 0, writeSize+remote.MaxFrame),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = c
	switch {
	case s.paused:
		c.decided = errSuspend
	case s.next != nil:
		c.decided = errReload
	}
	return c
}

// decide has the session end once all in flight is answered. Called with mu.
func (c *session) decide(why error) {
	c.decided = why
	c.poke()
}

// run sends until the connection or ctx ends. The connection is closed and the
// reader gone when it returns.
func (c *session) run(ctx context.Context) error {
	c.mu.Lock()
	first, again := c.win.rewind()
	c.mu.Unlock()
	if !again {
		first = c.src.First()
	}
	c.src.Seek(first)
	go c.read()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetWriteDeadline(time.Now().Add(c.cfg.Grace)) })
	err := c.write(ctx)
	stop()
	// A stuck peer must not hold the close back.
	if tcp, ok := c.conn.(*net.TCPConn); ok && err != nil && isTimeout(err) {
		_ = tcp.SetLinger(0)
	}
	_ = c.conn.Close()
	<-c.dead
	return err
}

// write is the writer's loop.
func (c *session) write(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	c.lastWrite = time.Now()
	for {
		if err := c.fill(); err != nil {
			return err
		}
		if len(c.out) > 0 {
			if err := c.flush(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return c.finish(ctx, ctx.Err())
			default:
				continue
			}
		}
		c.mu.Lock()
		refused, ending, decided := c.refused, c.ending, c.decided
		flying, beating, starved := c.win.flying, c.beating, c.starved
		c.mu.Unlock()
		switch {
		case decided != nil:
			return c.finish(ctx, decided)
		case ending:
			return c.finish(ctx, errEnding)
		case refused && flying == 0:
			if err := c.retryRefused(ctx); err != nil {
				return err
			}
			continue
		}
		ready := c.src.Ready()
		if starved || refused {
			ready = nil
		}
		var beat <-chan time.Time
		if c.cfg.Heartbeat > 0 && c.cfg.Format == Managed && !beating {
			timer.Reset(max(0, c.cfg.Heartbeat-time.Since(c.lastWrite)))
			beat = timer.C
		}
		select {
		case <-ctx.Done():
			return c.finish(ctx, ctx.Err())
		case <-c.dead:
			return c.err
		case p := <-c.offers:
			c.prefer(p)
		case <-c.wake:
		case <-ready:
		case <-beat:
			c.heartbeat()
		}
	}
}

// heartbeat puts one into out. Its sequence ids have the top bit clear, records'
// have it set.
func (c *session) heartbeat() {
	c.beatSeq = (c.beatSeq + 1) & 0x7fffffff
	c.out = remote.Append(c.out, remote.Heartbeat, c.beatSeq, nil)
	c.m.Heartbeats.Add(1)
	c.mu.Lock()
	c.beating = true
	c.mu.Unlock()
}

// fill takes from the source what is ready and fits into window and buffer.
func (c *session) fill() error {
	c.mu.Lock()
	c.starved = true
	// front lets the window move; what is done may fill it.
	front := func() {
		c.mu.Unlock()
		c.release()
		c.mu.Lock()
	}
	defer func() {
		c.m.InFlight.Store(int64(c.win.flying))
		c.mu.Unlock()
		c.release()
	}()
	for len(c.out) < writeSize && !c.refused && !c.ending && c.decided == nil {
		if !c.win.canTake() {
			if front(); !c.win.canTake() {
				return nil
			}
		}
		c.mu.Unlock()
		index, seq, line, err := c.src.Next()
		c.mu.Lock()
		if errors.Is(err, io.EOF) {
			c.starved = false
			return nil
		}
		if err != nil {
			return &sourceError{err}
		}
		s, v := c.win.take(index, seq)
		if v == noRoom {
			front()
			s, v = c.win.take(index, seq)
		}
		switch {
		case v == skip:
		case v == noRoom:
			c.src.Seek(index)
			return nil
		case len(line) == 0 || isEOE(line):
			c.win.settle(s, done)
			c.m.Skipped.Add(1)
		default:
			c.encode(s, line, v == sendAgain)
		}
	}
	return nil
}

func (c *session) encode(s *slot, line []byte, again bool) {
	if again {
		c.m.Resent.Add(1)
	} else {
		c.m.Sent.Add(1)
	}
	if len(line) > c.cfg.MaxRecord {
		line = line[:c.cfg.MaxRecord]
		if !again {
			c.m.Truncated.Add(1)
		}
	}
	if c.cfg.Format == ASCII {
		c.out = remote.AppendLine(c.out, line)
	} else {
		c.out = remote.Append(c.out, remote.Message, s.seq, line)
	}
	c.win.send(s)
}

// isEOE reports whether a line is an end-of-event record, which only the host's
// own log has.
func isEOE(line []byte) bool {
	if bytes.HasPrefix(line, []byte("node=")) {
		i := bytes.IndexByte(line, ' ')
		if i < 0 {
			return false
		}
		line = line[i+1:]
	}
	rest, ok := bytes.CutPrefix(line, []byte("type=EOE"))
	return ok && (len(rest) == 0 || rest[0] == ' ')
}

// flush writes out, and gives the peer WriteTimeout for every bit of progress.
func (c *session) flush(ctx context.Context) error {
	buf := c.out
	c.out = c.out[:0]
	for len(buf) > 0 {
		c.allowWrite(ctx)
		settled := c.settled.Load()
		n, err := c.conn.Write(buf)
		c.m.Writes.Add(1)
		c.m.Bytes.Add(uint64(n))
		buf = buf[n:]
		alive := n > 0 || c.settled.Load() != settled
		if err != nil && (!alive || !isTimeout(err) || ctx.Err() != nil) {
			select {
			case <-c.dead:
				// The reader knows better why.
				return c.err
			default:
			}
			return fmt.Errorf("write: %w", err)
		}
	}
	c.lastWrite = time.Now()
	c.mu.Lock()
	if c.cfg.Format == ASCII {
		n := c.win.settleAll()
		if n > 0 {
			c.failures = 0
		}
		c.mu.Unlock()
		c.m.Acked.Add(uint64(n))
		c.release()
		if n > 0 {
			c.delivered()
		}
		return nil
	}
	c.expect(c.lastWrite, false)
	c.mu.Unlock()
	return nil
}

// allowWrite gives the next write WriteTimeout. The deadline is moved only when an
// eighth of it is over: that costs as much as a small write.
func (c *session) allowWrite(ctx context.Context) {
	now := time.Now()
	if c.deadline.Sub(now) > c.cfg.WriteTimeout*7/8 {
		return
	}
	c.deadline = now.Add(c.cfg.WriteTimeout)
	_ = c.conn.SetWriteDeadline(c.deadline)
	// Those who cut a write short may have done so just before.
	select {
	case <-c.dead:
		_ = c.conn.SetWriteDeadline(now)
	case <-ctx.Done():
		_ = c.conn.SetWriteDeadline(now.Add(c.cfg.Grace))
	default:
	}
}

// expect sets the deadline of the next reply: none when none is due. Only a reply that
// settled something moves it: not what we write, nor answers to what was not asked.
// Called with mu.
func (c *session) expect(now time.Time, settled bool) {
	switch {
	case c.win.flying == 0 && !c.beating:
		if !c.expires.IsZero() {
			c.expires = time.Time{}
			_ = c.conn.SetReadDeadline(c.expires)
		}
	case c.expires.IsZero(), settled && c.expires.Sub(now) < c.cfg.ReplyTimeout*7/8:
		c.expires = now.Add(c.cfg.ReplyTimeout)
		_ = c.conn.SetReadDeadline(c.expires)
	}
}

// retryRefused waits a while, then begins again with the first record that isn't
// stored. All replies are in.
func (c *session) retryRefused(ctx context.Context) error {
	c.mu.Lock()
	t := time.NewTimer(c.backoff(c.round))
	c.round++
	c.mu.Unlock()
	defer t.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.dead:
			return c.err
		case p := <-c.offers:
			c.prefer(p)
		case <-c.wake:
		case <-t.C:
			waiting = false
		}
		c.mu.Lock()
		decided := c.decided != nil
		c.mu.Unlock()
		if decided {
			return nil
		}
	}
	c.mu.Lock()
	first, again := c.win.rewind()
	c.refused = false
	c.mu.Unlock()
	if again {
		c.src.Seek(first)
	}
	return nil
}

// prefer has the session end, and the next use the connection of p.
func (c *session) prefer(p *preferred) {
	c.back, c.offers = p, nil
	c.mu.Lock()
	if c.decided == nil {
		c.decided = errPreferred
	}
	c.mu.Unlock()
}

// finish waits for the replies to what is in flight, so that it need not be sent
// twice: up to Grace when we or the server end, otherwise as long as any come.
func (c *session) finish(ctx context.Context, why error) error {
	t := time.NewTimer(c.cfg.Grace)
	defer t.Stop()
	limit, done := t.C, ctx.Done()
	if errors.Is(why, errEnding) || ctx.Err() != nil {
		done = nil
	} else {
		limit = nil
	}
	for {
		c.mu.Lock()
		c.leaving = true
		flying := c.win.flying
		c.mu.Unlock()
		if flying == 0 {
			return why
		}
		select {
		case <-done:
			done, limit = nil, time.After(c.cfg.Grace)
		case <-limit:
			return why
		case <-c.dead:
			return why
		case <-c.wake:
		}
	}
}

// read is the reader's loop.
func (c *session) read() {
	defer func() {
		close(c.dead)
		_ = c.conn.SetWriteDeadline(time.Now()) // a blocked writer is to notice
	}()
	var (
		dec  remote.Decoder
		buf  = make([]byte, readSize)
		have int
	)
	for {
		n, err := c.conn.Read(buf[have:])
		have += n
		if c.cfg.Format == ASCII {
			have = 0 // nothing is due; what comes means nothing
		}
		used, derr := c.replies(&dec, buf[:have])
		have = copy(buf, buf[used:have])
		switch {
		case derr != nil:
			c.err = fmt.Errorf("reply: %w", derr)
			return
		case errors.Is(err, io.EOF):
			c.err = errClosed
			return
		case err != nil && isTimeout(err):
			c.mu.Lock()
			late := !c.expires.IsZero() && !time.Now().Before(c.expires)
			c.mu.Unlock()
			if !late {
				continue // the deadline was moved meanwhile
			}
			c.err = fmt.Errorf("no reply in %v: %w", c.cfg.ReplyTimeout, err)
			return
		case err != nil:
			c.err = fmt.Errorf("read: %w", err)
			return
		}
		if c.rest > 0 {
			time.Sleep(c.rest)
		}
	}
}

var errNotReply = errors.New("message is no reply")

// errOdd ends a session whose server answers what was not asked.
var errOdd = errors.New("too many replies to nothing that was sent")

// maxOdd is how many more replies may settle nothing than settle something: a server
// that says everything twice is borne with.
const maxOdd = 1024
