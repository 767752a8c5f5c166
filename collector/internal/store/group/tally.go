package group

import (
	"slices"
	"sort"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Uncounted is the part of a query's events that a group's dictionaries cannot count.
type Uncounted struct {
	// Rest are blocks that were not counted: each of their events has to be read.
	Rest []Candidate
	// Odd are events within counted blocks that must not be counted: odd ones, and others that the fields ask for
	// (query.Apart). They were counted with the others, so
	// their values have to be taken back, and then the events to be read.
	Odd []Candidate
}

// tallies reports whether the group has the fields that only an index has, which Tally
// needs. Every event has a shape, so a group has a dictionary of shapes or none of them.
func (g *Group) tallies() bool { return g.has(query.FieldShape) }

// has reports whether the group has a dictionary of the field.
func (g *Group) has(f query.Field) bool {
	return slices.ContainsFunc(g.sections, func(s section) bool { return s.kind == secDict && s.arg == byte(f) })
}

// Tally adds to t the events of the blocks that lie wholly within the query's time and
// nodes: by their number, and for each of fields by its values. A block that the query or a field of time cuts is in
// Rest instead, as is one with odd events only, and all blocks of a group that is too old. Where the values alone are wanted (Query.Names), those of
// all blocks are added.
func (g *Group) Tally(q *query.Query, fields []query.Field, t *query.Tally) (out Uncounted, err error) {
	all, err := g.Plan(q, nil)
	if err != nil {
		return out, err
	}
	names := q.Names && len(q.Nodes) == 0 && len(q.From) == 0 && !t.Combines()
	var apart bitset // events that are not counted
	if len(fields) > 0 {
		if apart, err = g.having(query.Apart(fields)); err != nil {
			return out, err
		}
		counts, err := g.countsAll(fields)
		if err != nil {
			return out, err
		}
		if !counts {
			return Uncounted{Rest: all}, nil
		}
	}
	if t.Combines() {
		if _, ok := t.Combined(); !ok {
			return Uncounted{Rest: all}, nil
		}
	}
	counted := make([]bool, g.numBlocks()) // by block; n are true
	n := 0
	for _, c := range all {
		b := &c.Block
		var odd []uint32
		if len(fields) > 0 {
			odd = apart.list(b.First, b.First+b.Events, apart.count(b.First, b.First+b.Events))
		}
		// Time 0 is that of lines that are no records: nothing finds them.
		if c.Want != nil || b.MinMs == 0 || !names && (q.StartMs != 0 && b.MinMs < q.StartMs || q.EndMs != 0 && b.MaxMs > q.EndMs) || b.Host == "" && len(q.Nodes) > 0 ||
			!t.Placeable(b.Host, b.MinMs, b.MaxMs) || len(odd) > 0 && len(odd) == int(b.Events) {
			out.Rest = append(out.Rest, c)
			continue
		}
		counted[c.Index] = true
		n++
		t.Place(b.Host, b.MinMs, b.MaxMs, int64(b.Events))
		if c.Want = odd; len(odd) > 0 {
			out.Odd = append(out.Odd, c)
		}
	}
	if (n == len(counted) || names) && !t.Combines() {
		counted = nil // all: the counts in front of the postings are enough
	}
	switch {
	case n == 0:
		return out, nil
	case t.Combines():
		return out, g.tallyEach(all, counted, t)
	}
	for _, f := range fields {
		if err := g.tallyField(f, counted, t); err != nil {
			return out, err
		}
	}
	return out, nil
}

// having returns the events that have a value of one of the fields. Of values that are indexed by block it
// returns all events of the block.
func (g *Group) having(fields []query.Field) (bitset, error) {
	set := newBitset(int(g.Summary.Events))
	for _, f := range fields {
		d, err := g.dict(f)
		if err != nil {
			return set, err
		}
		if d == nil {
			continue
		}
		if err := d.each(func(x *dict, i int) error { return g.addValue(set, nil, x, i) }); err != nil {
			return set, err
		}
	}
	return set, nil
}

// tallyField adds a field's values in the counted blocks to t; a nil counted stands for
// all blocks. A value's number of events is in front of its postings: with all blocks
// counted, that is all that is read of them.
func (g *Group) tallyField(f query.Field, counted []bool, t *query.Tally) error {
	d, err := g.dict(f)
	if d == nil || err != nil {
		return err
	}
	values := t.Of(f)
	return d.each(func(x *dict, i int) error {
		head, err := x.head(i)
		if err != nil {
			return err
		}
		if head>>1 > g.Summary.Events {
			return damaged("%d events of %d with a value", head>>1, g.Summary.Events)
		}
		n := int64(head >> 1)
		if counted != nil {
			p, err := x.postings(i)
			if err != nil {
				return err
			}
			if n, err = g.countIn(p, counted); err != nil {
				return err
			}
		}
		values.Add(x.value(i), n)
		return nil
	})
}

// tallyEach adds the combinations of the counted blocks to t: of all, which of these they are and how often they have each value.
func (g *Group) tallyEach(all []Candidate, counted []bool, t *query.Tally) error {
	// Blocks of one place follow one another: of a host, in order of time.
	type place struct {
		host   string
		ms     int64
		events int64 // without the value, in the end
	}
	var places []place
	at := make([]int, len(counted)) // by block: its place
	for i := range all {
		b := &all[i].Block
		if !counted[all[i].Index] {
			continue
		}
		n := len(places)
		if n == 0 || places[n-1].host != b.Host || !t.Placeable(b.Host, min(places[n-1].ms, b.MinMs), max(places[n-1].ms, b.MaxMs)) {
			places = append(places, place{host: b.Host, ms: b.MinMs})
			n++
		}
		places[n-1].events += int64(b.Events)
		at[all[i].Index] = n - 1
	}
	f, _ := t.Combined()
	if f != query.FieldEach {
		d, err := g.dict(f)
		if err != nil {
			return err
		}
		with := make([]int64, len(places))
		if d != nil {
			err = d.each(func(x *dict, i int) error {
				p, err := x.postings(i)
				if err != nil {
					return err
				}
				if err := g.eachIn(p, counted, func(blk int, events int64) { with[at[blk]] += events }); err != nil {
					return err
				}
				value := x.value(i)
				for k, n := range with {
					if n == 0 {
						continue
					}
					t.AddAt(places[k].host, places[k].ms, value, n)
					places[k].events -= n
					with[k] = 0
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for _, p := range places {
		if p.events < 0 {
			return damaged("%d events too many with a value of %s", -p.events, f)
		}
		if p.events > 0 {
			t.AddWithout(p.host, p.ms, p.events)
		}
	}
	return nil
}

// countIn returns how many events of the postings are in counted blocks.
func (g *Group) countIn(p []byte, counted []bool) (n int64, err error) {
	err = g.eachIn(p, counted, func(_ int, events int64) { n += events })
	return n, err
}

// eachIn calls fn with counted blocks, and how many of their events are in the postings: a block may come again with more. Both forms are
// walked in order, so blk, the block of the present ordinal, only ever goes up.
func (g *Group) eachIn(p []byte, counted []bool, fn func(blk int, events int64)) error {
	r := varint.NewReader(p)
	head := r.Uvarint()
	if head&1 == postEvents {
		blk, last, ord := 0, g.endOf(0), uint64(0)
		for k := head >> 1; k > 0 && !r.Bad(); k-- {
			if ord += r.Uvarint(); ord >= g.Summary.Events {
				return damaged("a posting of event %d of %d", ord, g.Summary.Events)
			}
			if ord >= last {
				if blk = g.blockOf(ord, blk+1); blk == len(counted) {
					return damaged("event %d is of no block", ord)
				}
				last = g.endOf(blk)
			}
			if counted[blk] {
				fn(blk, 1)
			}
		}
	} else {
		at := uint64(0)
		for k := r.Uvarint(); k > 0 && !r.Bad(); k-- {
			gap, events := r.Uvarint(), r.Uvarint()
			if at += gap; gap > uint64(len(counted)) || at >= uint64(len(counted)) {
				return damaged("a posting of block %d of %d", at, len(counted))
			}
			if counted[at] {
				fn(int(at), int64(events))
			}
		}
	}
	if r.Bad() {
		return damaged("postings that end early")
	}
	return nil
}

// endOf returns the ordinal behind a block's last event.
func (g *Group) endOf(blk int) uint64 { return rawEnd(g.blocks[blk*blockSize:]) }

// blockOf returns the block of an event, of those from one on, or their number. It looks in steps that become larger: of most values the next event is near, of
// a seldom one it is not.
func (g *Group) blockOf(ord uint64, from int) int {
	most := g.numBlocks()
	low, high := from, from
	for step := 1; high < most && g.endOf(high) <= ord; step *= 2 {
		low, high = high+1, high+step
	}
	high = min(high, most)
	return low + sort.Search(high-low, func(i int) bool { return g.endOf(low+i) > ord })
}
