package main

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// account is who somebody is: number and name.
type account struct {
	id   uint32
	name string
}

var (
	root   = account{0, "root"}
	daemon = account{33, "www-data"}
	pgsql  = account{112, "postgres"}
	alice  = account{1000, "alice"}
	bob    = account{1001, "bob"}
	carol  = account{1002, "carol"}
	deploy = account{1004, "deploy"}
	nobody = account{^uint32(0), "unset"}
)

// process is what a record says of the process that did something.
type process struct {
	login     account // who logged in
	user      account // as whom it runs
	ses       uint32
	ppid, pid int
	tty       string
	exe       string
	cwd       string
}

func (p process) comm() string { return p.exe[strings.LastIndexByte(p.exe, '/')+1:] }

// run is the same process with another program.
func (p process) run(pid int, exe string) process {
	p.ppid, p.pid, p.exe = p.pid, pid, exe
	return p
}

// as is the same process as another user.
func (p process) as(user account) process {
	p.user = user
	return p
}

// enriched is what auditd puts behind a record with log_format = ENRICHED.
const enriched = "\x1d"

// Numbers of the system calls on x86_64.
var numbers = map[string]int{"execve": 59, "openat": 257, "unlinkat": 263, "fchmodat": 268}

// call is a SYSCALL record.
func (p process) call(name string, exit, items int, key string) string {
	success := "yes"
	if exit < 0 {
		success = "no"
	}
	quoted := "(null)"
	if key != "" {
		quoted = `"` + key + `"`
	}
	u := p.user
	return fmt.Sprintf(`SYSCALL arch=c000003e syscall=%d success=%s exit=%d a0=ffffff9c a1=55d0c8a3e2a0 a2=0 a3=0 items=%d ppid=%d pid=%d auid=%d uid=%d gid=%d euid=%d suid=%d fsuid=%d egid=%d sgid=%d fsgid=%d tty=%s ses=%d comm="%s" exe="%s" subj=unconfined key=%s`,
		numbers[name], success, exit, items, p.ppid, p.pid, p.login.id, u.id, u.id, u.id, u.id, u.id, u.id, u.id, u.id, p.tty, p.ses, p.comm(), p.exe, quoted) +
		enriched + fmt.Sprintf(`ARCH=x86_64 SYSCALL=%s AUID="%s" UID="%[3]s" GID="%[3]s" EUID="%[3]s" SUID="%[3]s" FSUID="%[3]s" EGID="%[3]s" SGID="%[3]s" FSGID="%[3]s"`, name, p.login.name, u.name)
}

func (p process) dir() string { return fmt.Sprintf(`CWD cwd="%s"`, p.cwd) }

// path is a PATH record of a file that belongs to somebody.
func path(item int, name, mode, nametype string, owner account) string {
	inode := 131072
	for _, c := range name {
		inode = (inode*31 + int(c)) % 900001
	}
	return fmt.Sprintf(`PATH item=%d name="%s" inode=%d dev=08:01 mode=%s ouid=%d ogid=%[5]d rdev=00:00 nametype=%s cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0`, item, name, inode, mode, owner.id, nametype) +
		enriched + fmt.Sprintf(`OUID="%s" OGID="%[1]s"`, owner.name)
}

func title(argv []string) string {
	return "PROCTITLE proctitle=" + strings.ToUpper(hex.EncodeToString([]byte(strings.Join(argv, "\x00"))))
}

// exec is the execution of a program.
func (p process) exec(argv ...string) []string {
	var args strings.Builder
	fmt.Fprintf(&args, "EXECVE argc=%d", len(argv))
	for i, a := range argv {
		fmt.Fprintf(&args, " a%d=%s", i, words(a))
	}
	return []string{p.call("execve", 0, 2, "exec"), args.String(), p.dir(),
		path(0, p.exe, "0100755", "NORMAL", root), path(1, "/lib64/ld-linux-x86-64.so.2", "0100755", "NORMAL", root), title(argv)}
}

// open is a file opened, or not (exit < 0).
func (p process) open(file, mode string, exit int, key string, owner account, argv ...string) []string {
	return []string{p.call("openat", exit, 1, key), p.dir(), path(0, file, mode, "NORMAL", owner), title(argv)}
}

// remove is a file deleted.
func (p process) remove(file, key string, owner account, argv ...string) []string {
	return []string{p.call("unlinkat", 0, 2, key), p.dir(), path(0, file[:strings.LastIndexByte(file, '/')+1], "040755", "PARENT", root),
		path(1, file, "0100644", "DELETE", owner), title(argv)}
}

// words is a value as sudo logs a command: in hexadecimal digits when it has blanks.
func words(s string) string {
	if !strings.ContainsAny(s, ` "`) {
		return `"` + s + `"`
	}
	return strings.ToUpper(hex.EncodeToString([]byte(s)))
}

// sudo is a command run by sudo, or refused.
func (p process) sudo(command, res string) []string {
	return p.says("USER_CMD", `cwd="%s" cmd=%s exe="/usr/bin/sudo" terminal=%s res=%s`, p.cwd, words(command), p.tty, res)
}

// says is a record that a program, not the kernel, makes of what it did.
func (p process) says(typ, format string, args ...any) []string {
	return []string{fmt.Sprintf(`%s pid=%d uid=%d auid=%d ses=%d subj=unconfined msg='%s'`, typ, p.pid, p.user.id, p.login.id, p.ses, fmt.Sprintf(format, args...)) +
		enriched + fmt.Sprintf(`UID="%s" AUID="%s"`, p.user.name, p.login.name)}
}
