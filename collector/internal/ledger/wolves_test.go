package ledger

import "testing"

// TestNoWolves has what once was called a loss, or not known, and is neither.
func TestNoWolves(t *testing.T) {
	long := func(h *host, age int64) { // a system call that waited
		h.serial++
		h.line("type=SYSCALL msg=audit(%s:%d): arch=c000003e syscall=43", at(h.now-age), h.serial)
	}
	boot := func(h *host, serial uint32) {
		h.line("type=DAEMON_START msg=audit(%s:77): op=start ver=3.0.9", at(h.now))
		h.serial = serial
		h.line("type=CONFIG_CHANGE msg=audit(%s:%d): op=set audit_pid=7 old=0 res=1", at(h.now), serial)
	}
	shut := func(h *host) {
		h.serial++
		h.line("type=SYSTEM_SHUTDOWN msg=audit(%s:%d): pid=1 res=success", at(h.now), h.serial)
		h.now += 500
		h.line("type=DAEMON_END msg=audit(%s:76): op=terminate res=success", at(h.now))
	}
	for _, c := range []struct {
		what string
		does func(h *host)
	}{
		{"a system call that waited for hours", func(h *host) { long(h, 3*Hour) }},
		{"two of them, out of order", func(h *host) { h.serial++; long(h, 2*Hour); h.serial -= 2; long(h, Hour); h.serial++ }},
		{"a clock that is put back by an hour", func(h *host) { h.now -= Hour; h.events(30); h.now += Hour }},
		{"a reboot", func(h *host) { shut(h); h.now += 3 * minute; boot(h, 12) }},
		{"a reboot within seconds", func(h *host) { shut(h); h.now += 7000; boot(h, 3) }},
		{"a reboot that begins with a higher number than the boot before had", func(h *host) {
			shut(h)
			h.now += 30_000
			boot(h, 5)
			h.events(10)
			shut(h)
			h.now += 30_000
			boot(h, 90)
		}},
		{"auditd started again", func(h *host) {
			h.line("type=DAEMON_END msg=audit(%s:76): op=terminate res=success", at(h.now))
			h.now += 3000
			boot(h, h.serial+2)
		}},
	} {
		h := newHost(t)
		h.events(200)
		c.does(h)
		h.events(200)
		h.now += lateMs
		h.events(1)
		if a := h.answer(0, 0); a.State != Complete {
			t.Errorf("%s: %s", c.what, a.wolves())
		}
	}

	h := newHost(t)
	h.Connected(h.now)
	h.events(100)
	h.now += 3 * Hour
	h.line("type=DAEMON_ROTATE msg=audit(%s:78): op=rotate-logs res=success", at(h.now))
	h.now += Hour
	h.want("a stock host that is connected and has nothing to say", Complete)
	h.Disconnected(h.now)
	h.want("it is not connected any more", Unknown, "silent 0")
	shut(h)
	h.now += 5 * Hour
	h.want("and has shut down", Complete, "off 0")

	old := newHost(t)
	old.stray("type=USER_LOGIN msg=audit(%s:7): pid=1", at(noon-1000*Day))
	if a := Judge("old", nil, old.Followed(), Question{Now: noon, First: noon - Hour}); a.From != noon-Hour || a.State != Unknown {
		t.Errorf("a host of whose records none is of a time that counts: %+v", a)
	}
}
