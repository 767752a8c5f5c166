package normalize

import (
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/interpret"
)

// uringLog is what Linux 6.18 wrote of a program that opened, made and deleted files through
// a ring, with rules for operations (-a io_uring,always) and for the program's calls.
const uringLog = `type=URINGOP msg=audit(1795934695.197:6145948): uring_op=18 success=yes exit=0 items=4 ppid=29557 pid=29622 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key="ring"
type=CWD msg=audit(1795934695.197:6145948): cwd="/tmp/ring"
type=PATH msg=audit(1795934695.197:6145948): item=0 name=(null) inode=9978122 dev=fe:00 mode=040755 ouid=0 ogid=0 rdev=00:00 nametype=PARENT cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0
type=PATH msg=audit(1795934695.197:6145948): item=1 name=(null) nametype=CREATE cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0
type=URINGOP msg=audit(1795934695.197:6145950): uring_op=18 success=yes exit=0 items=1 ppid=29557 pid=29622 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key="call"
type=SYSCALL msg=audit(1795934695.197:6145950): arch=c000003e syscall=426 success=yes exit=1 a0=4 a1=1 a2=1 a3=1 items=1 ppid=29557 pid=29622 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm="ring" exe="/tmp/ring/ring" key="call"
type=CWD msg=audit(1795934695.197:6145950): cwd="/tmp/ring"
type=PATH msg=audit(1795934695.197:6145950): item=0 name="/tmp/ring/none/x" nametype=UNKNOWN cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0
type=PROCTITLE msg=audit(1795934695.197:6145950): proctitle="./ring"
type=URINGOP msg=audit(1795934695.197:6145951): uring_op=18 success=yes exit=0 items=0 ppid=29557 pid=29622 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key="ring"
type=URINGOP msg=audit(1795934695.197:6145957): uring_op=36 success=yes exit=0 items=2 ppid=29557 pid=29622 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key="ring"
type=CWD msg=audit(1795934695.197:6145957): cwd="/tmp/ring"
type=PATH msg=audit(1795934695.197:6145957): item=0 name=(null) inode=9978122 dev=fe:00 mode=040755 ouid=0 ogid=0 rdev=00:00 nametype=PARENT cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0
type=PATH msg=audit(1795934695.197:6145957): item=1 name=(null) inode=9978246 dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=DELETE cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0
type=URINGOP msg=audit(1795934695.197:6145959): uring_op=19 success=no exit=-9 items=0 ppid=29557 pid=29622 uid=1000 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key="ring"`

// wrote is an event in a few words: who did what to what, to what else, by which means.
func wrote(n *Normalizer) string {
	words := []string{string(n.AppendText(nil, n.Subject)), string(n.Action), string(n.AppendFull(nil, n.Object)), string(n.AppendFull(nil, n.Second)),
		string(n.AppendProcesses(nil)), n.ObjectKind, string(n.How)}
	if success, ok := n.Succeeded(); ok && !success {
		words = append(words, "failed")
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

func TestURing(t *testing.T) {
	n := New(interpret.New(interpret.Config{}), nil)
	var got []string
	for _, records := range eventsOf(t, []byte(uringLog)) {
		if !n.Event(records, false) {
			t.Errorf("%q is not read", records[0].Raw)
		}
		got = append(got, wrote(n))
	}
	want := []string{
		"root opened-file /tmp/ring/(null) file io_uring", "unset opened-file /tmp/ring/none/x file /tmp/ring/ring", "root opened-file file io_uring",
		"root deleted /tmp/ring/(null) file io_uring", "unknown(1000) io_uring-operation unknown io_uring failed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNewerCalls has the calls of the last years: what was done to which file.
func TestNewerCalls(t *testing.T) {
	n := New(interpret.New(interpret.Config{}), nil)
	for nr, want := range map[string]string{
		"257": "opened-file /tmp/f file", "452": "changed-file-permissions-of /tmp/f 0644 file", "437": "opened-file /tmp/f file",
		"439": "checked-metadata-of /tmp/f file", "332": "checked-metadata-of /tmp/f file", "303": "checked-metadata-of /tmp/f file",
		"428": "opened-file /tmp/f file", "467": "opened-file /tmp/f file", "442": "changed-file-attributes-of /tmp/f file",
		"463": "changed-file-attributes-of /tmp/f file", "464": "checked-metadata-of /tmp/f file", "465": "checked-metadata-of /tmp/f file",
		"466": "changed-file-attributes-of /tmp/f file", "468": "checked-metadata-of /tmp/f file", "469": "changed-file-attributes-of /tmp/f file",
		"444": "adjusted-security-policy-of /bin/c process", "446": "adjusted-security-policy-of /bin/c process",
		"460": "adjusted-security-policy-of /bin/c process", "461": "listed-security-modules security-modules",
	} {
		records := eventsOf(t, []byte("type=SYSCALL msg=audit(1.0:1): arch=c000003e syscall="+nr+` success=yes exit=0 a0=ffffff9c a1=9 a2=1a4 a3=0 items=1 ppid=1 pid=7 auid=0 uid=0 comm="c" exe="/bin/c" key="k"
type=CWD msg=audit(1.0:1): cwd="/tmp"
type=PATH msg=audit(1.0:1): item=0 name="f" inode=5 dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL
type=PROCTITLE msg=audit(1.0:1): proctitle=6B`))[0]
		n.Event(records, false)
		if got, _, _ := strings.Cut(strings.TrimPrefix(wrote(n), "root "), " /bin/c"); got != want && wrote(n) != "root "+want+" "+string(n.How) {
			t.Errorf("call %s: %q, want %q", nr, wrote(n), want)
		}
	}
}

// TestNewerRecords has records that say more than their types' neighbours, and ids that are
// large or none.
func TestNewerRecords(t *testing.T) {
	n := New(interpret.New(interpret.Config{}), accounts{"root": 0})
	for _, c := range []struct{ log, want, kind string }{
		{`LANDLOCK_ACCESS msg=audit(1.0:1): domain=195ba459b blockers=fs.refer path="/usr/bin" dev="vda2" ino=351`, "accessed-mac-policy-controlled-object /usr/bin file", ""},
		{`LANDLOCK_DOMAIN msg=audit(1.0:1): domain=195ba459b status=allocated mode=enforcing pid=300 uid=1000 exe="/root/sandboxer" comm="sandboxer"`,
			"changed-landlock-domain 195ba459b mac-config /root/sandboxer", "user-acct"},
		{`IPE_ACCESS msg=audit(1.0:1): ipe_op=EXECUTE ipe_hook=MMAP enforcing=1 pid=2129 comm="bash" path="/usr/lib/x.so" dev="vda2" ino=1`,
			"accessed-mac-policy-controlled-object /usr/lib/x.so file bash", ""},
		{`IPE_POLICY_LOAD msg=audit(1.0:1): policy_name=boot auid=0 ses=1 lsm=ipe res=1`, "root loaded-mac-policy boot mac-config", ""},
		{`DM_CTRL msg=audit(1.0:1): module=crypt op=ctr ppid=1 pid=8 auid=1000 uid=0 tty=pts0 ses=3 comm="dmsetup" exe="/sbin/dmsetup" dev=254:3 error_msg='success' res=1`,
			"unknown(1000) changed-device-mapping 254:3 crypt block-device /sbin/dmsetup", "privileged-acct"},
		{`USER_AUTH msg=audit(1.0:1): pid=1 uid=n/a auid=? ses=1 msg='acct="x" res=failed'`, "? authenticated x user-session failed", "unknown-acct"},
		{`USER_AUTH msg=audit(1.0:1): pid=1 uid=4294967294 auid=3000000000 ses=1 msg='acct="x" res=success'`, "unknown(3000000000) authenticated x user-session", "unknown-acct"},
		{"SYSCALL msg=audit(1.0:1): arch=c000003e syscall=62 success=yes exit=0 a0=4d2 a1=9 auid=0 uid=0 exe=\"/k\"\ntype=OBJ_PID msg=audit(1.0:1): opid=1234 ocomm=\"a\"\n" +
			"type=PROCTITLE msg=audit(1.0:1): proctitle=6B", "root killed-pid 1234 process /k", "privileged-acct"},
		{"SYSCALL msg=audit(1.0:1): arch=c000003e syscall=62 success=yes exit=0 a0=4d2 a1=9 auid=0 uid=0 exe=\"/k\"\ntype=OBJ_PID msg=audit(1.0:1): opid=1234 ocomm=\"a\"\n" +
			"type=OBJ_PID msg=audit(1.0:1): opid=1235\ntype=PROCTITLE msg=audit(1.0:1): proctitle=6B", "root killed-list-of-pids 1234,1235 process-group /k", "privileged-acct"},
	} {
		n.Event(eventsOf(t, []byte("type="+c.log))[0], false)
		if got := wrote(n); got != c.want || n.SubjectKind != c.kind {
			t.Errorf("%s: %q of %q, want %q of %q", c.log, got, n.SubjectKind, c.want, c.kind)
		}
	}
}
