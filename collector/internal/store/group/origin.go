package group

import (
	"encoding/binary"
	"net/netip"
	"sort"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Who sent the events of a group, and when they were received, lies in two sections of
// their own: only a query that asks for it reads them. Both have the form of a
// dictionary, with other things in its three parts:
//
//	senders   values: the senders; keys: each one's transport, address and name;
//	          postings: runs of events of one sender, in order of their ordinals
//	receipts  values: 1 where they are told from the event's time, else 0; keys: the
//	          length of each block's; postings: these
//
// An event's receipt is stored as its difference from that of the event before it in the
// block, times two, plus one where its records were received at different times. What comes
// in a stream is received soon after it happened, so its receipts less its times vary
// little; what comes after an outage is received all at once, so the receipts themselves
// vary little. Encode tries both and keeps the shorter.
const receiptsByTime = 1

// run is a run of events of one sender. It ends where the next run begins, the last one
// with the group.
type run struct {
	first  uint32 // ordinal
	sender uint32 // from 1 on; 0: not known
}

// origins encodes both sections for the builder's events.
func (c *Codec) origins(b *builder) (senders, receipts []byte) {
	numbers := map[event.Sender]uint64{} // from 1, as they first occur
	var keys, runs []byte
	last, events := uint64(0), uint64(0) // the run that is not flushed yet: its sender, its events
	flush := func() {
		if events > 0 {
			runs = binary.AppendUvarint(binary.AppendUvarint(runs, last), events)
		}
	}
	for i := range b.origins {
		n := uint64(0)
		if from := b.origins[i].From; from != nil {
			if n = numbers[*from]; n == 0 {
				n = uint64(len(numbers) + 1)
				numbers[*from] = n
				keys = appendSender(keys, from)
			}
		}
		if n != last {
			flush()
			last, events = n, 0
		}
		events++
	}
	flush()
	senders = c.dictBody(len(numbers), keys, runs)
	for byTime := range 2 {
		if body := c.receipts(b, byTime); receipts == nil || len(body) < len(receipts) {
			receipts = body
		}
	}
	return senders, receipts
}

// receipts encodes the section of receipts: with byTime 1 counted from each event's own
// time, with 0 from 1970.
func (c *Codec) receipts(b *builder, byTime int) []byte {
	var lens, all []byte
	for i := range b.blocks {
		blk := &b.blocks[i]
		from, before := len(all), int64(0)
		for ord := blk.First; ord < blk.First+blk.Events; ord++ {
			o := &b.origins[ord]
			at := o.Received
			if byTime != 0 {
				at -= b.times[ord]
			}
			all = appendReceipt(all, at-before, o.Later)
			before = at
		}
		lens = binary.AppendUvarint(lens, uint64(len(all)-from))
	}
	return c.dictBody(byTime, lens, all)
}

// appendReceipt appends an event's receipt, gap after that of the event before.
func appendReceipt(dst []byte, gap int64, later string) []byte {
	v := uint64(gap)<<1 ^ uint64(gap>>63) // zigzag: small for small gaps of either sign
	if later == "" {
		return binary.AppendUvarint(dst, v<<1)
	}
	dst = binary.AppendUvarint(dst, v<<1|1)
	dst = binary.AppendUvarint(dst, uint64(len(later)))
	return append(dst, later...)
}

// appendSender appends a sender: transport, length of the address, address, and the name
// that it proved with its length in front.
func appendSender(dst []byte, s *event.Sender) []byte {
	var addr []byte
	if s.Addr.IsValid() {
		addr = s.Addr.AsSlice()
	}
	dst = append(dst, byte(s.Transport), byte(len(addr)))
	dst = append(dst, addr...)
	dst = binary.AppendUvarint(dst, uint64(len(s.Host)))
	return append(dst, s.Host...)
}

// Origins says who sent a group's events and when they were received. It holds none of
// the group's bytes. Once made it never changes, so any number of goroutines may read it,
// each with OriginReaders of its own.
type Origins struct {
	senders []event.Sender
	runs    []run // the first begins at ordinal 0; together they cover all events
	byTime  bool
	parts   parts // the receipts of each block
}

// senders reads the section of senders; nil when there is none. Its receipts are not
// set.
func (g *Group) senders() (*Origins, error) {
	b, err := g.section(secSenders, 0)
	if b == nil || err != nil {
		return nil, err
	}
	d, keys, err := g.c.splitDict(b)
	if err != nil {
		return nil, err
	}
	o := &Origins{senders: make([]event.Sender, d.n)}
	for i := range o.senders {
		if keys, err = readSender(&o.senders[i], keys); err != nil {
			return nil, err
		}
	}
	runs, err := g.c.unpack(d.posts, d.packed, d.size)
	if err != nil {
		return nil, err
	}
	// The runs must cover all events, without holes: OriginReader relies on it.
	r := varint.NewReader(runs)
	at := uint64(0)
	for r.Len() > 0 {
		sender, events := r.Uvarint(), r.Uvarint()
		if sender > uint64(d.n) || events == 0 || events > g.Summary.Events-at {
			return nil, damaged("events from %d on of sender %d of %d", at, sender, d.n)
		}
		o.runs = append(o.runs, run{uint32(at), uint32(sender)})
		at += events
	}
	if r.Bad() || at != g.Summary.Events {
		return nil, damaged("senders of %d events of %d", at, g.Summary.Events)
	}
	return o, nil
}

// readSender is the reverse of appendSender, and returns the bytes behind it.
func readSender(s *event.Sender, b []byte) ([]byte, error) {
	if len(b) < 2 || len(b)-2 < int(b[1]) {
		return nil, damaged("a sender")
	}
	n := int(b[1])
	addr, ok := netip.AddrFromSlice(b[2 : 2+n])
	if !ok && n > 0 {
		return nil, damaged("a sender's address of %d bytes", n)
	}
	s.Transport, s.Addr, b = event.Transport(b[0]), addr, b[2+n:]
	name, k := binary.Uvarint(b)
	if k <= 0 || name > uint64(len(b)-k) {
		return nil, damaged("a sender's name")
	}
	s.Host = string(b[k : k+int(name)])
	return b[k+int(name):], nil
}

// Origins reads who sent the group's events and when they were received. It is nil,
// without an error, for a group of version 1, which has neither.
func (g *Group) Origins() (*Origins, error) { return g.origins(nil) }

// OriginsFor is Origins for the events of some blocks only.
func (g *Group) OriginsFor(cands []Candidate) (*Origins, error) { return g.origins(g.chunksOf(cands)) }

func (g *Group) origins(want []bool) (*Origins, error) {
	o, err := g.senders()
	if o == nil || err != nil {
		return nil, err
	}
	b, err := g.section(secReceipt, 0)
	if err != nil {
		return nil, err
	}
	if g.version > batchVersion {
		r := varint.NewReader(b)
		o.byTime = r.Uvarint() == receiptsByTime
		o.parts, err = g.readChunks(&r, want, func(int, []byte) error { return nil })
		return o, err
	}
	d, lens, err := g.c.splitDict(b)
	if err != nil {
		return nil, err
	}
	o.byTime = d.n == receiptsByTime
	all, err := g.c.unpack(d.posts, d.packed, d.size)
	if err != nil {
		return nil, err
	}
	r := varint.NewReader(lens)
	c, err := readParts(&r, all, g.numBlocks())
	if err != nil {
		return nil, err
	}
	o.parts = parts{per: max(1, g.numBlocks()), chunks: []partChunk{c}}
	return o, nil
}

// addFrom adds the events of the senders that a query asks for to set.
func (o *Origins) addFrom(q *query.Query, set bitset, events uint32) {
	want := make([]bool, len(o.senders)+1)
	for i := range o.senders {
		want[i+1] = q.IsFrom(&o.senders[i])
	}
	for i, r := range o.runs {
		end := events
		if i+1 < len(o.runs) {
			end = o.runs[i+1].first
		}
		if want[r.sender] {
			set.fill(r.first, end)
		}
	}
}

// matchSenders returns the events of the senders that a query asks for; none where the group
// does not say who sent its events.
func (g *Group) matchSenders(q *query.Query) (bitset, error) {
	set := newBitset(int(g.Summary.Events))
	o, err := g.senders()
	if o == nil || err != nil {
		return set, err
	}
	o.addFrom(q, set, uint32(g.Summary.Events))
	return set, nil
}

// Block returns a reader of the origins of a block's events; index is the block's in the
// group. A nil receiver is allowed: its reader says of each event that nothing is known.
func (o *Origins) Block(index int, b *Block) OriginReader {
	if o == nil {
		return OriginReader{}
	}
	part, ok := o.parts.of(index)
	if !ok {
		return OriginReader{}
	}
	i := sort.Search(len(o.runs), func(i int) bool { return o.runs[i].first > b.First })
	return OriginReader{o: o, ord: b.First, run: i - 1, all: varint.NewReader(part)}
}

// OriginReader reads the origins of a block's events, each once and in order. It is for
// one goroutine.
type OriginReader struct {
	o   *Origins
	ord uint32        // of the next event
	run int           // that has it, or the one before
	all varint.Reader // the block's receipts that are still to be read
	at  int64         // the receipt of the event before
}

// Next returns the origin of the next event. It must be called for every event of the
// block, also for those that are passed over: a receipt counts from the one before. From is
// shared by all events of the sender.
func (r *OriginReader) Next() (out store.Origin) {
	o := r.o
	if o == nil {
		return out
	}
	for r.run+1 < len(o.runs) && o.runs[r.run+1].first <= r.ord {
		r.run++
	}
	if n := o.runs[r.run].sender; n > 0 {
		out.From = &o.senders[n-1]
	}
	r.ord++
	v := r.all.Uvarint()
	gap := v >> 1
	r.at += int64(gap>>1) ^ -int64(gap&1)
	out.Received, out.ByTime = r.at, o.byTime
	if v&1 != 0 {
		out.Later = string(r.all.Bytes(r.all.Uvarint()))
	}
	return out
}
