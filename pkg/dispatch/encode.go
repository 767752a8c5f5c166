package dispatch

import (
	"bytes"
	"encoding/binary"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// The binary format; FORMAT.md.
const (
	binaryVersion = 1
	binaryHeader  = 16
	maxText       = 8970                   // MAX_AUDIT_MESSAGE_LENGTH
	binaryRecord  = binaryHeader + maxText // what stock 3.0.9 writes for each record, whatever its size
)

// Chunks that are written at once: enough to make a write cheap, few enough that
// a plugin that dies has little unread.
const (
	chunkBytes   = 64 << 10
	chunkRecords = 16 // of the binary format
)

// encoder turns records into what a plugin reads.
type encoder struct {
	format conf.Format
	buf    []byte // of the binary format
}

// chunk encodes some records at the beginning of a span and returns how many.
// The bytes are valid until the next call.
func (e *encoder) chunk(s span) (out []byte, records int) {
	if e.format != conf.FormatBinary {
		from := s.b.start(s.from)
		to := s.from + 1
		for to < s.to && s.b.entries[to].end-from <= chunkBytes {
			to++
		}
		return s.b.data[from:s.b.entries[to-1].end], to - s.from
	}
	records = min(s.to-s.from, chunkRecords)
	e.buf = e.buf[:0]
	for i := s.from; i < s.from+records; i++ {
		e.buf = appendBinary(e.buf, s.b.entries[i].typ, s.b.line(i))
	}
	return e.buf, records
}

// appendBinary appends one record of the binary format. Longer text than the
// format has room for is cut.
func appendBinary(dst []byte, typ uint16, line []byte) []byte {
	line = line[:min(len(line), maxText)]
	for _, word := range [...]uint32{binaryVersion, binaryHeader, uint32(typ), uint32(len(line))} {
		dst = binary.NativeEndian.AppendUint32(dst, word)
	}
	dst = append(dst, line...)
	return append(dst, make([]byte, maxText-len(line))...)
}

// count is how many whole records a piece of a stream has.
func (e *encoder) count(stream []byte) int {
	if e.format == conf.FormatBinary {
		return len(stream) / binaryRecord
	}
	return bytes.Count(stream, []byte{'\n'})
}

// align cuts the rest of a record, whose beginning a plugin has read, off a
// piece of a stream that ends with a whole record.
func (e *encoder) align(stream []byte) []byte {
	if e.format == conf.FormatBinary {
		return stream[len(stream)%binaryRecord:]
	}
	if bytes.HasPrefix(stream, []byte("type=")) || bytes.HasPrefix(stream, []byte("node=")) {
		return stream
	}
	return stream[bytes.IndexByte(stream, '\n')+1:]
}
