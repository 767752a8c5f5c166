package group

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Version is the version that a Builder writes, batchVersion the one that Encode writes,
// OldVersion the oldest that Open reads; FORMAT.md says how they differ.
const (
	Version      = 5
	batchVersion = 4
	OldVersion   = 1
)

const (
	magic       = "AFGROUP\x00"
	headSize    = 16 // magic, version, number of sections, CRC of head and table
	sectionSize = 24
	blockSize   = 64
	frameSize   = 16

	// FrameBytes is about how much text is compressed together. A query for one event
	// has to unpack a frame, which takes 0.1 ms; frames of 1 MiB would take four times as
	// long and save 0.5 % of the text. BlockBytes is about the most text of a block.
	FrameBytes = 256 << 10
	BlockBytes = 256 << 10

	maxFrame    = 512 << 20 // no frame unpacks to more
	maxSections = 1 << 10
	maxNames    = 256 << 20 // no more bytes of hosts' names
)

// Kinds of sections.
const (
	secSummary = 1
	secHosts   = 2
	secBlocks  = 3
	secFrames  = 4
	secData    = 5
	secDict    = 6 // arg: the field
	secSenders = 7
	secReceipt = 8
	secBatches = 9
	secRows    = 10 // templates of the frames
	secChunks  = 11 // of the dictionaries
	secParts   = 12 // receipts and batches by block
	secSpans   = 13 // arg: the field; where short texts of its values are
	secClasses = 14 // of which classes its events are
)

// unsummed says that a section has no checksum of its own: its parts have.
func unsummed(kind byte) bool { return kind == secData || kind == secChunks || kind == secParts }

// addedField reports whether groups of this version were written before the program knew
// the field. Encode writes the field's dictionary even when it is empty. A group without
// one is such an older group: nothing is known of the field, and every one of its events
// may have any value.
func addedField(f query.Field) bool {
	return f >= query.FieldGIDName && int(f) < query.NumFields || f == query.FieldLists || f == query.FieldCall || f == query.FieldLogin
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Summary is what a group holds. It is the group's first section, and the group's entry
// in the store's catalogue, so that sizes and times are known without opening the group.
type Summary struct {
	Events, Records uint64
	RawBytes        uint64 // of records
	IndexBytes      uint64 // of the group: all but the frames
	Bytes           uint64 // of the group
	Blocks, Hosts   uint64
	MinMs, MaxMs    int64 // the least and greatest time of all events; an event without a time counts as 0
	FirstMs         int64 // the least time that is not 0
	// FirstBatch and LastBatch are the least and the greatest batch of its events. Both
	// are 0 for a group that is one batch: its key in the store says which.
	FirstBatch, LastBatch uint64
}

const (
	summarySize = 80
	manySize    = summarySize + 16 // of a group of many batches
)

// append appends the summary: ten numbers of 8 bytes, in the order that FORMAT.md gives,
// and two more for a group of many batches.
func (s *Summary) append(dst []byte) []byte {
	for _, v := range [...]uint64{s.Events, s.Records, s.RawBytes, s.IndexBytes, s.Bytes, s.Blocks, s.Hosts,
		uint64(s.MinMs), uint64(s.MaxMs), uint64(s.FirstMs)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	if s.LastBatch == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, s.FirstBatch), s.LastBatch)
}

// Encode returns the summary as its section has it: summarySize bytes, or manySize.
func (s *Summary) Encode() []byte { return s.append(nil) }

// DecodeSummary is the reverse of Encode. It errs, with store.ErrDamaged, for another
// number of bytes; whether the numbers are true is for the reader of the group to see.
func DecodeSummary(b []byte) (Summary, error) {
	if len(b) != summarySize && len(b) != manySize {
		return Summary{}, fmt.Errorf("%w: a summary of %d bytes", store.ErrDamaged, len(b))
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	s := Summary{Events: u(0), Records: u(1), RawBytes: u(2), IndexBytes: u(3), Bytes: u(4), Blocks: u(5), Hosts: u(6),
		MinMs: int64(u(7)), MaxMs: int64(u(8)), FirstMs: int64(u(9))}
	if len(b) == manySize {
		if s.FirstBatch, s.LastBatch = u(10), u(11); s.FirstBatch == 0 || s.FirstBatch > s.LastBatch {
			return Summary{}, fmt.Errorf("%w: a summary of batches %d to %d", store.ErrDamaged, s.FirstBatch, s.LastBatch)
		}
	}
	return s, nil
}

// Block is events of one host in a row, in order of time, node and serial. They lie in
// one frame.
type Block struct {
	Host                 string // "" is the host of mixed nodes; rawBlock leaves it empty
	Frame                uint32
	Off, Len             uint32 // in the frame's text
	First, Events        uint32 // ordinal of the first event, number of events
	Records              uint32
	Counted              bool // the form of its text
	MinMs, MaxMs         int64
	MinSerial, MaxSerial uint64
}

// append appends the block's entry in the block table, blockSize bytes:
//
//	byte 0   host, frame, offset, length, first event, events, records, flags: 4 bytes each
//	byte 32  least and greatest time, least and greatest serial: 8 bytes each
//
// host is the place of the host's name among the group's names.
func (b *Block) append(dst []byte, host uint32) []byte {
	flags := uint32(0)
	if b.Counted {
		flags = 1
	}
	for _, v := range [...]uint32{host, b.Frame, b.Off, b.Len, b.First, b.Events, b.Records, flags} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	for _, v := range [...]uint64{uint64(b.MinMs), uint64(b.MaxMs), b.MinSerial, b.MaxSerial} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// rawBlock reads an entry of the block table, all but the host's name; b has blockSize
// bytes at least. Nothing is checked here.
func rawBlock(b []byte) (blk Block, host uint32) {
	u := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	v := func(i int) uint64 { return binary.LittleEndian.Uint64(b[32+8*i:]) }
	return Block{Frame: u(1), Off: u(2), Len: u(3), First: u(4), Events: u(5), Records: u(6), Counted: u(7)&1 != 0,
		MinMs: int64(v(0)), MaxMs: int64(v(1)), MinSerial: v(2), MaxSerial: v(3)}, u(0)
}

// rawEnd reads of such an entry the ordinal behind its last event.
func rawEnd(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b[4*4:])) + uint64(binary.LittleEndian.Uint32(b[4*5:]))
}

// frame is an entry of the frame table: where a frame lies in the data section, its size
// there and unpacked, and the CRC-32C of the bytes stored.
type frame struct{ off, stored, raw, crc uint32 }

func (f frame) append(dst []byte) []byte {
	for _, v := range [...]uint32{f.off, f.stored, f.raw, f.crc} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}

// rawFrame reads an entry of the frame table; b has frameSize bytes at least.
func rawFrame(b []byte) frame {
	u := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	return frame{u(0), u(1), u(2), u(3)}
}

// section is an entry of the section table: what a section is, and where it lies from the
// group's start.
type section struct {
	kind, arg byte
	crc       uint32
	off, len  uint64
}

// assemble makes a group of its sections: head, section table, then the bodies in order.
// The data section and the chunks get no checksum of their own, since each frame and each chunk has one.
func assemble(version uint16, kinds []section, bodies [][]byte) []byte {
	size := headSize + len(kinds)*sectionSize
	total := size
	for _, b := range bodies {
		total += len(b)
	}
	out := make([]byte, size, total)
	copy(out, magic)
	binary.LittleEndian.PutUint16(out[8:], version)
	binary.LittleEndian.PutUint16(out[10:], uint16(len(kinds)))
	for i, k := range kinds {
		e := out[headSize+i*sectionSize:]
		e[0], e[1] = k.kind, k.arg
		if !unsummed(k.kind) {
			binary.LittleEndian.PutUint32(e[4:], crc32.Checksum(bodies[i], castagnoli))
		}
		binary.LittleEndian.PutUint64(e[8:], uint64(len(out)))
		binary.LittleEndian.PutUint64(e[16:], uint64(len(bodies[i])))
		out = append(out, bodies[i]...)
	}
	binary.LittleEndian.PutUint32(out[12:], headSum(out, size))
	return out
}

// headSum is the checksum of head and section table, which end at size, without the four
// bytes of the checksum itself.
func headSum(b []byte, size int) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[headSize:size])
}

// damaged returns an error that wraps store.ErrDamaged.
func damaged(format string, args ...any) error { return damagedAs(store.ErrDamaged, format, args...) }

func damagedAs(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)
}
