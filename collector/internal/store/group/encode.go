package group

import (
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group/rows"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Codec encodes groups and opens them. Any number of goroutines may use it at once: it
// has only the compressor's state, which the library shares between them.
type Codec struct {
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	workers int
	most    uint64 // bytes of a part of a dictionary, unpacked
	frame   uint64 // bytes of a frame, unpacked

	decoders sync.Pool // of *rowsReader
	tables   tables
}

// NewCodec makes a codec that compresses a group with at most so many goroutines; 0 means
// as many as there are processors. The caller closes it.
func NewCodec(workers int) (*Codec, error) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(workers),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, fmt.Errorf("set up decompression: %w", err)
	}
	c := &Codec{enc: enc, dec: dec, workers: workers, most: maxDict, frame: maxFrame}
	c.init()
	return c, nil
}

// NewReader makes a codec that only opens groups and frames, on so many processors (0: all), none of whose frames unpacks to more than frame bytes, and no
// part of a dictionary to more than part: for what comes from strangers. The caller closes it.
func NewReader(workers int, frame, part uint64) (*Codec, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(max(frame, part)), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, fmt.Errorf("set up decompression: %w", err)
	}
	c := &Codec{dec: dec, most: part, frame: frame}
	c.init()
	return c, nil
}

func (c *Codec) init() {
	c.decoders.New = func() any { return &rowsReader{} }
	c.tables.seed, c.tables.all = maphash.MakeSeed(), map[uint64]*rows.Table{}
}

// Close releases the codec's goroutines and buffers.
func (c *Codec) Close() error {
	c.dec.Close()
	if c.enc == nil {
		return nil
	}
	return c.enc.Close()
}

// builder collects a table's events in their order at rest: by host name, and within a
// host by time, node and serial. Encode fills it; then several goroutines read it.
type builder struct {
	hosts   []string
	blocks  []Block
	owner   []uint32       // by block: its host, as an index of hosts
	frames  [][]piece      // by frame: its events' texts, still in the table's memory
	sizes   []int          // by frame: their bytes
	ids     [][]uint32     // by ordinal: numbers of the event's values
	origins []store.Origin // by ordinal
	times   []int64        // by ordinal
	sum     Summary
	curSize int // of the last frame
}

// piece is the text of an event in a frame.
type piece []byte

// Encode makes a group of a table's events, of which there must be one at least. Searches
// may read the table at the same time, but nothing may be added to it. The frames are
// compressed while another goroutine builds the dictionaries.
func (c *Codec) Encode(t *store.Table) ([]byte, Summary, error) {
	blob, sum, _, err := c.encode(t, nil, false)
	return blob, sum, err
}

// EncodeWithRoot is Encode, and returns the root of the tree over the events, too: that of EventsRoot, for less than half of its
// cost, since the text is at hand.
func (c *Codec) EncodeWithRoot(t *store.Table) ([]byte, Summary, eventtree.Hash, error) {
	return c.encode(t, nil, true)
}

// EncodeDivided is Encode of a table that is divided by classes, and EncodeWithRoot where a root is asked for: it is that over the events in the order of their places, and
// the division gets the proofs of its classes.
func (c *Codec) EncodeDivided(t *store.Table, d *store.Division, root bool) ([]byte, Summary, eventtree.Hash, error) {
	return c.encode(t, d, root)
}

func (c *Codec) encode(t *store.Table, d *store.Division, tree bool) (blob []byte, sum Summary, root eventtree.Hash, err error) {
	var b builder
	for _, h := range t.Hosts() {
		b.addHost(&h)
	}
	if len(b.ids) == 0 {
		return nil, Summary{}, root, fmt.Errorf("encode a group: no events")
	}
	st := t.Stats()
	b.sum.Records, b.sum.RawBytes = uint64(st.Records), uint64(st.RawBytes)
	b.sum.Events, b.sum.Hosts, b.sum.Blocks = uint64(len(b.ids)), uint64(len(b.hosts)), uint64(len(b.blocks))

	// From here on b is only read, by all sides, until the dictionaries and the root are done.
	dicts, roots := make(chan []dictionary, 1), make(chan eventtree.Hash, 1)
	go func() { dicts <- c.dictionaries(&b, t.Values()) }()
	if tree {
		go func() {
			leaves := b.tree(d)
			if d == nil {
				roots <- leaves.Root()
				return
			}
			roots <- proveClasses(d, leaves)
		}()
	} else {
		roots <- root
	}
	table, data := c.pack(&b)

	var kinds []section
	var bodies [][]byte
	add := func(kind, arg byte, body []byte) {
		kinds = append(kinds, section{kind: kind, arg: arg})
		bodies = append(bodies, body)
	}
	add(secSummary, 0, b.sum.Encode()) // once more at the end: it has the group's size
	add(secHosts, 0, c.names(b.hosts))
	var blocks []byte
	for i := range b.blocks {
		blocks = b.blocks[i].append(blocks, b.owner[i])
	}
	add(secBlocks, 0, blocks)
	for _, d := range <-dicts {
		add(secDict, byte(d.field), d.body)
	}
	root = <-roots
	senders, receipts := c.origins(&b)
	add(secSenders, 0, senders)
	add(secReceipt, 0, receipts)
	if d != nil {
		add(secClasses, 0, d.Encode())
	}
	add(secFrames, 0, table)
	index := headSize // the size of all but the frames' section
	for _, x := range bodies {
		index += len(x) + sectionSize
	}
	add(secData, 0, data)
	b.sum.IndexBytes = uint64(index + sectionSize)
	b.sum.Bytes = b.sum.IndexBytes + uint64(len(data))
	bodies[0] = b.sum.Encode()
	return assemble(batchVersion, kinds, bodies), b.sum, root, nil
}

// addHost appends a host's events in their order at rest. A new block begins with the
// host, with each frame, where the form of text changes, and once a block has BlockBytes;
// a new frame begins before the event that would take it beyond FrameBytes. So a block
// lies in one frame and is of one form, and only an event that is larger alone makes a
// larger frame.
func (b *builder) addHost(h *store.TableHost) {
	if len(h.Events) == 0 {
		return
	}
	host := uint32(len(b.hosts))
	b.hosts = append(b.hosts, h.Name)
	open := false
	for _, i := range h.Order() {
		e := &h.Events[i]
		if len(b.frames) == 0 || b.curSize > 0 && b.curSize+len(e.Text) > FrameBytes {
			b.frames = append(b.frames, nil)
			b.sizes = append(b.sizes, 0)
			b.curSize = 0
			open = false
		}
		if last := len(b.blocks) - 1; !open || b.blocks[last].Counted != e.Counted || int(b.blocks[last].Len) >= BlockBytes {
			b.blocks = append(b.blocks, Block{Frame: uint32(len(b.frames) - 1), Off: uint32(b.curSize), First: uint32(len(b.ids)),
				Counted: e.Counted, MinMs: e.Ms, MaxMs: e.Ms, MinSerial: e.Serial, MaxSerial: e.Serial})
			b.owner = append(b.owner, host)
			open = true
		}
		blk := &b.blocks[len(b.blocks)-1]
		blk.Len += uint32(len(e.Text))
		blk.Events++
		blk.Records += uint32(e.Records)
		blk.MinMs, blk.MaxMs = min(blk.MinMs, e.Ms), max(blk.MaxMs, e.Ms)
		blk.MinSerial, blk.MaxSerial = min(blk.MinSerial, e.Serial), max(blk.MaxSerial, e.Serial)
		if len(b.ids) == 0 {
			b.sum.MinMs, b.sum.MaxMs = e.Ms, e.Ms
		}
		b.sum.MinMs, b.sum.MaxMs = min(b.sum.MinMs, e.Ms), max(b.sum.MaxMs, e.Ms)
		if e.Ms != 0 && (b.sum.FirstMs == 0 || e.Ms < b.sum.FirstMs) {
			b.sum.FirstMs = e.Ms
		}
		f := len(b.frames) - 1
		b.frames[f] = append(b.frames[f], e.Text)
		b.curSize += len(e.Text)
		b.sizes[f] = b.curSize
		b.ids = append(b.ids, h.ValuesOf(int(i)))
		b.origins = append(b.origins, e.Origin)
		b.times = append(b.times, e.Ms)
	}
}

// pack compresses the frames, several at once, and returns the frame table and the data
// section, which has the frames in order.
func (c *Codec) pack(b *builder) (table, data []byte) {
	// Each goroutine takes frames from next and writes only their elements of packed.
	packed := make([][]byte, len(b.frames))
	next := make(chan int, len(b.frames))
	for i := range b.frames {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range min(c.workers, len(b.frames)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			text := make([]byte, 0, FrameBytes+FrameBytes/4)
			for i := range next {
				text = text[:0]
				for _, p := range b.frames[i] {
					text = append(text, p...)
				}
				packed[i] = c.enc.EncodeAll(text, make([]byte, 0, len(text)/8))
			}
		}()
	}
	wg.Wait()
	total := 0
	for _, p := range packed {
		total += len(p)
	}
	data = make([]byte, 0, total)
	for i, p := range packed {
		f := frame{off: uint32(len(data)), stored: uint32(len(p)), raw: uint32(b.sizes[i]), crc: crc32.Checksum(p, castagnoli)}
		table = f.append(table)
		data = append(data, p...)
	}
	return table, data
}

// dictionary is the encoded index of one field.
type dictionary struct {
	field query.Field
	body  []byte
	spans []byte // nil: none
}
