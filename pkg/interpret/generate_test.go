package interpret

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Records made at random, of every system call with arguments that mean
// something, and of every field with values that are odd.

var arches = []uint32{0xc000003e, 0x40000003, 0xc00000b7, 0x40000028, 0x80000016}

var argValues = []string{
	"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "f", "10", "11", "17", "18", "1f", "20", "29", "40", "80", "ff",
	"100", "107", "1b6", "1ff", "241", "400", "406", "408", "800", "801", "1000", "2000", "4000", "4206", "5401", "5413", "541b",
	"8000", "8901", "8933", "80241", "81a4", "c1ed", "10000", "50000", "1200011", "3d0f00", "7fffffff", "80000000", "80045430",
	"ffffffff", "ffffff9c", "fffffffe", "ffffffffffffff9c", "ffffffffffffffff", "123456789abcdef0", "7ffc0a1b2c3d",
}

func oneOf[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomArg(r *rand.Rand) string {
	switch r.IntN(6) {
	case 0:
		return strconv.FormatUint(uint64(r.IntN(2048)), 16)
	case 1:
		return strconv.FormatUint(1<<r.IntN(64), 16)
	case 2:
		return strconv.FormatUint(r.Uint64()>>r.IntN(64), 16)
	}
	return oneOf(r, argValues)
}

// syscallRecord is a SYSCALL record as the kernel writes them.
func syscallRecord(arch uint32, nr int, args [4]string, exit, key string) string {
	return fmt.Sprintf("SYSCALL arch=%x syscall=%d success=yes exit=%s a0=%s a1=%s a2=%s a3=%s items=0 ppid=1 pid=2 auid=1000 uid=0 "+
		"gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=65534 tty=pts0 ses=4294967295 comm=\"x y\" exe=2F612062 subj=a:b:c:s0 key=%s",
		arch, nr, exit, args[0], args[1], args[2], args[3], key)
}

// syscallRecords has per records of every system call of every architecture.
func syscallRecords(r *rand.Rand, per int) []string {
	var recs []string
	for _, arch := range arches {
		for nr := range 475 {
			for range per {
				args := [4]string{randomArg(r), randomArg(r), randomArg(r), randomArg(r)}
				exit := strconv.Itoa(r.IntN(600) - 550)
				recs = append(recs, syscallRecord(arch, nr, args, exit, oneOf(r, []string{"(null)", `"k"`, "6101620163"})))
			}
		}
	}
	return recs
}

// contextRecords has the calls whose arguments depend on each other.
func contextRecords(r *rand.Rand, per int) []string {
	var recs []string
	for _, name := range []string{"open", "mq_open", "fcntl", "prctl", "setsockopt", "getsockopt", "socket", "clone", "shmget", "ioctl"} {
		nr, ok := tables.SyscallByName(arches[0], name)
		if !ok {
			continue
		}
		for range per {
			args := [4]string{randomArg(r), randomArg(r), randomArg(r), randomArg(r)}
			switch name {
			case "prctl":
				args[0] = strconv.FormatInt(int64(r.IntN(70)), 16)
			case "setsockopt", "getsockopt":
				args[1] = oneOf(r, []string{"0", "1", "6", "11", "29", "107", "84", "88", "10e", "102", "ff", "fe", "8f", "106"})
				args[2] = strconv.FormatInt(int64(r.IntN(130)), 16)
			case "fcntl":
				args[1] = strconv.FormatInt(int64(r.IntN(20)+1024*r.IntN(2)), 16)
			case "socket":
				args = [4]string{fmt.Sprintf("%x", r.IntN(50)), fmt.Sprintf("%x", r.IntN(12)|r.IntN(2)<<11), fmt.Sprintf("%x", r.IntN(300)), "0"}
			}
			recs = append(recs, syscallRecord(arches[0], nr, args, "0", "(null)"))
		}
	}
	for _, nr := range []int{102, 117} { // socketcall and ipc
		for a0 := range 30 {
			recs = append(recs, syscallRecord(0x40000003, nr, [4]string{fmt.Sprintf("%x", a0), "1", "2", "3"}, "0", "(null)"))
		}
	}
	return recs
}

var fieldValues = []string{
	"0", "1", "2", "3", "5", "7", "8", "9", "10", "11", "12", "15", "16", "31", "33", "40", "99", "255", "1000", "65534", "65535",
	"4294967295", "4294967294", "2147483648", "-1", "-2", "-13", "-512", "18446744073709551616", "99999999999999999999999",
	"0x0", "0x2", "0x42", "0x1ff", "0x50000", "0x7fff0000", "0x80000000", "c000003e", "40000003", "1400003", "00000000a80425fb",
	"000001fffeffffff", "0100644", "040755", "0140777", "020620", "07777", "100600",
	`""`, `"a"`, `"a b"`, `"a'b"`, `"a,b"`, `"x=y"`, "'a b'", `"open`, "'open", "41", "4142", "414", "41420043", "4109420A", "6101620163",
	"C3A9E28094", "7F80FF", "ab", "AB", "abc", "(null)", "(none)", "?", "zz", "a:b", "4142:", "41G", "yes", "no", "success", "failed",
	"1.2.3.4", "::1", "a,b", "0,", "1)", "1'", "1:", `"a",`, `"a":`, "",
}

// fieldRecords has per records of every kind of field, in types of all sorts.
func fieldRecords(r *rand.Rand, per int) []string {
	types := []string{
		"USER_AUTH", "USER_CMD", "CONFIG_CHANGE", "EXECVE", "PATH", "CWD", "SOCKADDR", "MQ_OPEN", "NETFILTER_PKT", "NETFILTER_CFG",
		"CRYPTO_KEY_USER", "ADD_GROUP", "DEL_GROUP", "GRP_MGMT", "ADD_USER", "MAC_STATUS", "ANOM_PROMISCUOUS", "PROCTITLE", "TTY",
		"USER_TTY", "BPRM_FCAPS", "CAPSET", "MMAP", "OPENAT2", "FANOTIFY", "UNKNOWN[1777]", "DAEMON_CONFIG", "SERVICE_START", "LOGIN",
		"OBJ_PID", "IPC", "FD_PAIR", "MAC_IPSEC_EVENT", "FEATURE_CHANGE", "TIME_ADJNTPVAL", "BPF", "VIRT_RESOURCE", "SOFTWARE_UPDATE",
		"INTEGRITY_RULE", "EVENT_LISTENER",
	}
	names := append(slices.Sorted(maps.Keys(kinds)), "acct", "a4", "a1[0]", "a2_len", "op", "hostname", "success", "pid", "nargs", "old-ses", "text")
	var recs []string
	for _, name := range names {
		for range per {
			typ := oneOf(r, types)
			n := 1 + r.IntN(3)
			var b strings.Builder
			b.WriteString(typ + " x=1")
			for i := range n {
				if i > 0 {
					name = oneOf(r, names)
				}
				fmt.Fprintf(&b, "%s%s=%s", oneOf(r, []string{" ", " ", " ", "  ", ", ", " (", " msg='", " old "}), name, oneOf(r, fieldValues))
			}
			if r.IntN(3) > 0 {
				b.WriteString(oneOf(r, []string{" z=1", " z=1'", ")'", " tail", ",", " ", ", tail"}))
			}
			recs = append(recs, b.String())
		}
	}
	return recs
}

// tailRecords has enriched tails, in and out of shape.
func tailRecords(r *rand.Rand, n int) []string {
	names := []string{"ARCH", "SYSCALL", "AUID", "UID", "GID", "EUID", "FSGID", "uid", "SES", "COMM", "SADDR", "KEY", "EXIT", "A1", "X"}
	values := []string{
		`"root"`, `"a b"`, `"unset"`, `"unknown(7)"`, "openat", "x86_64", "unknown-syscall(-1)", "", `"`, `"a`, "616263",
		"{ saddr_fam=inet laddr=9.9.9.9 lport=1 }", "{", `"a",`, "x",
	}
	recs := make([]string, 0, n)
	for range n {
		rec := syscallRecord(arches[r.IntN(2)], r.IntN(400), [4]string{"1", "2", "3", "4"}, "0", `"k"`)
		if r.IntN(4) == 0 {
			rec = "SOCKADDR saddr=" + randomSockAddr(r)
		}
		var tail []string
		for range r.IntN(6) {
			tail = append(tail, oneOf(r, names)+"="+oneOf(r, values))
		}
		recs = append(recs, rec+"\x1d"+strings.Join(tail, " "))
	}
	return recs
}

func randomSockAddr(r *rand.Rand) string {
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = byte(r.IntN(256) & r.IntN(256))
	}
	if len(b) > 1 {
		b[0], b[1] = byte(r.IntN(48)), byte(r.IntN(40)/39)
	}
	s := fmt.Sprintf("%X", b)
	if r.IntN(8) == 0 && len(s) > 0 {
		s = s[:len(s)-1]
	}
	return s
}

func sockAddrRecords(r *rand.Rand, n int) []string {
	recs := []string{
		"SOCKADDR saddr=02000035080808080000000000000000", "SOCKADDR saddr=0A0000350000000000000000000000000000FFFF0102030400000000",
		"SOCKADDR saddr=0A0000350000000000000000000000000000000001020304" + "00000000",
		"SOCKADDR saddr=01002F746D702F6100", "SOCKADDR saddr=010000616263", "SOCKADDR saddr=0100" + strings.Repeat("41", 130),
	}
	for range n {
		recs = append(recs, "SOCKADDR saddr="+randomSockAddr(r))
	}
	return recs
}

func ttyRecords(r *rand.Rand, n int) []string {
	seqs := slices.Sorted(maps.Keys(keys))
	recs := make([]string, 0, n)
	for range n {
		var b strings.Builder
		for range r.IntN(6) {
			switch r.IntN(3) {
			case 0:
				b.WriteString(oneOf(r, seqs))
			case 1:
				b.WriteByte(byte(r.IntN(256)))
			default:
				b.WriteString(oneOf(r, []string{"ls -l", "\"", "\\", "ü", "\x1b", "\x1b[", "a"}))
			}
		}
		recs = append(recs, fmt.Sprintf("TTY tty pid=1 uid=0 auid=0 ses=1 major=1 minor=0 comm=\"b\" data=%X", b.String()))
	}
	return recs
}

// typeRecords has every field once in every type of record.
func typeRecords() []string {
	var recs []string
	for n := uint16(1); n < 3000; n++ {
		typ := tables.TypeName(n)
		switch {
		case strings.HasPrefix(typ, "UNKNOWN"), n == tables.Syscall, n == tables.AVC, n == tables.EOE, n > tables.Openat2 && n < tables.AVC,
			n > tables.AVC && n < 1500:
			continue // AVC and SYSCALL need fields of their own, and some are newer
		}
		for name := range kinds {
			recs = append(recs, typ+" x=1 "+name+"=7 "+name+"=41 z=1")
		}
	}
	return recs
}
