package vmtest

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// work has the host make numbered events, five a second, until done.
func (h *host) work() {
	h.Helper()
	h.sh(`systemd-run --quiet --unit=work sh -c 'i=0; while [ ! -e /var/lib/done ]; do i=$((i+1)); : >/etc/vmtest/n$i; echo $i >/var/lib/made; sleep 0.2; done'`)
}

// done ends the work, and wants each of its events to be stored, once, but for those that
// coverage says are lost.
func (h *host) done() {
	h.Helper()
	h.sh("touch /var/lib/done")
	h.until("! systemctl is-active -q work")
	made, err := strconv.Atoi(strings.TrimSpace(h.sh("cat /var/lib/made")))
	if err != nil {
		h.Fatal(err)
	}
	h.until(fmt.Sprintf("collector search -k vmtest -f /etc/vmtest/n%d", made))
	h.until("collector coverage -n guest >/tmp/coverage; ! grep -q pending /tmp/coverage")
	found := h.sh("collector search -k vmtest --raw | grep -o '/etc/vmtest/n[0-9]*\" .*nametype=CREATE' | cut -d'\"' -f1 | sort | uniq -c | sort -rn >/tmp/found; cat /tmp/found")
	stored, twice := 0, 0
	for line := range strings.Lines(found) {
		stored++
		if !strings.HasPrefix(strings.TrimSpace(line), "1 ") {
			twice++
		}
	}
	said, code := h.try("collector coverage -n guest --detail")
	h.Logf("%d events made, %d stored, %d twice; coverage:\n%s", made, stored, twice, said)
	h.Log(h.sh("for i in $(seq $(cat /var/lib/made)); do grep -q /etc/vmtest/n$i'$' /tmp/found || { ls -l --time-style=full-iso /etc/vmtest/n$i; grep -ac /etc/vmtest/n$i'\"' /var/log/audit/audit.log || :; }; done 2>&1 | head -n 40"))
	if missing := made - stored; missing > 0 && code == 0 {
		h.Errorf("%d are not stored, and coverage says that all are", missing)
	}
	if twice > 0 {
		h.Errorf("%d are stored twice", twice)
	}
}

// again waits until a unit's process is another one than before.
func (h *host) again(unit, before string) {
	h.Helper()
	h.until(fmt.Sprintf("systemctl is-active %s && [ $(systemctl show -P MainPID %s) != %s ]", unit, unit, before))
}

func (h *host) pid(unit string) string {
	h.Helper()
	return strings.TrimSpace(h.sh("systemctl show -P MainPID " + unit))
}

// TestServices does to both services what administrators, and mishaps, do.
func TestServices(t *testing.T) {
	row(t)
	h := auditing(t, ready)
	h.work()
	for _, unit := range []string{"auditfleet-forwarder", "auditfleet-collector"} {
		pid := h.pid(unit)
		h.sh("systemctl reload " + unit)
		conf := map[string]string{"auditfleet-forwarder": "/etc/auditfleet/auditd.conf", "auditfleet-collector": "/etc/auditfleet/collector.conf"}[unit]
		h.sh(fmt.Sprintf("cp %s /tmp/good; echo 'flush = nonsense' >>%s; systemctl reload %s || :", conf, conf, unit))
		h.until(fmt.Sprintf("journalctl -b -u %s | grep nonsense", unit))
		if now := h.pid(unit); now != pid {
			t.Errorf("%s: a broken file ended it", unit)
		}
		h.sh(fmt.Sprintf("cp /tmp/good %s; systemctl reload %s; systemctl restart %s", conf, unit, unit))
		h.again(unit, pid)
		h.sh(fmt.Sprintf("systemctl stop %s; sleep 3; systemctl start %s", unit, unit))
		h.registered()
		pid = h.pid(unit)
		h.sh("kill -9 " + pid)
		h.again(unit, pid)
		h.registered()
	}
	h.reboot()
	h.registered()
	h.done() // a daemon that is killed may lose what it has just read, which coverage says
	h.off()
}

// impatient has the watchdogs of both services wait for less than the three minutes of their units.
const impatient = `
for unit in auditfleet-forwarder auditfleet-collector; do
	mkdir -p /etc/systemd/system/$unit.service.d
	printf '[Service]\nWatchdogSec=45\n' >/etc/systemd/system/$unit.service.d/watchdog.conf
done
`

// TestHang has each daemon stand still until systemd's watchdog starts it again.
func TestHang(t *testing.T) {
	row(t)
	h := auditing(t, ready+impatient)
	h.work()
	for _, unit := range []string{"auditfleet-collector", "auditfleet-forwarder"} {
		h.sh("grep '^WatchdogSec=[1-9]' $(systemctl show -P FragmentPath " + unit + ")") // as installed
		pid := h.pid(unit)
		h.sh("kill -STOP " + pid)
		h.again(unit, pid)
		h.registered()
	}
	h.done()
	h.off()
}

// TestStockAndBack has stock auditd take the daemon's place for a while.
func TestStockAndBack(t *testing.T) {
	row(t)
	h := auditing(t, ready, "stock")
	h.work()
	h.until("collector search -k vmtest -f n5")
	h.sh("systemctl start auditd")
	h.until("! systemctl is-active -q auditfleet-forwarder && [ $(cat /run/auditd.pid) = $(forwarder ctl -s | sed -n 's/^pid //p') ]")
	n := strings.TrimSpace(h.sh("cat /var/lib/made; sleep 5"))
	h.sh("systemctl start auditfleet-forwarder")
	h.registered()
	h.probe("back")
	h.done()
	said, code := h.try("collector coverage -n guest --detail")
	if code != 3 || !strings.Contains(said, "stopped") && !strings.Contains(said, "not-registered") {
		t.Errorf("exit code %d: %s", code, said)
	}
	// Both have written the host's own log.
	h.until("forwarder search --input-logs -k vmtest -f /etc/vmtest/n" + n)
	missing := h.sh(`for i in $(seq $(cat /var/lib/made)); do echo /etc/vmtest/n$i; done | sort >/tmp/made
		cat /var/log/audit/audit.log* | grep -a nametype=CREATE | grep -ao '/etc/vmtest/n[0-9]*"' | tr -d '"' | sort -u >/tmp/logged
		comm -23 /tmp/made /tmp/logged | xargs -r stat -c '%n %.6Y'`)
	h.unlogged(missing, h.sh("cat /var/log/audit/audit.log* | grep -av type=DAEMON_"))
	h.off()
}

// unlogged wants a reason for each file whose making is not in the host's log: when stock loads rules
// it deletes them first, and what is made then is no event; and what a daemon had not read when it
// ended is lost between two records of the log, whose numbers show it.
func (h *host) unlogged(files, log string) {
	h.Helper()
	times := map[int]float64{} // of the events in the log
	var last int
	var without [][2]float64 // from, to: no rule was loaded
	for _, m := range regexp.MustCompile(`(?m)^.*msg=audit\(([0-9.]+):(\d+)\).*$`).FindAllStringSubmatch(log, -1) {
		at, _ := strconv.ParseFloat(m[1], 64)
		serial, _ := strconv.Atoi(m[2])
		times[serial], last = at, max(last, serial)
		switch {
		case strings.Contains(m[0], `op=remove_rule key="vmtest"`):
			without = append(without, [2]float64{at, math.Inf(1)})
		case strings.Contains(m[0], `op=add_rule key="vmtest"`) && len(without) > 0:
			without[len(without)-1][1] = at
		}
	}
	var gaps [][2]float64
	for serial, before := 1, 0; serial <= last; serial++ {
		if _, there := times[serial]; !there {
			continue
		}
		if before > 0 && serial > before+1 {
			gaps = append(gaps, [2]float64{times[before], times[serial]})
		}
		before = serial
	}
	const tick = 0.1 // both clocks are the kernel's coarse one
	within := func(spans [][2]float64, at float64) bool {
		return slices.ContainsFunc(spans, func(span [2]float64) bool { return at > span[0]-tick && at < span[1]+tick })
	}
	for line := range strings.Lines(files) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		at, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil:
			h.Errorf("%q: %v", line, err)
		case within(without, at):
			h.Logf("%s was made when stock had deleted the rules to load them", name)
		case within(gaps, at):
			h.Logf("%s is lost between two daemons", name)
		default:
			h.Errorf("%s, made at %s, is not in the log, and nothing says why", name, text)
		}
	}
}
