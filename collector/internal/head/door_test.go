package head

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
)

// TestDoor has a host's connection begin, end and begin again, a connection and records of it
// refused, and records sent twice: its answer has each as a note, and is complete; over restarts,
// too, where the collector's end is an end of the connection.
func TestDoor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var clock atomic.Int64
	clock.Store(now.UnixNano())
	options := func(_ *journal.Options, o *Options) { o.Now = func() time.Time { return time.Unix(0, clock.Load()) } }
	r := mustRig(t, dir, options)
	pass := func(d time.Duration) { now = now.Add(d); clock.Store(now.UnixNano()) }
	serial := 100
	send := func(port uint16, n int) {
		t.Helper()
		b := &journal.Batch{Sender: journal.Sender{Addr: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), port)}, Received: now}
		for range n {
			serial++
			b.Records = append(b.Records, journal.Record{Raw: fmt.Appendf(nil, "node=web1 type=SYSCALL msg=audit(%d.000:%d): arch=c000003e", now.Unix(), serial)})
		}
		r.put(t, b)
		r.settle(t)
	}
	web1 := netip.MustParseAddrPort("192.0.2.7:1000")
	answer := func() *ledger.Answer {
		t.Helper()
		list, err := r.h.Completeness(t.Context(), CoverageQuery{Want: func(h string) bool { return h == "web1" }})
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		return list[0]
	}
	note := func(a *ledger.Answer, c ledger.Cause) ledger.Sum {
		for _, s := range a.Notes {
			if s.Cause == c {
				return s
			}
		}
		return ledger.Sum{}
	}
	send(1000, 5)
	first := now
	pass(10 * time.Second)
	send(1000, 5)
	if a := answer(); a.Up != first.UnixMilli() || a.Down != 0 || len(a.Notes) > 0 {
		t.Errorf("connected: up %d, down %d, %v", a.Up, a.Down, a.Notes)
	}
	pass(10 * time.Second)
	r.h.Connection(web1, true)
	ended := now
	r.h.Refused(web1.Addr(), "", ledger.Refused, 1)
	r.h.Refused(netip.MustParseAddr("192.0.2.99"), "", ledger.Refused, 1) // nobody's
	r.h.Refused(web1.Addr(), "web2", ledger.Refused, 1)                   // somebody else's
	r.h.Refused(web1.Addr(), "", ledger.DiskFull, 40)
	r.h.Refused(web1.Addr(), "", ledger.DiskFull, 2)
	pass(time.Second)
	if a := answer(); a.Down != ended.UnixMilli() || a.Up != 0 || note(a, ledger.Refused).N != 1 || note(a, ledger.DiskFull).N != 42 {
		t.Errorf("not connected: %+v", a)
	}
	pass(20 * time.Second)
	send(1001, 5)
	if a := answer(); a.Up != now.UnixMilli() || note(a, ledger.Disconnected).Length != 21_000 || a.State != ledger.Complete {
		t.Errorf("connected again: %+v", a)
	}
	// A connection without records, and one that ends before anybody looked.
	pass(time.Minute)
	r.h.Connection(netip.MustParseAddrPort("192.0.2.7:1001"), true)
	pass(time.Second)
	r.h.Connection(netip.MustParseAddrPort("[::ffff:192.0.2.7]:1002"), false)
	if a := answer(); a.Up != now.UnixMilli() || a.Down != 0 {
		t.Errorf("idle: %+v", a)
	}
	b := &journal.Batch{Sender: journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.7:2000")}, Received: now}
	b.Records = append(b.Records, journal.Record{Raw: fmt.Appendf(nil, "node=behind type=SYSCALL msg=audit(%d.000:7): arch=c000003e", now.Unix())})
	r.put(t, b)
	r.settle(t)
	r.h.Connection(netip.MustParseAddrPort("[::ffff:192.0.2.7]:1002"), true)
	if a := answer(); a.Down != now.UnixMilli() {
		t.Errorf("ended: %+v", a)
	}
	r.h.Connection(netip.MustParseAddrPort("192.0.2.7:1009"), false) // of either
	if a := answer(); a.Down != now.UnixMilli() {
		t.Errorf("not its own: %+v", a)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	down := now
	pass(time.Hour)
	r = mustRig(t, dir, options)
	if a := answer(); a.Down != down.UnixMilli() || a.Up != 0 || note(a, ledger.DiskFull).N != 42 {
		t.Errorf("started again: %+v", a)
	}
	send(1003, 1)
	copyTree(t, dir, dir+".killed")
	killed := now
	pass(time.Hour)
	r = mustRig(t, dir+".killed", options)
	if a := answer(); a.Down != killed.UnixMilli() || a.Up != 0 {
		t.Errorf("killed: down %d, want %d; %+v", a.Down, killed.UnixMilli(), a)
	}
	for i := range 3 * maxAtDoor {
		r.h.Connection(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5), i%2 == 0)
		r.h.Refused(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "", ledger.Refused, 1)
	}
	if n := max(len(r.h.door.ended), len(r.h.door.begun), len(r.h.door.refused)); n > maxAtDoor {
		t.Errorf("the door keeps %d", n)
	}
}
