package seal

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// rewrittenLeaf is one of two partitions that went into two.
func rewrittenLeaf() *Leaf {
	return &Leaf{
		Kind: Rewritten, Store: [16]byte{1, 2, 3}, At: 1763805600000, First: 3, Last: 9, MinMs: -5, MaxMs: 1763805599000, Events: 30, Records: 80,
		Sources: []Source{{"2026-11-22", 3, 8, 5, 20, 60}, {"2026-11-22.2", 9, 9, 1, 10, 20}},
		Made: []Made{
			{"2026-11-22.3", []MadeGroup{
				{3, 9, 4711, 40, [32]byte{9}, -5, 1763805599000, 20, 60},
				{4, 4, 99, 12, [32]byte{8}, 1, 2, 7, 10},
			}, []HostCount{{"web1", 5, 20}, {"web10", 22, 50}}},
			{"2026-11-21.2", []MadeGroup{{3, 3, 100, 9, [32]byte{7}, 5, 5, 3, 10}}, []HostCount{{"", 3, 10}}},
		},
	}
}

func testKey(t *testing.T, name string) (note.Signer, note.Verifiers) {
	t.Helper()
	secret, public, err := checkpoint.Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := checkpoint.ReadSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	v, err := checkpoint.ReadVerifiers(public)
	if err != nil {
		t.Fatal(err)
	}
	return s, note.VerifierList(v...)
}

func TestRewrittenLeaf(t *testing.T) {
	signer, keys := testKey(t, "logs.example.com")
	want := rewrittenLeaf()
	for _, vouched := range []bool{false, true} {
		if vouched {
			if err := want.Vouch(signer); err != nil {
				t.Fatal(err)
			}
		}
		text := want.Encode()
		got, err := ParseLeaf(text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if text[0] != rewrittenVersion || got.VouchedBy(keys) != vouched || got.VouchedBy(nil) {
			t.Errorf("version %d, vouched for: %v, and without keys: %v", text[0], got.VouchedBy(keys), got.VouchedBy(nil))
		}
		for n := range text {
			if _, err := ParseLeaf(text[:n]); !errors.Is(err, ErrDamaged) {
				t.Fatalf("cut to %d bytes: %v", n, err)
			}
		}
	}
	events, records := want.Made[0].Counts()
	first, last, minMs, maxMs := want.Made[0].Span()
	if events != 27 || records != 70 || first != 3 || last != 9 || minMs != -5 || maxMs != 1763805599000 {
		t.Error(events, records, first, last, minMs, maxMs)
	}
}

// Who vouches for a leaf vouches for every byte of it, and is one with that very key.
func TestVoucher(t *testing.T) {
	signer, keys := testKey(t, "logs.example.com")
	_, others := testKey(t, "logs.example.com")
	good := rewrittenLeaf()
	if err := good.Vouch(signer); err != nil {
		t.Fatal(err)
	}
	if good.VouchedBy(others) {
		t.Error("another key of that name vouches for it")
	}
	for what, change := range map[string]func(l *Leaf){
		"a source":  func(l *Leaf) { l.Sources[0].Part = "2026-11-20" },
		"a count":   func(l *Leaf) { l.Made[0].Groups[0].Events-- },
		"a hash":    func(l *Leaf) { l.Made[1].Groups[0].Hash[31] ^= 1 },
		"a host":    func(l *Leaf) { l.Made[0].Hosts[1].Name = "web11" },
		"the store": func(l *Leaf) { l.Store[0] ^= 1 },
		"the time":  func(l *Leaf) { l.At++ },
		"no key":    func(l *Leaf) { l.Voucher.Name = "" },
		"the sum":   func(l *Leaf) { l.Voucher.Sig[3] ^= 1 },
	} {
		l, err := ParseLeaf(good.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !l.VouchedBy(keys) {
			t.Fatal("the leaf is not vouched for")
		}
		if change(l); l.VouchedBy(keys) {
			t.Errorf("%s was changed, and it is still vouched for", what)
		}
	}
}

func TestRewrittenRefused(t *testing.T) {
	for what, change := range map[string]func(l *Leaf){
		"of nothing":   func(l *Leaf) { l.Sources = nil },
		"into nothing": func(l *Leaf) { l.Made = nil },
	} {
		l := rewrittenLeaf()
		change(l)
		if _, err := ParseLeaf(l.Encode()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	text := rewrittenLeaf().Encode()
	for _, version := range []byte{flatVersion, pieceVersion} {
		if _, err := ParseLeaf(append([]byte{version}, text[1:]...)); !errors.Is(err, ErrDamaged) {
			t.Errorf("as version %d: %v", version, err)
		}
	}
	if _, err := ParseLeaf(append([]byte{rewrittenVersion}, sampleLeaf().Encode()[1:]...)); !errors.Is(err, ErrDamaged) {
		t.Error("another kind of that version:", err)
	}
}

// A leaf of what was written again moves the tree's place among batches nowhere: batches behind it are found, and a process that
// died leaves it there once, or twice.
func TestTreeWithRewritten(t *testing.T) {
	tree, o := makeTree(t, fsys.OS, 2)
	again := rewrittenLeaf()
	for _, l := range []*Leaf{again, again, leafOf(3)} {
		if err := tree.Append(l); err != nil {
			t.Fatal(err)
		}
	}
	if tree.LastBatch() != 3 || tree.Size() != 6 {
		t.Errorf("last batch %d of %d leaves", tree.LastBatch(), tree.Size())
	}
	for id := uint64(1); id <= 3; id++ {
		if _, text, err := tree.Find(id); err != nil {
			t.Errorf("batch %d: %v", id, err)
		} else if l, err := ParseLeaf(text); err != nil || l.Kind != Batch || l.Batch != id {
			t.Errorf("batch %d: %+v, %v", id, l, err)
		}
	}
	n := 0
	if err := tree.After(2, func(l *Leaf) bool {
		if l.Kind == Rewritten {
			n++
		}
		return true
	}); err != nil || n != 2 {
		t.Errorf("%d leaves behind batch 2, %v", n, err)
	}
	if size, wrong, err := Check(o.Store, func(int64, *Leaf) {}); size != 6 || len(wrong) > 0 || err != nil {
		t.Errorf("%d leaves: %q, %v", size, wrong, err)
	}
}

// What was signed is not written again by who cannot sign, nor once nothing is signed any more.
func TestVouchOfALog(t *testing.T) {
	signer, keys := testKey(t, "logs.example.com")
	tree, o := makeTree(t, fsys.OS, 3)
	open := func(key note.Signer, public string) *Log {
		l, err := OpenLog(LogConfig{Tree: tree, Store: o.Store, Signer: key, Public: public})
		must(t, err)
		return l
	}
	leaf := rewrittenLeaf()
	if err := open(nil, "").Vouch(leaf); err != nil || leaf.VouchedBy(keys) {
		t.Errorf("a log that was never signed, without a key: %v", err)
	}
	l := open(signer, "")
	if _, _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Vouch(leaf); err != nil || !leaf.VouchedBy(keys) {
		t.Errorf("with the key: %v", err)
	}
	if err := open(nil, "").Vouch(leaf); !errors.Is(err, ErrNotVouched) || !errors.Is(err, ErrNoKey) {
		t.Errorf("a log that was signed, without a key: %v", err)
	}
	must(t, Stop(fsys.OS, o.Store, "a test"))
	if err := open(signer, "").Vouch(leaf); !errors.Is(err, ErrNotVouched) || !errors.Is(err, ErrStopped) {
		t.Errorf("a log that is signed no more: %v", err)
	}
}

// The newest leaf that made a partition is found, also after more came.
func TestMadeBy(t *testing.T) {
	tree, _ := makeTree(t, fsys.OS, 2)
	if _, _, _, err := tree.MadeBy("2026-11-22.3"); !errors.Is(err, ErrNoLeaf) {
		t.Error("before there is one:", err)
	}
	first, second := rewrittenLeaf(), rewrittenLeaf()
	second.At++
	second.Made = second.Made[:1]
	must(t, tree.Append(first, leafOf(3)))
	if i, _, l, err := tree.MadeBy("2026-11-22.3"); err != nil || i != 3 || l.At != first.At {
		t.Errorf("leaf %d: %+v, %v", i, l, err)
	}
	must(t, tree.Append(second))
	for part, want := range map[string]int64{"2026-11-22.3": 5, "2026-11-21.2": 3} {
		if i, text, l, err := tree.MadeBy(part); err != nil || i != want || string(l.Encode()) != string(text) {
			t.Errorf("%s: leaf %d: %+v, %v", part, i, l, err)
		}
	}
}

// A leaf of version 3 as the first collector that compacted wrote it is read for ever.
func TestLeafOfVersion3(t *testing.T) {
	text, err := hex.DecodeString(leafOfVersion3)
	must(t, err)
	l, err := ParseLeaf(text)
	must(t, err)
	want := rewrittenLeaf()
	want.Voucher = Voucher{"hub", 7, []byte{1, 2, 3}}
	if d := cmp.Diff(want, l); d != "" {
		t.Error(d)
	}
	if string(l.Encode()) != string(text) {
		t.Error("it is written otherwise")
	}
}

const leafOfVersion3 = "03080102030000000000000000000000000080b286d8aa3300000309000000000000000000000000000000000000000000000000000000000000000000000000fbffffffffff" +
	"ffffff0198aa86d8aa331e500000000000000000000000000000000000000000000000000000000000000000000000020a323032362d31312d3232030805143c0c323032362d" +
	"31312d32322e320909010a14020c323032362d31312d32322e33020309e724280900000000000000000000000000000000000000000000000000000000000000fbffffffffff" +
	"ffffff0198aa86d8aa33143c0404630c08000000000000000000000000000000000000000000000000000000000000000102070a02000477656231051404013016320c323032" +
	"362d31312d32312e32010303640907000000000000000000000000000000000000000000000000000000000000000505030a010000030a036875620703010203"
