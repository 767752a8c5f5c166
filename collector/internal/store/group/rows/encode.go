package rows

import (
	"bytes"
	"encoding/binary"
)

// The streams of a text. In Choice a line is a byte or more, in Process, Mask and Op one.
const (
	Choice  = iota // of each line: 0 for the template that followed the one before last time, else its number plus 1
	Process        // of each line with a process: which
	Mask           // of each line with other values: which of them are not those of the row before
	NewMask        // masks that the template has not had before
	Op             // of each such value: how it is coded
	Number         // differences
	Length         // of strings: what is shared at both ends, and what is left
	Text           // of strings: what is left
	Stamp          // differences
	Streams
)

// Ops. One from opRecent on is a place among the key's last values.
const (
	opDecimal = iota
	opHex
	opString
	opRecent
)

const (
	pidSame   = 0 // as the line with one before; then 1 + place
	pidNew    = 1 + recentPIDs
	pidString = 2 + recentPIDs

	maskNew = 255
)

// Encoder codes texts with one table, which it adds to. It is for one goroutine.
type Encoder struct {
	s      state
	text   []byte
	out    [Streams][]byte
	spans  [maxSlots]span // of the present line, as are lits
	lits   [maxSlots + 1][]byte
	values [maxSlots][]byte
	often  [][likely]int32 // by template: which ones came behind it lately, the latest first
}

// likely is how many templates are tried before a line is taken apart.
const likely = 6

// NewEncoder makes an Encoder whose table is t.
func NewEncoder(t *Table) *Encoder {
	e := &Encoder{}
	e.s.t = t
	return e
}

// Table is what decoding needs beside a text's streams: at any time after the text was coded.
func (e *Encoder) Table() *Table { return e.s.t }

// Encode codes a text of less than 1 GiB. The streams are valid until the next Encode. tail says that the last line has no newline.
func (e *Encoder) Encode(text []byte) (streams *[Streams][]byte, lines int, tail bool) {
	e.text = text
	e.s.begin(e.s.t)
	for i := range e.out {
		e.out[i] = e.out[i][:0]
	}
	for at := 0; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if tail = end < 0; tail {
			end = len(text) - at
		}
		e.line(at, at+end)
		lines++
		at += end + 1
	}
	return &e.out, lines, tail
}

func (e *Encoder) put(stream int, v uint64) {
	e.out[stream] = binary.AppendUvarint(e.out[stream], v)
}

func (e *Encoder) putSigned(stream int, v int64) {
	e.out[stream] = binary.AppendVarint(e.out[stream], v)
}

// val returns a value's bytes.
func (e *Encoder) val(v span) []byte {
	if v.off&inTable != 0 {
		off := v.off &^ inTable
		return e.s.t.bytes[off : off+v.len]
	}
	return e.text[v.off : v.off+v.len]
}

// line codes text[from:to].
func (e *Encoder) line(from, to int) {
	prev := e.s.of(e.s.prev)
	id := prev.next
	if id >= 0 && e.fits(&e.s.t.temps[id], from, to) {
		e.out[Choice] = append(e.out[Choice], 0)
	} else {
		id = e.search(from, to)
		e.put(Choice, uint64(id)+1)
		e.s.of(e.s.prev).next = id
	}
	e.s.prev = id
	x := e.s.of(id)
	t := &e.s.t.temps[id]
	if t.pid >= 0 {
		e.process(t, x)
	}
	var r rowPair
	e.s.row(&r, id, x)
	before, now := r.before, r.now
	mask := uint64(0)
	stamp, known := e.s.stamp, e.s.known // a line may have several
	for i := range t.first {
		switch {
		case i == t.pid:
			continue
		case t.stamp&(1<<i) != 0:
			if !known || !bytes.Equal(e.val(stamp), e.val(e.spans[i])) {
				mask |= 1 << i
			}
			stamp, known = e.spans[i], true
		case !bytes.Equal(e.val(before[i]), e.val(e.spans[i])):
			mask |= 1 << i
		}
	}
	if many := len(t.first) - min(1, t.pid+1); many > 0 {
		e.mask(x, mask)
	}
	for i := range t.first {
		if mask&(1<<i) == 0 {
			continue
		}
		if t.stamp&(1<<i) != 0 {
			e.stamp(before[i], e.spans[i])
		} else {
			e.value(t.keys[i], before[i], e.spans[i])
		}
	}
	copy(now, e.spans[:len(t.first)])
}

// mask codes which values differ.
func (e *Encoder) mask(x *templateState, mask uint64) {
	for i, m := range x.masks {
		if m == mask {
			e.out[Mask] = append(e.out[Mask], byte(i))
			return
		}
	}
	e.out[Mask] = append(e.out[Mask], maskNew)
	e.put(NewMask, mask)
	if len(x.masks) < maxMasks {
		x.masks = append(x.masks, mask)
	}
}

// process codes a line's process.
func (e *Encoder) process(t *template, x *templateState) {
	v := e.spans[t.pid]
	n, ok := number(e.val(v))
	if !ok {
		e.out[Process] = append(e.out[Process], pidString)
		before := t.first[t.pid]
		if x.last >= 0 {
			before = e.s.rows[int(x.last)+t.pid]
		}
		e.string(before, v)
		e.s.pid = 0
		return
	}
	if n == e.s.pid && e.s.numPID > 0 {
		e.out[Process] = append(e.out[Process], pidSame)
		return
	}
	for i, p := range e.s.pids[:e.s.numPID] {
		if p == n {
			e.out[Process] = append(e.out[Process], byte(1+i))
			e.s.usePID(i, n)
			return
		}
	}
	e.out[Process] = append(e.out[Process], pidNew)
	e.putSigned(Number, int64(n-e.s.newPID))
	e.s.usePID(e.s.numPID, n)
}

// stamp codes a stamp that is not that of the line before.
func (e *Encoder) stamp(before, v span) {
	ms, serial, ok := stampOf(e.val(v))
	if !ok {
		e.put(Stamp, 0)
		e.string(before, v)
	} else {
		e.put(Stamp, 1+zigzag(int64(ms-e.s.ms)))
		e.putSigned(Stamp, int64(serial-e.s.ser-1))
		e.s.ms, e.s.ser = ms, serial
	}
	e.s.stamp, e.s.known = v, true
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// value codes a value that is not that of the row before.
func (e *Encoder) value(key uint32, before, now span) {
	k := e.s.key(key)
	v := e.val(now)
	for i := range k.n {
		if r := k.last(i); r.len == now.len && bytes.Equal(e.val(r), v) {
			e.out[Op] = append(e.out[Op], byte(opRecent+i))
			k.use(i, now)
			return
		}
	}
	k.add(now)
	b := e.val(before)
	if n, ok := number(v); ok {
		if m, ok := number(b); ok {
			e.out[Op] = append(e.out[Op], opDecimal)
			e.putSigned(Number, int64(n-m))
			return
		}
	}
	if n, ok := hexNumber(v); ok {
		if m, ok := hexNumber(b); ok {
			e.out[Op] = append(e.out[Op], opHex)
			e.putSigned(Number, int64(n-m))
			return
		}
	}
	e.out[Op] = append(e.out[Op], opString)
	e.string(before, now)
}

// string codes a value by what it shares with another one at its begin and at its end.
func (e *Encoder) string(before, now span) {
	b, v := e.val(before), e.val(now)
	n := min(len(b), len(v))
	head := 0
	for head < n && b[head] == v[head] {
		head++
	}
	end := 0
	for end < n-head && b[len(b)-1-end] == v[len(v)-1-end] {
		end++
	}
	e.put(Length, uint64(head))
	e.put(Length, uint64(end))
	e.put(Length, uint64(len(v)-head-end))
	e.out[Text] = append(e.out[Text], v[head:len(v)-end]...)
}
