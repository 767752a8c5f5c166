package group

import (
	"fmt"
	"hash/crc32"
	"sort"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Finding is one thing in a group that is not as it should be.
type Finding struct {
	Offset int64  // from the group's start
	Block  int    // -1: it is not about one block
	Host   string // of the block
	Events uint64 // how many events cannot be read because of it
	MinMs  int64  // of these events, as the block table says
	MaxMs  int64
	Err    error
}

// HostSum is what a group holds of one host.
type HostSum struct{ Events, Records, Bytes uint64 }

// Verified is the outcome of Verify. All numbers but Summary's are of what can be read.
type Verified struct {
	Summary  Summary // as the group says; zero when not even that can be read
	Blocks   int
	Events   uint64
	Records  uint64
	Bytes    uint64 // of records
	Hosts    map[string]HostSum
	Findings []Finding
}

// Verify reads all of a group. It checks every checksum and every event; it extracts
// again, from each event, what the event can be searched by, and compares that with the
// dictionaries; and it counts again what summary and block table say. It finds as much as
// it can, and so goes on after damage wherever the rest can still be told apart.
func (c *Codec) Verify(b []byte) *Verified {
	v := &verifier{c: c, b: b, out: &Verified{Hosts: map[string]HostSum{}}}
	v.run()
	return v.out
}

// verifier is one run of Verify or Salvage.
type verifier struct {
	c   *Codec
	b   []byte
	g   *Group
	out *Verified

	readable    []bool   // by block
	blockOf     []uint32 // by ordinal
	allReadable bool
	sum         Summary                                  // counted again
	origins     *Origins                                 // nil: not kept, or not readable
	batches     *Batches                                 // nil: one batch, or not readable
	ids         [query.NumIndexed]map[string]*builtValue // by field and value, from the events
	ords        []uint32                                 // of the value that is compared
	ord         uint32                                   // of the event being extracted
	x           query.Extractor
	addValue    func(query.Field, []byte)          // v.add, made once
	event       func(host string, ev *event.Event) // of Salvage; nil for Verify
}

// maxEvents bounds the memory that Verify takes for a group's word: a hundred times what
// a table of the head's default size has.
const maxEvents = 1 << 26

func (v *verifier) found(f Finding) { v.out.Findings = append(v.out.Findings, f) }

// wrong adds a finding that leaves every event readable.
func (v *verifier) wrong(off int64, format string, args ...any) {
	v.found(Finding{Offset: off, Block: -1, Err: damaged(format, args...)})
}

// offset returns where a section lies in the group, 0 when there is none.
func (v *verifier) offset(kind, arg byte) int64 {
	for _, s := range v.g.sections {
		if s.kind == kind && s.arg == arg {
			return int64(s.off)
		}
	}
	return 0
}

func (v *verifier) run() {
	g, err := v.c.openHead(v.b)
	if err != nil {
		v.found(Finding{Block: -1, Err: err})
		return
	}
	v.g = g
	if !v.sections() {
		return
	}
	if err := g.openTables(); err != nil {
		v.found(Finding{Offset: v.offset(secBlocks, 0), Block: -1, Events: g.Summary.Events, Err: err})
		return
	}
	v.out.Summary = g.Summary
	if g.Summary.Events > maxEvents {
		v.wrong(v.offset(secSummary, 0), "%d events", g.Summary.Events)
		return
	}
	if err := g.loadHosts(); err != nil {
		v.found(Finding{Offset: v.offset(secHosts, 0), Block: -1, Events: g.Summary.Events, Err: err})
		return
	}
	v.names()
	for f := range v.ids {
		v.ids[f] = map[string]*builtValue{}
	}
	v.addValue = v.add
	if v.origins, err = g.Origins(); err != nil {
		v.found(Finding{Offset: v.offset(secSenders, 0), Block: -1, Err: fmt.Errorf("who sent its events, and when they came: %w", err)})
	}
	if v.batches, err = g.Batches(); err != nil {
		v.found(Finding{Offset: v.offset(secBatches, 0), Block: -1, Err: fmt.Errorf("of which batch its events are: %w", err)})
	}
	if _, err := g.Division(); err != nil {
		v.found(Finding{Offset: v.offset(secClasses, 0), Block: -1, Err: fmt.Errorf("of which classes its events are: %w", err)})
	}
	v.frames()
	if v.allReadable {
		v.compareSummary()
	}
	v.dictionaries()
}

// sections checks every section's place and checksum. It returns false when one that
// all else depends on is damaged: then all events are lost.
func (v *verifier) sections() bool {
	ok := true
	end := uint64(headSize + len(v.g.sections)*sectionSize)
	for i, s := range v.g.sections {
		if s.off != end {
			v.wrong(int64(s.off), "section %d begins at %d, the one before ends at %d", i, s.off, end)
		}
		end = s.off + s.len
		if unsummed(s.kind) || crc32.Checksum(v.b[s.off:s.off+s.len], castagnoli) == s.crc {
			continue
		}
		what, events := sectionName(s), uint64(0)
		if s.kind == secSummary || s.kind == secHosts || s.kind == secBlocks || s.kind == secFrames || s.kind == secRows {
			ok = false
		}
		v.found(Finding{Offset: int64(s.off), Block: -1, Events: events, Err: damaged("checksum of its %s, %d bytes", what, s.len)})
	}
	if end != uint64(len(v.b)) {
		v.wrong(int64(end), "%d bytes behind the last section", uint64(len(v.b))-end)
	}
	if sum, err := v.g.section(secSummary, 0); err == nil {
		if s, err := DecodeSummary(sum); err == nil {
			v.g.Summary, v.out.Summary = s, s
		}
	}
	if !ok && len(v.out.Findings) > 0 {
		v.out.Findings[0].Events = v.out.Summary.Events
	}
	return ok
}

func sectionName(s section) string {
	switch s.kind {
	case secSummary:
		return "summary"
	case secHosts:
		return "host names"
	case secBlocks:
		return "block table"
	case secFrames:
		return "frame table"
	case secSenders:
		return "senders"
	case secReceipt:
		return "times of receipt"
	case secBatches:
		return "batches"
	case secRows:
		return "templates"
	case secParts:
		return "receipts and batches by block"
	case secClasses:
		return "classes"
	case secChunks:
		return "values"
	case secSpans:
		return fmt.Sprintf("short texts of field %s", query.Field(s.arg))
	case secDict:
		return fmt.Sprintf("dictionary of field %s", query.Field(s.arg))
	}
	return fmt.Sprintf("section of kind %d", s.kind)
}

// names compares the number and the order of host names, and the number of blocks, with
// what they should be.
func (v *verifier) names() {
	if !sort.StringsAreSorted(v.g.hosts) {
		v.wrong(v.offset(secHosts, 0), "host names are not in order")
	}
	if uint64(len(v.g.hosts)) != v.g.Summary.Hosts {
		v.wrong(v.offset(secHosts, 0), "%d host names, the summary says %d", len(v.g.hosts), v.g.Summary.Hosts)
	}
	if uint64(v.g.numBlocks()) != v.g.Summary.Blocks {
		v.wrong(v.offset(secBlocks, 0), "%d blocks, the summary says %d", v.g.numBlocks(), v.g.Summary.Blocks)
	}
}

// frames unpacks each frame once and reads its blocks, which lie in the order of their
// frames, one behind the other.
func (v *verifier) frames() {
	n := v.g.numBlocks()
	v.readable, v.allReadable = make([]bool, n), true
	v.blockOf = make([]uint32, v.g.Summary.Events)
	var text []byte // of frame; ferr is why it cannot be unpacked
	var ferr error
	frame, used := uint32(1<<31), 0 // the present frame (none yet), and where its last block ends
	// filled says so where the present frame has text that is in no block; it is called once all its blocks are read.
	filled := func() {
		if frame != 1<<31 && ferr == nil && used != len(text) {
			v.wrong(v.frameAt(frame), "frame %d: its blocks hold %d bytes of %d", frame, used, len(text))
		}
	}
	for i := range n {
		blk, host := rawBlock(v.g.blocks[i*blockSize:])
		for o := blk.First; o < blk.First+blk.Events; o++ {
			v.blockOf[o] = uint32(i)
		}
		if int(host) < len(v.g.hosts) {
			blk.Host = v.g.hosts[host]
		}
		if blk.Frame != frame {
			filled()
			frame, used = blk.Frame, 0
			text, ferr = v.g.Text(nil, frame)
		}
		if ferr != nil {
			v.blockBad(i, &blk, v.frameAt(frame), ferr)
			continue
		}
		if int(blk.Off) != used {
			v.wrong(v.offset(secBlocks, 0)+int64(i*blockSize), "block %d: it begins at %d of frame %d, the one before ends at %d", i, blk.Off, frame, used)
		}
		used = int(blk.Off) + int(blk.Len)
		if int(host) >= len(v.g.hosts) {
			v.blockBad(i, &blk, v.offset(secBlocks, 0)+int64(i*blockSize), damaged("host %d of %d", host, len(v.g.hosts)))
			continue
		}
		one, err := blk.Cut(text)
		if err != nil {
			v.blockBad(i, &blk, v.offset(secBlocks, 0)+int64(i*blockSize), err)
			continue
		}
		v.block(i, &blk, one)
	}
	filled()
}

// frameAt returns where a frame lies in the group.
func (v *verifier) frameAt(i uint32) int64 {
	if int(i) >= len(v.g.frames)/frameSize {
		return v.offset(secFrames, 0)
	}
	return v.offset(secData, 0) + int64(rawFrame(v.g.frames[int(i)*frameSize:]).off)
}

// blockBad adds a finding that makes a block, or what blk has left of it, unreadable.
func (v *verifier) blockBad(i int, blk *Block, off int64, err error) {
	v.allReadable = false
	v.found(Finding{Offset: off, Block: i, Host: blk.Host, Events: uint64(blk.Events), MinMs: blk.MinMs, MaxMs: blk.MaxMs, Err: err})
}

// block reads a block's events, and compares them with the block's entry.
func (v *verifier) block(i int, blk *Block, text []byte) {
	off := v.offset(secBlocks, 0) + int64(i*blockSize)
	var ev event.Event
	host := []byte(blk.Host)
	var got Block
	var last query.Key
	sum := v.out.Hosts[blk.Host]
	rest := text
	origins, batches, lastBatch := v.origins.Block(i, blk), v.batches.Block(i, blk, 0), uint64(0)
	for n := uint32(0); n < blk.Events; n++ {
		var one []byte
		var err error
		if one, rest, err = store.CutText(rest, blk.Counted); err != nil {
			left := *blk
			left.Events -= n
			v.blockBad(i, &left, v.frameAt(blk.Frame), fmt.Errorf("%w: event %d of %d: %w", store.ErrDamaged, n, blk.Events, err))
			return
		}
		store.ParseInto(&ev, one, blk.Counted, host, origins.Next())
		ev.Batch = batches.Next()
		if len(ev.Records) == 0 {
			v.wrong(off, "block %d: event %d has no record", i, n)
			continue
		}
		k := query.KeyOf(&ev)
		if c := k.Compare(last); n > 0 && (c < 0 || c == 0 && ev.Batch < lastBatch) {
			v.wrong(off, "block %d: event %d is out of order", i, n)
		}
		last, lastBatch = k, ev.Batch
		if n == 0 {
			got.MinMs, got.MaxMs, got.MinSerial, got.MaxSerial = ev.Ms, ev.Ms, ev.Serial, ev.Serial
		}
		got.MinMs, got.MaxMs = min(got.MinMs, ev.Ms), max(got.MaxMs, ev.Ms)
		got.MinSerial, got.MaxSerial = min(got.MinSerial, ev.Serial), max(got.MaxSerial, ev.Serial)
		got.Records += uint32(min(len(ev.Records), 1<<16-1))
		v.count(&ev)
		if v.event != nil {
			v.event(blk.Host, &ev)
		}
		sum.Events++
		sum.Records += uint64(len(ev.Records))
		sum.Bytes += uint64(ev.Size())
		v.ord = blk.First + n
		v.x.Index(&ev, v.addValue)
	}
	if v.origins != nil && !origins.all.Done() {
		v.wrong(v.offset(secReceipt, 0), "block %d: its receipts are not those of %d events", i, blk.Events)
	}
	v.readable[i] = true
	v.out.Blocks++
	v.out.Events += uint64(blk.Events)
	v.out.Hosts[blk.Host] = sum
	if len(rest) > 0 {
		v.wrong(off, "block %d: %d bytes behind its last event", i, len(rest))
	}
	if got.Records != blk.Records || got.MinMs != blk.MinMs || got.MaxMs != blk.MaxMs || got.MinSerial != blk.MinSerial || got.MaxSerial != blk.MaxSerial {
		v.wrong(off, "block %d of host %.80q: its table entry does not say what its events are", i, blk.Host)
	}
}

// count adds an event to what is counted again.
func (v *verifier) count(ev *event.Event) {
	s := &v.sum
	if s.Events == 0 {
		s.MinMs, s.MaxMs = ev.Ms, ev.Ms
	}
	s.Events++
	s.Records += uint64(len(ev.Records))
	s.RawBytes += uint64(ev.Size())
	s.MinMs, s.MaxMs = min(s.MinMs, ev.Ms), max(s.MaxMs, ev.Ms)
	if ev.Ms != 0 && (s.FirstMs == 0 || ev.Ms < s.FirstMs) {
		s.FirstMs = ev.Ms
	}
	v.out.Records += uint64(len(ev.Records))
	v.out.Bytes += uint64(ev.Size())
}

// compareSummary compares the group's summary with what was counted; all blocks must be
// readable.
func (v *verifier) compareSummary() {
	want := v.g.Summary
	got := v.sum
	got.Blocks, got.Hosts, got.Bytes = want.Blocks, want.Hosts, uint64(len(v.b))
	got.FirstBatch, got.LastBatch = want.FirstBatch, want.LastBatch // Batches has compared them
	got.IndexBytes = got.Bytes
	for _, s := range v.g.sections {
		if s.kind == secData {
			got.IndexBytes -= s.len
		}
	}
	if got != want {
		v.wrong(v.offset(secSummary, 0), "the summary says %+v, counted are %+v", want, got)
	}
}
