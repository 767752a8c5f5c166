package output

// onWhat says what a system call's sentence goes on with.
type onWhat uint8

const (
	onNothing onWhat = iota
	onFile
	onOpen    // a file, and what for
	onMode    // a file, and the mode in an argument
	onOwner   // a file, and the owner in an argument and the next
	onPair    // two files
	onSocket  // an address
	onProcess // a signal in an argument, and processes
	onIDs     // ids in the arguments
	onProgram // a program and its arguments
)

// callWord is how a line tells of a system call.
type callWord struct {
	done, try string
	object    onWhat
	arg       string
	between   string   // the two files
	ids       []string // what each id is
}

// callWords are the system calls that have words of their own.
var callWords = newCallWords()

func newCallWords() map[string]callWord {
	words := map[string]callWord{}
	add := func(w callWord, names ...string) {
		for _, name := range names {
			words[name] = w
		}
	}
	add(callWord{object: onOpen}, "open", "openat", "openat2")
	for _, w := range []struct {
		done, try string
		object    onWhat
		names     []string
	}{
		{"created", "create", onFile, []string{"creat"}},
		{"truncated", "truncate", onFile, []string{"truncate", "ftruncate", "truncate64", "ftruncate64"}},
		{"allocated space in", "allocate space in", onFile, []string{"fallocate"}},
		{"read the link", "read the link", onFile, []string{"readlink", "readlinkat"}},
		{"looked at", "look at", onFile, []string{
			"stat", "fstat", "lstat", "stat64", "fstat64", "lstat64", "newfstatat", "fstatat64", "statx",
		}},
		{"checked the access to", "check the access to", onFile, []string{"access", "faccessat", "faccessat2"}},
		{"looked at the filesystem of", "look at the filesystem of", onFile, []string{"statfs", "fstatfs"}},
		{"changed the attributes of", "change the attributes of", onFile, []string{
			"setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "file_setattr",
		}},
		{"created the directory", "create the directory", onFile, []string{"mkdir", "mkdirat"}},
		{"created the special file", "create the special file", onFile, []string{"mknod", "mknodat"}},
		{"deleted", "delete", onFile, []string{"unlink", "unlinkat"}},
		{"deleted the directory", "delete the directory", onFile, []string{"rmdir"}},
		{"changed the times of", "change the times of", onFile, []string{"utime", "utimes", "futimesat", "utimensat"}},
		{"unmounted", "unmount", onFile, []string{"umount", "umount2"}},
		{"changed the working directory to", "change the working directory to", onFile, []string{"chdir"}},
		{"changed the root directory to", "change the root directory to", onFile, []string{"chroot"}},
		{"ran", "run", onProgram, []string{"execve", "execveat"}},
		{"accepted a connection from", "accept a connection from", onSocket, []string{"accept", "accept4"}},
		{"bound a socket to", "bind a socket to", onSocket, []string{"bind"}},
		{"connected to", "connect to", onSocket, []string{"connect"}},
		{"received data from", "receive data from", onSocket, []string{"recvfrom", "recvmsg", "recvmmsg"}},
		{"sent data to", "send data to", onSocket, []string{"sendto", "sendmsg", "sendmmsg"}},
		{"set the system's time", "set the system's time", onNothing, []string{"settimeofday", "clock_settime", "stime"}},
		{"set the host's name", "set the host's name", onNothing, []string{"sethostname"}},
		{"set the host's domain name", "set the host's domain name", onNothing, []string{"setdomainname"}},
		{"loaded a kernel module", "load a kernel module", onNothing, []string{"init_module", "finit_module"}},
		{"unloaded a kernel module", "unload a kernel module", onNothing, []string{"delete_module"}},
	} {
		add(callWord{done: w.done, try: w.try, object: w.object}, w.names...)
	}
	mode := callWord{done: "changed the mode of", try: "change the mode of", object: onMode, arg: "a1"}
	add(mode, "chmod", "fchmod")
	mode.arg = "a2"
	add(mode, "fchmodat", "fchmodat2")
	owner := callWord{done: "changed the owner of", try: "change the owner of", object: onOwner, arg: "a1"}
	add(owner, "chown", "fchown", "lchown", "chown32", "fchown32", "lchown32")
	owner.arg = "a2"
	add(owner, "fchownat")
	add(callWord{done: "renamed", try: "rename", object: onPair, between: " to "}, "rename", "renameat", "renameat2")
	add(callWord{done: "made the hard link", try: "make the hard link", object: onPair, between: " to "}, "link", "linkat")
	add(callWord{done: "made the symbolic link", try: "make the symbolic link", object: onPair, between: " to "}, "symlink", "symlinkat")
	add(callWord{done: "mounted", try: "mount", object: onPair, between: " on "}, "mount")
	signal := callWord{done: "sent", try: "send", object: onProcess, arg: "a1"}
	add(signal, "kill", "tkill", "rt_sigqueueinfo")
	signal.arg = "a2"
	add(signal, "tgkill", "rt_tgsigqueueinfo")
	for i, list := range [...][]string{{""}, {"real ", "effective "}, {"real ", "effective ", "saved "}} {
		names := [...][2]string{{"setuid", "setgid"}, {"setreuid", "setregid"}, {"setresuid", "setresgid"}}[i]
		add(callWord{done: "set its user id to", try: "set its user id to", object: onIDs, ids: list}, names[0], names[0]+"32")
		add(callWord{done: "set its group id to", try: "set its group id to", object: onIDs, ids: list}, names[1], names[1]+"32")
	}
	add(callWord{done: "set its filesystem user id to", try: "set its filesystem user id to", object: onIDs, ids: []string{""}}, "setfsuid", "setfsuid32")
	add(callWord{done: "set its filesystem group id to", try: "set its filesystem group id to", object: onIDs, ids: []string{""}}, "setfsgid", "setfsgid32")
	add(callWord{done: "exited with status", try: "exit with status", object: onIDs, ids: []string{""}}, "exit", "exit_group")
	return words
}
