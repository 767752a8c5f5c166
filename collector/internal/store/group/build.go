package group

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group/rows"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// fullRaw and fullMemory are when a Builder is full: so many bytes of records, or so much memory. To finish a group takes about as
// much again as what is stored of it.
const (
	fullRaw    = 1 << 30
	fullMemory = 160 << 20

	// What rows are compared with begins anew with each frame: frames of 512 KiB save a tenth of the disk, but an event takes twice as long. A block
	// is a frame where hosts have so much, so that who reads one block after the other, with those of other hosts between them, unpacks each frame once.
	rowsFrame = 256 << 10
	rowsBlock = 256 << 10
)

// Builder makes one group of the events of many batches. It is for one goroutine. What it keeps is compressed: the frames, and of
// each value the events that have it.
type Builder struct {
	c    *Codec
	rows *rowsCoder
	last place
	sum  Summary

	hosts  []string
	blocks []Block
	owner  []uint32 // by block: its host, as an index of hosts
	text   []byte   // of the present frame
	frames []byte   // table of the frames before
	n      uint32   // how many these are
	data   []byte   // these frames
	open   bool     // the last block goes on

	vocabulary vocabulary
	whence     whence
}

// NewBuilder begins a group.
func (c *Codec) NewBuilder() *Builder {
	b := &Builder{c: c, rows: &rowsCoder{Encoder: rows.NewEncoder(rows.NewTable())}}
	b.vocabulary.init()
	b.whence.init()
	return b
}

// Add adds an event, which has a record at least: ev and its bytes are the caller's again afterwards. Events come in order of host,
// time, node, serial and batch; it errs for one that does not, for one without records, and for batch 0, and takes none of these.
func (b *Builder) Add(host string, batch uint64, ev *event.Event) error {
	if len(ev.Records) == 0 || batch == 0 {
		return fmt.Errorf("build a group: an event of %d records, of batch %d", len(ev.Records), batch)
	}
	if b.sum.Events == maxEvents {
		return fmt.Errorf("build a group: more than %d events", maxEvents)
	}
	if err := b.last.move(host, batch, ev, b.sum.Events == 0); err != nil {
		return fmt.Errorf("build a group: %w", err)
	}
	if n := len(b.hosts); n == 0 || b.hosts[n-1] != host {
		b.hosts = append(b.hosts, strings.Clone(host))
		b.open = false
	}
	from := len(b.text)
	var counted bool
	b.text, counted = store.AppendText(b.text, ev)
	if from > 0 && len(b.text) > rowsFrame {
		one := len(b.text) - from
		b.pack(from)
		copy(b.text[:one], b.text[from:])
		b.text = b.text[:one]
		from = 0
	}
	b.place(from, counted, ev)
	b.count(batch, ev)
	b.vocabulary.add(uint32(b.sum.Events-1), ev)
	b.whence.add(batch, ev)
	return nil
}

// place puts an event, whose text begins there, into the last block or a new one.
func (b *Builder) place(from int, counted bool, ev *event.Event) {
	if last := len(b.blocks) - 1; !b.open || b.blocks[last].Counted != counted || b.blocks[last].Len >= rowsBlock {
		b.blocks = append(b.blocks, Block{Frame: b.n, Off: uint32(from), First: uint32(b.sum.Events), Counted: counted,
			MinMs: ev.Ms, MaxMs: ev.Ms, MinSerial: ev.Serial, MaxSerial: ev.Serial})
		b.owner = append(b.owner, uint32(len(b.hosts)-1))
		b.whence.block(b.c)
		b.open = true
	}
	blk := &b.blocks[len(b.blocks)-1]
	blk.Len += uint32(len(b.text) - from)
	blk.Events++
	blk.Records += uint32(min(len(ev.Records), 1<<16-1))
	blk.MinMs, blk.MaxMs = min(blk.MinMs, ev.Ms), max(blk.MaxMs, ev.Ms)
	blk.MinSerial, blk.MaxSerial = min(blk.MinSerial, ev.Serial), max(blk.MaxSerial, ev.Serial)
}

// count counts an event for the summary.
func (b *Builder) count(batch uint64, ev *event.Event) {
	s := &b.sum
	if s.Events == 0 {
		s.MinMs, s.MaxMs, s.FirstBatch, s.LastBatch = ev.Ms, ev.Ms, batch, batch
	}
	s.Events++
	s.Records += uint64(len(ev.Records))
	s.RawBytes += uint64(ev.Size())
	s.MinMs, s.MaxMs = min(s.MinMs, ev.Ms), max(s.MaxMs, ev.Ms)
	s.FirstBatch, s.LastBatch = min(s.FirstBatch, batch), max(s.LastBatch, batch)
	if ev.Ms != 0 && (s.FirstMs == 0 || ev.Ms < s.FirstMs) {
		s.FirstMs = ev.Ms
	}
}

// pack ends the present frame, which has the first size bytes of the text.
func (b *Builder) pack(size int) {
	at := len(b.data)
	b.data = b.c.packFrame(b.data, b.rows, b.text[:size])
	b.frames = frame{off: uint32(at), stored: uint32(len(b.data) - at), raw: uint32(size), crc: crc32.Checksum(b.data[at:], castagnoli)}.append(b.frames)
	b.n++
	b.open = false
}

// Events returns how many events were added.
func (b *Builder) Events() int { return int(b.sum.Events) }

// Full says that the group has as much as one should have: finish it, and begin another.
func (b *Builder) Full() bool {
	return b.sum.RawBytes >= fullRaw || b.memory() >= fullMemory || b.sum.Events >= maxEvents/2
}

// memory is about how many bytes the builder takes.
func (b *Builder) memory() int {
	return cap(b.data) + cap(b.text) + len(b.blocks)*(blockSize+40) + b.vocabulary.memory + b.whence.memory()
}

// Finish returns the group and its summary, once. It errs where no event was added.
func (b *Builder) Finish() (blob []byte, sum Summary, err error) {
	if b.sum.Events == 0 {
		return nil, Summary{}, fmt.Errorf("build a group: no events")
	}
	if len(b.text) > 0 {
		b.pack(len(b.text))
		b.text = nil
	}
	b.sum.Blocks, b.sum.Hosts = uint64(len(b.blocks)), uint64(len(b.hosts))
	var kinds []section
	var bodies [][]byte
	add := func(kind, arg byte, body []byte) {
		kinds = append(kinds, section{kind: kind, arg: arg})
		bodies = append(bodies, body)
	}
	add(secSummary, 0, b.sum.Encode()) // once more at the end: it has the group's size
	add(secHosts, 0, b.c.names(b.hosts))
	var blocks []byte
	for i := range b.blocks {
		blocks = b.blocks[i].append(blocks, b.owner[i])
	}
	add(secBlocks, 0, blocks)
	dicts, chunks := b.vocabulary.encode(b.c, int(b.sum.Events), b.blocks)
	for _, d := range dicts {
		add(secDict, byte(d.field), d.body)
		if d.spans != nil {
			add(secSpans, byte(d.field), d.spans)
		}
	}
	b.vocabulary = vocabulary{}
	add(secChunks, 0, chunks)
	senders, receipts, batches, parts := b.whence.encode(b.c)
	add(secSenders, 0, senders)
	add(secReceipt, 0, receipts)
	add(secBatches, 0, batches)
	add(secParts, 0, parts)
	templates := b.rows.Table()
	add(secRows, 0, b.c.dictBody(templates.Len(), templates.Append(nil), nil))
	add(secFrames, 0, b.frames)
	index := headSize // the size of all but the frames' section
	for _, x := range bodies {
		index += len(x) + sectionSize
	}
	add(secData, 0, b.data)
	b.sum.IndexBytes = uint64(index + sectionSize)
	b.sum.Bytes = b.sum.IndexBytes + uint64(len(b.data))
	bodies[0] = b.sum.Encode()
	return assemble(Version, kinds, bodies), b.sum, nil
}

// place is where an event lies in the order at rest.
type place struct {
	host   string
	ms     int64
	node   []byte // of a host of mixed nodes only
	serial uint64
	batch  uint64
}

// move goes to an event's place. It errs, and stays, where that lies before the present one.
func (p *place) move(host string, batch uint64, ev *event.Event, first bool) error {
	node := ev.Node
	if host != "" {
		node = nil
	}
	c := cmp.Or(strings.Compare(host, p.host), cmp.Compare(ev.Ms, p.ms), bytes.Compare(node, p.node), cmp.Compare(ev.Serial, p.serial), cmp.Compare(batch, p.batch))
	if c < 0 && !first {
		return fmt.Errorf("event %d:%d of host %.80q in batch %d comes behind %d:%d of host %.80q in batch %d",
			ev.Ms, ev.Serial, host, batch, p.ms, p.serial, p.host, p.batch)
	}
	p.host, p.ms, p.node, p.serial, p.batch = host, ev.Ms, append(p.node[:0], node...), ev.Serial, batch
	return nil
}
