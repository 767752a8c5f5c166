package vmtest

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLocked locks the kernel's configuration, which only a boot undoes.
func TestLocked(t *testing.T) {
	row(t)
	h := auditing(t, ready)
	h.sh("forwarder ctl -e 2")
	h.probe("locked")
	said, code := h.try("forwarder ctl -w /etc/hosts -p wa -k more")
	if code == 0 {
		t.Errorf("a rule was loaded: %s", said)
	}
	said, _ = h.try("forwarder doctor")
	h.has(said, "locked until the machine boots again")
	h.sh("systemctl restart auditfleet-forwarder")
	h.registered()
	h.probe("restarted")
	h.sh("kill -9 $(systemctl show -P MainPID auditfleet-forwarder)")
	h.registered()
	h.probe("killed")
	h.has(h.sh("forwarder ctl -s"), "enabled 2")
	h.until("collector coverage -n guest")
	h.reboot()
	h.registered()
	h.has(h.sh("forwarder ctl -s"), "enabled 1")
	h.sh("forwarder ctl -w /etc/hosts -p wa -k more")
	h.probe("rebooted")
	h.until("collector coverage -n guest")
	h.off()
}

// TestClock sets the clock both ways, as a broken time server does.
func TestClock(t *testing.T) {
	row(t)
	h := auditing(t, ready)
	h.probe("before")
	h.sh("date -s '+2 hours'")
	h.probe("later")
	h.sh("date -s '-3 hours'")
	h.probe("earlier")
	h.sh("date -s '+1 hour'")
	h.probe("right")
	h.reboot()
	h.registered()
	h.probe("after")
	for _, name := range []string{"before", "later", "earlier", "right", "after"} {
		if n := h.sh("collector search -k vmtest -f /etc/vmtest/" + name + " --count"); n != "1\n" {
			t.Errorf("%s is there %s times", name, n)
		}
	}
	t.Log(h.complete())
	h.sh("systemctl stop auditfleet-collector && collector verify")
	h.off()
}

// TestProgramOf32Bits has a program of the other architecture make a record.
func TestProgramOf32Bits(t *testing.T) {
	row(t)
	h := auditing(t, ready, "stock")
	path := filepath.Join(t.TempDir(), "touch32")
	if err := machines.Build(ctx, path, "./integration/vmtest/touch", "386"); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Write(ctx, "/root/touch32", 0o755, program); err != nil {
		t.Fatal(err)
	}
	h.sh("forwarder ctl -a always,exit -F arch=b32 -S open,openat -F exe=/root/touch32 -k bits")
	h.sh("/root/touch32 /etc/vmtest/by-32")
	h.until("collector search -k vmtest -f by-32")
	h.has(h.sh("collector search -k bits -i"), "arch=i386", "syscall=openat", "exe=/root/touch32")
	h.sh("cat /var/log/audit/audit.log >/tmp/log")
	// A name of a system call is the searching machine's number to both: 295 is i386's openat.
	for _, q := range []string{"-k bits -i", "-k bits -sc 295", "-k bits --arch i386", "-k bits --format text"} {
		if said, code := h.try("ausearch -if /tmp/log " + q + " >/tmp/a; forwarder search -if /tmp/log " + q + " >/tmp/b; diff /tmp/a /tmp/b && [ -s /tmp/a ]"); code != 0 {
			t.Errorf("%s: %s", q, said)
		}
	}
	h.off()
}
