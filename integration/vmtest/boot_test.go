package vmtest

import "testing"

// registered waits until the forwarder is the kernel's daemon, and the collector hears it.
func (h *host) registered() {
	h.Helper()
	h.until("forwarder ctl -s | grep '^pid [1-9]'")
	h.until("collector hosts | grep '^guest .* connected'")
}

// probe makes an event of the rule's, and waits until the collector has it.
func (h *host) probe(name string) {
	h.Helper()
	h.sh(": >/etc/vmtest/" + name)
	h.until("collector search -k vmtest -f " + name)
}

// complete wants the collector to know of no loss, and returns what it says.
func (h *host) complete() string {
	h.Helper()
	h.until("collector coverage -n guest --detail >/tmp/coverage || { cat /tmp/coverage; false; }")
	return h.sh("cat /tmp/coverage")
}

// TestFirstBoot boots a host whose kernel was told nothing: auditing begins while it starts.
func TestFirstBoot(t *testing.T) {
	row(t)
	h := machine(t, asDebian, "forwarder", "collector")
	h.boot()
	h.registered()
	if failed := h.sh("systemctl list-units --failed --plain --no-legend"); failed != "" {
		t.Error(failed)
	}
	h.probe("seen")
	// Who is older than auditing is said where an administrator looks, on the host and on the log host.
	older := "are older than auditing"
	h.has(h.sh("journalctl -b -u auditfleet-forwarder"), "processes are invisible", "systemd-journal")
	said, _ := h.try("forwarder doctor")
	h.has(said, older, "systemd-journal", "booted without audit=1")
	h.has(h.complete(), older)
	// And it is so: a program of before the rules makes no record, a new one does.
	h.sh("sh -c ': >/etc/vmtest/by-a-new-one'")
	h.until("collector search -k vmtest -f by-a-new-one")
	// journald takes the same records beside us, by the multicast group.
	h.until("journalctl -b _TRANSPORT=audit | grep by-a-new-one")
	h.off()
}

// TestFirstBootAudited is the same with auditing on from the kernel's first instruction on. But
// Debian's journald switches it off when it starts, until the forwarder does: that is said,
// and with what doctor advises the next boot is complete.
func TestFirstBootAudited(t *testing.T) {
	row(t)
	h := auditing(t, asDebian)
	h.probe("seen")
	h.lacks(h.sh("journalctl -b -u auditfleet-forwarder"), "invisible")
	said, _ := h.try("forwarder doctor")
	h.has(said, "Audit=no in /etc/systemd/journald.conf (its default)")
	h.lacks(said, "older than auditing", "booted without")
	// Of before any program ran, and of units that start before the forwarder does.
	h.has(h.sh("collector search -m KERNEL --raw"), "type=KERNEL", "state=initialized audit_enabled=1")
	h.has(h.sh("collector search -m SERVICE_START --raw"), "unit=kmod-static-nodes")
	said, _ = h.try("collector coverage -n guest --detail")
	h.has(said, "auditing-off at kernel")

	h.sh("mkdir -p /etc/systemd/journald.conf.d && printf '[Journal]\nAudit=yes\n' >/etc/systemd/journald.conf.d/audit.conf")
	h.reboot()
	booted := h.sh("date -d \"$(uptime -s)\" '+%m/%d/%Y %H:%M:%S'")
	h.registered()
	said, _ = h.try("forwarder doctor")
	h.lacks(said, "switches auditing off")
	// What is made while the machine stops is there, too.
	h.until("collector search -m SYSTEM_SHUTDOWN")
	h.until("[ $(collector search -m SYSTEM_BOOT --count) = 2 ]")
	h.has(h.sh("collector search -m SERVICE_STOP --raw"), "unit=ssh ")
	h.has(h.sh("collector search -m SERVICE_START -ts boot --raw"), "unit=systemd-journald")
	h.until("collector coverage -n guest --detail -ts " + booted)
	h.off()
}

// TestNeverAudited boots a host on which nothing switches auditing on.
func TestNeverAudited(t *testing.T) {
	row(t)
	h := machine(t, "", "forwarder")
	h.boot()
	h.has(h.sh("forwarder ctl -s"), "enabled 0\n", "pid 0\n")
	said, code := h.try("forwarder doctor --format json")
	h.has(said, "auditing is off")
	if code != 3 {
		t.Errorf("doctor's exit code is %d", code)
	}
	h.sh("forwarder trace --show /bin/uname | grep '^type=SYSCALL.*uname'")
	h.has(h.sh("forwarder ctl -s"), "pid 0\n")
	h.off()
}

// TestLostAtBoot has the kernel lose records before anybody can take them.
func TestLostAtBoot(t *testing.T) {
	row(t)
	h := machine(t, ready, "forwarder", "collector")
	h.boot("audit=1", "audit_backlog_limit=2")
	h.registered()
	said := h.until("grep -a 'cause=before-start records=[1-9]' /var/log/audit/audit.log")
	h.until("collector coverage -n guest --detail >/tmp/coverage || grep 'lost.*before-start' /tmp/coverage")
	h.sh("systemctl restart auditfleet-forwarder")
	h.registered()
	h.probe("after")
	if again := h.sh("grep -a 'cause=before-start records=[1-9]' /var/log/audit/audit.log"); again != said {
		t.Errorf("said once more: %s", again)
	}
	h.off()
}

// TestAuditOff boots with audit=0: nothing can be audited, and all say so.
func TestAuditOff(t *testing.T) {
	row(t)
	h := machine(t, ready, "forwarder", "collector")
	h.boot("audit=0")
	h.has(h.sh("systemctl is-active auditfleet-forwarder || :"), "inactive")
	for _, command := range []string{"forwarder doctor", "forwarder ctl -s", "forwarder --config /etc/auditfleet/auditd.conf", "forwarder --source multicast --log-file /root/audit.log --config /etc/auditfleet/auditd.conf"} {
		said, code := h.try("timeout 60 " + command)
		h.has(said, "booted with audit=0")
		if code == 0 && command != "forwarder ctl -s" {
			t.Errorf("%s: exit code 0", command)
		}
	}
	h.off()
}
