// Package madelog makes logs for tests that compare this project with the stock
// tools: events of all kinds, with values that are hard to read.
package madelog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// logGen makes logs of records as kernels, daemons and programs lay them out, of
// all the kinds that reports are about.
type logGen struct {
	r      *rand.Rand
	w      strings.Builder
	sec    int64
	ms     int
	serial int
	node   string
	rich   bool // with enriched tails
}

func one[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func (g *logGen) chance(n int) bool { return g.r.IntN(n) == 0 }

// event starts the next event.
func (g *logGen) event() {
	g.serial++
	g.ms += g.r.IntN(700)
	g.sec, g.ms = g.sec+int64(g.ms/1000), g.ms%1000
	if g.chance(40) {
		g.sec += int64(g.r.IntN(4000))
	}
}

// rec writes a record, with a tail where the log has them.
func (g *logGen) rec(typ, body string, tail ...string) {
	if g.node != "" {
		g.w.WriteString("node=" + g.node + " ")
	}
	fmt.Fprintf(&g.w, "type=%s msg=audit(%d.%03d:%d): %s", typ, g.sec, g.ms, g.serial, body)
	tail = slices.DeleteFunc(tail, func(t string) bool { // a daemon names what is there
		name, _, _ := strings.Cut(strings.ToLower(t), "=")
		return !strings.Contains(body, name+"=")
	})
	if g.rich && len(tail) > 0 {
		g.w.WriteString("\x1d" + strings.Join(tail, " "))
	}
	g.w.WriteByte('\n')
}

func (g *logGen) id() string {
	return one(g.r, "0", "1000", "1001", "4294967295", "33", "65534", "4711")
}

func (g *logGen) auid() string {
	return one(g.r, "1000", "1001", "4294967295", "4294967295", "0", "4711")
}

// untrusted is a string as the kernel writes one that a program chose.
func (g *logGen) untrusted() string {
	s := one(g.r, "bash", "cat", "sshd", "x", "a b", "we\"ird", "tab\there", "new\nline", "ünï", "[k]", "it's", "DEAD", "$(x)", "kworker/0:1")
	return quote(s)
}

func quote(s string) string {
	for _, c := range []byte(s) {
		if c < 0x21 || c > 0x7e || c == '"' {
			return strings.ToUpper(fmt.Sprintf("%x", s))
		}
	}
	return `"` + s + `"`
}

func (g *logGen) exe() string {
	return quote(one(g.r, "/usr/bin/bash", "/usr/sbin/sshd", "/usr/bin/cat", "/opt/a b/run", "/usr/lib/x;y", "/tmp/ü", "/usr/bin/sudo"))
}

func (g *logGen) path() string {
	return one(g.r, quote(one(g.r, "/etc/passwd", "/etc/shadow", "./here", "../up", "rel", ".", "/srv/with space", "/tmp/new\nline", "-dash")),
		"(null)", quote("/home/x/.ssh"))
}

func (g *logGen) context() string {
	return one(g.r, "system_u:system_r:init_t:s0", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", "a:b:c", "unconfined")
}

func (g *logGen) tty() string   { return one(g.r, "pts0", "(none)", "tty1", "pts12") }
func (g *logGen) yesNo() string { return one(g.r, "yes", "yes", "no") }

func (g *logGen) keys() string {
	return one(g.r, "(null)", "(null)", `"time-change"`, `"identity"`, quote("two words"), quote("k1\x01k2"), quote("k2\x01k3\x01k1"), quote("stray quote")+`"`)
}

// syscall writes the SYSCALL record of an event.
func (g *logGen) syscall(nr string) {
	arch := one(g.r, "c000003e", "c000003e", "c000003e", "40000003", "c00000b7", "c0000015", "deadbeef")
	auid, uid := g.auid(), g.id()
	success := "success=" + g.yesNo() + " exit=" + one(g.r, "0", "3", "-13", "-2") + " "
	if g.chance(12) {
		success = "" // exit_group
	}
	g.rec("SYSCALL", fmt.Sprintf("arch=%s syscall=%s %sa0=ffffff9c a1=7ffd a2=80000 a3=0 items=1 ppid=%d pid=%d auid=%s uid=%s gid=0 euid=0 "+
		"suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=%s ses=%s comm=%s exe=%s subj=%s key=%s",
		arch, nr, success, g.r.IntN(5000), g.pid(), auid, uid, g.tty(), one(g.r, "1", "7", "4294967295"),
		g.untrusted(), g.exe(), g.context(), g.keys()),
		"ARCH="+archName(arch), "SYSCALL="+callName(arch, nr), g.nameOf("AUID", auid), g.nameOf("UID", uid))
}

func archName(arch string) string {
	n, _ := strconv.ParseUint(arch, 16, 32)
	if name, ok := tables.ArchName(uint32(n)); ok {
		return name
	}
	return "unknown-elf-type(" + arch + ")"
}

// callName is a system call's name as a daemon adds it.
func callName(arch, nr string) string {
	a, _ := strconv.ParseUint(arch, 16, 32)
	n, _ := strconv.Atoi(nr)
	if name, ok := tables.SyscallName(uint32(a), n); ok {
		return name
	}
	return "unknown-syscall(" + nr + ")"
}

func (g *logGen) pid() int { return one(g.r, 1, 77, 812, 2000+g.r.IntN(40), 2000+g.r.IntN(40)) }

func (g *logGen) nameOf(field, id string) string {
	return field + "=" + map[string]string{
		"0": `"root"`, "1000": `"alice"`, "4294967295": `"unset"`, "4711": `"unknown(4711)"`, "1001": "622062", "33": `"www-data"`,
		"65534": `"nobody"`,
	}[id]
}

func (g *logGen) nr() string {
	return one(g.r, "257", "59", "42", "2", "87", "1", "102", "117", "54", "49", "300", "439", "-1", "9999")
}

// call writes a system call with what belongs to it.
func (g *logGen) call() {
	g.event()
	g.syscall(g.nr())
	if g.chance(3) {
		g.rec("SOCKADDR", "saddr="+g.saddr())
	}
	if !g.chance(4) {
		g.rec("CWD", "cwd="+quote(one(g.r, "/root", "/home/a b", "/")))
		for range 1 + g.r.IntN(3) {
			g.rec("PATH", fmt.Sprintf("item=0 name=%s inode=5 dev=08:01 mode=0100644 ouid=0 ogid=0 rdev=00:00 obj=%s nametype=%s",
				g.path(), g.context(), one(g.r, "PARENT", "NORMAL", "CREATE", "DELETE", "PARENT cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0")))
		}
	}
	if g.chance(3) {
		g.rec("PROCTITLE", "proctitle=6C73002D6C")
	}
	if g.chance(4) {
		g.rec("EOE", "")
	}
}

func (g *logGen) saddr() string {
	return one(g.r, "020001BBC6336419000000000000000000", "0200003500000000"+"0000000000000000",
		"0A0001BB0000000020010DB800000000000000000000004200000000", "01002F72756E2F6C6F672E736F636B00", "0100006162737472616374",
		"100000000000000000000000", "01002F746D702F612062")
}

// avc writes a decision of SELinux, alone or with its system call.
func (g *logGen) avc() {
	g.event()
	for range 1 + g.r.IntN(2) {
		g.rec("AVC", fmt.Sprintf(`avc:  %s  { %s } for  pid=%d comm=%s %sdev="sda1" ino=5 scontext=%s tcontext=%s tclass=%s%s`,
			one(g.r, "denied", "granted"), one(g.r, "read", "read write", "open"), g.pid(), g.untrusted(),
			one(g.r, "", `name="x" `, `path="/srv/x" `, "path=2F612062 "), g.context(), g.context(), one(g.r, "file", "dir", "unix_stream_socket"),
			one(g.r, "", " permissive=0", " permissive=1")))
	}
	if !g.chance(3) {
		g.syscall(g.nr())
	}
}

// user writes a record as programs send them.
func (g *logGen) user(typ, words string) {
	g.event()
	auid, uid := g.auid(), g.id()
	g.rec(typ, fmt.Sprintf(`pid=%d uid=%s auid=%s ses=%s subj=%s msg='%s exe=%s hostname=%s addr=%s terminal=%s res=%s'`,
		g.pid(), uid, auid, one(g.r, "1", "4294967295"), g.context(), words, g.exe(), one(g.r, "?", "h1", "203.0.113.9", "host.example"),
		one(g.r, "?", "203.0.113.9", "2001:db8::1"), one(g.r, "?", "ssh", "pts/0", "/dev/tty1"), one(g.r, "success", "success", "failed", "1", "0")),
		g.nameOf("UID", uid), g.nameOf("AUID", auid))
}

func (g *logGen) acct() string {
	return "acct=" + one(g.r, `"root"`, `"bob"`, "28756E6B6E6F776E207573657229", `"alice"`, quote("ev il"))
}

func (g *logGen) login() {
	switch g.r.IntN(8) {
	case 0:
		g.user("USER_LOGIN", "op=login id="+g.id())
	case 1, 2:
		g.user("USER_LOGIN", "op=login "+g.acct())
	case 3:
		g.user("USER_AUTH", "op=PAM:authentication grantors=pam_unix "+g.acct())
	case 4:
		g.user("USER_AUTH", "op=PAM:authentication grantors=?")
	case 5:
		g.user(one(g.r, "USER_MGMT", "GRP_MGMT", "GRP_AUTH"), "op=change id="+g.id()+" "+g.acct())
	case 6:
		g.user(one(g.r, "USER_START", "CRED_ACQ", "USER_CMD", "USER_LOGOUT"), "op=PAM:session_open "+g.acct())
	default:
		g.event()
		g.rec("LOGIN", one(g.r,
			"pid=2002 uid=0 subj=s_t old-auid=4294967295 auid=1001 tty=(none) old-ses=4294967295 ses=8 res=1",
			"pid=2003 uid=0 old auid=4294967295 new auid=1000 old ses=4294967295 new ses=3 res="+one(g.r, "1", "0"),
			"login pid=2004 uid=0 old auid=4294967295 new auid=0 old ses=4294967295 new ses=9"))
	}
}

func (g *logGen) program() {
	g.user(one(g.r, "ADD_USER", "DEL_USER", "ADD_GROUP", "DEL_GROUP", "USER_CHAUTHTOK", "ROLE_ASSIGN", "ROLE_REMOVE", "USER_ROLE_CHANGE",
		"LABEL_LEVEL_CHANGE", "USER_MAC_CONFIG_CHANGE", "USYS_CONFIG", "CRYPTO_SESSION", "CRYPTO_KEY_USER", "CRYPTO_LOGIN", "VIRT_CONTROL",
		"VIRT_MACHINE_ID", "VIRT_RESOURCE", "RESP_ACCT_LOCK", "RESP_KILL_PROC", "ANOM_LOGIN_FAILURES", "ANOM_ACCESS_FS", "SERVICE_START", "USER",
		"SYSTEM_BOOT", "SOFTWARE_UPDATE", "CHGRP_ID"),
		one(g.r, "op=x "+g.acct(), "op=y id=33", `virt=kvm vm="g1" uuid=6f2b6a1e-0000-4000-8000-000000000001 new-disk="/var/img.qcow2"`,
			`virt=kvm vm="g1" vm-ctx=a:b:c img-ctx=d:e:f uuid=6f2b6a1e-0000-4000-8000-000000000001 path="/dev/kvm" class=x`, "op=z comm=\"tool\""))
}

func (g *logGen) kernel() {
	g.event()
	auid := g.auid()
	tail := g.nameOf("AUID", auid)
	task := func() string {
		return fmt.Sprintf("ppid=1 pid=%d auid=%s uid=%s gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=%s ses=1 comm=%s exe=%s subj=%s",
			g.pid(), auid, g.id(), g.tty(), g.untrusted(), g.exe(), g.context())
	}
	switch g.r.IntN(14) {
	case 0, 1:
		g.rec("CONFIG_CHANGE", one(g.r, "auid="+auid+" ses=1 subj=u op=add_rule key="+g.keys()+" list=4 res="+one(g.r, "1", "0"),
			"op=updated_rules path=\"/etc/x\" key=\"w\" list=4 res=1", "audit_backlog_limit=8192 old=64 auid="+auid+" ses=4294967295 res=1"), tail)
	case 2:
		g.rec(one(g.r, "MAC_POLICY_LOAD", "MAC_STATUS", "MAC_CONFIG_CHANGE", "MAC_UNLBL_ALLOW", "MAC_CIPSOV4_ADD", "MAC_CIPSOV4_DEL",
			"MAC_MAP_ADD", "MAC_MAP_DEL", "MAC_IPSEC_ADDSA", "MAC_IPSEC_DELSA", "MAC_UNLBL_STCADD", "MAC_UNLBL_STCDEL"),
			"op=x auid="+auid+" ses=1"+one(g.r, "", " res=1", " res=0"), tail)
	case 3:
		g.rec("SECCOMP", fmt.Sprintf("auid=%s uid=1001 gid=0 ses=4 subj=u pid=%d comm=%s exe=%s sig=31 arch=c000003e syscall=%s compat=0 ip=0x7f code=0x0",
			auid, g.pid(), g.untrusted(), g.exe(), g.nr()), tail)
	case 4:
		g.rec("ANOM_ABEND", fmt.Sprintf("auid=%s uid=1001 gid=0 ses=4 subj=u pid=%d comm=%s %ssig=11 res=1", auid, g.pid(), g.untrusted(),
			one(g.r, "", "exe="+g.exe()+" ")), tail)
	case 5:
		g.rec("ANOM_PROMISCUOUS", "dev=lo prom=256 old_prom=0 auid="+auid+" uid=0 gid=0 ses=4", tail)
		if g.chance(2) {
			g.syscall("54")
		}
	case 6:
		g.rec("ANOM_LINK", "op=linkat "+task()+" res=0", tail)
		g.rec("PATH", "item=0 name="+g.path()+" inode=1 nametype=NORMAL")
	case 7:
		g.rec("FEATURE_CHANGE", task()+" feature=loginuid_immutable old=0 new=1 old_lock=0 new_lock=0 res="+one(g.r, "0", "1"), tail)
	case 8:
		g.rec(one(g.r, "INTEGRITY_DATA", "INTEGRITY_METADATA", "INTEGRITY_HASH", "INTEGRITY_PCR"), fmt.Sprintf(
			"pid=%d uid=0 auid=%s ses=4 subj=u op=appraise_data cause=invalid-hash comm=%s name=%s dev=\"sda1\" ino=5 res=%s",
			g.pid(), auid, g.untrusted(), quote("/usr/bin/evil"), one(g.r, "0", "1")), tail)
	case 9:
		g.rec("NETFILTER_CFG", fmt.Sprintf("table=nat:3 family=2 entries=1 op=nft_register_chain pid=%d subj=u comm=\"nft\"", g.pid()))
		if g.chance(2) {
			g.syscall("46")
		}
	case 10:
		g.rec("TTY", fmt.Sprintf("tty pid=%d uid=1000 auid=%s ses=12 major=136 minor=0 comm=%s data=%s", g.pid(), auid, g.untrusted(),
			one(g.r, "6C730D", "1B5B41", "616263220D7F", "03", "C3BC0D")), tail)
	case 11:
		g.rec("USER_TTY", fmt.Sprintf("pid=%d uid=1000 auid=%s ses=12 subj=u data=%s", g.pid(), auid, one(g.r, "6C732061", `"ls"`)), tail)
	case 12:
		g.rec("NETFILTER_PKT", "mark=0x0 saddr=192.0.2.55 daddr=192.0.2.1 proto=6 obj=a:b:c")
	default:
		g.rec("KERNEL", "initialized")
	}
}

func (g *logGen) daemon() {
	g.event()
	auid := g.auid()
	g.rec(one(g.r, "DAEMON_START", "DAEMON_CONFIG", "DAEMON_ROTATE", "DAEMON_RESUME"), fmt.Sprintf(
		"op=x ver=3.0.9 format=enriched kernel=6.1 auid=%s pid=%d uid=0 ses=4294967295 subj=u res=%s", auid, g.pid(), one(g.r, "success", "failed")),
		g.nameOf("AUID", auid))
	if g.chance(3) {
		g.event()
		g.rec(one(g.r, "DAEMON_ACCEPT", "DAEMON_CLOSE"), "addr="+one(g.r, "192.0.2.9:60", "192.0.2.10")+" port=4000 res=success")
	}
}

// Log returns a log of about n events. In every other one the records of
// neighbouring events are mixed, as those of several processors come.
func Log(r *rand.Rand, n int) string {
	log := InOrder(r, n)
	if r.IntN(2) == 0 {
		return log
	}
	lines := strings.SplitAfter(log, "\n")
	for i := range lines {
		if j := i + r.IntN(3); j < len(lines) && lines[j] != "" && lines[i] != "" {
			lines[i], lines[j] = lines[j], lines[i]
		}
	}
	return strings.Join(lines, "")
}

// InOrder returns a log of about n events, one after the other.
func InOrder(r *rand.Rand, n int) string {
	g := &logGen{r: r, sec: 1_600_000_000 + int64(r.IntN(100_000_000)), rich: r.IntN(2) == 0}
	nodes := one(r, []string{""}, []string{"n1"}, []string{"n1", "n2.example"}, []string{"", "n1"})
	for range n {
		g.node = one(r, nodes...)
		switch r.IntN(14) {
		case 0, 1, 2, 3, 4:
			g.call()
		case 5:
			g.avc()
		case 6, 7, 8:
			g.login()
		case 9, 10:
			g.program()
		case 11, 12:
			g.kernel()
		default:
			g.daemon()
		}
	}
	return g.w.String()
}
