package interpret

import (
	"bytes"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// AppendEnriched appends to dst the tail that an audit daemon writes after r under
// log_format = ENRICHED: the byte 0x1d, then the name and the meaning of each user,
// group, architecture, system call and socket address of the record, in the order of the
// record. It appends nothing when the record has none of these. It ignores an enriched
// tail that r already has.
//
// It allocates nothing when dst has enough capacity.
func (in *Interpreter) AppendEnriched(dst []byte, r *record.Record) []byte {
	if in.refresh != nil {
		in.refresh()
	}
	c := in.callOf(r)
	c.known = r.Type == tables.Syscall
	separator := byte(record.Separator)
	for rest := r.Body; len(rest) > 0; {
		var word []byte
		word, rest = nextWord(rest)
		name, value, ok := nameValue(word)
		if !ok {
			continue
		}
		kind := KindOf(r.Type, name)
		switch kind {
		case UserID, GroupID, SyscallNr, Arch, SockAddr:
		default:
			continue
		}
		dst = append(dst, separator)
		separator = ' '
		dst = append(appendUpper(dst, name), '=')
		if kind == SyscallNr && !c.known {
			value = seccompCall(r.Body)
			c.known = true
		}
		dst = in.appendMeaning(dst, r, &c, kind, value)
	}
	return dst
}

// seccompSyscall is the index of syscall= among the fields of a SECCOMP record with a
// subject. Where the field stands at another index, the stock daemon does not find the
// number.
const seccompSyscall = 11

const msgQuote = "msg='"

// seccompCall returns the number of the system call as the stock daemon finds it
// in a record that is not SYSCALL; nil for none.
func seccompCall(body []byte) []byte {
	for nr := 0; len(body) > 0; {
		var word []byte
		word, body = nextWord(body)
		eq := bytes.IndexByte(word, '=')
		if eq < 0 || eq+1 == len(word) {
			continue
		}
		if nr++; nr == seccompSyscall {
			if string(bytes.TrimLeft(word[:eq], "(")) == "syscall" {
				return word[eq+1:]
			}
			break
		}
	}
	return nil
}

// nextWord cuts the first word off s, and the start of msg='…' off that.
func nextWord(s []byte) (word, rest []byte) {
	word = s
	if i := bytes.IndexByte(s, ' '); i >= 0 {
		word, rest = s[:i], s[i+1:]
	}
	if len(word) >= len(msgQuote) && string(word[:len(msgQuote)]) == msgQuote {
		word = word[len(msgQuote):]
	}
	return word, rest
}

// nameValue takes a word apart; false when it is no field that is ever enriched.
func nameValue(word []byte) (name, value []byte, ok bool) {
	eq := bytes.IndexByte(word, '=')
	if eq < 2 || eq+1 == len(word) {
		return nil, nil, false
	}
	switch word[eq-1] {
	case 'd', 'h', 'l', 'r': // …id, arch, syscall, saddr
	default:
		return nil, nil, false
	}
	name, value = word[:eq], word[eq+1:]
	for len(name) > 0 && name[0] == '(' {
		name = name[1:]
	}
	for _, punctuation := range [...]string{",:", "'", ")"} { // one of each, from the end
		if n := len(value); n > 0 && strings.IndexByte(punctuation, value[n-1]) >= 0 {
			value = value[:n-1]
		}
	}
	return name, value, true
}

func appendUpper(dst, name []byte) []byte {
	for _, c := range name {
		if c-'a' <= 'z'-'a' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// appendMeaning appends what the tail has for one value.
func (in *Interpreter) appendMeaning(dst []byte, r *record.Record, c *call, kind Kind, v []byte) []byte {
	switch kind {
	case SyscallNr:
		if len(v) > 0 {
			in.note(c, SyscallNr, v)
		}
		if c.nr < 0 {
			return append(dst, "unknown-syscall(-1)"...)
		}
		return in.appendSyscall(dst, r, c, nil)
	case SockAddr:
		from := len(dst)
		// A program chooses these bytes; a newline among them would start a record.
		return escapeFrom(appendSockAddr(dst, v), from, EscapeTTY, false)
	}
	in.note(c, kind, v)
	n, ok := number(v, bases[kind])
	if kind == Arch {
		if !ok {
			return append(appendConversion(dst, v), ' ')
		}
		return in.appendNumber(dst, kind, n, v)
	}
	dst = append(dst, '"')
	from := len(dst)
	if ok {
		dst = in.appendNumber(dst, kind, n, v)
	} else {
		dst = appendConversion(dst, v)
	}
	for _, ch := range dst[from:] {
		if ch <= ' ' || ch > '~' || ch == '"' {
			return encode(dst, from)
		}
	}
	return append(dst, '"')
}

// encode makes hex of what was appended since from and takes off the quote
// before it, as the kernel does with strings that would need quoting.
func encode(dst []byte, from int) []byte {
	const digits = "0123456789ABCDEF"
	text := append([]byte(nil), dst[from:]...)
	dst = dst[:from-1]
	for _, c := range text {
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}
