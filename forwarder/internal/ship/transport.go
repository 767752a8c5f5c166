package ship

import (
	"context"
	"slices"
	"time"
)

// Transport is how records travel to a server. Package ship/remote has the audisp-remote
// protocol over TCP. Its methods may be called by two goroutines at once.
type Transport interface {
	// Dial connects to a server, until ctx ends.
	Dial(ctx context.Context, server string) (Conn, error)
	// Probe is Dial that also waits for an answer of the server: a server that is full, or
	// refuses this sender, may accept connections, too. It sends nothing that a server stores.
	Probe(ctx context.Context, server string) (Conn, error)
	// MaxRecord returns the length in bytes of the longest record that the transport carries.
	MaxRecord() int
	// Answers reports whether a server answers each record. Where it does not, a record
	// counts as stored once it was sent.
	Answers() bool
}

// Conn is one connection to a server. One goroutine, the writer, calls Send and Beat, and
// another Receive; the rest may be called by both.
//
// A call that waits ends at its deadline, with an error whose Timeout method says true.
// The connection is as usable as before, and the call may be made again. After any other
// error there is nothing to do but Close.
type Conn interface {
	// Room returns how many bytes the connection needs before and behind each record of a batch.
	Room() (before, behind int)
	// Send sends a batch, and returns how many bytes went out. After a deadline it is called
	// again with the same batch, until it returns no error.
	Send(b *Batch) (n int, err error)
	// Beat sends a heartbeat, and returns as Send does.
	Beat() (n int, err error)
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
	Seq       uint32 // of the record that Stored and Refused are about
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
	Records []Record

	before, behind int
}

// Record is the place of one record in a batch's Buf, and its sequence id.
type Record struct {
	Seq        uint32
	Start, End int32
}

// reset empties the batch.
func (b *Batch) reset() { b.Buf, b.Records = b.Buf[:0], b.Records[:0] }

// add puts a record at the end.
func (b *Batch) add(seq uint32, line []byte) {
	start := len(b.Buf) + b.before
	end := start + len(line)
	b.Buf = slices.Grow(b.Buf, end+b.behind-len(b.Buf))[:end+b.behind]
	copy(b.Buf[start:], line)
	b.Records = append(b.Records, Record{Seq: seq, Start: int32(start), End: int32(end)})
}
