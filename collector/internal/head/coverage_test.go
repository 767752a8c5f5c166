package head

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// TestCoverage has two hosts, of which one loses records, pass through a head that is stopped and
// killed again and again: the ledger says what one says that saw all of it in one go.
func TestCoverage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	minutes := need.Size(180, 60)
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC).Add(-time.Duration(minutes) * 40 * time.Second) // over midnight
	var clock atomic.Int64
	clock.Store(now.UnixNano())
	options := func(_ *journal.Options, o *Options) {
		o.TableBytes, o.Now = 60<<10, func() time.Time { return time.Unix(0, clock.Load()) }
	}
	r := mustRig(t, dir, options)
	plain := map[string]*ledger.Host{"web1": ledger.NewHost(), "web2": ledger.NewHost()}
	batches, serial := map[string]*journal.Batch{}, 5000
	put := func(host, text string, args ...any) {
		line := fmt.Appendf(nil, "node=%s type=%s", host, fmt.Sprintf(text, args...))
		b := batches[host]
		if b == nil {
			b = &journal.Batch{Sender: journal.Sender{Verified: host}}
			batches[host] = b
		}
		var rec record.Record
		if err := rec.Parse(line); err != nil {
			t.Fatal(err)
		}
		plain[host].Record(&rec, senderID(&b.Sender), now.UnixMilli())
		b.Records, b.Received = append(b.Records, journal.Record{Raw: line}), now
	}
	stamp := func(at time.Time) string { return fmt.Sprintf("%d.%03d", at.Unix(), at.Nanosecond()/1e6) }
	handed, from := map[string]int{}, now
	for minute := range minutes {
		for range 20 {
			now = now.Add(3 * time.Second)
			clock.Store(now.UnixNano())
			serial++
			for host := range plain {
				put(host, "SYSCALL msg=audit(%s:%d): arch=c000003e syscall=59 success=yes exit=0 pid=1 comm=\"x\" %060d", stamp(now), serial, 0)
				handed[host]++
			}
		}
		if minute == minutes*5/9 {
			handed["web2"] += 11 // that never come
		}
		for host := range plain {
			put(host, "DAEMON_RESUME msg=audit(%s:1): op=alive run=%s n=%d first=%s last=%s boot=b source=kernel registered=yes enabled=1 found=1 records=%d dropped=0 lost=0 unsent=0 res=success",
				stamp(now), host, minute+1, stamp(from), stamp(now), handed[host])
			handed[host]++
		}
		from = now
		r.put(t, batches["web1"], batches["web2"])
		clear(batches)
		switch minute % 20 {
		case 7:
			r.settle(t)
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
			r = mustRig(t, dir, options)
		case 15:
			if err := r.j.Sync(); err != nil {
				t.Fatal(err)
			}
			copyTree(t, dir, fmt.Sprintf("%s.%d", dir, minute))
			dir = fmt.Sprintf("%s.%d", dir, minute)
			r = mustRig(t, dir, options)
		}
	}
	r.settle(t)
	got, err := r.h.Completeness(t.Context(), CoverageQuery{})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d answers, %v", len(got), err)
	}
	for _, a := range got {
		h := plain[a.Host]
		want := ledger.Judge(a.Host, h.Take(now.UnixMilli()), h.Followed(), ledger.Question{Now: now.UnixMilli()})
		if n := uint64(minutes * 21); a.EventsStored > n || a.EventsStored+2 < n { // the last two may be open
			t.Errorf("%s: %d events, want %d", a.Host, a.EventsStored, n)
		}
		want.EventsStored = a.EventsStored
		if d := cmp.Diff(want, a, cmpopts.IgnoreUnexported(ledger.Answer{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", a.Host, d)
		}
		if state := map[string]ledger.State{"web1": ledger.Complete, "web2": ledger.Lost}[a.Host]; a.State != state || a.State == ledger.Lost && a.Lost != 11 {
			t.Errorf("%s: %s %d, want %s", a.Host, a.State, a.Lost, state)
		}
	}
}

// Whoever asks may have thousands of patterns, and tries them on hosts while records go on: no lock is
// held for that.
func TestCoverageHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	r.put(t, plain(1, line("web1", 1, 1, "USER_LOGIN", "x")))
	r.settle(t)
	asked := false
	list, err := r.h.Completeness(t.Context(), CoverageQuery{Want: func(string) bool {
		asked = true
		done := make(chan struct{})
		go func() { r.h.Twins("web1"); close(done) }() // needs the lock
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("the head is locked while a pattern is tried")
		}
		return true
	}})
	if err != nil || !asked || len(list) == 0 {
		t.Errorf("%d answers, asked: %v, %v", len(list), asked, err)
	}
}
