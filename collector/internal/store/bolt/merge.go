package bolt

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Kinds of items, in the order in which they leave the heap at the same time: a group or
// block that may have an event of that time is opened before an event is given out.
const (
	kindPlan = iota
	kindUnit
	kindEvent
)

// item is an element of the heap: a group to be planned, a block to be read, or the next
// event of a block that was read. Only the merge's goroutine uses the heap.
type item struct {
	ms     int64  // see scan.due
	node   string // of an event
	serial uint64 // of an event
	kind   uint8
	id     uint64 // of an event's batch: the earlier stored goes first; else of the group
	index  int    // of the block
	pos    int    // of the event in unit.matched
	plan   *plan
	unit   *unit
}

// items is the heap of a scan: the first of list is the least.
type items struct {
	list    []*item
	reverse bool
}

// init makes a heap of a list in any order.
func (h *items) init() {
	for i := len(h.list)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *items) push(x *item) {
	h.list = append(h.list, x)
	for i := len(h.list) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(h.list[i], h.list[up]) {
			return
		}
		h.list[i], h.list[up] = h.list[up], h.list[i]
		i = up
	}
}

// pop removes the first.
func (h *items) pop() {
	last := len(h.list) - 1
	h.list[0], h.list[last] = h.list[last], nil
	h.list = h.list[:last]
	h.down(0)
}

// down puts item i, which may have become greater, in its place.
func (h *items) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h.list); c++ {
			if h.less(h.list[c], h.list[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h.list[i], h.list[least] = h.list[least], h.list[i]
		i = least
	}
}

// less orders by time, which is negated for a reversed query; then what may hold events
// before events; then as before does, the other way round for a reversed query.
func (h *items) less(a, b *item) bool {
	switch {
	case a.ms != b.ms:
		return a.ms < b.ms
	case a.kind != b.kind:
		return a.kind < b.kind
	case a.kind != kindEvent: // in whatever order they are opened
		return a.id < b.id
	case h.reverse:
		return b.before(a)
	}
	return a.before(b)
}

// before is the order of events with the same time: node, serial, batch, partition, group, block, place in
// the block.
func (i *item) before(o *item) bool {
	switch {
	case i.node != o.node:
		return i.node < o.node
	case i.serial != o.serial:
		return i.serial < o.serial
	case i.id != o.id:
		return i.id < o.id
	case i.unit.plan.p != o.unit.plan.p: // of one batch, and divided by classes of retention
		return i.unit.plan.p.part.Compare(o.unit.plan.p.part) < 0
	case i.unit.plan.id != o.unit.plan.id:
		return i.unit.plan.id < o.unit.plan.id
	case i.index != o.index:
		return i.index < o.index
	}
	return i.pos < o.pos
}

// events has the merge give out events.
func (sc *scan) events(fn func(*event.Event) error) {
	sc.give = func(u *unit, pos int) error {
		ev := u.matched[pos].ev
		if ev == nil {
			ev = sc.parseAgain(u, pos)
		}
		u.matched[pos].ev = nil // it is fn's now
		if ev == nil {
			return nil
		}
		ev.Batch = u.matched[pos].batch
		return fn(ev)
	}
}

// run is the merge: it gives the matching events out in order until there are none
// left, give errs or the context ends. At any time each unfinished group or block has one
// item in the heap, under the least time of what is left of it. So when an event is on
// top, everything that could hold an earlier one has been opened.
func (sc *scan) run() error {
	for len(sc.heap.list) > 0 {
		top := sc.heap.list[0]
		switch top.kind {
		case kindPlan:
			if err := sc.ctx.Err(); err != nil {
				return err
			}
			// The group's item is replaced by one for each of its blocks.
			pl := top.plan
			sc.heap.pop()
			for _, u := range sc.openPlan(pl) {
				sc.heap.push(&item{ms: sc.dueOf(u), kind: kindUnit, id: pl.id, index: u.cand.Index, unit: u})
			}
		case kindUnit:
			if err := sc.ctx.Err(); err != nil {
				return err
			}
			u := top.unit
			if gone, err := sc.sent(u); err != nil {
				return err
			} else if gone {
				sc.heap.pop()
				continue
			}
			// The block's item becomes that of its first event.
			sc.openUnit(u)
			sc.advance(u, 0)
		case kindEvent:
			u, pos := top.unit, top.pos
			if err := sc.give(u, pos); err != nil {
				return err
			}
			sc.advance(u, pos+1)
		}
		if err := sc.goOut(); err != nil {
			return err
		}
	}
	if err := sc.ctx.Err(); err != nil || sc.out == nil {
		return err
	}
	return sc.out.flush(math.MaxInt64)
}

// advance replaces the heap's top, which must be the unit's item, by the unit's event pos;
// when there is no such event the unit is done, and its item is removed.
func (sc *scan) advance(u *unit, pos int) {
	if pos >= len(u.matched) {
		sc.heap.pop()
		sc.release(u)
		return
	}
	f := &u.matched[pos]
	*sc.heap.list[0] = item{ms: sc.due(f.ms, f.ms), node: f.node, serial: f.serial, kind: kindEvent, id: f.batch, index: u.cand.Index, pos: pos, unit: u}
	sc.heap.down(0)
}

// goOut has pieces go out that are due.
func (sc *scan) goOut() error {
	switch {
	case sc.out == nil:
		return nil
	case len(sc.heap.list) == 0:
		return sc.out.due(math.MaxInt64)
	}
	return sc.out.due(sc.heap.list[0].ms)
}

// release lets go of a unit's events.
func (sc *scan) release(u *unit) {
	sc.mu.Lock()
	sc.held -= u.held
	sc.mu.Unlock()
	u.matched = nil
}

// openPlan returns a group's blocks that may match. When no worker has begun the plan, the
// merge makes it; else it waits for the worker that has.
func (sc *scan) openPlan(pl *plan) []*unit {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if pl.phase == waiting { // no worker has begun: it is the merge's
		pl.phase = running
		sc.mu.Unlock()
		units := sc.plan(pl)
		sc.mu.Lock()
		sc.planned(pl, units)
	}
	for pl.phase != done {
		sc.wake.Wait()
	}
	sc.opened++
	sc.wake.Broadcast()
	units := pl.units
	pl.units = nil
	return units
}

// openUnit has a block read when it returns: by the merge, when no worker has begun, else
// by the worker that has.
func (sc *scan) openUnit(u *unit) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if u.phase == waiting { // as in openPlan
		u.phase = running
		sc.mu.Unlock()
		sc.read(u, &sc.own)
		sc.mu.Lock()
		u.phase = done
	}
	for u.phase != done {
		sc.wake.Wait()
	}
	if u.worker { // one less that workers are ahead: they may begin another
		sc.ahead--
		sc.wake.Broadcast()
	}
}

// parseAgain parses an event again: too much text was kept for others when its block was
// read. nil, with an error kept, when that fails.
func (sc *scan) parseAgain(u *unit, pos int) *event.Event {
	one := sc.textAgain(u, pos)
	if one == nil {
		return nil
	}
	return store.ParseText(one, u.cand.Block.Counted, []byte(u.cand.Block.Host), u.matched[pos].origin)
}

// textAgain unpacks an event's frame again and returns the event's text; nil, with an error kept, when
// that fails.
func (sc *scan) textAgain(u *unit, pos int) []byte {
	text, _, cached, err := sc.text(u, &sc.own)
	f := &u.matched[pos]
	copied := u.alone || sc.plain // the frame is used again, or would be kept for each of the texts that are given together
	defer func() { sc.s.cache.done(cached, !copied) }()
	if err != nil || uint64(f.off)+uint64(f.len) > uint64(len(text)) {
		sc.addError(errors.Join(fmt.Errorf("%w: a block that could be read before cannot be now", store.ErrDamaged), err))
		return nil
	}
	one := text[f.off : f.off+f.len : f.off+f.len]
	if copied {
		one = slices.Clone(one)
	}
	return one
}
