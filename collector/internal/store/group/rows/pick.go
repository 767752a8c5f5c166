package rows

import (
	"bytes"
	"math/bits"
)

// Picking says which events of a text are wanted: a text of plain events, each of which is lines and an empty one. Lines of others are
// not made.
type Picking struct {
	From, To uint32   // those from the one to before the other, counted from the text's first
	Want     []uint32 // of these, ascending, counted from From; nil: all
	Test     *Test    // of these, those that may have what is tested for; nil: all
	Events   []Event  // that were made; Pick adds to it
}

// Event is one that was made.
type Event struct {
	N   uint32 // counted from Picking.From
	End int    // where its text ends, and that of the next one begins
}

// picking is what a Decoder knows of the text that it picks from.
type picking struct {
	*Picking
	values []byte     // that lines have told so far
	hits   []uint64   // by row: a bit a slot whose value passes the test
	n      uint32     // of the present event
	most   int        // bytes of what is made
	may    bool       // it has passed the test
	ended  bool       // the last line was its end
	lines  []pickLine // of it, if it may be wanted
	spans  []span     // their values
}

// pickLine is a line that is not made yet. Its values are those of its row, or copies where they had to be taken out of it: a later
// line of the event has the same row.
type pickLine struct {
	template int32
	row      int32 // where its values are in state.rows; -1: in picking.spans
	at       int32 // where they are there
}

// mostLines is of how many lines of an event rows are looked through: values of lines beyond that are copied at once.
const mostLines = 8

// mostSpans bounds the values of one event that are kept.
const mostSpans = 1 << 16

// Pick appends the texts of the events that p wants to dst; the rest is as Decode has it, and the text that it would make need not end where
// p's last event does. Error: ErrDamaged, also for a text that is not as Picking has it, or whose events are too large to be picked from; what
// is wrong with it Decode says.
func (d *Decoder) Pick(dst []byte, t *Table, streams *[Streams][]byte, lines, size int, p *Picking) ([]byte, error) {
	if size > maxText {
		return dst, ErrDamaged
	}
	d.begin(t, streams, size)
	d.pick = &d.picking
	k := d.pick
	k.Picking, k.n, k.most = p, 0, len(dst)+size
	k.begin()
	d.nums = d.nums[:0]
	values := k.values[:0]
	for range lines {
		if k.n >= p.To {
			break
		}
		values = d.line(values)
		if k.ended {
			dst = d.endEvent(dst, values)
		}
		if d.bad || len(values) > size || len(dst) > k.most || len(d.nums) > size || len(k.spans)+len(k.lines) > mostSpans {
			d.bad = true
			break
		}
	}
	k.values, k.Picking = values, nil
	d.in = [Streams]stream{}
	if d.bad || k.n < p.To {
		return dst, ErrDamaged
	}
	return dst, nil
}

// begin begins an event.
func (k *picking) begin() {
	k.may, k.ended, k.lines, k.spans = k.Test == nil, false, k.lines[:0], k.spans[:0]
}

// wanted reports whether the present event is wanted if it passes the test.
func (k *picking) wanted() bool {
	return k.n >= k.From && (k.Want == nil || len(k.Want) > 0 && k.Want[0] == k.n-k.From)
}

// picked notes a line's values in its row, and where its event may be wanted, which they are. Those that are others than in the row before
// are appended to out, which has all values; those that were told before stay where they are.
func (d *Decoder) picked(out []byte, id int32, r *rowPair, other, mask uint64, str *cut) []byte {
	k, t := d.pick, &d.s.t.temps[id]
	now := r.now
	wanted := k.wanted()
	if wanted && r.at >= 0 && len(now) > 0 {
		k.leave(r.at, now)
	}
	if !r.found {
		copy(now, r.before)
	}
	var test *templateTest
	var hits uint64
	if k.Test != nil {
		test = k.Test.of(d.s.t, id)
		k.may = k.may || test.always
		if len(now) == 0 { // it has no place in rows, nor in hits
			test = nil
		} else if hits = test.first; !r.first {
			hits = k.hits[r.was]
		}
	}
	for ; other != 0; other &= other - 1 {
		i := bits.TrailingZeros64(other)
		d.number = false
		out, now[i] = d.slot(out, t, i, now[i], mask, str)
		if d.bad || len(out) > d.max {
			d.bad = true
			return out
		}
		if test == nil {
			continue
		}
		bit := uint64(1) << i
		hits &^= bit
		if named := test.named&bit != 0; (named || !d.number) && k.Test.hit(d.val(out, now[i]), named) {
			hits |= bit
		}
	}
	if test != nil {
		if r.at >= 0 {
			for int(r.at) >= len(k.hits) {
				k.hits = append(k.hits, make([]uint64, len(d.s.rows)-len(k.hits))...)
			}
			k.hits[r.at] = hits
		}
		k.may = k.may || hits != 0
	}
	if k.ended = t.bytes == 0 && empty(now); !k.ended && wanted {
		k.keep(id, r)
	}
	return out
}

// sameAgain is picked for a line that has the values of the row before, but for its stamp, which is that of the line before: most lines.
func (d *Decoder) sameAgain(id int32, t *template, r *rowPair) {
	k, i := d.pick, bits.TrailingZeros64(t.stamp)
	wanted := k.wanted()
	if wanted {
		k.leave(r.at, r.now)
	}
	r.now[i] = d.s.stamp
	if k.Test != nil && !k.may {
		if !d.s.known { // it is no numbers, and may be anything
			k.may = true
		}
		k.may = k.may || k.hits[r.at] != 0 || k.Test.of(d.s.t, id).always
	}
	if k.ended = t.bytes == 0 && empty(r.now); !k.ended && wanted {
		k.keep(id, r)
	}
}

// emptyAgain is picked for a line without bytes as the row before, which ends an event and need not be made. False: it is another one, and nothing was done.
func (d *Decoder) emptyAgain(r *rowPair) bool {
	if !empty(r.before) {
		return false
	}
	copy(r.now, r.before) // a row that a line of the event has keeps its values, or is begun here
	d.pick.ended = true
	return true
}

// keep notes a line of the present event.
func (k *picking) keep(id int32, r *rowPair) {
	l := pickLine{id, r.at, 0}
	if len(r.now) == 0 || r.at < 0 || len(k.lines) >= mostLines {
		l = pickLine{id, -1, int32(len(k.spans))}
		k.spans = append(k.spans, r.now...)
	}
	k.lines = append(k.lines, l)
}

// leave copies the values of a line of the present event out of the row at this place, which is about to be another line's.
func (k *picking) leave(at int32, row []span) {
	for i := range k.lines[:min(len(k.lines), mostLines)] {
		if l := &k.lines[i]; l.row == at {
			l.row, l.at = -1, int32(len(k.spans))
			k.spans = append(k.spans, row...)
		}
	}
}

// endEvent appends the present event's text, if it is wanted, and goes on to the next.
func (d *Decoder) endEvent(dst, values []byte) []byte {
	k := d.pick
	if k.wanted() {
		if len(k.lines) == 0 { // no event is empty
			d.bad = true
			return dst
		}
		if k.may {
			for _, l := range k.lines {
				t := &d.s.t.temps[l.template]
				row := k.spans[l.at:]
				if l.row >= 0 {
					row = d.s.rows[l.row:]
				}
				for i, v := range row[:len(t.first)] {
					dst = append(dst, t.lits[i]...)
					if v.len >= isNumber {
						dst = d.appendNumber(dst, v)
					} else {
						dst = append(dst, d.val(values, v)...)
					}
					if len(dst) > k.most { // the text has no more, whatever its values say
						d.bad = true
						return dst
					}
				}
				dst = append(dst, t.lits[len(t.first)]...)
				if dst = append(dst, '\n'); len(dst) > k.most { // there may be many lines without a value
					d.bad = true
					return dst
				}
			}
			dst = append(dst, '\n')
			k.Events = append(k.Events, Event{k.n - k.From, len(dst)})
		}
		if k.Want != nil {
			k.Want = k.Want[1:]
		}
	}
	k.n++
	k.begin()
	return dst
}

// empty reports whether values have no bytes.
func empty(values []span) bool {
	for _, v := range values {
		if v.len > 0 {
			return false
		}
	}
	return true
}

// Test looks for fields of some names, with a value that is wanted, in the values of rows: of most lines few are others than in the
// row before, and only these are looked at. An event in whose text such a field stands passes it; one that passes
// need not have it. It is for one goroutine.
type Test struct {
	names [][]byte
	is    func(value []byte) bool
	t     *Table
	per   []templateTest
}

// templateTest is what the test has of a template.
type templateTest struct {
	known  bool
	always bool   // the field may stand where no value begins
	named  uint64 // a bit a slot: it is the value of such a field
	first  uint64 // of the values in the table, those that pass
}

// NewTest makes a Test for fields of these names, each with its = at the end and none but there: what stands in front of a name is no
// letter a to z. is is given what stands behind it, up to the value's end or further.
func NewTest(names []string, is func(value []byte) bool) *Test {
	x := &Test{is: is}
	for _, n := range names {
		x.names = append(x.names, []byte(n))
	}
	return x
}

// of returns what the test has of a template.
func (x *Test) of(t *Table, id int32) *templateTest {
	if x.t != t {
		x.t, x.per = t, make([]templateTest, len(t.temps))
	}
	p := &x.per[id]
	if p.known {
		return p
	}
	*p = x.look(t, &t.temps[id])
	return p
}

// look sees where a template has fields of the names. Where one may stand in some other way than as a literal's end, with the value behind
// it, the template's lines all pass.
func (x *Test) look(t *Table, temp *template) templateTest {
	p := templateTest{known: true}
	for i, lit := range temp.lits {
		if i > 0 && len(lit) > 0 && lit[0]-'0' <= 9 { // it may be a part of the number before
			p.always = true
		}
		for _, name := range x.names {
			for k := range len(name) - 1 {
				if bytes.HasPrefix(lit, name[k+1:]) { // the name's begin may be in the value before
					p.always = true
				}
			}
			for at := 0; ; at++ {
				k := bytes.Index(lit[at:], name)
				if k < 0 {
					break
				}
				if at += k; at > 0 && lit[at-1]-'a' < 26 {
					continue
				}
				if at+len(name) < len(lit) || i == len(temp.first) {
					p.always = true
				} else {
					p.named |= 1 << i
				}
			}
		}
	}
	for i, v := range temp.first {
		off := v.off &^ inTable
		if x.hit(t.bytes[off:off+v.len], p.named&(1<<i) != 0) {
			p.first |= 1 << i
		}
	}
	return p
}

// hit reports whether a value passes: as that of a field with one of the names, or as one in which such a field may stand.
func (x *Test) hit(v []byte, named bool) bool {
	return named && x.is(v) || bytes.IndexByte(v, '=') >= 0
}
