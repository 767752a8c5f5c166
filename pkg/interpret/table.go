package interpret

import (
	"sort"
	"strconv"
)

// A table maps values to names, sorted by value.
type table []struct {
	value uint64
	name  string
}

func (t table) lookup(v uint64) (string, bool) {
	i := sort.Search(len(t), func(i int) bool { return t[i].value >= v })
	if i < len(t) && t[i].value == v {
		return t[i].name, true
	}
	return "", false
}

// appendFlags appends the names of v's bits with | between them. sep says
// whether something stands before them.
func (t table) appendFlags(dst []byte, v uint64, sep bool) []byte {
	for i := range t {
		if t[i].value&v == 0 {
			continue
		}
		if sep {
			dst = append(dst, '|')
		}
		dst = append(dst, t[i].name...)
		sep = true
	}
	return dst
}

// appendName appends v's name or "unknown-WHAT(SHOWN)".
func (t table) appendName(dst []byte, v uint64, what, prefix string, shown []byte) []byte {
	if name, ok := t.lookup(v); ok {
		return append(dst, name...)
	}
	return appendUnknown(dst, what, prefix, shown)
}

func appendUnknown(dst []byte, what, prefix string, shown []byte) []byte {
	dst = append(append(append(dst, "unknown-"...), what...), '(')
	return append(append(append(dst, prefix...), shown...), ')')
}

func appendConversion(dst, val []byte) []byte {
	return append(append(append(dst, "conversion error("...), val...), ')')
}

// number reads what C's strtoul does: white space, a sign, then digits of base,
// up to the first other byte; nothing is 0. A minus negates modulo 2^64. False
// when it is out of range.
func number(s []byte, base uint64) (uint64, bool) {
	i := 0
	for i < len(s) && (s[i] == ' ' || s[i]-'\t' <= '\r'-'\t') {
		i++
	}
	neg := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		neg = s[i] == '-'
		i++
	}
	if base == 16 && i+2 < len(s) && s[i] == '0' && s[i+1]|0x20 == 'x' && nibble(s[i+2]) < 16 {
		i += 2
	}
	v := uint64(0)
	for ; i < len(s); i++ {
		d := uint64(nibble(s[i]))
		if d >= base {
			break
		}
		if v > (1<<64-1-d)/base {
			return 0, false
		}
		v = v*base + d
	}
	if neg {
		v = -v
	}
	return v, true
}

// signed is number for C's strtoll.
func signed(s []byte) (int64, bool) {
	v, ok := number(s, 10)
	if !ok {
		return 0, false
	}
	neg := false
	for _, c := range s {
		if c == '-' {
			neg = true
		}
		if c-'0' <= 9 || c == '-' {
			break
		}
	}
	if neg {
		return int64(v), v >= 1<<63 || v == 0
	}
	return int64(v), v < 1<<63
}

// cNumber reads a number in C's own form: octal behind a 0, hex behind 0x, else decimal.
func cNumber(v []byte) (uint64, bool) {
	switch {
	case len(v) > 1 && v[0] == '0' && v[1]|0x20 == 'x':
		return number(v, 16)
	case len(v) > 1 && v[0] == '0':
		return number(v, 8)
	}
	return number(v, 10)
}

// nibble returns the value of a hex digit, 255 for anything else.
func nibble(c byte) byte {
	switch {
	case c-'0' <= 9:
		return c - '0'
	case c-'A' <= 5:
		return c - 'A' + 10
	case c-'a' <= 5:
		return c - 'a' + 10
	}
	return 255
}

func appendOctal(dst []byte, v uint64, width int) []byte {
	var b [22]byte
	s := strconv.AppendUint(b[:0], v, 8)
	for range width - len(s) {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

func (t table) nameOr(v uint64, other string) string {
	if name, ok := t.lookup(v); ok {
		return name
	}
	return other
}

// Lists that are too short, or too far from the kernel's names, to generate.
var (
	seccompActions = table{
		{0, "kill-thread"}, {0x30000, "trap"}, {0x50000, "errno"}, {0x7fc00000, "user-notify"}, {0x7ff00000, "trace"},
		{0x7ffc0000, "log"}, {0x7fff0000, "allow"}, {0x80000000, "kill-process"},
	}
	ruleLists      = table{{0, "user"}, {1, "task"}, {4, "exit"}, {5, "exclude"}, {6, "filesystem"}, {7, "io_uring"}}
	netfilterHooks = table{
		{0, "PREROUTING"}, {1, "INPUT"}, {2, "FORWARD"}, {3, "OUTPUT"}, {4, "POSTROUTING"}, {5, "BROUTING"},
	}
	netfilterActions = table{{0, "ACCEPT"}, {1, "DROP"}, {2, "REJECT"}}
	netfilterFamily  = table{
		{0, "unspecified"}, {1, "inet"}, {2, "ipv4"}, {3, "arp"}, {5, "netdev"}, {7, "bridge"}, {10, "ipv6"}, {12, "decnet"},
	}
	pathFlags = table{ // LOOKUP_* of include/linux/namei.h, as of 2.6
		{1, "follow"}, {2, "directory"}, {4, "continue"}, {0x10, "parent"}, {0x20, "noalt"}, {0x40, "atomic"},
		{0x100, "open"}, {0x200, "create"}, {0x400, "access"},
	}
	etherTypes    = table{{0x800, "IP"}, {0x806, "ARP"}}
	netlinkGroups = table{{1, "audit-netlink-multicast"}}
	fanResponses  = table{{1, "allow"}, {2, "deny"}}
)

var fieldTables = map[Kind]struct {
	names table
	what  string
}{
	Capability: {capabilities, "capability"}, Signal: {signals, "signal"}, List: {ruleLists, "list"},
	NFProto: {netfilterFamily, "netfilter-protocol"}, ICMPType: {icmpTypes, "icmp-type"},
	NFHook: {netfilterHooks, "hook"}, NFAction: {netfilterActions, "action"},
}
