package output

import "unicode/utf8"

// jsonNumbers are the fields whose values are decimal numbers, whatever the
// record's type. The list is part of the format (JSON.md): only append.
var jsonNumbers = newNameSet(
	"pid", "ppid", "opid", "auid", "uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid", "ouid", "ogid", "oauid", "oses",
	"obj_uid", "obj_gid", "iuid", "igid", "old-auid", "ses", "old-ses", "items", "item", "argc", "exit", "syscall", "inode", "ino",
	"list", "sig", "entries", "family", "prom", "old_prom", "audit_enabled", "audit_pid", "audit_backlog_limit",
	"audit_backlog_wait_time", "audit_failure", "audit_rate_limit", "enforcing", "old_enforcing", "prog-id", "major", "minor", "fd",
	"fd0", "fd1", "sec", "nsec", "capability", "version", "lport", "rport", "port", "nl-mcgrp", "nlnk-pid", "permissive", "compat",
	"qbytes", "mq_flags", "mq_maxmsg", "mq_msgsize", "mq_curmsgs", "feature_version", "ver_major", "trust", "subj_trust", "obj_trust",
)

// nameSet is a set of field names. It is searched for every field, so it is a small open
// hash table, several times as fast as a map.
type nameSet struct {
	slots [512]string
}

func newNameSet(names ...string) *nameSet {
	s := &nameSet{}
	for _, name := range names {
		i := nameSlot([]byte(name))
		for s.slots[i] != "" {
			i = (i + 1) % len(s.slots)
		}
		s.slots[i] = name
	}
	return s
}

func nameSlot(name []byte) int {
	n := len(name)
	return (n*31 + int(name[0])*131 + int(name[n/2])*1031 + int(name[n-1])*7919) % 512
}

func (s *nameSet) has(name []byte) bool {
	if len(name) == 0 {
		return false
	}
	for i := nameSlot(name); s.slots[i] != ""; i = (i + 1) % len(s.slots) {
		if s.slots[i] == string(name) {
			return true
		}
	}
	return false
}

// IsJSONNumber reports whether v is a decimal integer as JSON writes it, and fits in 64
// bits. Of longer ones a reader loses digits: they are written as strings.
func IsJSONNumber(v []byte) bool {
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
		if len(v) == 1 && v[0] == '0' {
			return false
		}
	}
	if len(v) == 0 || len(v) > 18 || v[0] == '0' && len(v) > 1 {
		return false
	}
	for _, c := range v {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

const hexDigits = "0123456789abcdef"

// AppendJSONText appends text as a JSON string to dst. Each byte that is no UTF-8 becomes
// U+FFFD.
func AppendJSONText(dst, text []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(text[i:])
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
			dst = append(append(dst, text[from:i]...), "\ufffd"...)
			i++
			from = i
			continue
		}
		dst = append(dst, text[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, text[from:]...), '"')
}

func appendHexText(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}
