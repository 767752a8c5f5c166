package rows

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// logOf is generated text: of one host after the other.
func logOf(t testing.TB, hosts int, size int) (out []byte) {
	tab := store.NewTable()
	g := storetest.NewGenerator(1, storetest.Templates(t), hosts, storetest.Start)
	for tab.Stats().RawBytes < int64(size) {
		storetest.Fill(tab, g, 1000)
	}
	for _, h := range tab.Hosts() {
		for _, i := range h.Order() {
			out = append(out, h.Events[i].Text...)
		}
	}
	return out
}

// frames cuts a text into pieces, wherever that is.
func frames(text []byte, size int) (out [][]byte) {
	for chunk := range slices.Chunk(text, size) {
		out = append(out, chunk)
	}
	return out
}

// round codes texts one after the other, and decodes them with the table as it is at the end.
func round(t interface{ Fatalf(string, ...any) }, texts [][]byte) (total int) {
	e := NewEncoder(NewTable())
	type coded struct {
		streams [Streams][]byte
		lines   int
		tail    bool
	}
	var all []coded
	for _, text := range texts {
		s, lines, tail := e.Encode(text)
		var c coded
		for i := range s {
			c.streams[i] = bytes.Clone(s[i])
			total += len(s[i])
		}
		c.lines, c.tail = lines, tail
		all = append(all, c)
	}
	tab, err := ReadTable(e.Table().Append(nil))
	if err != nil || tab.Len() != e.Table().Len() {
		t.Fatalf("a table of %d templates: %v", e.Table().Len(), err)
	}
	var d Decoder
	for i := range slices.Backward(all) { // in any order
		c, text := &all[i], texts[i]
		got, err := d.Decode(nil, tab, &c.streams, c.lines, c.tail, len(text))
		if err != nil || !bytes.Equal(got, text) {
			same := 0
			for same < min(len(got), len(text)) && got[same] == text[same] {
				same++
			}
			t.Fatalf("text %d: %v: %d bytes of %d, equal up to %d: %.200q, not %.200q", i, err, len(got), len(text), same, got[same:], text[same:])
		}
		if _, err := d.Decode(nil, tab, &c.streams, c.lines, c.tail, len(text)+1); !errors.Is(err, ErrDamaged) {
			t.Fatalf("text %d of another length: %v", i, err)
		}
	}
	return total
}

// A log comes back as it was, and takes little.
func TestLog(t *testing.T) {
	t.Parallel()
	text := logOf(t, 5, need.Size(8<<20, 2<<20))
	if n := round(t, frames(text, 300_000)); n > len(text)/12 {
		t.Errorf("%d bytes for %d", n, len(text))
	}
}

// Whatever a text is, it comes back: values that are nearly numbers, stamps that are nearly stamps, quotes without an end, lines without one.
func TestAnyText(t *testing.T) {
	t.Parallel()
	odd := []string{
		"", "\n", "x", "\n\n\n", "=", "==\n=", "a=", "a= b=1", "pid=\npid=x\n pid= pid=7", " pid=1 pid=2\n pid=1 pid=2\n pid=x pid=2\n pid=y pid=2\n",
		"audit(1)pid=0 a=\"0\naudit(0.0audit(A.000:0)audit(1", "msg=audit(1.000:1): was audit(1.000:2) and audit(1.000:1)\nmsg=audit(1.000:1): was audit(1.000:1) and audit(1.000:3)\n",
		"msg=audit(", "msg=audit(1.2:3)", "msg=audit(1.200:3): a=1\nmsg=audit(1.200:3): a=1\nmsg=audit(1.2000:3): a=1\nmsg=audit(01.200:3): a=1\nmsg=audit(1.200:3): a=2",
		"msg=audit(999999999999.999:999999999999999999): a=1\nmsg=audit(0.000:0): a=1\n",
		"a=1\na=01\na=1\na=00\na=0\na=999999999999999999\na=9999999999999999999\na=-1\na=18446744073709551615\na=1\n",
		"a=ff\na=fe\na=0ff\na=FF\na=fffffffffffffff\na=ffffffffffffffff\na=1\n", `a="b c" d="e` + "\n" + `a="b c" d="f"` + "\n", "msg='op=x acct=\"y\" res=ok'\nmsg='op=x acct=\"z\" res=ok'\n",
		"type=A item=1 name=b\x1dAUID=\"c\"\ntype=A item=1 name=d\x1dAUID=\"e\"\n", "a\x00=\x00\xff b=\x80\na\x00=\x00\xfe b=\x80", "a=\r\na=\r\r\n",
		strings.Repeat("k=v ", 200) + "\n" + strings.Repeat("k=w ", 200) + "end\n", "a=" + strings.Repeat("x", maxLine) + "\nb=2", strings.Repeat(" pid=7 x=1\n pid=8 x=2\n", 50),
	}
	var all [][]byte
	for _, s := range odd {
		all = append(all, []byte(s))
	}
	all = append(all, []byte(strings.Join(odd, "\n")), []byte(strings.Join(odd, "")))
	round(t, all)
	piece := rapid.OneOf(rapid.SampledFrom([]string{"a=", " pid=", " b=", "\n", "\n\n", "audit(", "msg=audit(1.000:", ")", ":", "\"", "'", "\x1d", "0", "1", "ff", "type=X ", "\x00"}),
		rapid.StringN(0, 5, 8), rapid.Map(rapid.IntRange(0, 1<<20), func(n int) string { return strings.Repeat("9", n%21) }))
	rapid.Check(t, func(t *rapid.T) {
		var texts [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "texts") {
			texts = append(texts, []byte(strings.Join(rapid.SliceOfN(piece, 0, 60).Draw(t, "pieces"), "")))
		}
		round(t, texts)
	})
}

// A table that is full takes no more templates, and lines of others come back all the same.
func TestFullTable(t *testing.T) {
	t.Parallel()
	var text []byte
	for i := range 2 * maxTemplates {
		text = append(append(text, strings.Repeat("k", 1+i%977)...), strings.Repeat("z", i/977)...)
		text = append(text, "=1 b=2\n"...)
	}
	round(t, [][]byte{text, text})
	e := NewEncoder(NewTable())
	if e.Encode(text); !e.Table().full() || e.Table().Len() > maxTemplates {
		t.Errorf("%d templates", e.Table().Len())
	}
}

// A text of more rows than are kept comes back.
func TestManyRows(t *testing.T) {
	t.Parallel()
	var text []byte
	for i := range 3 * maxRows / 20 {
		text = fmt.Appendf(text, "type=%d pid=%d%s x=%d\n", i%7, i*2654435761%100003, strings.Repeat(" a=b", 18), i%11)
	}
	e := NewEncoder(NewTable())
	if e.Encode(text); len(e.s.rows) < maxRows-40 || len(e.s.rows) > maxRows {
		t.Errorf("%d values are kept", len(e.s.rows))
	}
	text = append(text, "other=1 pid=5\nother=2 pid=6\nother=3 pid=5\n"...) // a template without a row
	round(t, [][]byte{text, text[:1000]})
}

// Streams of no encoder are refused or give some text, of the length that was said.
func FuzzDecode(f *testing.F) {
	e := NewEncoder(NewTable())
	text := logOf(f, 1, 20_000)[:5000]
	s, lines, tail := e.Encode(text)
	table := e.Table().Append(nil)
	f.Add(table, s[Choice], s[Process], s[Mask], s[NewMask], s[Op], s[Number], s[Length], s[Text], s[Stamp], lines, tail, len(text))
	f.Fuzz(func(t *testing.T, table, a, b, c, d, e, g, h, i, k []byte, lines int, tail bool, size int) {
		tab, err := ReadTable(table)
		if err != nil || lines < 0 || lines > 1<<20 || size < 0 || size > 1<<20 {
			return
		}
		var dec Decoder
		for range 2 {
			out, err := dec.Decode(nil, tab, &[Streams][]byte{a, b, c, d, e, g, h, i, k}, lines, tail, size)
			if err == nil && len(out) != size || err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("%d bytes of %d: %v", len(out), size, err)
			}
		}
	})
}

func FuzzRound(f *testing.F) {
	f.Add([]byte("type=A msg=audit(1.000:1): pid=1 a=\"b\"\n\ntype=A msg=audit(1.000:2): pid=1 a=\"b\"\n"), 40)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		cut = max(0, min(cut, len(text)))
		round(t, [][]byte{text[:cut], text[cut:]})
	})
}

func BenchmarkEncode(b *testing.B) {
	fr := frames(logOf(b, 1, 20<<20), 512<<10)
	e := NewEncoder(NewTable())
	n := 0
	for _, f := range fr {
		n += len(f)
		e.Encode(f)
	}
	b.SetBytes(int64(n))
	for b.Loop() {
		for _, f := range fr {
			e.Encode(f)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	f := frames(logOf(b, 1, 4<<20), 512<<10)[3]
	e := NewEncoder(NewTable())
	s, n, tail := e.Encode(f)
	tab, err := ReadTable(e.Table().Append(nil))
	if err != nil {
		b.Fatal(err)
	}
	var d Decoder
	var buf []byte
	b.SetBytes(int64(len(f)))
	for b.Loop() {
		if buf, err = d.Decode(buf[:0], tab, s, n, tail, len(f)); err != nil {
			b.Fatal(err)
		}
	}
}
