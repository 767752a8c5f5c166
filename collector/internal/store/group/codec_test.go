package group

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// fixtureTable is what testdata/v2.group to v4.group hold, and v1.group but for who sent it.
func fixtureTable(t testing.TB) *store.Table {
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(11, storetest.Templates(t), 3, storetest.Start), 150)
	tab.Add("odd", storetest.Parse("odd", "node=odd type=USER_TTY msg=audit(1795334400.000:1): a\nb", ""))
	return tab
}

// all is every event of a group, through Plan, Text and Cut.
func all(g *Group, q *query.Query) (out []string, err error) {
	cands, err := g.Plan(q, store.ConditionsOf(q))
	if err != nil {
		return nil, err
	}
	m := query.NewMatcher(q)
	origins, err := g.Origins()
	if err != nil {
		return nil, err
	}
	for _, c := range cands {
		from := origins.Block(c.Index, &c.Block)
		frame, err := g.Text(nil, c.Block.Frame)
		if err != nil {
			return out, err
		}
		text, err := c.Block.Cut(frame)
		if err != nil {
			return out, err
		}
		for i := range c.Block.Events {
			var one []byte
			if one, text, err = store.CutText(text, c.Block.Counted); err != nil {
				return out, err
			}
			origin := from.Next()
			if c.Want != nil && !slices.Contains(c.Want, i) {
				continue
			}
			if ev := store.ParseText(one, c.Block.Counted, []byte(c.Block.Host), origin); len(ev.Records) > 0 && m.Match(ev) {
				out = append(out, whole(ev))
			}
		}
	}
	return out, nil
}

// TestFixture reads groups that each version wrote. They must be read for ever.
func TestFixture(t *testing.T) {
	c := codec(t)
	if golden.Update() {
		_, events := manyBatches(t, c, 11, 3, 100)
		blobs, _ := build(t, c, events, len(events))
		blob := blobs[0]
		if err := os.WriteFile("testdata/v5.group", blob, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := cursor(c, blob, 0, math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/v5-batches.txt", []byte(strings.Join(list, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := all(g, &query.Query{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/v5.txt", []byte(strings.Join(texts, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"v1", "v2", "v3", "v4", "v5"} {
		t.Run(name, func(t *testing.T) { readFixture(t, c, name) })
	}
}

// TestFixtureBatches reads of which batch the events of a group of version 5 are.
func TestFixtureBatches(t *testing.T) {
	blob, err := os.ReadFile("testdata/v5.group")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/v5-batches.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, err := cursor(codec(t), blob, 0, math.MinInt64, math.MaxInt64)
	if d := cmp.Diff(string(want), strings.Join(got, "\n")); d != "" || err != nil {
		t.Errorf("%v (-text +group):\n%s", err, d)
	}
}

func readFixture(t *testing.T, c *Codec, name string) {
	blob, err := os.ReadFile("testdata/" + name + ".group")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	if found := c.Verify(blob).Findings; len(found) > 0 {
		t.Errorf("verify: %v", found)
	}
	texts, err := all(g, &query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), strings.Join(texts, "")); d != "" {
		t.Errorf("(-text +group):\n%s", d)
	}
	for name, q := range storetest.Queries() {
		found, err := all(g, q)
		if err != nil {
			t.Fatal(err)
		}
		var must []string
		m := query.NewMatcher(q)
		cands, _ := g.Plan(&query.Query{}, nil)
		origins, _ := g.Origins()
		for _, cand := range cands {
			frame, _ := g.Text(nil, cand.Block.Frame)
			text, _ := cand.Block.Cut(frame)
			from := origins.Block(cand.Index, &cand.Block)
			for range cand.Block.Events {
				var one []byte
				one, text, _ = store.CutText(text, cand.Block.Counted)
				if ev := store.ParseText(one, cand.Block.Counted, []byte(cand.Block.Host), from.Next()); m.Match(ev) {
					must = append(must, whole(ev))
				}
			}
		}
		if d := cmp.Diff(must, found); d != "" {
			t.Errorf("%s: the dictionaries hide events (-all +planned):\n%s", name, d)
		}
	}
}

// whole is an event with all that is known of it; of version 1, its text.
func whole(ev *event.Event) string {
	text := storetest.Text(ev)
	if ev.From != nil {
		text += fmt.Sprintf("from %+v received", *ev.From)
		for i := range ev.Records {
			text += fmt.Sprintf(" %d", ev.Records[i].Received)
		}
		text += "\n"
	}
	return text
}

// reseal gives changed bytes the right checksums, so that what lies behind them
// is tested too.
func reseal(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < headSize {
		return b
	}
	n := int(binary.LittleEndian.Uint16(b[10:]))
	if headSize+n*sectionSize > len(b) {
		return b
	}
	for i := range n {
		e := b[headSize+i*sectionSize:]
		off, size := binary.LittleEndian.Uint64(e[8:]), binary.LittleEndian.Uint64(e[16:])
		if off > uint64(len(b)) || size > uint64(len(b))-off {
			continue
		}
		if e[0] != secData {
			binary.LittleEndian.PutUint32(e[4:], crc32.Checksum(b[off:off+size], castagnoli))
		}
	}
	binary.LittleEndian.PutUint32(b[12:], headSum(b, headSize+n*sectionSize))
	return b
}

// TestFlips flips bits everywhere: an error that says what it is, or the same
// events; never a panic, with the checksums as they were and made right again.
func TestFlips(t *testing.T) {
	c := codec(t)
	blob, _, err := c.Encode(fixtureTable(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	want, err := all(g, &query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	q := &query.Query{Types: []uint32{1300}, Terms: []query.Term{{Fields: []query.Field{query.FieldExe, query.FieldComm}, Op: query.OpContains, Text: "s"}}}
	wantQ, err := all(g, q)
	if err != nil {
		t.Fatal(err)
	}
	step := need.Size(7, 211)
	for i := 0; i < len(blob); i += step {
		bad := bytes.Clone(blob)
		bad[i] ^= 1 << (i % 8)
		for _, x := range []struct {
			q    *query.Query
			want []string
		}{{&query.Query{}, want}, {q, wantQ}} {
			got, err := read(c, bad, x.q)
			if err == nil && !slices.Equal(got, x.want) {
				t.Fatalf("byte %d: another answer and no error", i)
			}
			if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrVersion) && !errors.Is(err, store.ErrNotOurs) {
				t.Fatalf("byte %d: %v", i, err)
			}
			_, _ = read(c, reseal(bad), x.q) // must not panic
		}
		c.Verify(reseal(bad)) // nor this
	}
}

func read(c *Codec, b []byte, q *query.Query) ([]string, error) {
	g, err := c.Open(b)
	if err != nil {
		return nil, err
	}
	return all(g, q)
}

func FuzzGroup(f *testing.F) {
	c := codec(f)
	blob, _, err := c.Encode(fixtureTable(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob, true)
	f.Add(blob[:headSize], false)
	_, events := manyBatches(f, c, 5, 3, 60)
	built, _ := build(f, c, events, len(events))
	f.Add(built[0], true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal {
			b = reseal(b)
		}
		for _, name := range []string{"all", "file and exe", "user"} {
			_, _ = read(c, b, storetest.Queries()[name])
		}
		_, _ = cursor(c, b, 1, math.MinInt64, math.MaxInt64)
		c.Verify(b)
	})
}

func FuzzDictionary(f *testing.F) {
	c := codec(f)
	f.Add(c.dictBody(2, []byte("\x02\x03\x02\x04noyes"), []byte("\x02\x02\x06\x00\x01\x03")))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := c.openDict(b)
		if err != nil {
			return
		}
		g := &Group{c: c, Summary: Summary{Events: 5}}
		for i := range d.n {
			p, err := d.postings(i)
			if err == nil {
				_ = g.addPostings(newBitset(5), &looseBlocks{bitset: newBitset(1), met: make([]uint32, 1)}, p)
			}
		}
		_ = d.containing([]byte("e"), func(int) error { return nil })
		d.find("yes")
	})
}

func TestDictionaryExample(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(doc, []byte("```hex\n"))
	block, _, _ := strings.Cut(string(rest), "```")
	text := ""
	for _, l := range strings.Split(block, "\n") {
		l, _, _ = strings.Cut(l, "|")
		text += strings.ReplaceAll(l, " ", "")
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	c := codec(t)
	d, err := c.openDict(b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]uint32{}
	for i := range d.n {
		p, err := d.postings(i)
		if err != nil {
			t.Fatal(err)
		}
		set := newBitset(5)
		if err := (&Group{Summary: Summary{Events: 5}}).addPostings(set, nil, p); err != nil {
			t.Fatal(err)
		}
		got[string(d.value(i))] = set.list(0, 5, 5)
	}
	if df := cmp.Diff(map[string][]uint32{"no": {2}, "yes": {0, 1, 4}}, got); df != "" {
		t.Error(df)
	}
	keys := []byte("\x02\x03\x02\x04noyes")
	one := &builder{ids: make([][]uint32, 5)}
	posts := appendPostings(appendPostings(nil, []uint32{2}, one), []uint32{0, 1, 4}, one)
	if w := c.dictBody(2, keys, posts); !bytes.Equal(w, b) {
		t.Errorf("written now: %x, documented %x", w, b)
	}
}

// TestPostings puts any ordinals in and gets at least them out, and exactly them
// when they are not kept by blocks.
func TestPostings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b builder
		next := uint32(0)
		for range rapid.IntRange(1, 30).Draw(t, "blocks") {
			n := uint32(rapid.IntRange(1, 200).Draw(t, "events"))
			b.blocks = append(b.blocks, Block{First: next, Events: n})
			next += n
		}
		b.ids = make([][]uint32, next)
		set := map[uint32]bool{}
		for range rapid.IntRange(1, 2000).Draw(t, "n") {
			set[rapid.Uint32Range(0, next-1).Draw(t, "ord")] = true
		}
		var ords []uint32
		for o := range set {
			ords = append(ords, o)
		}
		slices.Sort(ords)
		p := appendPostings(nil, ords, &b)
		g := &Group{Summary: Summary{Events: uint64(next)}}
		for i := range b.blocks {
			g.blocks = b.blocks[i].append(g.blocks, 0)
		}
		bits := newBitset(int(next))
		if err := g.addPostings(bits, nil, p); err != nil {
			t.Fatal(err)
		}
		got := bits.list(0, next, 0)
		if head, _ := binary.Uvarint(p); head>>1 != uint64(len(ords)) {
			t.Fatalf("count %d, want %d", head>>1, len(ords))
		} else if head&1 == postEvents && !slices.Equal(got, ords) {
			t.Fatalf("%v, want %v", got, ords)
		}
		for _, o := range ords {
			if !slices.Contains(got, o) {
				t.Fatalf("event %d is lost", o)
			}
		}
		for _, blk := range b.blocks {
			n := bits.count(blk.First, blk.First+blk.Events)
			if l := bits.list(blk.First, blk.First+blk.Events, n); len(l) != n {
				t.Fatalf("block at %d: count %d, list of %d", blk.First, n, len(l))
			}
		}
	})
}

// TestDictionary looks values up that are there and that are not.
func TestDictionary(t *testing.T) {
	c := codec(t)
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfNDistinct(rapid.StringN(0, 6, 12), 1, 300, rapid.ID[string]).Draw(t, "values")
		slices.Sort(values)
		var lens, plens, texts, posts []byte
		for i, v := range values {
			lens = binary.AppendUvarint(lens, uint64(len(v)))
			at := len(posts)
			posts = binary.AppendUvarint(posts, uint64(i))
			plens = binary.AppendUvarint(plens, uint64(len(posts)-at))
			texts = append(texts, v...)
		}
		d, err := c.openDict(c.dictBody(len(values), append(append(lens, plens...), texts...), posts))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			p, err := d.postings(i)
			if n, _ := binary.Uvarint(p); err != nil || n != uint64(i) || d.find(v) != i {
				t.Fatalf("value %d %q: found at %d, postings %d, %v", i, v, d.find(v), n, err)
			}
		}
		absent := rapid.String().Draw(t, "absent")
		if !slices.Contains(values, absent) && d.find(absent) >= 0 {
			t.Fatalf("%q is found", absent)
		}
		sub := rapid.StringN(1, 3, 4).Draw(t, "sub")
		var want, got []int
		for i, v := range values {
			if strings.Contains(v, sub) {
				want = append(want, i)
			}
		}
		if err := d.containing([]byte(sub), func(i int) error { got = append(got, i); return nil }); err != nil || !slices.Equal(want, got) {
			t.Fatalf("containing %q: %v, want %v, %v", sub, got, want, err)
		}
	})
}
