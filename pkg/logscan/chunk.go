package logscan

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// chunk is a number of whole lines of a log in one piece of memory, with the runs that
// order needs to know.
//
// A chunk changes hands, and no lock is needed: feed fills in the head and sends it to
// one indexer, which sets data, lines, runs, skipped and err and then closes ready.
// Whoever has received from ready may read these fields; nobody writes them any more.
// held belongs to the merge alone.
//
// refs counts the owners of the memory: the merge, while it adds the chunk and while held
// is above 0, and each batch with pieces of the chunk. Whoever gets a chunk from the pool
// counts the first reference, the merge's, before anybody else sees the chunk. Later ones
// call retain only while another reference keeps the count above 0, so the count reaches
// 0 exactly once; that release returns the chunk to its pool. Bytes of data must not be used after the release
// of the reference that kept them.
type chunk struct {
	seq     uint64 // of the scan
	buf     []byte // data's memory
	data    []byte
	lines   []line
	runs    []run
	skipped []skippedLine // when the scan wants to hear of them

	fill  func(*chunk) error // reads data; nil when it is there
	idle  bool               // no data, but a sign that there is none at present
	err   error              // of fill
	ready chan struct{}      // closed once it is indexed

	held int          // number of pieces in pending events; only the merge uses it
	refs atomic.Int32 // number of owners, see above
	home *chunkPool
}

// line is the place of one line in a chunk's data, without its newline.
type line struct{ off, size uint32 }

// run is a sequence of consecutive lines that belong to the same event however order
// groups the records. They have the same node, time and serial, and the first has a type
// that neither starts nor ends an event by itself; or the run is a single line.
type run struct {
	ms             int64
	serial         uint64
	node, nodeSize uint32 // in data
	first, n       uint32 // of lines
	size           uint32 // of the lines, in bytes
	typ            uint16 // of the first
	hasNode        bool
	hits           hits // conditions of the prefilter that a line of it meets
}

// skippedLine is a line that is not a record, or the rest of an overlong line.
type skippedLine struct {
	line
	err error
}

// piece is a sequence of consecutive lines of one event, within one chunk.
type piece struct {
	c        *chunk
	first, n uint32
}

func (c *chunk) bytes(l line) []byte {
	end := l.off + l.size
	return c.data[l.off:end:end]
}

// retain adds an owner of the chunk's memory, release removes one. Any goroutine that
// holds a reference may call them.
func (c *chunk) retain() { c.refs.Add(1) }

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 && c.home != nil {
		c.home.put(c)
	}
}

// chunkPool keeps unused chunks for reuse. Any goroutine may call its methods.
type chunkPool struct {
	mu   sync.Mutex // guards free
	free []*chunk
}

// poolChunks is the largest number of unused chunks that a pool keeps. The number of
// chunks in use is bounded by chunksAhead and merge.pinned.
const poolChunks = 16

func (p *chunkPool) get() *chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return &chunk{home: p}
	}
	c := p.free[n-1]
	p.free = p.free[:n-1]
	return c
}

func (p *chunkPool) put(c *chunk) {
	c.data, c.lines, c.runs, c.skipped = nil, c.lines[:0], c.runs[:0], c.skipped[:0]
	c.fill, c.idle, c.err, c.ready = nil, false, nil, nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < poolChunks {
		p.free = append(p.free, c)
	}
}

// indexer finds the lines and runs of chunks. Each indexing goroutine has its own.
type indexer struct {
	cfg    ReadConfig
	filter *prefilter
	rec    record.Record

	// The line before, when it was well formed: "node=NAME " or nothing, and
	// "msg=audit(…):". Nearly every line repeats them.
	node, stamp []byte
	inTime      bool
}

var (
	nodeIs  = []byte("node=")
	typeIs  = []byte("type=")
	stampIs = []byte("msg=audit(")
)

// index finds the lines of c.data and their runs.
func (ix *indexer) index(c *chunk) {
	ix.stamp, ix.node = nil, nil
	data := c.data
	for pos := 0; pos < len(data); {
		end, next := len(data), len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i
			next = end + 1
		}
		if end-pos > maxLine {
			ix.skip(c, pos+maxLine, end, errTooLong)
			end = pos + maxLine
		}
		if end > pos {
			ix.line(c, pos, end)
		}
		pos = next
	}
	ix.filter.mark(c)
}

// line adds the line from pos to end, which is not empty.
func (ix *indexer) line(c *chunk, pos, end int) {
	s := c.data[pos:end]
	n := len(ix.node)
	if ix.stamp != nil && len(s) > n+len(typeIs) && string(s[:n]) == string(ix.node) && string(s[n:n+len(typeIs)]) == string(typeIs) {
		at := n + len(typeIs)
		i := at
		for i < len(s) && s[i] != ' ' {
			i++
		}
		if k := i + 1 + len(ix.stamp); k <= len(s) && string(s[i+1:k]) == string(ix.stamp) {
			if ix.inTime {
				ix.same(c, pos, end, s[at:i])
			}
			return
		}
	}
	ix.other(c, pos, end)
}

// same adds a line with the node and stamp of the one before.
func (ix *indexer) same(c *chunk, pos, end int, typeName []byte) {
	r := &c.runs[len(c.runs)-1]
	c.lines = append(c.lines, line{uint32(pos), uint32(end - pos)})
	if standsAlone(r.typ) {
		typ, _ := tables.TypeByName(typeName)
		next := *r
		next.first, next.n, next.size, next.typ = uint32(len(c.lines)-1), 1, uint32(end-pos), typ
		next.hits = ix.filter.ofType(typ)
		c.runs = append(c.runs, next)
		return
	}
	r.n++
	r.size += uint32(end - pos)
	if ix.filter.byType() {
		typ, _ := tables.TypeByName(typeName)
		r.hits |= ix.filter.ofType(typ)
	}
}

// standsAlone says whether what becomes of a record of that type depends on what
// is open, so that the next line may not be assumed to follow it.
func standsAlone(typ uint16) bool { return typ == tables.EOE || startsSingle(typ) }

// other adds a line of another event, or a damaged one.
func (ix *indexer) other(c *chunk, pos, end int) {
	s := c.data[pos:end]
	ix.stamp, ix.node = nil, nil
	nr := run{first: uint32(len(c.lines)), n: 1, size: uint32(end - pos)}
	if h, ok := parseHead(s); ok {
		nr.ms, nr.serial = h.ms, h.serial
		nr.hasNode, nr.node, nr.nodeSize = h.node > 0, uint32(pos+len(nodeIs)), uint32(max(0, h.node-len(nodeIs)-1))
		ix.node, ix.stamp = s[:h.node], s[h.stamp:h.end]
		ix.inTime = ix.cfg.within(nr.ms)
		if !ix.inTime {
			return
		}
		nr.typ, _ = tables.TypeByName(s[h.node+len(typeIs) : h.stamp-1])
	} else {
		r := &ix.rec
		if err := r.Parse(s); !r.IsRecord() {
			ix.skip(c, pos, end, err)
			return
		}
		if nr.ms = r.Ms(); !ix.cfg.within(nr.ms) {
			return
		}
		nr.serial, nr.typ, nr.hasNode, nr.nodeSize = r.Serial, r.Type, r.Node != nil, uint32(len(r.Node))
		if nr.hasNode {
			nr.node = uint32(pos + bytes.Index(s, r.Node)) // its first occurrence does as well
		}
	}
	nr.hits = ix.filter.ofType(nr.typ)
	c.lines = append(c.lines, line{uint32(pos), uint32(end - pos)})
	c.runs = append(c.runs, nr)
}

func (ix *indexer) skip(c *chunk, pos, end int, err error) {
	if ix.cfg.Skipped != nil && end > pos {
		c.skipped = append(c.skipped, skippedLine{line{uint32(pos), uint32(end - pos)}, err})
	}
}

// head is what parseHead finds: the node part ends (with its space) at node, the
// stamp "msg=audit(…):" is from stamp to end.
type head struct {
	ms               int64
	serial           uint64
	node, stamp, end int
}

// parseHead reads the beginning of a line as daemons write it; what it does not
// take, record.Parse may.
func parseHead(s []byte) (h head, ok bool) {
	if len(s) > len(nodeIs) && string(s[:len(nodeIs)]) == string(nodeIs) {
		i := bytes.IndexByte(s, ' ')
		if i < 0 {
			return h, false
		}
		h.node = i + 1
	}
	i := h.node + len(typeIs)
	if len(s) < i || string(s[h.node:i]) != string(typeIs) {
		return h, false
	}
	for i < len(s) && s[i] != ' ' {
		i++
	}
	h.stamp = i + 1
	i = h.stamp + len(stampIs)
	if len(s) < i || string(s[h.stamp:i]) != string(stampIs) {
		return h, false
	}
	sec, i, ok := digits(s, i, 12)
	if !ok || i+4 >= len(s) || s[i] != '.' {
		return h, false
	}
	ms, j, ok := digits(s, i+1, 3)
	if !ok || j >= len(s) || s[j] != ':' {
		return h, false
	}
	if h.serial, i, ok = digits(s, j+1, 18); !ok || i+1 >= len(s) || s[i] != ')' || s[i+1] != ':' {
		return h, false
	}
	h.ms, h.end = int64(sec*1000+ms), i+2
	return h, true
}

// digits reads a number of at most so many digits.
func digits(s []byte, pos, most int) (n uint64, end int, ok bool) {
	for end = pos; end < len(s) && s[end]-'0' <= 9; end++ {
		if end-pos == most {
			return 0, end, false
		}
		n = n*10 + uint64(s[end]-'0')
	}
	return n, end, end > pos
}

// within says whether a record of that time is read.
func (cfg *ReadConfig) within(ms int64) bool {
	return (cfg.StartMs == 0 || ms >= cfg.StartMs) && (cfg.EndMs == 0 || ms <= cfg.EndMs)
}

// parsePieces makes the event of pieces again; ev's memory is used again.
func parsePieces(ev *event.Event, pieces []piece) {
	list := ev.Records[:0]
	for _, p := range pieces {
		for _, l := range p.c.lines[p.first : p.first+p.n] {
			if len(list) < cap(list) {
				list = list[:len(list)+1]
			} else {
				list = append(list, record.Record{})
			}
			_ = list[len(list)-1].Parse(p.c.bytes(l)) // index has found a time in it
		}
	}
	*ev = event.Event{Node: list[0].Node, Ms: list[0].Ms(), Serial: list[0].Serial, Records: list}
}
