package seglog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Version is the newest format version; FORMAT.md says what it means. A log without
// an ID is written in version 1.
const Version = 2

const (
	magic        = "AFSEGLOG"
	headerSize   = 64 // of version 1
	headerSize2  = 80
	headerCopyAt = 2048 // a second copy of the header, in another sector
	dataOffset   = 4096 // first frame: the header's page is never written again
	kindSize     = 16
	frameHead    = 16
	lengthBits   = 30
	lengthMask   = 1<<lengthBits - 1
)

// MaxEntry and MaxBatch bound one entry and one Append, in bytes. A reader takes a longer
// length for damage, so damaged bytes cannot make it allocate more.
const (
	MaxEntry = 64 << 20
	MaxBatch = 256 << 20
)

// Frame types, in the top two bits of a frame's length.
const (
	frameEntry = 0 // a payload, index is its own
	frameMark  = 1 // no payload; every entry up to index was on stable storage
	frameGap   = 2 // length bytes to skip; entries up to index are lost
)

// noteSize is how many of the bytes that a gap skips may say why it is there.
const noteSize = 4

// noteOf is the note of a gap whose entries were never known to be durable. The seed
// keeps a payload's bytes, which a gap skips as well, from passing for one.
func noteOf(seed uint32, head []byte) uint32 {
	return crc32.Update(crc32.Update(seed, castagnoli, head), castagnoli, []byte("unsynced"))
}

// maxIndex bounds the indexes that are read from files, so that arithmetic on them never
// wraps around.
const maxIndex = 1 << 62

// maxJump bounds the indexes that a header or a gap can set the log to, so that
// there is always room behind them.
const maxJump = maxIndex / 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what a segment file begins with.
type header struct {
	kind  string
	first uint64 // index of the first entry
	gen   uint64 // one more for each segment file ever made in the log
	// seed starts the checksum of each frame. It is random, so that neither a
	// stale block of another segment nor bytes in a payload chosen by a sender
	// can pass for a frame of this one.
	seed uint32
	id   ID // zero in version 1
}

// ID is a log's random identity, which every segment's header repeats; the zero ID means
// that the log has none.
type ID [16]byte

// String returns the ID as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(id)) {
		return fmt.Errorf("an ID of %d digits, want %d", len(b), hex.EncodedLen(len(id)))
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// size returns the header's length in the file, checksum included.
func (h header) size() int {
	if h.id == (ID{}) {
		return headerSize
	}
	return headerSize2
}

// encode returns one copy of the header, in version 1 for a log without an ID.
func (h header) encode() []byte {
	n := h.size()
	b := make([]byte, n)
	copy(b, magic)
	version := uint32(1)
	if n == headerSize2 {
		version = Version
		copy(b[48:64], h.id[:])
	}
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], h.seed)
	copy(b[16:16+kindSize], h.kind)
	binary.LittleEndian.PutUint64(b[32:], h.first)
	binary.LittleEndian.PutUint64(b[40:], h.gen)
	binary.LittleEndian.PutUint32(b[n-4:], crc32.Checksum(b[:n-4], castagnoli))
	return b
}

// encodePage returns the header's page: two copies, zeroes elsewhere.
func (h header) encodePage() []byte {
	page := make([]byte, dataOffset)
	b := h.encode()
	copy(page, b)
	copy(page[headerCopyAt:], b)
	return page
}

// decodeHeader reads one copy. Errors: ErrMagic, ErrVersion, ErrChecksum.
func decodeHeader(b []byte) (header, error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return header{}, ErrMagic
	}
	n := headerSize
	switch v := binary.LittleEndian.Uint32(b[8:]); {
	case v > Version || v == 0:
		return header{}, fmt.Errorf("%w: version %d, this program reads %d", ErrVersion, v, Version)
	case v == Version:
		n = headerSize2
	}
	if len(b) < n || crc32.Checksum(b[:n-4], castagnoli) != binary.LittleEndian.Uint32(b[n-4:]) {
		return header{}, fmt.Errorf("header: %w", ErrChecksum)
	}
	h := header{
		seed:  binary.LittleEndian.Uint32(b[12:]),
		kind:  string(bytes.TrimRight(b[16:16+kindSize], "\x00")),
		first: binary.LittleEndian.Uint64(b[32:]),
		gen:   binary.LittleEndian.Uint64(b[40:]),
	}
	if n == headerSize2 {
		copy(h.id[:], b[48:64])
	}
	if h.first == 0 || h.first > maxJump || h.gen == 0 {
		return header{}, fmt.Errorf("header: first %d, generation %d: %w", h.first, h.gen, ErrChecksum)
	}
	return h, nil
}

// badCopy says which of the two header copies is damaged, and how.
type badCopy struct {
	off int64
	err error
}

// decodePage reads the header's page; the second copy stands in for the first.
func decodePage(page []byte) (h header, bad *badCopy, err error) {
	var second []byte
	if len(page) >= headerCopyAt {
		second = page[headerCopyAt:]
	}
	h1, err1 := decodeHeader(page)
	h2, err2 := decodeHeader(second)
	if err1 != nil {
		if err2 != nil {
			return header{}, nil, err1
		}
		return h2, &badCopy{0, err1}, nil
	}
	if err2 != nil || h2 != h1 {
		bad = &badCopy{headerCopyAt, fmt.Errorf("second copy of the header: %w", ErrChecksum)}
	}
	return h1, bad, nil
}

// segmentName returns a segment's name; names sort as first indexes do.
func segmentName(first, gen uint64) string {
	return fmt.Sprintf("%020d-%010d.seg", first, gen)
}

// parseName is the reverse of segmentName.
func parseName(name string) (first, gen uint64, ok bool) {
	base, ok := strings.CutSuffix(name, ".seg")
	if !ok {
		return 0, 0, false
	}
	a, b, ok := strings.Cut(base, "-")
	if !ok {
		return 0, 0, false
	}
	first, err1 := strconv.ParseUint(a, 10, 64)
	gen, err2 := strconv.ParseUint(b, 10, 64)
	if err1 != nil || err2 != nil || first == 0 || first > maxJump || gen == 0 || segmentName(first, gen) != name {
		return 0, 0, false
	}
	return first, gen, true
}

// frame is a decoded frame. payload is a part of the buffer that it was read from; only an
// entry has any.
type frame struct {
	typ     int
	index   uint64
	length  int // bytes that follow the head
	payload []byte
}

// size returns the frame's whole length in the file, skipped bytes included.
func (f frame) size() int64 { return int64(frameHead) + int64(f.length) }

// putFrame appends a frame. Only an entry has a payload.
func putFrame(dst []byte, seed uint32, typ int, index uint64, length int, payload []byte) []byte {
	at := len(dst)
	dst = append(append(dst, make([]byte, frameHead)...), payload...)
	closeFrame(dst[at:], seed, typ, index, length)
	return dst
}

// closeFrame writes the head of the frame f, whose payload is in its place behind the head.
func closeFrame(f []byte, seed uint32, typ int, index uint64, length int) {
	binary.LittleEndian.PutUint32(f[4:], uint32(length)|uint32(typ)<<lengthBits)
	binary.LittleEndian.PutUint64(f[8:], index)
	binary.LittleEndian.PutUint32(f, crc32.Update(seed, castagnoli, f[4:]))
}

// parseHead splits a frame's head into its parts. ok means no more than that the type is
// known and index and length are within bounds; valid checks the checksum.
func parseHead(b []byte) (f frame, ok bool) {
	n := binary.LittleEndian.Uint32(b[4:])
	f.typ, f.length = int(n>>lengthBits), int(n&lengthMask)
	f.index = binary.LittleEndian.Uint64(b[8:])
	if f.index > maxIndex {
		return f, false
	}
	switch f.typ {
	case frameEntry:
		return f, f.length <= MaxEntry && f.index > 0
	case frameMark:
		return f, f.length == 0
	case frameGap:
		return f, f.index <= maxJump
	}
	return f, false
}

// checked returns how many bytes of a frame, from its start, its checksum covers.
func (f frame) checked() int {
	if f.typ == frameEntry {
		return frameHead + f.length
	}
	return frameHead
}

// valid reports whether a frame's checksum is right; b holds the frame, at least f.checked()
// bytes of it.
func (f frame) valid(b []byte, seed uint32) bool {
	return crc32.Update(seed, castagnoli, b[4:f.checked()]) == binary.LittleEndian.Uint32(b)
}

// resum gives frames, which were built for one segment, the checksums of another segment's
// seed.
func resum(frames []byte, seed uint32) {
	for len(frames) >= frameHead {
		f, ok := parseHead(frames)
		n := f.checked()
		if !ok || n > len(frames) {
			return
		}
		binary.LittleEndian.PutUint32(frames, crc32.Update(seed, castagnoli, frames[4:n]))
		frames = frames[n:]
	}
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
