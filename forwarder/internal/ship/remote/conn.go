package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// readSize is how many bytes of replies are read at once: a thousand of them.
const readSize = 16 << 10

// conn is a ship.Conn.
type conn struct {
	net    net.Conn
	format Format

	rest []byte        // what the last Send or Beat has still to write; the writer's
	beat atomic.Uint32 // sequence id of the last heartbeat. Its top bit is clear, that of records' is set

	// The reader's.
	dec  remote.Decoder
	buf  []byte
	have int // bytes of buf that are no whole reply yet
	// answered says that the server speaks this protocol: a reply came, or none is due.
	answered bool
}

func newConn(c net.Conn, f Format) *conn {
	return &conn{net: c, format: f, buf: make([]byte, readSize), answered: f == ASCII}
}

// Peer implements ship.Conn.
func (c *conn) Peer() ship.Peer {
	if s, ok := c.net.(*securedConn); ok {
		return ship.Peer{Name: s.name, Addr: s.secured.RemoteAddr().String()}
	}
	return ship.Peer{Addr: c.net.RemoteAddr().String()}
}

// Room implements ship.Conn.
func (c *conn) Room() (before, behind int) {
	if c.format == ASCII {
		return 0, 1
	}
	return remote.HeaderSize, 0
}

// Send implements ship.Conn.
func (c *conn) Send(b *ship.Batch) (int, error) {
	if len(c.rest) == 0 {
		c.frame(b)
		c.rest = b.Buf
	}
	return c.write()
}

// frame fills the room around a batch's records.
func (c *conn) frame(b *ship.Batch) {
	if c.format == ASCII {
		for _, r := range b.Records {
			b.Buf[r.End] = '\n'
		}
		return
	}
	for _, r := range b.Records {
		remote.AppendHeader(b.Buf[r.Start-remote.HeaderSize:r.Start-remote.HeaderSize], remote.Message, r.Seq, int(r.End-r.Start))
	}
}

// Beat implements ship.Conn.
func (c *conn) Beat() (int, error) {
	if len(c.rest) == 0 {
		seq := (c.beat.Load() + 1) & 0x7fffffff
		c.beat.Store(seq)
		c.rest = remote.Append(nil, remote.Heartbeat, seq, nil)
	}
	return c.write()
}

func (c *conn) write() (int, error) {
	n, err := c.net.Write(c.rest)
	c.rest = c.rest[n:]
	return n, err
}

// notAnswered follows an error of a connection over which nothing was ever answered.
const notAnswered = ": nothing was answered: it refuses this host, or its port is for another protocol (TLS, or clear text); its log has the reason"

var (
	errClosed   = errors.New("connection closed by the server")
	errRefused  = errors.New("connection closed by the server" + notAnswered)
	errNotReply = errors.New("message is no reply")
)

// Rewound implements ship.Conn: each record has a number of its own.
func (c *conn) Rewound() {}

// Receive implements ship.Conn.
func (c *conn) Receive(dst []ship.Reply) ([]ship.Reply, error) {
	n, err := c.net.Read(c.buf[c.have:])
	c.have += n
	if c.format == ASCII {
		c.have = 0 // nothing is due; what comes means nothing
	}
	used := 0
	for used < c.have {
		f, n, derr := c.dec.Decode(c.buf[used:c.have])
		if derr == nil && n > 0 && (f.ASCII || !f.Type.IsReply()) {
			derr = errNotReply
		}
		if derr != nil {
			return dst, fmt.Errorf("reply: %w", derr)
		}
		if n == 0 {
			break
		}
		used += n
		c.answered = true
		dst = append(dst, c.reply(f))
	}
	c.have = copy(c.buf, c.buf[used:c.have])
	var ne net.Error
	switch {
	case err == nil, errors.As(err, &ne) && ne.Timeout():
		return dst, err
	case errors.Is(err, io.EOF) && c.answered:
		return dst, errClosed
	case errors.Is(err, io.EOF):
		return dst, errRefused
	case errors.Is(err, syscall.ECONNRESET) && !c.answered:
		return dst, fmt.Errorf("read: %w%s", err, notAnswered)
	}
	return dst, fmt.Errorf("read: %w", err)
}

// reply says what a frame means. A reply of an unknown type that is not fatal counts as an
// ACK, as with the stock sender.
func (c *conn) reply(f remote.Frame) ship.Reply {
	r := ship.Reply{Seq: f.Seq}
	switch {
	case f.Type == remote.Ending:
		r.Outcome = ship.Ending
		return r
	case f.Seq == c.beat.Load():
		r.Outcome = ship.Alive
	case f.Type.IsFatal():
		r.Outcome = ship.Refused
	}
	if condition := conditionOf(f.Type); condition != 0 {
		r.Complaint = &ship.Complaint{Condition: condition, Name: f.Type.String(), Text: string(f.Payload)}
	}
	return r
}

// conditionOf is what an action can be configured for, 0 for a plain reply.
func conditionOf(t remote.Type) ship.Condition {
	switch {
	case t == remote.DiskFull:
		return ship.DiskFull
	case t == remote.DiskError:
		return ship.DiskError
	case t.IsFatal():
		return ship.GenericError
	case t == remote.DiskLow:
		return ship.DiskLow
	case t.IsWarning():
		return ship.GenericWarning
	}
	return 0
}

// SetSendDeadline implements ship.Conn. It only fails on a closed connection.
func (c *conn) SetSendDeadline(t time.Time) { _ = c.net.SetWriteDeadline(t) }

// SetReceiveDeadline implements ship.Conn. It only fails on a closed connection.
func (c *conn) SetReceiveDeadline(t time.Time) { _ = c.net.SetReadDeadline(t) }

// Close implements ship.Conn.
func (c *conn) Close(abort bool) error {
	if abort {
		abandon(c.net)
	}
	return c.net.Close()
}
