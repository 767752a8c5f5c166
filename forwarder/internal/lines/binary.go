package lines

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// errBinary is returned for a stream that began in the dispatcher's binary
// format and stopped being one.
var errBinary = errors.New("not the dispatcher's binary format")

// looksBinary tells the dispatcher's binary format from lines: it begins with a
// small version and the length of its header, where lines have "type" or "node".
func looksBinary(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	return binary.NativeEndian.Uint32(b) <= 1 && binary.NativeEndian.Uint32(b[4:]) == binaryHeader
}

const (
	binaryHeader = 16
	// binaryRecord is the room the stock dispatcher 3.0.9 writes for each record,
	// whatever its size: the header and the longest text.
	binaryRecord = binaryHeader + kernel.MaxMessage
)

// binaryFormat reads records of a header of four native-endian words (version,
// header length, type, size) and size bytes. Version 0 has the kernel's text,
// version 1 the whole line. Stock 3.0.9 pads every record to 8986 bytes; others
// write just size bytes. Which one it is shows after the first record.
type binaryFormat struct {
	known   bool   // it is this format
	begun   bool   // a header was read, of version
	version uint32 // of all: lines and kernel's texts are handed on apart, so their order would be lost
	padded  bool   // each record fills binaryRecord bytes
	settled bool   // whether padded holds is known
	pad     int    // bytes to pass over before the next header, when padded
}

func (f *binaryFormat) decode(c *Chunk) (used int, err error) {
	f.known = true
	for {
		b := c.data[used:c.n]
		if f.pad > 0 {
			if !f.settled {
				if len(b) < binaryHeader && len(b) < f.pad {
					return used, nil
				}
				f.padded = !looksBinary(b)
				f.settled = true
			}
			if f.padded {
				n := min(f.pad, len(b))
				f.pad -= n
				used += n
				if f.pad > 0 {
					return used, nil
				}
				continue
			}
			f.pad = 0
		}
		if len(b) < binaryHeader {
			return used, nil
		}
		word := binary.NativeEndian.Uint32
		version, hlen, typ, size := word(b), word(b[4:]), word(b[8:]), word(b[12:])
		if version > 1 || hlen != binaryHeader || size > kernel.MaxMessage || typ > 0xffff {
			return used, fmt.Errorf("%w: version %d, header of %d, type %d, %d bytes", errBinary, version, hlen, typ, size)
		}
		if f.begun && version != f.version {
			return used, fmt.Errorf("%w: version %d behind version %d", errBinary, version, f.version)
		}
		f.begun, f.version = true, version
		total := binaryHeader + int(size)
		if len(b) < total {
			return used, nil
		}
		text := bytes.TrimRight(b[binaryHeader:total], "\x00\n")
		if typ != uint32(tables.EOE) && len(text) > 0 {
			if version == 0 {
				c.Records = append(c.Records, kernel.Record{Type: uint16(typ), Text: text})
			} else {
				c.Lines = append(c.Lines, text)
			}
		}
		used += total
		if f.pad = binaryRecord - total; f.settled && !f.padded {
			f.pad = 0
		}
	}
}
