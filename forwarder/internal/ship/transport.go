package ship

import (
	"context"
	"slices"
	"time"
)

// Transport is how records travel to a server. Package ship/remote has the audisp-remote
// protocol over TCP. Its methods may be called by two goroutines at once.
type Transport interface {
	// Dial connects to a server, until ctx ends. Who sends is told as s has it, where the
	// protocol has words for it.
	Dial(ctx context.Context, server string, s Sending) (Conn, error)
	// Probe is Dial that also waits for an answer of the server: a server that is full, or
	// refuses this sender, may accept connections, too. It sends nothing that a server stores.
	Probe(ctx context.Context, server string, s Sending) (Conn, error)
	// MaxRecord returns the length in bytes of the longest record that the transport carries.
	MaxRecord() int
	// MaxWindow returns how many records may be in flight at most.
	MaxWindow() int
	// Answers reports whether a server answers each record. Where it does not, a record
	// counts as stored once it was sent.
	Answers() bool
}

// Sending is what a transport may tell a server as it connects, or ask of what is sent.
type Sending struct {
	Streams Streams
	Hello   func() Hello // nil: nothing is known
	// Sent returns the greatest index that was sent since the start, or was there at the start.
	Sent func() uint64
}

// Streams tells records apart by streams and indexes: a *spool.Reader. Any goroutine may call
// its methods.
type Streams interface {
	// Stream returns the stream that a record belongs to, and the first index behind those of
	// it. In a stream an index never stands for two records.
	Stream(index uint64) (id [16]byte, end uint64)
	// First returns the index of the first record that is not acknowledged.
	First() uint64
	// Newest returns the index of the newest record.
	Newest() uint64
	// Renew gives all that is not acknowledged another stream: the server has records of the
	// present one that were never sent.
	Renew() error
	// Rewind takes acknowledgements back: what is still there from an index on is returned by
	// Next again after a Seek. It returns the first index that is. Nobody else may use the
	// source meanwhile but through Append.
	Rewind(index uint64) (first uint64, err error)
}

// Hello is what is known of who sends.
type Hello struct {
	Host    string            // what it calls itself
	Boot    string            // the kernel's boot_id
	Program string            // name and version of this one
	Kernel  string            // its release
	Rules   []byte            // SHA-256 of the rules that are loaded; none: not known
	Lost    map[string]uint64 // records lost since the start, by cause
}

// Peer is who a connection is to.
type Peer struct {
	Name string // that it has proved; "" for a server in clear text
	Addr string // its address and port
}

// Conn is one connection to a server. One goroutine, the writer, calls Send, Beat and Rewound, and
// another Receive; the rest may be called by both.
//
// A call that waits ends at its deadline, with an error whose Timeout method says true.
// The connection is as usable as before, and the call may be made again. After any other
// error there is nothing to do but Close.
type Conn interface {
	// Peer returns who it is to.
	Peer() Peer
	// Room returns how many bytes the connection needs before and behind each record of a batch.
	Room() (before, behind int)
	// Send sends a batch, and returns how many bytes went out. After a deadline it is called
	// again with the same batch, until it returns no error.
	Send(b *Batch) (n int, err error)
	// Beat sends a heartbeat, and returns as Send does.
	Beat() (n int, err error)
	// Rewound says that everything in flight is answered, some of it refused, and that what
	// was refused and not given up comes again: the writer calls it before the next Send.
	Rewound()
	// Receive waits for replies and appends them to dst. With an error those that came before
	// it are returned, too.
	Receive(dst []Reply) ([]Reply, error)
	// SetSendDeadline sets when Send and Beat give up, a call under way included; zero: never.
	SetSendDeadline(t time.Time)
	// SetReceiveDeadline sets when Receive gives up, a call under way included; zero: never.
	SetReceiveDeadline(t time.Time)
	// Close ends the connection, and every call that waits. With abort it drops at once what
	// the peer has not taken.
	Close(abort bool) error
}

// Reply is what a server answers.
type Reply struct {
	Seq uint32 // of the record that Stored and Refused are about
	// From and To, where To is not 0, are instead of Seq: the indexes of the records that it
	// is about, To exclusive.
	From, To  uint64
	Outcome   Outcome
	Complaint *Complaint // nil: all is well
}

// Outcome says what became of a record or heartbeat that was sent.
type Outcome uint8

const (
	Stored  Outcome = iota // the record is stored
	Refused                // the record is not stored
	Alive                  // the answer to a heartbeat
	Ending                 // about nothing that was sent: the server is about to stop
)

// Complaint is what a reply says besides its Outcome.
type Complaint struct {
	Condition Condition // DiskLow … GenericError
	Name      string    // of the reply, in the protocol's words
	Text      string    // the text that the server sent with it
}

// Batch is records in the order in which they are sent. They lie in one piece of memory,
// with room around each for what the connection puts there (Conn.Room):
//
//	Buf:  ┌────────┬────────┬────────┬────────┬────────┬────────┬──
//	      │ before │ record │ behind │ before │ record │ behind │ …
//	      └────────┴────────┴────────┴────────┴────────┴────────┴──
//	               ↑Start   ↑End              ↑Start   ↑End
//
// So a record is copied once between the source and the socket, and a connection is called
// once for many. A batch is the connection's from Send until that has returned no error.
type Batch struct {
	Buf     []byte
	Records []Record // all of one stream

	before, behind int
}

// Record is the place of one record in a batch's Buf, its sequence id, and its index.
type Record struct {
	Index      uint64
	Seq        uint32
	Start, End int32
}

// reset empties the batch.
func (b *Batch) reset() { b.Buf, b.Records = b.Buf[:0], b.Records[:0] }

// add puts a record at the end.
func (b *Batch) add(index uint64, seq uint32, line []byte) {
	start := len(b.Buf) + b.before
	end := start + len(line)
	b.Buf = slices.Grow(b.Buf, end+b.behind-len(b.Buf))[:end+b.behind]
	copy(b.Buf[start:], line)
	b.Records = append(b.Records, Record{Index: index, Seq: seq, Start: int32(start), End: int32(end)})
}
