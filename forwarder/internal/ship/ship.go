// Package ship sends the records of a source (the spool) to a server. It keeps many
// records in flight over one connection, matches replies to records by sequence id, and
// sends records again until they are acknowledged. A Transport knows the protocol
// (package ship/remote has audisp-remote's); this package has what all transports share:
// the window, reading the source, deadlines, pauses, the choice of server, counters and
// reports. It uses the source and the transport only through its own interfaces;
// forwarder's agent and cli and the transports may import it.
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
// network calls, nor calls of the Handler, or of the Source but Streams'.
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
	// Ready returns a channel that delivers a value when there may be records again after
	// Next returned io.EOF.
	Ready() <-chan struct{}
	// Seek makes the next Next return the first record at or after index.
	Seek(index uint64)
	// Ack acknowledges the record index and all before it. A smaller index than before
	// changes nothing.
	Ack(index uint64) error
	// Left returns how many records are not acknowledged.
	Left() uint64
	Streams
}

// The defaults of Config's fields.
const (
	DefaultConnectTimeout = 10 * time.Second
	DefaultReplyTimeout   = 30 * time.Second
	DefaultWriteTimeout   = 30 * time.Second
	DefaultBackoffMin     = 100 * time.Millisecond
	DefaultBackoffMax     = 30 * time.Second
	DefaultGrace          = time.Second
	DefaultProbe          = 30 * time.Second
)

// MaxWindow is the most records in flight to a server that knows a record which comes again by
// its sequence id: a collector looks among the last 8192.
const MaxWindow = 4096

// ErrSuspended is returned by Drain when nothing is sent until Resume.
var ErrSuspended = errors.New("sending is suspended")

// Config of a Sender. Zero values are the defaults.
type Config struct {
	// Servers are what Transport connects to, the preferred one first.
	Servers   []string
	Transport Transport
	// Window is how many records may be in flight; Transport's MaxWindow is the most, and the
	// default.
	Window int

	ConnectTimeout time.Duration
	// ReplyTimeout is how long no reply that settles something may come while one is
	// due before the connection is given up.
	ReplyTimeout time.Duration
	// WriteTimeout is how long the peer may neither take a byte nor reply.
	WriteTimeout time.Duration
	// Heartbeat is after how long without a write a heartbeat is sent; 0: never.
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

	// Handle is called for every Condition, and decides what follows; nil: always Retry.
	// Two goroutines may call it at once, and sending waits for it.
	Handle  func(Report) Decision
	Hello   func() Hello // what a transport tells a server of this host; nil: nothing
	AckedBy []AckedBy    // who had acknowledged what before the start
	// KeepAcked has AckedBy kept for the next start; nil: it is not. It is called before a
	// server hears where others go on: what they acknowledged it passes over, and holds
	// for stored from then on, so after a kill nobody could tell who has it.
	KeepAcked func()
	Logger    hclog.Logger // nil: none
	Metrics   *Metrics     // nil: own
}

// withDefaults fills in and checks.
func (c Config) withDefaults() (Config, error) {
	if len(c.Servers) == 0 || c.Transport == nil {
		return c, errors.New("ship: no server, or no way to it")
	}
	most := c.Transport.MaxWindow()
	def(&c.Window, most)
	def(&c.ConnectTimeout, DefaultConnectTimeout)
	def(&c.ReplyTimeout, DefaultReplyTimeout)
	def(&c.WriteTimeout, DefaultWriteTimeout)
	def(&c.BackoffMin, DefaultBackoffMin)
	def(&c.BackoffMax, max(DefaultBackoffMax, c.BackoffMin))
	def(&c.Grace, DefaultGrace)
	def(&c.Probe, DefaultProbe)
	switch {
	case c.Window < 1 || c.Window > most:
		return c, fmt.Errorf("ship: window %d: want 1 to %d", c.Window, most)
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
