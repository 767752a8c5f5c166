package ship_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
)

// Each turn of a server has an entry, also over a restart of the sender; what was acknowledged
// before the start and is again is not counted again.
func TestAckedByTurns(t *testing.T) {
	var busy, most atomic.Int64
	a, b := newGate(t, &busy, &most), newGate(t, &busy, &most)
	cfg := quick(ship.Config{Servers: []string{a.addr, b.addr}})
	src := newSource()
	n := 0
	deliver := func(cfg ship.Config, up, down *gate, count int) *ship.Sender {
		t.Helper()
		down.close()
		up.open()
		for range count {
			n++
			src.add(fmt.Sprint("r", n))
		}
		s, stop := start(t, cfg, src)
		drain(t, s)
		stop()
		up.close()
		return s
	}
	said := func(s *ship.Sender) (out []string) {
		for _, by := range s.AckedBy() {
			who := "a"
			if by.Server == b.addr {
				who = "b"
			}
			if by.Peer.Addr != by.Server || by.Peer.Name != "" || by.Stream != [16]byte{1} || by.When.IsZero() {
				t.Errorf("%+v", by)
			}
			out = append(out, fmt.Sprintf("%s %d-%d: %d", who, by.From, by.To, by.Records))
		}
		return out
	}
	s := deliver(cfg, a, b, 5)
	cfg.AckedBy = s.AckedBy()
	s = deliver(cfg, a, b, 2)
	cfg.AckedBy = s.AckedBy()
	s = deliver(cfg, b, a, 3)
	cfg.AckedBy = s.AckedBy()
	s = deliver(cfg, a, b, 1)
	if d := cmp.Diff([]string{"a 1-7: 7", "b 8-10: 3", "a 11-11: 1"}, said(s)); d != "" {
		t.Error(d)
	}
	cfg.AckedBy = s.AckedBy()
	src.mu.Lock()
	src.acked = 8 // the source was killed before it noted that more is
	src.mu.Unlock()
	s = deliver(cfg, a, b, 1)
	// It has records 9 and 10 now, too.
	if d := cmp.Diff([]string{"a 1-7: 7", "b 8-10: 3", "a 9-12: 2"}, said(s)); d != "" {
		t.Error(d)
	}
	for range ship.MaxAckedBy {
		cfg.AckedBy = append(cfg.AckedBy, ship.AckedBy{Server: "old"})
	}
	if s = deliver(cfg, b, a, 1); len(s.AckedBy()) != ship.MaxAckedBy || s.AckedBy()[ship.MaxAckedBy-1].To != 13 {
		t.Errorf("%d entries", len(s.AckedBy()))
	}
}

// What each server has acknowledged adds up over its turns, however often they change.
func TestAckedCounts(t *testing.T) {
	var busy, most atomic.Int64
	a, b := newGate(t, &busy, &most), newGate(t, &busy, &most)
	src := newSource()
	s, stop := start(t, quick(ship.Config{Servers: []string{a.addr, b.addr}}), src)
	defer stop()
	for i, up := range []*gate{b, a, b} {
		down := a
		if up == a {
			down = b
		}
		down.close()
		up.open()
		for n := range i + 1 {
			src.add(fmt.Sprint("r", i, n))
		}
		drain(t, s)
	}
	if d := cmp.Diff([]uint64{1 + 3, 2}, s.AckedCounts()); d != "" {
		t.Errorf("b before a (-want +got):\n%s", d)
	}
	one, stopOne := start(t, quick(ship.Config{Servers: []string{a.addr}}), newSource())
	defer stopOne()
	if n := one.AckedCounts(); n != nil {
		t.Errorf("of one server: %v", n)
	}
}

// What one server has acknowledged is kept before another one hears where that got to: it passes
// that over, and after a kill the two could not be told apart.
func TestKeptBeforeAnotherServer(t *testing.T) {
	var busy, most atomic.Int64
	a, b := newGate(t, &busy, &most), newGate(t, &busy, &most)
	cfg := quick(ship.Config{Servers: []string{a.addr, b.addr}})
	var kept atomic.Uint64 // the greatest index that was kept
	var sender atomic.Pointer[ship.Sender]
	cfg.KeepAcked = func() {
		if s := sender.Load(); s != nil {
			if last, n := s.LastAcked(); n > 0 {
				kept.Store(last.To)
			}
		}
	}
	src := newSource()
	b.close()
	a.open()
	for n := range 5 {
		src.add(fmt.Sprint("r", n))
	}
	s, stop := start(t, cfg, src)
	sender.Store(s)
	drain(t, s)
	if kept.Load() != 0 {
		t.Errorf("kept up to %d before another server is asked", kept.Load())
	}
	a.close()
	b.open()
	src.add("behind")
	drain(t, s)
	stop()
	if by := s.AckedBy(); len(by) != 2 || by[1].Server != b.addr || kept.Load() != 5 {
		t.Errorf("kept up to %d: %+v", kept.Load(), by)
	}
}
