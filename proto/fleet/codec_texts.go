package fleet

import (
	"bytes"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Texts that are not packed are most of what is sent of a large answer over a machine's own socket. So the codec has a way for them on which
// they are copied neither into a message nor out of it, but once each to and from the transport. The bytes are those of any other codec.

// LargeText is from what length on a text goes that way.
const LargeText = 16 << 10

// Numbers of fields.
const (
	fieldTexts = 11 // of SearchResponse
	fieldText  = 1  // of Texts
)

// FreeText gives the memory of a text back that a Codec has made. Nobody may have parts of it any more.
func FreeText(text []byte) {
	if cap(text) > 0 {
		text = text[:0]
		memory.Put(&text)
	}
}

// SentTexts is a SearchResponse of texts to be sent. Their text is Texts.Text, which nobody uses any more once it is marshalled, and behind it
// Pieces, which stay as they are.
type SentTexts struct {
	Texts  *Texts
	Pieces [][]byte
	Of     *Piece // the texts are those of a piece of the answer; nil: of all of it, in order
}

// marshalTexts encodes a SearchResponse of s.
func marshalTexts(s SentTexts) (mem.BufferSlice, error) {
	t, size := s.Texts, len(s.Texts.GetText())
	for _, p := range s.Pieces {
		size += len(p)
	}
	rest := &Texts{Sizes: t.GetSizes(), Hosts: t.GetHosts(), Host: t.GetHost(), Senders: t.GetSenders(), Sender: t.GetSender(), Receipts: t.GetReceipts(), Packed: t.GetPacked()}
	if size < LargeText {
		rest.Text = append(t.GetText(), bytes.Join(s.Pieces, nil)...)
		return marshal(&SearchResponse{Texts: rest, Pieces: s.of()})
	}
	behind, err := marshal(rest)
	if err != nil {
		return nil, err
	}
	of, err := marshal(&SearchResponse{Pieces: s.of()})
	if err != nil {
		return nil, err
	}
	head := memory.Get(64)
	b := protowire.AppendTag((*head)[:0], fieldTexts, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldText)+protowire.SizeBytes(size)+behind.Len()))
	b = protowire.AppendTag(b, fieldText, protowire.BytesType)
	*head = protowire.AppendVarint(b, uint64(size))
	out := append(make(mem.BufferSlice, 0, len(s.Pieces)+3), mem.NewBuffer(head, memory))
	if len(t.GetText()) > 0 {
		out = append(out, mem.SliceBuffer(t.GetText()))
	}
	for _, p := range s.Pieces {
		out = append(out, mem.SliceBuffer(p))
	}
	return append(append(out, behind...), of...), nil
}

func (s SentTexts) of() []*Piece {
	if s.Of == nil {
		return nil
	}
	return []*Piece{s.Of}
}

// marshal encodes a message into memory that is used again.
func marshal(m proto.Message) (mem.BufferSlice, error) {
	buf := memory.Get(proto.Size(m))
	out, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buf)[:0], m)
	if err != nil {
		memory.Put(buf)
		return nil, err
	}
	*buf = out
	return mem.BufferSlice{mem.NewBuffer(buf, memory)}, nil
}

// unmarshalTexts decodes a message as marshalTexts makes them, with the text in memory for FreeText. False: it is another one.
func unmarshalTexts(data mem.BufferSlice, to *SearchResponse) (ok bool, err error) {
	if len(data) == 0 || data.Len() < LargeText {
		return false, nil
	}
	b := data[0].ReadOnlyData()
	head := 0
	number := func(field protowire.Number) (v uint64, ok bool) {
		num, kind, n := protowire.ConsumeTag(b[head:])
		if n < 0 || num != field || kind != protowire.BytesType {
			return 0, false
		}
		v, k := protowire.ConsumeVarint(b[head+n:])
		head += n + k
		return v, k >= 0
	}
	all, ok := number(fieldTexts)
	if !ok || all > uint64(data.Len()-head) {
		return false, nil
	}
	other := data.Len() - head - int(all) // bytes of other fields
	size, ok := number(fieldText)
	if rest := data.Len() - head - other; !ok || rest < 0 || size < LargeText || size > uint64(rest) {
		return false, nil
	}
	text := memory.Get(int(size))
	r := data.Reader()
	defer func() { _ = r.Close() }() // it gives buffers back, and has no error
	if _, err := r.Discard(head); err != nil {
		return false, err
	}
	if _, err := r.Read(*text); err != nil {
		return false, err
	}
	behind := memory.Get(r.Remaining())
	defer memory.Put(behind)
	if n, err := r.Read(*behind); n < len(*behind) {
		return false, fmt.Errorf("%d bytes of %d: %w", n, len(*behind), err)
	}
	proto.Reset(to)
	t, cut := &Texts{}, len(*behind)-other
	if err := proto.Unmarshal((*behind)[:cut], t); err != nil {
		return false, err
	}
	if err := proto.Unmarshal((*behind)[cut:], to); err != nil {
		return false, err
	}
	if to.Texts != nil { // texts may come twice, and are merged then
		memory.Put(text)
		return false, nil
	}
	if t.Text != nil { // a field may come twice: the last one counts
		memory.Put(text)
	} else {
		t.Text = *text
	}
	to.Texts = t
	return true, nil
}
