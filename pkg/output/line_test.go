package output

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// linesOf writes the events of a log as lines.
func linesOf(t testing.TB, log string, o Config, loc *time.Location) string {
	t.Helper()
	var out bytes.Buffer
	o.Format = FormatLine
	if o.Names == nil {
		o.Names = rootOnly{}
	}
	w := NewWriter(&out, &o, loc)
	for _, ev := range eventtest.Parse([]byte(log)) {
		if err := w.Event(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestLine compares the lines of all logs of the tests with the golden file. Each of its
// lines was read: it says what its records say.
func TestLine(t *testing.T) {
	var all strings.Builder
	for _, file := range []string{
		"pkg/record/testdata/samples.log", "pkg/search/testdata/types.log", "pkg/search/testdata/kernel-raw.log",
		"pkg/record/testdata/kernel-enriched.log", "pkg/search/testdata/fleet.log",
	} {
		log, err := os.ReadFile(need.Source(t, file))
		if err != nil {
			t.Fatal(err)
		}
		lines := linesOf(t, string(log), Config{Milliseconds: strings.Contains(file, "kernel")}, time.UTC)
		if n := len(eventtest.Parse(log)); strings.Count(lines, "\n") != n {
			t.Errorf("%s: %d lines of %d events", file, strings.Count(lines, "\n"), n)
		}
		fmt.Fprintf(&all, "# %s\n%s", file, lines)
	}
	golden.Compare(t, "testdata/line.golden", all.String())
}

const lineCall = "pid=9 auid=1000 uid=0 gid=0 euid=0 tty=pts1 ses=1 comm=\"x\" exe=\"/bin/x\" "

// lineCases are facts that the stock tool's text lacks or has wrong.
var lineCases = []struct{ name, log, want string }{
	{"granted", `type=AVC msg=audit(1.5:7): avc:  granted  { setsecparam } for  pid=77 comm="setenforce" scontext=u:r:t tcontext=s:o:t tclass=security`,
		"- SELinux granted setsecparam on security labelled s:o:t to u:r:t, with setenforce #7"},
	{"names without their separator", `type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=159 success=yes exit=0 items=0 ` + lineCall + `key=(null)ARCH=x86_64 SYSCALL=adjtimex AUID="a"`,
		"1000 as root called adjtimex, with /bin/x on pts1 #7"},
	{"no name", `type=USER_AUTH msg=audit(1.5:7): pid=1 uid=4294967294 auid=-2 ses=1 msg='op=x acct="a" res=success'`, "4294967294 as 4294967294 authenticated as a #7"},
	{"IPE", `type=IPE_ACCESS msg=audit(1.5:7): ipe_op=EXECUTE ipe_hook=MMAP enforcing=1 pid=2241 comm="ld.so" path="/lib/l.so" dev="sda2" ino=1 rule="DEFAULT action=DENY"`,
		"- IPE denied EXECUTE (MMAP) of /lib/l.so by 'DEFAULT action=DENY', with ld.so #7"},
	{"IPE only tells", `type=IPE_ACCESS msg=audit(1.5:7): ipe_op=EXECUTE ipe_hook=EXEC enforcing=0 pid=2241 comm="x" path="/x" dev="sda2" ino=1 rule="DEFAULT action=DENY"`,
		"- IPE would deny, but allowed EXECUTE (EXEC) of /x by 'DEFAULT action=DENY', with x #7"},
	{"IPE allows", `type=IPE_ACCESS msg=audit(1.5:7): ipe_op=EXECUTE ipe_hook=EXEC enforcing=1 pid=2241 comm="x" path="/x" dev="sda2" ino=1 rule="op=EXECUTE action=ALLOW"`,
		"- IPE allowed EXECUTE (EXEC) of /x by 'op=EXECUTE action=ALLOW', with x #7"},
	{"IPE's policy", `type=IPE_CONFIG_CHANGE msg=audit(1.5:7): old_active_pol_name="Allow_All" old_active_pol_version=0.0.0 old_policy_digest=sha256:E3 new_active_pol_name="boot" new_active_pol_version=0.0.1 new_policy_digest=sha256:82 auid=0 ses=3 lsm=ipe res=1`,
		"root switched IPE's policy to boot version 0.0.1 (it was Allow_All) #7"},
	{"IPE's new policy", `type=IPE_POLICY_LOAD msg=audit(1.5:7): policy_name="boot" policy_version=0.0.0 policy_digest=sha256:82 auid=0 ses=3 lsm=ipe res=0`,
		"root failed to load IPE's policy boot version 0.0.0 #7"},
	{"Landlock", `type=LANDLOCK_ACCESS msg=audit(1.5:7): domain=195ba459b blockers=fs.make_reg,fs.refer path="/usr/bin" dev="vda2" ino=351`,
		"- Landlock denied fs.make_reg,fs.refer on /usr/bin, domain 195ba459b #7"},
	{"Landlock of a network", `type=LANDLOCK_ACCESS msg=audit(1.5:7): domain=195ba459b blockers=net.connect_tcp daddr=127.0.0.1 dest=80`,
		"- Landlock denied net.connect_tcp to 127.0.0.1 port 80, domain 195ba459b #7"},
	{"Landlock's domain", `type=LANDLOCK_DOMAIN msg=audit(1.5:7): domain=195ba459b status=allocated mode=enforcing pid=300 uid=0 exe="/root/sandboxer" comm="sandboxer"`,
		"? as root confined itself by the Landlock domain 195ba459b (enforcing), with /root/sandboxer #7"},
	{"Landlock's end", `type=LANDLOCK_DOMAIN msg=audit(1.5:7): domain=195ba459b status=deallocated denials=3`, "- the Landlock domain 195ba459b ended after 3 denials #7"},
	{"removed rule", `type=CONFIG_CHANGE msg=audit(1.5:7): auid=0 ses=1 op=remove_rule key="k" list=4 res=1`, "root removed an audit rule with key k in list exit #7"},
	{"removed software", `type=SOFTWARE_UPDATE msg=audit(1.5:7): pid=1 uid=0 auid=0 ses=1 msg='op=remove sw="a-1" sw_type=rpm root_dir="/" exe="/usr/bin/dnf" res=success'`,
		"root removed a-1 (rpm) in /, with /usr/bin/dnf #7"},
	{"failed login", `type=USER_LOGIN msg=audit(1.5:7): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='op=login acct="bob" exe="/usr/sbin/sshd" hostname=evil.example addr=203.0.113.9 terminal=ssh res=failed'`,
		"system as root failed to log in as bob, with /usr/sbin/sshd, from 203.0.113.9 (evil.example) on ssh #7"},
	{"sudo", `type=USER_CMD msg=audit(1.5:7): pid=1 uid=1000 auid=1000 ses=1 msg='cwd="/root" cmd=6C73202D6C exe="/usr/bin/sudo" terminal=pts/0 res=failed'`,
		"1000 failed to run 'ls -l' in /root, with /usr/bin/sudo on pts/0 #7"},
	{"lost records", `type=DAEMON_ERR msg=audit(1.5:7): op=lost-records cause=socket-overrun records=17 first=10.000 last=20.500 auid=0 pid=1 res=failed`,
		"root lost 17 records (socket-overrun) between 1970-01-01T00:00:10+00:00 and 1970-01-01T00:00:20+00:00 #7"},
	{"lost count", `type=CONFIG_CHANGE msg=audit(1.5:7): op=set lost=0 old=25 auid=0 ses=1 res=1`, "root set the kernel's count of lost records to 0 (it was 25) #7"},
	{"kernel lost", `type=KERNEL msg=audit(1.5:7): audit_lost=25 audit_rate_limit=0 audit_backlog_limit=64`,
		"- the kernel has lost 25 records (rate limit 0, backlog limit 64) #7"},
	{"service", `type=SERVICE_STOP msg=audit(1.5:7): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='unit=cron comm="systemd" exe="/lib/systemd/systemd" res=success'`,
		"system as root stopped the service cron, with /lib/systemd/systemd #7"},
	{"user", `type=ADD_USER msg=audit(1.5:7): pid=1 uid=0 auid=1000 ses=7 msg='op=adding user id=4001 exe="/usr/sbin/useradd" hostname=? addr=? terminal=? res=success'`,
		"1000 as root added the user 4001 (adding user), with /usr/sbin/useradd #7"},
	{"password", `type=USER_CHAUTHTOK msg=audit(1.5:7): pid=1 uid=0 auid=1000 ses=7 msg='op=PAM:chauthtok acct="z" exe="/usr/bin/passwd" res=failed'`,
		"1000 as root failed to change the password of z, with /usr/bin/passwd #7"},
	{"refused sender", `type=DAEMON_ACCEPT msg=audit(1.5:7): op=wrap addr=192.0.2.9 port=60 res=no`, "- the audit daemon refused the sender 192.0.2.9 port 60 (wrap) #7"},
	{"noted", `type=DAEMON_ERR msg=audit(1.5:7): op=two-addresses host=a addr=192.0.2.9 old-addr=192.0.2.8 omitted=0 informative=yes res=success`,
		"- the audit daemon noted: two-addresses host a address 192.0.2.9 before 192.0.2.8 omitted 0 #7"},
	{"no login told", "type=ANOM_LINK msg=audit(1.5:7): op=linkat uid=5 comm=\"ln\" exe=\"/bin/ln\" res=0", "? as 5 failed to use a suspicious link (linkat), with /bin/ln #7"},
	{"arguments", "type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=59 success=yes exit=0 a0=0 a1=0 a2=0 a3=0 items=1 " + lineCall + "key=6101622063\n" +
		"type=EXECVE msg=audit(1.5:7): argc=5 a0=\"sh\" a1=\"-c\" a2_len=8 a2[0]=6563686F a2[1]=2061 a3=\"\" a4=69742773\n" +
		"type=CWD msg=audit(1.5:7): cwd=\"/home\"\ntype=PATH msg=audit(1.5:7): item=0 name=\"../bin/x\" inode=1 nametype=NORMAL",
		`1000 as root ran /bin/x -c 'echo a' '' "it's" (called sh) on pts1, key a,'b c' #7`},
	{"arguments lost", "type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=59 success=no exit=-13 items=1 " + lineCall + "key=(null)\n" +
		"type=EXECVE msg=audit(1.5:7): argc=900 a0=\"rm\" a1=\"-rf\"\ntype=PATH msg=audit(1.5:7): item=0 name=\"/bin/rm\" inode=1 nametype=NORMAL",
		"1000 as root failed to run /bin/rm -rf ...(+898 arguments): Permission denied, with /bin/x on pts1 #7"},
	{"connect", "type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=42 success=no exit=-111 items=0 " + lineCall + "\n" +
		"type=SOCKADDR msg=audit(1.5:7): saddr=0A0001BB0000000020010DB800000000000000000000004200000000\x1dSADDR={ saddr_fam=inet6 laddr=2001:db8::42 lport=443 }",
		"1000 as root failed to connect to [2001:db8::42]:443: Connection refused, with /bin/x on pts1 #7"},
	{"denied call", "type=AVC msg=audit(1.5:7): avc:  denied  { read } for  pid=9 comm=\"x\" name=\"f\" dev=\"sda\" ino=1 scontext=u:r:t tcontext=s:o:t tclass=file permissive=1\n" +
		"type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=1 a2=241 a3=1b6 items=2 " + lineCall + "\n" +
		"type=CWD msg=audit(1.5:7): cwd=\"/d\"\ntype=PATH msg=audit(1.5:7): item=0 name=\"/d\" nametype=PARENT\ntype=PATH msg=audit(1.5:7): item=1 name=\"f\" nametype=CREATE",
		"1000 as root created /d/f for writing (SELinux denied read on file f labelled s:o:t to u:r:t, but let it happen: it is permissive), with /bin/x on pts1 #7"},
	{"descriptor", "type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=263 success=yes exit=0 a0=5 a1=1 a2=0 items=2 " + lineCall + "\n" +
		"type=CWD msg=audit(1.5:7): cwd=\"/d\"\ntype=PATH msg=audit(1.5:7): item=0 name=\"f\" nametype=DELETE", "1000 as root deleted f below descriptor 5, with /bin/x on pts1 #7"},
	{"no SYSCALL", "type=CWD msg=audit(1.5:7): cwd=\"/d\"\ntype=PATH msg=audit(1.5:7): item=0 name=\"f\" nametype=NORMAL",
		"- did something that its records do not say: CWD cwd=/d, PATH /d/f #7"},
}

func TestLineCases(t *testing.T) {
	for _, c := range lineCases {
		got := strings.Join(strings.Fields(linesOf(t, c.log+"\n", Config{}, time.UTC)), " ")
		if want := "1970-01-01T00:00:01+00:00 " + c.want; got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

// TestLineColumns says how a line begins: time, zone, host and who, in columns.
func TestLineColumns(t *testing.T) {
	const log = "node=web1 type=USER_END msg=audit(1700000000.007:45): pid=1 uid=0 auid=0 msg='res=1'\n"
	zone := time.FixedZone("X", -5400)
	for want, o := range map[string]Config{
		"2023-11-14T20:43:20-01:30 web1   root           ended a session #45\n":                              {},
		"2023-11-14T20:43:20.007-01:30 web1   root           ended a session #45\n":                          {Milliseconds: true},
		"\x1b[36m2023-11-14T20:43:20-01:30\x1b[0m web1   root           ended a session \x1b[2m#45\x1b[0m\n": {Color: true},
	} {
		if got := linesOf(t, log, o, zone); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	ev := eventtest.Parse([]byte(log[len("node=web1 "):]))[0]
	for want, from := range map[string]*event.Sender{
		" root ": nil, " web9   root ": {Host: "web9"}, " 192.0.2.1 root ": {Addr: netip.MustParseAddr("192.0.2.1")},
	} {
		ev.From = from
		f := newLineFormat(&Config{Names: rootOnly{}}, time.UTC)
		if got := string(f.Append(nil, ev)); !strings.Contains(got, want) {
			t.Errorf("%q has no %q", got, want)
		}
		f.Mark(from == nil)
		if got := string(f.Append(nil, ev)); strings.HasPrefix(got, "* 2023") != (from == nil) || strings.HasPrefix(got, "  2023") != (from != nil) {
			t.Errorf("the mark of %q", got)
		}
	}
}

// TestLineIsOneLine writes odd values: each event is one line, of no more than it may be
// long, and nothing in it controls a terminal.
func TestLineIsOneLine(t *testing.T) {
	rng := rand.New(rand.NewPCG(need.Seed(t), 77))
	long := strings.Repeat("日本x", 300_000) // more than 1 MB
	odd := func() string {
		if rng.IntN(500) == 0 {
			return long
		}
		var b strings.Builder
		for range rng.IntN(5) {
			b.WriteString(oddParts[rng.IntN(len(oddParts))])
		}
		return b.String()
	}
	for range need.Rounds(1000, 200) {
		log := fmt.Sprintf("node=%s type=SYSCALL msg=audit(1.5:7): arch=c000003e syscall=59 success=yes exit=0 items=1 auid=0 uid=0 comm=%X exe=%X key=%X\n"+
			"type=EXECVE msg=audit(1.5:7): argc=3 a0=%X a1=%X a2=%X\ntype=CWD msg=audit(1.5:7): cwd=%X\ntype=PATH msg=audit(1.5:7): item=0 name=%X nametype=NORMAL\n"+
			"type=USER_CMD msg=audit(1.5:8): pid=1 uid=0 msg='op=%s cmd=%X exe=%X hostname=%s addr=%s terminal=%s res=failed'\n"+
			"type=UNKNOWN[1999] msg=audit(1.5:9): a=%s b=\"%s\"\n",
			"h\x1b[2J", odd(), odd(), odd(), odd(), odd(), odd(), odd(), odd(), "\u202e\x07", odd(), odd(), "\x9b1m", "a\u200fb", "\x1b]0;x\x07", "\x1b[1m", "\u2066x")
		got := linesOf(t, log, Config{}, time.UTC)
		if n := len(eventtest.Parse([]byte(log))); strings.Count(got, "\n") != n {
			t.Fatalf("%.2000q: %d lines of %d events", log, strings.Count(got, "\n"), n)
		}
		for line := range strings.Lines(got) {
			if line = strings.TrimSuffix(line, "\n"); terminal.Clean(line) != line || !utf8.ValidString(line) || len(line) > 60_000 {
				t.Fatalf("%d bytes: %.3000q", len(line), line)
			}
		}
	}
}

// FuzzLine writes whatever a log holds.
func FuzzLine(f *testing.F) {
	for _, c := range lineCases {
		f.Add([]byte(c.log))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		got := linesOf(t, string(log), Config{Milliseconds: true}, time.UTC)
		if n := len(eventtest.Parse(log)); strings.Count(got, "\n") != n {
			t.Errorf("%d lines of %d events: %q", strings.Count(got, "\n"), n, got)
		}
		if clean := terminal.Clean(strings.ReplaceAll(got, "\n", "")); clean != strings.ReplaceAll(got, "\n", "") {
			t.Errorf("a terminal would obey %q", got)
		}
	})
}

func TestAppendQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"": "''", "/bin/a-b_c.d:e,f+g@h%i=j^": "/bin/a-b_c.d:e,f+g@h%i=j^", "a b": "'a b'", "a'b": `"a'b"`, `a'"b`: `$'a\'"b'`, "a'$b": `$'a\'$b'`,
		"a\nb": `$'a\012b'`, "\xff": `$'\377'`, "ü✓日本": "ü✓日本", "a\u00a0b": "'a\u00a0b'", "\u3000": "'\u3000'", "\u202e": `$'\342\200\256'`, "a\\b": `'a\b'`,
		"a\\\x01": `$'a\\\001'`, "~": "'~'", "#x": "'#x'", "*": "'*'", strings.Repeat("é", 20): strings.Repeat("é", 15) + "...(+10 bytes)",
		"x" + strings.Repeat("é", 20): "x" + strings.Repeat("é", 14) + "...(+12 bytes)",
	} {
		if got := string(appendQuoted(nil, []byte(text), 30)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func BenchmarkLineFormat(b *testing.B) {
	events := eventtest.Read(b, "../search/testdata/kernel-raw.log")
	size := 0
	for _, ev := range events {
		for i := range ev.Records {
			size += len(ev.Records[i].Raw) + 1
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	f := newLineFormat(&Config{Names: rootOnly{}}, time.UTC)
	var text []byte
	for b.Loop() {
		for _, ev := range events {
			text = f.Append(text[:0], ev)
		}
	}
}
