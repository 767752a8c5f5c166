package order

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
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
	q     *query.Query
	m     *query.Matcher
	codec *group.Codec
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
	u.text = frame
	frame.hold()
	err = r.each(u, text)
	if r.q.Reverse {
		slices.Reverse(u.list)
	}
	return err
}

// each looks at the events of a unit's block one after the other.
func (r *reader) each(u *unit, text []byte) error {
	b := u.block
	batches, rest := group.NewBatchReader(b.Batches, b.Batch, b.Events), text
	u.list = make([]place, 0, min(b.Matches, b.Events, 1<<12))
	want := b.Want
	for i := range b.Events {
		if b.Want != nil && len(want) == 0 {
			break
		}
		one, more, err := store.CutText(rest, b.Counted)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		if empty(one, b.Counted) {
			return fmt.Errorf("%w: an event without a record", store.ErrDamaged)
		}
		e := place{batch: batches.Next(), at: b.Place, off: uint32(len(text) - len(rest)), text: one}
		rest = more
		if b.Want != nil {
			if want[0] != i {
				continue
			}
			want = want[1:]
		}
		var is bool
		if e.ms, e.serial, is = store.Decided(r.q, one, b.Counted, b.Sure, r.m.Typed); is {
			u.list = append(u.list, e)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("%w: event %d of %d is wanted", store.ErrDamaged, want[0], b.Events)
	}
	return nil
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
