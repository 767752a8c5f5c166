package api

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// maxText is the longest text of an event whose length fits into a message.
const maxText = 1<<31 - 1

// messageText is about the most bytes of texts in a message.
const messageText = 256 << 10

// sendTexts answers q with texts: all cores make messages of what the source finds, and out sends these in order.
func sendTexts(c *call, src query.TextSource, q *query.Query, packed bool, out func(fleet.SentTexts) error) error {
	return query.ScanTexts(c.ctx, q, src, func() func(query.Texts) ([]fleet.SentTexts, error) {
		p := textPacker{origins: q.Origin, packed: packed}
		return p.messages
	}, func(list []fleet.SentTexts) error {
		for _, msg := range list {
			if err := c.send(func() error { return out(msg) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// textPacker makes messages of texts. One goroutine uses it.
type textPacker struct {
	origins      bool // say who sent the events, and when they were received
	packed       bool // the caller takes compressed text
	text, packer []byte
}

// messages makes messages of some events. They have copies of these, or the bytes, which are anybody's to keep.
func (p *textPacker) messages(t query.Texts) (out []fleet.SentTexts, err error) {
	own, ok := t.(*store.Texts)
	if !ok {
		return nil, fmt.Errorf("texts of another kind: %T", t)
	}
	for list := own.List; len(list) > 0; {
		n, size := 0, 0
		for n < len(list) && (n == 0 || size+len(list[n].Text) <= messageText) {
			size += len(list[n].Text)
			n++
		}
		out = append(out, p.message(list[:n], size))
		list = list[n:]
	}
	return out, nil
}

// message makes a message of events whose texts have so many bytes together.
func (p *textPacker) message(list []store.Found, size int) fleet.SentTexts {
	if !p.packed || size < smallText {
		return fleet.SentTexts{Texts: toTexts(list, p.origins), Pieces: pieces(list)}
	}
	out := toTexts(list, p.origins)
	p.text = slices.Grow(p.text[:0], size)
	for _, piece := range pieces(list) {
		p.text = append(p.text, piece...)
	}
	p.packer = s2.Encode(p.packer[:cap(p.packer)], p.text)
	out.Packed = slices.Clone(p.packer)
	if len(p.text) > keptText { // of one event that is large
		p.text, p.packer = nil, nil
	}
	return fleet.SentTexts{Texts: out}
}

// pieces returns the texts of events.
func pieces(list []store.Found) (out [][]byte) {
	out = make([][]byte, 0, len(list))
	for i := range list {
		if text := list[i].Text; len(text) <= maxText { // as toTexts has it
			out = append(out, text)
		}
	}
	return out
}

// smallText is not worth to be compressed. keptText is up to what length memory is kept for the next message.
const (
	smallText = 512
	keptText  = 1 << 20
)

// toTexts makes a message of events, but for their texts.
func toTexts(list []store.Found, origins bool) *fleet.Texts {
	out := &fleet.Texts{Sizes: make([]uint32, 0, len(list)), Host: make([]uint32, 0, len(list))}
	hosts, senders := map[string]uint32{}, map[*event.Sender]uint32{}
	last, at := "", uint32(0) // most are of the host of the one before, or all are of a few
	for i := range list {
		f := &list[i]
		if len(f.Text) > maxText {
			continue // no event is so large
		}
		host := f.Host
		if host == "" {
			host = f.Node
		}
		if len(out.Hosts) == 0 || host != last {
			n, ok := hosts[host]
			if !ok {
				n = uint32(len(out.Hosts))
				hosts[host] = n
				out.Hosts = append(out.Hosts, []byte(host))
			}
			last, at = host, n
		}
		size := uint32(len(f.Text)) << 1
		if f.Counted {
			size |= 1
		}
		out.Sizes, out.Host = append(out.Sizes, size), append(out.Host, at)
		if !origins {
			continue
		}
		n := uint32(0)
		if f.From != nil {
			if n = senders[f.From]; n == 0 {
				out.Senders = append(out.Senders, toSender(f.From))
				n = uint32(len(out.Senders))
				senders[f.From] = n
			}
		}
		out.Sender = append(out.Sender, n)
		out.Receipts = appendReceipt(out.Receipts, f)
	}
	return out
}

// appendReceipt appends when the event's records were received.
func appendReceipt(dst []byte, f *store.Found) []byte {
	ms := f.Received
	if !f.ByTime {
		if ms == 0 {
			return append(dst, 1, 0) // that is not known
		}
		ms -= f.Ms
	}
	v := uint64(ms<<1) ^ uint64(ms>>63)
	if f.Later == "" {
		return binary.AppendUvarint(dst, v<<1)
	}
	dst = binary.AppendUvarint(dst, v<<1|1)
	dst = binary.AppendUvarint(dst, uint64(len(f.Later)))
	return append(dst, f.Later...)
}

// readReceipt is the reverse of appendReceipt, and returns the bytes behind it.
func readReceipt(f *store.Found, b []byte) ([]byte, error) {
	v, k := binary.Uvarint(b)
	if k <= 0 {
		return nil, fmt.Errorf("%w: receipts end early", errResponse)
	}
	b = b[k:]
	gap := v >> 1
	f.Received, f.ByTime = int64(gap>>1)^-int64(gap&1), true
	if v&1 == 0 {
		return b, nil
	}
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, fmt.Errorf("%w: receipts end early", errResponse)
	}
	if n == 0 {
		f.Received, f.ByTime = 0, false
	}
	f.Later = string(b[k : k+int(n)])
	return b[k+int(n):], nil
}

// received are Texts as they came from a collector. It trusts nothing.
type received struct {
	*fleet.SearchResponse
	store.Texts
	memory *textMemory // nil before Open, and when it is Done
}

// textMemory is what texts are unpacked into. A large answer has thousands of them.
type textMemory struct {
	text []byte
	list []store.Found
}

var textMemories = sync.Pool{New: func() any { return &textMemory{} }}

// Len implements query.Texts.
func (r *received) Len() int {
	return len(r.GetTexts().GetSizes()) + len(r.GetEvents().GetEvents())
}

// Open implements query.Texts.
func (r *received) Open() (err error) {
	r.memory = textMemories.Get().(*textMemory)
	if r.List, err = r.memory.open(r.SearchResponse.GetTexts()); err != nil {
		return err
	}
	err = unpack(r.GetEvents(), func(ev *event.Event) error { // the collector is older than texts
		r.List = append(r.List, store.FoundOf(ev))
		return nil
	})
	r.memory.list = r.List
	return err
}

// Done implements query.Texts.
func (r *received) Done() {
	if t := r.GetTexts(); t != nil { // its events are Done, too
		fleet.FreeText(t.Text)
		t.Text = nil
	}
	if r.memory != nil && cap(r.memory.text) <= keptText {
		textMemories.Put(r.memory)
	}
	r.memory, r.List = nil, nil
}

// unpack returns a message's text, which is the message's or in m.
func (m *textMemory) unpack(t *fleet.Texts) ([]byte, error) {
	if len(t.GetPacked()) == 0 {
		return t.GetText(), nil
	}
	size := uint64(0)
	for _, n := range t.GetSizes() {
		size += uint64(n >> 1)
	}
	if n, err := s2.DecodedLen(t.GetPacked()); err != nil || uint64(n) != size || size > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes of text in a block of another size", errResponse, size)
	}
	text, err := s2.Decode(m.text[:cap(m.text)], t.GetPacked())
	if err != nil {
		return nil, fmt.Errorf("%w: packed text: %w", errResponse, err)
	}
	m.text = text
	return text, nil
}

// open is the reverse of toTexts; it trusts nothing. The events refer to the message's bytes, or m's, and the list is m's.
func (m *textMemory) open(t *fleet.Texts) ([]store.Found, error) {
	senders, err := fromSenders(t.GetSenders())
	if err != nil {
		return nil, err
	}
	text, err := m.unpack(t)
	if err != nil {
		return nil, err
	}
	sizes, receipts := t.GetSizes(), t.GetReceipts()
	if len(t.GetHost()) != len(sizes) || len(t.GetSender()) != 0 && len(t.GetSender()) != len(sizes) {
		return nil, fmt.Errorf("%w: %d texts of %d hosts and %d senders", errResponse, len(sizes), len(t.GetHost()), len(t.GetSender()))
	}
	hosts := make([]string, len(t.GetHosts()))
	for i, h := range t.GetHosts() {
		hosts[i] = string(h)
	}
	clear(m.list)
	m.list = slices.Grow(m.list[:0], len(sizes))[:len(sizes)]
	list := m.list
	for i, size := range sizes {
		f, n, counted := &list[i], int(size>>1), size&1 != 0
		if n > len(text) || int(t.GetHost()[i]) >= len(hosts) {
			return nil, fmt.Errorf("%w: a text of %d bytes in %d, of host %d of %d", errResponse, n, len(text), t.GetHost()[i], len(hosts))
		}
		f.Host, f.Text, f.Counted = hosts[t.GetHost()[i]], text[:n:n], counted
		if f.Node, text = f.Host, text[n:]; !wellFormed(f.Text, counted) {
			return nil, fmt.Errorf("%w: a text of %d bytes", errResponse, n)
		}
		if len(t.GetSender()) == 0 {
			continue
		}
		if n := t.GetSender()[i]; uint64(n) > uint64(len(senders)) {
			return nil, fmt.Errorf("%w: sender %d of %d", errResponse, n, len(senders))
		} else if n > 0 {
			f.From = &senders[n-1]
		}
		if receipts, err = readReceipt(f, receipts); err != nil {
			return nil, err
		}
	}
	if len(text) > 0 || len(receipts) > 0 {
		return nil, fmt.Errorf("%w: %d bytes of text and %d of receipts too many", errResponse, len(text), len(receipts))
	}
	return list, nil
}

// wellFormed reports whether b is one event's text and nothing else: an event has a record, which who reads it relies on. Of a plain one its
// ends are looked at: wherever its lines end, they are read as records.
func wellFormed(b []byte, counted bool) bool {
	if !counted {
		return len(b) > 2 && b[0] != '\n' && b[len(b)-1] == '\n' && b[len(b)-2] == '\n'
	}
	n, _ := binary.Uvarint(b)
	_, rest, err := store.CutText(b, true)
	return err == nil && n > 0 && len(rest) == 0
}
