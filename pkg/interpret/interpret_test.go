package interpret

import (
	"bytes"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// fakeNames are accounts that do not depend on the machine.
type fakeNames struct{}

func (fakeNames) User(uid uint32) (string, bool) {
	name, ok := map[uint32]string{0: "root", 1000: "alice", 1001: "bob"}[uid]
	return name, ok
}

func (fakeNames) Group(gid uint32) (string, bool) {
	name, ok := map[uint32]string{0: "root", 100: "users"}[gid]
	return name, ok
}

func (fakeNames) Protocol(n uint16) (string, bool) { return "tcp", n == 6 }

func parsed(t testing.TB, line string) *record.Record {
	t.Helper()
	var r record.Record
	if err := r.Parse([]byte(line)); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return &r
}

const exampleSyscall = `type=SYSCALL msg=audit(1700000000.123:45): arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7ffc a2=241 ` +
	`a3=1b6 items=1 ppid=10 pid=901 auid=1000 uid=1001 gid=100 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=4294967295 ` +
	`comm="cat" exe="/usr/bin/cat" subj=a:b key=6101620163`

func TestAppendBody(t *testing.T) {
	const want = `arch=x86_64 syscall=openat success=no exit=EACCES(Permission denied) a0=AT_FDCWD a1=0x7ffc a2=O_WRONLY|O_CREAT|O_TRUNC ` +
		`a3=0x1b6 items=1 ppid=10 pid=901 auid=alice uid=bob gid=users euid=root suid=root fsuid=root egid=root sgid=root fsgid=root ` +
		`tty=pts0 ses=unset comm=cat exe=/usr/bin/cat subj=a:b key=a key=b key=c `
	in := New(Config{Names: fakeNames{}})
	if got := in.AppendBody([]byte("x"), parsed(t, exampleSyscall)); string(got) != "x"+want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestAppendValue(t *testing.T) {
	in := New(Config{Names: fakeNames{}})
	for _, c := range []struct{ line, field, want string }{
		{exampleSyscall, "syscall", "openat"},
		{exampleSyscall, "a2", "O_WRONLY|O_CREAT|O_TRUNC"},
		{exampleSyscall, "auid", "alice"},
		{exampleSyscall, "comm", "cat"},
		{exampleSyscall, "key", "a\x01b\x01c"},
		{exampleSyscall, "pid", "901"},
		{exampleSyscall + "\x1dAUID=\"carol\" SYSCALL=open", "auid", "carol"},
		{exampleSyscall + "\x1dAUID=\"carol\" SYSCALL=open", "syscall", "open"},
		{`type=SYSCALL msg=audit(1.000:1): arch=40000003 syscall=102 a0=3`, "syscall", "socketcall(connect)"},
		{`type=PATH msg=audit(1.000:1): item=0 name="a,b c" mode=0100644`, "name", "a,b c"},
		{`type=PATH msg=audit(1.000:1): item=0 name=2F612062 mode=0104755`, "name", "/a b"},
		{`type=PATH msg=audit(1.000:1): item=0 name=2F612062 mode=0104755`, "mode", "file,suid,755"},
		{`type=EXECVE msg=audit(1.000:1): argc=1 a0=6C73`, "a0", "ls"},
		{`type=USER_CMD msg=audit(1.000:1): acct=bob`, "acct", "bob"},
	} {
		r := parsed(t, c.line)
		f, ok := r.Get(c.field)
		if !ok {
			t.Fatalf("%q has no %s", c.line, c.field)
		}
		if got := in.AppendValue(nil, r, f); string(got) != c.want {
			t.Errorf("%s of %q is %q, want %q", c.field, c.line, got, c.want)
		}
	}
}

// TestNoNames leaves ids as numbers.
func TestNoNames(t *testing.T) {
	in := New(Config{})
	got := in.AppendBody(nil, parsed(t, "type=PATH msg=audit(1.000:1): ouid=1000 ogid=0 oauid=4294967295"))
	if want := "ouid=unknown(1000) ogid=root oauid=unset "; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		s    string
		base uint64
		want uint64
		ok   bool
	}{
		{"", 10, 0, true}, {"12x", 10, 12, true}, {" \t7", 10, 7, true}, {"-1", 10, 1<<64 - 1, true}, {"+5", 10, 5, true},
		{"18446744073709551615", 10, 1<<64 - 1, true}, {"18446744073709551616", 10, 0, false}, {"0x1f", 16, 0x1f, true},
		{"0x", 16, 0, true}, {"0xg", 16, 0, true}, {"fF", 16, 255, true}, {"ffffffffffffffff", 16, 1<<64 - 1, true},
		{"10000000000000000", 16, 0, false}, {"0779", 8, 63, true}, {"zz", 16, 0, true},
	} {
		if got, ok := number([]byte(c.s), c.base); got != c.want || ok != c.ok {
			t.Errorf("number(%q, %d) = %d, %v", c.s, c.base, got, ok)
		}
	}
	for _, c := range []struct {
		s    string
		want int64
		ok   bool
	}{
		{"-13", -13, true}, {"9223372036854775807", 1<<63 - 1, true}, {"9223372036854775808", 0, false},
		{"-9223372036854775808", -1 << 63, true}, {"-9223372036854775809", 0, false}, {"-0", 0, true}, {"5-", 5, true},
	} {
		if got, ok := signed([]byte(c.s)); ok != c.ok || ok && got != c.want {
			t.Errorf("signed(%q) = %d, %v", c.s, got, ok)
		}
	}
}

// TestNoAllocations holds for what the forwarder does with every record.
func TestNoAllocations(t *testing.T) {
	in := New(Config{Names: nss.New(nss.Config{})})
	buf := make([]byte, 0, 4096)
	for _, line := range []string{
		exampleSyscall, "type=SOCKADDR msg=audit(1.000:1): saddr=02000035080808080000000000000000",
		`type=PATH msg=audit(1.000:1): item=0 name="/a" ouid=0 ogid=12345`,
	} {
		r := parsed(t, line)
		if n := testing.AllocsPerRun(100, func() { buf = in.AppendEnriched(buf[:0], r) }); n > 0 {
			t.Errorf("AppendEnriched allocates %v times for %q", n, line)
		}
	}
	r := parsed(t, exampleSyscall)
	if n := testing.AllocsPerRun(100, func() { buf = in.AppendBody(buf[:0], r) }); n > 1 {
		t.Errorf("AppendBody allocates %v times", n)
	}
}

func FuzzInterpret(f *testing.F) {
	f.Add([]byte(exampleSyscall), uint8(0))
	f.Add([]byte(exampleSyscall+"\x1dAUID=\"a\" SADDR={ x }"), uint8(1))
	f.Add([]byte("type=SOCKADDR msg=audit(1.000:1): saddr=0A000035"), uint8(2))
	f.Add([]byte("type=TTY msg=audit(1.000:1): tty pid=1 data=1B5B411B5B31313B327E61"), uint8(3))
	f.Add([]byte(`type=USER_LOGIN msg=audit(1.000:1): pid=1 msg='uid=1001: exe="/x" (hostname=a, addr=b, terminal=:0 res=success)'`), uint8(0))
	f.Add([]byte(`type=PROCTITLE msg=audit(1.000:1): proctitle=0041`), uint8(0))
	f.Add([]byte("type=EXECVE msg=audit(1.000:1): argc=2 a0=\"a\" a1[0]=41 a1_len=5 acct=(x"), uint8(0))
	f.Fuzz(func(t *testing.T, line []byte, mode uint8) {
		var r record.Record
		_ = r.Parse(line)
		in := New(Config{Names: fakeNames{}, Escape: Escape(mode % 4)})
		before := bytes.Clone(line)
		body := in.AppendBody(nil, &r)
		if again := in.AppendBody(nil, &r); !bytes.Equal(body, again) {
			t.Errorf("%q comes out as %q, then as %q", line, body, again)
		}
		tail := in.AppendEnriched(nil, &r)
		if len(tail) > 0 && tail[0] != record.Separator || bytes.IndexByte(tail, '\n') >= 0 && bytes.IndexByte(line, '\n') < 0 {
			t.Errorf("the tail of %q is %q", line, tail)
		}
		for _, fields := range []record.Fields{r.Fields(), r.MsgFields(), r.EnrichedFields()} {
			for field, ok := fields.Next(); ok; field, ok = fields.Next() {
				_ = in.AppendValue(nil, &r, field)
			}
		}
		if !bytes.Equal(line, before) {
			t.Error("interpreting changed the record")
		}
	})
}

func BenchmarkAppendEnriched(b *testing.B) {
	in, r, buf := New(Config{Names: nss.New(nss.Config{})}), parsed(b, exampleSyscall), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = in.AppendEnriched(buf[:0], r)
	}
}

func BenchmarkAppendBody(b *testing.B) {
	in, r, buf := New(Config{Names: nss.New(nss.Config{})}), parsed(b, exampleSyscall), []byte(nil)
	b.SetBytes(int64(len(exampleSyscall)))
	b.ReportAllocs()
	for b.Loop() {
		buf = in.AppendBody(buf[:0], r)
	}
}

// TestKindIndex finds every kind, and nothing else.
func TestKindIndex(t *testing.T) {
	for name, kind := range kinds {
		if got := kindsByName.of([]byte(name)); got != kind {
			t.Errorf("%s is of kind %d, want %d", name, got, kind)
		}
		if got := kindsByName.of([]byte(name + "x")); got != kinds[name+"x"] {
			t.Errorf("%sx is of kind %d", name, got)
		}
	}
	for _, name := range []string{"", "a", "pid", "hostname", "success"} {
		if got := kindsByName.of([]byte(name)); got != Plain {
			t.Errorf("%q is of kind %d", name, got)
		}
	}
}

// TestNamesInTail has names that a directory has, as daemons of all versions wrote them, and
// ids that are none or large.
func TestNamesInTail(t *testing.T) {
	in := New(Config{Names: fakeNames{}})
	for _, c := range []struct{ body, want string }{
		{"auid=1000 gid=5\x1dAUID=\"alice\" GID=\"domain users@example.com\"", "auid=alice gid=domain users@example.com "},
		{"auid=1000 gid=5\x1dAUID=DOMAIN\\some user GID=a=b c", `auid=DOMAIN\some user gid=a=b c `},
		{"auid=1000 gid=5\x1dAUID=\"a \"b\" c\" GID=\"X=1 y\"", `auid=a "b" c gid=X=1 y `},
		{"auid=1000 gid=5\x1dAUID=646F6D61696E207573657273 GID=\"x\"", "auid=domain users gid=x "},
		{"old-auid=1000 obj_gid=5\x1dOLD-AUID=\"x y\" OBJ_GID=u v", "old-auid=x y obj_gid=u v "},
		{"auid=1000 gid=5\x1dAUID=\"a GID=\"b c", "auid=a gid=b c "},
		{"auid=7 gid=7\x1dAUID=\"unknown(-2)\" GID=\"unknown(3000000000)\"", "auid=unknown(4294967294) gid=unknown(3000000000) "},
		{"auid=2147483648 gid=4294967294", "auid=unknown(2147483648) gid=unknown(4294967294) "},
		{"auid=4294967295 gid=-1", "auid=unset gid=unset "},
		{"auid=? uid=n/a gid=(null) euid=unset fsuid=(none)", "auid=? uid=n/a gid=(null) euid=unset fsuid=(none) "},
		{"auid=0x3e9 uid=4294967296 gid=1001.5 euid= fsuid=bob", "auid=0x3e9 uid=4294967296 gid=1001.5 euid= fsuid=bob "},
	} {
		if got := ourBody(in, "USER_AUTH "+c.body); got != c.want {
			t.Errorf("%q: %q, want %q", c.body, got, c.want)
		}
	}
}

// TestNewerWords has records that stock 3.0.9 does not read, or reads otherwise than kernels
// write them.
func TestNewerWords(t *testing.T) {
	in := New(Config{Names: fakeNames{}})
	for _, c := range []struct{ record, want string }{
		{"URINGOP uring_op=18 x=1", "uring_op=openat x=1 "}, {"URINGOP uring_op=3 x=1", "uring_op=3 x=1 "},
		{"CONFIG_CHANGE op=add_rule list=7 res=1", "op=add_rule list=io_uring res=yes "},
		{"LANDLOCK_DOMAIN domain=1 status=allocated mode=enforcing", "domain=1 status=allocated mode=enforcing "},
		{"FANOTIFY resp=2 fan_type=1 fan_info=1A subj_trust=0 obj_trust=2", "resp=deny fan_type=rule_info fan_info=26 subj_trust=no obj_trust=unknown "},
		{"FANOTIFY resp=1 fan_type=0 fan_info=0 subj_trust=2 obj_trust=1", "resp=allow fan_type=none fan_info=0 subj_trust=unknown obj_trust=yes "},
		{"OPENAT2 oflag=01101 mode=0640 resolve=0x0", "oflag=O_WRONLY|O_CREAT|O_TRUNC mode=0640 resolve=0x0 "},
		{"MQ_OPEN oflag=0x42 mode=0600", "oflag=O_RDWR|O_CREAT mode=0600 "},
		{"SECCOMP code=0x80000000 x=1", "code=kill-process x=1 "}, {"SECCOMP code=0x0 x=1", "code=kill-thread x=1 "}, {"SECCOMP code=0x50001 x=1", "code=errno x=1 "},
		{"SOCKADDR saddr=0100", "saddr={ saddr_fam=local unnamed socket } "},
	} {
		if got := ourBody(in, c.record); got != c.want {
			t.Errorf("%s: %q, want %q", c.record, got, c.want)
		}
	}
}

// The flags of clone are its first argument, but its second on s390.
func TestCloneFlags(t *testing.T) {
	for line, want := range map[string]string{
		"arch=80000016 syscall=120 a0=0 a1=1200011": "a0=0x0 a1=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD ",
		"arch=16 syscall=120 a0=0 a1=1200011":       "a0=0x0 a1=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD ",
		"arch=80000016 syscall=303 a0=0 a1=11":      "a0=0x0 a1=0x11 ",
		"arch=c000003e syscall=56 a0=1200011 a1=0":  "a0=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD a1=0x0 ",
	} {
		var r record.Record
		if err := r.Parse([]byte("type=SYSCALL msg=audit(1.0:1): " + line)); err != nil {
			t.Fatal(err)
		}
		if got := string(New(Config{}).AppendBody(nil, &r)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s", line, got)
		}
	}
}
