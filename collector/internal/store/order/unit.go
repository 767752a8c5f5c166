package order

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// unit is events that are merged: those that a piece has, or those of a block that match. Of one whose block is read, list and text are set by who reads it
// before ready is closed.
type unit struct {
	number int           // in what order it came
	found  []store.Found // of no block: list has where they are
	block  *store.PieceBlock
	ready  chan struct{} // nil: it is
	job    *job          // that reads it
	list   []place
	text   *text // where the block's texts are; nil until it is read
}

// place is an event that matches.
type place struct {
	ms     int64
	serial uint64
	batch  uint64
	at     store.PiecePlace
	off    uint32
	text   []byte // of a block; else it is found[off]
}

// job is a frame that is to be read, with its blocks.
type job struct {
	frame *Frame
	units []*unit
	size  int64 // how much of it is counted as held
	left  int   // units that are not through; the merge's
	err   error
}

// reader reads units. It is for one goroutine.
type reader struct {
	q       *query.Query
	m       *query.Matcher
	seeker  *query.Seeker // nil: there is nothing to seek
	types   bool          // the query asks for types, hosts and times only
	codec   *group.Codec
	scratch event.Event // used again for every event
	host    []byte      // of the block
}

// newReader returns a reader. Whose events are asked for is the collector's to say: some hosts count as others.
func newReader(q *query.Query, codec *group.Codec) reader {
	anyone := *q
	anyone.Nodes = nil
	m := query.NewMatcher(&anyone)
	return reader{q: q, m: m, seeker: m.Seeker(), types: store.ByTypes(q), codec: codec}
}

// mostEvents bounds the events of a block: its text has some hundred KiB, or is one event's.
const mostEvents = 1 << 20

// read looks which events of a frame's blocks match. What was read before an error stays.
func (r *reader) read(j *job) {
	frame, err := j.frame.unpack(r.codec)
	for _, u := range j.units {
		if err == nil {
			if one := r.block(u, frame); one != nil && j.err == nil {
				j.err = one
			}
		}
	}
	if err != nil {
		j.err = err
	} else {
		frame.release()
	}
	if j.err != nil {
		b := j.units[0].block
		j.err = fmt.Errorf("a frame that the collector has sent as it is stored, of %.80q (group %d, block %d): %w", b.Host, b.Place.Group, b.Place.Index, j.err)
	}
	for _, u := range j.units {
		close(u.ready)
	}
}

// block reads a unit's block in its frame's text.
func (r *reader) block(u *unit, frame *text) error {
	b := u.block
	text, err := group.Cut(frame.b, b.Off, b.Len)
	if err != nil {
		return err
	}
	if b.Events > mostEvents {
		return fmt.Errorf("%w: it has %d events", store.ErrDamaged, b.Events)
	}
	r.host = []byte(b.Host)
	u.text = frame
	frame.hold()
	x := blockReading{r, u, b, text}
	if r.seeker != nil && !b.Sure && !r.types && !b.Counted && len(b.Batches) == 0 {
		err = x.seek()
	} else {
		err = x.each()
	}
	if r.q.Reverse {
		slices.Reverse(u.list)
	}
	return err
}

// blockReading is a block that is read.
type blockReading struct {
	*reader
	u    *unit
	b    *store.PieceBlock
	text []byte
}

// each looks at the events one after the other.
func (x *blockReading) each() error {
	batches, rest := group.NewBatchReader(x.b.Batches, x.b.Batch, x.b.Events), x.text
	x.u.list = make([]place, 0, min(x.b.Matches, x.b.Events, 1<<12))
	for range x.b.Events {
		one, more, err := store.CutText(rest, x.b.Counted)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		if empty(one, x.b.Counted) {
			return fmt.Errorf("%w: an event without a record", store.ErrDamaged)
		}
		x.match(one, len(x.text)-len(rest), batches.Next())
		rest = more
	}
	return nil
}

// seek looks for what the query asks for in the text of all events at once.
func (x *blockReading) seek() error {
	x.seeker.Begin()
	for at := 0; ; {
		hit := x.seeker.Next(x.text, at)
		if hit < 0 {
			return nil
		}
		begin, end, err := store.EventAt(x.text, at, hit)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		x.match(x.text[begin:end:end], begin, x.b.Batch)
		at = end
	}
}

// match adds an event, if it matches.
func (x *blockReading) match(one []byte, at int, batch uint64) {
	e := place{batch: batch, at: x.b.Place, off: uint32(at), text: one}
	if x.b.Sure || x.types {
		var is bool
		if e.ms, e.serial, is = store.Decided(x.q, one, x.b.Counted, x.b.Sure, x.m.Typed); !is {
			return
		}
	} else {
		if !x.b.Counted && !x.m.MayMatch(one) {
			return
		}
		ev := &x.scratch
		store.ParseInto(ev, one, x.b.Counted, x.host, store.Origin{})
		if len(ev.Records) == 0 || !x.m.Match(ev) {
			return
		}
		e.ms, e.serial = ev.Ms, ev.Serial
	}
	x.u.list = append(x.u.list, e)
}

// empty reports whether an event has no record, which who reads events relies on.
func empty(text []byte, counted bool) bool {
	if !counted {
		return text[0] == '\n'
	}
	n, _ := binary.Uvarint(text)
	return n == 0
}

// node is whose event i of the unit is.
func (u *unit) node(i int) string {
	if u.block != nil {
		return u.block.Host
	}
	return u.found[u.list[i].off].Node
}

// event returns event i of the unit.
func (u *unit) event(i int) store.Found {
	e, b := &u.list[i], u.block
	if b == nil {
		return u.found[e.off]
	}
	return store.Found{Key: query.Key{Ms: e.ms, Node: b.Host, Serial: e.serial}, Batch: e.batch, Host: b.Host, Text: e.text, Counted: b.Counted}
}
