package record

import "bytes"

// A Field is one name=value of a record. Its slices point into the record.
type Field struct {
	Name  []byte
	Value []byte // without its quotes
	Quote byte   // '"', '\'' or 0 when bare
}

// Fields iterates over the fields of one part of a record. It skips words without '=',
// which are text, such as "avc:  denied  { read } for" in an AVC record.
type Fields struct {
	buf  []byte
	pos  int
	mode mode
}

type mode uint8

const (
	own      mode = iota // msg='…' is one field
	nested               // inside of msg='…': old PAM wrote "(hostname=?, addr=?, res=failed)"
	enriched             // SADDR={ … } is one field, and so is GID="domain users"
)

// Fields returns the record's own fields, written by the kernel. They include neither the
// fields nested in msg='…' nor the enriched ones. The nested part is returned as one
// field called msg, whose Quote is a single quote, or 0 if the line has none.
func (r *Record) Fields() Fields { return Fields{buf: r.Body} }

// MsgFields returns the fields nested in msg='…', or none if there is no such part. A
// program wrote them: they are that program's claims, not facts from the kernel.
func (r *Record) MsgFields() Fields { return Fields{buf: r.Msg(), mode: nested} }

// EnrichedFields returns the fields of the enriched tail, after the byte 0x1d.
func (r *Record) EnrichedFields() Fields { return Fields{buf: r.Enriched, mode: enriched} }

// Msg returns the text nested in msg='…', or nil if there is none.
func (r *Record) Msg() []byte {
	f := r.Fields()
	for {
		field, ok := f.Next()
		if !ok {
			return nil
		}
		if isMsg(field.Name) && field.Quote != '"' {
			return field.Value
		}
	}
}

// Get returns the first of the record's own fields that is called name; ok is false if
// there is none.
func (r *Record) Get(name string) (Field, bool) {
	f := r.Fields()
	for {
		field, ok := f.Next()
		if !ok || string(field.Name) == name {
			return field, ok
		}
	}
}

func isMsg(name []byte) bool { return string(name) == "msg" }

// Next returns the next field, or false at the end. The field's slices point into the
// record.
func (f *Fields) Next() (Field, bool) {
	if f.mode == enriched {
		if field, end, ok := plainMeaning(f.buf, f.pos); ok {
			f.pos = end
			return field, true
		}
	}
	// Plain loops over bytes: names and values have a handful of them, and looking
	// at eight at a time was a quarter slower on real records.
	s := f.buf[f.pos:]
	start := 0
	if len(s) > 0 && s[0] == ' ' {
		start = 1
	}
	for i := start; i < len(s); i++ {
		c := s[i]
		if c == ' ' {
			start = i + 1
			continue
		}
		if c != '=' {
			continue
		}
		if i == start { // "=", "==x": text
			for i+1 < len(s) && s[i+1] != ' ' {
				i++
			}
			continue
		}
		rest := s[i+1:]
		if f.mode != own || len(rest) == 0 || special[rest[0]] || isMsg(s[start:i]) {
			return f.value(f.pos+start, f.pos+i)
		}
		end := 0
		for end < len(rest) && rest[end] != ' ' {
			end++
		}
		f.pos += i + 1 + end
		return Field{Name: s[start:i:i], Value: rest[:end:end]}, true
	}
	f.pos = len(f.buf)
	return Field{}, false
}

// special are the bytes that, first in an own field's value, make it more than a
// word.
var special = [256]bool{'"': true, '\'': true}

// value reads the value behind the '=' at eq and steps over it.
func (f *Fields) value(start, eq int) (Field, bool) {
	b := f.buf
	field := Field{Name: b[start:eq:eq]}
	if f.mode == nested && field.Name[0] == '(' && len(field.Name) > 1 {
		field.Name = field.Name[1:]
	}
	pos := eq + 1
	if f.mode == enriched {
		return f.meaning(field, pos), true
	}
	if pos < len(b) {
		switch b[pos] {
		case '"':
			if i := bytes.IndexByte(b[pos+1:], '"'); i >= 0 {
				end := pos + 1 + i
				field.Value, field.Quote = b[pos+1:end:end], '"'
				f.pos = end + 1
				return field, true
			}
		case '\'':
			if end := f.closing(pos, isMsg(field.Name)); end > 0 {
				field.Value, field.Quote = b[pos+1:end:end], '\''
				f.pos = end + 1
				return field, true
			}
		}
		// Without quotes around it the nested part cannot end before the body
		// does: else what a program wrote would pass for the kernel's own.
		if f.mode == own && isMsg(field.Name) && b[pos] != '"' {
			if b[pos] == '\'' {
				field.Quote = '\''
				pos++
			}
			field.Value = b[pos:len(b):len(b)]
			f.pos = len(b)
			return field, true
		}
	}
	end := wordEnd(b, pos)
	f.pos = end
	if f.mode == nested {
		end = trimNested(b, pos, end)
	}
	field.Value = b[pos:end:end]
	return field, true
}

// meaning reads a value of the enriched tail. A name that a directory has may hold
// spaces, quotes and a '=', and daemons have written it with and without quotes. So a
// value goes on to the next word that is a name as daemons write them (OLD-AUID=), and a
// quoted one to a quote before such a word.
func (f *Fields) meaning(field Field, pos int) Field {
	b := f.buf
	if pos < len(b) {
		switch quote := b[pos]; quote {
		case '"', '\'':
			i := nextByte(b, pos+1, quote)
			for i < len(b) && !opensMeaning(b, i) && !endsMeaning(b, i+1) {
				i = nextByte(b, i+1, quote)
			}
			if i < len(b) && !opensMeaning(b, i) {
				field.Value, field.Quote = b[pos+1:i:i], quote
				f.pos = i + 1
				return field
			}
		case '{':
			if i := bytes.IndexByte(b[pos:], '}'); i >= 0 {
				end := pos + i + 1
				field.Value = b[pos:end:end]
				f.pos = end
				return field
			}
		}
	}
	end := pos
	for !endsMeaning(b, end) {
		end = nextByte(b, end+1, ' ')
	}
	field.Value = b[pos:end:end]
	f.pos = end
	return field
}

// nextByte returns where c stands next in b, from pos on, or the length of b.
func nextByte(b []byte, pos int, c byte) int {
	if i := bytes.IndexByte(b[pos:], c); i >= 0 {
		return pos + i
	}
	return len(b)
}

// endsMeaning says whether a value of the enriched tail may end before b[i]: nothing
// follows, or a space and a name.
func endsMeaning(b []byte, i int) bool {
	if i == len(b) {
		return true
	}
	if b[i] != ' ' {
		return false
	}
	for i < len(b) && b[i] == ' ' {
		i++
	}
	if i == len(b) {
		return true
	}
	start := i
	for i < len(b) && inMeaningName(b[i], i == start) {
		i++
	}
	return i > start && i < len(b) && b[i] == '='
}

// opensMeaning says whether the quote at b[i] is the first byte of another value.
func opensMeaning(b []byte, i int) bool {
	if i--; b[i] != '=' {
		return false
	}
	end := i
	for i > 0 && inMeaningName(b[i-1], false) {
		i--
	}
	return i < end && i > 0 && b[i-1] == ' '
}

func inMeaningName(c byte, first bool) bool {
	return c-'A' <= 'Z'-'A' || !first && (c-'0' <= 9 || c == '_' || c == '-')
}

// closing returns where the quote that opens at pos ends, -1 when it does not.
// That of the record's msg='…' is the last of the body, since what a program
// wrote may contain one.
func (f *Fields) closing(pos int, msg bool) int {
	b := f.buf
	if msg && f.mode == own {
		if i := bytes.LastIndexByte(b, '\''); i > pos {
			return i
		}
		return -1
	}
	for i := pos + 1; i < len(b); i++ {
		if b[i] == '\'' && (i+1 == len(b) || b[i+1] == ' ' || b[i+1] == ',' || b[i+1] == ')') {
			return i
		}
	}
	return -1
}

// trimNested takes off the punctuation of old PAM's "(hostname=?, res=failed)".
func trimNested(b []byte, pos, end int) int {
	if end > pos && b[end-1] == ',' {
		end--
	}
	if end > pos && b[end-1] == ')' && bytes.IndexByte(b[pos:end], '(') < 0 {
		end--
	}
	return end
}

// AppendDecoded appends to dst the decoded value of a field that contains an untrusted
// string (a comm, a name, a key). A quoted value is appended as it is. A bare value that
// is an even number of upper-case hex digits is appended as the bytes that they encode, up to
// a stray quote or bracket; any other is appended as it is. Only the field's name tells
// whether the field contains such a string: a bare 1000 may be a number.
func (f Field) AppendDecoded(dst []byte) []byte {
	n := 0
	if f.Quote == 0 {
		n = hexLen(f.Value)
	}
	if n == 0 {
		return append(dst, f.Value...)
	}
	for i := 0; i < n; i += 2 {
		dst = append(dst, hexDigit(f.Value[i])<<4|hexDigit(f.Value[i+1]))
	}
	return dst
}

// IsStray says whether a bare value is hex with a stray quote or bracket behind it: one that
// AppendDecoded decodes nevertheless.
func IsStray(v []byte) bool {
	n := hexLen(v)
	return n > 0 && n < len(v)
}

// hexLen returns how many upper-case hex digits v begins with, 0 where it is no string in
// hex: their number is even, and they end with v or before a closing character, which the
// kernel writes in hex, too. Where one stands, something else has put it there.
func hexLen(v []byte) int {
	n := len(v)
	for i, c := range v {
		if hexDigit(c) > 15 {
			if n = i; bytes.IndexByte(closing, c) < 0 {
				return 0
			}
			break
		}
	}
	if n%2 != 0 {
		return 0
	}
	return n
}

var closing = []byte("\"'),}")

// hexDigit returns the value of an upper-case hex digit, 255 for anything else.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// ID parses the id of a user, a group or a session: a decimal number of 32 bits, with a
// sign where the kernel writes -1, and behind it only punctuation (old PAM wrote "uid=0)").
// ok is false for whatever else stands there: "?", "n/a", a name, nothing at all. Such an
// id is not known, and never that of root.
func ID(v []byte) (id uint32, ok bool) {
	neg := len(v) > 1 && v[0] == '-'
	if neg {
		v = v[1:]
	}
	n, i := int64(0), 0
	for ; i < len(v) && v[i]-'0' <= 9; i++ {
		if n = n*10 + int64(v[i]-'0'); n > 1<<32-1 {
			return 0, false
		}
	}
	if i == 0 || neg && n > 1<<31 {
		return 0, false
	}
	for _, c := range v[i:] {
		switch c {
		case ',', ':', ')', '\'':
		default:
			return 0, false
		}
	}
	if neg {
		n = -n
	}
	return uint32(n), true
}

// Decimal parses the decimal digits at the start of v, with a sign if there is one. ok is
// false if there is no digit, or if the number is too large. The kernel writes ids as
// unsigned numbers, except for oauid=-1.
func Decimal(v []byte) (n int64, ok bool) {
	neg := len(v) > 1 && v[0] == '-'
	if neg {
		v = v[1:]
	}
	i := 0
	for ; i < len(v) && v[i]-'0' <= 9; i++ {
		if n > 1<<62/10 {
			return 0, false
		}
		n = n*10 + int64(v[i]-'0')
	}
	if neg {
		n = -n
	}
	return n, i > 0
}
