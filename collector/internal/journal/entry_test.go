package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/event"
)

var batchCmp = cmp.Options{cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := &Batch{
			First: rapid.Uint64Range(1, 1<<60).Draw(t, "first"), Conn: rapid.Uint64().Draw(t, "conn"),
			Sender:  Sender{Node: rapid.String().Draw(t, "node"), Verified: rapid.OneOf(rapid.Just(""), rapid.String()).Draw(t, "verified")},
			Managed: rapid.Bool().Draw(t, "managed"), Carried: rapid.Bool().Draw(t, "carried"),
			Received: time.Unix(0, rapid.Int64().Draw(t, "ns")),
		}
		switch rapid.IntRange(0, 2).Draw(t, "peer") {
		case 0:
			b.Sender.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))), rapid.Uint16().Draw(t, "port"))
		case 1:
			b.Sender.Addr = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))), rapid.Uint16().Draw(t, "port"))
		}
		b.Sender.Transport = rapid.OneOf(rapid.Just(impliedTransport(b.Sender.Addr)), rapid.Map(rapid.Byte(), func(n byte) event.Transport { return event.Transport(n) })).Draw(t, "transport")
		if !b.Carried && rapid.Bool().Draw(t, "offsets") {
			b.Span = Span{Stream: StreamID{1}, From: rapid.Uint64Range(0, 1<<60).Draw(t, "from")}
			copy(b.Span.Stream[1:], rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "stream"))
			b.Span.To = b.Span.From + rapid.Uint64Range(0, MaxSpan).Draw(t, "span")
		}
		for range rapid.IntRange(0, 5).Draw(t, "records") {
			b.Records = append(b.Records, Record{Seq: rapid.Uint32().Draw(t, "seq"), Raw: rapid.SliceOf(rapid.Byte()).Draw(t, "raw")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "dropped") {
			b.Dropped = append(b.Dropped, Dropped{rapid.String().Draw(t, "node"), rapid.Uint64().Draw(t, "count")})
		}
		p := appendEntry(nil, b)
		got, err := decodeEntry(p)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b, got, batchCmp); d != "" {
			t.Fatal(d)
		}
		for i := range p {
			if _, err := decodeEntry(p[:i]); err == nil {
				t.Fatalf("cut at %d of %d is no error", i, len(p))
			}
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	for _, b := range []*Batch{
		exampleBatch(), verifiedExample(), {First: 1}, {First: 7, Dropped: []Dropped{{"n", 3}}}, {First: 9, Carried: true, Records: []Record{{1, []byte("x")}}},
		{First: 1, Sender: Sender{Node: "collector", Transport: event.TransportOwn}}, {First: 1, Sender: Sender{Transport: 99}},
		offsetsExample(),
	} {
		f.Add(appendEntry(nil, b))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := decodeEntry(p)
		if err != nil {
			return
		}
		q := appendEntry(nil, b)
		c, err := decodeEntry(q)
		if err != nil {
			t.Fatalf("encoded again: %v", err)
		}
		if d := cmp.Diff(b, c, batchCmp); d != "" {
			t.Fatal(d)
		}
	})
}

func exampleBatch() *Batch {
	return &Batch{
		First: 1000, Conn: 3, Sender: Sender{Addr: netip.MustParseAddrPort("192.0.2.7:60"), Node: "web1", Transport: event.TransportTCP}, Managed: true,
		Received: time.Unix(0, 1795337833779000000),
		Dropped:  []Dropped{{"web1", 1}},
		Records:  []Record{{OwnNumbering | 42, []byte("type=EOE")}, {OwnNumbering | 43, []byte("x")}},
	}
}

func verifiedExample() *Batch {
	b := exampleBatch()
	b.Sender.Verified, b.Carried, b.Dropped, b.Records = "web1.example.net", true, nil, b.Records[:1]
	return b
}

func offsetsExample() *Batch {
	return &Batch{
		First: 1000, Conn: 3, Managed: true, Received: time.Unix(0, 1795337833779000000),
		Sender:  Sender{Addr: netip.MustParseAddrPort("192.0.2.7:60"), Node: "web1", Transport: event.TransportGRPC, Verified: "web1"},
		Span:    Span{Stream: StreamID([]byte("0123456789abcdef")), From: 300, To: 303},
		Records: []Record{{300, []byte("type=EOE")}, {302, []byte("x")}},
	}
}

// TestFormatExample decodes the hex in FORMAT.md.
func TestFormatExample(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(doc), "```hex\n")[1:]
	examples := []*Batch{exampleBatch(), verifiedExample(), offsetsExample()}
	if len(blocks) != len(examples) {
		t.Fatalf("FORMAT.md has %d examples, want %d", len(blocks), len(examples))
	}
	for i, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		text := ""
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(line, "|")
			text += strings.Join(strings.Fields(line), "")
		}
		p, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEntry(p)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(examples[i], got, batchCmp); d != "" {
			t.Errorf("(-want +documented):\n%s", d)
		}
		if want := appendEntry(nil, examples[i]); !bytes.Equal(want, p) {
			t.Errorf("written now: %x\n documented: %x", want, p)
		}
	}
}

// A batch is written in the oldest version that can say it: what older programs can
// read, they shall.
func TestEntryVersion(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddrPort("192.0.2.7:60")
	for _, c := range []struct {
		b    Batch
		want byte
	}{
		{Batch{Sender: Sender{Addr: addr, Node: "web1", Transport: event.TransportTCP}}, entryVersion},
		{Batch{Sender: Sender{Addr: addr, Transport: event.TransportTCP}, Carried: true}, carriedVersion},
		{Batch{Sender: Sender{Node: "collector", Transport: event.TransportOwn}}, entryVersion},
		{Batch{Sender: Sender{Addr: addr, Verified: "web1", Transport: event.TransportTCP}}, senderVersion},
		{Batch{Sender: Sender{Addr: addr, Verified: "web1", Transport: event.TransportTCP}, Carried: true}, senderVersion},
		{Batch{Sender: Sender{Addr: addr, Transport: event.TransportTCP + 1}}, senderVersion},
		{Batch{Sender: Sender{Addr: addr, Verified: "web1", Transport: event.TransportGRPC}, Span: Span{Stream: StreamID{1}, To: 1}}, offsetsVersion},
	} {
		c.b.First, c.b.Received, c.b.Records = 1, time.Unix(1, 0), []Record{{Raw: []byte("x")}}
		p := appendEntry(nil, &c.b)
		if got, err := decodeEntry(p); err != nil || p[0] != c.want || !cmp.Equal(&c.b, got, batchCmp) {
			t.Errorf("%+v: version %d, want %d; read %+v, %v", c.b.Sender, p[0], c.want, got, err)
		}
		p[0] = offsetsVersion + 1
		if _, err := decodeEntry(p); !errors.Is(err, ErrVersion) {
			t.Errorf("of a later version: %v", err)
		}
		if p[0] = c.want; c.want >= senderVersion {
			p[1] |= 0x80
			if _, err := decodeEntry(p); !errors.Is(err, ErrVersion) {
				t.Errorf("a flag that is not known: %v", err)
			}
		}
	}
}
