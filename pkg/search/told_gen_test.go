package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// toldGen makes events of every record type and system call, as a kernel and
// programs could have written them, some with fields missing, doubled or out of
// place.
type toldGen struct {
	r      *rand.Rand
	serial int
	b      strings.Builder
	node   string
	tails  bool // enriched

	ofProgram bool // the record that is being made
}

func (g *toldGen) oneIn(n int) bool { return g.r.IntN(n) == 0 }

func (g *toldGen) id() string {
	return oneOf(g.r, "0", "0", "1000", "1000", "81", "999", "1001", "4711", "60000", "65534", "4294967295")
}

// value makes a value for a field.
func (g *toldGen) value(name string) string {
	r := g.r
	switch name {
	case "auid", "uid", "old-auid", "euid", "suid", "fsuid", "ouid", "gid", "egid", "sgid", "fsgid", "ogid", "id":
		return g.id()
	case "ses", "old-ses":
		return oneOf(r, "1", "7", "4294967295")
	case "pid", "ppid", "opid", "prog-id", "inode", "rport", "lport":
		return fmt.Sprint(1 + r.IntN(70000))
	case "exe":
		return oneOf(r, `"/usr/sbin/sshd"`, `"/usr/bin/python3.11"`, `"/usr/bin/bash"`, `"/usr/bin/sh"`, `"/usr/bin/perl"`, `"/usr/sbin/cron"`,
			"2F62696E2F6120622F63", "(null)", `"/usr/bin/shred"`)
	case "comm", "sw", "vm", "dev", "resrc", "printer", "unit", "new-level", "fp", "bool", "table", "feature", "nlbl_domain", "device":
		return oneOf(r, `"word"`, "word", "61206209", "?", `"with,comma"`, "(none)", `"x:y"`)
	case "acct":
		return oneOf(r, `"root"`, `"nobody"`, `"nowhere"`, "726F6F74", "root", "nobody", "?", `"a b"`, "6120620A")
	case "op":
		return oneOf(r, "add_rule", "remove_rule", `"add_rule"`, "set", "login", "PAM:session_open", "LOAD", "UNLOAD", "connect", "disconnect",
			`"add rule"`, "seccomp-logging", "adding-user", "start")
	case "key":
		return oneOf(r, `"k1"`, "(null)", "6B3101656B32", "6B2031", `"ipc and net"`, "plain", "01", "6B310161")
	case "cmd", "data":
		return oneOf(r, "6C73202D6C", `"ls"`, "6C730D", "7F1B5B41")
	case "res", "result":
		return oneOf(r, "success", "failed", "1", "0", "yes", "no")
	case "success":
		return oneOf(r, "yes", "yes", "yes", "no")
	case "terminal", "tty", "hostname", "addr":
		return oneOf(r, "?", "ssh", "/dev/pts/0", "pts0", "10.0.0.1", "::1", "(none)", "web1.example.com")
	case "subj", "obj", "scontext", "tcontext", "selected-context", "subject":
		return oneOf(r, "s_t", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", "system_u:object_r:etc_t:s0:c1,c2", "?")
	case "name", "cwd":
		return oneOf(r, `"/etc/passwd"`, `"file"`, `"../up"`, `"/a/../b//c/./d"`, "2F746D702F61206220", `"/"`, `"./x"`, `"dir/sub"`,
			"(null)", `"a..b"`, "2F092E2E2F62", `"/one/two/three/../../four"`)
	case "mode":
		return oneOf(r, "0100644", "040755", "0120777", "0140600", "010644", "020620", "060660", "0644")
	case "nametype":
		return oneOf(r, "NORMAL", "NORMAL", "PARENT", "CREATE", "DELETE", "UNKNOWN")
	case "saddr":
		return oneOf(r, "02000050C0000201"+"0000000000000000", "01002F72756E2F78"+"00", "0100006162", "10000000000000000000"+"0000",
			"0A0001BB0000000020010DB8000000000000000000000042"+"00000000", "1100", "FFFF00")
	case "sig":
		return oneOf(r, "11", "6", "9", "31")
	case "code":
		return oneOf(r, "0x7fff0000", "0x0", "0x50001", "0x7ffc0000", "0x80000000")
	case "enforcing", "unlbl_accept", "prom", "audit_enabled", "audit_pid", "audit_backlog_limit", "audit_failure", "list":
		return oneOf(r, "0", "1", "2", "256")
	case "arch":
		return oneOf(r, "c000003e", "c000003e", "40000003")
	case "a0", "a1", "a2", "a3":
		return oneOf(r, "0", "1a4", "ffffffff", "3e8", "ffffff9c", "7ffd1234", "241", "-1")
	case "exit":
		return oneOf(r, "0", "3", "-13", "-2")
	case "nl-mcgrp":
		return "1"
	case "actions":
		return oneOf(r, "kill_process,log", `"a b"`, "none")
	}
	return oneOf(r, "1", "x", `"quoted"`, "?")
}

// fields writes name=value for each of names, of which some are missing.
func (g *toldGen) fields(names ...string) string {
	var words []string
	for _, name := range names {
		if g.oneIn(25) {
			continue
		}
		words = append(words, name+"="+g.value(name))
		if g.oneIn(120) {
			words = append(words, name+"="+g.value(name))
		}
	}
	if g.ofProgram && g.oneIn(40) { // of the kernel's fields, the stock tool knows some by their place
		g.r.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	}
	return strings.Join(words, " ")
}

func (g *toldGen) record(typ, body string) {
	if g.node != "" {
		g.b.WriteString("node=" + g.node + " ")
	}
	fmt.Fprintf(&g.b, "type=%s msg=audit(%d.%03d:%d): %s", typ, 1700000000+g.serial*5, g.serial%1000, g.serial, body)
	if g.tails && !g.oneIn(4) {
		g.b.WriteString("\x1d" + g.tail(typ))
	}
	g.b.WriteByte('\n')
}

func (g *toldGen) tail(typ string) string {
	switch typ {
	case "SOCKADDR":
		return "SADDR={ saddr_fam=inet laddr=192.0.2.7 lport=80 }"
	case "PATH":
		return `OUID="alice" OGID="root"`
	case "SYSCALL":
		return `ARCH=x86_64 SYSCALL=openat AUID="unset" UID="alice" GID="root" EUID="root"`
	}
	return oneOf(g.r, `UID="root" AUID="alice"`, `UID="unset" AUID="unset" ID="bob"`, `AUID="bob"`)
}

// userFields are what the programs' records of all types have among them.
var userFields = []string{
	"op", "acct", "id", "cmd", "data", "unit", "new-level", "selected-context", "device", "sw", "sw_type", "root_dir", "vm", "resrc",
	"printer", "fp", "rport", "scontext", "tcontext", "comm", "exe", "hostname", "addr", "terminal", "uuid", "key_enforce", "gpg_res",
}

// message is a record of a program: few or all of its fields.
func (g *toldGen) message(typ string) {
	names := userFields
	if !g.oneIn(3) {
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			return n != "exe" && n != "hostname" && n != "addr" && n != "terminal" && !g.oneIn(3)
		})
	}
	g.ofProgram = true
	defer func() { g.ofProgram = false }()
	who := g.fields("pid", "uid", "auid", "ses", "subj")
	if typ == "USER_AVC" {
		g.record(typ, who+" msg='avc:  denied  { send_msg } for "+g.fields(names...)+" "+g.fields("exe")+"'")
		return
	}
	g.record(typ, who+" msg='"+g.fields(names...)+" "+g.fields("res")+"'")
}

// kernelBodies are the fields of records that the kernel or a daemon writes, alone
// or beside a system call.
var kernelBodies = map[string][]string{
	"LOGIN": {"pid", "uid", "subj", "old-auid", "auid", "tty", "old-ses", "ses", "res"},
	"CONFIG_CHANGE": {"auid", "ses", "subj", "op", "audit_enabled", "audit_pid", "audit_backlog_limit", "audit_failure", "actions",
		"key", "list", "res"},
	"FEATURE_CHANGE":   {"pid", "uid", "auid", "ses", "subj", "comm", "exe", "feature", "old", "new", "res"},
	"SECCOMP":          {"auid", "uid", "gid", "ses", "subj", "pid", "comm", "exe", "sig", "arch", "syscall", "compat", "ip", "code"},
	"ANOM_ABEND":       {"auid", "uid", "gid", "ses", "subj", "pid", "comm", "exe", "sig", "res"},
	"ANOM_PROMISCUOUS": {"dev", "prom", "old_prom", "auid", "uid", "gid", "ses"},
	"ANOM_LINK":        {"op", "ppid", "pid", "auid", "uid", "gid", "euid", "tty", "ses", "comm", "exe", "res"},
	"NETFILTER_CFG":    {"table", "family", "entries", "op", "pid", "subj", "comm"},
	"TTY":              {"pid", "uid", "auid", "ses", "major", "minor", "comm", "data"},
	"DAEMON_START":     {"op", "ver", "format", "kernel", "auid", "pid", "uid", "ses", "subj", "res"},
	"DAEMON_ABORT":     {"op", "auid", "pid", "uid", "ses", "subj", "res"},
	"DAEMON_ROTATE":    {"op", "auid", "uid", "ses", "pid", "subj", "res"},
	"DAEMON_ACCEPT":    {"op", "addr", "port", "res"},
	"BPF":              {"prog-id", "op"},
	"EVENT_LISTENER":   {"pid", "uid", "auid", "tty", "ses", "subj", "comm", "exe", "nl-mcgrp", "op", "res"},
	"KERN_MODULE":      {"name"},
	"MAC_POLICY_LOAD":  {"auid", "ses", "lsm", "res"},
	"MAC_STATUS":       {"enforcing", "old_enforcing", "auid", "ses", "res"},
	"MAC_CONFIG_CHANGE": {
		"bool", "val", "old_val", "auid", "ses",
	},
	"MAC_UNLBL_ALLOW": {"auid", "ses", "subj", "unlbl_accept", "old", "res"},
	"MAC_MAP_ADD":     {"auid", "ses", "subj", "nlbl_domain", "nlbl_protocol", "res"},
	"TIME_INJOFFSET":  {"sec", "nsec"}, "TIME_ADJNTPVAL": {"op", "old", "new"},
	"FANOTIFY":    {"resp"},
	"SELINUX_ERR": {"op", "scontext", "tcontext"},
	"INTEGRITY_DATA": {
		"pid", "uid", "auid", "ses", "op", "cause", "comm", "name", "dev", "ino", "res",
	},
	"OBJ_PID": {"opid", "oauid", "ouid", "oses", "obj", "ocomm"},
	"KERNEL":  {"state", "audit_enabled", "res"},
}

func (g *toldGen) avc() {
	g.record("AVC", "avc:  "+oneOf(g.r, "denied", "granted")+"  { read write } for  "+
		g.fields("pid", "comm", "name", "dev", "scontext", "tcontext")+" tclass=file permissive=0")
}

func (g *toldGen) kernel(typ string) {
	if typ == "AVC" {
		g.avc()
		return
	}
	names, ok := kernelBodies[typ]
	if !ok {
		names = []string{"pid", "uid", "auid", "ses", "subj", "op", "comm", "exe", "res"}
	}
	g.record(typ, g.fields(names...))
}

// beside are records that come with a system call.
var beside = []string{
	"AVC", "SELINUX_ERR", "NETFILTER_CFG", "ANOM_PROMISCUOUS", "KERN_MODULE", "MAC_POLICY_LOAD", "MAC_STATUS", "MAC_CONFIG_CHANGE", "FANOTIFY",
	"TIME_INJOFFSET", "TIME_ADJNTPVAL", "BPF", "EVENT_LISTENER", "CONFIG_CHANGE", "ANOM_LINK", "OBJ_PID", "FD_PAIR", "SECCOMP",
}

// call is the event of a system call.
func (g *toldGen) call(nr int, arch uint32) {
	first := ""
	if g.oneIn(6) {
		first = beside[g.r.IntN(len(beside))]
		if g.oneIn(2) {
			g.kernel(first)
		}
	}
	if !g.oneIn(60) {
		body := g.fields("success", "exit", "a0", "a1", "a2", "a3", "items", "ppid", "pid", "auid", "uid", "gid", "euid", "suid", "fsuid", "egid",
			"sgid", "fsgid", "tty", "ses", "comm", "exe", "subj", "key")
		g.record("SYSCALL", fmt.Sprintf("arch=%x syscall=%d %s", arch, nr, body))
	}
	if first != "" && g.oneIn(2) {
		g.kernel(first)
	}
	if g.oneIn(4) {
		g.record("EXECVE", `argc=2 a0="ls" a1=2D6C61`)
	}
	if g.oneIn(3) {
		g.record("SOCKADDR", g.fields("saddr"))
	}
	if !g.oneIn(5) {
		g.record("CWD", g.fields("cwd"))
	}
	for i := range g.r.IntN(6) {
		body := fmt.Sprintf("item=%d ", i)
		if g.oneIn(12) {
			body += g.fields("name", "nametype")
		} else {
			body += g.fields("name", "inode", "dev", "mode", "ouid", "ogid", "rdev", "obj", "nametype", "cap_fp")
		}
		g.record("PATH", body)
	}
	if !g.oneIn(4) {
		g.record("PROCTITLE", "proctitle=6C73002D6C61")
	}
	if g.oneIn(3) {
		g.record("EOE", "")
	}
}

// log makes n events.
func (g *toldGen) log(n int) string {
	g.b.Reset()
	types := tables.Types()
	calls, calls32 := stockCalls(tables.ArchX86_64), stockCalls(tables.ArchI386)
	for range n {
		g.serial++
		g.node, g.tails = "", g.oneIn(3)
		if g.oneIn(4) {
			g.node = oneOf(g.r, "web1", "db-1.example.com", "n")
		}
		switch {
		case g.oneIn(2):
			if g.oneIn(12) {
				g.call(oneOfInt(g.r, calls32), tables.ArchI386)
				continue
			}
			g.call(oneOfInt(g.r, calls), tables.ArchX86_64)
		default:
			typ := types[g.r.IntN(len(types))]
			switch name := tables.TypeName(typ); {
			case typ == tables.Syscall || typ == tables.EOE || newerType(typ):
				g.message("USER_AUTH")
			case typ >= tables.DaemonStart && typ < tables.FirstUserAnom || typ == tables.Login:
				g.kernel(name)
			default:
				g.message(name)
			}
		}
	}
	return g.b.String()
}

// stockCalls are the system calls that audit 3.0.9 has a name for.
func stockCalls(arch uint32) []int {
	return slices.DeleteFunc(tables.Syscalls(arch), func(nr int) bool { return nr > 450 })
}

func oneOfInt(r *rand.Rand, list []int) int { return list[r.IntN(len(list))] }

// newerType says whether a type has got its name after audit 3.0.9.
func newerType(t uint16) bool {
	return t > tables.Openat2 && t < tables.AVC || t >= tables.IPEAccess && t < tables.AppArmor
}
