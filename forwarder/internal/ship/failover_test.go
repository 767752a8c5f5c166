package ship_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// gate is a server that can go away and come back at the same address.
type gate struct {
	t    testing.TB
	addr string

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	conns map[net.Conn]bool
	got   []string
	wg    sync.WaitGroup
	busy  *atomic.Int64 // records not yet answered, one a connection, over all gates
	most  *atomic.Int64
	full  atomic.Bool // answers everything DISKFULL
	slow  atomic.Int64
}

func newGate(t testing.TB, busy, most *atomic.Int64) *gate {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, addr: ln.Addr().String(), busy: busy, most: most, conns: map[net.Conn]bool{}}
	ln.Close()
	t.Cleanup(g.close)
	return g
}

func (g *gate) open() {
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		g.t.Error(err)
		return
	}
	g.mu.Lock()
	g.ln = ln
	g.mu.Unlock()
	g.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			g.mu.Lock()
			g.conns[conn] = true
			g.mu.Unlock()
			g.wg.Go(func() { g.serve(conn) })
		}
	})
}

func (g *gate) close() {
	g.mu.Lock()
	if g.ln != nil {
		g.ln.Close()
		g.ln = nil
	}
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	g.wg.Wait()
}

func (g *gate) serve(conn net.Conn) {
	defer conn.Close()
	p := &peer{t: g.t, conn: conn}
	for {
		f, ok := p.recv()
		if !ok {
			return
		}
		reply := remote.Ack
		if f.Type == remote.Message {
			n := g.busy.Add(1)
			for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
			}
			time.Sleep(time.Duration(g.slow.Load()))
			if !g.full.Load() {
				g.mu.Lock()
				g.got = append(g.got, string(f.Payload))
				g.mu.Unlock()
			}
			g.busy.Add(-1)
		}
		if g.full.Load() {
			reply = remote.DiskFull
		}
		p.reply(reply, f.Seq, "")
	}
}

func (g *gate) texts() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.got...)
}

func (g *gate) count() int { return len(g.texts()) }

// The second server takes over when the first goes, and the first when it is
// back, also while records stream: everything arrives once, in order within each
// server, and never do two connections carry records at once.
func TestBackToTheFirst(t *testing.T) {
	var busy, most atomic.Int64
	first, second := newGate(t, &busy, &most), newGate(t, &busy, &most)
	second.open()
	m := &ship.Metrics{}
	src := newSource()
	s, stop := start(t, ship.Config{Servers: []string{first.addr, second.addr}, Metrics: m, Probe: 20 * time.Millisecond, Window: 64, Grace: time.Second}, src)
	all := lines(2000)
	send := func(from, to int) {
		for at := from; at < to; at += 10 {
			src.add(all[at : at+10]...)
			time.Sleep(time.Millisecond)
		}
	}
	send(0, 500)
	until(t, func() bool { return second.count() == 500 })
	if first.count() != 0 || m.Failovers.Load() == 0 || m.Server.Load() != 1 {
		t.Fatalf("the second server has not taken over: server %d", m.Server.Load())
	}
	// Slow replies: the change has to wait for those in flight.
	second.slow.Store(int64(200 * time.Microsecond))
	first.open()
	send(500, 1500)
	drain(t, s)
	until(t, func() bool { return m.Server.Load() == 0 })
	send(1500, 2000)
	drain(t, s)
	stop()
	if m.Failbacks.Load() != 1 || m.Resent.Load() != 0 || most.Load() != 1 {
		t.Errorf("%d changes back, %d records sent again, %d connections with records at once", m.Failbacks.Load(), m.Resent.Load(), most.Load())
	}
	if first.count() < 500 {
		t.Errorf("%d records at the first server", first.count())
	}
	if diff := cmp.Diff(all, append(second.texts(), first.texts()...)); diff != "" {
		t.Error(diff)
	}
}

// A server that connects but cannot store is not gone back to.
func TestNoWayBackToAFullServer(t *testing.T) {
	var busy, most atomic.Int64
	first, second := newGate(t, &busy, &most), newGate(t, &busy, &most)
	second.open()
	m := &ship.Metrics{}
	src := newSource("a")
	s, _ := start(t, ship.Config{Servers: []string{first.addr, second.addr}, Metrics: m, Probe: 5 * time.Millisecond}, src)
	drain(t, s)
	first.full.Store(true)
	first.open()
	time.Sleep(100 * time.Millisecond)
	src.add("b")
	drain(t, s)
	if m.Server.Load() != 1 || m.Failbacks.Load() != 0 || second.count() != 2 {
		t.Errorf("server %d, %d changes, %d records at the second", m.Server.Load(), m.Failbacks.Load(), second.count())
	}
	first.full.Store(false)
	until(t, func() bool { return m.Failbacks.Load() == 1 })
	// A full present server does not keep from going back either.
	first.close()
	src.add("c")
	drain(t, s)
	second.full.Store(true)
	src.add("d")
	until(t, func() bool { return m.DiskFull.Load() > 0 })
	first.open()
	drain(t, s)
	if first.count() != 1 {
		t.Errorf("%d records at the first server", first.count())
	}
}

// Three servers: the first that answers is gone back to, from a fixed local port
// too.
func TestBackInOrder(t *testing.T) {
	var busy, most atomic.Int64
	gates := []*gate{newGate(t, &busy, &most), newGate(t, &busy, &most), newGate(t, &busy, &most)}
	spare := newGate(t, &busy, &most)
	_, text, err := net.SplitHostPort(spare.addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.LookupPort("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	m := &ship.Metrics{}
	src := newSource("a")
	gates[2].open()
	s, _ := start(t, ship.Config{Servers: []string{gates[0].addr, gates[1].addr, gates[2].addr}, Metrics: m, Probe: 5 * time.Millisecond, Transport: audisp.Transport{LocalPort: port}}, src)
	drain(t, s)
	for _, want := range []int64{1, 0} {
		gates[want].open()
		until(t, func() bool { return m.Server.Load() == want })
		src.add("b")
		drain(t, s)
	}
	if gates[0].count() != 1 || gates[1].count() != 1 || gates[2].count() != 1 || m.Failbacks.Load() != 2 {
		t.Errorf("%d %d %d records, %d changes back", gates[0].count(), gates[1].count(), gates[2].count(), m.Failbacks.Load())
	}
}

// Reload changes servers once everything in flight is answered: nothing is sent
// twice, and what was wrong changes nothing.
func TestReload(t *testing.T) {
	var busy, most atomic.Int64
	one, two := newGate(t, &busy, &most), newGate(t, &busy, &most)
	one.open()
	two.open()
	one.slow.Store(int64(100 * time.Microsecond))
	m := &ship.Metrics{}
	src := newSource()
	s, stop := start(t, ship.Config{Servers: []string{one.addr}, Metrics: m, Window: 64, Grace: time.Millisecond}, src)
	all := lines(1000)
	src.add(all...)
	until(t, func() bool { return one.count() > 100 })
	if err := s.Reload(ship.Config{}); err == nil {
		t.Error("a configuration without servers is taken")
	}
	if err := s.Reload(quick(ship.Config{Servers: []string{two.addr}})); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	stop()
	if diff := cmp.Diff(all, append(one.texts(), two.texts()...)); diff != "" {
		t.Error(diff)
	}
	if m.Resent.Load() != 0 || most.Load() != 1 || two.count() < 100 {
		t.Errorf("sent again %d, at once %d, %d at the new server", m.Resent.Load(), most.Load(), two.count())
	}
}

// Reload reaches a sender that waits for the next attempt, and one that is
// suspended once it is resumed.
func TestReloadWhileAway(t *testing.T) {
	var busy, most atomic.Int64
	g := newGate(t, &busy, &most)
	g.open()
	m := &ship.Metrics{}
	src := newSource("a")
	s, _ := start(t, ship.Config{Servers: []string{"127.0.0.1:1"}, Metrics: m, BackoffMin: time.Hour, BackoffMax: time.Hour}, src)
	until(t, func() bool { return m.ConnectFailures.Load() >= 2 })
	if err := s.Reload(quick(ship.Config{Servers: []string{g.addr}})); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	s.Suspend()
	until(t, func() bool { return m.Connected.Load() == 0 })
	g2 := newGate(t, &busy, &most)
	g2.open()
	if err := s.Reload(quick(ship.Config{Servers: []string{g2.addr}})); err != nil {
		t.Fatal(err)
	}
	src.add("b")
	time.Sleep(20 * time.Millisecond)
	if g2.count() != 0 {
		t.Error("a suspended sender sends")
	}
	s.Resume()
	drain(t, s)
	if g.count() != 1 || g2.count() != 1 {
		t.Errorf("%d and %d records", g.count(), g2.count())
	}
}

// The first retry comes at once, and those after it at the fixed pause.
func TestFixedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 20 * time.Second
		attempts := make(chan time.Time)
		_, stop := start(t, ship.Config{Servers: []string{"a"}, BackoffMin: pause, BackoffMax: pause, Transport: audisp.Transport{Connect: func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case attempts <- time.Now():
			case <-ctx.Done():
			}
			return nil, net.ErrClosed
		}}}, newSource("a"))
		first, second, third, fourth := <-attempts, <-attempts, <-attempts, <-attempts
		if d := second.Sub(first); d >= ship.FirstPause {
			t.Errorf("the second attempt came after %v", d)
		}
		for _, d := range []time.Duration{third.Sub(second), fourth.Sub(third)} {
			if d < pause || d > pause+pause/10 {
				t.Errorf("a later attempt came after %v, want %v and a tenth more at most", d, pause)
			}
		}
		stop()
	})
}
