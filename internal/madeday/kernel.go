package madeday

import (
	"fmt"
	"slices"
	"time"
)

// event is what the kernel makes of one thing that happened.
type event struct{ records []string }

// kernel makes an event at a time of the host's clock.
func (h *Host) kernel(at time.Time, records ...string) event {
	h.serial++
	e := event{}
	for _, text := range records {
		typ, rest, _ := cutSpace(text)
		e.records = append(e.records, fmt.Sprintf("type=%s msg=audit(%s:%d): %s", typ, stamp(at), h.serial, rest))
	}
	return e
}

func cutSpace(text string) (first, rest string, ok bool) {
	for i := range text {
		if text[i] == ' ' {
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// get gives the daemon events, or has the kernel keep them where there is none.
func (h *Host) get(list ...event) {
	for _, e := range list {
		for _, raw := range e.records {
			switch {
			case h.runs:
				h.line(raw)
			case h.keeps:
				h.kept = append(h.kept, Line{Raw: []byte(raw)})
			}
		}
	}
}

// events makes events at some marks of a minute, as several CPUs hand them over: a few of them out
// of order, and the records of two mixed.
func (h *Host) events(at time.Time, marks []int) {
	var list []event
	for _, ms := range marks {
		h.now = maxTime(h.now, at.Add(time.Duration(ms)*time.Millisecond))
		list = append(list, h.work())
	}
	for i := 1; i < len(list); i++ {
		switch h.rnd.IntN(12) {
		case 0:
			list[i-1], list[i] = list[i], list[i-1]
		case 1:
			j := max(0, i-1-h.rnd.IntN(4))
			e := list[i]
			copy(list[j+1:i+1], list[j:i])
			list[j] = e
		case 2: // mixed
			a, b := list[i-1].records, list[i].records
			var mixed []string
			for len(a)+len(b) > 0 {
				if len(b) == 0 || len(a) > 0 && h.rnd.IntN(2) == 0 {
					mixed, a = append(mixed, a[0]), a[1:]
				} else {
					mixed, b = append(mixed, b[0]), b[1:]
				}
			}
			list[i-1].records, list[i].records = nil, mixed
		}
	}
	h.get(slices.Clone(list)...)
}

// work is one thing that happens.
func (h *Host) work() event {
	at := h.clock()
	if len(h.due) > 0 && !h.now.Before(h.due[0].At) {
		e := h.kernel(at, h.due[0].Records...)
		h.due = h.due[1:]
		return e
	}
	if h.cfg.Work != nil {
		return h.kernel(at, h.cfg.Work(h.rnd, h.Name)...)
	}
	pid := 1000 + h.rnd.IntN(30000)
	switch h.rnd.IntN(8) {
	case 0:
		return h.kernel(at, fmt.Sprintf(`USER_LOGIN pid=%d uid=0 auid=1000 ses=3 msg='op=login id=1000 exe="/usr/sbin/sshd" hostname=? addr=10.9.8.7 terminal=ssh res=success'`, pid))
	case 1:
		return h.kernel(at, fmt.Sprintf(`CRED_DISP pid=%d uid=0 auid=0 ses=4 msg='op=PAM:setcred acct="root" exe="/usr/sbin/cron" hostname=? addr=? terminal=cron res=success'`, pid))
	case 2:
		return h.kernel(at, `SERVICE_START pid=1 uid=0 auid=4294967295 ses=4294967295 msg='unit=apt-daily comm="systemd" exe="/usr/lib/systemd/systemd" hostname=? addr=? terminal=? res=success'`)
	case 3:
		// A system call that waited: its time is when it began, its number of when it ended.
		if long := time.Duration(h.rnd.ExpFloat64() * float64(10*time.Minute)); h.rnd.IntN(3) == 0 && at.Add(-long).After(h.booted) && (!h.still || long < 4*time.Minute) { // the only events of a time would look late
			return h.kernel(at.Add(-long), fmt.Sprintf(`SYSCALL arch=c000003e syscall=43 success=yes exit=5 a0=3 items=0 ppid=1 pid=%d auid=4294967295 uid=0 comm="sshd" exe="/usr/sbin/sshd" key="accept"`, pid),
				`SOCKADDR saddr=02000016C0000201`, `PROCTITLE proctitle=73736864`)
		}
	}
	return h.kernel(at,
		fmt.Sprintf(`SYSCALL arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=8 items=2 ppid=1 pid=%d auid=1000 uid=0 gid=0 euid=0 tty=pts0 ses=3 comm="id" exe="/usr/bin/id" key="exec"`, pid),
		`EXECVE argc=1 a0="id"`, `CWD cwd="/root"`, `PATH item=0 name="/usr/bin/id" inode=1234 dev=08:01 mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`, `PROCTITLE proctitle="id"`)
}
