package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/wake"
)

// batchSize is how many bytes are put together for one write.
const batchSize = 64 << 10

// session is the use of one connection. The writer is the goroutine that called run; the
// reader is a goroutine that run starts and joins. Fields belong to the writer, unless a
// comment gives them to the reader or says that Sender.mu guards them. err is written by
// the reader before it closes dead, and read after that.
type session struct {
	*Sender
	conn   Conn
	server string
	peer   Peer
	// What a Holder says: the server's store, and the index up to which it held the stream.
	store     string
	heldFirst uint64

	wake wake.Signal   // the reader has changed something
	dead chan struct{} // closed by the reader when it ends
	err  error         // why; read after dead

	batch     Batch     // being put together, or sent
	maxRecord int       // longer records are cut to it
	streamEnd uint64    // the first index behind the stream of the batch's records
	answers   bool      // the server answers each record
	lastWrite time.Time // a write ended then
	deadline  time.Time // the write deadline that is set

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
	// Records from heldFrom up to held are stored, also such as were not sent.
	heldFrom, held uint64
	by             *AckedBy    // the entry of what it stored last, nil: none
	count          *ackedCount // the server's
	byEnd          uint64      // the first index behind by's stream
}

func newSession(s *Sender, conn Conn, server string) *session {
	c := &session{
		Sender: s, conn: conn, server: server, peer: conn.Peer(),
		wake: wake.New(), dead: make(chan struct{}),
		maxRecord: s.cfg.Transport.MaxRecord(), answers: s.cfg.Transport.Answers(),
	}
	c.batch.before, c.batch.behind = conn.Room()
	c.batch.Buf = make([]byte, 0, batchSize+c.batch.before+c.maxRecord+c.batch.behind)
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

// decide makes the session end once everything in flight is answered. The caller holds mu.
func (c *session) decide(why error) {
	c.decided = why
	c.wake.Set()
}

// run sends until the connection or ctx ends. When it returns, the connection is closed
// and the reader has ended.
func (c *session) run(ctx context.Context) error {
	c.mu.Lock()
	first, again := c.win.rewind()
	c.mu.Unlock()
	if !again {
		first = c.src.First()
	}
	c.src.Seek(first)
	go c.read()
	stop := context.AfterFunc(ctx, func() { c.conn.SetSendDeadline(time.Now().Add(c.cfg.Grace)) })
	err := c.write(ctx)
	stop()
	_ = c.conn.Close(err != nil && isTimeout(err)) // a stuck peer must not hold the close back
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
		if len(c.batch.Records) > 0 {
			if err := c.send(ctx); err != nil {
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
		tell := c.tell
		if !c.answers || beating {
			tell = nil
		}
		var beat <-chan time.Time
		if c.cfg.Heartbeat > 0 && c.answers && !beating {
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
			if err := c.heartbeat(ctx); err != nil {
				return err
			}
		case <-tell:
			if err := c.heartbeat(ctx); err != nil {
				return err
			}
		}
	}
}

// heartbeat sends one. Its answer is due from then on.
func (c *session) heartbeat(ctx context.Context) error {
	c.m.Heartbeats.Add(1)
	c.mu.Lock()
	c.beating = true
	c.mu.Unlock()
	if err := c.flush(ctx, c.conn.Beat); err != nil {
		return err
	}
	c.mu.Lock()
	c.expect(c.lastWrite, false)
	c.mu.Unlock()
	return nil
}

// fill reads from the source the records that are ready and fit into window and batch. Only
// the writer calls it, and only it moves the source's cursor.
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
	for len(c.batch.Buf) < batchSize && !c.refused && !c.ending && c.decided == nil {
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
		if index >= c.streamEnd || len(c.batch.Records) == 0 {
			if len(c.batch.Records) > 0 {
				c.src.Seek(index) // another stream begins, and another batch
				return nil
			}
			if index >= c.streamEnd && c.streamEnd > 0 && c.win.flying > 0 {
				// Not before the stream before is stored: of that, a server may refuse the
				// end, and take what follows in another stream.
				c.src.Seek(index)
				return nil
			}
			_, c.streamEnd = c.src.Stream(index)
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
		case c.heldFrom <= index && index < c.held:
			c.win.settle(s, done)
			c.m.Acked.Add(1)
			c.credit(index)
		default:
			c.put(s, line, v == sendAgain)
		}
	}
	return nil
}

// put adds a record to the batch. The caller holds mu.
func (c *session) put(s *slot, line []byte, again bool) {
	if again {
		c.m.Resent.Add(1)
	} else {
		c.m.Sent.Add(1)
	}
	if len(line) > c.maxRecord {
		line = line[:c.maxRecord]
		if !again {
			c.m.Truncated.Add(1)
		}
	}
	c.sent.Store(max(c.sent.Load(), s.index)) // only the writer does
	c.batch.add(s.index, s.seq, line)
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

// send sends the batch and sets the deadline of the next reply.
func (c *session) send(ctx context.Context) error {
	if err := c.flush(ctx, func() (int, error) { return c.conn.Send(&c.batch) }); err != nil {
		return err
	}
	c.batch.reset()
	c.mu.Lock()
	if c.answers {
		c.expect(c.lastWrite, false)
		c.mu.Unlock()
		return nil
	}
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

// flush writes until all is written, and gives the peer WriteTimeout for every bit of
// progress.
func (c *session) flush(ctx context.Context, write func() (n int, err error)) error {
	for {
		c.allowWrite(ctx)
		settled := c.settled.Load()
		n, err := write()
		c.m.Writes.Add(1)
		c.m.Bytes.Add(uint64(n))
		if err == nil {
			c.lastWrite = time.Now()
			return nil
		}
		if alive := n > 0 || c.settled.Load() != settled; alive && isTimeout(err) && ctx.Err() == nil {
			continue
		}
		select {
		case <-c.dead:
			// The reader knows better why.
			return c.err
		default:
		}
		return fmt.Errorf("write: %w", err)
	}
}

// allowWrite gives the next write WriteTimeout. The deadline is moved only when an
// eighth of it is over: that costs as much as a small write.
func (c *session) allowWrite(ctx context.Context) {
	now := time.Now()
	if c.deadline.Sub(now) > c.cfg.WriteTimeout*7/8 {
		return
	}
	c.deadline = now.Add(c.cfg.WriteTimeout)
	c.conn.SetSendDeadline(c.deadline)
	// Those who cut a write short may have done so just before.
	select {
	case <-c.dead:
		c.conn.SetSendDeadline(now)
	case <-ctx.Done():
		c.conn.SetSendDeadline(now.Add(c.cfg.Grace))
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
			c.conn.SetReceiveDeadline(c.expires)
		}
	case c.expires.IsZero(), settled && c.expires.Sub(now) < c.cfg.ReplyTimeout*7/8:
		c.expires = now.Add(c.cfg.ReplyTimeout)
		c.conn.SetReceiveDeadline(c.expires)
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
	c.conn.Rewound()
	if again {
		c.src.Seek(first)
	}
	return nil
}
