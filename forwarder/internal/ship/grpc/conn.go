package grpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	rpc "google.golang.org/grpc"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

// conn is a ship.Conn. Two goroutines of its own make the calls of gRPC, which know no
// deadlines: one sends what Send and Beat hand it, the other receives.
type conn struct {
	client *rpc.ClientConn
	stream fleet.Ingest_StreamClient
	end    context.CancelFunc // ends the call, and both goroutines
	s      ship.Sending
	peer   ship.Peer
	// witness gets what the collector signs; nil: nobody does. Of greet, then of the goroutine
	// that receives.
	witness *witness.Session

	// The writer's.
	packer *ingest.Packer
	id     [16]byte // the stream that was opened last
	first  uint64   // the offset at which the next batch begins
	sent   int      // bytes of what is being sent
	busy   bool     // the last Send or Beat waits for its end still
	// handing is what of it the goroutine that sends has not taken yet; nil: it has.
	handing []*fleet.StreamRequest
	slow    atomic.Bool

	out      chan []*fleet.StreamRequest // to the goroutine that sends
	sentDone chan error                  // from it
	asks     chan *fleet.StreamRequest   // to it: what the witness asks, the newest
	sending  sync.Mutex                  // held while something is sent, and by Close
	noMore   bool                        // guarded by sending: nothing is sent any more

	at    span            // of the stream that answers are about: of the goroutine that receives
	in    chan ship.Reply // from the goroutine that receives
	inErr error           // why it ended; read after in is closed
	// refused is where to begin again: the least offset that was refused, plus one; 0: none.
	refused atomic.Uint64

	// What the server said of its first stream.
	store     string
	helloID   [16]byte
	helloHeld uint64

	// opens are the streams that were opened and whose Opened has not come, in order; mu
	// guards them.
	mu    sync.Mutex
	opens []span

	sendUntil, receiveUntil deadline
	joined                  chan struct{} // closed when both goroutines have ended
}

// span is what of a stream is sent over a connection: the indexes from the one it was
// opened with up to the stream's end, exclusive.
type span struct{ from, end uint64 }

// stored is the reply that says that the records of the span below an offset are stored.
// What lies before the span is another stream's, or is done with.
func (s span) stored(next uint64) ship.Reply {
	return ship.Reply{Outcome: ship.Stored, From: s.from, To: min(next, s.end)}
}

// slowPause is how long the next batch waits when the collector asks for less.
const slowPause = 20 * time.Millisecond

func newConn(client *rpc.ClientConn, stream fleet.Ingest_StreamClient, end context.CancelFunc, s ship.Sending) (*conn, error) {
	packer, err := ingest.NewPacker()
	if err != nil {
		return nil, err
	}
	return &conn{
		client: client, stream: stream, end: end, s: s, packer: packer,
		out: make(chan []*fleet.StreamRequest), sentDone: make(chan error, 1), asks: make(chan *fleet.StreamRequest, 1), in: make(chan ship.Reply, 64),
		sendUntil: newDeadline(), receiveUntil: newDeadline(), joined: make(chan struct{}),
	}, nil
}

// open makes an Open for the stream of a record, which is not older than the oldest.
func (c *conn) open(index uint64) *fleet.StreamRequest {
	id, end := c.s.Streams.Stream(index)
	c.id = id
	c.mu.Lock()
	c.opens = append(c.opens, span{index, end})
	c.mu.Unlock()
	o := &fleet.Open{Version: ingest.Version, StreamId: c.id[:], Oldest: index, Newest: c.s.Streams.Newest(), Witness: c.witness != nil}
	if c.s.Hello != nil {
		h := c.s.Hello()
		o.Host, o.BootId, o.Program, o.Kernel, o.Rules, o.Lost = []byte(h.Host), h.Boot, h.Program, h.Kernel, h.Rules, h.Lost
	}
	c.first = index
	return &fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: o}}
}

// opened takes the span of the oldest Open that was not answered yet.
func (c *conn) opened() (s span, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.opens) == 0 {
		return s, false
	}
	s, c.opens = c.opens[0], c.opens[1:]
	return s, true
}

var errOpened = errors.New("it says that a stream was opened which was not asked for")

// greet opens the first stream and waits until the collector has.
func (c *conn) greet() error {
	for renewed := false; ; renewed = true {
		oldest := c.s.Streams.First()
		if err := c.stream.Send(c.open(oldest)); err != nil {
			return c.cause(err)
		}
		r, err := c.stream.Recv()
		for err == nil && c.signed(r) { // of the Open before
			r, err = c.stream.Recv()
		}
		if err != nil {
			return err
		}
		o := r.GetOpened()
		if o == nil {
			return fmt.Errorf("it answers an Open with %T", r.GetMessage())
		}
		at, _ := c.opened()
		if held := min(o.GetHeld(), at.end); held > c.s.Sent()+1 {
			if renewed {
				return errors.New("the collector holds records of a stream that is new")
			}
			if err := c.s.Streams.Renew(); err != nil {
				return fmt.Errorf("the collector holds records that were never sent, so this machine or its spool was put back to an earlier state; another stream: %w", err)
			}
			continue
		}
		c.at = at
		if c.witness != nil {
			c.witness.Opened(o.GetStore())
		}
		c.store, c.helloID, c.helloHeld = hex.EncodeToString(o.GetStore()), c.id, min(o.GetHeld(), at.end)
		if o.GetHeld() > oldest {
			c.in <- at.stored(o.GetHeld())
		}
		return nil
	}
}

// Holds implements ship.Holder.
func (c *conn) Holds() (store string, stream [16]byte, held uint64) {
	return c.store, c.helloID, c.helloHeld
}

// cause is why sending failed: gRPC says io.EOF then, and the reason where one receives.
func (c *conn) cause(err error) error {
	if errors.Is(err, io.EOF) {
		if _, rerr := c.stream.Recv(); rerr != nil {
			return rerr
		}
	}
	return err
}

func (c *conn) start() {
	receiving := make(chan struct{})
	go func() {
		defer close(receiving)
		c.inErr = c.receive()
		close(c.in)
		c.end()
	}()
	go func() {
		c.sendAll()
		<-receiving
		close(c.joined)
	}()
}

// sendAll sends what it is handed until the call ends.
func (c *conn) sendAll() {
	for {
		select {
		case list := <-c.out:
			c.sentDone <- c.sendList(list)
		case m := <-c.asks:
			_ = c.sendList([]*fleet.StreamRequest{m}) // what is wrong with the call, its end says
		case <-c.stream.Context().Done():
			return
		}
	}
}

// sendList sends messages, unless no more are to be sent.
func (c *conn) sendList(list []*fleet.StreamRequest) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.noMore {
		return errEnded
	}
	for _, m := range list {
		if err := c.stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// receive makes replies of what comes.
func (c *conn) receive() error {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return ending(err)
		}
		if c.signed(m) {
			continue
		}
		var r ship.Reply
		switch m := m.GetMessage().(type) {
		case *fleet.StreamResponse_Stored:
			r = c.at.stored(m.Stored.GetNext())
			if c.witness != nil {
				c.witness.Acked()
			}
			switch m.Stored.GetPressure() {
			case fleet.Pressure_PRESSURE_SLOW_DOWN:
				c.slow.Store(true)
			case fleet.Pressure_PRESSURE_DISK_LOW:
				r.Complaint = &ship.Complaint{Condition: ship.DiskLow, Name: "DISK_LOW"}
			}
		case *fleet.StreamResponse_Refused:
			r = refusal(m.Refused)
			for was := c.refused.Load(); was == 0 || r.From+1 < was; was = c.refused.Load() {
				if c.refused.CompareAndSwap(was, r.From+1) {
					break
				}
			}
		case *fleet.StreamResponse_Alive:
			r.Outcome = ship.Alive
		case *fleet.StreamResponse_Draining:
			r.Outcome = ship.Ending
		case *fleet.StreamResponse_Opened:
			var ok bool
			if c.at, ok = c.opened(); !ok {
				return errOpened
			}
			continue // what it holds of what is sent, Stored says
		default:
			continue // of a newer collector
		}
		select {
		case c.in <- r:
		case <-c.stream.Context().Done():
			return ending(c.stream.Context().Err())
		}
	}
}

// Peer implements ship.Conn.
func (c *conn) Peer() ship.Peer { return c.peer }

// Room implements ship.Conn.
func (c *conn) Room() (before, behind int) { return ingest.HeadLen, 0 }

// Send implements ship.Conn.
func (c *conn) Send(b *ship.Batch) (int, error) {
	if !c.busy {
		c.begin(c.messages(b))
	}
	return c.wait()
}

// Beat implements ship.Conn.
func (c *conn) Beat() (int, error) {
	if !c.busy {
		c.sent = 0
		beat := &fleet.Beat{}
		if c.s.Hello != nil {
			beat.Rules = c.s.Hello().Rules
		}
		c.begin([]*fleet.StreamRequest{{Message: &fleet.StreamRequest_Beat{Beat: beat}}})
	}
	return c.wait()
}

// begin has messages sent: wait hands them to the goroutine that sends.
func (c *conn) begin(list []*fleet.StreamRequest) {
	if c.slow.Swap(false) {
		select {
		case <-time.After(slowPause):
		case <-c.stream.Context().Done():
		}
	}
	c.handing, c.busy = list, true
}

var errEnded = errors.New("the call has ended")

// wait waits until what was begun is sent.
func (c *conn) wait() (int, error) {
	if c.handing != nil { // what the witness asks may be on its way still
		select {
		case c.out <- c.handing:
			c.handing = nil
		case <-c.sendUntil.passed():
			return 0, errTimeout
		case <-c.stream.Context().Done():
			return 0, errEnded
		}
	}
	select {
	case err := <-c.sentDone:
		c.busy = false
		return c.sent, err
	case <-c.sendUntil.passed():
		return 0, errTimeout
	case <-c.stream.Context().Done():
		return 0, errEnded
	}
}

// Rewound implements ship.Conn: the next batch begins where the first refused one did, though
// the first records there may have been given up meanwhile. Before this call the collector
// must not be told that no record will come for offsets which were refused.
func (c *conn) Rewound() {
	if from := c.refused.Swap(0); from > 0 {
		c.first = from - 1
	}
}

// messages makes one of a batch, or several where indexes are far apart.
func (c *conn) messages(b *ship.Batch) (list []*fleet.StreamRequest) {
	c.sent = 0
	at := b.Records[0].Index
	id, _ := c.s.Streams.Stream(at)
	if id != c.id || at < c.first || at-c.first > ingest.MaxLead {
		list = append(list, c.open(at))
	}
	from := 0 // the message's first record
	for i := range b.Records {
		r := &b.Records[i]
		skipped := uint64(0)
		if i > from {
			skipped = r.Index - b.Records[i-1].Index - 1
		}
		if skipped > ingest.MaxSkipped {
			list = append(list, c.message(b, from, i))
			from, skipped = i, 0
		}
		ingest.PutHead(b.Buf[r.Start-ingest.HeadLen:], int(r.End-r.Start), int(skipped)) //nolint:gosec // at most MaxSkipped
	}
	return append(list, c.message(b, from, len(b.Records)))
}

// message makes a batch's message of its records from i up to n.
func (c *conn) message(b *ship.Batch, i, n int) *fleet.StreamRequest {
	first, last := &b.Records[i], &b.Records[n-1]
	frame := c.packer.Pack(nil, b.Buf[first.Start-ingest.HeadLen:last.End])
	m := &fleet.RecordBatch{First: c.first, Skipped: first.Index - c.first, Records: frame}
	c.first = last.Index + 1
	c.sent += len(frame)
	return &fleet.StreamRequest{Message: &fleet.StreamRequest_Batch{Batch: m}}
}

// Receive implements ship.Conn.
func (c *conn) Receive(dst []ship.Reply) ([]ship.Reply, error) {
	select {
	case r, ok := <-c.in:
		if !ok {
			return dst, c.inErr
		}
		dst = append(dst, r)
	default:
		select {
		case r, ok := <-c.in:
			if !ok {
				return dst, c.inErr
			}
			dst = append(dst, r)
		case <-c.receiveUntil.passed():
			return dst, errTimeout
		}
	}
	for len(dst) < cap(c.in) {
		select {
		case r, ok := <-c.in:
			if !ok {
				return dst, c.inErr
			}
			dst = append(dst, r)
		default:
			return dst, nil
		}
	}
	return dst, nil
}

// SetSendDeadline implements ship.Conn.
func (c *conn) SetSendDeadline(t time.Time) { c.sendUntil.set(t) }

// SetReceiveDeadline implements ship.Conn.
func (c *conn) SetReceiveDeadline(t time.Time) { c.receiveUntil.set(t) }

// closeWait is how long Close waits for the collector to take what was sent.
const closeWait = time.Second

// Close implements ship.Conn. Without abort the collector is told that no more comes, and
// has a moment to end the call.
func (c *conn) Close(abort bool) error {
	if !abort && !c.busy {
		// The writer calls Close, so nothing is being sent but what the witness asks.
		if c.sending.TryLock() {
			c.noMore = true
			_ = c.stream.CloseSend()
			c.sending.Unlock()
		}
		select {
		case <-c.joined:
		case <-time.After(closeWait):
		}
	}
	c.end()
	<-c.joined
	c.sendUntil.stop()
	c.receiveUntil.stop()
	return c.client.Close()
}
