package bolt

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var _ store.PieceScanner = (*snapshot)(nil)

// ScanPieces implements store.PieceScanner.
func (sn *snapshot) ScanPieces(ctx context.Context, q *query.Query, fn func(*store.Piece) error) error {
	return newScan(ctx, sn, q, true, fn).all()
}

// thin is the part of a block's events of which fewer match than make it worth to send the block: its text is as small, compressed.
const thin = 16

// whole reports whether a unit's block goes out as it is stored: all of its events may match, and the index says how many do, and that these are many. Where
// those that match can be made without the others' text, the collector makes them.
func (sc *scan) whole(u *unit) bool {
	c, q := &u.cand, sc.q
	if sc.emit == nil || c.Want != nil || c.Block.Host == "" || u.plan.origins != nil || q.AfterBatch != 0 || q.HasSerial ||
		!store.InTime(q, c.Block.MinMs) || !store.InTime(q, c.Block.MaxMs) {
		return false
	}
	counted := len(sc.conds) == 1 && sc.conds.Decide(q) && (sc.types || !u.plan.frames.Picks())
	return c.Sure || counted && thin*uint64(c.Met) >= uint64(c.Block.Events)
}

// toRead returns those of a plan's units that workers read; mu is held.
func (sc *scan) toRead(units []*unit) []*unit {
	if sc.emit == nil {
		return units
	}
	list := make([]*unit, 0, len(units))
	for _, u := range units {
		if sc.whole(u) {
			u.phase = done
		} else {
			list = append(list, u)
		}
	}
	return list
}

// piece gives a unit out as a piece.
func (sc *scan) piece(u *unit) error {
	pl, blk := u.plan, &u.cand.Block
	p := &store.Piece{MinMs: blk.MinMs, MaxMs: blk.MaxMs, Part: sc.place(pl.p), Group: pl.id, Index: uint32(u.cand.Index)}
	if !sc.whole(u) {
		sc.openUnit(u)
		defer sc.release(u)
		if p.Found = sc.foundOf(u); len(p.Found) == 0 {
			return nil
		}
		return sc.emit(p)
	}
	b := &store.PieceBlock{Host: blk.Host, Events: blk.Events, Counted: blk.Counted, Sure: u.cand.Sure, Matches: u.cand.Met, Off: blk.Off, Len: blk.Len,
		Frame: frameKey{pl.p, pl.id, blk.Frame}}
	if pl.frames.Picks() {
		b.Templates = frameKey{pl.p, pl.id, 0}
	}
	if b.Batches = pl.batches.Runs(u.cand.Index); b.Batches == nil {
		b.Batch = pl.id
	}
	unread := false
	b.Read = func(templates bool) (f *store.PieceFrame, err error) {
		if f, err = sc.stored(u, templates); err != nil {
			unread = true
			sc.s.noteDamage(pl.p, pl.id, u.cand.Index, blk, err)
			sc.addError(err)
		}
		return f, err
	}
	p.Block = b
	if err := sc.emit(p); err != nil && !unread { // what cannot be read is said at the end
		return err
	}
	return nil
}

// place numbers the partitions of the answer by their parts' order.
func (sc *scan) place(p *partition) uint32 {
	if len(sc.places) == 0 {
		sc.places = map[*partition]uint32{}
		for _, pl := range sc.plans {
			sc.places[pl.p] = 0
		}
		for a := range sc.places {
			for b := range sc.places {
				if b.part.Compare(a.part) < 0 {
					sc.places[a]++
				}
			}
		}
	}
	return sc.places[p]
}

// foundOf returns the events of a unit that match.
func (sc *scan) foundOf(u *unit) []store.Found {
	out := make([]store.Found, 0, len(u.matched))
	for i := range u.matched {
		text := u.matched[i].text
		if text == nil {
			if text = sc.textAgain(u, i); text == nil {
				continue
			}
		}
		out = append(out, sc.found(u, i, text))
	}
	return out
}

// stored copies the frame of a unit out of its group.
func (sc *scan) stored(u *unit, templates bool) (*store.PieceFrame, error) {
	pl, out := u.plan, &store.PieceFrame{}
	err := pl.p.withBytes(pl.id, func(b []byte) error {
		f, err := pl.frames.Stored(b, u.cand.Block.Frame)
		if err != nil {
			return err
		}
		out.Version, out.Raw, out.CRC, out.Bytes = f.Version, f.Raw, f.CRC, f.Bytes
		if templates {
			out.Templates, err = pl.frames.Templates(b)
		}
		return err
	})
	return out, err
}
