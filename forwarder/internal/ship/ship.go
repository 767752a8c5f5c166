// Package ship sends the records of a source (the spool) to a server by the
// audisp-remote protocol: many in flight over one connection, matched with their
// replies by sequence id, sent again until they are acknowledged. It knows
// proto/remote and an interface to the source, nothing else; forwarder's agent
// and cli may import it.
//
// What holds: a record is acknowledged to the source only after the server said
// that it is stored (ascii format: after it was handed to the kernel), or when it
// is one that is never sent (EOE, an empty line), or when the Handler said to
// drop it (counted). Records are first sent in the source's order, and carry the
// same sequence id whenever they are sent. They travel over one connection at a
// time: while a server further down the list is used, those before it are tried
// with a heartbeat, and the first that answers takes over once everything in
// flight is answered.
//
// Concurrency: Run is the writer and runs one reader goroutine a connection; both
// end before Run returns. Sender.mu guards the window; it isn't held during
// network calls, nor calls of the Source or the Handler.
package ship

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// Source is where records come from. Next and Seek are called by one goroutine;
// Ack, First and Left may be called at the same time by another.
type Source interface {
	// Next returns the next record: its index, its sequence id on the wire, which
	// is the same whenever it is read and grows with the index (modulo 2^31), and its line without newline, valid until
	// the next call of Next or Seek. io.EOF says that there is none now. An index
	// is larger than the one before, and skips records that are gone.
	Next() (index uint64, seq uint32, line []byte, err error)
	// Ready delivers a value when there may be records after Next returned io.EOF.
	Ready() <-chan struct{}
	// Seek makes the next Next return the first record at or after index.
	Seek(index uint64)
	// Ack says that this record and all before it are done with.
	Ack(index uint64) error
	// First is the index of the first record not done with, Left how many there are.
	First() uint64
	Left() uint64
}

// Format is how records look on the wire.
type Format uint8

const (
	// Managed has a header and a reply for each record.
	Managed Format = iota
	// ASCII is one record a line and no reply: a record counts as delivered when
	// the kernel took it, so what is on its way when the connection breaks is lost.
	ASCII
)

// The defaults of Config's fields.
const (
	DefaultPort           = "60"
	DefaultWindow         = MaxWindow
	MaxWindow             = 4096
	DefaultConnectTimeout = 10 * time.Second
	DefaultReplyTimeout   = 30 * time.Second
	DefaultWriteTimeout   = 30 * time.Second
	DefaultBackoffMin     = 100 * time.Millisecond
	DefaultBackoffMax     = 30 * time.Second
	DefaultGrace          = time.Second
	DefaultProbe          = 30 * time.Second
)

// ErrSuspended is returned by Drain when nothing is sent until Resume.
var ErrSuspended = errors.New("sending is suspended")

// Config of a Sender. Zero values are the defaults.
type Config struct {
	// Servers are host:port, or host alone for port 60, the preferred one first.
	Servers []string
	Format  Format
	// Window is how many records may be in flight, 1 … 4096.
	Window int
	// MaxRecord is the longest text sent, in bytes; longer records are cut to it
	// and counted. At most, and by default, remote.MaxLength. A stock server keeps
	// remote.StockServerMax bytes: it acknowledges a longer record and then closes
	// the connection, which costs a reconnect.
	MaxRecord int

	ConnectTimeout time.Duration
	// ReplyTimeout is how long no reply that settles something may come while one is
	// due before the connection is given up.
	ReplyTimeout time.Duration
	// WriteTimeout is how long the peer may neither take a byte nor reply.
	WriteTimeout time.Duration
	// Heartbeat is after how long without sending a heartbeat goes out; 0: never.
	Heartbeat time.Duration
	// BackoffMin and BackoffMax bound the pause between attempts, which doubles
	// each time and is shortened at random by up to half. When they are equal it is
	// that, and up to a tenth longer. After the first failure it is 100 ms at most.
	BackoffMin, BackoffMax time.Duration
	// Probe is how often the servers before the present one are tried.
	Probe time.Duration
	// LocalPort is where connections come from, 0: any. Used unless Dial is given.
	LocalPort int
	// Grace is how long replies to what is in flight are waited for when Run's
	// context ends or the server says that it stops.
	Grace time.Duration

	// Dial opens a connection; nil: TCP with keepalive.
	Dial func(ctx context.Context, server string) (net.Conn, error)
	// Handle is told of everything an action can be configured for, and decides;
	// nil: always Retry. It may be called by two goroutines at once.
	Handle  func(Report) Decision
	Logger  hclog.Logger // nil: none
	Metrics *Metrics     // nil: own
}

// withDefaults fills in and checks.
func (c Config) withDefaults() (Config, error) {
	if len(c.Servers) == 0 {
		return c, errors.New("ship: no server")
	}
	servers := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		addr, err := address(s)
		if err != nil {
			return c, err
		}
		servers[i] = addr
	}
	c.Servers = servers
	def(&c.Window, DefaultWindow)
	def(&c.MaxRecord, remote.MaxLength)
	def(&c.ConnectTimeout, DefaultConnectTimeout)
	def(&c.ReplyTimeout, DefaultReplyTimeout)
	def(&c.WriteTimeout, DefaultWriteTimeout)
	def(&c.BackoffMin, DefaultBackoffMin)
	def(&c.BackoffMax, max(DefaultBackoffMax, c.BackoffMin))
	def(&c.Grace, DefaultGrace)
	def(&c.Probe, DefaultProbe)
	switch {
	case c.Format > ASCII:
		return c, fmt.Errorf("ship: unknown format %d", c.Format)
	case c.Window < 1 || c.Window > MaxWindow:
		return c, fmt.Errorf("ship: window %d: want 1 to %d", c.Window, MaxWindow)
	case c.MaxRecord < 1 || c.MaxRecord > remote.MaxLength:
		return c, fmt.Errorf("ship: record length %d: want 1 to %d", c.MaxRecord, remote.MaxLength)
	case c.ConnectTimeout < 0 || c.ReplyTimeout < 0 || c.WriteTimeout < 0 || c.Heartbeat < 0 || c.Grace < 0 || c.Probe < 0:
		return c, errors.New("ship: negative timeout")
	case c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin:
		return c, fmt.Errorf("ship: back-off from %v to %v", c.BackoffMin, c.BackoffMax)
	}
	if c.Dial == nil {
		c.Dial = dialer(c.LocalPort)
	}
	if c.Handle == nil {
		c.Handle = func(Report) Decision { return Retry }
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Metrics == nil {
		c.Metrics = &Metrics{}
	}
	return c, nil
}

// dialer connects by TCP with keepalive, from a fixed port when it isn't 0.
func dialer(port int) func(context.Context, string) (net.Conn, error) {
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}}
	if port > 0 {
		d.LocalAddr = &net.TCPAddr{Port: port}
		// The last connection from this port may be in TIME_WAIT, and that to another
		// server may be open while this one is tried.
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			})
			return errors.Join(err, failed)
		}
	}
	return func(ctx context.Context, server string) (net.Conn, error) { return d.DialContext(ctx, "tcp", server) }
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// address adds the default port to a server that has none.
func address(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		var ae *net.AddrError
		if !errors.As(err, &ae) || ae.Err != "missing port in address" && net.ParseIP(s) == nil {
			return "", fmt.Errorf("ship: server %q: %w", s, err)
		}
		if n := len(s); n > 1 && s[0] == '[' && s[n-1] == ']' {
			s = s[1 : n-1]
		}
		host, port = s, DefaultPort
	}
	if host == "" || port == "" {
		return "", fmt.Errorf("ship: server %q: want host or host:port", s)
	}
	return net.JoinHostPort(host, port), nil
}
