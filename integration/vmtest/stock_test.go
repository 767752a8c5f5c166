package vmtest

import (
	"path/filepath"
	"testing"

	"github.com/auditfleet/auditfleet/integration/vmtest/lab"
)

// stockSender is a host that has never heard of us.
const stockSender = `
systemctl enable auditd
echo sender >/etc/hostname
sed -i 's/^active = .*/active = yes/' /etc/audit/plugins.d/au-remote.conf
sed -i 's/^remote_server =.*/remote_server = 10.9.9.1/' /etc/audit/audisp-remote.conf
sed -i 's/^name_format = .*/name_format = hostname/' /etc/audit/auditd.conf
mkdir -p /etc/vmtest /etc/systemd/journald.conf.d
printf '[Journal]\nAudit=yes\n' >/etc/systemd/journald.conf.d/audit.conf
printf '[Match]\nName=eth0\n[Network]\nAddress=10.9.9.2/24\n' >/etc/systemd/network/eth0.network
systemctl enable systemd-networkd
systemctl disable systemd-networkd-wait-online
echo "-w /etc/vmtest -p wa -k vmtest" >/etc/audit/rules.d/vmtest.rules
`

const logHost = `
systemctl enable auditfleet-collector
printf '[Match]\nName=eth0\n[Network]\nAddress=10.9.9.1/24\n' >/etc/systemd/network/eth0.network
systemctl enable systemd-networkd
systemctl disable systemd-networkd-wait-online
`

// TestStockSender has a stock auditd with audisp-remote on another host send to the collector.
func TestStockSender(t *testing.T) {
	row(t)
	wire := filepath.Join(t.TempDir(), "wire")
	c := of(t, lab.Spec{Name: t.Name() + "-collector", Image: image(t, logHost, "collector"), Wire: wire})
	s := of(t, lab.Spec{Name: t.Name() + "-sender", Image: image(t, stockSender, "stock"), Wire: wire})
	c.boot()
	s.boot(audited...)
	c.until("collector hosts | grep '^sender .* connected'")
	probe := func(name string) {
		t.Helper()
		s.sh(": >/etc/vmtest/" + name)
		c.until("collector search -n sender -k vmtest -f " + name)
	}
	probe("first")
	c.sh("kill -9 $(systemctl show -P MainPID auditfleet-collector)")
	// With Debian's file audisp-remote ends when its server goes, until a signal.
	s.sh("sleep 2; pkill -USR2 audisp-remote || :")
	c.until("systemctl is-active auditfleet-collector")
	s.sh("for i in 1 2 3 4 5; do pkill -USR2 audisp-remote; : >/etc/vmtest/again$i; sleep 1; done")
	probe("second")
	s.reboot()
	probe("third")
	t.Log(c.sh("collector coverage -n sender --detail || :; collector hosts"))
	c.sh("[ $(collector search -n sender -m SYSTEM_BOOT --count) = 2 ]")
	s.off()
	c.until("collector coverage -n sender --detail | grep -i 'shut\\|off'")
	c.off()
}
