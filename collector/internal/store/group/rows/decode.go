package rows

import (
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Decoder decodes texts. It is for one goroutine.
type Decoder struct {
	s   state
	in  [Streams]varint.Reader
	out []byte
	max int // bytes of out that there may be
	bad bool
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
	for i := range d.in {
		d.in[i] = varint.NewReader(streams[i])
	}
	d.s.begin(t)
	d.out, d.bad, d.max = dst[:0], false, size
	for i := range lines {
		if !d.line() || len(d.out) > size {
			break
		}
		if i+1 < lines || !tail {
			d.out = append(d.out, '\n')
		}
	}
	dst, d.out = d.out, nil
	for i := range d.in {
		if !d.in[i].Done() {
			return dst, ErrDamaged
		}
	}
	if d.bad || len(dst) != size {
		return dst, ErrDamaged
	}
	return dst, nil
}

// val returns a value's bytes, which are valid until something is appended to d.out.
func (d *Decoder) val(v span) []byte {
	if v.off&inTable != 0 {
		off := v.off &^ inTable
		return d.s.t.bytes[off : off+v.len]
	}
	return d.out[v.off : v.off+v.len]
}

// copied appends a value once more.
func (d *Decoder) copied(v span) span {
	at := len(d.out)
	d.out = append(d.out, d.val(v)...)
	return span{uint32(at), v.len}
}

// byte reads a byte of a stream.
func (d *Decoder) byte(stream int) byte {
	b := d.in[stream].Bytes(1)
	if b == nil {
		d.bad = true
		return 0
	}
	return b[0]
}

func (d *Decoder) line() bool {
	id := d.s.of(d.s.prev).next
	if c := d.in[Choice].Uvarint(); c > 0 {
		if c > uint64(len(d.s.t.temps)) {
			return d.fail()
		}
		id = int32(c - 1)
		d.s.of(d.s.prev).next = id
	}
	if id < 0 {
		return d.fail()
	}
	d.s.prev = id
	x := d.s.of(id)
	t := &d.s.t.temps[id]
	var str *cut // of a process that is no number
	var pid [20]byte
	num := pid[:0]
	if t.pid >= 0 {
		c := d.byte(Process)
		switch {
		case c == pidString:
			before := t.first[t.pid]
			if x.last >= 0 {
				before = d.s.rows[int(x.last)+t.pid]
			}
			c := d.cut(before)
			str, d.s.pid = &c, 0
		case c == pidNew:
			d.s.usePID(d.s.numPID, d.s.newPID+uint64(unzigzag(d.in[Number].Uvarint())))
		case c != pidSame:
			if int(c) > d.s.numPID {
				return d.fail()
			}
			d.s.usePID(int(c-1), d.s.pids[c-1])
		}
		num = strconv.AppendUint(num, d.s.pid, 10)
	}
	before, now := d.s.row(id, x)
	mask := uint64(0)
	if many := len(t.first) - min(1, t.pid+1); many > 0 {
		mask = d.mask(x)
	}
	other := mask | t.stamp
	if t.pid >= 0 {
		other |= 1 << t.pid
	}
	for i := 0; i < len(t.first); i++ {
		d.out = append(d.out, t.lits[i]...)
		switch {
		case other&(1<<i) == 0 && before[i].off&inTable == 0:
			i = d.same(before, now, i, other)
		case i == t.pid && str != nil:
			now[i] = d.join(*str)
		case i == t.pid:
			at := len(d.out)
			d.out = append(d.out, num...)
			now[i] = span{uint32(at), uint32(len(num))}
		case t.stamp&(1<<i) != 0:
			now[i] = d.stamp(before[i], mask&(1<<i) != 0)
		case mask&(1<<i) == 0:
			now[i] = d.copied(before[i])
		default:
			now[i] = d.value(t.keys[i], before[i])
		}
		if d.bad || len(d.out) > d.max {
			return d.fail()
		}
	}
	d.out = append(d.out, t.lits[len(t.first)]...)
	return true
}

// same appends the values from i on that are those of the row before, up to one that is not, and returns the last. All values of a row
// lie in one line, so they are copied with the literals between them.
func (d *Decoder) same(before, now []span, i int, other uint64) int {
	end := i + 1
	for end < len(before) && other&(1<<end) == 0 {
		end++
	}
	from, to := before[i].off, before[end-1].off+before[end-1].len
	shift := uint32(len(d.out)) - from
	d.out = append(d.out, d.out[from:to]...)
	for k := i; k < end; k++ {
		now[k] = span{before[k].off + shift, before[k].len}
	}
	return end - 1
}

func (d *Decoder) fail() bool {
	d.bad = true
	return false
}

func (d *Decoder) mask(x *templateState) uint64 {
	c := d.byte(Mask)
	if c != maskNew {
		if int(c) >= len(x.masks) {
			d.fail()
			return 0
		}
		return x.masks[c]
	}
	m := d.in[NewMask].Uvarint()
	if len(x.masks) < maxMasks {
		x.masks = append(x.masks, m)
	}
	return m
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func (d *Decoder) stamp(before span, other bool) span {
	if !other {
		return d.copied(d.s.stamp)
	}
	if c := d.in[Stamp].Uvarint(); c == 0 {
		d.s.stamp = d.string(before)
	} else {
		d.s.ms += uint64(unzigzag(c - 1))
		d.s.ser += 1 + uint64(unzigzag(d.in[Stamp].Uvarint()))
		at := len(d.out)
		d.out = strconv.AppendUint(d.out, d.s.ms/1000, 10)
		ms := d.s.ms % 1000
		d.out = append(d.out, '.', '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), ':')
		d.out = strconv.AppendUint(d.out, d.s.ser, 10)
		d.s.stamp = span{uint32(at), uint32(len(d.out) - at)}
	}
	d.s.known = true
	return d.s.stamp
}

func (d *Decoder) value(key uint32, before span) (now span) {
	k := d.s.key(key)
	op := d.byte(Op)
	at := len(d.out)
	switch op {
	case opDecimal:
		n, _ := number(d.val(before))
		d.out = strconv.AppendUint(d.out, n+uint64(unzigzag(d.in[Number].Uvarint())), 10)
		now = span{uint32(at), uint32(len(d.out) - at)}
	case opHex:
		n, _ := hexNumber(d.val(before))
		d.out = strconv.AppendUint(d.out, n+uint64(unzigzag(d.in[Number].Uvarint())), 16)
		now = span{uint32(at), uint32(len(d.out) - at)}
	case opString:
		now = d.string(before)
	default:
		i := int(op - opRecent)
		if i >= k.n {
			d.fail()
			return before
		}
		now = d.copied(k.recent[i])
		k.use(i, now)
		return now
	}
	k.use(k.n, now)
	return now
}

// cut is a value that shares its begin and its end with another one.
type cut struct {
	before    span
	head, end uint32
	mid       []byte
}

func (d *Decoder) string(before span) span { return d.join(d.cut(before)) }

// cut reads a string.
func (d *Decoder) cut(before span) cut {
	head, end, n := d.in[Length].Uvarint(), d.in[Length].Uvarint(), d.in[Length].Uvarint()
	mid := d.in[Text].Bytes(n)
	if size := uint64(before.len); head > size || end > size-head || d.in[Length].Bad() || d.in[Text].Bad() {
		d.fail()
		return cut{}
	}
	return cut{before, uint32(head), uint32(end), mid}
}

// join appends a string.
func (d *Decoder) join(c cut) span {
	at := len(d.out)
	b := d.val(c.before)
	d.out = append(d.out, b[:c.head]...)
	d.out = append(d.out, c.mid...)
	d.out = append(d.out, b[uint32(len(b))-c.end:]...)
	return span{uint32(at), uint32(len(d.out) - at)}
}
