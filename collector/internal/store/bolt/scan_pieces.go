package bolt

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// An answer in pieces is merged as any other, but for the frames that go out as they are stored: these are of no unit that is read.

var (
	_ store.PieceScanner = (*snapshot)(nil)
	_ store.Pieced       = (*Store)(nil)
)

// InPieces implements store.Pieced. Of values in compacted days only the lines that match are read, and few frames go out as they are stored.
func (s *Store) InPieces(q *query.Query) bool {
	if len(q.Terms) == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all, compacted := uint64(0), uint64(0)
	for _, p := range s.parts {
		for i := range p.entries {
			sum := &p.entries[i].sum
			if !inTimes(sum, q) {
				continue
			}
			if all += sum.Events; p.compacted != nil {
				compacted += sum.Events
			}
		}
	}
	return 2*compacted <= all
}

const (
	// Events go out when so many wait, or so many bytes of them, or for so long; and as often it is said how far the answer is.
	pieceMost  = 1024
	pieceText  = 256 << 10
	pieceDelay = 100 * time.Millisecond
	// frameBlocks is the most blocks of a frame that goes out: of a frame of many small hosts each would wait for its time, far from the others.
	frameBlocks = 4
	// maxOpenText bounds the text of frames that have gone out and are not through yet: who puts them in order has all of it.
	maxOpenText = 192 << 20
)

// ScanPieces implements store.PieceScanner.
func (sn *snapshot) ScanPieces(ctx context.Context, q *query.Query, fn func(*store.Piece) error) error {
	out := &pieces{emit: fn, last: time.Now(), next: math.MinInt64}
	sc := newScan(ctx, sn, q, true, out)
	sc.give = func(u *unit, pos int) error {
		text := u.matched[pos].text
		if u.matched[pos].text = nil; text == nil {
			if text = sc.textAgain(u, pos); text == nil {
				return nil
			}
		}
		out.add(sc.found(u, pos, text), sc.place(u))
		return nil
	}
	return sc.all()
}

// pieces is what an answer in pieces has beside a scan. It is the merge's.
type pieces struct {
	emit   func(*store.Piece) error
	wait   store.Piece // events that wait
	places map[store.PiecePlace]uint32
	bytes  int       // of them
	last   time.Time // when a piece went out last
	next   int64     // of that
	open   openFrames
	held   int64 // bytes of open
	parts  map[*partition]uint32
}

// add takes the answer's next event.
func (o *pieces) add(f store.Found, at store.PiecePlace) {
	i, has := o.places[at]
	if !has {
		if o.places == nil {
			o.places = map[store.PiecePlace]uint32{}
		}
		i = uint32(len(o.wait.Places))
		o.places[at], o.wait.Places = i, append(o.wait.Places, at)
	}
	o.wait.Found, o.wait.At = append(o.wait.Found, f), append(o.wait.At, i)
	o.bytes += len(f.Text)
}

// flush gives out the events that wait, and says how far the answer is: what comes is not before next.
func (o *pieces) flush(next int64) error {
	p := o.wait
	o.next = max(o.next, next)
	p.Next = o.next
	clear(o.places)
	o.wait, o.bytes, o.last = store.Piece{}, 0, time.Now()
	return o.emit(&p)
}

// due flushes what has waited long, or is much. Without anything that waits, it is said now and then how far the answer is.
func (o *pieces) due(next int64) error {
	if n := len(o.wait.Found); n < pieceMost && o.bytes < pieceText && time.Since(o.last) < pieceDelay {
		return nil
	}
	return o.flush(next)
}

// openFrame is a frame that has gone out: when it is through, and its text's size.
type openFrame struct {
	until int64
	raw   uint32
}

// openFrames is a heap, the first that is through first.
type openFrames []openFrame

func (h openFrames) Len() int           { return len(h) }
func (h openFrames) Less(i, j int) bool { return h[i].until < h[j].until }
func (h openFrames) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *openFrames) Push(x any)        { *h = append(*h, x.(openFrame)) }
func (h *openFrames) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// room reports whether another frame may be open, from a time on, and counts it then.
func (o *pieces) room(from, until int64, raw uint32) bool {
	for len(o.open) > 0 && o.open[0].until < from {
		o.held -= int64(heap.Pop(&o.open).(openFrame).raw)
	}
	if o.held+int64(raw) > maxOpenText {
		return false
	}
	o.held += int64(raw)
	heap.Push(&o.open, openFrame{until, raw})
	return true
}

// wholeFrame are the units of a frame that goes out as it is stored, by due.
type wholeFrame struct {
	units []*unit
	gone  bool // it has; the merge's
}

// whole reports whether a unit's block may be read by who asks: the index says which of its events match, or how many have a type that is asked for.
func (sc *scan) whole(u *unit) bool {
	c, q := &u.cand, sc.q
	if !q.Unparsable && c.Block.MinMs <= 0 { // there may be lines that are no records, which do not match
		return false
	}
	if u.alone && u.plan.frames.Picks() { // to pick them takes less than to unpack all
		return false
	}
	return c.Counted && (c.Want == nil || c.Sure) && u.plan.frames.Whole() && c.Block.Host != "" && u.plan.origins == nil && q.AfterBatch == 0 && !q.HasSerial &&
		store.InTime(q, c.Block.MinMs) && store.InTime(q, c.Block.MaxMs) &&
		(c.Sure || sc.types)
}

// setWhole finds a plan's frames that go out as they are stored: many of their events match. All of a frame's blocks are of hosts that are asked for then: who asks for a host gets no other host's text. Where so
// many lie over each other that who asks could not have them all, none goes out.
func (sc *scan) setWhole(pl *plan, units []*unit) {
	if sc.out == nil {
		return
	}
	byFrame := map[uint32]*wholeFrame{}
	for _, u := range units {
		if sc.whole(u) {
			f := byFrame[u.cand.Block.Frame]
			if f == nil {
				f = &wholeFrame{}
				byFrame[u.cand.Block.Frame] = f
			}
			f.units = append(f.units, u)
		}
	}
	type edge struct {
		at  int64
		raw int64
	}
	var edges []edge
	for n, f := range byFrame {
		const thin = 16 // of fewer events, the text is as small as the frame
		raw, size, events, met := pl.frames.Raw(n), uint64(0), uint64(0), uint64(0)
		for _, u := range f.units {
			size += uint64(u.cand.Block.Len)
			events += uint64(u.cand.Block.Events)
			met += uint64(u.cand.Met)
		}
		for _, blk := range f.units[0].cand.Beside.Blocks {
			size += uint64(blk.Len)
			events += uint64(blk.Events)
		}
		if len(f.units) > frameBlocks || raw == 0 || size != uint64(raw) || thin*met < events {
			delete(byFrame, n)
			continue
		}
		for _, u := range f.units {
			edges = append(edges, edge{u.cand.Block.MinMs, int64(raw)}, edge{u.cand.Block.MaxMs + 1, -int64(raw)})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.raw, b.raw)) })
	open := int64(0)
	for _, e := range edges {
		if open += e.raw; open > maxOpenText {
			return
		}
	}
	for _, f := range byFrame {
		for _, u := range f.units {
			u.whole = f
		}
	}
}

// toRead returns those of a plan's units that workers read; mu is held.
func (sc *scan) toRead(units []*unit) []*unit {
	if sc.out == nil {
		return units
	}
	list := make([]*unit, 0, len(units))
	for _, u := range units {
		if u.whole == nil {
			list = append(list, u)
		}
	}
	return list
}

// sent reports whether a unit's block has gone out, or goes out now, with its frame. Where there is no room for that, the unit is read.
func (sc *scan) sent(u *unit) (bool, error) {
	if sc.out == nil || u.whole == nil {
		return false, nil
	}
	if u.whole.gone {
		return true, nil
	}
	pl, raw, until := u.plan, u.plan.frames.Raw(u.cand.Block.Frame), int64(math.MinInt64)
	for _, x := range u.whole.units {
		until = max(until, sc.due(x.cand.Block.MaxMs, x.cand.Block.MinMs))
	}
	if !sc.out.room(sc.dueOf(u), until, raw) {
		sc.readAfterAll(u.whole.units)
		return false, nil
	}
	u.whole.gone = true
	p := &store.Piece{}
	var err error
	if p.Frame, err = sc.stored(u); err != nil {
		for _, x := range u.whole.units {
			sc.s.noteDamage(pl.p, pl.id, x.cand.Index, &x.cand.Block, err)
			sc.addError(err)
		}
		return true, nil
	}
	for _, blk := range u.cand.Beside.Blocks {
		p.Frame.Beside = append(p.Frame.Beside, blk.Host)
		p.Frame.BesideLen += blk.Len
	}
	for _, x := range u.whole.units {
		blk := &x.cand.Block
		b := store.PieceBlock{MinMs: blk.MinMs, MaxMs: blk.MaxMs, Host: blk.Host, Events: blk.Events, Counted: blk.Counted, Sure: x.cand.Sure, Matches: x.cand.Met, Want: x.cand.Want,
			Off: blk.Off, Len: blk.Len, Batches: pl.batches.Runs(x.cand.Index), Place: sc.place(x)}
		if b.Batches == nil {
			b.Batch = pl.id
		}
		p.Blocks = append(p.Blocks, b)
	}
	if len(sc.out.wait.Found) > 0 { // these may go before
		if err := sc.out.flush(sc.dueOf(u)); err != nil {
			return false, err
		}
	}
	sc.out.next = max(sc.out.next, sc.dueOf(u))
	p.Next, sc.out.last = sc.out.next, time.Now()
	return true, sc.out.emit(p)
}

// readAfterAll has units read, the first of which the merge needs now.
func (sc *scan) readAfterAll(units []*unit) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for _, x := range units {
		x.whole = nil
	}
	sc.units = append(sc.units, units[1:]...)
	slices.SortStableFunc(sc.units, func(a, b *unit) int { return cmp.Compare(sc.dueOf(a), sc.dueOf(b)) })
	sc.wake.Broadcast()
}

// stored copies the frame of a unit out of its group.
func (sc *scan) stored(u *unit) (*store.PieceFrame, error) {
	pl, out := u.plan, &store.PieceFrame{}
	if pl.frames.Picks() {
		out.Group = frameKey{pl.p, pl.id, 0}
		out.ReadTemplates = func() (t []byte, err error) {
			err = pl.p.withBytes(pl.id, func(b []byte) error {
				t, err = pl.frames.Templates(b)
				return err
			})
			return t, err
		}
	}
	err := pl.p.withBytes(pl.id, func(b []byte) error {
		f, err := pl.frames.Stored(b, u.cand.Block.Frame)
		if err != nil {
			return err
		}
		for _, x := range u.whole.units {
			if blk := &x.cand.Block; uint64(blk.Off)+uint64(blk.Len) > uint64(f.Raw) {
				return fmt.Errorf("%w: a block at %d, %d bytes, in a frame of %d", store.ErrDamaged, blk.Off, blk.Len, f.Raw)
			}
		}
		out.Version, out.Raw, out.CRC, out.Bytes = f.Version, f.Raw, f.CRC, f.Bytes
		return nil
	})
	return out, err
}

// place says where a unit's events lie. Partitions are numbered in the order of their parts.
func (sc *scan) place(u *unit) store.PiecePlace {
	o := sc.out
	if o.parts == nil {
		o.parts = map[*partition]uint32{}
		var list []*partition
		for _, pl := range sc.plans {
			if _, has := o.parts[pl.p]; !has {
				o.parts[pl.p] = 0
				list = append(list, pl.p)
			}
		}
		slices.SortFunc(list, func(a, b *partition) int { return a.part.Compare(b.part) })
		for i, p := range list {
			o.parts[p] = uint32(i)
		}
	}
	return store.PiecePlace{Part: o.parts[u.plan.p], Group: u.plan.id, Index: uint32(u.cand.Index)}
}
