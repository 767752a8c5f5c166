package vmtest

import (
	"os/exec"
	"testing"

	"github.com/auditfleet/auditfleet/integration/vmtest/lab"
)

// small is a host whose log, spool and store have small disks of their own.
const small = ready + `
mkdir -p /var/log/audit /var/spool/auditfleet /var/lib/auditfleet
chmod 0700 /var/log/audit
for line in "vdb /var/log/audit" "vdc /var/spool/auditfleet" "vdd /var/lib/auditfleet"; do
	echo "/dev/${line% *} ${line#* } ext4 defaults,x-systemd.device-timeout=900 0 0" >>/etc/fstab
done
sed -i 's/^max_log_file = .*/max_log_file = 4/' /etc/auditfleet/auditd.conf
`

// mayHalt lets actions end what people do on the host, or switch it off: else they are refused.
const mayHalt = "echo 'allow_halt = yes' >>/etc/auditfleet/forwarder.conf\n"

// disks makes formatted disks of so many MiB.
func disks(t *testing.T, sizes ...int64) []string {
	t.Helper()
	var paths []string
	for _, size := range sizes {
		path, err := machines.Disk(size)
		if err != nil {
			t.Fatal(err)
		}
		if said, err := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		paths = append(paths, path)
	}
	return paths
}

// smallHost is auditing with such disks.
func smallHost(t *testing.T, prepare string) *host {
	t.Helper()
	return of(t, lab.Spec{Name: t.Name(), Image: image(t, prepare, "forwarder", "collector"), Disks: disks(t, 16, 32, 64)}).audit()
}

// TestFullDisks fills the disks of log, spool and store, one after the other.
func TestFullDisks(t *testing.T) {
	row(t)
	h := smallHost(t, small)
	fill := func(folder string) { h.try("dd if=/dev/zero of=" + folder + "/filler bs=64k 2>/dev/null; sync") }
	free := func(folder string) { h.sh("rm -f " + folder + "/filler; sync") }

	h.probe("before")
	fill("/var/log/audit")
	h.probe("log-full") // what can't be written here is shipped
	h.until("journalctl -b -u auditfleet-forwarder | grep -i 'space\\|disk'")
	free("/var/log/audit")
	h.probe("log-free")

	fill("/var/lib/auditfleet")
	h.sh(": >/etc/vmtest/store-full; sleep 5")
	free("/var/lib/auditfleet")
	h.until("systemctl is-active auditfleet-collector")
	h.until("collector search -k vmtest -f store-full")

	h.sh("systemctl stop auditfleet-collector")
	fill("/var/spool/auditfleet")
	h.sh("for i in $(seq 200); do : >/etc/vmtest/spool-full$i; done")
	h.until("journalctl -b -u auditfleet-forwarder | grep -i spool")
	free("/var/spool/auditfleet")
	h.sh("systemctl start auditfleet-collector")
	h.probe("after")
	stored := h.sh("collector search -k vmtest --raw | grep -o 'spool-full[0-9]*' | sort -u | wc -l")
	said, code := h.try("collector coverage -n guest --detail")
	t.Logf("%s of 200 stored; %s", stored, said)
	if stored != "200\n" && code == 0 {
		t.Error("some are not stored, and coverage says that all are")
	}
	h.sh("systemctl stop auditfleet-collector && collector verify")
	h.off()
}

// TestSingle has a log that runs out of space end what people do on the host.
func TestSingle(t *testing.T) {
	row(t)
	h := smallHost(t, small+mayHalt+"sed -i 's/^admin_space_left_action = .*/admin_space_left_action = single/' /etc/auditfleet/auditd.conf\n")
	h.probe("before")
	h.try("dd if=/dev/zero of=/var/log/audit/filler bs=64k 2>/dev/null; sync; : >/etc/vmtest/full")
	h.until("systemctl is-active rescue.target")
	h.until("! systemctl is-active -q ssh")
	h.sh("rm /var/log/audit/filler; systemctl --no-block default")
	h.until("systemctl is-active multi-user.target")
	h.registered()
	h.probe("after")
	t.Log(h.sh("collector coverage -n guest --detail || :"))
	h.off()
}

// TestHalt has a full log switch the machine off.
func TestHalt(t *testing.T) {
	row(t)
	h := smallHost(t, small+mayHalt+"sed -i 's/^disk_full_action = .*/disk_full_action = halt/; s/^space_left_action.*/space_left_action = ignore/; s/^admin_space_left_action.*/admin_space_left_action = ignore/' /etc/auditfleet/auditd.conf\n")
	h.probe("before")
	h.try("dd if=/dev/zero of=/var/log/audit/filler bs=64k 2>/dev/null; sync")
	if _, err := h.Guest.Run(ctx, "for i in $(seq 2000); do : >/etc/vmtest/full$i; done"); err != nil {
		t.Log(err) // it may be off before this ends
	}
	if err := h.Off(ctx); err != nil {
		t.Fatal(err)
	}
	h.boot(append([]string{"systemd.mask=auditfleet-forwarder.service"}, audited...)...)
	h.has(h.sh("collector search -k vmtest -f before"), "before")
	h.sh("rm /var/log/audit/filler")
	h.off()
	h.boot(audited...)
	h.registered()
	h.probe("after")
	t.Log(h.sh("collector coverage -n guest --detail || :"))
	h.off()
}
