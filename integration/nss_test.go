package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestNamesOfADirectory: an account that only NSS knows has its name in searches,
// reports and rules, as with the stock tools.
func TestNamesOfADirectory(t *testing.T) {
	forwarder := binaries(t).Forwarder
	t.Setenv("AUDITFLEET_BIN", filepath.Dir(forwarder)) // the child need not build again
	if !need.Directory(t) {
		return
	}
	log := filepath.Join(t.TempDir(), "audit.log")
	text := fmt.Sprintf(`type=SYSCALL msg=audit(1700000000.000:1): arch=c000003e syscall=257 success=yes exit=3 a0=1 a1=2 a2=3 a3=0 items=0 ppid=1 pid=2 auid=%[1]d uid=%[1]d gid=%[2]d euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="cat" exe="/bin/cat" key="k"
type=SYSCALL msg=audit(1700000001.000:2): arch=c000003e syscall=257 success=yes exit=3 a0=1 a1=2 a2=3 a3=0 items=0 ppid=1 pid=2 auid=70009 uid=70009 gid=70009 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="cat" exe="/bin/cat" key="k"
type=USER_AUTH msg=audit(1700000002.000:3): pid=3 uid=0 auid=%[1]d ses=1 msg='op=PAM:authentication acct="%[3]s" exe="/bin/su" hostname=? addr=? terminal=pts0 res=success'
`, need.DirectoryUID, need.DirectoryGID, need.DirectoryUser)
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"search -i", "search -i -ul carla", "search -ua carla", "search -gi carlas", "search -ui 70001 -i", "search --format text", "search --format csv", "search -ul no-such-user-x",
		"report -au -i", "report -u -i", "report -u --summary -i", "report -s -i",
	} {
		tool, rest, _ := strings.Cut(args, " ")
		rest += " -if " + log
		stock, _ := exec.Command(need.Stock(t, map[string]string{"search": "ausearch", "report": "aureport"}[tool]), strings.Fields(rest)...).CombinedOutput()
		ours, _ := exec.Command(forwarder, append([]string{tool}, strings.Fields(rest)...)...).CombinedOutput()
		if diff := cmp.Diff(string(stock), string(ours)); diff != "" && args != "search -ul no-such-user-x" {
			t.Errorf("%s: -stock +ours\n%s", args, diff)
		} else if !strings.Contains(args, "no-such") && !strings.Contains(string(ours), "70001") && !strings.Contains(string(ours), need.DirectoryUser) {
			t.Errorf("%s finds nothing: %s", args, ours)
		} else if strings.Contains(args, "no-such") && (strings.Contains(string(ours), "type=") || strings.Contains(string(stock), "type=")) {
			t.Errorf("%s: %s, stock %s", args, ours, stock)
		}
	}
	out, err := exec.Command(forwarder, "ctl", "--explain", "-a", "always,exit", "-F", "arch=b64", "-S", "openat", "-F", "auid=carla", "-F", "gid=carlas").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "70001") || !strings.Contains(string(out), "70002") {
		t.Errorf("ctl: %v %s", err, out)
	}
	rules := filepath.Join(t.TempDir(), "x.rules")
	if err := os.WriteFile(rules, []byte("-a always,exit -F arch=b64 -S openat -F auid=carla -k x\n-a always,exit -F arch=b32 -S openat -F auid=carla -k x\n-a always,exit -F arch=b64 -S open -F auid=carlo -k x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(forwarder, "rules", "lint", rules).CombinedOutput()
	if err == nil || strings.Contains(string(out), "Unknown user: carla") || !strings.Contains(string(out), "Unknown user: carlo") {
		t.Errorf("rules lint: %v %s", err, out)
	}
}
