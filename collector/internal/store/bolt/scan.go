package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// scan merges the events of all blocks that may match. Groups (plans), and then blocks
// (units), wait in a heap under the least time that they hold, and are opened only when the
// answer gets there: a host with a wrong clock costs its own blocks. For a reversed query
// all of it runs backwards, from the greatest time down.
//
// Two kinds of goroutines work on it: the merge, which is the caller's and calls fn, and
// workers, which plan groups and unpack and match blocks ahead of it. Why that is safe and
// always ends:
//   - A plan or unit is worked on by one goroutine only: the one that, under mu, turns its
//     phase from waiting to running. That one alone writes its other fields until it turns
//     the phase to done, under mu; after that the merge alone does.
//   - The merge waits only for what is running. What is still waiting it does itself, so it
//     never waits for a worker that has not begun.
//   - Workers are at most plansAhead plans and unitsAhead units each ahead of what the
//     merge has opened, so memory is that of blocks that overlap in time, and these.
//
// The heap and own are the merge's alone. So answers are in order, however many workers
// there are.
type scan struct {
	ctx   context.Context
	q     *query.Query
	conds store.Conditions
	s     *Store
	heap  items
	own   reader // the merge's
	// plain says that events are given as text: none is parsed whose block the index decides.
	plain bool
	types bool                         // the query asks for types, hosts and times only
	give  func(u *unit, pos int) error // gives the answer's next event out; ours alone
	out   *pieces                      // of an answer in pieces; nil else

	mu      sync.Mutex // guards everything below, and each phase
	wake    *sync.Cond // of mu: a phase, opened, ahead or stopped has changed
	plans   []*plan    // by due
	next    int        // of plans: the next that a worker may begin
	opened  int        // plans that the merge has opened
	known   int        // of plans: the first that is not done
	units   []*unit    // to be read ahead, by due
	ahead   int        // units that workers have begun and the merge has not opened
	held    int64      // bytes of text of units whose events are kept parsed
	stopped bool
	errs    []error
	dropped int // errors beyond maxErrors
	workers int // that were started
	most    int // of workers
	wg      sync.WaitGroup
}

const (
	plansAhead = 64
	unitsAhead = 8        // a worker
	maxHeld    = 64 << 20 // of scan.held; beyond that, events are parsed when they are given out
	maxErrors  = 16
)

// phase is how far a plan or unit is; guarded by scan.mu.
type phase uint8

const (
	waiting phase = iota // nobody has begun
	running              // one goroutine works on it
	done
)

// plan is a group in which a query may match, and after planning its blocks.
type plan struct {
	p   *partition
	id  uint64
	due int64 // where on its way the answer must be for the group to be opened: see scan.due
	// origins is set while it is planned, where the query asks for them; nil else. batches too, of a group of many; nil:
	// all its events are of the batch id.
	origins *group.Origins
	batches *group.Batches
	frames  *group.Frames // set while it is planned, where there are blocks
	some    bool          // not all of its batches are wanted; of a Tally only
	filter  *asked
	phase   phase
	units   []*unit // the merge takes them
}

// unit is a block in which a query may match, and after reading its events that do.
type unit struct {
	plan    *plan
	cand    group.Candidate
	phase   phase
	worker  bool        // a worker began it; guarded by scan.mu
	only    bool        // no other unit is of its frame
	alone   bool        // only, and few of its events are wanted
	whole   *wholeFrame // it is not read, but goes out as it is stored; nil else
	matched []found     // in the order of the answer
	held    int64       // its part of scan.held
}

// found is an event that matches; ev, or text where that is asked for, is nil when it has to be read again.
type found struct {
	ms       int64
	serial   uint64
	node     string
	off, len uint32 // in the block's text
	origin   store.Origin
	batch    uint64
	ev       *event.Event
	text     []byte
}

// reader is what a goroutine reads units with; each has its own.
type reader struct {
	m       *query.Matcher
	scratch event.Event   // used again for every event
	host    []byte        // of the block that is read
	frame   []byte        // the memory of frames of units that are alone
	seeker  *query.Seeker // nil: there is nothing to seek
	picker  *group.Picker
	dense   int // units that are not picked from: the test of one before let most events pass
}

func newReader(q *query.Query) reader {
	m := query.NewMatcher(q)
	return reader{m: m, seeker: m.Seeker(), picker: group.NewPicker(m.Looks())}
}

// newScan starts the workers; the caller runs the merge and then calls close.
func newScan(ctx context.Context, sn *snapshot, q *query.Query, plain bool, out *pieces) *scan {
	sc := &scan{ctx: ctx, q: q, conds: store.ConditionsOf(q), s: sn.s, errs: lossesFor(sn.broken, q), plain: plain, out: out}
	sc.types = store.ByTypes(q)
	sc.own = newReader(q)
	sc.wake = sync.NewCond(&sc.mu)
	for _, v := range sn.parts {
		filter := v.filter(q, sc.conds)
		for i := range v.entries {
			e := &v.entries[i]
			if !sn.mayMatch(e, q) {
				continue
			}
			sc.plans = append(sc.plans, &plan{p: v.p, id: e.id, due: sc.due(e.sum.MinMs, e.sum.MaxMs), filter: filter})
		}
	}
	slices.SortStableFunc(sc.plans, func(a, b *plan) int {
		if c := cmp.Compare(a.due, b.due); c != 0 {
			return c
		}
		return cmp.Compare(a.id, b.id)
	})
	for _, pl := range sc.plans {
		sc.heap.list = append(sc.heap.list, &item{ms: pl.due, kind: kindPlan, id: pl.id, plan: pl})
	}
	sc.heap.reverse = q.Reverse
	sc.heap.init()
	if sc.most = sn.s.opts.Workers; sc.most <= 0 {
		sc.most = runtime.GOMAXPROCS(0)
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.workFor(len(sc.plans))
	return sc
}

// workFor starts as many workers as there is work for, which are most at most; mu is held.
func (sc *scan) workFor(n int) {
	for ; sc.workers < min(sc.most, n); sc.workers++ {
		sc.wg.Add(1)
		go sc.work(sc.most * unitsAhead)
	}
}

// due returns the time under which something with events from least to most waits in the
// heap: the first that the answer meets. For a reversed query times are negated, so that
// the greatest comes first.
func (sc *scan) due(least, most int64) int64 {
	if sc.q.Reverse {
		return -most
	}
	return least
}

// close stops the workers and waits for them.
func (sc *scan) close() {
	sc.mu.Lock()
	sc.stopped = true
	sc.wake.Broadcast()
	sc.mu.Unlock()
	sc.wg.Wait()
}

// work is a worker: it reads units that were planned, before it plans more groups, until
// the scan stops. ahead bounds the units that all workers together have begun.
func (sc *scan) work(ahead int) {
	defer sc.wg.Done()
	rd := newReader(sc.q)
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for !sc.stopped {
		for len(sc.units) > 0 && sc.units[0].phase != waiting {
			sc.units = sc.units[1:]
		}
		for sc.next < len(sc.plans) && sc.plans[sc.next].phase != waiting {
			sc.next++
		}
		switch {
		case len(sc.units) > 0 && sc.ahead < ahead && sc.near(sc.units[0]):
			u := sc.units[0]
			sc.units = sc.units[1:]
			u.phase, u.worker = running, true
			sc.ahead++
			sc.mu.Unlock()
			sc.read(u, &rd)
			sc.mu.Lock()
			u.phase = done
			sc.wake.Broadcast()
		case sc.next < len(sc.plans) && sc.next < sc.opened+plansAhead:
			pl := sc.plans[sc.next]
			sc.next++
			pl.phase = running
			sc.mu.Unlock()
			units := sc.plan(pl)
			sc.mu.Lock()
			sc.planned(pl, units)
		default:
			sc.wake.Wait()
		}
	}
}

// planned makes a group's plan done, and its blocks known to workers; mu is held.
func (sc *scan) planned(pl *plan, units []*unit) {
	pl.units, pl.phase = units, done
	units = sc.toRead(units)
	if n := len(sc.units); n == 0 || len(units) == 0 || sc.dueOf(sc.units[n-1]) <= sc.dueOf(units[0]) {
		sc.units = append(sc.units, units...)
	} else {
		sc.units = append(sc.units, units...)
		slices.SortStableFunc(sc.units, func(a, b *unit) int { return cmp.Compare(sc.dueOf(a), sc.dueOf(b)) })
	}
	if !sc.stopped {
		sc.workFor(len(sc.units)) // a day that is compacted is one group, of many
	}
	sc.wake.Broadcast()
}

// near reports whether no plan that is not done yet may have units before u; mu is held. A day is one plan: workers that
// had begun with a later one would be ahead, and do nothing, until the merge got there.
func (sc *scan) near(u *unit) bool {
	for sc.known < len(sc.plans) && sc.plans[sc.known].phase == done {
		sc.known++
	}
	return sc.known == len(sc.plans) || sc.dueOf(u) <= sc.plans[sc.known].due
}

// plan returns a group's blocks that may match, in the order in which the answer meets
// them. Damage is an error that is kept, and no blocks.
func (sc *scan) plan(pl *plan) []*unit {
	if sc.ctx.Err() != nil {
		return nil
	}
	var cands []group.Candidate
	if !pl.filter.may(pl.p, sc.q, sc.conds) {
		return nil
	}
	err := pl.p.withGroup(pl.id, func(g *group.Group) (err error) {
		if cands, pl.origins, pl.batches, err = candidates(g, sc.q, sc.conds); len(cands) > 0 {
			pl.frames = g.Frames()
		}
		return err
	})
	if err != nil {
		sc.s.noteDamage(pl.p, pl.id, -1, nil, err)
		sc.addError(err)
	}
	units := make([]*unit, len(cands))
	for i := range cands {
		c := &cands[i]
		// Candidates are in the order of their frames, so a frame's others are beside it.
		only := (i == 0 || cands[i-1].Block.Frame != c.Block.Frame) && (i+1 == len(cands) || cands[i+1].Block.Frame != c.Block.Frame)
		units[i] = &unit{plan: pl, cand: *c, only: only, alone: only && c.Want != nil && len(c.Want) <= int(c.Block.Events/4)}
	}
	slices.SortStableFunc(units, func(a, b *unit) int { return cmp.Compare(sc.dueOf(a), sc.dueOf(b)) })
	sc.setWhole(pl, units)
	return units
}

// candidates returns the blocks of a group in which a query may match, and who sent their
// events where that is needed: the query asks for it, or a block is of the host of mixed
// nodes, where a record without node= has its sender's address as its node. b says which batch they are of, where
// that is not one batch.
func candidates(g *group.Group, q *query.Query, conds store.Conditions) (cands []group.Candidate, o *group.Origins, b *group.Batches, err error) {
	if cands, err = g.Plan(q, conds); err != nil || len(cands) == 0 {
		return nil, nil, nil, err
	}
	if q.Origin || len(q.From) > 0 || slices.ContainsFunc(cands, func(c group.Candidate) bool { return c.Block.Host == "" }) {
		if o, err = g.OriginsFor(cands); err != nil {
			return nil, nil, nil, err
		}
	}
	b, err = g.BatchesFor(cands)
	return cands, o, b, err
}

func (sc *scan) dueOf(u *unit) int64 { return sc.due(u.cand.Block.MinMs, u.cand.Block.MaxMs) }

// text returns a block's text and its frame's. The frame is the cache's, which has to be told when it is done with: it is shared and
// stays as it is. That of a unit that is alone, when it is not in the cache, is unpacked
// into rd's memory instead, and is valid until rd reads its next unit; then cached is nil.
func (sc *scan) text(u *unit, rd *reader) (text, frame []byte, cached *cached, err error) {
	pl, blk := u.plan, &u.cand.Block
	key := frameKey{pl.p, pl.id, blk.Frame}
	unpack := func(buf []byte) (text []byte, err error) {
		err = pl.p.withBytes(pl.id, func(b []byte) error {
			text, err = pl.frames.Text(b, buf, blk.Frame)
			return err
		})
		return text, err
	}
	if cached = sc.s.cache.peek(key); cached == nil && u.alone { // it would push others out of the cache, for few events
		if frame, err = unpack(rd.frame); err == nil {
			rd.frame = frame
		}
	} else if cached == nil {
		cached, err = sc.s.cache.get(key, unpack)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if cached != nil {
		frame = cached.text
	}
	if text, err = blk.Cut(frame); err != nil {
		sc.s.cache.done(cached, false)
		return nil, nil, nil, err
	}
	return text, frame, cached, nil
}

// read unpacks a unit's block and puts the events that match into u.matched. u is running
// on behalf of the caller, rd is the caller's own.
func (sc *scan) read(u *unit, rd *reader) {
	if sc.ctx.Err() != nil || sc.pick(u, rd) {
		return
	}
	text, frame, cached, err := sc.text(u, rd)
	blk := &u.cand.Block
	if err != nil {
		sc.s.noteDamage(u.plan.p, u.plan.id, u.cand.Index, blk, err)
		sc.addError(err)
		return
	}
	rd.host = append(rd.host[:0:0], blk.Host...) // a new one: events that are kept have it
	var size int
	if rd.seeker != nil && u.cand.Want == nil && !u.cand.Sure && !blk.Counted && u.plan.origins == nil && u.plan.batches == nil {
		size, err = sc.seek(u, rd, text)
	} else {
		size, err = sc.each(u, rd, text)
	}
	if err != nil {
		err = fmt.Errorf("%s: group %d: block %d: %w: %w", u.plan.p.path, u.plan.id, u.cand.Index, store.ErrDamaged, err)
		sc.s.noteDamage(u.plan.p, u.plan.id, u.cand.Index, blk, err)
		sc.addError(err)
	}
	if sc.q.Reverse {
		slices.Reverse(u.matched)
	}
	sc.s.cache.done(cached, sc.keep(u, text, frame, size) && len(u.matched) > 0)
}

// each looks at the events of a unit's block one after the other, and returns the bytes of those that match.
func (sc *scan) each(u *unit, rd *reader, text []byte) (size int, err error) {
	blk, want, rest := &u.cand.Block, u.cand.Want, text
	origins, batches := u.plan.origins.Block(u.cand.Index, blk), u.plan.batches.Block(u.cand.Index, blk, u.plan.id)
	switch {
	case want != nil:
		u.matched = make([]found, 0, len(want))
	case u.cand.Sure || sc.types:
		u.matched = make([]found, 0, blk.Events)
	}
	for i := uint32(0); i < blk.Events; i++ {
		var one []byte
		one, rest, err = store.CutText(rest, blk.Counted)
		if err != nil {
			return size, err
		}
		origin, batch := origins.Next(), batches.Next()
		if want != nil {
			if len(want) == 0 {
				break
			}
			if want[0] != i { // its origin was read all the same: see OriginReader.Next
				continue
			}
			want = want[1:]
		}
		off := len(text) - len(rest) - len(one)
		size += sc.match(u, rd, one, found{node: blk.Host, off: uint32(off), len: uint32(len(one)), origin: origin, batch: batch}, u.alone)
	}
	return size, nil
}

// match adds an event of a unit's block to those that match, if it does, and returns the bytes of its text then, else 0. copied says that keep
// copies it, and that it is parsed then.
func (sc *scan) match(u *unit, rd *reader, one []byte, f found, copied bool) int {
	if f.batch <= sc.q.AfterBatch { // of a group of many batches: else the group would not be read
		return 0
	}
	blk := &u.cand.Block
	if sc.plain && blk.Host != "" && (u.cand.Sure || sc.types) {
		var is bool
		if f.ms, f.serial, is = store.Decided(sc.q, one, blk.Counted, u.cand.Sure, rd.m.Typed); !is {
			return 0
		}
	} else {
		if !blk.Counted && !rd.m.MayMatch(one) {
			return 0
		}
		scratch := &rd.scratch
		store.ParseInto(scratch, one, blk.Counted, rd.host, f.origin)
		if len(scratch.Records) == 0 || !rd.m.Match(scratch) {
			return 0
		}
		f.ms, f.serial = scratch.Ms, scratch.Serial
		if string(scratch.Node) != f.node {
			f.node = string(scratch.Node)
		}
		if !sc.plain && !copied {
			f.ev = store.CloneEvent(scratch)
		}
	}
	if sc.plain {
		f.text = one
	}
	u.matched = append(u.matched, f)
	return len(one)
}

// keep decides how a unit's events wait for the merge. Where few bytes of the frame match,
// these are copied and the frame let go; where many do, the events stay in the frame; where
// all units together hold too much already, only their places are kept, and the merge
// parses them again. keep reports whether the events are in the frame.
func (sc *scan) keep(u *unit, text, frame []byte, size int) (inFrame bool) {
	if !sc.hold(u, min(4*size, len(frame)), false) {
		for i := range u.matched {
			u.matched[i].ev, u.matched[i].text = nil, nil
		}
		return false
	}
	few := u.alone || 4*size < len(frame)
	if few {
		sc.copyOut(u, text, size)
	}
	return !few
}

// hold counts so many bytes of text as those that a unit holds. False: all units together hold too much, and these are not
// counted, unless they must be.
func (sc *scan) hold(u *unit, size int, must bool) bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.held > maxHeld && !must {
		return false
	}
	u.held = int64(size)
	sc.held += u.held
	return true
}

// copyOut copies a unit's events, of so many bytes together, out of the text that has them, and parses those copies that are given out
// as events.
func (sc *scan) copyOut(u *unit, text []byte, size int) {
	if sc.plain {
		own := make([]byte, 0, size)
		for i := range u.matched {
			f := &u.matched[i]
			own = append(own, f.text...)
			f.text = own[len(own)-len(f.text) : len(own) : len(own)]
		}
		return
	}
	host := []byte(u.cand.Block.Host)
	for i := range u.matched {
		f := &u.matched[i]
		one := slices.Clone(text[f.off : f.off+f.len])
		f.ev = store.ParseText(one, u.cand.Block.Counted, host, f.origin)
	}
}

// addError keeps an error about damaged bytes, of which a scan returns the first few at
// its end; the scan goes on.
func (sc *scan) addError(err error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if len(sc.errs) >= maxErrors {
		sc.dropped++
		return
	}
	sc.errs = append(sc.errs, err)
}

// damage returns all errors that were kept, with those of what the store lacks; nil when
// there are none.
func (sc *scan) damage() error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.dropped > 0 {
		return errors.Join(append(sc.errs, fmt.Errorf("%w: and %d more errors", store.ErrDamaged, sc.dropped))...)
	}
	return errors.Join(sc.errs...)
}
