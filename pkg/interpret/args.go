package interpret

import (
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// An argKind is the meaning of a system call's argument.
type argKind uint8

const (
	argPlain argKind = iota
	argOpenFlags
	argAccess
	argWhence
	argMmapProt
	argProt
	argMmapFlags
	argSignal
	argIoctl
	argMode
	argModeType
	argShmFlags
	argFamily
	argSocketType
	argProtocol
	argMessage
	argLevel
	argOption
	argClone
	argExit
	argFcntl
	argFcntlArg
	argUser
	argGroup
	argRlimit
	argPtrace
	argPersonality
	argScheduler
	argPrctl
	argPrctlArg
	argMount
	argUmount
	argClock
	argEpoll
	argDirFD
	argBPF
	argSocketCall
	argCreateMode // a mode when the flags before it say O_CREAT
)

// syscallArgs are the arguments that are more than a number, by name of the
// system call.
var syscallArgs = map[string][4]argKind{
	"open": {1: argOpenFlags, 2: argCreateMode}, "mq_open": {1: argOpenFlags, 2: argCreateMode},
	"openat": {argDirFD, argPlain, argOpenFlags}, "open_by_handle_at": {2: argOpenFlags},
	"mkdir": {1: argMode}, "creat": {1: argMode}, "chmod": {1: argMode}, "fchmod": {1: argMode},
	"mkdirat": {argDirFD, argPlain, argMode}, "mknodat": {argDirFD, argPlain, argMode},
	"fchmodat": {argDirFD, argPlain, argMode}, "mknod": {1: argModeType},
	"lseek": {2: argWhence}, "mmap": {2: argMmapProt, 3: argMmapFlags},
	"mprotect": {2: argProt}, "rt_sigaction": {argSignal}, "kill": {1: argSignal}, "tkill": {1: argSignal},
	"tgkill": {2: argSignal}, "ioctl": {1: argIoctl}, "access": {1: argAccess},
	"faccessat": {argDirFD, argPlain, argAccess}, "faccessat2": {argDirFD, argPlain, argAccess},
	"shmget": {2: argShmFlags}, "socket": {argFamily, argSocketType, argProtocol},
	"send": {3: argMessage}, "sendto": {3: argMessage}, "recv": {3: argMessage}, "recvfrom": {3: argMessage},
	"sendmsg": {2: argMessage}, "recvmsg": {2: argMessage}, "recvmmsg": {3: argMessage}, "sendmmsg": {3: argMessage},
	"setsockopt": {1: argLevel, 2: argOption}, "getsockopt": {1: argLevel, 2: argOption},
	"clone": {argClone}, "clone2": {argClone}, "unshare": {argClone}, "setns": {1: argClone},
	"exit": {argExit}, "exit_group": {argExit},
	"fcntl": {1: argFcntl, 2: argFcntlArg}, "fcntl64": {1: argFcntl, 2: argFcntlArg},
	"chown": {1: argUser, 2: argGroup}, "chown32": {1: argUser, 2: argGroup}, "lchown": {1: argUser, 2: argGroup}, "lchown32": {1: argUser, 2: argGroup},
	"fchown": {1: argUser, 2: argGroup}, "fchown32": {1: argUser, 2: argGroup}, "fchownat": {argDirFD, argPlain, argUser, argGroup},
	"setuid": {argUser}, "setreuid": {argUser, argUser},
	"setresuid": {argUser, argUser, argUser}, "setfsuid": {argUser},
	"setgid": {argGroup}, "setregid": {argGroup, argGroup}, "setresgid": {argGroup, argGroup, argGroup},
	"setfsgid": {argGroup}, "getrlimit": {argRlimit}, "setrlimit": {argRlimit},
	"ptrace": {argPtrace}, "personality": {argPersonality}, "sched_setscheduler": {1: argScheduler},
	"prctl": {argPrctl, argPrctlArg}, "mount": {3: argMount}, "umount2": {1: argUmount},
	"clock_settime": {argClock}, "epoll_ctl": {1: argEpoll}, "bpf": {argBPF}, "socketcall": {argSocketCall},
	"futimesat": {argDirFD}, "newfstatat": {argDirFD}, "unlinkat": {argDirFD},
	"renameat": {argDirFD, argPlain, argDirFD}, "linkat": {argDirFD, argPlain, argDirFD},
	"readlinkat": {argDirFD, argPlain, argDirFD}, "utimensat": {argDirFD}, "name_to_handle_at": {argDirFD},
	"renameat2": {argDirFD, argPlain, argDirFD}, "openat2": {argDirFD},
	"fchmodat2": {argDirFD, argPlain, argMode}, "statx": {argDirFD}, "execveat": {argDirFD}, "symlinkat": {1: argDirFD},
	"setxattrat": {argDirFD}, "getxattrat": {argDirFD}, "listxattrat": {argDirFD}, "removexattrat": {argDirFD},
	"file_getattr": {argDirFD}, "file_setattr": {argDirFD}, "open_tree": {argDirFD}, "open_tree_attr": {argDirFD},
	"move_mount": {argDirFD, argPlain, argDirFD}, "fspick": {argDirFD}, "mount_setattr": {argDirFD},
}

const (
	oCreat  = 0o100
	fSetFD  = 2
	fSetOwn = 8
	atFDCWD = 0xffffff9c
	protSem = 8
)

// backwards are calls whose arguments stand in another order on s390: clone's stack comes
// before its flags there.
var backwards = map[string][4]argKind{"clone": {1: argClone}}

// kindOfArg says what argument nr (0 to 3) of a call is.
func (c *call) kindOfArg(nr int) argKind {
	if c.arch == tables.ArchS390X || c.arch == tables.ArchS390 {
		if args, ok := backwards[c.name]; ok {
			return args[nr]
		}
	}
	return syscallArgs[c.name][nr]
}

// appendArg appends argument nr (0 to 3) of a system call.
func (in *Interpreter) appendArg(dst []byte, r *record.Record, c *call, nr int, v []byte) []byte {
	kind := c.kindOfArg(nr)
	if kind == argPlain {
		return append(append(dst, "0x"...), v...)
	}
	n, ok := number(v, 16)
	if !ok || kind == argSocketCall && n > 1<<63-1 {
		return appendConversion(dst, v)
	}
	switch kind {
	case argCreateMode:
		if flags, _ := argument(r, "a1"); flags&oCreat == 0 {
			return append(append(dst, "0x"...), v...)
		}
		return appendModeShort(dst, n)
	case argOption:
		level, _ := argument(r, "a1")
		return appendOption(dst, level, n, v)
	case argFcntlArg:
		return in.appendFcntlArg(dst, r, n, v)
	case argPrctlArg:
		return appendPrctlArg(dst, r, n, v)
	case argUser:
		return in.appendUser(dst, uint32(n))
	case argGroup:
		return in.appendGroup(dst, uint32(n))
	case argProtocol, argLevel:
		if name, ok := in.protocol(n); ok && (kind == argProtocol || n != 1) {
			return append(dst, name...)
		}
	}
	return appendSimpleArg(dst, kind, n, v)
}

// argTables are the arguments that are one of a list of names, or bits of it.
var argTables = map[argKind]struct {
	names  table
	what   string // unknown-WHAT
	prefix string
	mask   uint64
}{
	argWhence: {seekWhence, "whence", "", 0xff}, argSignal: {signals, "signal", "0x", 0},
	argFamily: {families, "family", "0x", 0}, argSocketType: {socketTypes, "type", "", 0xff},
	argProtocol: {nil, "proto", "", 0}, argLevel: {socketLevels, "sockopt-level", "0x", 0},
	argRlimit: {rlimits, "rlimit", "0x", 0}, argPtrace: {ptraceRequests, "ptrace", "0x", 0},
	argPrctl: {prctlOptions, "prctl-option", "0x", 0},
	argClock: {clocks, "clk_id", "0x", 0}, argBPF: {bpfCommands, "bpf-cmd", "", 0},
	argSocketCall: {socketCalls, "socketcall", "", 0},
}

// appendSimpleArg appends an argument that stands for itself.
func appendSimpleArg(dst []byte, kind argKind, n uint64, v []byte) []byte {
	if t, ok := argTables[kind]; ok {
		if t.mask != 0 {
			n &= t.mask
		}
		return t.names.appendName(dst, uint64(uint32(n)), t.what, t.prefix, v)
	}
	switch kind {
	case argOpenFlags:
		return appendOpenFlags(dst, n)
	case argMode:
		return appendModeShort(dst, n)
	case argModeType:
		return appendMode(dst, n)
	case argAccess:
		return appendFlagsOr(dst, accessModes, n&0xf, "F_OK", v)
	case argMmapProt:
		return appendProt(dst, n, true)
	case argProt:
		return appendProt(dst, n, false)
	case argMmapFlags:
		return appendMmapFlags(dst, n, v)
	case argShmFlags:
		return appendShmFlags(dst, n)
	case argMessage:
		return appendFlagsOr(dst, messageFlags, uint64(uint32(n)), "", v)
	case argMount:
		return appendFlagsOr(dst, mountFlags, uint64(uint32(n)), "", v)
	case argUmount:
		return appendFlagsOr(dst, umountFlags, uint64(uint32(n)), "", v)
	case argClone:
		return appendClone(dst, n)
	case argScheduler:
		return appendScheduler(dst, n, v)
	case argExit:
		return appendExitStatus(dst, n)
	case argFcntl:
		return appendDecimalUnknown(dst, fcntlCommands, n, "fcntl-command")
	case argEpoll:
		return appendDecimalUnknown(dst, epollOperations, n, "epoll_ctl-operation")
	case argPersonality:
		return appendPersonality(dst, n, v)
	case argIoctl:
		return appendIoctl(dst, n)
	case argDirFD:
		if uint32(n) == atFDCWD {
			return append(dst, "AT_FDCWD"...)
		}
	}
	return append(append(dst, "0x"...), v...)
}
