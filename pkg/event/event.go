package event

import (
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// An Event consists of all records with the same node, time and serial, in the order in
// which they arrived. A record that could not be parsed (its Err says why) forms an event
// of its own.
type Event struct {
	// Node is the host: of what a collector stored the name that it goes by there, else the
	// node= of its records, nil without one. A record's own Node is what it claims.
	Node    []byte
	Ms      int64 // since 1970
	Serial  uint64
	Records []record.Record
	tags    []uint64 // of each record, as Add got it
	From    *Sender  // sender of all records; nil if it is not known. Events share it: do not change it
	// Batch is the number of the batch of a collector's store that contains the event, or
	// will contain it when the event's table is stored; 0 if it is not known.
	Batch uint64
	// Tie is the event's number among the events of an answer that are equal in time,
	// node, serial and batch, if the query asked for it; see query.Cursor.
	Tie int64
}

// farFuture is how much later than its receipt an event's time may be, in milliseconds.
const farFuture = int64(24 * time.Hour / time.Millisecond)

// IsFarFuture reports whether an event's time is more than a day later than its receipt,
// both in milliseconds since 1970. The sender's clock is then wrong. A collector stores
// and finds such an event, but draws no conclusion from its time.
func IsFarFuture(ms, received int64) bool { return ms > received+farFuture }

// Mismatch reports whether a record of the event claims, by its node=, to be another host's
// than the collector that received it keeps it under. Records of a log never do.
func (e *Event) Mismatch() bool { return e.Claim() != nil }

// Claim returns the first node= that is not the host's name (SameName), nil if there is none.
func (e *Event) Claim() []byte {
	for i := range e.Records {
		if n := e.Records[i].Node; n != nil && !SameName(n, e.Node) {
			return n
		}
	}
	return nil
}

// Size returns the length of the event's records in bytes, without newlines.
func (e *Event) Size() int {
	n := 0
	for i := range e.Records {
		n += len(e.Records[i].Raw)
	}
	return n
}

// slabRecords is the number of records for which an event's single allocation has room.
// Nearly every event fits: SYSCALL, CWD, two PATH, PROCTITLE and EOE, or fewer.
const slabRecords = 6

// slab is an event with room for its records and tags, in one allocation.
type slab struct {
	Event
	recordRoom [slabRecords]record.Record
	tagRoom    [slabRecords]uint64
}

// newEvent returns the event of a first record, which is not appended yet.
func newEvent(r *record.Record) *Event {
	s := &slab{Event: Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial}}
	s.Records, s.tags = s.recordRoom[:0], s.tagRoom[:0]
	return &s.Event
}

// single is an event of one record, in one allocation.
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

// Ended reports whether the event has a record that is the last one of an event, so that
// nothing but an EOE is to be expected.
func (e *Event) Ended() bool {
	for i := range e.Records {
		if typ := e.Records[i].Type; isLast(typ) || i == 0 && IsSingle(typ) {
			return true
		}
	}
	return false
}

// IsSingle reports whether a record of type typ, as the first of its event, is also the
// last. That holds for messages of programs and daemons, the kernel's NetLabel records
// and KERNEL. As in stock ausearch 3.0.9, it does not hold for kernel anomalies and
// integrity records (1700–1899), because the SYSCALL record of an ANOM_LINK comes after
// it. Nor does it hold for LOGIN, which the kernel sends before the SYSCALL record of the
// write to /proc/self/loginuid, if a rule has that call audited; 3.0.9 makes two events of
// them, 4.2.2 one. Nor does it hold for types without a known number: to split an event is
// worse than to wait for the rest of it.
func IsSingle(typ uint16) bool {
	switch {
	case typ == 0, typ == tables.Login:
		return false
	case typ < tables.FirstEvent, typ >= tables.FirstUserAnom, typ == tables.Kernel:
		return true
	}
	return tables.MACUnlblAllow <= typ && typ <= tables.MACCalipsoDel
}

// isLast reports whether a record of type typ ends its event. PROCTITLE is a system call's
// last record before EOE, and daemons do not log EOE.
func isLast(typ uint16) bool { return typ == tables.EOE || typ == tables.Proctitle }
