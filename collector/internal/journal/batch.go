package journal

import "time"

// MaxBatch is the most bytes of records a batch may hold.
const MaxBatch = 8 << 20

// Record is one audit record as a sender sent it.
type Record struct {
	// Seq is the sender's sequence number; 0 when the protocol has none. Of a record with
	// an offset it is the lower half of that.
	Seq uint32
	Raw []byte // without newline; never changed after Submit
}

// Batch is what one connection sent together.
type Batch struct {
	// Conn tells connections apart; unique while the process runs. The journal adds
	// to it what makes it unlike any that is in it from before.
	Conn   uint64
	Sender Sender
	// Managed says that records carry sequence numbers and are acknowledged, so
	// that they may be sent again.
	Managed bool
	// Deferred says that Submit neither waits nor commits: a Commit follows.
	Deferred bool
	// Heavy says that its connection sends more than most do: it has a part of the queue
	// only.
	Heavy bool
	// Carried says that the records were in the journal before, under the same LSNs:
	// they were written again, so that what was around them could be trimmed. Set by
	// the journal, as what follows Records.
	Carried  bool
	Received time.Time
	Records  []Record
	// Span is where Records lie in their sender's stream; a Stream of zeroes: they have
	// no offsets. Only a sender that has proved its name has any.
	Span Span

	// First is the LSN of Records[0], the others follow. Set by the journal.
	First uint64
	// Dropped are the resends taken out of Records, counted by node=. Set by the
	// journal. A batch with no records and some dropped has an LSN of its own.
	Dropped []Dropped
}

// Dropped counts resends of one node ("" without node=).
type Dropped struct {
	Node  string
	Count uint64
}

// LSNs is how many LSNs the batch takes.
func (b *Batch) LSNs() uint64 {
	if len(b.Records) == 0 && len(b.Dropped) > 0 {
		return 1
	}
	return uint64(len(b.Records))
}

// Last is the batch's last LSN.
func (b *Batch) Last() uint64 { return b.First + b.LSNs() - 1 }

// Bytes is the size of the batch's records.
func (b *Batch) Bytes() int64 {
	n := int64(0)
	for i := range b.Records {
		n += int64(len(b.Records[i].Raw))
	}
	return n
}
