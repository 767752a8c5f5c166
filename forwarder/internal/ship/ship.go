// Package ship sends the records of a source (the spool) to a server: many in flight
// over one connection, matched with their replies by sequence id, sent again until they
// are acknowledged. What goes over the wire is a Transport's (package ship/remote has the
// audisp-remote protocol); the window, reading the source, deadlines, pauses, the choice of
// server, counters and reports are here, the same for every transport. It knows nothing of
// ours but its interfaces; forwarder's agent and cli and the transports may import it.
//
// What holds: a record is acknowledged to the source only after the server said
// that it is stored (of a transport without answers: after it was handed to the kernel), or
// when it is one that is never sent (EOE, an empty line), or when the Handler said to
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
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
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

// The defaults of Config's fields.
const (
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
	// Servers are what Transport connects to, the preferred one first.
	Servers   []string
	Transport Transport
	// Window is how many records may be in flight, 1 … 4096.
	Window int

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
	// Grace is how long replies to what is in flight are waited for when Run's
	// context ends or the server says that it stops.
	Grace time.Duration

	// Handle is told of everything an action can be configured for, and decides;
	// nil: always Retry. It may be called by two goroutines at once.
	Handle  func(Report) Decision
	Logger  hclog.Logger // nil: none
	Metrics *Metrics     // nil: own
}

// withDefaults fills in and checks.
func (c Config) withDefaults() (Config, error) {
	if len(c.Servers) == 0 || c.Transport == nil {
		return c, errors.New("ship: no server, or no way to it")
	}
	def(&c.Window, DefaultWindow)
	def(&c.ConnectTimeout, DefaultConnectTimeout)
	def(&c.ReplyTimeout, DefaultReplyTimeout)
	def(&c.WriteTimeout, DefaultWriteTimeout)
	def(&c.BackoffMin, DefaultBackoffMin)
	def(&c.BackoffMax, max(DefaultBackoffMax, c.BackoffMin))
	def(&c.Grace, DefaultGrace)
	def(&c.Probe, DefaultProbe)
	switch {
	case c.Window < 1 || c.Window > MaxWindow:
		return c, fmt.Errorf("ship: window %d: want 1 to %d", c.Window, MaxWindow)
	case c.ConnectTimeout < 0 || c.ReplyTimeout < 0 || c.WriteTimeout < 0 || c.Heartbeat < 0 || c.Grace < 0 || c.Probe < 0:
		return c, errors.New("ship: negative timeout")
	case c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin:
		return c, fmt.Errorf("ship: back-off from %v to %v", c.BackoffMin, c.BackoffMax)
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

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
