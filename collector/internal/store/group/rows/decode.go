package rows

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
)

// Decoder decodes texts. It is for one goroutine.
type Decoder struct {
	s   state
	in  [Streams]stream
	max int // bytes of text that there may be
	bad bool
	// number says that the last value is a number or a stamp, and has no = in it.
	number bool
	pick   *picking // nil: all of the text is wanted

	picking picking
	nums    []uint64 // of spans that are numbers
	tmp     []byte   // the text of one of them
}

// stream is what is left of one of a text's streams.
type stream struct {
	b  []byte
	at int
}

// Decode appends the text of streams to dst: so many lines, together size bytes. streams stay the caller's. Error: ErrDamaged.
func (d *Decoder) Decode(dst []byte, t *Table, streams *[Streams][]byte, lines int, tail bool, size int) ([]byte, error) {
	if len(dst) > 0 { // offsets count from the text's begin
		out, err := d.Decode(nil, t, streams, lines, tail, size)
		return append(dst, out...), err
	}
	if size > maxText {
		return dst, ErrDamaged
	}
	d.begin(t, streams, size)
	for i := range lines {
		if dst = d.line(dst); d.bad || len(dst) > size {
			break
		}
		if i+1 < lines || !tail {
			dst = append(dst, '\n')
		}
	}
	if !d.done() || len(dst) != size {
		return dst, ErrDamaged
	}
	return dst, nil
}

func (d *Decoder) begin(t *Table, streams *[Streams][]byte, size int) {
	for i := range d.in {
		d.in[i] = stream{b: streams[i]}
	}
	d.s.begin(t)
	d.bad, d.max, d.pick = bytes.IndexByte(streams[Text], '\n') >= 0, size, nil // an Encoder cuts lines there: nothing in one has it
}

// done reports whether all streams were read to their ends, and nothing was wrong with them.
func (d *Decoder) done() bool {
	for i := range d.in {
		s := &d.in[i]
		if d.bad = d.bad || s.at != len(s.b); d.bad {
			break
		}
	}
	d.in = [Streams]stream{} // they are the caller's
	return !d.bad
}

// While picking, numbers and stamps are no text until somebody asks for it. Their spans have one of these as len, and off is their place in Decoder.nums.
const (
	asDecimal = isNumber + iota
	asHex
	asStamp // two: milliseconds and serial

	isNumber = 1 << 31 // of len
)

// val returns a value's bytes, which are out's or the table's; those of a number are valid until val is called again.
func (d *Decoder) val(out []byte, v span) []byte {
	if v.len >= isNumber {
		return d.text(v)
	}
	if v.off&inTable != 0 {
		off := v.off &^ inTable
		return d.s.t.bytes[off : off+v.len]
	}
	return out[v.off : v.off+v.len]
}

func (d *Decoder) text(v span) []byte {
	d.tmp = d.appendNumber(d.tmp[:0], v)
	return d.tmp
}

// appendNumber appends the text of a number or a stamp.
func (d *Decoder) appendNumber(dst []byte, v span) []byte {
	switch n := d.nums[v.off]; v.len {
	case asDecimal:
		return strconv.AppendUint(dst, n, 10)
	case asHex:
		return strconv.AppendUint(dst, n, 16)
	default:
		return appendStamp(dst, n, d.nums[v.off+1])
	}
}

// told is a number, or a stamp's two, as a value.
func (d *Decoder) told(kind uint32, n ...uint64) span {
	d.nums = append(d.nums, n...)
	return span{uint32(len(d.nums) - len(n)), kind}
}

func appendStamp(out []byte, ms, serial uint64) []byte {
	out = strconv.AppendUint(out, ms/1000, 10)
	ms %= 1000
	out = append(out, '.', '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), ':')
	return strconv.AppendUint(out, serial, 10)
}

// copied appends a value once more.
func (d *Decoder) copied(out []byte, v span) ([]byte, span) {
	at := len(out)
	return append(out, d.val(out, v)...), span{uint32(at), v.len}
}

// since is what was appended to out from at on, as a value.
func since(out []byte, at int) span { return span{uint32(at), uint32(len(out) - at)} }

// byte reads a byte of a stream.
func (d *Decoder) byte(n int) byte {
	if s := &d.in[n]; s.at < len(s.b) {
		s.at++
		return s.b[s.at-1]
	}
	d.bad = true
	return 0
}

// uvarint reads a number of a stream. Most are of one byte.
func (d *Decoder) uvarint(n int) uint64 {
	if s := &d.in[n]; s.at < len(s.b) && s.b[s.at] < 0x80 {
		s.at++
		return uint64(s.b[s.at-1])
	}
	return d.long(n)
}

func (d *Decoder) long(n int) uint64 {
	s := &d.in[n]
	v, k := binary.Uvarint(s.b[s.at:])
	if k <= 0 {
		d.bad = true
		return 0
	}
	s.at += k
	return v
}

// line appends a line, or with d.pick its values that are not those of the row before.
func (d *Decoder) line(out []byte) []byte {
	s := &d.s
	x := s.of(s.prev)
	id := x.next
	if c := d.uvarint(Choice); c > 0 {
		if c > uint64(len(s.t.temps)) {
			d.bad = true
			return out
		}
		id = int32(c - 1)
		x.next = id
	}
	if id < 0 {
		d.bad = true
		return out
	}
	s.prev = id
	x = s.of(id)
	t := &s.t.temps[id]
	var str *cut // of a process that is no number
	if t.pid >= 0 {
		str = d.process(t, x)
	}
	var r rowPair
	s.row(&r, id, x)
	mask := uint64(0)
	if many := len(t.first) - min(1, t.pid+1); many > 0 {
		mask = d.mask(x)
	}
	other := (mask | t.stamp) & (1<<len(t.first) - 1)
	if t.pid >= 0 && !(r.found && s.pid != 0 && !s.over) { // else the row has the process's number as it is
		other |= 1 << t.pid
	}
	if d.bad {
		return out
	}
	switch {
	case d.pick != nil && r.found && mask == 0 && other == t.stamp && other&(other-1) == 0 && other != 0:
		d.sameAgain(id, t, &r)
		return out
	case d.pick != nil && d.pick.Test == nil && other == 0 && t.bytes == 0 && d.emptyAgain(&r):
		return out
	case d.pick != nil:
		return d.picked(out, id, &r, other, mask, str)
	case len(t.first) == 0:
		return append(out, t.lits[0]...)
	case r.first:
		for i, v := range t.first {
			out = append(out, t.lits[i]...)
			if other&(1<<i) != 0 {
				out, r.now[i] = d.slot(out, t, i, v, mask, str)
			} else {
				out, r.now[i] = d.copied(out, v)
			}
			if d.bad || len(out) > d.max {
				d.bad = true
				return out
			}
		}
		return append(out, t.lits[len(t.first)]...)
	}
	return d.like(out, t, &r, other, mask, str)
}

// like appends a line by the one before: all values of a row lie in one line, so whatever is between two values that are others is
// copied at once, literals and all.
func (d *Decoder) like(out []byte, t *template, r *rowPair, other, mask uint64, str *cut) []byte {
	before, now := r.before, r.now[:len(r.before)]
	last := before[len(before)-1]
	from, end := int(before[0].off)-len(t.lits[0]), int(last.off+last.len)+len(t.lits[len(before)])
	done := 0 // slots
	if stamp := d.s.stamp; mask == 0 && other == t.stamp && other&(other-1) == 0 {
		if i := bits.TrailingZeros64(other); i < len(before) && before[i].len == stamp.len { // most lines: only the event is another one
			shift, at := uint32(len(out)-from), before[i].off
			out = append(out, out[from:end]...)
			copy(out[at+shift:], d.val(out, stamp))
			for k, v := range before {
				now[k] = span{v.off + shift, v.len}
			}
			return out
		}
	}
	for ; other != 0; other &= other - 1 {
		i := bits.TrailingZeros64(other)
		v := before[i]
		shift := uint32(len(out) - from)
		out = append(out, out[from:v.off]...)
		for k := done; k < i; k++ {
			now[k] = span{before[k].off + shift, before[k].len}
		}
		out, now[i] = d.slot(out, t, i, v, mask, str)
		if d.bad || len(out) > d.max {
			d.bad = true
			return out
		}
		from, done = int(v.off+v.len), i+1
	}
	shift := uint32(len(out) - from)
	out = append(out, out[from:end]...)
	for k := done; k < len(before); k++ {
		now[k] = span{before[k].off + shift, before[k].len}
	}
	return out
}

// slot appends a line's value that is coded: its process, a stamp, or one that is not that of the row before.
func (d *Decoder) slot(out []byte, t *template, i int, before span, mask uint64, str *cut) ([]byte, span) {
	switch {
	case i == t.pid:
		if str != nil {
			return d.join(out, str)
		}
		if d.number = true; d.pick != nil {
			return out, d.told(asDecimal, d.s.pid)
		}
		at := len(out)
		out = strconv.AppendUint(out, d.s.pid, 10)
		return out, since(out, at)
	case t.stamp&(1<<i) != 0:
		return d.stamp(out, before, mask&(1<<i) != 0)
	}
	return d.value(out, t.keys[i], before)
}

// process reads a line's process, which becomes the present one. One that is no number is returned.
func (d *Decoder) process(t *template, x *templateState) *cut {
	s := &d.s
	c := d.byte(Process)
	switch {
	case c == pidSame:
	case c == pidString:
		before := t.first[t.pid]
		if x.last >= 0 {
			before = s.rows[int(x.last)+t.pid]
		}
		s.pid = 0
		str := d.cut(before)
		return &str
	case c == pidNew:
		s.usePID(s.numPID, s.newPID+uint64(unzigzag(d.uvarint(Number))))
	case int(c) > s.numPID:
		d.bad = true
	default:
		s.usePID(int(c-1), s.pids[c-1])
	}
	return nil
}

func (d *Decoder) mask(x *templateState) uint64 {
	c := d.byte(Mask)
	if c != maskNew {
		if int(c) >= len(x.masks) {
			d.bad = true
			return 0
		}
		return x.masks[c]
	}
	m := d.uvarint(NewMask)
	if len(x.masks) < maxMasks {
		x.masks = append(x.masks, m)
	}
	return m
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func (d *Decoder) stamp(out []byte, before span, other bool) ([]byte, span) {
	s := &d.s
	if !other {
		if d.number = s.known; d.pick != nil {
			return out, s.stamp
		}
		return d.copied(out, s.stamp)
	}
	if c := d.uvarint(Stamp); c == 0 {
		out, s.stamp = d.string(out, before)
		s.known = false
	} else {
		d.number, s.known = true, true
		s.ms += uint64(unzigzag(c - 1))
		s.ser += 1 + uint64(unzigzag(d.uvarint(Stamp)))
		if d.pick != nil {
			s.stamp = d.told(asStamp, s.ms, s.ser)
			return out, s.stamp
		}
		at := len(out)
		out = appendStamp(out, s.ms, s.ser)
		s.stamp = since(out, at)
	}
	return out, s.stamp
}

func (d *Decoder) value(out []byte, key uint32, before span) ([]byte, span) {
	k := d.s.key(key)
	op := d.byte(Op)
	at := len(out)
	switch op {
	case opDecimal, opHex:
		d.number = true
		kind, base, most := uint32(asDecimal), 10, uint64(mostDecimal)
		if op == opHex {
			kind, base, most = asHex, 16, mostHex
		}
		var n uint64
		switch {
		case before.len == kind:
			n = d.nums[before.off]
		case op == opHex:
			n, _ = hexNumber(d.val(out, before))
		default:
			n, _ = number(d.val(out, before))
		}
		if n += uint64(unzigzag(d.uvarint(Number))); n > most { // it would be none for the line that is compared with this one
			d.bad = true
			return out, before
		}
		if d.pick != nil {
			now := d.told(kind, n)
			k.add(now)
			return out, now
		}
		out = strconv.AppendUint(out, n, base)
	case opString:
		out, _ = d.string(out, before)
	default:
		i := int(op - opRecent)
		if i >= k.n {
			d.bad = true
			return out, before
		}
		now := k.last(i)
		if d.pick == nil {
			out, now = d.copied(out, now)
		}
		k.use(i, now)
		return out, now
	}
	now := since(out, at)
	k.add(now)
	return out, now
}

// cut is a value that shares its begin and its end with another one.
type cut struct {
	before    span
	head, end uint32
	mid       []byte
}

func (d *Decoder) string(out []byte, before span) ([]byte, span) {
	c := d.cut(before)
	return d.join(out, &c)
}

// cut reads a string.
func (d *Decoder) cut(before span) cut {
	head, end, n := d.uvarint(Length), d.uvarint(Length), d.uvarint(Length)
	s := &d.in[Text]
	size := uint64(before.len)
	if before.len >= isNumber {
		size = uint64(len(d.text(before)))
	}
	if d.bad || n > uint64(len(s.b)-s.at) || head > size || end > size-head {
		d.bad = true
		return cut{}
	}
	mid := s.b[s.at : s.at+int(n)]
	s.at += int(n)
	return cut{before, uint32(head), uint32(end), mid}
}

// join appends a string.
func (d *Decoder) join(out []byte, c *cut) ([]byte, span) {
	at := len(out)
	b := d.val(out, c.before)
	out = append(out, b[:c.head]...)
	out = append(out, c.mid...)
	out = append(out, b[uint32(len(b))-c.end:]...)
	return out, since(out, at)
}
