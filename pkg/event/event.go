package event

import (
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// An Event is all records with the same node, time and serial, in the order in
// which they arrived. A record that could not be parsed (its Err says why) is an
// event of its own.
type Event struct {
	Node    []byte // nil without node=
	Ms      int64  // since 1970
	Serial  uint64
	Records []record.Record
	tags    []uint64 // what Add was given for each record
	From    *Sender  // who sent them all; nil where that is not known. Shared: not to be changed
	// Batch is that of a collector's store in which the event is, or will be when its
	// table is stored; 0 where that is not known.
	Batch uint64
	// Tie is the event's place among those of an answer that are equal in time, node,
	// serial and batch, where it was asked for: see query.Cursor.
	Tie int64
}

// farFuture is how far a time may lie beyond its receipt, in ms.
const farFuture = int64(24 * time.Hour / time.Millisecond)

// IsFarFuture says whether an event's time is more than a day later than its receipt,
// both in ms since 1970: its sender's clock is wrong. A collector stores such an event
// and finds it, but concludes nothing from its time.
func IsFarFuture(ms, received int64) bool { return ms > received+farFuture }

// Size returns the length of the event's records in bytes, without newlines.
func (e *Event) Size() int {
	n := 0
	for i := range e.Records {
		n += len(e.Records[i].Raw)
	}
	return n
}

// slabRecords is how many records an event has room for in its one allocation:
// SYSCALL, CWD, two PATH, PROCTITLE and EOE, or less, is nearly every event.
const slabRecords = 6

type slab struct {
	Event
	recordRoom [slabRecords]record.Record
	tagRoom    [slabRecords]uint64
}

func newEvent(r *record.Record) *Event {
	s := &slab{Event: Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial}}
	s.Records, s.tags = s.recordRoom[:0], s.tagRoom[:0]
	return &s.Event
}

type single struct {
	Event
	recordRoom [1]record.Record
	tagRoom    [1]uint64
}

// newSingle returns the event of one record that no other belongs to.
func newSingle(r *record.Record, tag uint64) *Event {
	s := &single{Event: Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial}}
	s.recordRoom[0], s.tagRoom[0] = *r, tag
	s.Records, s.tags = s.recordRoom[:], s.tagRoom[:]
	return &s.Event
}

// IsSingle says whether a record of that type, when it is the first of its
// event, is also the last: what programs and daemons log, the kernel's NetLabel
// records and KERNEL. As stock ausearch 3.0.9 does it, kernel anomalies and
// integrity records (1700–1899) are not among them: the SYSCALL record that
// belongs to an ANOM_LINK comes after it. Nor are types without a known number:
// splitting an event is worse than waiting for the rest of it.
func IsSingle(typ uint16) bool {
	switch {
	case typ == 0:
		return false
	case typ < tables.FirstEvent, typ >= tables.FirstUserAnom, typ == tables.Kernel:
		return true
	}
	return tables.MACUnlblAllow <= typ && typ <= tables.MACCalipsoDel
}

// isLast says whether a record of that type ends its event. PROCTITLE is the
// last record of a system call's event but for EOE, which daemons do not log.
func isLast(typ uint16) bool { return typ == tables.EOE || typ == tables.Proctitle }
