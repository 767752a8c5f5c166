// Package eventtree is a Merkle tree over the pieces of one stored group, or over its events. A leaf of the
// collector's log has the root of the first, so that a few events can be proved with a part of their group, and where that is asked
// for that of the second, so that they can be without showing any other event, of other hosts. FORMAT.md says what is hashed. Stores, the seal and
// evidence import it; it imports pkg/event only.
package eventtree

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Hash is a SHA-256.
type Hash = [sha256.Size]byte

// Version is the first byte of what is hashed of an event.
const Version = 1

// Flags of an event.
const flagCounted = 1

// Event is what a leaf of the tree stands for: all that a collector stores of an event.
type Event struct {
	Host string
	From *event.Sender // nil where that is not known
	// Receipts are when its records were received, in ms since 1970: one where all came at once,
	// else one a record. 0 where that is not known.
	Receipts []int64
	Counted  bool   // the form of Text
	Text     []byte // as it lies in a block
}

// Hasher hashes events. It allocates nothing for an event, and is for one goroutine. The zero
// Hasher may be used.
type Hasher struct {
	sha  hash.Hash
	head []byte
	out  Hash
}

// Event returns an event's hash: a leaf of the tree.
func (h *Hasher) Event(e *Event) Hash {
	if h.sha == nil {
		h.sha = sha256.New()
	}
	h.sha.Reset()
	h.head = e.AppendHead(append(h.head[:0], leafPrefix))
	h.sha.Write(h.head)
	h.sha.Write(e.Text)
	h.sha.Sum(h.out[:0])
	return h.out
}

// Piece returns the hash of a piece of a stored group: a leaf of the tree over these.
func (h *Hasher) Piece(b []byte) Hash {
	if h.sha == nil {
		h.sha = sha256.New()
	}
	h.sha.Reset()
	h.head = append(h.head[:0], leafPrefix)
	h.sha.Write(h.head)
	h.sha.Write(b)
	h.sha.Sum(h.out[:0])
	return h.out
}

// AppendHead appends what is hashed of an event before its text.
func (e *Event) AppendHead(dst []byte) []byte {
	flags := byte(0)
	if e.Counted {
		flags |= flagCounted
	}
	var from event.Sender
	if e.From != nil {
		from = *e.From
	}
	dst = append(dst, Version, flags, byte(from.Transport))
	if from.Addr.Is4() {
		a := from.Addr.As4()
		dst = append(append(dst, byte(len(a))), a[:]...)
	} else if from.Addr.IsValid() {
		a := from.Addr.As16()
		dst = append(append(dst, byte(len(a))), a[:]...)
	} else {
		dst = append(dst, 0)
	}
	dst = appendText(appendText(dst, from.Host), e.Host)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(e.Receipts)))
	for _, ms := range e.Receipts {
		dst = binary.BigEndian.AppendUint64(dst, uint64(ms))
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// AppendReceipts appends when the records of an event were received, as Event.Receipts has it.
func AppendReceipts(dst []int64, ev *event.Event) []int64 {
	at := len(dst)
	same := true
	for i := range ev.Records {
		dst = append(dst, ev.Records[i].Received)
		same = same && ev.Records[i].Received == ev.Records[0].Received
	}
	if same && len(dst) > at {
		dst = dst[:at+1]
	}
	return dst
}
