package bolt

import "slices"

// pickAgainAfter is how many units are read whole after one of which most events passed the test: making each event by itself takes longer than
// making all of them.
const pickAgainAfter = 16

// pick is read for a unit of which few events may match: where it can be, these are made without the others' text. False: nothing was done.
func (sc *scan) pick(u *unit, rd *reader) bool {
	if !u.only || !u.plan.frames.Picks() || !u.alone && (u.cand.Want != nil || u.cand.Sure || !rd.picker.Tests()) {
		return false
	}
	if !u.alone && rd.dense > 0 {
		rd.dense--
		return false
	}
	pl, blk := u.plan, &u.cand.Block
	if cached := sc.s.cache.peek(frameKey{pl.p, pl.id, blk.Frame}); cached != nil {
		sc.s.cache.done(cached, false)
		return false
	}
	if !sc.hold(u, 0, false) { // the merge would want places in the block's text
		return false
	}
	picked := false
	err := pl.p.withBytes(pl.id, func(b []byte) error {
		picked = pl.frames.Pick(rd.picker, b, &u.cand)
		return nil
	})
	if err != nil || !picked {
		return false
	}
	if !u.alone && 2*rd.picker.Passed > rd.picker.Of {
		rd.dense = pickAgainAfter
	}
	origins, batches := pl.origins.Block(u.cand.Index, blk), pl.batches.Block(u.cand.Index, blk, pl.id)
	rd.host = append(rd.host[:0:0], blk.Host...)
	text, size := rd.picker.Text(), 0
	for next := uint32(0); ; next++ {
		n, from, to, ok := rd.picker.Next()
		if !ok {
			break
		}
		for ; next < n; next++ { // each is read, also of events that are not there
			origins.Next()
			batches.Next()
		}
		f := found{node: blk.Host, off: uint32(from), len: uint32(to - from), origin: origins.Next(), batch: batches.Next()}
		size += sc.match(u, rd, text[from:to:to], f, true)
	}
	if sc.q.Reverse {
		slices.Reverse(u.matched)
	}
	sc.hold(u, size, true)
	sc.copyOut(u, text, size)
	return true
}
