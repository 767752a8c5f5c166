package order

import (
	"encoding/binary"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// unit is a piece that is read, and merged. The goroutine that reads it closes ready behind that; then it is the merge's.
type unit struct {
	p     *store.Piece
	frame *Frame // of its block
	ready chan struct{}

	list   []place
	text   *text // where the texts are; nil: they are not kept, for there are too many, and each is unpacked again
	counts bool  // its bytes are counted in ordering.held
	err    error
}

// place is an event that matches: of a block where its text lies, else which of p.Found it is.
type place struct {
	ms       int64
	serial   uint64
	batch    uint64
	off, len uint32
	text     []byte
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

// read looks which events of the unit match. keep says whether their texts are kept.
func (r *reader) read(u *unit, keep bool) {
	defer close(u.ready)
	if b := u.p.Block; b != nil {
		if err := r.block(u, b, keep); err != nil {
			u.err = fmt.Errorf("a block of %s that the collector has sent as it is stored (group %d, block %d): %w", b.Host, u.p.Group, u.p.Index, err)
		}
	} else {
		u.list = make([]place, len(u.p.Found))
		for i := range u.p.Found {
			f := &u.p.Found[i]
			u.list[i] = place{ms: f.Ms, serial: f.Serial, batch: f.Batch, off: uint32(i)}
		}
	}
	if r.q.Reverse && u.p.Block != nil {
		for i, j := 0, len(u.list)-1; i < j; i, j = i+1, j-1 {
			u.list[i], u.list[j] = u.list[j], u.list[i]
		}
	}
}

// mostEvents bounds the events of a block: its text has some hundred KiB, or is one event's.
const mostEvents = 1 << 20

// block reads the events of a block. What was read before an error stays.
func (r *reader) block(u *unit, b *store.PieceBlock, keep bool) error {
	frame, err := u.frame.unpack(r.codec)
	if err != nil {
		return err
	}
	if keep {
		u.text = frame
	} else {
		defer frame.release()
	}
	text, err := cut(b, frame.b)
	if err != nil {
		return err
	}
	if b.Events > mostEvents {
		return fmt.Errorf("%w: it has %d events", store.ErrDamaged, b.Events)
	}
	r.host = []byte(b.Host)
	x := blockReading{r, u, b, text, keep}
	if r.seeker != nil && !b.Sure && !r.types && !b.Counted && len(b.Batches) == 0 {
		return x.seek()
	}
	return x.each()
}

// blockReading is a block that is read.
type blockReading struct {
	*reader
	u    *unit
	b    *store.PieceBlock
	text []byte
	keep bool
}

// each looks at the events one after the other.
func (x *blockReading) each() error {
	batches, rest := group.NewBatchReader(x.b.Batches, x.b.Batch, x.b.Events), x.text
	x.u.list = make([]place, 0, min(int(x.b.Matches), len(x.text)/3)) // no event is shorter
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
	e := place{batch: batch, off: uint32(at), len: uint32(len(one))}
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
	if x.keep {
		e.text = one
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
	if u.p.Block != nil {
		return u.p.Block.Host
	}
	return u.p.Found[u.list[i].off].Node
}

// found returns event i of the unit; text is read again where it was not kept.
func (u *unit) found(i int, again func() ([]byte, error)) (store.Found, error) {
	e, b := &u.list[i], u.p.Block
	if b == nil {
		return u.p.Found[e.off], nil
	}
	text := e.text
	if text == nil {
		all, err := again()
		if err != nil || uint64(e.off)+uint64(e.len) > uint64(len(all)) {
			return store.Found{}, fmt.Errorf("%w: a block that could be read before cannot be now", store.ErrDamaged)
		}
		text = all[e.off : e.off+e.len : e.off+e.len]
	}
	return store.Found{Key: query.Key{Ms: e.ms, Node: b.Host, Serial: e.serial}, Batch: e.batch, Host: b.Host, Text: text, Counted: b.Counted}, nil
}
