package interpret

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// appendFlagsOr appends the bits' names; none where there is no bit at all and
// none is given; else the value as it was.
func appendFlagsOr(dst []byte, t table, n uint64, none string, v []byte) []byte {
	if n == 0 && none != "" {
		return append(dst, none...)
	}
	from := len(dst)
	if dst = t.appendFlags(dst, n, false); len(dst) == from {
		dst = append(append(dst, "0x"...), v...)
	}
	return dst
}

func appendOpenFlags(dst []byte, n uint64) []byte {
	if n&3 == 0 {
		return openFlags.appendFlags(append(dst, "O_RDONLY"...), n, true)
	}
	return openFlags.appendFlags(dst, n, false)
}

func appendMmapFlags(dst []byte, n uint64, v []byte) []byte {
	if n&mapType == 0 {
		return mmapFlags.appendFlags(append(dst, "MAP_FILE"...), n, true)
	}
	return appendFlagsOr(dst, mmapFlags, n, "", v)
}

const mapType = 0xf

func appendProt(dst []byte, n uint64, sem bool) []byte {
	if n&7 == 0 {
		return append(dst, "PROT_NONE"...)
	}
	if !sem {
		n &^= protSem
	}
	return mmapProt.appendFlags(dst, n, false)
}

func appendShmFlags(dst []byte, n uint64) []byte {
	from := len(dst)
	dst = shmFlags.appendFlags(dst, n, false)
	if len(dst) > from {
		dst = append(dst, '|')
	}
	return appendOctal(append(dst, '0'), n&0o777, 3)
}

func appendClone(dst []byte, n uint64) []byte {
	from := len(dst)
	dst = cloneFlags.appendFlags(dst, n, false)
	if name, ok := signals.lookup(n & 0xff); ok && n&0xff != 0 {
		if len(dst) > from {
			dst = append(dst, '|')
		}
		dst = append(dst, name...)
	}
	if len(dst) == from {
		dst = strconv.AppendUint(append(dst, "0x"...), uint64(uint32(n)), 16)
	}
	return dst
}

func appendExitStatus(dst []byte, n uint64) []byte {
	switch n {
	case 0:
		return append(dst, "EXIT_SUCCESS"...)
	case 1:
		return append(dst, "EXIT_FAILURE"...)
	}
	return append(dst, "UNKNOWN"...)
}

// appendDecimalUnknown names n, or shows it as the C int that the stock tool
// takes it for.
func appendDecimalUnknown(dst []byte, t table, n uint64, what string) []byte {
	if name, ok := t.lookup(uint64(uint32(n))); ok {
		return append(dst, name...)
	}
	var b [20]byte
	return appendUnknown(dst, what, "", strconv.AppendInt(b[:0], int64(int32(n)), 10))
}

const schedResetOnFork = 0x40000000

func appendScheduler(dst []byte, n uint64, v []byte) []byte {
	name, ok := schedulers.lookup(n & 0xf)
	if !ok {
		return appendUnknown(dst, "scheduler-policy", "0x", v)
	}
	dst = append(dst, name...)
	if n&schedResetOnFork != 0 {
		dst = append(dst, "|SCHED_RESET_ON_FORK"...)
	}
	return dst
}

const addrNoRandomize = 0x40000

func appendPersonality(dst []byte, n uint64, v []byte) []byte {
	name, ok := personalities.lookup(n & 0xff)
	if !ok {
		return appendUnknown(dst, "personality", "0x", v)
	}
	dst = append(dst, name...)
	if n&addrNoRandomize != 0 {
		dst = append(dst, "|~ADDR_NO_RANDOMIZE"...)
	}
	return dst
}

func appendIoctl(dst []byte, n uint64) []byte {
	if name, ok := ioctlRequests.lookup(n); ok {
		return append(dst, name...)
	}
	return strconv.AppendUint(append(dst, "0x"...), uint64(uint32(n)), 16)
}

func appendOption(dst []byte, level, n uint64, v []byte) []byte {
	var t table
	var what string
	switch level {
	case unix.SOL_IP:
		t, what = ipOptions, "ipopt-name"
	case unix.SOL_SOCKET:
		t, what = socketOptions, "sockopt-name"
	case unix.SOL_TCP:
		t, what = tcpOptions, "tcpopt-name"
	case unix.IPPROTO_UDP:
		t, what = udpOptions, "udpopt-name"
	case unix.SOL_IPV6:
		t, what = ipv6Options, "ip6opt-name"
	case unix.SOL_PACKET:
		t, what = packetOptions, "pktopt-name"
	default:
		return append(append(dst, "0x"...), v...)
	}
	return t.appendName(dst, uint64(uint32(n)), what, "0x", v)
}

func (in *Interpreter) appendFcntlArg(dst []byte, r *record.Record, n uint64, v []byte) []byte {
	switch cmd, _ := argument(r, "a1"); {
	case cmd == fSetOwn:
		return in.appendUser(dst, uint32(n))
	case cmd == fSetFD && n == unix.FD_CLOEXEC:
		return append(dst, "FD_CLOEXEC"...)
	}
	return append(append(dst, "0x"...), v...)
}

func appendPrctlArg(dst []byte, r *record.Record, n uint64, v []byte) []byte {
	switch option, _ := argument(r, "a0"); option {
	case unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP:
		return capabilities.appendName(dst, uint64(uint32(n)), "capability", "0x", v)
	case unix.PR_SET_PDEATHSIG:
		return signals.appendName(dst, uint64(uint32(n)), "signal", "0x", v)
	}
	return append(append(dst, "0x"...), v...)
}

// fileTypes are the names of S_IFMT's values.
var fileTypes = map[uint64]string{
	unix.S_IFIFO: "fifo", unix.S_IFCHR: "character", unix.S_IFDIR: "dir", unix.S_IFBLK: "block",
	unix.S_IFREG: "file", unix.S_IFLNK: "link", unix.S_IFSOCK: "socket",
}

func appendMode(dst []byte, n uint64) []byte {
	if name, ok := fileTypes[n&unix.S_IFMT]; ok {
		dst = append(dst, name...)
	} else {
		dst = appendOctal(dst, n&unix.S_IFMT>>12, 3)
	}
	dst = append(dst, ',')
	dst = appendSetID(dst, n)
	return appendOctal(dst, n&0o777, 3)
}

func appendSetID(dst []byte, n uint64) []byte {
	if n&unix.S_ISUID != 0 {
		dst = append(dst, "suid,"...)
	}
	if n&unix.S_ISGID != 0 {
		dst = append(dst, "sgid,"...)
	}
	if n&unix.S_ISVTX != 0 {
		dst = append(dst, "sticky,"...)
	}
	return dst
}

func appendModeShort(dst []byte, n uint64) []byte {
	return appendOctal(append(appendSetID(dst, n), '0'), n&0o777, 3)
}

// appendPathFlags appends how the kernel looked a path up.
func appendPathFlags(dst []byte, n uint64, v []byte) []byte {
	if n = uint64(uint32(n)); n == 0 {
		return append(dst, "none"...)
	}
	from := len(dst)
	for _, f := range pathFlags {
		if n&f.value == 0 {
			continue
		}
		if len(dst) > from {
			dst = append(dst, ',')
		}
		dst = append(dst, f.name...)
	}
	if len(dst) == from {
		dst = append(append(dst, "0x"...), v...)
	}
	return dst
}

func appendPerm(dst []byte, n uint64) []byte {
	if n == 0 {
		n = 15
	}
	from := len(dst)
	for _, p := range [...]struct {
		bit  uint64
		name string
	}{{4, "read"}, {2, "write"}, {1, "exec"}, {8, "attr"}} {
		if n&p.bit == 0 {
			continue
		}
		if len(dst) > from {
			dst = append(dst, ',')
		}
		dst = append(dst, p.name...)
	}
	return dst
}

func appendCapMask(dst []byte, n uint64) []byte {
	if n == 0 {
		return append(dst, "none"...)
	}
	from := len(dst)
	for _, c := range capabilities {
		if n>>c.value&1 == 0 {
			continue
		}
		if len(dst) > from {
			dst = append(dst, ',')
		}
		dst = append(dst, c.name...)
	}
	return dst
}

// maxErrno is the first number that is no errno to the C library. The kernel has
// some of its own, like ERESTARTSYS.
const maxErrno = 134

// appendExit appends a system call's result: an errno with its meaning, or a
// number.
func appendExit(dst, v []byte) []byte {
	n, ok := signed(v)
	if !ok {
		return appendConversion(dst, v)
	}
	if n >= 0 {
		return append(dst, v...)
	}
	errno := -int32(n)
	if name, ok := tables.ErrnoName(int(errno)); ok && errno < maxErrno {
		dst = append(dst, name...)
	} else {
		dst = append(dst, "(null)"...)
	}
	return append(appendStrerror(append(dst, '('), errno), ')')
}

// appendStrerror appends the C library's words for an errno.
func appendStrerror(dst []byte, errno int32) []byte {
	text := ""
	switch {
	case errno == int32(unix.EHWPOISON): // not in the library's list
		text = "Memory page has hardware error"
	case errno > 0 && errno < maxErrno:
		text = unix.Errno(errno).Error()
	}
	if text == "" || strings.HasPrefix(text, "errno ") {
		return strconv.AppendInt(append(dst, "Unknown error "...), int64(errno), 10)
	}
	from := len(dst)
	dst = append(dst, text...)
	if c := dst[from]; c-'a' <= 'z'-'a' {
		dst[from] = c - 'a' + 'A'
	}
	return dst
}
