package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
)

// what the audited program does: files, modes, sockets, accounts, failures.
const enrichedWork = `
use Socket; use POSIX;
for my $i (1..5) {
	open(my $f, '>', "$ARGV[0]/file $i"); print $f "x"; close $f;
	chmod 0600 + $i, "$ARGV[0]/file $i"; chown 1, 2, "$ARGV[0]/file $i"; rename "$ARGV[0]/file $i", "$ARGV[0]/\"other\"$i"; unlink "$ARGV[0]/\"other\"$i";
	open(my $g, '<', "$ARGV[0]/missing\n$i");
}
socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in(1, inet_aton("127.0.0.1")));
socket(my $d, PF_INET, SOCK_DGRAM, 0); bind($d, sockaddr_in(0, inet_aton("127.0.0.1"))); send($d, "x", 0, sockaddr_in(9, inet_aton("127.0.0.1")));
socket(my $u, PF_UNIX, SOCK_STREAM, 0); connect($u, sockaddr_un("/nowhere")); connect($u, sockaddr_un("\0abstract"));
mkdir "$ARGV[0]/dir"; chdir "$ARGV[0]/dir"; rmdir "$ARGV[0]/dir";
POSIX::setgid(1); POSIX::setuid(2); POSIX::setuid(54321); kill 0, $$;
`

// The same events in the stock daemon's log and in ours, both enriched: ours is
// beside it, in the multicast group. Byte for byte the same, and the stock readers
// say the same of both.
func TestEnrichedAsStock(t *testing.T) { enrichedAsStock(t, enrichedWork) }

// The same for an account that only NSS knows.
func TestEnrichedByNSSAsStock(t *testing.T) {
	if !need.Directory(t) {
		return
	}
	login := fmt.Sprintf("open(my $l, '>', '/proc/self/loginuid'); print $l %d; close $l; mkdir \"$ARGV[0]/theirs\"; chown %[1]d, %d, \"$ARGV[0]/theirs\"; chmod 0700, \"$ARGV[0]/theirs\"; chown 54321, 54321, \"$ARGV[0]/theirs\"; rmdir \"$ARGV[0]/theirs\";\n", need.DirectoryUID, need.DirectoryGID)
	ours := enrichedAsStock(t, login+enrichedWork)
	for _, want := range []string{`AUID="` + need.DirectoryUser + `"`, `OUID="` + need.DirectoryUser + `" OGID="` + need.DirectoryGroup + `"`, `OUID="unknown(54321)"`} {
		if !strings.Contains(ours, want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// enrichedAsStock returns our records of the work.
func enrichedAsStock(t *testing.T, work string) string {
	t.Helper()
	auditd, ausearch, aureport := need.Stock(t, "auditd"), need.Stock(t, "ausearch"), need.Stock(t, "aureport")
	perl := need.Tool(t, "perl")
	ctl := kerneltest.Dial(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // the program gives up root
		t.Fatal(err)
	}
	for _, d := range []string{"stock", "conf/plugins.d", "run", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	exe := dir + "/perl-test"
	b, err := os.ReadFile(perl)
	if err != nil {
		t.Fatal(err)
	}
	if err := need.Program(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("log_file = %[1]s/stock/audit.log\nlog_format = ENRICHED\nname_format = USER\nname = web1\nflush = NONE\nplugin_dir = %[1]s/conf/plugins.d\nspace_left = 2\nadmin_space_left = 1\n", dir)
	if err := os.WriteFile(dir+"/conf/auditd.conf", []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf("mount --bind %s/run /run && exec %s -n -c %s/conf", dir, auditd, dir))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := need.EndStock(cmd); err != nil {
			t.Errorf("stock auditd: %v", err)
		}
	})
	wait(t, "the stock daemon is registered", func() bool {
		s, err := ctl.Status()
		return err == nil && s.PID == uint32(cmd.Process.Pid) && s.Enabled == 1
	})
	s := startAgent(t, Config{
		Source: SourceMulticast, Node: "web1", Log: locallog.Config{Path: dir + "/ours/audit.log"},
		Enrich: interpret.New(interpret.Config{Names: nss.New(nss.Config{})}).AppendEnriched,
	})
	key := fmt.Sprint("af-enrich-", os.Getpid())
	calls := "openat,chmod,fchmodat,chown,rename,unlink,socket,connect,bind,sendto,mkdir,chdir,rmdir,setuid,setgid,setreuid,setregid,setresuid,setresgid,kill,execve"
	kerneltest.AddRule(t, ctl, fmt.Sprintf("-a always,exit -F arch=b64 -S %s -F exe=%s -k %s", calls, exe, key))
	if out, err := exec.Command(exe, "-e", work, dir+"/work").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The end of what is compared.
	const last = `key="last"`
	// With a security module, subj= stands before the key.
	ended := regexp.MustCompile(`comm="perl-test" exe="` + regexp.QuoteMeta(exe) + `" (subj=\S+ )?` + last)
	kerneltest.AddRule(t, ctl, fmt.Sprintf("-a always,exit -F arch=b64 -S getppid -F exe=%s -k last", exe))
	if out, err := exec.Command(exe, "-e", "getppid()").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	read := func(name string) string {
		b, err := os.ReadFile(dir + name)
		if err != nil {
			return ""
		}
		return string(b)
	}
	wait(t, "all is in both logs", func() bool {
		return ended.MatchString(read("/stock/audit.log")) && ended.MatchString(read("/ours/audit.log"))
	})
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	stock, ours := ofKey(read("/stock/audit.log"), key), ofKey(read("/ours/audit.log"), key)
	if diff := cmp.Diff(stock, ours); diff != "" {
		t.Errorf("%.4000s", diff)
	}
	if n := strings.Count(ours, "\x1d"); n < 150 || !strings.Contains(ours, "type=SOCKADDR") || !strings.Contains(ours, "type=PATH") {
		t.Fatalf("only %d enriched records", n)
	}
	t.Logf("%d records, %d of them enriched", strings.Count(ours, "\n"), strings.Count(ours, "\x1d"))
	for _, c := range [][]string{
		{ausearch, "--format", "raw", "-k", key}, {ausearch, "-i", "-k", key}, {ausearch, "--format", "csv", "-k", key}, {ausearch, "--format", "text", "-k", key},
		{aureport, "-i", "-s"}, {aureport, "-i", "-f"}, {aureport, "-i", "-x", "--summary"}, {aureport, "-i", "-u"}, {aureport, "-k"}, {aureport, "--summary"},
	} {
		var got [2]string
		for i, log := range []string{stock, ours} {
			file := dir + "/read.log"
			if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(c[0], append(c[1:], "-if", file)...).Output()
			if err != nil || len(out) == 0 {
				t.Fatalf("%q: %v, %q", c, err, out)
			}
			got[i] = string(out)
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("%q: %s", c, diff)
		}
	}
	return ours
}

// ofKey is the records of the events with a key.
func ofKey(log, key string) string {
	re := regexp.MustCompile(`msg=audit\((\d+\.\d+:\d+)\)`)
	serials := map[string]bool{}
	for l := range strings.Lines(log) {
		if m := re.FindStringSubmatch(l); m != nil && strings.Contains(l, "type=SYSCALL") && strings.Contains(l, `key="`+key+`"`) {
			serials[m[1]] = true
		}
	}
	var out strings.Builder
	for l := range strings.Lines(log) {
		if m := re.FindStringSubmatch(l); m != nil && serials[m[1]] {
			out.WriteString(l)
		}
	}
	return out.String()
}
