package group

import (
	"hash/crc32"

	"github.com/auditfleet/auditfleet/collector/internal/store/group/rows"
)

// Picker reads a few events of a block without making the text of the others, where the block's frame is rows and of no other form.
// It is for one goroutine.
type Picker struct {
	test *rows.Test
	// untested is of how many Picks to come the events that are wanted are not tested: all that were wanted last passed.
	untested int
	p        rows.Picking
	next     int // of p.Events
	at       int // where its text begins
	text     []byte
	// Passed and Of are of the last Pick by the test: how many events passed it, of how many.
	Passed, Of int
}

// NewPicker makes a Picker. Where names is not empty, events pass its test in whose text there is a field of one of these names, each
// with its =, and is says yes to what stands behind that. Some others may pass, too.
func NewPicker(names []string, is func(value []byte) bool) *Picker {
	p := &Picker{}
	if len(names) > 0 {
		p.test = rows.NewTest(names, is)
	}
	return p
}

// Tests reports whether there is a test: else all events pass.
func (p *Picker) Tests() bool { return p.test != nil }

// Picks reports whether there are frames of rows, which Pick may read from.
func (f *Frames) Picks() bool { return f.g.rows != nil }

// Pick reads a candidate's events, of the group's bytes: those that it wants, and of these those that pass the test. Next gives them. False: they
// cannot be picked, and who wants them reads the whole block, which also says what is wrong with one that is damaged.
func (f *Frames) Pick(p *Picker, group []byte, c *Candidate) bool {
	g, err := f.of(group)
	if err != nil || f.g.rows == nil || !c.plain || int(c.Block.Frame) >= len(g.frames)/frameSize {
		return false
	}
	b, err := g.stored(c.Block.Frame)
	fr := rawFrame(g.frames[int(c.Block.Frame)*frameSize:])
	if err != nil || len(b) == 0 || b[0] != formRows || uint64(fr.raw) > g.c.frame || crc32.Checksum(b, castagnoli) != fr.crc {
		return false
	}
	r := g.c.decoders.Get().(*rowsReader)
	defer g.c.release(r)
	if g.openRows(r, b[1:], int(fr.raw)) != nil {
		return false
	}
	p.p = rows.Picking{From: c.before, To: c.before + c.Block.Events, Want: c.Want, Test: p.testOf(c), Events: p.p.Events[:0]}
	p.text, err = r.Pick(p.text[:0], r.table, &r.streams, r.lines, int(fr.raw), &p.p)
	p.next, p.at = 0, 0
	p.Passed, p.Of = len(p.p.Events), int(c.Block.Events)
	if p.p.Test != nil && c.Want != nil && p.Passed == len(c.Want) {
		p.untested = testAgainAfter
	}
	return err == nil
}

// testAgainAfter is how many Picks go untested after one that the test took nothing from: what wants the events is most often the index, by
// the value that the test looks for.
const testAgainAfter = 16

// testOf returns the test for a candidate's events; nil: none.
func (p *Picker) testOf(c *Candidate) *rows.Test {
	if c.Want != nil && p.untested > 0 {
		p.untested--
		return nil
	}
	return p.test
}

// Text returns the texts of all events that were picked, one after the other. It is valid until Pick is called again.
func (p *Picker) Text() []byte { return p.text }

// Next returns an event: its number in the block, and where its text lies in Text. False: there are no more.
func (p *Picker) Next() (n uint32, from, to int, ok bool) {
	if p.next == len(p.p.Events) {
		return 0, 0, 0, false
	}
	e := p.p.Events[p.next]
	from = p.at
	p.next, p.at = p.next+1, e.End
	return e.N, from, e.End, true
}
