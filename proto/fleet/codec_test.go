package fleet

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec to compare with
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// inPieces is a message as it comes from a transport.
func inPieces(b []byte, size int) (out mem.BufferSlice) {
	for len(b) > 0 {
		n := min(len(b), size)
		out = append(out, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return out
}

// Texts that are sent without being copied are the message that any codec makes and reads.
func TestCodecOfTexts(t *testing.T) {
	t.Parallel()
	other := encoding.GetCodecV2("proto")
	for _, size := range []int{0, 1, LargeText - 1, LargeText, LargeText + 1, 200_000, maxPooled, 3 << 20} {
		for _, sizes := range [][]uint32{nil, {7, 8}} {
			want := &SearchResponse{Texts: &Texts{Sizes: sizes, Hosts: [][]byte{[]byte("a")}, Host: []uint32{0, 0}, Receipts: []byte{1}, Senders: []*Sender{{Address: "::1"}}, Sender: []uint32{1, 0}, Packed: []byte("p")}}
			if sizes == nil {
				want.Texts = &Texts{}
			}
			text := bytes.Repeat([]byte("x"), size)
			if want.Texts.Text = bytes.Clone(text); size == 0 {
				want.Texts.Text = nil
			}
			sent := proto.CloneOf(want)
			sent.Texts.Text = text[: size/3 : size/3]
			data, err := Codec{}.Marshal(SentTexts{Texts: sent.Texts, Pieces: [][]byte{text[size/3 : size/2], text[size/2:]}})
			if err != nil {
				t.Fatal(err)
			}
			b := data.Materialize()
			data.Free()
			for _, piece := range []int{1 << 14, 1 << 24, 7 << 10} {
				for _, c := range []encoding.CodecV2{other, Codec{}} {
					got := &SearchResponse{}
					if err := c.Unmarshal(inPieces(b, piece), got); err != nil {
						t.Fatal(err)
					}
					if !proto.Equal(want, got) {
						t.Errorf("%d bytes by %T in pieces of %d: %.1000v", size, c, piece, got)
					}
				}
			}
		}
	}
}

// A message that only looks like one of texts is read as any codec reads it.
func TestCodecOfOthers(t *testing.T) {
	t.Parallel()
	other := encoding.GetCodecV2("proto")
	text := bytes.Repeat([]byte("y"), LargeText)
	first, err := proto.Marshal(&SearchResponse{Texts: &Texts{Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := proto.Marshal(&Texts{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	twice := append(bytes.Clone(inner), inner[:len(inner)-1]...)
	for name, b := range map[string][]byte{
		"two of them": append(bytes.Clone(first), first...), "cut short": first[:len(first)-1], "of more": append(bytes.Clone(first), 0x0a, 0),
		"events": bytes.Repeat([]byte{0x52, 0}, LargeText), "no field": bytes.Repeat([]byte{0xff}, LargeText), "text cut short": append([]byte{0x5a, 0x81, 0x80, 0x02}, twice...),
		"text twice": append([]byte{0x5a, 0x88, 0x80, 0x02}, append(bytes.Clone(inner), inner...)[:LargeText*2+8]...),
	} {
		want, got := &SearchResponse{}, &SearchResponse{}
		wrong, err := other.Unmarshal(inPieces(b, 1<<14), want), Codec{}.Unmarshal(inPieces(b, 1<<14), got)
		if (wrong == nil) != (err == nil) {
			t.Errorf("%s: %v, not %v", name, err, wrong)
		} else if err == nil && !proto.Equal(want, got) {
			t.Errorf("%s: %.1000v", name, got)
		}
	}
}

// FuzzUnmarshal: whatever comes is what any other codec makes of it, or an error, and never a panic.
func FuzzUnmarshal(f *testing.F) {
	text := bytes.Repeat([]byte("x"), LargeText)
	for _, s := range []SentTexts{{Texts: &Texts{Text: text}}, {Texts: &Texts{Sizes: []uint32{1}}, Pieces: [][]byte{text}, Of: &Piece{Next: 7}}} {
		data, err := Codec{}.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		b := data.Materialize()
		f.Add(b[:100], b[len(b)-20:], uint16(LargeText))
	}
	f.Add([]byte{0x5a, 0, 0x0a, 0x80, 0x80, 1}, []byte{}, uint16(LargeText))
	f.Add([]byte{0x5a, 0, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f}, []byte{}, uint16(LargeText))
	f.Fuzz(func(t *testing.T, head, tail []byte, fill uint16) {
		b := slices.Concat(head, bytes.Repeat([]byte("x"), int(fill)), tail)
		var got, want SearchResponse
		err := Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, &got)
		if bad := proto.Unmarshal(b, &want); (bad != nil) != (err != nil) || err == nil && !proto.Equal(&got, &want) {
			t.Errorf("%v, and %v of any other codec", err, bad)
		}
	})
}
