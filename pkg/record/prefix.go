package record

import "bytes"

// maxPrefix bounds the bytes that may stand before a record, and Record.Start with them.
const maxPrefix = 4096

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	tagEnd        = []byte(": ")
	kernelTag     = []byte("audit: ")
	kernelName    = []byte("kernel")
	dmesgLevel    = []byte("kern  :") // of dmesg -x
	quotedTab     = []byte("#011")    // as rsyslog writes a tab
)

// prefix finds what a log other than the daemon's puts before a record: blanks, a byte
// order mark, the time, host and tag of syslog (RFC 3164, RFC 5424, rsyslog's and
// journalctl's forms), or the time of dmesg. It returns where the record begins, and the
// host that syslog names, nil without one. It returns 0 if line begins with no such
// prefix, or if no record follows it at once.
//
// A record counts only right behind the first tag of a line. Further on a line is what
// some program had to say, and a program can say anything: of
// "sshd[7]: no user x: type=USER_LOGIN msg=audit(…" nothing is a record.
func prefix(line []byte) (start int, host []byte) {
	line = line[:min(len(line), maxPrefix)]
	pos := skipBlanks(line, 0)
	if hasPrefix(line[pos:], byteOrderMark) {
		pos = skipBlanks(line, pos+len(byteOrderMark))
	}
	if beginsRecord(line[pos:]) {
		return pos, nil
	}
	if end, ok := priority(line, pos); ok {
		if start, host, ok := structured(line, end); ok {
			return start, host
		}
		pos = end
	}
	if start := kernelRecord(line, pos); start > 0 { // dmesg
		return start, nil
	}
	end := bytes.Index(line[pos:], tagEnd)
	if end < 0 {
		return 0, nil
	}
	end += pos
	start = skipBlanks(line, end+len(tagEnd))
	if tag := line[pos:end]; bytes.Equal(tag[bytes.LastIndexByte(tag, ' ')+1:], kernelName) || bytes.HasPrefix(tag, dmesgLevel) {
		start = kernelRecord(line, start)
	}
	if start == 0 || !beginsRecord(line[start:]) {
		return 0, nil
	}
	return start, taggedHost(line[pos:end])
}

// beginsRecord reports whether b begins as a record does.
func beginsRecord(b []byte) bool { return hasPrefix(b, nodePrefix) || hasPrefix(b, typePrefix) }

// kernelRecord returns where the record at pos begins, behind what the kernel's own log
// may have before it: "[   12.345678] ", then "audit: ". It returns 0 if there is none.
func kernelRecord(line []byte, pos int) int {
	pos = skipBlanks(line, pos)
	for range 2 { // a time, and in some kernels who printed it: [   12.3][  T30]
		if pos < len(line) && line[pos] == '[' {
			end := bytes.IndexByte(line[pos:min(len(line), pos+64)], ']')
			if end < 0 {
				return 0
			}
			pos = skipBlanks(line, pos+end+1)
		}
	}
	if hasPrefix(line[pos:], kernelTag) {
		pos = skipBlanks(line, pos+len(kernelTag))
	}
	if !beginsRecord(line[pos:]) {
		return 0
	}
	return pos
}

// priority reads "<13>" at pos.
func priority(line []byte, pos int) (end int, ok bool) {
	if pos >= len(line) || line[pos] != '<' {
		return pos, false
	}
	_, end, ok = decimal(line, pos+1)
	if !ok || end >= len(line) || line[end] != '>' {
		return pos, false
	}
	return end + 1, true
}

// structured reads what RFC 5424 has behind the priority:
// "1 TIME HOST PROGRAM PROCESS MESSAGE-ID DATA TEXT", DATA being "-" or in brackets.
func structured(line []byte, pos int) (start int, host []byte, ok bool) {
	_, end, ok := decimal(line, pos)
	if !ok || end >= len(line) || line[end] != ' ' || end > pos+3 {
		return 0, nil, false
	}
	pos = end + 1
	for word := range 5 {
		end = wordEnd(line, pos)
		if end == pos || end >= len(line) {
			return 0, nil, false
		}
		if word == 1 && end-pos > 1 { // "-" is none
			host = line[pos:end:end]
		}
		pos = end + 1
	}
	if pos = dataEnd(line, pos); pos == 0 {
		return 0, nil, false
	}
	pos = skipBlanks(line, pos)
	if hasPrefix(line[pos:], byteOrderMark) {
		pos += len(byteOrderMark)
	}
	start = kernelRecord(line, pos)
	return start, host, start > 0
}

// dataEnd returns where RFC 5424's structured data at pos ends, which is "-" or in
// brackets; 0 if there is neither. A bracket counts outside of quotes only.
func dataEnd(line []byte, pos int) int {
	if pos < len(line) && line[pos] == '-' {
		return pos + 1
	}
	end := 0
	for pos < len(line) && line[pos] == '[' {
		quoted := false
		for pos++; pos < len(line) && (quoted || line[pos] != ']'); pos++ {
			switch line[pos] {
			case '\\':
				pos++
			case '"':
				quoted = !quoted
			}
		}
		if pos >= len(line) {
			return 0
		}
		pos++
		end = pos
	}
	return end
}

// taggedHost returns the host of "TIME HOST TAG", the text before a tag's colon; nil
// where there is none, as in dmesg.
func taggedHost(text []byte) []byte {
	tag := bytes.LastIndexByte(text, ' ')
	if tag < 0 {
		return nil
	}
	text = bytes.TrimRight(text[:tag], " ")
	at := bytes.LastIndexByte(text, ' ')
	if at < 0 {
		return nil
	}
	host := text[at+1:]
	when := bytes.TrimRight(text[:at], " ")
	when = when[bytes.LastIndexByte(when, ' ')+1:]
	colon := bytes.IndexByte(when, ':')
	monotonic := bytes.HasSuffix(when, []byte("]")) // journalctl -o short-monotonic
	if host[0] == '[' || !monotonic && (colon < 1 || when[colon-1]-'0' > 9) {
		return nil
	}
	return host[:len(host):len(host)]
}

// skipBlanks passes over spaces and tabs, also as rsyslog writes a tab.
func skipBlanks(b []byte, pos int) int {
	for pos < len(b) {
		switch {
		case b[pos] == ' ' || b[pos] == '\t':
			pos++
		case b[pos] == '#' && hasPrefix(b[pos:], quotedTab):
			pos += len(quotedTab)
		default:
			return pos
		}
	}
	return pos
}
