package rows

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/internal/need"
)

// cutEvents cuts a text of plain events.
func cutEvents(text []byte) (out [][]byte) {
	for len(text) > 0 {
		n := bytes.Index(text, []byte("\n\n")) + 2
		out = append(out, text[:n])
		text = text[n:]
	}
	return out
}

// pickAgain picks from a coded text, and compares that with what is picked from the text itself. named are events that must pass the test of a uid of 5.
func pickAgain(t interface{ Fatalf(string, ...any) }, d *Decoder, text []byte, from, to uint32, want []uint32, test *Test) (passed int) {
	e := NewEncoder(NewTable())
	s, lines, _ := e.Encode(text)
	tab, err := ReadTable(e.Table().Append(nil))
	if err != nil {
		t.Fatalf("%v", err)
	}
	p := &Picking{From: from, To: to, Want: want, Test: test}
	got, err := d.Pick([]byte("before"), tab, s, lines, len(text), p)
	if err != nil {
		t.Fatalf("pick of %.300q: %v", text, err)
	}
	has := map[uint32]string{}
	at := len("before")
	for _, ev := range p.Events {
		has[ev.N] = string(got[at:ev.End])
		at = ev.End
	}
	if at != len(got) || len(has) != len(p.Events) || string(got[:6]) != "before" {
		t.Fatalf("%d bytes of text, %d of events, %d events of %d", len(got), at, len(p.Events), len(has))
	}
	all := cutEvents(text)
	wanted := want
	if wanted == nil {
		for i := range to - from {
			wanted = append(wanted, i)
		}
	}
	for _, n := range wanted {
		one, ok := has[n]
		if delete(has, n); !ok && (test == nil || hasUID5(all[from+n])) {
			t.Fatalf("event %d is not there: %.300q", n, all[from+n])
		} else if ok && one != string(all[from+n]) {
			t.Fatalf("event %d is %.300q, not %.300q", n, one, all[from+n])
		}
	}
	if len(has) > 0 {
		t.Fatalf("events that nobody wants: %v", has)
	}
	return len(p.Events)
}

// beginsWith says of a value whether it begins with the number n.
func beginsWith(n int) func(v []byte) bool {
	return func(v []byte) bool {
		v = bytes.TrimLeft(v, `"'`)
		digits := 0
		for digits < len(v) && v[digits] >= '0' && v[digits] <= '9' {
			digits++
		}
		got, err := strconv.Atoi(string(v[:digits]))
		return err == nil && got == n
	}
}

var is5 = beginsWith(5)

// hasUID5 reads a text as the test is described.
func hasUID5(text []byte) bool {
	for i := range text {
		if v, ok := bytes.CutPrefix(text[i:], []byte("uid=")); ok && (i == 0 || text[i-1] < 'a' || text[i-1] > 'z') && is5(v) {
			return true
		}
	}
	return false
}

func uid5() *Test { return NewTest([]string{"uid="}, is5) }

// What is picked of a log is what stands in it, and the test passes over most of what has no such value.
func TestPickOfLog(t *testing.T) {
	t.Parallel()
	text := logOf(t, 3, need.Size(2<<20, 1<<20))
	n := uint32(len(cutEvents(text)))
	var d Decoder
	pickAgain(t, &d, text, 0, n, nil, nil)
	pickAgain(t, &d, text, 5, n-7, []uint32{0, 3, 4, 90, n - 13}, nil)
	pickAgain(t, &d, text, n/2, n/2, nil, nil)
	of1001 := NewTest([]string{"uid="}, beginsWith(1001))
	if got := pickAgain(t, &d, text, 0, n, nil, of1001); got == 0 || got > int(n)/2 {
		t.Errorf("%d events of %d pass", got, n)
	}
	if got := pickAgain(t, &d, text, 0, n, nil, NewTest([]string{"uid="}, func([]byte) bool { return false })); got > int(n)/20 {
		t.Errorf("%d events of %d pass, and none should", got, n)
	}
}

// Whatever events a text has, those that are wanted come out, wherever the field stands: in a literal, in a value, half in both.
func TestPickOfAny(t *testing.T) {
	t.Parallel()
	piece := rapid.OneOf(rapid.SampledFrom([]string{"uid=5", " uid=5", " uid=", "euid=5", "ui", "d=5", "=", "5", "05", "1", " pid=", " a=", " b=", "audit(", "msg=audit(1.000:7)", "\"", "'", "\x1d", "type=", "type=X ", " ", "x"}),
		rapid.StringMatching(`[a-f0-9]{1,4}`))
	line := rapid.Map(rapid.SliceOfN(piece, 1, 8), func(p []string) string { return strings.Join(p, "") + "\n" })
	event := rapid.Map(rapid.SliceOfN(line, 1, 4), func(l []string) string { return strings.Join(l, "") + "\n" })
	var d Decoder
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(event, 1, 5).Draw(t, "some")
		events := rapid.SliceOfN(rapid.SampledFrom(some), 1, 30).Draw(t, "events")
		text := []byte(strings.Join(events, ""))
		n := uint32(len(events))
		from := rapid.Uint32Range(0, n).Draw(t, "from")
		to := rapid.Uint32Range(from, n).Draw(t, "to")
		want := []uint32{}
		for i := range to - from {
			if rapid.Bool().Draw(t, "wanted") {
				want = append(want, i)
			}
		}
		pickAgain(t, &d, text, from, to, want, nil)
		pickAgain(t, &d, text, from, to, want, uid5())
		pickAgain(t, &d, text, from, to, nil, uid5())
	})
}

// A text that is no events is refused, and one of more rows than are kept is picked from.
func TestPickBounds(t *testing.T) {
	t.Parallel()
	var d Decoder
	for _, text := range []string{"a=1\n", "\n\n", "a=1\n\n\n", "a=1\n\n"} {
		s, lines, _ := NewEncoder(NewTable()).Encode([]byte(text))
		tab := NewTable()
		if _, err := d.Pick(nil, tab, s, lines, len(text), &Picking{To: 2}); err == nil {
			t.Errorf("%q has two events", text)
		}
	}
	var text []byte
	for i := range 3 * maxRows / 20 {
		text = fmt.Appendf(text, "type=%d pid=%d uid=%d%s x=%d\n\n", i%7, i*2654435761%100003, i%9, strings.Repeat(" a=b", 18), i%11)
	}
	pickAgain(t, &d, text, 0, uint32(3*maxRows/20), nil, uid5())
	long := bytes.Repeat([]byte("type=X pid=7 uid=5 a=1 b=2 c=3 d=4\n"), mostSpans/4)
	s, lines, _ := NewEncoder(NewTable()).Encode(append(long, '\n'))
	if _, err := d.Pick(nil, NewTable(), s, lines, len(long)+1, &Picking{To: 1}); err == nil {
		t.Error("an event of any size is kept")
	}
}

// Lines without a value take few bytes, and whatever they come to is bounded by what the text is said to have.
func TestPickOfManyLiterals(t *testing.T) {
	t.Parallel()
	tab := NewTable()
	lit := bytes.Repeat([]byte("a"), 1<<10)
	tab.add([][]byte{lit}, nil)
	const lines, size = 2000, 4 << 10
	var s [Streams][]byte
	s[Choice] = append(s[Choice], 2)
	s[Choice] = append(s[Choice], 2) // it is what follows itself
	s[Choice] = append(s[Choice], make([]byte, lines-2)...)
	s[Choice] = append(s[Choice], 1) // an empty line of template 0
	s[Mask], s[NewMask] = []byte{maskNew}, []byte{0}
	var d Decoder
	out, err := d.Pick(nil, tab, &s, lines+1, size, &Picking{To: 1})
	if !errors.Is(err, ErrDamaged) || len(out) > size+len(lit)+1 {
		t.Errorf("%d bytes of a text of %d: %v", len(out), size, err)
	}
	out, err = d.Pick(nil, tab, &s, lines+1, lines*(len(lit)+1)+1, &Picking{To: 1})
	if err != nil || len(out) != lines*(len(lit)+1)+1 {
		t.Errorf("%d bytes of the whole text: %v", len(out), err)
	}
}

// What Decode and Pick would read in two ways, and no Encoder makes, is refused by both: lines with a newline in them, and numbers that would be none as text.
func TestReadInOneWay(t *testing.T) {
	t.Parallel()
	one := func(table *Table, s [Streams][]byte, text string) (error, error) {
		s[Choice] = []byte{byte(table.Len()), 1} // a line of the last template, and an empty one
		s[Mask], s[NewMask] = append(s[Mask], maskNew, maskNew), []byte{1, 0}
		if table.Len() == 1 {
			s[Choice], s[NewMask] = []byte{1, 0}, []byte{1, 1}
			s[Op], s[Length] = append(s[Op], opString), append(s[Length], 0, 0, 0)
		}
		var d Decoder
		got, err := d.Decode(nil, table, &s, 2, false, len(text))
		if err == nil && string(got) != text {
			t.Errorf("%q instead of %q", got, text)
		}
		got, perr := d.Pick(nil, table, &s, 2, len(text), &Picking{To: 1})
		if perr == nil && string(got) != text {
			t.Errorf("picked is %q instead of %q", got, text)
		}
		return err, perr
	}
	for text, bad := range map[string]bool{"xy": false, "x\n\ny": true} {
		err, perr := one(NewTable(), [Streams][]byte{Op: {opString}, Length: {0, 0, byte(len(text))}, Text: []byte(text)}, text+"\n\n")
		if errors.Is(err, ErrDamaged) != bad || errors.Is(perr, ErrDamaged) != bad {
			t.Errorf("%q: %v, picked: %v", text, err, perr)
		}
	}
	for _, x := range []struct {
		op   byte
		base int
		n    uint64
		bad  bool
	}{{opDecimal, 10, 1e18 - 1, false}, {opDecimal, 10, 1e18, true}, {opHex, 16, 1<<60 - 1, false}, {opHex, 16, 1 << 60, true}} {
		table := NewTable()
		table.add([][]byte{[]byte("a="), {}}, [][]byte{[]byte("1")})
		err, perr := one(table, [Streams][]byte{Op: {x.op}, Number: binary.AppendVarint(nil, int64(x.n-1))}, "a="+strconv.FormatUint(x.n, x.base)+"\n\n")
		if errors.Is(err, ErrDamaged) != x.bad || errors.Is(perr, ErrDamaged) != x.bad {
			t.Errorf("%d in base %d: %v, picked: %v", x.n, x.base, err, perr)
		}
	}
	for _, parts := range [][2]string{{"a=", "1\n"}, {"a\n=", "1"}} {
		table := NewTable()
		table.add([][]byte{[]byte(parts[0]), {}}, [][]byte{[]byte(parts[1])})
		if _, err := ReadTable(table.Append(nil)); !errors.Is(err, ErrDamaged) {
			t.Errorf("a table with %q: %v", parts, err)
		}
	}
}

// Streams of no encoder are refused or give some events, of no more bytes than the text is said to have.
func FuzzPick(f *testing.F) {
	e := NewEncoder(NewTable())
	text := logOf(f, 1, 20_000)
	n := len(cutEvents(text))
	s, lines, _ := e.Encode(text)
	table := e.Table().Append(nil)
	f.Add(table, s[Choice], s[Process], s[Mask], s[NewMask], s[Op], s[Number], s[Length], s[Text], s[Stamp], lines, len(text), 0, n, true)
	f.Add(table, s[Choice], s[Process], s[Mask], s[NewMask], s[Op], s[Number], s[Length], s[Text], s[Stamp], lines, len(text), 2, n-1, false)
	f.Fuzz(func(t *testing.T, table, a, b, c, d, e, g, h, i, k []byte, lines, size, from, to int, tests bool) {
		tab, err := ReadTable(table)
		if err != nil || lines < 0 || lines > 1<<20 || size < 0 || size > 1<<20 {
			return
		}
		var dec Decoder
		for range 2 {
			p := Picking{From: uint32(from), To: uint32(to)}
			if tests {
				p.Test = uid5()
			}
			out, err := dec.Pick(nil, tab, &[Streams][]byte{a, b, c, d, e, g, h, i, k}, lines, size, &p)
			if err == nil && len(out) > size || err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("%d bytes of %d: %v", len(out), size, err)
			}
			if whole, derr := dec.Decode(nil, tab, &[Streams][]byte{a, b, c, d, e, g, h, i, k}, lines, false, size); err == nil && derr == nil && from == 0 && !tests && !bytes.HasPrefix(whole, out) {
				t.Fatalf("picked is %q of %q", out, whole)
			}
		}
	})
}

func BenchmarkPick(b *testing.B) {
	f := logOf(b, 1, 512<<10)
	e := NewEncoder(NewTable())
	s, lines, _ := e.Encode(f)
	tab, err := ReadTable(e.Table().Append(nil))
	if err != nil {
		b.Fatal(err)
	}
	var d Decoder
	n := uint32(len(cutEvents(f)))
	want := make([]uint32, 0, n/10)
	for i := uint32(0); i < n; i += 10 {
		want = append(want, i)
	}
	for _, x := range []struct {
		name string
		p    Picking
	}{
		{"by a test", Picking{Test: NewTest([]string{"uid="}, beginsWith(1001))}},
		{"one in ten", Picking{Want: want}},
		{"one in ten by a test", Picking{Want: want, Test: NewTest([]string{"uid="}, beginsWith(1001))}},
	} {
		b.Run(x.name, func(b *testing.B) {
			var buf, events = []byte(nil), []Event(nil)
			b.SetBytes(int64(len(f)))
			for b.Loop() {
				p := x.p
				p.To, p.Events = n, events[:0]
				if buf, err = d.Pick(buf[:0], tab, s, lines, len(f), &p); err != nil {
					b.Fatal(err)
				}
				events = p.Events
			}
			b.ReportMetric(float64(len(events))/float64(n), "passed")
		})
	}
}
