// Package remote is the codec of the audisp-remote protocol, for both ends. It turns bytes into
// frames and frames into bytes: "managed" messages (a header of 16 bytes and a text) and
// "ascii" lines, told apart message by message. It opens no socket, starts no goroutine and
// keeps no buffer of its own. Forwarder, collector and integration tests may import it; it
// imports nothing of ours.
//
// FORMAT.md beside this file has the layout, with examples, and what the stock audit daemon
// (3.0.9) does in cases that its manual pages leave open.
package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ALPN is the application protocol that our forwarder asks for, and our collector offers, where
// this protocol goes over TLS with certificates: who meets another port of a collector is told
// so. Neither asks for it of others.
const ALPN = "audisp-remote/1"

// Type is a managed message's type.
type Type uint32

// The known types. A peer may send others: the bits below tell what such a type means.
const (
	Message   Type = 0x00000000 // client → server: one record
	Heartbeat Type = 0x00000001 // client → server: answered with Ack
	Ack       Type = 0x40000000 // server → client: stored
	Ending    Type = 0x40000001 // server → client, sequence 0: the server stops
	DiskLow   Type = 0x50000001 // server → client: stored, space is low
	DiskFull  Type = 0x60000001 // server → client: not stored
	DiskError Type = 0x60000002 // server → client: not stored
)

const (
	replyBit   Type = 0x40000000
	fatalBit   Type = 0x20000000
	warningBit Type = 0x10000000
)

// IsReply reports whether t travels from server to client.
func (t Type) IsReply() bool { return t&replyBit != 0 }

// IsFatal reports whether t says that the record was not stored.
func (t Type) IsFatal() bool { return t&fatalBit != 0 }

// IsWarning reports whether t says that the record was stored, but something is
// wrong. A type with both bits is fatal first.
func (t Type) IsWarning() bool { return t&warningBit != 0 }

// String is the type's name in capitals, or its number in hexadecimal.
func (t Type) String() string {
	switch t {
	case Message:
		return "MESSAGE"
	case Heartbeat:
		return "HEARTBEAT"
	case Ack:
		return "ACK"
	case Ending:
		return "ENDING"
	case DiskLow:
		return "DISKLOW"
	case DiskFull:
		return "DISKFULL"
	case DiskError:
		return "DISKERROR"
	}
	return fmt.Sprintf("0x%08x", uint32(t))
}

const (
	// MaxLength is the longest text of a message, and the longest ascii line
	// without its newline (the stock MAX_AUDIT_MESSAGE_LENGTH).
	MaxLength = 8970
	// StockServerMax is the longest text a stock server (3.0.9) keeps whole: its
	// buffer of 8970 bytes has to hold the header too. It stores the first 8954
	// bytes of a longer one, acknowledges it and closes the connection.
	StockServerMax = MaxLength - HeaderSize
	// HeaderSize is the size of a managed message's header.
	HeaderSize = 16
	// MaxFrame is the most bytes one frame takes: a buffer of that size always
	// holds a whole frame or enough of it for an error.
	MaxFrame = HeaderSize + MaxLength
)

// What Decoder.Decode returns for bytes that can't be the beginning of a frame. There is
// no way to find the next frame after any of them: the connection must be closed.
var (
	// ErrVersion is returned when a header's version isn't 0.
	ErrVersion = errors.New("remote: unknown header version")
	// ErrLength is returned when a header's length is over MaxLength.
	ErrLength = errors.New("remote: message too long")
	// ErrLineTooLong is returned when an ascii line is over MaxLength.
	ErrLineTooLong = errors.New("remote: line too long")
)

// magic begins every managed message. A line of text does not begin with all four bytes, but
// may begin with the first.
var magic = [4]byte{0xfe, 0x00, 0x00, 0xff}

// Frame is one message or one line.
type Frame struct {
	Type    Type   // Message for an ascii line
	Seq     uint32 // 0 for an ascii line
	Payload []byte // aliases the decoded buffer; without the one newline it ended with, if any
	ASCII   bool   // an ascii line: it has no sequence id and gets no reply
}

// Decoder cuts a stream into frames. It remembers how much of an incomplete line it has
// searched already, so that a stream costs the same however it was cut into reads. The zero
// value is ready, for one stream and one goroutine.
type Decoder struct {
	scanned int // bytes at the front of the next buf known to hold no newline
}

// Decode takes one frame from the front of buf and says how many bytes it took.
// n == 0 with no error means that buf holds no whole frame yet: the next call's buf
// must begin with the same bytes, with more after them (it may have moved). After
// n > 0 the next call's buf must begin at buf[n:]. An error is final: it comes back,
// with n == 0, however many bytes are added.
func (d *Decoder) Decode(buf []byte) (f Frame, n int, err error) {
	if d.scanned == 0 {
		switch k := prefix(buf); {
		case k == len(magic):
			return decodeManaged(buf)
		case k == len(buf):
			return Frame{}, 0, nil // nothing yet, or it may become the magic
		}
	}
	return d.decodeLine(buf)
}

// prefix returns how many bytes of the magic buf begins with.
func prefix(buf []byte) int {
	for i, c := range magic {
		if i == len(buf) || buf[i] != c {
			return i
		}
	}
	return len(magic)
}

// decodeManaged decodes a managed message, of which buf has at least the magic. n is 0 while
// the message is not all there; ErrVersion and ErrLength come as soon as the bytes that decide
// are.
func decodeManaged(buf []byte) (Frame, int, error) {
	// A wrong version is an error before the rest of the header is there: the rest
	// may look different in another version.
	if len(buf) > 4 && buf[4] != 0 {
		return Frame{}, 0, fmt.Errorf("%w %d", ErrVersion, buf[4])
	}
	if len(buf) < 12 {
		return Frame{}, 0, nil
	}
	length := int(binary.LittleEndian.Uint16(buf[10:]))
	if length > MaxLength {
		return Frame{}, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrLength, length, MaxLength)
	}
	if len(buf) < HeaderSize+length {
		return Frame{}, 0, nil
	}
	n := HeaderSize + length
	end := n
	if length > 0 && buf[n-1] == '\n' {
		// The stock sender sends the line as it read it, newline included, and the
		// stock server takes one off again: it is no part of the record.
		end--
	}
	return Frame{
		Type:    Type(binary.LittleEndian.Uint32(buf[6:])),
		Seq:     binary.LittleEndian.Uint32(buf[12:]),
		Payload: buf[HeaderSize:end:end],
	}, n, nil
}

// decodeLine decodes an ascii line. It searches only the bytes behind d.scanned for the
// newline.
func (d *Decoder) decodeLine(buf []byte) (Frame, int, error) {
	end := min(len(buf), MaxLength+1)
	start := min(d.scanned, end)
	i := bytes.IndexByte(buf[start:end], '\n')
	if i < 0 {
		d.scanned = end
		if end > MaxLength {
			return Frame{}, 0, fmt.Errorf("%w: no newline in %d bytes", ErrLineTooLong, end)
		}
		return Frame{}, 0, nil
	}
	d.scanned = 0
	i += start
	return Frame{Payload: buf[:i:i], ASCII: true}, i + 1, nil
}

// AppendHeader appends the header of a message whose text has length bytes
// (at most MaxLength), for a caller that appends the text itself.
func AppendHeader(dst []byte, t Type, seq uint32, length int) []byte {
	dst = append(dst, magic[:]...)
	dst = append(dst, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(length))
	return binary.LittleEndian.AppendUint32(dst, seq)
}

// Append appends a managed message to dst. A payload over MaxLength is cut to it:
// a caller that must not lose bytes checks first.
func Append(dst []byte, t Type, seq uint32, payload []byte) []byte {
	if len(payload) > MaxLength {
		payload = payload[:MaxLength]
	}
	return append(AppendHeader(dst, t, seq, len(payload)), payload...)
}

// AppendLine appends an ascii line to dst: line, which must hold no newline, cut
// to MaxLength, and a newline.
func AppendLine(dst, line []byte) []byte {
	if len(line) > MaxLength {
		line = line[:MaxLength]
	}
	return append(append(dst, line...), '\n')
}
