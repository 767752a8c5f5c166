package record

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestOldHeaders reads the headers that daemons of other times, kernels without a daemon,
// and syslog write.
func TestOldHeaders(t *testing.T) {
	const avc = " on web1\n  own [apparmor=\"DENIED\"] [name=\"/x\"]\n"
	for _, tt := range []struct{ line, want string }{
		{"type=1300 msg=audit(5.250:7): a=1", "SYSCALL 1300 5250:7\n  own [a=1]\n"},
		{"type=1334 msg=audit(5.250:7): a=1", "BPF 1334 5250:7\n  own [a=1]\n"},
		{"type=UNKNOWN[1334] msg=audit(5.250:7): a=1", "BPF 1334 5250:7\n  own [a=1]\n"},
		{"type=UNKNOWN[1998] msg=audit(5.250:7): a=1", "UNKNOWN[1998] 1998 5250:7\n  own [a=1]\n"},
		{"type=65999 msg=audit(5.250:7): a=1", "65999 0 5250:7\n  own [a=1]\n"},
		{"type=1112 audit(5.250:7): a=1", "USER_LOGIN 1112 5250:7\n  own [a=1]\n"},
		{"node=h type=USER_LOGIN audit(5.250:7): a=1", "USER_LOGIN 1112 5250:7 on h\n  own [a=1]\n"},
		{"type=DAEMON_CONFIG msg=audit(1490239800.477:34) config changed, auid=0 pid=3", "DAEMON_CONFIG 1203 1490239800477:34\n  own [auid=0] [pid=3]\n"},
		{" type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7\n  own [a=1]\n"},
		{"\t \tnode=h type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7 on h\n  own [a=1]\n"},
		{"\xef\xbb\xbftype=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7\n  own [a=1]\n"},
		{"type=PATH msg=audit(5.250:7): a=1 res=success\r", "PATH 1302 5250:7\n  own [a=1] [res=success]\n"},
		{"type=PATH msg=audit(5.250:7): a=1\x1dUID=\"u\"\r", "PATH 1302 5250:7\n  own [a=1]\n  enriched [UID=\"u\"]\n"},
		// syslog
		{"Nov 28 14:04:05 web1 audispd: node=h type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7 on h\n  own [a=1]\n"},
		{"Nov  8 14:04:05 web1 audisp-syslog[12]: type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7 on web1\n  own [a=1]\n"},
		{"<13>Nov 28 14:04:05 web1 tag_audit_log: type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7 on web1\n  own [a=1]\n"},
		{"2026-11-28T14:04:05.123456+00:00 web1 audispd:  type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7 on web1\n  own [a=1]\n"},
		{"Nov 28 14:04:05 web1 tag: #011type=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7 on web1\n  own [a=1]\n"},
		{`<13>1 2026-11-28T14:04:05Z web1 audispd 123 - - type=PATH msg=audit(5.250:7): a=1`, "PATH 1302 5250:7 on web1\n  own [a=1]\n"},
		{"<13>1 2026-11-28T14:04:05Z - audispd - ID7 - \xef\xbb\xbftype=PATH msg=audit(5.250:7): a=1", "PATH 1302 5250:7\n  own [a=1]\n"},
		{`<13>1 2026-11-28T14:04:05Z web1 a 1 - [x@1 k="a: \"]type=USER msg=audit(1.1:1): " l="m"][y z="]"] type=PATH msg=audit(5.250:7): a=1`, "PATH 1302 5250:7 on web1\n  own [a=1]\n"},
		// the kernel's own log
		{`Nov 28 14:04:05 web1 kernel: audit: type=1400 audit(5.250:7): apparmor="DENIED" name="/x"`, "AVC 1400 5250:7" + avc},
		{`Nov 28 14:04:05 web1 kernel: [   12.345678] audit: type=1400 audit(5.250:7): apparmor="DENIED" name="/x"`, "AVC 1400 5250:7" + avc},
		{`Nov 28 14:04:05 web1 kernel: [   12.345678] type=1400 audit(5.250:7): apparmor="DENIED" name="/x"`, "AVC 1400 5250:7" + avc},
		{"[   12.345678] audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"[   12.345678] type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"<5>[Sat Nov 28 14:04:05 2026] audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"[   12.345678][   T30] audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"kern  :notice: [   12.345678] audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"[   12.345678] web1 kernel: audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7 on web1\n  own [a=1]\n"},
		{"audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"kernel: audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
		{"web1 kernel: audit: type=1400 audit(5.250:7): a=1", "AVC 1400 5250:7\n  own [a=1]\n"},
	} {
		var r Record
		if err := r.Parse([]byte(tt.line)); err != nil || !r.IsRecord() {
			t.Errorf("%q: %v", tt.line, err)
		}
		if got := dump(&r); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
		if string(r.Raw) != tt.line {
			t.Errorf("%q came back as %q", tt.line, r.Raw)
		}
	}
}

// TestNoRecord: separators, comments and messages are no records, and neither is a
// record within a message or within a value: a program can write that as it likes.
func TestNoRecord(t *testing.T) {
	for _, line := range []string{
		"", " ", "----", "# type=PATH msg=audit(5.250:7): a=1", "time->Sat Nov 28 14:04:05 2026", "Nov 28 14:04:05 web1 CRON[1]: (root) CMD (x)",
		"Nov 28 14:04:05 web1 audit[1]: SERVICE_START pid=1 uid=0", "type=PATH", "type=PATH msg=audit(", "\xef\xbb\xbf", "<13>", "<13>1 ", "[", "[ 1", "#011",
		"Nov 28 14:04:05 web1 sshd[7]: Invalid user x: type=USER_LOGIN audit(5.250:7): a=1", "Nov 28 14:04:05 web1 sshd: no user x: node=h type=PATH msg=audit(5.250:7): a=1", "Nov 28 14:04:05 web1 app: type=request uri=/x?msg=audit(5.250:7): auid=0", "Nov 28 14:04:05 web1 mykernel: audit: type=1400 audit(5.250:7): a=1", "[ 12.3] usb: audit: type=1400 audit(5.250:7): a=1",
	} {
		var r Record
		if err := r.Parse([]byte(line)); err == nil || r.IsRecord() {
			t.Errorf("%q is a record: %s", line, dump(&r))
		}
	}
	for _, tt := range []struct{ line, want string }{
		{`type=USER_LOGIN msg=audit(5.250:7): pid=1 msg='acct="x: type=USER_AUTH msg=audit(6.1:8): a=1"'`, "USER_LOGIN 1112 5250:7"},
		{`node=h type=EXECVE msg=audit(5.250:7): a0="node=g type=PATH audit(6.1:8): "`, "EXECVE 1309 5250:7 on h"},
		{`Nov 28 14:04:05 web1 audispd: type=EXECVE msg=audit(5.250:7): a0="tag: node=g type=PATH msg=audit(6.1:8): "`, "EXECVE 1309 5250:7 on web1"},
		{"GIN msg=audit(5.250:7): a=1", " 0 5250:7 ("}, // torn off: damaged
	} {
		var r Record
		_ = r.Parse([]byte(tt.line))
		if got := dump(&r); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
	}
}

// A record is the same behind any prefix, and only its bytes and its host differ.
func TestPrefixChangesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(need.Seed(t), 3))
	prefixes := []string{" ", "\t", "\xef\xbb\xbf", "Nov 28 14:04:05 web1 audispd: ", "<13>1 2026-11-28T14:04:05Z web1 a - - - ", "kernel: [1.2] audit: ", "audit: ", "[ 1.2] "}
	all := lines(t, logs...)
	for range need.Rounds(3000, 300) {
		line := all[rng.IntN(len(all))]
		var bare, r Record
		if err := bare.Parse(line); err != nil {
			t.Fatal(err)
		}
		with := prefixes[rng.IntN(len(prefixes))] + string(line)
		if err := r.Parse([]byte(with)); err != nil {
			t.Fatalf("%q: %v", with, err)
		}
		if bare.Node == nil {
			r.Node = nil
		}
		if want, got := dump(&bare), dump(&r); want != got {
			t.Fatalf("%q: %q, want %q", with, got, want)
		}
	}
}
