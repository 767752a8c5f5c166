package kernel_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
)

// What makes a gap in the kernel's serials and what does not: each case is one of
// the ways in which events don't reach us, and SerialGaps says what follows.
func TestRealSerialGaps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	const n = 2000
	type setup func(t *testing.T, c *kernel.Conn, exe string)
	rule := func(before, after string) setup {
		return func(t *testing.T, c *kernel.Conn, exe string) { kerneltest.AddRule(t, c, before+exe+after) }
	}
	set := func(s kernel.Status) setup {
		return func(t *testing.T, c *kernel.Conn, _ string) {
			if err := c.Set(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		cfg        kernel.Config
		prepare    setup
		come       bool // all n events; otherwise none, or with lost a part
		lost, gaps bool
	}{
		"nothing":               {come: true},
		"never rule":            {prepare: rule("-A never,exit -F arch=b64 -S getppid -F exe=", "")},
		"excluded altogether":   {prepare: rule("-a always,exclude -F exe=", "")},
		"excluded in part":      {prepare: rule("-a always,exclude -F exe=", " -F msgtype=PROCTITLE"), come: true},
		"first record excluded": {prepare: rule("-a always,exclude -F exe=", " -F msgtype=SYSCALL")},
		// The serial was taken before the limit was looked at.
		"rate limit": {lost: true, gaps: true, prepare: set(kernel.Status{Mask: kernel.MaskRateLimit, RateLimit: 100})},
		// An event that finds no room takes no serial: lost, and no gap.
		"small backlog": {lost: true, prepare: set(kernel.Status{Mask: kernel.MaskBacklogLimit | kernel.MaskBacklogWaitTime, BacklogLimit: 1})},
		"overrun":       {lost: true, gaps: true, cfg: kernel.Config{Multicast: true, ReceiveBuffer: 4 << 10}},
	} {
		t.Run(name, func(t *testing.T) {
			c := kerneltest.Dial(t)
			w := kerneltest.Getppid(t, c)
			if tc.cfg.Multicast {
				startReal(t, kernel.Config{QueueBytes: 64 << 20})
			}
			l := startReal(t, tc.cfg)
			if tc.prepare != nil {
				tc.prepare(t, c, w.Exe())
			}
			w.Run(t, n)
			time.Sleep(1100 * time.Millisecond) // the rate limit lets some through again
			w.Run(t, 1)
			time.Sleep(100 * time.Millisecond) // the multicast group gets them from another kernel thread
			l.cancel()
			if err := <-l.done; err != nil {
				t.Fatal(err)
			}
			events := map[string]bool{}
			for _, r := range takeAllRaw(t, l.Queue()) {
				head, rest, _ := bytes.Cut(r.Text, []byte("): "))
				if r.Type == 1300 && bytes.HasSuffix(rest, []byte(`key="`+w.Key+`"`)) {
					events[string(head)] = true
				}
			}
			st := l.Stats()
			lost := st.Lost["kernel"] + st.Lost["overrun"]
			t.Logf("%d events, %d records lost, %d gaps", len(events), lost, st.SerialGaps)
			switch {
			case tc.lost && (len(events) == 0 || len(events) > n):
				t.Errorf("%d events: a part was to come", len(events))
			case !tc.lost && tc.come && len(events) != n+1, !tc.lost && !tc.come && len(events) != 0:
				t.Errorf("%d events", len(events))
			}
			if (lost > 0) != tc.lost {
				t.Errorf("%d records lost", lost)
			}
			// Nobody else has audit rules here, but other programs may send messages, and with
			// auditing on before, the kernel may have dropped one of what it held back.
			if missing := uint64(n + 1 - len(events)); tc.gaps && (st.SerialGaps < missing*9/10 || st.SerialGaps > missing+100) || !tc.gaps && st.SerialGaps > 2 {
				t.Errorf("%d gaps, %d events did not come", st.SerialGaps, missing)
			}
			if g := l.TakeSerialGaps(); g.Count != st.SerialGaps {
				t.Errorf("%+v is told of %d", g, st.SerialGaps)
			}
		})
	}
}
