package interpret

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// AppendEnriched appends the tail that an audit daemon puts behind r under
// log_format = ENRICHED: 0x1d, then the name and the meaning of each user, group,
// architecture, system call and socket address of the record, in its order. It
// appends nothing when there are none. A tail that r has already is not looked
// at.
//
// It allocates nothing when dst has the room.
func (in *Interpreter) AppendEnriched(dst []byte, r *record.Record) []byte {
	if in.refresh != nil {
		in.refresh()
	}
	c := in.callOf(r)
	separator := byte(record.Separator)
	for rest := r.Body; len(rest) > 0; {
		word := rest
		if i := bytes.IndexByte(rest, ' '); i >= 0 {
			word, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if len(word) > len(msgQuote) && string(word[:len(msgQuote)]) == msgQuote {
			word = word[len(msgQuote):]
		}
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
		dst = in.appendMeaning(dst, r, &c, kind, value)
	}
	return dst
}

const msgQuote = "msg='"

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
	return name, bytes.TrimRight(value, "',)"), true
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
		return in.appendTailSyscall(dst, r, c, v)
	case SockAddr:
		from := len(dst)
		// A program chooses these bytes; a newline among them would start a record.
		return escapeFrom(appendSockAddr(dst, v), from, EscapeTTY, false)
	}
	in.note(c, kind, v)
	n, ok := number(v, bases[kind])
	if kind == Arch {
		if !ok {
			return appendConversion(dst, v)
		}
		return in.appendNumber(dst, kind, n, v)
	}
	dst = append(dst, '"')
	if ok {
		dst = in.appendNumber(dst, kind, n, v)
	} else {
		dst = appendConversion(dst, v)
	}
	return append(dst, '"')
}

// appendTailSyscall names the call of a SYSCALL record; of others the stock
// daemon does not know the number.
func (in *Interpreter) appendTailSyscall(dst []byte, r *record.Record, c *call, v []byte) []byte {
	if r.Type != tables.Syscall {
		return append(strconv.AppendInt(append(dst, "unknown-syscall("...), -1, 10), ')')
	}
	in.note(c, SyscallNr, v)
	return in.appendSyscall(dst, r, c, v)
}
