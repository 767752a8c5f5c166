package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleLeaf() *Leaf {
	return &Leaf{
		Kind: Batch, Store: [16]byte{1, 2, 3}, At: 1763805600000, Part: "2026-11-22.2", Batch: 7, First: 900, Last: 1000, Open: 2, Size: 4711,
		Hash: [32]byte{9, 8, 7}, MinMs: -5, MaxMs: 1763805599000, Events: 12, Records: 40,
		Hosts: []HostCount{{"", 1, 1}, {"web1", 5, 20}, {"web10", 6, 19}}, AllHosts: 5, EventsRoot: [32]byte{1},
	}
}

// pieceLeaf is one whose hash is over pieces.
func pieceLeaf() *Leaf {
	l := sampleLeaf()
	l.Pieces, l.EventsRoot = 40, [32]byte{}
	return l
}

func TestLeaf(t *testing.T) {
	for _, want := range []*Leaf{
		sampleLeaf(), pieceLeaf(),
		{Kind: Dropped, Part: "2026-11-22", First: 1, Last: 7, Groups: 7, Events: 100, Why: "dropped"},
		{Kind: Begun, Batch: 12, Why: "a store of version 4"},
		{Kind: Rewound, First: 3, Batch: 12}, {Kind: Accepted, Why: "restored from a backup", Size: 10, Hash: [32]byte{1}},
	} {
		got, err := ParseLeaf(want.Encode())
		if err != nil {
			t.Fatalf("%v: %v", want.Kind, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%v: %s", want.Kind, d)
		}
	}
}

// A leaf names all hosts of a large group, and eight at least of a small one, the first by name.
func TestLeafNames(t *testing.T) {
	for _, tt := range []struct{ size, hosts, want int }{{0, 3, 3}, {0, 20, 8}, {200 << 10, 100, 20}, {10 << 20, 1000, 1000}} {
		l := &Leaf{Kind: Batch, Size: uint64(tt.size)}
		for i := range tt.hosts {
			l.Name(fmt.Sprintf("web%04d", i), 1, 2)
		}
		got, err := ParseLeaf(l.Encode())
		if err != nil || got.AllHosts != uint64(tt.hosts) || len(got.Hosts) != tt.want || got.Hosts[tt.want-1].Name != fmt.Sprintf("web%04d", tt.want-1) {
			t.Errorf("%d hosts in %d bytes: %d of %d named, %v", tt.hosts, tt.size, len(l.Hosts), l.AllHosts, err)
		}
	}
}

func TestLeafRefused(t *testing.T) {
	good := sampleLeaf().Encode()
	for n := range good {
		if _, err := ParseLeaf(good[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := ParseLeaf(append(good[:len(good):len(good)], 0)); !errors.Is(err, ErrDamaged) {
		t.Error("a byte more was read:", err)
	}
	newer := append([]byte{rewrittenVersion + 1}, good[1:]...)
	if _, err := ParseLeaf(newer); !errors.Is(err, ErrVersion) {
		t.Error("a newer leaf:", err)
	}
}

// A leaf as collectors wrote it before there were hashes over pieces is read for ever.
func TestLeafOfVersion1(t *testing.T) {
	text, err := hex.DecodeString(leafOfVersion1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseLeaf(text)
	if err != nil || l.Pieces != 0 || l.Batch != 2 || l.Size != 2466 || l.Hash[0] != 0x63 || l.Events != 58 || len(l.Hosts) != 3 || l.EventsRoot[0] != 0xd2 {
		t.Errorf("%+v, %v", l, err)
	}
	if string(l.Encode()) != string(text) {
		t.Error("it is written otherwise")
	}
	// One leaf has one text: a version that does not say what its hash is of is refused.
	for what, b := range map[string][]byte{
		"pieces of none": append([]byte{pieceVersion}, text[1:]...), "of version 1 with pieces": append([]byte{flatVersion}, pieceLeaf().Encode()[1:]...),
		"another kind": append([]byte{pieceVersion}, (&Leaf{Kind: Dropped, Groups: 7}).Encode()[1:]...),
	} {
		if l, err := ParseLeaf(b); err == nil && (l.Pieces > 0 || b[0] == pieceVersion) {
			t.Errorf("%s: %+v", what, l)
		}
	}
}

const leafOfVersion1 = "010164c5cef3e946a62a1fee224535664f418edfbfd2a2340a323032362d31312d3330022f68000000a213633835552f110ce30e839100dd15f700da09b789f14afa668f9031b70893" +
	"2b9e00c2a89bffbc313a3a0303000364623112120004776562311717030132111100d2293ffefde1ba2d0b7436b328376801ce5fe80427bcbf5793d7b06cea713316"

func FuzzParseLeaf(f *testing.F) {
	f.Add(sampleLeaf().Encode())
	f.Add(pieceLeaf().Encode())
	f.Add((&Leaf{Kind: Accepted, Why: "x"}).Encode())
	f.Add(rewrittenLeaf().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLeaf(b)
		if err == nil && string(l.Encode()) != string(b) {
			t.Fatalf("%+v has two texts", l)
		}
	})
}
