package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Offsets. A sender that has proved its name numbers its records itself: a stream has an
// ID that no other has, and in it an offset never stands for two records. So a record is
// known to be stored by its offset alone, however often it comes, over whatever
// connection: what is remembered of a stream is the offset up to which everything is
// stored. Nothing may come beyond it with a hole before, for that would never be asked
// for again; so a batch behind one that was not committed is refused, too.
//
// All of it happens in order of commit, where the records are written. Two connections
// with records of one stream do no harm: whichever commits first moves the offset, and
// the other's are taken out.

// StreamID tells a sender's streams apart: random, never used again, and not all zeroes.
type StreamID [16]byte

// Span is a piece of a stream of offsets.
type Span struct {
	Stream StreamID
	// From is the offset of the first record, or less; To is greater than that of the
	// last. No record will come for an offset between that has none.
	From, To uint64
	// Floor is what the sender's connection began with: the records below it were stored
	// elsewhere, or are lost. It is not kept.
	Floor uint64
}

const (
	// MaxSpan is the most offsets of a batch.
	MaxSpan = 1 << 31

	// maxStreams of a name are remembered: one that sends begins a new one at each start,
	// and goes back to one before for what it had not sent by then. maxPlaces is of all.
	maxStreams = 32
	maxPlaces  = 200_000

	offsetVersion = 1
	offsetLen     = 1 + 8
)

// ErrGap is given to done for a batch that begins beyond what is stored of its stream:
// one before it was refused, and has to come first.
var ErrGap = errors.New("the records before these in their stream are not stored")

func (b *Batch) hasOffsets() bool { return b.Span.Stream != StreamID{} && b.Sender.Verified != "" }

// offset is a record's in a batch that has offsets.
func (b *Batch) offset(r *Record) uint64 {
	return b.Span.From + uint64(r.Seq-uint32(b.Span.From))
}

// place is up to which offset, exclusive, all of a stream is stored.
type place struct {
	id    StreamID
	of    *streams
	next  uint64
	used  uint64 // offsets.clock when it was last used
	dirty bool   // is in offsets.dirty
	// adopted: another collector said it, and nothing came of the stream here. Such places are in front of a name's others, and give way to them.
	adopted bool

	// The newest connection that moved it, and when its last batch was received.
	conn     uint64
	received time.Time
}

// streams are those of one name.
type streams struct {
	name string
	list []*place // the latest used last
}

// offsets is what is known of all streams; Journal.commitMu guards it, as it guards senders.
type offsets struct {
	names     map[string]*streams
	places    int // that are not adopted
	adopted   int // the other ones
	most      int // of each, maxPlaces but in tests
	clock     uint64
	dirty     []*place
	gone      []KV
	forgotten uint64
}

func newOffsets() *offsets { return &offsets{names: map[string]*streams{}, most: maxPlaces} }

func (o *offsets) find(name string, id StreamID) *place {
	x := o.names[name]
	if x == nil {
		return nil
	}
	for i := len(x.list) - 1; i >= 0; i-- {
		if p := x.list[i]; p.id == id {
			return p
		}
	}
	return nil
}

// get finds or makes a stream's place, and makes it the latest used one of its name.
func (o *offsets) get(name string, id StreamID) *place {
	o.clock++
	p := o.find(name, id)
	switch {
	case p == nil:
		p = o.add(name, id)
	case p != p.of.list[len(p.of.list)-1]:
		x := p.of
		x.list = append(slices.DeleteFunc(x.list, func(q *place) bool { return p == q }), p)
	}
	if p.adopted {
		o.room()
		p.adopted = false
		o.adopted--
		o.places++
	}
	p.used = o.clock
	return p
}

// adopt takes over up to where another collector has stored a stream. No place of this one's streams is given up for it.
func (o *offsets) adopt(name string, id StreamID, next uint64) {
	if p := o.find(name, id); p != nil {
		p.next = max(p.next, next)
		return
	}
	x := o.names[name]
	switch {
	case x != nil && len(x.list) >= maxStreams:
		if !x.list[0].adopted {
			return
		}
		o.remove(x.list[0])
	case o.adopted >= o.most:
		o.evict(true)
	}
	if x = o.names[name]; x == nil {
		x = &streams{name: name}
		o.names[name] = x
	}
	x.list = slices.Insert(x.list, 0, &place{id: id, of: x, next: next, adopted: true})
	o.adopted++
}

// add makes a place, for which older ones are forgotten where there are too many.
func (o *offsets) add(name string, id StreamID) *place {
	o.room()
	x := o.names[name]
	if x == nil {
		x = &streams{name: name}
		o.names[name] = x
	}
	if len(x.list) >= maxStreams {
		o.remove(x.list[0])
	}
	p := &place{id: id, of: x}
	x.list = append(x.list, p)
	o.places++
	return p
}

// room makes room for one more.
func (o *offsets) room() {
	for o.places >= o.most {
		o.evict(false)
	}
}

// evict forgets the longest unused of some names' streams, of the adopted or the other ones: the order of a map is random,
// so this is close to the longest unused of all.
func (o *offsets) evict(adopted bool) {
	var old *place
	n := 0
	for _, x := range o.names {
		i := slices.IndexFunc(x.list, func(p *place) bool { return p.adopted == adopted })
		if i >= 0 && (old == nil || x.list[i].used < old.used) {
			old = x.list[i]
		}
		if n++; n >= 64 && old != nil {
			break
		}
	}
	o.remove(old)
}

// remove forgets a stream.
func (o *offsets) remove(p *place) {
	x := p.of
	x.list = slices.DeleteFunc(x.list, func(q *place) bool { return p == q })
	if len(x.list) == 0 {
		delete(o.names, x.name)
	}
	if p.dirty {
		p.dirty = false
		o.dirty = slices.DeleteFunc(o.dirty, func(q *place) bool { return p == q })
	}
	if p.adopted {
		o.adopted--
	} else {
		o.gone = append(o.gone, KV{Key: p.key()})
		o.places--
		o.forgotten++
	}
	p.of = nil
}

// set says up to where a stream is stored.
func (o *offsets) set(p *place, next uint64) {
	p.next = next
	if !p.dirty && p.of != nil {
		p.dirty = true
		o.dirty = append(o.dirty, p)
	}
}

func (o *offsets) held(name string, id StreamID) uint64 {
	if p := o.find(name, id); p != nil {
		return p.next
	}
	return 0
}

// known is held, and whether it can't be that the stream was forgotten while its sender runs:
// of one name, that takes more streams that were used since than a host that states each
// minute that it lives can have begun.
func (o *offsets) known(name string, id StreamID) (next uint64, sure bool) {
	if p := o.find(name, id); p != nil {
		return p.next, true
	}
	return 0, o.places < o.most
}

// filter takes the records that are stored out of the batch, and moves its stream's place
// behind the others. set undoes it with what it returns, for the latest batch first. With
// an error nothing has changed.
func (o *offsets) filter(b *Batch) (p *place, was uint64, err error) {
	was = o.held(b.Sender.Verified, b.Span.Stream)
	if b.Span.From > max(was, b.Span.Floor) {
		return nil, 0, fmt.Errorf("%w: they begin at %d, %d is the next", ErrGap, b.Span.From, was)
	}
	p = o.get(b.Sender.Verified, b.Span.Stream)
	if b.Span.From < was {
		keep := b.Records[:0]
		for i := range b.Records {
			if r := &b.Records[i]; b.offset(r) < was {
				b.drop(r)
			} else {
				keep = append(keep, *r)
			}
		}
		b.Records = keep
		b.Span.From = min(was, b.Span.To)
	}
	if b.Span.To > was {
		o.set(p, b.Span.To)
		p.stamp(b)
	}
	return p, was, nil
}

// stamp keeps the receipts of a stream's records in their order: what an older connection
// had left in the queue may come behind what a newer one brought, and was received before.
func (p *place) stamp(b *Batch) {
	if b.Conn >= p.conn {
		p.conn, p.received = b.Conn, b.Received
	} else if b.Received.Before(p.received) {
		b.Received = p.received
	}
}

// observe remembers a committed batch. State that is newer stays.
func (o *offsets) observe(b *Batch) {
	if p := o.get(b.Sender.Verified, b.Span.Stream); p.next < b.Span.To {
		o.set(p, b.Span.To)
	}
}

func (p *place) key() []byte { return identity{name: p.of.name}.key(kindOffset, p.id[:]...) }

// changes appends what changed since the last call.
func (o *offsets) changes(out []KV) []KV {
	out = append(out, o.gone...)
	o.gone = nil
	for _, p := range o.dirty {
		out = append(out, KV{p.key(), binary.LittleEndian.AppendUint64([]byte{offsetVersion}, p.next)})
		p.dirty = false
	}
	clear(o.dirty)
	o.dirty = o.dirty[:0]
	return out
}

// load takes in what changes returned. Which stream was used last is not known: the order
// is that of the store.
func (o *offsets) load(name string, rest, v []byte) error {
	if name == "" || len(rest) != len(StreamID{}) || len(v) != offsetLen || v[0] != offsetVersion {
		return fmt.Errorf("%w: %s kind %q key %x, %d bytes", ErrSenders, name, kindOffset, rest, len(v))
	}
	o.get(name, StreamID(rest)).next = binary.LittleEndian.Uint64(v[1:])
	return nil
}
