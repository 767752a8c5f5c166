package madeday

import (
	"fmt"
	"strings"
	"time"
)

// begin begins a run of the daemon, of which nothing is said yet.
func (h *Host) begin() {
	h.runs = true
	h.n, h.handed, h.dropped, h.lost = 0, 0, 0, 0
	h.run = fmt.Sprintf("%016x", h.rnd.Uint64())
	h.from = h.clock()
}

// ownRecord makes a record of the daemon's own.
func (h *Host) ownRecord(format string, args ...any) {
	h.own++
	typ, rest, _ := cutSpace(fmt.Sprintf(format, args...))
	h.line(fmt.Sprintf("type=%s msg=audit(%s:%d): %s", typ, stamp(h.clock()), h.own, rest))
}

// startDaemon has the daemon register with the kernel, which gives it what it has kept.
func (h *Host) startDaemon() {
	h.begin()
	version := "3.0.9"
	if h.Kind < Stock {
		version = "0.4.0"
	}
	h.ownRecord("DAEMON_START op=start ver=%s format=enriched kernel=6.1.0-26-amd64 auid=4294967295 pid=%d uid=0 ses=4294967295 subj=unconfined res=success", version, 500+h.boot)
	if h.Kind != Plugin { // which begins to speak after a minute
		h.alive(false)
	}
	for _, l := range h.kept {
		h.line(string(l.Raw))
	}
	h.kept = nil
	h.get(h.kernel(h.clock(), fmt.Sprintf("CONFIG_CHANGE op=set audit_pid=%d old=0 auid=4294967295 ses=4294967295 subj=unconfined res=1", 500+h.boot)))
}

// stopDaemon has it leave. What the kernel makes of that nobody gets, unless it keeps it.
func (h *Host) stopDaemon() {
	h.alive(true)
	h.ownRecord("DAEMON_END op=terminate auid=0 uid=0 ses=4294967295 pid=1 subj=unconfined res=success")
	h.runs = false
	h.get(h.kernel(h.clock(), fmt.Sprintf("CONFIG_CHANGE op=set audit_pid=0 old=%d auid=4294967295 ses=4294967295 subj=unconfined res=1", 500+h.boot)))
}

// alive is the forwarder's statement.
func (h *Host) alive(last bool) {
	if h.Kind == Stock || last && h.n == 0 {
		return
	}
	now := h.clock()
	if now.Before(h.from) { // the clock went back
		h.from = now
	}
	h.n++
	var b strings.Builder
	fmt.Fprintf(&b, "DAEMON_RESUME op=alive run=%s n=%d first=%s last=%s boot=%s", h.run, h.n, stamp(h.from), stamp(now), h.bootID())
	if h.Kind == Plugin {
		b.WriteString(" source=stdin")
	} else {
		fmt.Fprintf(&b, " source=kernel registered=yes enabled=1 found=1 serial=%d kernel-lost=0 backlog=0 invisible=0", h.serial)
	}
	if h.rules != "" && h.Kind != Plugin {
		fmt.Fprintf(&b, " rules=%s", h.rules)
	}
	fmt.Fprintf(&b, " records=%d dropped=%d lost=%d unsent=%d", h.handed, h.dropped, h.lost, len(h.spool))
	if len(h.spool) > 0 {
		fmt.Fprintf(&b, " oldest=%s", stamp(h.spool[0].made))
	}
	if last {
		b.WriteString(" ends=yes")
	}
	h.ownRecord("%s auid=4294967295 pid=%d res=success", b.String(), 500+h.boot)
	h.from = now
}

func (h *Host) bootID() string {
	return fmt.Sprintf("4be22a64-5a2b-4b30-%04x-%012x", h.boot, len(h.Name)+int(h.Name[len(h.Name)-1]))
}

// start boots the host.
func (h *Host) start() {
	h.off = 0
	h.boot++
	h.serial = 0
	h.booted = h.clock()
	if h.cfg.Leaps && h.rnd.IntN(3) == 0 {
		h.leap()
		h.booted = h.clock()
	}
	h.kept = nil
	h.runs = false
	early := 1 + h.rnd.IntN(30)
	for range early {
		h.pass(50)
		h.get(h.kernel(h.clock(), fmt.Sprintf("BPF prog-id=%d op=LOAD", 5+h.serial)))
	}
	h.rules = ""
	h.startDaemon()
	h.pass(300)
	h.loadRules(true)
	h.pass(200)
	h.get(h.kernel(h.clock(), `SYSTEM_BOOT pid=612 uid=0 auid=4294967295 ses=4294967295 msg='comm="systemd-update-utmp" exe="/usr/lib/systemd/systemd-update-utmp" hostname=? addr=? terminal=? res=success'`))
}

// shutDown shuts the host down until a minute. The kernel goes on for a while after the daemon
// has left, for nobody.
func (h *Host) shutDown(until int) {
	h.get(h.kernel(h.clock(), `SYSTEM_SHUTDOWN pid=900 uid=0 auid=4294967295 ses=4294967295 msg='comm="systemd-update-utmp" exe="/usr/lib/systemd/systemd-update-utmp" hostname=? addr=? terminal=? res=success'`))
	h.pass(100)
	if h.rnd.IntN(2) == 0 {
		h.get(h.work())
	}
	h.stopDaemon()
	h.kept = nil
	h.off = until
}

// pass has up to some milliseconds go by.
func (h *Host) pass(ms int) { h.now = h.now.Add(time.Duration(1+h.rnd.IntN(ms)) * time.Millisecond) }

// loadRules loads the rules anew: for a moment there are none, or some of them.
func (h *Host) loadRules(boot bool) {
	if !boot {
		h.get(h.kernel(h.clock(), `CONFIG_CHANGE auid=0 ses=2 subj=unconfined op=remove_rule key="exec" list=4 res=1`))
		h.rules = "0000"
		if h.rnd.IntN(3) == 0 {
			h.alive(false)
		}
	}
	for i := range 1 + h.rnd.IntN(12) {
		h.pass(20)
		h.get(h.kernel(h.clock(), fmt.Sprintf(`CONFIG_CHANGE auid=4294967295 ses=4294967295 subj=unconfined op=add_rule key="k%d" list=4 res=1`, i)))
	}
	h.get(h.kernel(h.clock(), "CONFIG_CHANGE op=set audit_enabled=1 old=1 auid=4294967295 ses=4294967295 subj=unconfined res=1"))
	h.rules = rulesHash
}
