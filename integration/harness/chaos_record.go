package harness

import (
	"bytes"
	"fmt"
	"strconv"
)

// chaosLog is the log of one host: record n, from 0 on, is always the same. Five in a row are
// two events, of which each is later than the one before.
type chaosLog struct {
	host string
	base int64 // ms since 1970 of the first event
	last int   // the number of records, a multiple of chaosParts
	buf  []byte
}

const chaosParts = 5

// lastKey is the key of the last event but one of a log.
const lastKey = "chaos-last"

// append appends record n and a newline.
func (l *chaosLog) append(dst []byte, n int) []byte {
	round, part := n/chaosParts, n%chaosParts
	serial := 2*round + 1 + part/4
	at := l.base + int64(serial)
	pid := 1000 + uint32(n/chaosParts)*2654435761>>16 //nolint:gosec // any number
	dst = fmt.Appendf(dst, "type=%s msg=audit(%d.%03d:%d): ", [chaosParts]string{"SYSCALL", "CWD", "PATH", "PROCTITLE", "USER_LOGIN"}[part], at/1000, at%1000, serial)
	switch part {
	case 0:
		key := "chaos"
		if n+chaosParts >= l.last {
			key = lastKey
		}
		dst = fmt.Appendf(dst, `arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffd%04x a2=0 a3=0 items=1 ppid=%d pid=%d auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm="work" exe="/usr/bin/work" key=%q`, pid, pid-1, pid, key)
	case 1:
		dst = fmt.Appendf(dst, `cwd="/srv/%s"`, l.host)
	case 2:
		dst = fmt.Appendf(dst, `item=0 name="/srv/%s/%d" inode=%d dev=08:01 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`, l.host, round, pid)
	case 3:
		dst = fmt.Appendf(dst, `proctitle=776F726B00%08X`, round)
	case 4:
		dst = fmt.Appendf(dst, `pid=%d uid=0 auid=1000 ses=3 msg='op=login acct="u%d" exe="/usr/sbin/sshd" hostname=%s addr=192.0.2.1 terminal=ssh res=success'`, pid, pid%97, l.host)
	}
	return append(dst, '\n')
}

// number returns which record of the log a line is. One goroutine may call it.
func (l *chaosLog) number(line []byte) (n int, err error) {
	part := bytes.IndexByte([]byte("SCPTU"), chaosLetter(line))
	_, rest, _ := bytes.Cut(line, []byte("msg=audit("))
	_, rest, _ = bytes.Cut(rest, []byte(":"))
	id, _, ok := bytes.Cut(rest, []byte(")"))
	serial, err := strconv.Atoi(string(id))
	if part < 0 || !ok || err != nil || serial < 1 || (serial-1)%2 != part/4 {
		return 0, fmt.Errorf("%s has a record that was never sent: %.200q", l.host, line)
	}
	n = (serial-1)/2*chaosParts + part
	if n < l.last {
		l.buf = l.append(l.buf[:0], n)
	}
	if n >= l.last || !bytes.Equal(line, l.buf[:len(l.buf)-1]) {
		return 0, fmt.Errorf("%s has a record that was never sent: %.200q", l.host, line)
	}
	return n, nil
}

// chaosLetter tells the five types apart.
func chaosLetter(line []byte) byte {
	kind, ok := bytes.CutPrefix(line, []byte("type="))
	switch {
	case !ok || len(kind) < 3:
		return 0
	case kind[0] == 'P' && kind[1] == 'R':
		return 'T'
	default:
		return kind[0]
	}
}
