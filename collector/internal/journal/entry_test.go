package journal

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var batchCmp = cmp.Options{cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Batch{
			First: rapid.Uint64Range(1, 1<<60).Draw(t, "first"), Conn: rapid.Uint64().Draw(t, "conn"),
			Host: rapid.String().Draw(t, "host"), Managed: rapid.Bool().Draw(t, "managed"), Carried: rapid.Bool().Draw(t, "carried"),
			Received: time.Unix(0, rapid.Int64().Draw(t, "ns")),
		}
		switch rapid.IntRange(0, 2).Draw(t, "peer") {
		case 0:
			b.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))), rapid.Uint16().Draw(t, "port"))
		case 1:
			b.Peer = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))), rapid.Uint16().Draw(t, "port"))
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
	for _, b := range []*Batch{exampleBatch(), {First: 1}, {First: 7, Dropped: []Dropped{{"n", 3}}}, {First: 9, Carried: true, Records: []Record{{1, []byte("x")}}}} {
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
		First: 1000, Conn: 3, Peer: netip.MustParseAddrPort("192.0.2.7:60"), Host: "web1", Managed: true,
		Received: time.Unix(0, 1795337833779000000),
		Dropped:  []Dropped{{"web1", 1}},
		Records:  []Record{{OwnNumbering | 42, []byte("type=EOE")}, {OwnNumbering | 43, []byte("x")}},
	}
}

// TestFormatExample decodes the hex in FORMAT.md.
func TestFormatExample(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := bytes.Cut(doc, []byte("```hex\n"))
	if !ok {
		t.Fatal("FORMAT.md has no hex example")
	}
	block, _, _ := strings.Cut(string(rest), "```")
	text := ""
	for _, line := range strings.Split(block, "\n") {
		line, _, _ = strings.Cut(line, "|")
		text += strings.ReplaceAll(line, " ", "")
	}
	p, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEntry(p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(exampleBatch(), got, batchCmp); d != "" {
		t.Errorf("(-want +documented):\n%s", d)
	}
	if want := appendEntry(nil, exampleBatch()); !bytes.Equal(want, p) {
		t.Errorf("written now: %x\n documented: %x", want, p)
	}
}
