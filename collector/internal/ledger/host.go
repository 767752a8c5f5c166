package ledger

import (
	"bytes"
	"cmp"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

const (
	// farthest is how long an entry may be: longer times are several.
	farthest = 31 * Day
	// oldest is how long before its receipt an event may be to count, and newest how long
	// after: whoever makes times up can fill so many rows, and no more.
	oldest = 400 * Day
	newest = Day
	// Oldest and Newest say so to who counts beside it.
	Oldest, Newest = oldest, newest
	// ahead is how far before its receipt a time may be answered for: a clock that jumps forward
	// must not make what comes then complete.
	ahead = 10 * minute
	// recent is how old an event may be, when it is received, to be counted by minutes.
	recent = 2 * Day
)

// Host follows what comes from one host. The head's lock guards it.
//
// What each record needs comes first, and first in its parts: with a thousand hosts, by turns, little of this is in a processor's
// cache, and to wait for memory takes more than the rest.
type Host struct {
	// What is counted of the slot of the latest time, which is in no row yet: nearly every record is of that, and rows
	// lie elsewhere in memory.
	slotFrom, slotTo int64
	records, events  uint64
	last             int64 // the latest time of a record that was believed
	begun            [2]bool
	daemon           uint8    // what one has said of itself since the kernel's latest event; see says
	vital            vital    // of it, when the host said that it shuts down
	off              int64    // since when the kernel says that auditing is off; 0: it does not
	chains           [2]chain // of the present boot, and of what else comes: an old log, the boot before
	run              run      // of it, who sent it and how much came
	since            [2]int64 // from when on the chain is not in a row yet
	parted           int64    // where daemon is not 0: up to when the daemon before it had spoken
	// up and down are since when the host has a connection, or has none: one of them is 0, and
	// both where nothing is known of that. The collector's clock.
	up, down int64

	slotRow *Row
	rows    map[rowKey]*Row // what has come since the last Take, and the row that TakeOver left
	at      *Row            // the latest
}

type rowKey struct{ start, length int64 }

// run is one run of the host's forwarder: what its last statement said, and what came since. It
// is a part of the tracker.
type run struct {
	Sender   uint64 `json:"sender"`   // who sent it, by SenderID
	Received uint64 `json:"received"` // records of the same sender since the statement, it included
	statement
	Ended  bool   `json:"ended,omitempty"`  // it said that it ends
	Owed   int64  `json:"owed,omitempty"`   // records handed on and not received, so far; negative: more came than was said
	Told   int64  `json:"told,omitempty"`   // of Owed, what entries say
	Else   int64  `json:"else,omitempty"`   // records that another collector acknowledged, and that no entry says
	Said   uint64 `json:"said,omitempty"`   // records lost by op=lost-records, so far
	Since  uint64 `json:"since,omitempty"`  // of Said, since the last statement
	Unsaid uint64 `json:"unsaid,omitempty"` // of Lost, what entries of ours say
	Upto   int64  `json:"-"`                // the latest time that a statement has answered for
}

// NewHost returns what is known of a host of which nothing is.
func NewHost() *Host { return &Host{} }

// Record takes a record of the host's, in the order of the journal. sender tells senders apart;
// received is in milliseconds. It must have a time.
func (h *Host) Record(r *record.Record, sender uint64, received int64) {
	ms := r.Ms()
	if h.count(ms, received, 1, 0) {
		h.last = max(h.last, ms)
	}
	if h.run.Sender == sender {
		h.run.Received++
	}
	switch {
	case r.Type < tables.DaemonStart || r.Type > tables.DaemonStart+99:
		h.serial(ms, uint32(r.Serial), received)
		switch {
		case r.Type == tables.ConfigChange:
			h.switched(r, ms, received)
		case h.off != 0 && onlyWhenOn(r.Type):
			h.on(ms, received)
		}
	case r.Type == tables.DaemonResume:
		h.settle(received) // no record of the kernel may come for hours
		if s, ok := parseStatement(r); ok {
			h.vital.says(&s, &h.run, received)
			h.state(&s, sender, received)
		}
	case r.Type == tables.DaemonErr:
		h.lost(r, received)
		h.vital.alarm(r)
	case r.Type == tables.DaemonStart || r.Type == tables.DaemonEnd:
		h.says(r.Type, ms)
	}
	if h.vital.Shut != 0 && ms > h.vital.Shut+shutFor {
		h.vital.Shut = 0 // it goes on
	}
	switch r.Type {
	case tables.SystemBoot, tables.SystemShutdown, tables.DaemonStart:
		h.vital.starts(r.Type, ms)
	}
}

// Own takes a record that the collector made of itself, as Record does. Its number is none of a
// kernel's, whatever its type: a host of the same name, or the collector's next run, has others.
func (h *Host) Own(r *record.Record, sender uint64, received int64) {
	if r.Type >= tables.DaemonStart && r.Type <= tables.DaemonStart+99 {
		h.Record(r, sender, received)
		return
	}
	if h.count(r.Ms(), received, 1, 0) {
		h.last = max(h.last, r.Ms())
	}
}

// Event counts an event of the host's.
func (h *Host) Event(ms, received int64) {
	h.count(ms, received, 0, 1)
}

// count adds to what is counted of a time; false where it is too far away to be.
func (h *Host) count(ms, received int64, records, events uint64) bool {
	if ms < h.slotFrom || ms >= h.slotTo {
		h.counted()
		row := h.row(ms, received)
		if row == nil {
			return false
		}
		n := slotLength(row.Length)
		h.slotRow, h.slotFrom = row, row.Start+(ms-row.Start)/n*n
		h.slotTo = h.slotFrom + n
	}
	h.records += records
	h.events += events
	return true
}

// counted puts what was counted into its row.
func (h *Host) counted() {
	if h.records|h.events != 0 {
		h.slotRow.count(h.slotFrom, h.records, h.events)
	}
	h.slotRow, h.slotFrom, h.slotTo, h.records, h.events = nil, 0, 0, 0, 0
}

// row is where a time is kept; nil where it is too far away to be.
func (h *Host) row(ms, received int64) *Row {
	if h.at != nil && ms >= h.at.Start && ms < h.at.Start+h.at.Length {
		return h.at
	}
	if ms < received-oldest || ms > received+newest {
		return nil
	}
	k := rowKey{length: Hour}
	if ms < received-recent {
		k.length = Day
	}
	k.start = start(ms, k.length)
	row := h.rows[k]
	if row == nil {
		if h.rows == nil {
			h.rows = map[rowKey]*Row{}
		}
		row = &Row{Start: k.start, Length: k.length}
		h.rows[k] = row
	}
	h.at = row
	return row
}

// believed is a time of the host's clock, or the collector's where that is too far ahead.
func believed(ms, received int64) int64 {
	if ms > received+ahead {
		return received
	}
	return ms
}

// spread calls fn with each row that has a part of a time.
func (h *Host) spread(from, to, received int64, fn func(row *Row, from, to int64)) {
	from, to = max(from, received-oldest), min(to, received+newest)
	for from < to {
		row := h.row(from, received)
		if row == nil {
			return // not within these bounds
		}
		end := min(to, row.Start+row.Length)
		fn(row, from, end)
		from = end
	}
}

// enter adds an entry of a cause.
func (h *Host) enter(c Cause, from, to int64, n uint64, received int64) {
	h.vital.missing(c, n)
	from, to = max(from, received-oldest+Day), min(to, received+newest)
	for ; to-from > farthest; from += farthest {
		if row := h.row(from, received); row != nil {
			row.enter(Entry{c, from, from + farthest, n})
		}
		n = 0
	}
	if row := h.row(min(from, to), received); row != nil {
		row.enter(Entry{c, min(from, to), to, n})
	}
}

// stated notes that a forwarder answers for a time.
func (h *Host) stated(from, to, received int64) {
	h.spread(from, to, received, (*Row).stated)
}

// decide makes entries of gaps that will not be filled.
func (h *Host) decide(i int, received int64) {
	h.chains[i].decide(received, func(g *gap) { h.gap(g, received) })
}

// gap enters numbers that were passed over.
func (h *Host) gap(g *gap, received int64) {
	h.enter(SerialGap, g.from, g.to, uint64(g.last-g.first)+1, received)
}

// settle decides the gaps that are old enough, of all chains.
func (h *Host) settle(received int64) {
	for i := range h.chains {
		if len(h.chains[i].gaps) > 0 {
			h.decide(i, received)
		}
	}
}

// flush puts the time over which a chain goes into rows.
func (h *Host) flush(i int, received int64) {
	if c := &h.chains[i]; h.begun[i] && c.lastMs > h.since[i] {
		h.spread(h.since[i], c.lastMs, received, (*Row).chained)
		h.since[i] = c.lastMs
	}
}

var auditEnabled = []byte("audit_enabled=")

// switched takes the kernel's word that auditing was switched off or on.
func (h *Host) switched(r *record.Record, ms, received int64) {
	if !bytes.Contains(r.Body, auditEnabled) { // changes of rules, which may be many
		return
	}
	f, ok := r.Get("audit_enabled")
	if !ok {
		return
	}
	switch off := bytes.Equal(f.Value, []byte("0")); {
	case off && h.off == 0:
		h.off = ms
	case !off:
		h.on(ms, received)
	}
}

// on notes that auditing is on at a time. The kernel records that it is switched off, and not
// that it is switched on: it does not audit then.
func (h *Host) on(ms, received int64) {
	if h.off != 0 && ms > h.off {
		h.enter(AuditingOff, h.off, ms, 0, received)
		h.off = 0
	}
}

// onlyWhenOn reports whether the kernel makes records of a type only while auditing is on. It
// hands on USER_AVC, and what security modules say, at any time.
func onlyWhenOn(typ uint16) bool {
	return typ == tables.Syscall || typ >= tables.UserAuth && typ < tables.DaemonStart && typ != tables.UserAVC
}

// lost takes what a host says that it lost.
func (h *Host) lost(r *record.Record, received int64) {
	n := LostRecords(r)
	if n == 0 {
		return
	}
	first, last := r.Ms(), r.Ms()
	if f, ok := r.Get("first"); ok {
		first = cmp.Or(stamp(f.Value), first)
	}
	if f, ok := r.Get("last"); ok {
		last = cmp.Or(stamp(f.Value), last)
	}
	f, _ := r.Get("cause")
	h.enter(lossCause(f.Value), first, last, n, received)
	h.run.Said, h.run.Since = AddUp(h.run.Said, n), AddUp(h.run.Since, n)
}

// Take returns what has come since the last call, for the store; the rows are the caller's.
func (h *Host) Take(received int64) []*Row {
	h.close(received)
	return h.handOver(nil)
}

// TakeOver is Take, and keeps the row of the hour of the latest time, which is a part of what Encode returns until
// that hour is over: nearly all that comes between two batches is of it, and to add it to what the store has there
// would take half of the ledger's time.
func (h *Host) TakeOver(received int64) []*Row {
	h.close(received)
	keep := h.at
	if keep == nil || keep.Length != Hour || keep.Start != start(h.last, Hour) {
		keep = h.rows[rowKey{start(h.last, Hour), Hour}]
	}
	if keep != nil && (len(keep.Stated)+len(keep.Chained) > maxKeptSpans || len(keep.Entries) > maxKeptEntries) {
		keep = nil // it would be written again with each batch
	}
	return h.handOver(keep)
}

// Holds reports whether there is something that Take would return.
func (h *Host) Holds() bool { return len(h.rows) > 0 || h.records|h.events != 0 }

// What a row has at most that TakeOver keeps. Minutes are 60 at most.
const (
	maxKeptSpans   = 16
	maxKeptEntries = 8
)

// close puts what was counted and followed into rows.
func (h *Host) close(received int64) {
	for i := range h.chains {
		h.flush(i, received)
	}
	h.settle(received)
	h.counted()
}

// handOver returns all rows but one, which stays.
func (h *Host) handOver(keep *Row) []*Row {
	h.at = keep
	if keep != nil && len(h.rows) == 1 {
		return nil // nearly always
	}
	out := make([]*Row, 0, len(h.rows))
	for k, r := range h.rows {
		if r != keep {
			out = append(out, r)
			delete(h.rows, k)
		}
	}
	return out
}

// Pending returns a copy of what Take would, and leaves it for Take.
func (h *Host) Pending(received int64) []*Row {
	h.close(received)
	out := make([]*Row, 0, len(h.rows))
	for _, r := range h.rows {
		sum := &Row{Start: r.Start, Length: r.Length}
		sum.Add(r)
		out = append(out, sum)
	}
	return out
}

// Followed returns a copy of what an answer needs.
func (h *Host) Followed() Followed {
	f := Followed{run: h.run, last: h.last, off: h.off, up: h.up, down: h.down}
	if h.run.Ended || h.run.Run == "" && h.daemon == daemonEnded {
		f.shut = h.vital.Shut
	}
	for i := range h.chains {
		f.serials = max(f.serials, h.chains[i].lastMs)
		f.gaps = append(f.gaps, h.chains[i].gaps...)
	}
	return f
}

// Followed is what is known of a host as it is now: its forwarder's last statement.
type Followed struct {
	run       run
	last, off int64
	up, down  int64
	serials   int64 // up to when the kernel's serials follow one another
	shut      int64 // when the host has shut down in good order, and not come again; 0: it has not
	gaps      []gap // that may still be filled
}

// left reports whether a host that had a forwarder of ours sends without one now.
func (h *Followed) left(now int64) bool {
	since := min(h.last, now) - h.run.Last
	return since > Hour || h.run.Ended && since > fresh
}
