package group

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group/rows"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Group reads a group from its bytes, which must stay as they are for as long as it is
// used. It is for one goroutine: host names are decoded when they are first wanted. To
// open one costs no more than its head and tables.
type Group struct {
	c        *Codec
	b        []byte
	shown    [][]byte  // by section, nil for others: of a group of which only pieces are at hand, instead of b
	sections []section // each lies within b
	version  uint16
	Summary  Summary
	blocks   []byte      // the block table; checkBlocks has passed it
	frames   []byte      // the frame table
	hosts    []string    // loadHosts sets them
	rows     *rows.Table // templates sets it
}

// Open checks a group's head and tables, and keeps b. Dictionaries and frames are
// checked when they are read. Errors: store.ErrNotOurs, store.ErrVersion, store.ErrDamaged.
func (c *Codec) Open(b []byte) (*Group, error) {
	g, err := c.openHead(b)
	if err != nil {
		return nil, err
	}
	return g, g.openTables()
}

// openHead checks head and section table, so that each section lies within b.
func (c *Codec) openHead(b []byte) (*Group, error) {
	g, err := c.openTable(b)
	if err != nil {
		return nil, err
	}
	g.b = b
	for i, s := range g.sections {
		if s.off > uint64(len(b)) || s.len > uint64(len(b))-s.off {
			return nil, damaged("section %d at %d, %d bytes, of %d", i, s.off, s.len, len(b))
		}
	}
	return g, nil
}

// openTable reads head and section table, and does not look where the sections lie.
func (c *Codec) openTable(b []byte) (*Group, error) {
	if len(b) < headSize || string(b[:8]) != magic {
		return nil, damagedAs(store.ErrNotOurs, "no group begins here")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v < OldVersion || v > Version {
		return nil, damagedAs(store.ErrVersion, "group version %d, this program reads %d to %d", v, OldVersion, Version)
	}
	n := int(binary.LittleEndian.Uint16(b[10:]))
	size := headSize + n*sectionSize
	if n > maxSections || size > len(b) {
		return nil, damaged("%d sections in %d bytes", n, len(b))
	}
	if headSum(b, size) != binary.LittleEndian.Uint32(b[12:]) {
		return nil, damaged("checksum of a group's head")
	}
	g := &Group{c: c, sections: make([]section, n), version: binary.LittleEndian.Uint16(b[8:])}
	for i := range g.sections {
		e := b[headSize+i*sectionSize:]
		g.sections[i] = section{kind: e[0], arg: e[1], crc: binary.LittleEndian.Uint32(e[4:]),
			off: binary.LittleEndian.Uint64(e[8:]), len: binary.LittleEndian.Uint64(e[16:])}
	}
	return g, nil
}

// openTables reads summary, block table and frame table, and checks that they agree.
func (g *Group) openTables() error {
	sum, err := g.section(secSummary, 0)
	if err != nil {
		return err
	}
	if g.Summary, err = DecodeSummary(sum); err != nil {
		return err
	}
	if many := g.version > batchVersion; many != (g.Summary.LastBatch > 0) {
		return damaged("a summary of batches %d to %d in version %d", g.Summary.FirstBatch, g.Summary.LastBatch, g.version)
	}
	if g.blocks, err = g.section(secBlocks, 0); err != nil {
		return err
	}
	if g.frames, err = g.section(secFrames, 0); err != nil {
		return err
	}
	if len(g.blocks)%blockSize != 0 || len(g.frames)%frameSize != 0 {
		return damaged("tables of %d and %d bytes", len(g.blocks), len(g.frames))
	}
	return g.checkBlocks()
}

// checkBlocks makes sure that the blocks' ordinals follow one another from 0 to the
// summary's number of events, and that each block's frame exists. After that an ordinal of
// a block may be used as an index of a bitset.
func (g *Group) checkBlocks() error {
	next := uint64(0)
	for i := range g.numBlocks() {
		blk, _ := rawBlock(g.blocks[i*blockSize:])
		if uint64(blk.First) != next || blk.Events == 0 || uint64(blk.Frame) >= uint64(len(g.frames)/frameSize) {
			return damaged("block %d: events %d to %d, frame %d", i, blk.First, blk.First+blk.Events, blk.Frame)
		}
		next += uint64(blk.Events)
	}
	if next != g.Summary.Events || next > 1<<31 {
		return damaged("blocks of %d events, %d were said", next, g.Summary.Events)
	}
	return nil
}

func (g *Group) numBlocks() int { return len(g.blocks) / blockSize }

// section returns a section's bytes, a part of the group's, once its checksum is right;
// nil without an error when the group has no such section. Those of the data section and of the chunks are
// not checked: each frame and each chunk has its own checksum.
func (g *Group) section(kind, arg byte) ([]byte, error) {
	for i, s := range g.sections {
		if s.kind != kind || s.arg != arg {
			continue
		}
		var b []byte
		switch {
		case g.shown == nil:
			b = g.b[s.off : s.off+s.len : s.off+s.len]
		case g.shown[i] == nil || uint64(len(g.shown[i])) != s.len:
			return nil, damaged("section %d/%d has %d bytes, and should have %d", kind, arg, len(g.shown[i]), s.len)
		default:
			b = g.shown[i]
		}
		if !unsummed(kind) && crc32.Checksum(b, castagnoli) != s.crc {
			return nil, damaged("checksum of section %d/%d at %d", kind, arg, s.off)
		}
		return b, nil
	}
	return nil, nil
}

// loadHosts decodes the host names, once.
func (g *Group) loadHosts() error {
	if g.hosts != nil {
		return nil
	}
	b, err := g.section(secHosts, 0)
	if err != nil {
		return err
	}
	d, names, err := g.c.splitDict(b)
	if err != nil {
		return err
	}
	hosts := make([]string, 0, d.n)
	prev, size := []byte(nil), 0
	for range d.n {
		same, k := binary.Uvarint(names)
		if k <= 0 || same > uint64(len(prev)) {
			return damaged("the name of host %d", len(hosts))
		}
		names = names[k:]
		n, k := binary.Uvarint(names)
		if k <= 0 || n > uint64(len(names)-k) {
			return damaged("the name of host %d", len(hosts))
		}
		if size += int(same) + int(n); size > maxNames { // a byte may stand for a name as long as the one before
			return damaged("names of more than %d bytes", maxNames)
		}
		name := append(slices.Clone(prev[:same]), names[k:k+int(n)]...)
		names = names[k+int(n):]
		hosts = append(hosts, string(name))
		prev = name
	}
	g.hosts = hosts
	return nil
}

// Listed returns the blocks of a group that Open or Plan refuses as damaged, with their hosts, where its block table and
// its hosts are whole: by them it is known whose the events were, and how many. nil: it is not known.
func (c *Codec) Listed(b []byte) []Block {
	g, err := c.openHead(b)
	if err != nil {
		return nil
	}
	if g.blocks, err = g.section(secBlocks, 0); err != nil || len(g.blocks)%blockSize != 0 || g.loadHosts() != nil {
		return nil
	}
	list := make([]Block, g.numBlocks())
	for i := range list {
		blk, host := rawBlock(g.blocks[i*blockSize:])
		if int(host) >= len(g.hosts) {
			return nil
		}
		blk.Host = g.hosts[host]
		list[i] = blk
	}
	return list
}

// Candidate is a block in which a query may match.
type Candidate struct {
	Block Block
	Index int // of the block in the group
	// Want lists the events that may match, ascending, counted from the block's first;
	// nil stands for all of them.
	Want []uint32
	// Sure says that these do match, but for what is no condition: their times, serials and hosts.
	Sure bool
	// Met is how many of its events meet what is asked but for times, serials and hosts, where that is known (Counted): of one that is sure, and where
	// a query of one condition asks for one value.
	Met     uint32
	Counted bool

	// Beside are the blocks of its frame, of hosts and times that the query asks for, of which no event may match.
	Beside *Beside

	before uint32 // events of its frame before its own
	plain  bool   // no block of its frame up to this one is counted
}

// Beside are blocks that lie in a frame beside candidates.
type Beside struct{ Blocks []Block }

// Plan returns the blocks in which a query may match, in their order at rest; conds must
// be the query's. It reads only the dictionaries of the conditions' fields and the block
// table, never a frame. An event that is not in the plan does not match; one that is may
// still not match.
func (g *Group) Plan(q *query.Query, conds store.Conditions) ([]Candidate, error) {
	// set has the events that meet all conditions so far; nil stands for every event.
	var set bitset
	loose := &looseBlocks{bitset: newBitset(g.numBlocks()), met: make([]uint32, g.numBlocks())}
	decide := conds.Decide(q) && g.version >= readVersion
	for i := range conds {
		s, err := g.matchCondition(&conds[i], loose)
		if err != nil {
			return nil, err
		}
		if set == nil {
			set = s
		} else {
			set.and(s)
		}
		if !set.any() {
			return nil, nil
		}
	}
	if len(q.From) > 0 {
		s, err := g.matchSenders(q)
		if err != nil || !s.any() {
			return nil, err
		}
		if set == nil {
			set = s
		} else {
			set.and(s)
		}
	}
	if err := g.loadHosts(); err != nil {
		return nil, err
	}
	var out []Candidate
	var at inFrame
	var beside *Beside
	for i := range g.numBlocks() {
		blk, host := rawBlock(g.blocks[i*blockSize:])
		if !at.begun || at.frame != blk.Frame {
			beside = &Beside{}
		}
		before, plain := at.next(&blk)
		if q.StartMs != 0 && blk.MaxMs < q.StartMs || q.EndMs != 0 && blk.MinMs > q.EndMs ||
			q.HasSerial && (q.Serial < blk.MinSerial || q.Serial > blk.MaxSerial) {
			continue
		}
		if int(host) >= len(g.hosts) {
			return nil, damaged("block %d of host %d of %d", i, host, len(g.hosts))
		}
		blk.Host = g.hosts[host]
		if blk.Host != "" && !q.WantsNode(blk.Host) {
			continue
		}
		c := Candidate{Block: blk, Index: i, Sure: decide && !loose.has(i), Beside: beside, before: before, plain: plain}
		if c.Sure {
			c.Met, c.Counted = blk.Events, true
		} else if decide && len(conds) == 1 && loose.values == 1 {
			c.Met, c.Counted = loose.met[i], true
		}
		if set != nil {
			n := set.count(blk.First, blk.First+blk.Events)
			if n == 0 {
				if blk.Host != "" { // that one has others' events
					beside.Blocks = append(beside.Blocks, blk)
				}
				continue
			}
			if n < int(blk.Events) {
				c.Want = set.list(blk.First, blk.First+blk.Events, n)
			}
			if c.Sure {
				c.Met = uint32(n)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// inFrame is where in its frame a block lies; blocks come in order.
type inFrame struct {
	frame   uint32
	events  uint32
	counted bool
	begun   bool
}

func (p *inFrame) next(blk *Block) (before uint32, plain bool) {
	if !p.begun || p.frame != blk.Frame {
		*p = inFrame{frame: blk.Frame, begun: true}
	}
	before = p.events
	p.events += blk.Events
	p.counted = p.counted || blk.Counted
	return before, !p.counted
}

// looseBlocks are blocks of which events are taken for such that meet a condition and may not meet it.
type looseBlocks struct {
	bitset
	values int      // whose postings were looked at; as many as may be where nothing is known of a field
	met    []uint32 // where that is one value, how many events of each block have it
}

// matchCondition returns the events that may meet a condition: those that have, by the dictionaries
// of its fields, a value that it accepts. It adds the blocks to loose of which the dictionaries
// do not say which of their events these are.
func (g *Group) matchCondition(c *store.Condition, loose *looseBlocks) (bitset, error) {
	set := newBitset(int(g.Summary.Events))
	if g.version < readVersion {
		if g.overlooks(c) {
			set.fill(0, uint32(g.Summary.Events))
			return set, nil
		}
		if err := g.addReadSince(set, c.Fields); err != nil {
			return nil, err
		}
	}
	for i, f := range c.Fields {
		if slices.Contains(c.Fields[:i], f) {
			continue
		}
		d, err := g.dict(f)
		if err != nil {
			return nil, err
		}
		if d == nil {
			if addedField(f) { // the group is older than the field: nothing is known of it
				set.fill(0, uint32(g.Summary.Events))
				loose.fill(0, uint32(g.numBlocks()))
				loose.values = math.MaxInt32
			}
			continue
		}
		if g.version < readVersion && f != query.FieldType {
			if err := g.addStrays(set, d); err != nil {
				return nil, err
			}
		}
		var known *spans
		if c.Exact == nil && c.Part != "" {
			known = g.spans(f, len(d.refs))
		}
		if err := d.matching(c, known, func(x *dict, i int) error { return g.addValue(set, loose, x, i) }); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// addValue adds the events that have a value, as addPostings does.
func (g *Group) addValue(set bitset, loose *looseBlocks, d *dict, i int) error {
	p, err := d.postings(i)
	if err != nil {
		return err
	}
	return g.addPostings(set, loose, p)
}

// addPostings adds the events of encoded postings to set; of postings by blocks, all events of
// these blocks, which it adds to loose, unless that is nil, where not all of their events are meant.
func (g *Group) addPostings(set bitset, loose *looseBlocks, p []byte) error {
	head, k := binary.Uvarint(p)
	if k <= 0 {
		return damaged("postings without a head")
	}
	if loose != nil {
		loose.values++
	}
	p = p[k:]
	events := uint32(g.Summary.Events)
	if head&1 == postEvents {
		// count<<1, then the first ordinal and the gaps, a byte each at least.
		if head>>1 > uint64(len(p)) {
			return damaged("%d postings in %d bytes", head>>1, len(p))
		}
		ord := uint64(0)
		for n := head >> 1; n > 0; n-- {
			gap, k := binary.Uvarint(p)
			if k <= 0 || gap > uint64(events) {
				return damaged("a posting")
			}
			p = p[k:]
			if ord += gap; ord >= uint64(events) {
				return damaged("a posting of event %d of %d", ord, events)
			}
			set[ord/64] |= 1 << (ord % 64)
		}
		return nil
	}
	// count<<1 | 1, the number of blocks, then pairs of the gap to the next block and the
	// events there. Which events these are is not known: all of the block's may be.
	n, k := binary.Uvarint(p)
	if k <= 0 {
		return damaged("postings by blocks")
	}
	p = p[k:]
	at := uint64(0)
	for ; n > 0; n-- {
		gap, k := binary.Uvarint(p)
		if k <= 0 {
			return damaged("a block posting")
		}
		p = p[k:]
		count, k := binary.Uvarint(p)
		if k <= 0 {
			return damaged("a block posting's count")
		}
		p = p[k:]
		if at += gap; gap > uint64(g.numBlocks()) || at >= uint64(g.numBlocks()) {
			return damaged("a posting of block %d of %d", at, g.numBlocks())
		}
		blk, _ := rawBlock(g.blocks[int(at)*blockSize:])
		set.fill(blk.First, blk.First+blk.Events)
		if loose != nil && count < uint64(blk.Events) {
			loose.bitset[at/64] |= 1 << (at % 64)
			loose.met[at] = uint32(count)
		}
	}
	return nil
}
