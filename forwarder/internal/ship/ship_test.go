package ship_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func TestDeliversInOrder(t *testing.T) {
	t.Parallel()
	for _, window := range []int{1, 2, 256, ship.MaxWindow} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			srv := serve(t, (*peer).serveAll)
			want := lines(5000)
			src := newSource(want[:3000]...)
			m := &ship.Metrics{}
			s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Window: window, Metrics: m}, src)
			drain(t, s)
			for _, l := range want[3000:] {
				src.add(l)
			}
			drain(t, s)
			stop()
			if diff := cmp.Diff(want, srv.texts()); diff != "" {
				t.Error(diff)
			}
			for i, g := range srv.stored {
				if g.Seq != src.seq(uint64(i+1)) {
					t.Fatalf("record %d has id %#x, want %#x", i+1, g.Seq, src.seq(uint64(i+1)))
				}
			}
			if m.Sent.Load() != 5000 || m.Acked.Load() != 5000 || m.Resent.Load() != 0 || m.Reconnects.Load() != 0 {
				t.Errorf("sent %d, acked %d, resent %d, reconnects %d", m.Sent.Load(), m.Acked.Load(), m.Resent.Load(), m.Reconnects.Load())
			}
			if window == 256 && m.Writes.Load() > 2500 {
				t.Errorf("%d writes for 5000 records: not put together", m.Writes.Load())
			}
		})
	}
}

func TestWindowIsNeverPassed(t *testing.T) {
	t.Parallel()
	const window = 7
	var most atomic.Int64
	srv := serve(t, func(p *peer) {
		var held []remote.Frame
		for {
			_ = p.conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
			f, ok := p.recv()
			if ok {
				held = append(held, f)
				most.Store(max(most.Load(), int64(len(held))))
				continue
			}
			if len(held) == 0 {
				return
			}
			for _, f := range held {
				p.reply(remote.Ack, f.Seq, "")
			}
			held = nil
		}
	})
	s, _ := start(t, ship.Config{Servers: []string{srv.addr()}, Window: window}, newSource(lines(40)...))
	drain(t, s)
	if most.Load() != window {
		t.Errorf("%d records in flight, want %d", most.Load(), window)
	}
}

func TestWhatIsNotSent(t *testing.T) {
	srv := serve(t, (*peer).serveAll)
	long := strings.Repeat("z", 20000)
	src := newSource(
		"type=EOE msg=audit(1.000:1): ", "a", "", "node=web type=EOE msg=audit(1.000:1): ", "node=web type=EOEX msg=", "type=EOE",
		"node=", "x type=EOE", long, long[:remote.MaxLength], "type=EOE msg=audit(1.000:2): ")
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Window: 2, Metrics: m}, src)
	drain(t, s)
	stop()
	want := []string{"a", "node=web type=EOEX msg=", "node=", "x type=EOE", long[:remote.MaxLength], long[:remote.MaxLength]}
	if diff := cmp.Diff(want, srv.texts()); diff != "" {
		t.Error(diff)
	}
	if m.Skipped.Load() != 5 || m.Truncated.Load() != 1 || m.Acked.Load() != 6 {
		t.Errorf("skipped %d, truncated %d, acked %d", m.Skipped.Load(), m.Truncated.Load(), m.Acked.Load())
	}
}

// A window full of records that are never sent must not be waited on.
func TestNothingButEOE(t *testing.T) {
	srv := serve(t, (*peer).serveAll)
	src := newSource()
	for range 1000 {
		src.add("type=EOE msg=audit(1.000:1): ")
	}
	src.add("a")
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Window: 16}, src)
	drain(t, s)
	stop()
	if diff := cmp.Diff([]string{"a"}, srv.texts()); diff != "" {
		t.Error(diff)
	}
}

// Each handler does something odd to its first connection (or first messages) and
// serves well from then on: everything must come out stored, once or as said.
func TestOddServers(t *testing.T) {
	const n = 600
	ackAll := func(p *peer, fs []remote.Frame) {
		for _, f := range fs {
			p.store(f)
			p.reply(remote.Ack, f.Seq, "")
		}
	}
	take := func(p *peer, n int) (fs []remote.Frame) {
		for range n {
			f, ok := p.recv()
			if !ok {
				break
			}
			f.Payload = []byte(string(f.Payload))
			fs = append(fs, f)
		}
		return fs
	}
	for _, c := range []struct {
		name   string
		handle func(p *peer)
		again  bool // a record may be stored more than once
		check  func(t *testing.T, m *ship.Metrics)
	}{
		{name: "acknowledges backwards", handle: func(p *peer) {
			fs := take(p, 200)
			for _, f := range fs {
				p.store(f)
			}
			for i := range fs {
				p.reply(remote.Ack, fs[len(fs)-1-i].Seq, "")
			}
			p.serveAll()
		}},
		{name: "twice and unknown", handle: func(p *peer) {
			for _, f := range take(p, 50) {
				p.store(f)
				p.reply(remote.Ack, f.Seq, "")
				p.reply(remote.Ack, f.Seq, "")
				p.reply(remote.Ack, f.Seq^0x1234567, "")
			}
			p.serveAll()
		}, check: func(t *testing.T, m *ship.Metrics) {
			if m.UnexpectedReplies.Load() < 90 {
				t.Errorf("%d unexpected replies", m.UnexpectedReplies.Load())
			}
		}},
		{name: "closes after storing without an ack", again: true, handle: func(p *peer) {
			if p.n < 5 {
				for _, f := range take(p, 30) {
					p.store(f)
				}
				return
			}
			p.serveAll()
		}, check: func(t *testing.T, m *ship.Metrics) {
			if m.Reconnects.Load() < 5 || m.Resent.Load() == 0 {
				t.Errorf("reconnects %d, resent %d", m.Reconnects.Load(), m.Resent.Load())
			}
		}},
		{name: "acknowledges only later ones, then closes", handle: func(p *peer) {
			if p.n == 0 {
				fs := take(p, 100)
				for _, f := range fs[50:] {
					p.store(f)
					p.reply(remote.Ack, f.Seq, "")
				}
				time.Sleep(20 * time.Millisecond)
				return
			}
			p.serveAll()
		}},
		{name: "disk low", handle: func(p *peer) {
			for _, f := range take(p, 200) {
				p.store(f)
				p.reply(remote.DiskLow, f.Seq, "low")
			}
			p.serveAll()
		}, check: func(t *testing.T, m *ship.Metrics) {
			if m.DiskLow.Load() != 200 || m.Resent.Load() != 0 {
				t.Errorf("disk low %d, resent %d", m.DiskLow.Load(), m.Resent.Load())
			}
		}},
		{name: "disk full for some, disk error for others", handle: func(p *peer) {
			for i, f := range take(p, 200) {
				switch i % 3 {
				case 0:
					p.reply(remote.DiskFull, f.Seq, "full")
				case 1:
					p.reply(remote.DiskError, f.Seq, "disk write error")
				default:
					ackAll(p, []remote.Frame{f})
				}
			}
			p.serveAll()
		}, check: func(t *testing.T, m *ship.Metrics) {
			if m.DiskFull.Load() == 0 || m.DiskError.Load() == 0 || m.Reconnects.Load() != 0 {
				t.Errorf("full %d, error %d, reconnects %d", m.DiskFull.Load(), m.DiskError.Load(), m.Reconnects.Load())
			}
		}},
		{name: "replies of unknown types", handle: func(p *peer) {
			for i, f := range take(p, 90) {
				if i%3 == 0 {
					p.reply(0x60000077, f.Seq, "?")
					continue
				}
				p.store(f)
				p.reply([]remote.Type{0x50000077, 0x40000077}[i%3-1], f.Seq, "?")
			}
			p.serveAll()
		}, check: func(t *testing.T, m *ship.Metrics) {
			if m.OtherErrors.Load() == 0 || m.OtherWarnings.Load() == 0 {
				t.Errorf("errors %d, warnings %d", m.OtherErrors.Load(), m.OtherWarnings.Load())
			}
		}},
		{name: "ends with replies outstanding", handle: func(p *peer) {
			if p.n == 0 {
				fs := take(p, 40)
				p.reply(remote.Ending, 0, "")
				ackAll(p, fs)
				for {
					f, ok := p.recv()
					if !ok {
						return
					}
					ackAll(p, []remote.Frame{f})
				}
			}
			p.serveAll()
		}, check: func(t *testing.T, m *ship.Metrics) {
			if m.Endings.Load() != 1 || m.Resent.Load() != 0 || m.Reconnects.Load() != 1 {
				t.Errorf("endings %d, resent %d, reconnects %d", m.Endings.Load(), m.Resent.Load(), m.Reconnects.Load())
			}
		}},
		{name: "sends a message", again: true, handle: func(p *peer) {
			if p.n == 0 {
				take(p, 1)
				p.reply(remote.Message, 1, "hello")
			}
			p.serveAll()
		}, check: wantReconnect},
		{name: "sends a line", again: true, handle: func(p *peer) {
			if p.n == 0 {
				take(p, 1)
				fmt.Fprint(p.conn, "hello\n")
			}
			p.serveAll()
		}, check: wantReconnect},
		{name: "sends an over-long reply", again: true, handle: func(p *peer) {
			if p.n == 0 {
				take(p, 1)
				fmt.Fprint(p.conn, "\xfe\x00\x00\xff\x00\x00\x00\x00\x00\x40\xff\xff")
			}
			p.serveAll()
		}, check: wantReconnect},
		{name: "closes at once", handle: func(p *peer) {
			if p.n >= 3 {
				p.serveAll()
			}
		}, check: wantReconnect},
		{name: "resets", again: true, handle: func(p *peer) {
			if p.n < 3 {
				ackAll(p, take(p, 20))
				_ = p.conn.(*net.TCPConn).SetLinger(0)
				return
			}
			p.serveAll()
		}, check: wantReconnect},
		{name: "black hole", again: true, handle: func(p *peer) {
			if p.n == 0 {
				for _, f := range take(p, 20) {
					p.store(f)
				}
				time.Sleep(400 * time.Millisecond)
				return
			}
			p.serveAll()
		}, check: wantReconnect},
		{name: "answers in pieces", handle: func(p *peer) {
			for _, f := range take(p, 20) {
				p.store(f)
				for _, b := range remote.Append(nil, remote.Ack, f.Seq, []byte("some text")) {
					_, _ = p.conn.Write([]byte{b})
				}
			}
			p.serveAll()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, c.handle)
			want := lines(n)
			src := newSource(want...)
			m := &ship.Metrics{}
			// Where nothing may be stored twice a reply is waited for as long as a busy
			// machine may take.
			patience := 20 * time.Second
			if c.again {
				patience = 200 * time.Millisecond
			}
			s, stop := start(t, ship.Config{
				Window:  256, // fewer than there are records: some are still to come when a server misbehaves
				Servers: []string{srv.addr()}, Metrics: m, ReplyTimeout: patience, WriteTimeout: patience,
			}, src)
			drain(t, s)
			stop()
			checkStored(t, srv, src, c.again)
			if c.check != nil {
				c.check(t, m)
			}
		})
	}
}

func wantReconnect(t *testing.T, m *ship.Metrics) {
	if m.Reconnects.Load() == 0 || m.Disconnects.Load() == 0 {
		t.Errorf("reconnects %d, disconnects %d", m.Reconnects.Load(), m.Disconnects.Load())
	}
}

// checkStored holds what the server stored against the source: all there, each
// id with its own text, once unless again.
func checkStored(t *testing.T, srv *server, src *memSource, again bool) {
	t.Helper()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	times := map[uint32]int{}
	text := map[uint32]string{}
	for _, g := range srv.stored {
		if was, ok := text[g.Seq]; ok && was != g.Text {
			t.Fatalf("id %#x carries %q and %q", g.Seq, was, g.Text)
		}
		text[g.Seq] = g.Text
		times[g.Seq]++
	}
	for i, l := range src.lines {
		seq := src.seq(uint64(i + 1))
		if text[seq] != string(l) {
			t.Fatalf("record %d: id %#x carries %q, want %q", i+1, seq, text[seq], l)
		}
		if times[seq] > 1 && !again {
			t.Fatalf("record %d stored %d times", i+1, times[seq])
		}
	}
	if len(text) != len(src.lines) {
		t.Errorf("%d ids stored, want %d", len(text), len(src.lines))
	}
}

// A peer that takes longer than WriteTimeout for what one write holds, but reads
// all the time, is kept.
func TestSlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	t.Parallel()
	srv := serve(t, func(p *peer) {
		_ = p.conn.(*net.TCPConn).SetReadBuffer(8 << 10)
		for {
			f, ok := p.recv()
			if !ok {
				return
			}
			time.Sleep(300 * time.Millisecond)
			p.store(f)
			p.reply(remote.Ack, f.Seq, "")
		}
	})
	var big []string
	for i := range 24 {
		big = append(big, fmt.Sprintf("%d %s", i, strings.Repeat("x", 8000)))
	}
	src := newSource(big...)
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{
		Servers: []string{srv.addr()}, Metrics: m, WriteTimeout: 1500 * time.Millisecond, ReplyTimeout: 5 * time.Second,
		Transport: audisp.Transport{Connect: func(ctx context.Context, server string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
			if err == nil {
				_ = conn.(*net.TCPConn).SetWriteBuffer(8 << 10)
			}
			return conn, err
		}},
	}, src)
	drain(t, s)
	stop()
	checkStored(t, srv, src, false)
	if m.Reconnects.Load() != 0 {
		t.Errorf("%d reconnects", m.Reconnects.Load())
	}
	if m.Writes.Load() < 4 {
		t.Errorf("%d writes: none was cut short by its deadline, the test shows nothing", m.Writes.Load())
	}
}

// A peer that reads nothing must not hold the sender for longer than its timeout.
func TestPeerThatNeverReads(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(p *peer) {
		if p.n == 0 {
			_ = p.conn.(*net.TCPConn).SetReadBuffer(2048)
			time.Sleep(500 * time.Millisecond)
			return
		}
		p.serveAll()
	})
	var big []string
	for i := range 4000 {
		big = append(big, fmt.Sprintf("%d %s", i, strings.Repeat("x", 8000)))
	}
	src := newSource(big...)
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Window: ship.MaxWindow, Metrics: m, WriteTimeout: 100 * time.Millisecond}, src)
	until(t, func() bool { return m.Disconnects.Load() > 0 })
	drain(t, s)
	stop()
	checkStored(t, srv, src, true)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	var beats atomic.Int64
	var mu sync.Mutex
	var seqs []uint32
	srv := serve(t, func(p *peer) {
		for {
			f, ok := p.recv()
			if !ok {
				return
			}
			if f.Type == remote.Heartbeat {
				mu.Lock()
				seqs = append(seqs, f.Seq)
				mu.Unlock()
				if beats.Add(1) == 3 {
					continue // this one isn't answered: the connection must be given up
				}
			}
			if f.Type == remote.Message {
				p.store(f)
			}
			p.reply(remote.Ack, f.Seq, "")
		}
	})
	src := newSource(lines(10)...)
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m, Heartbeat: 20 * time.Millisecond, ReplyTimeout: 2 * time.Second}, src)
	drain(t, s)
	until(t, func() bool { return beats.Load() >= 6 })
	stop()
	checkStored(t, srv, src, false)
	if m.Reconnects.Load() != 1 || m.UnexpectedReplies.Load() != 0 {
		t.Errorf("reconnects %d, unexpected replies %d", m.Reconnects.Load(), m.UnexpectedReplies.Load())
	}
	for _, q := range seqs {
		if q&0x80000000 != 0 {
			t.Errorf("heartbeat id %#x looks like a record's", q)
		}
	}
}

func until(t testing.TB, ok func() bool) {
	t.Helper()
	need.Wait(t, "what the test waits for", ok)
}

func TestFailoverBySession(t *testing.T) {
	t.Parallel()
	var good atomic.Bool
	first := serve(t, func(p *peer) {
		if good.Load() {
			p.serveAll()
		}
	})
	second := serve(t, func(p *peer) {
		for range 50 {
			f, ok := p.recv()
			if !ok {
				return
			}
			p.store(f)
			p.reply(remote.Ack, f.Seq, "")
		}
		good.Store(true)
	})
	src := newSource(lines(100)...)
	s, stop := start(t, ship.Config{Servers: []string{first.addr(), second.addr()}, Window: 10}, src)
	drain(t, s)
	stop()
	if a, b := len(first.texts()), len(second.texts()); a != 50 || b != 50 {
		t.Errorf("first has %d, second %d, want 50 each", a, b)
	}
}

func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	m := &ship.Metrics{}
	var conditions [ship.Recovered + 1]atomic.Int64
	var last atomic.Pointer[ship.Report]
	s, stop := start(t, ship.Config{Servers: []string{addr}, Metrics: m, Handle: func(r ship.Report) ship.Decision {
		conditions[r.Condition].Add(1)
		last.Store(&r)
		return ship.Retry
	}}, newSource(lines(3)...))
	until(t, func() bool { return m.ConnectFailures.Load() >= 4 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	left, err := s.Drain(ctx)
	if left != 3 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %d left, %v", left, err)
	}
	stop()
	if left, err := s.Drain(context.Background()); left != 3 || err == nil {
		t.Errorf("drain after the end: %d left, %v", left, err)
	}
	if n := conditions[ship.StartupFailure].Load(); n < 4 || conditions[ship.NetworkFailure].Load() != 0 {
		t.Errorf("%d startup failures, %d network failures", n, conditions[ship.NetworkFailure].Load())
	}
	if r := last.Load(); r.Attempts < 4 || r.Since.IsZero() || r.Err == nil {
		t.Errorf("last report: %+v", r)
	}
}
