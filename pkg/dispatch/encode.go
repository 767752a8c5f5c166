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

// How much is written at once: enough to make a write cheap, little enough that a plugin
// that dies leaves little unread.
const (
	chunkBytes   = 64 << 10
	chunkRecords = 16 // of the binary format
)

// encoder turns records into the stream that a plugin reads. It is for one goroutine.
type encoder struct {
	format conf.Format
	buf    []byte // of the binary format
}

// chunk encodes some records at the beginning of a span, at least one, and returns how many.
// The bytes are valid until the next call, and must not be changed: those of the string
// format are the batch's own.
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

// count returns how many records end within a piece of a stream that begins with a record.
func (e *encoder) count(stream []byte) int {
	if e.format == conf.FormatBinary {
		return len(stream) / binaryRecord
	}
	return bytes.Count(stream, []byte{'\n'})
}

// align returns a piece of a stream, which ends with a whole record, from the first record's
// beginning on. What is before is the rest of a record whose beginning a plugin has read;
// in the string format, only a line that begins like a record counts as a beginning.
func (e *encoder) align(stream []byte) []byte {
	if e.format == conf.FormatBinary {
		return stream[len(stream)%binaryRecord:]
	}
	if bytes.HasPrefix(stream, []byte("type=")) || bytes.HasPrefix(stream, []byte("node=")) {
		return stream
	}
	return stream[bytes.IndexByte(stream, '\n')+1:]
}
