package record

import (
	"bytes"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Separator is the byte between the text of the kernel or a program and the upper-case
// interpretations that the daemon appended (log_format = ENRICHED).
const Separator = 0x1d

// MaxLength is the length of the longest record that a daemon writes or sends, in bytes
// (MAX_AUDIT_MESSAGE_LENGTH of libaudit). Parse accepts longer lines.
const MaxLength = 8970

var (
	// ErrNoHeader is returned when the line has no "msg=audit(".
	ErrNoHeader = errors.New("record: no msg=audit( in line")
	// ErrNoType is returned when the line has no "type=" before its header.
	ErrNoType = errors.New("record: no type= before msg=audit(")
	// ErrBadTime is returned when what follows "msg=audit(" is no
	// SECONDS.MILLIS, or is out of range.
	ErrBadTime = errors.New("record: malformed time in msg=audit(")
	// ErrBadSerial is returned when the time is not followed by ":SERIAL):", or
	// the serial is out of range.
	ErrBadSerial = errors.New("record: malformed serial in msg=audit(")
)

// A Record is one parsed line. Every slice points into Raw, except TypeName where the
// line has a number, and Raw into the line given to Parse: all are valid as long as
// nobody changes that line's bytes.
type Record struct {
	Raw      []byte // the whole line, without its newline
	Node     []byte // of node=, or the host that syslog names before the record; else nil
	TypeName []byte // SYSCALL; of 1300 and UNKNOWN[1334] the name, if the number has one
	Body     []byte // all from behind "): " to the 0x1d
	Enriched []byte // all behind the 0x1d, nil without one
	Err      error  // what Parse returned
	Sec      int64
	Serial   uint64
	Milli    int32
	Type     uint16 // 0 when no number is known for TypeName
	Start    uint16 // where the record begins in Raw, behind what syslog put before it
	// Received is the time at which a collector received the record, in milliseconds
	// since 1970; 0 if it is not known. The line does not contain it: Parse sets it to 0.
	Received int64
}

var (
	nodePrefix = []byte("node=")
	typePrefix = []byte("type=")
	timePrefix = []byte("msg=audit(")
	kernelTime = []byte("audit(") // as the kernel prints it where no daemon runs
)

// maxSec keeps Ms far from overflow; it is the year 33658.
const maxSec = 1e12

// Parse parses line into r. A newline at the end of line is not part of the record. What
// syslog or dmesg have put before the record stays in Raw, as does a carriage return at
// its end. On an error, one of this package's and also stored in r.Err, Parse still sets
// all that it could find: type, node and time may help a search.
//
// r keeps slices of line, so it is valid as long as nobody changes line's bytes.
func (r *Record) Parse(line []byte) error {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[: n-1 : n-1]
	}
	*r = Record{Raw: line}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	r.Err = r.parse(line)
	return r.Err
}

// TypeOf returns the Type that Parse finds in line, for less.
func TypeOf(line []byte) uint16 {
	var r Record
	if r.parseNames(line, 0) == 0 {
		_ = r.Parse(line) // what it says is in Type
	}
	return r.Type
}

func (r *Record) parse(line []byte) error {
	pos := r.parseNames(line, 0)
	if pos == 0 {
		start, host := prefix(line)
		r.Start = uint16(start)
		pos = r.parseNames(line, start)
		if r.Node == nil {
			r.Node = host
		}
	}
	switch rest := line[pos:]; {
	case hasPrefix(rest, timePrefix):
		pos += len(timePrefix)
	case r.TypeName != nil && hasPrefix(rest, kernelTime):
		pos += len(kernelTime)
	default:
		i := bytes.Index(rest, timePrefix)
		if i < 0 || r.Start > 0 || pos == 0 && wordEnd(rest, 0) < i-1 {
			// Behind several words, or in what syslog has, it is a comment's or a message's.
			r.setBody(rest)
			return ErrNoHeader
		}
		pos += i + len(timePrefix)
	}
	return r.parseStamp(line, pos)
}

// parseNames reads "node=NAME " and "type=TYPE " at pos, as far as they are there, and
// returns where they end.
func (r *Record) parseNames(line []byte, pos int) int {
	if hasPrefix(line[pos:], nodePrefix) {
		pos += len(nodePrefix)
		end := wordEnd(line, pos)
		r.Node = line[pos:end:end]
		pos = skipSpace(line, end)
	}
	if hasPrefix(line[pos:], typePrefix) {
		pos += len(typePrefix)
		end := wordEnd(line, pos)
		r.TypeName = line[pos:end:end]
		r.Type, _ = tables.TypeByName(r.TypeName)
		if byNumber(r.TypeName) {
			if name := tables.TypeNameBytes(r.Type); name != nil {
				r.TypeName = name
			}
		}
		pos = skipSpace(line, end)
	}
	return pos
}

// byNumber reports whether a type is written as its number: 1300 or UNKNOWN[1334].
func byNumber(name []byte) bool {
	return len(name) > 0 && (name[0]-'0' <= 9 || name[len(name)-1] == ']')
}

// parseStamp reads "SECONDS.MILLIS:SERIAL): " at pos and what follows it. Old daemons
// wrote no colon at the end.
func (r *Record) parseStamp(line []byte, pos int) error {
	start := pos
	sec, pos, ok := decimal(line, pos)
	if !ok || sec > maxSec {
		r.setBody(line[start:])
		return ErrBadTime
	}
	r.Sec = int64(sec)
	if pos >= len(line) || line[pos] != '.' {
		r.setBody(line[start:])
		return ErrBadTime
	}
	ms, pos, ok := decimal(line, pos+1)
	if !ok || ms > 999 {
		r.setBody(line[start:])
		return ErrBadTime
	}
	r.Milli = int32(ms)
	if pos >= len(line) || line[pos] != ':' {
		r.setBody(line[pos:])
		return ErrBadSerial
	}
	serial, pos, ok := decimal(line, pos+1)
	if !ok || pos >= len(line) || line[pos] != ')' || !endsStamp(line[pos+1:]) {
		r.setBody(line[pos:])
		return ErrBadSerial
	}
	r.Serial = serial
	pos++
	if pos < len(line) && line[pos] == ':' {
		pos++
	}
	if pos < len(line) && line[pos] == ' ' {
		pos++
	}
	r.setBody(line[pos:])
	if r.TypeName == nil {
		return ErrNoType
	}
	return nil
}

// endsStamp reports whether rest may follow the bracket of a stamp.
func endsStamp(rest []byte) bool { return len(rest) > 0 && (rest[0] == ':' || rest[0] == ' ') }

// setBody splits rest at the first 0x1d, as the stock tools do.
func (r *Record) setBody(rest []byte) {
	if i := bytes.IndexByte(rest, Separator); i >= 0 {
		r.Body = rest[:i:i]
		r.Enriched = rest[i+1 : len(rest) : len(rest)]
		return
	}
	r.Body = rest[:len(rest):len(rest)]
}

// IsRecord reports whether the line is a record, if a damaged one: it has a time.
// Separators, comments and other programs' messages are none.
func (r *Record) IsRecord() bool { return r.Err == nil || r.Ms() != 0 }

// Ms returns the record's time in milliseconds since 1970.
func (r *Record) Ms() int64 { return r.Sec*1000 + int64(r.Milli) }

func hasPrefix(b, prefix []byte) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == string(prefix)
}

// wordEnd returns where the word at pos ends: at a space or the end of b.
func wordEnd(b []byte, pos int) int {
	for pos < len(b) && b[pos] != ' ' {
		pos++
	}
	return pos
}

func skipSpace(b []byte, pos int) int {
	for pos < len(b) && b[pos] == ' ' {
		pos++
	}
	return pos
}

// decimal reads a number at pos and returns it and where it ends; false when
// there is none or it overflows.
func decimal(b []byte, pos int) (uint64, int, bool) {
	start, n := pos, uint64(0)
	for pos < len(b) && b[pos]-'0' <= 9 {
		d := uint64(b[pos] - '0')
		if n > (1<<64-1)/10 || n*10 > 1<<64-1-d {
			return 0, pos, false
		}
		n = n*10 + d
		pos++
	}
	return n, pos, pos > start
}
