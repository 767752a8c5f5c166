package cli

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// pick is one of a list.
func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// oddLog makes whole events, by turns of two senders, with odd times, serials and names, types twice and as numbers, names in
// their tails that are none, and fields twice.
func oddLog(r *rand.Rand, n int) *sameLog {
	l := &sameLog{}
	nodes := []string{"", "web1", "WEB1", "web1.", strings.Repeat("n", 300), "a\x01b", "\xff\xfe", "web[1]", "*", "(names of others)", "x=y", "10.0.0.1"}
	now := int64(1_795_000_000_000)
	for i := range n {
		now += int64(r.IntN(20000))
		ms := now
		switch r.IntN(12) {
		case 0:
			ms = pick(r, int64(0), 1, 59_999, 60_000, 3_599_999, 3_600_000, 3_600_001, 1_000_000_000_000)
		case 1:
			ms = now / 60000 * 60000
		case 2:
			ms = now/3600000*3600000 - 1
		}
		serial := uint64(100 + i)
		if r.IntN(10) == 0 {
			serial = pick(r, uint64(0), 1<<63, 1<<64-1000, 1<<32) + uint64(i)
		}
		host := r.IntN(2)
		node := nodes[r.IntN(len(nodes))]
		if r.IntN(2) == 0 {
			node = "web1"
		}
		head := ""
		if node != "" {
			head = "node=" + node + " "
		}
		if head == "" {
			head = pick(r, "node=web2 ", "Nov 28 14:04:05 web9 audispd: ", "Nov 28 14:04:05 web9 kernel: [ 12.3] audit: ")
		}
		stamp := fmt.Sprintf("msg=audit(%d.%03d:%d):", ms/1000, ms%1000, serial)
		tail := ""
		if r.IntN(2) == 0 {
			tail = "\x1d" + pick(r, `UID="root" AUID="unset"`, `AUID="alice"`, `AUID="bob" UID="unknown(0)"`, `AUID="al ice" GID="x"`, `UID=`, `AUID=""`, `ARCH=x86_64 SYSCALL=openat AUID="root" UID="root" GID="root" EUID="e" SUID="s" FSUID="f" EGID="eg"`, "AUID=\"a\x00b\"")
		}
		var lines []string
		switch r.IntN(6) {
		case 0, 1:
			lines = []string{fmt.Sprintf("%stype=%s %s pid=%d uid=%s auid=%s ses=%s msg='op=login acct=\"%s\" exe=\"%s\" hostname=%s addr=%s terminal=%s res=%s'%s", head,
				pick(r, "USER_LOGIN", "USER_AUTH", "USER_CMD", "CRED_ACQ", "1112", "UNKNOWN[1199]"), stamp, r.IntN(9), pick(r, "0", "1000", "-1", "4294967295", "?"), pick(r, "0", "1000", "4294967295", "-1", "1001"), pick(r, "1", "4294967295"),
				pick(r, "root", "alice", "(unknown)", "a b"), pick(r, "/usr/bin/login", "/x", "?"), pick(r, "?", "h1", ""), pick(r, "?", "10.1.1.1", "::1"), pick(r, "ssh", "?", "pts/1"), pick(r, "success", "failed", "1", "0", "3"), tail)}
		case 2:
			lines = []string{head + "type=" + pick(r, "USER_AVC", "SYSTEM_BOOT", "DAEMON_START", "DAEMON_CONFIG", "CONFIG_CHANGE", "USER") + " " + stamp + pick(r, " ", "  ", " auid=1000 pid=4 ", " op=x auid=0 auid=1001 res=1 res=0 ") + tail}
		default:
			call := fmt.Sprintf("%stype=SYSCALL %s arch=%s syscall=%d success=%s exit=%s a0=0 items=2 ppid=1 pid=%d auid=%s uid=%s gid=0 euid=%s egid=0 tty=pts0 ses=2 comm=%s exe=%s key=%s%s", head, stamp,
				pick(r, "c000003e", "40000003", "ffffffff"), pick(r, 59, 2, 257, -1, 999), pick(r, "yes", "no"), pick(r, "0", "-13", "-2", "99999999999"), r.IntN(9), pick(r, "0", "1000", "4294967295", "-1"), pick(r, "0", "1000"), pick(r, "0", "1001"),
				pick(r, `"ls"`, "6C73", `"l s"`, "(null)"), pick(r, `"/bin/ls"`, "2F62696E2F6C73", "(null)"), pick(r, `"k1"`, "(null)", "6B31016B32", "6B31016B31", `"k1"`), tail)
			lines = append(lines, call)
			if r.IntN(3) == 0 {
				lines = append(lines, call)
			}
			for range r.IntN(4) {
				lines = append(lines, fmt.Sprintf("%stype=%s %s %s%s", head, pick(r, "PATH", "CWD", "PATH", "AVC", "EXECVE", "SOCKADDR", "SYSCALL"), stamp, pick(r, `item=0 name="/etc/passwd" inode=1 ouid=0 ogid=0 objtype=NORMAL`, `cwd="/root"`, `name="./x"`, `argc=1 a0="ls"`, `avc:  denied  { read } for  pid=3 comm="c" scontext=u:r:t tcontext=u:o:t tclass=file`, `saddr=0200003511223344`, `pid=77 auid=1001 uid=1 success=no exit=1`), tail))
			}
			lines = append(lines, head+"type=PROCTITLE "+stamp+" proctitle="+pick(r, `"ls"`, "6C730061"))
		}
		for _, line := range lines {
			l.sent = append(l.sent, sentLine{host, i, line})
		}
	}
	return l
}

// Times of all sizes and in no order, and names that need care, are answered alike by a file and a store.
func TestOddFileIsStore(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	seed := need.Seed(t)
	c := &sameRun{t: t, known: map[string]int{}, told: map[string]bool{}}
	for i := range need.Rounds(6, 1) {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		c.log(fmt.Sprint("odd ", i), oddLog(r, 120), r)
	}
	if c.found < c.asked/4 {
		t.Errorf("only %d of %d answers had anything: they show little", c.found, c.asked)
	}
}
