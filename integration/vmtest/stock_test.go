package vmtest

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/integration/vmtest/lab"
)

// stockSender is a host that has never heard of us, set up as a careful administrator does it: a
// queue on disk, heartbeats, and a log host that is away neither ends shipping nor takes a record
// from the queue. Debian's own file, but for the server's name, stands beside it.
const stockSender = `
systemctl enable auditd
echo sender >/etc/hostname
printf '127.0.0.1 localhost sender\n' >/etc/hosts
sed -i 's/^active = .*/active = yes/' /etc/audit/plugins.d/au-remote.conf
cd /etc/audit
sed -i 's/^remote_server =.*/remote_server = 10.9.9.1/' audisp-remote.conf
cp audisp-remote.conf debian.conf
sed -i 's/^mode = .*/mode = forward/; s/^heartbeat_timeout = .*/heartbeat_timeout = 20/
	s/^network_failure_action = .*/network_failure_action = warn_once/' audisp-remote.conf
mkdir -p -m 0700 /var/spool/audit
sed -i 's/^name_format = .*/name_format = hostname/' auditd.conf
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

// TestStockSender has a stock auditd with audisp-remote on another host send to the collector,
// which is killed, stopped, and cut off, and the sender reboots meanwhile: once as a careful
// administrator has it, of which nothing is lost, and once as Debian has it, when something is. What
// the host has in its own log and the store has not is lost, and coverage must say how much that is.
func TestStockSender(t *testing.T) {
	row(t)
	wire := filepath.Join(t.TempDir(), "wire")
	c := of(t, lab.Spec{Name: t.Name() + "-collector", Image: image(t, logHost, "collector"), Wire: wire})
	s := of(t, lab.Spec{Name: t.Name() + "-sender", Image: image(t, stockSender, "stock"), Wire: wire})
	c.boot()
	s.boot(audited...)
	c.until("collector hosts | grep '^sender .* connected'")
	make := func(name string) { s.sh("for i in $(seq 10); do : >/etc/vmtest/" + name + "$i; sleep 0.5; done") }
	probe := func(name string) {
		t.Helper()
		s.sh(": >/etc/vmtest/" + name)
		c.until("collector search -n sender -k vmtest -f /etc/vmtest/" + name)
	}
	stop, start := func() { c.sh("systemctl stop auditfleet-collector") }, func() { c.sh("systemctl start auditfleet-collector") }
	cut := func(name string) { // the cable, for a minute
		c.sh("(ip link set eth0 down; sleep 60; ip link set eth0 up) >/dev/null 2>&1 &")
		make(name)
		c.until("ip link show eth0 | grep LOWER_UP")
	}
	probe("first")

	pid := c.pid("auditfleet-collector")
	c.sh("kill -9 " + pid)
	make("killed")
	c.again("auditfleet-collector", pid)
	probe("after-kill")
	stop()
	make("stopped")
	start()
	probe("after-stop")
	cut("cut")
	probe("after-cut")
	// What is made while there is nobody to send to must outlive the sender's boot.
	stop()
	make("reboot")
	s.reboot()
	start()
	probe("after-reboot")
	said, lost := judged(c, s)
	if lost != 0 || !strings.HasPrefix(said, "sender  complete") {
		t.Error("as a careful administrator has it, something is lost")
	}
	if n := c.sh("collector search -n sender -k vmtest --raw | grep -o '/etc/vmtest/[a-z]*[0-9]*\" .*nametype=CREATE' | cut -d'\"' -f1 | sort | uniq -c | sort -n | awk '$2 ~ /[0-9]$/ { n += $1 } END { print n, $1 }'"); n != "40 1\n" {
		t.Errorf("made 40, each once; stored: %s", n)
	}

	// With Debian's file the queue is gone with the daemon. A server that refuses it costs nothing.
	s.sh("cp /etc/audit/debian.conf /etc/audit/audisp-remote.conf; systemctl restart auditd")
	probe("debian")
	stop()
	make("away")
	s.sh("systemctl restart auditd")
	start()
	probe("after-away")
	if _, lost = judged(c, s); lost == 0 {
		t.Error("a queue in memory outlived its daemon")
	}
	c.sh("kill -9 " + c.pid("auditfleet-collector") + "; systemctl stop auditfleet-collector")
	make("refused")
	s.sh("sleep 10")
	start()
	probe("after-refused")
	if _, now := judged(c, s); now != lost {
		t.Errorf("%d events are lost, %d before: %s", now, lost, s.sh("journalctl -b --no-pager -t audisp-remote -t auditd"))
	}

	c.sh("[ $(collector search -n sender -m SYSTEM_BOOT --count) = 2 ]")
	c.sh("systemctl stop auditfleet-collector && collector verify")
	s.off()
	c.off()
}

// judged compares the events of the sender's present boot in its own log with those in the store,
// and wants coverage to say how many are lost. The kernel numbers them: what is in neither, stock
// has lost before its log; one such event at each end of a daemon, which tells of that end, is for
// nobody, and coverage may leave it out. It returns what coverage says, and how many events of the
// sender's log are not stored.
func judged(c, s *host) (string, int) {
	c.Helper()
	const ids = ` | grep -av 'type=DAEMON_\|type=EOE' | grep -ao 'audit([0-9.]*:[0-9]*)' | sort -u`
	c.until("collector coverage -n sender >/tmp/coverage; ! grep -q pending /tmp/coverage")
	own := serials(s.sh("awk '/^[^ ]* *type=SYSTEM_BOOT/ { seen = NR } { line[NR] = $0 } END { for (i = seen; i <= NR; i++) print line[i] }' /var/log/audit/audit.log" + ids))
	stored := serials(c.sh("collector search -n sender --raw" + ids))
	first, last := int(1<<62), 0
	var begun float64
	for serial, at := range own {
		first, last = min(first, serial), max(last, serial)
		if begun == 0 || at < begun {
			begun = at
		}
	}
	missing, lost := 0, 0
	for serial := first; serial <= last; serial++ {
		if at, there := stored[serial]; !there || at < begun {
			lost++
			if _, there := own[serial]; there {
				missing++
			}
		}
	}
	ends, err := strconv.Atoi(strings.TrimSpace(s.sh("grep -ac type=DAEMON_END /var/log/audit/audit.log || :")))
	if err != nil {
		c.Fatal(err)
	}
	// What is passed over may still come: it is not said to be lost for some seconds.
	if least := max(missing, lost-ends); least > 0 {
		var numbers []string
		for n := least; n <= lost; n++ {
			numbers = append(numbers, strconv.Itoa(n))
		}
		c.until("collector coverage -n sender >/tmp/coverage; grep -E 'serial-gap at host: (" + strings.Join(numbers, "|") + ") events' /tmp/coverage || { cat /tmp/coverage; false; }")
	}
	said, code := c.try("collector coverage -n sender --detail")
	c.Logf("%d events in the sender's log, %d of them not stored, %d in neither; coverage, exit code %d:\n%s", len(own), missing, lost-missing, code, said)
	if missing > 0 && code != 3 {
		c.Errorf("%d events are not stored, coverage's exit code is %d", missing, code)
	}
	return said, missing
}

// serials reads the kernel's numbers of events, and their times; of two boots the later one's.
func serials(ids string) map[int]float64 {
	all := map[int]float64{}
	for _, m := range regexp.MustCompile(`audit\(([0-9.]+):(\d+)\)`).FindAllStringSubmatch(ids, -1) {
		at, _ := strconv.ParseFloat(m[1], 64)
		serial, _ := strconv.Atoi(m[2])
		all[serial] = max(all[serial], at)
	}
	return all
}
