package normalize

// callClass describes a group of system calls that do the same to the same kind of
// object.
type callClass struct {
	action string
	kind   string // of an object that does not say itself
	read   reader
	// object and second are the numbers of the records that name them; of the
	// object's the first that is no parent directory counts.
	object, second int
	arg            string // the argument that is the second object
	// fixed says that the object is of this kind whatever its mode says.
	fixed bool
}

type reader uint8

const (
	readFile reader = iota
	readMount
	readPeer
	readKill
	readIDs
	readProgram
	readSystem
	readModule
	readNode
	readMemory
	readNothing // an action that is about no object
)

var (
	open     = callClass{action: "opened-file", kind: kindFile, object: 2, fixed: true}
	stat     = callClass{action: "checked-metadata-of", kind: kindFile, object: 2}
	statfs   = callClass{action: "checked-filesystem-metadata-of", kind: kindFilesystem, object: 2}
	attr     = callClass{action: "changed-file-attributes-of", kind: kindFile, object: 2}
	chmod    = callClass{action: "changed-file-permissions-of", kind: kindFile, object: 2, arg: "a1"}
	chown    = callClass{action: "changed-file-ownership-of", kind: kindFile, object: 2, arg: "a1"}
	load     = callClass{action: "loaded-kernel-module", kind: kindFile, read: readModule}
	mkdir    = callClass{action: "created-directory", kind: kindFile, object: 3}
	mount    = callClass{action: "mounted", kind: kindFilesystem, read: readMount, second: 2}
	rename   = callClass{action: "renamed", kind: kindFile, object: 4, second: 5}
	symlink  = callClass{action: "symlinked", kind: kindFile, object: 4, second: 2}
	umount   = callClass{action: "unmounted", kind: kindFilesystem, object: 2}
	remove   = callClass{action: "deleted", kind: kindFile, object: 2}
	utime    = callClass{action: "changed-timestamp-of", kind: kindFile, object: 2}
	exec     = callClass{action: "executed", kind: kindFile, object: 3}
	accept   = callClass{action: "accepted-connection-from", kind: kindSocket, read: readPeer}
	receive  = callClass{action: "received-from", kind: kindSocket, read: readPeer}
	send     = callClass{action: "sent-to", kind: kindSocket, read: readPeer}
	kill     = callClass{action: "killed-pid", kind: kindProcess, read: readKill}
	setID    = callClass{action: "changed-identity-of", kind: kindProcess, read: readIDs}
	clock    = callClass{action: "changed-system-time", kind: kindSystem, read: readSystem}
	hostName = callClass{action: "changed-system-name", kind: kindSystem, read: readSystem}
	memory   = callClass{action: "allocated-memory", kind: kindMemory, read: readMemory}
	schedule = callClass{action: "adjusted-scheduling-policy-of", kind: kindProcess, read: readProgram}
	policy   = callClass{action: "adjusted-security-policy-of", kind: kindProcess, read: readProgram}
	makeNode = callClass{action: "make-device", read: readNode, object: 2}
)

// onHandle is c for a call that takes a descriptor: its event has no CWD record.
func (c callClass) onHandle() callClass {
	c.object--
	return c
}

// of is c with another argument as its second object.
func (c callClass) of(arg string) callClass {
	c.arg = arg
	return c
}

// callEntry is the callClass of one system call, with what is special to that call.
type callEntry struct {
	callClass
	name string
	ids  int // how many of its arguments are ids
}

var calls = newCalls()

func newCalls() map[string]*callEntry {
	calls := map[string]*callEntry{}
	add := func(c callClass, names ...string) {
		for _, name := range names {
			calls[name] = &callEntry{callClass: c, name: name}
		}
	}
	add(open, "open", "openat", "openat2", "creat", "truncate", "ftruncate", "fallocate", "memfd_create", "readlink", "readlinkat")
	add(open, "memfd_secret", "open_by_handle_at", "pidfd_getfd", "open_tree", "open_tree_attr")
	add(stat, "stat", "fstat", "lstat", "stat64", "newfstatat", "statx", "access", "faccessat", "faccessat2")
	add(stat, "getxattrat", "listxattrat", "file_getattr", "name_to_handle_at")
	add(statfs, "statfs", "fstatfs", "statmount", "listmount")
	add(attr, "setxattr", "lsetxattr", "removexattr", "lremovexattr", "fremovexattr")
	add(attr, "setxattrat", "removexattrat", "mount_setattr", "file_setattr")
	add(attr.onHandle(), "fsetxattr")
	add(chmod, "chmod")
	add(chmod.onHandle(), "fchmod")
	add(chmod.of("a2"), "fchmodat", "fchmodat2")
	add(chown, "chown", "lchown")
	add(chown.onHandle(), "fchown")
	add(chown.of("a2"), "fchownat")
	add(load, "init_module", "finit_module")
	add(callClass{action: "unloaded-kernel-module", kind: kindFile, read: readSystem}, "delete_module")
	add(mkdir, "mkdir", "mkdirat")
	add(mount, "mount", "move_mount", "fsmount", "fspick", "fsconfig", "fsopen")
	add(rename, "rename", "renameat", "renameat2")
	add(symlink, "symlink", "symlinkat")
	add(umount, "umount", "umount2")
	add(remove, "unlink", "unlinkat", "rmdir")
	add(utime, "utime", "utimes", "futimesat", "utimensat")
	add(exec, "execve", "execveat")
	add(accept, "accept", "accept4")
	add(callClass{action: "bound-socket", kind: kindSocket, read: readPeer}, "bind")
	add(callClass{action: "connected-to", kind: kindSocket, read: readPeer}, "connect")
	add(receive, "recvfrom", "recvmsg")
	add(send, "sendto", "sendmsg")
	add(kill, "kill", "tkill", "tgkill")
	add(setID, "seteuid", "setfsuid", "setegid", "setfsgid")
	for i, names := range [...][]string{{"setuid", "setgid"}, {"setreuid", "setregid"}, {"setresuid", "setresgid"}} {
		add(setID, names...)
		for _, name := range names {
			calls[name].ids = i + 1
		}
	}
	add(clock, "settimeofday", "clock_settime", "clock_settime64", "stime", "adjtimex")
	add(makeNode, "mknod", "mknodat")
	add(hostName, "sethostname", "setdomainname")
	add(memory, "mmap", "brk")
	add(schedule, "sched_setparam", "sched_setscheduler", "sched_setattr")
	add(policy, "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "lsm_set_self_attr", "mseal")
	add(callClass{action: "retrieved-security-attr-of", kind: kindProcess, read: readProgram}, "lsm_get_self_attr")
	add(callClass{action: "listed-security-modules", kind: "security-modules", read: readNothing}, "lsm_list_modules")
	return calls
}
