package psktls

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one end of a connection. Its methods may be called at once; Reads wait for one
// another, and so do Writes. A Read whose deadline passes may be called again and loses
// nothing, also in the middle of a record. A Write that fails, for its deadline too, ends
// the connection for writing, since nobody knows how much of a record went out.
//
// Lock order: hand.mu, in.mu, out.mu.
type Conn struct {
	net    net.Conn
	client bool
	config *Config
	state  ConnectionState // set by the handshake, then read only

	hand struct {
		mu   sync.Mutex // one handshake
		err  error      // why it failed
		done atomic.Bool
	}

	in struct {
		mu sync.Mutex // guards the rest
		protection
		buf        []byte // what was read from net: buf[begin:end] is still to be looked at
		begin, end int
		plain      []byte // application data that no Read has had, a part of buf
		quiet      int    // records in a row that brought nothing to Read
		skip       int    // bytes of early data that may be passed over
		clear      bool   // plain alerts are taken, from a peer that could not follow into its keys
		greeted    bool   // a hello went either way: change_cipher_specs are taken from then on
		message    []byte // handshake messages that are not looked at yet, of the handshake
		after      afterHandshake
		err        error // why there is nothing more to read
	}

	out struct {
		mu sync.Mutex // guards the rest
		protection
		buf     []byte
		renewal uint64 // after how many records a key is given up
		err     error  // why nothing more can be written
	}

	// owed is set while the peer waits for a KeyUpdate, which goes before what is written
	// next (RFC 8446, section 4.6.3): a Read never waits for a Write.
	owed   atomic.Bool
	closed atomic.Bool
}

// ConnectionState is what two ends agreed on.
type ConnectionState struct {
	Identity string // whom the client has shown itself to be
	Suite    Suite
	Group    Group
	Retried  bool // a second hello was needed
}

// goodbye is how long an alert may take to leave. Where the peer reads nothing it would
// wait for ever, and so would Close.
const goodbye = 250 * time.Millisecond

// Client makes the end that begins. Nothing is sent before Handshake, or the first Read or
// Write, which call it.
func Client(conn net.Conn, config *Config) *Conn { return newConn(conn, config, true) }

// Server makes the end that answers. Its config needs Lookup.
func Server(conn net.Conn, config *Config) *Conn { return newConn(conn, config, false) }

func newConn(conn net.Conn, config *Config, client bool) *Conn {
	c := &Conn{net: conn, client: client, config: config}
	c.out.renewal = keyRecords
	return c
}

// Handshake shakes hands, once: called again it says how that went. When ctx ends first the
// connection is of no use any more. The deadlines of the connection hold, too, and whoever
// accepts strangers sets one or the other. After a failure the peer was told by an alert;
// Close is the caller's to call.
func (c *Conn) Handshake(ctx context.Context) error {
	if c.hand.done.Load() {
		return nil
	}
	c.hand.mu.Lock()
	defer c.hand.mu.Unlock()
	if c.hand.done.Load() || c.hand.err != nil {
		return c.hand.err
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	err := ctx.Err()
	if err == nil {
		err = c.handshake()
	}
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		c.giveUp(err)
		c.hand.err, c.in.err, c.out.err = err, err, err
		c.in.wipe()
		c.out.wipe()
		return err
	}
	c.in.quiet = 0
	c.hand.done.Store(true)
	return nil
}

func (c *Conn) handshake() error {
	if c.config == nil {
		return errors.New("tls: there is no configuration")
	}
	choices, err := c.config.choices()
	if err != nil {
		return err
	}
	defer func() { c.in.message = nil }()
	if c.client {
		return c.shakeAsClient(choices)
	}
	return c.shakeAsServer(choices)
}

// giveUp tells the peer why, unless the connection has failed or was ended by the peer. Its
// caller holds out.mu.
func (c *Conn) giveUp(err error) {
	alert := AlertInternalError
	var local *LocalAlert
	switch {
	case c.out.err != nil, errors.Is(err, ErrNotTLS), c.client && !c.in.greeted:
		return
	case errors.As(err, &local):
		alert = local.Alert
	case !isOurs(err):
		return
	}
	c.out.err = err
	c.sendAlert(alert)
}

// isOurs says of an error that is no LocalAlert whether it is this end's own: not the
// network's, the peer's or the caller's.
func isOurs(err error) bool {
	var network net.Error
	var peer *PeerAlert
	if errors.As(err, &network) || errors.As(err, &peer) {
		return false
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled} {
		if errors.Is(err, end) {
			return false
		}
	}
	return true
}

// sendAlert sends an alert if that takes no time to speak of. Its caller holds out.mu, and
// lets nobody write afterwards.
func (c *Conn) sendAlert(alert Alert) {
	level := byte(2)
	if alert == AlertCloseNotify {
		level = 1
	}
	record, err := c.out.seal(c.out.buf[:0], recordAlert, []byte{level, byte(alert)})
	if err != nil {
		return
	}
	_ = c.net.SetWriteDeadline(time.Now().Add(goodbye))
	_, _ = c.net.Write(record)
}

// Read reads what the peer wrote. It returns io.EOF when the peer has said that there is no
// more, and io.ErrUnexpectedEOF when the connection ended without a word, so that somebody
// may have cut it.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.Handshake(context.Background()); err != nil {
		return 0, err
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	for len(c.in.plain) == 0 {
		if c.in.err != nil {
			return 0, c.in.err
		}
		if err := c.readApplication(); err != nil {
			if isTimeout(err) {
				return 0, err
			}
			c.in.err = err
			c.tell(err)
			return 0, err
		}
	}
	n := copy(b, c.in.plain)
	c.in.plain = c.in.plain[n:]
	return n, nil
}

// tell sends the alert of err. A Write that waits for the peer is not waited for.
func (c *Conn) tell(err error) {
	if c.out.mu.TryLock() {
		defer c.out.mu.Unlock()
		c.giveUp(err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}

// Write writes b, in as many records as it needs, each with one call of the connection's
// Write. The peer can't tell from them where a Write ended.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.Handshake(context.Background()); err != nil {
		return 0, err
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	written := 0
	for written < len(b) {
		if c.out.err != nil {
			return written, c.out.err
		}
		data := b[written:min(len(b), written+maxPlaintext)]
		if err := c.writeRecord(recordApplicationData, data); err != nil {
			c.out.err = err
			return written, err
		}
		written += len(data)
	}
	return written, c.out.err
}

// writeRecord writes one record, and before it a KeyUpdate where one is due. Its caller
// holds out.mu.
func (c *Conn) writeRecord(kind byte, data []byte) error {
	buf := c.writeBuffer()
	var err error
	if owed := c.owed.CompareAndSwap(true, false); owed || c.out.seq >= c.out.renewal {
		if buf, err = c.out.seal(buf, recordHandshake, []byte{messageKeyUpdate, 0, 0, 1, 0}); err != nil {
			return err
		}
		if err = c.out.update(); err != nil {
			return err
		}
	}
	if buf, err = c.out.seal(buf, kind, data); err != nil {
		return err
	}
	_, err = c.net.Write(buf)
	return err
}

// writeBuffer is empty, and has room for a KeyUpdate and a full record.
func (c *Conn) writeBuffer() []byte {
	if c.out.buf == nil {
		c.out.buf = make([]byte, 0, 2*headerLen+64+maxCiphertext)
	}
	return c.out.buf[:0]
}

// CloseWrite tells the peer that nothing more will be written. Reading goes on.
func (c *Conn) CloseWrite() error {
	if err := c.Handshake(context.Background()); err != nil {
		return err
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.err != nil {
		return c.out.err
	}
	c.out.err = net.ErrClosed
	record, err := c.out.seal(c.writeBuffer(), recordAlert, []byte{1, byte(AlertCloseNotify)})
	if err == nil {
		_, err = c.net.Write(record)
	}
	return err
}

// Close ends the connection. It says goodbye to the peer if that takes no time to speak of;
// a Write that waits is broken off.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	if c.out.mu.TryLock() {
		if c.hand.done.Load() && c.out.err == nil {
			c.sendAlert(AlertCloseNotify)
		}
		if c.out.err == nil {
			c.out.err = net.ErrClosed
		}
		c.out.wipe()
		c.out.mu.Unlock()
	}
	err := c.net.Close()
	if c.in.mu.TryLock() {
		if c.in.err == nil {
			c.in.err = net.ErrClosed
		}
		c.in.wipe()
		clear(c.in.plain)
		c.in.plain = nil
		c.in.mu.Unlock()
	}
	return err
}

// ConnectionState is what was agreed on; the zero value before the handshake is done.
func (c *Conn) ConnectionState() ConnectionState {
	if !c.hand.done.Load() {
		return ConnectionState{}
	}
	return c.state
}

// NetConn is the connection below. What is read from it or written to it breaks this one.
func (c *Conn) NetConn() net.Conn { return c.net }

// LocalAddr is that of the connection below.
func (c *Conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// RemoteAddr is that of the connection below.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// SetDeadline sets both deadlines of the connection below.
func (c *Conn) SetDeadline(t time.Time) error { return c.net.SetDeadline(t) }

// SetReadDeadline sets when a Read gives up. It may be called again then.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.net.SetReadDeadline(t) }

// SetWriteDeadline sets when a Write gives up, which ends the connection for writing.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.net.SetWriteDeadline(t) }
