package ship_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// refuse answers records whose text holds "bad" with typ, as long as it's asked.
func refuse(typ remote.Type) func(p *peer) {
	return func(p *peer) {
		for {
			f, ok := p.recv()
			if !ok {
				return
			}
			if strings.Contains(string(f.Payload), "bad") {
				p.reply(typ, f.Seq, "no")
				continue
			}
			p.store(f)
			p.reply(remote.Ack, f.Seq, "")
		}
	}
}

func TestDropRefused(t *testing.T) {
	srv := serve(t, refuse(remote.DiskFull))
	m := &ship.Metrics{}
	var mu sync.Mutex
	var reports []ship.Report
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r ship.Report) ship.Decision {
		if r.Condition == ship.Connected {
			return ship.Retry
		}
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, r)
		if r.Condition == ship.DiskFull {
			return ship.Drop
		}
		return ship.Retry
	}}, newSource("bad 1", "a", "bad 2", "b"))
	drain(t, s)
	stop()
	if diff := cmp.Diff([]string{"a", "b"}, srv.texts()); diff != "" {
		t.Error(diff)
	}
	if m.Dropped.Load() != 2 || m.DiskFull.Load() != 2 {
		t.Errorf("dropped %d, disk full %d", m.Dropped.Load(), m.DiskFull.Load())
	}
	mu.Lock()
	defer mu.Unlock()
	recovered := 0
	for _, r := range reports {
		switch r.Condition {
		case ship.DiskFull:
			if r.Reply != remote.DiskFull.String() || r.Text != "no" || r.Server != srv.addr() || r.Index != 1 && r.Index != 3 {
				t.Errorf("%+v", r)
			}
		case ship.Recovered:
			recovered++
		}
	}
	if recovered == 0 {
		t.Error("no recovery reported")
	}
}

func TestDropOnNetworkFailure(t *testing.T) {
	srv := serve(t, func(p *peer) {
		if p.n < 3 {
			p.recv()
			return
		}
		p.serveAll()
	})
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r ship.Report) ship.Decision {
		if r.Condition == ship.NetworkFailure && r.Attempts == 3 { // max_tries_per_record = 3
			return ship.Drop
		}
		return ship.Retry
	}}, newSource("a", "b", "c"))
	drain(t, s)
	stop()
	if diff := cmp.Diff([]string{"b", "c"}, srv.texts()); diff != "" {
		t.Error(diff)
	}
	if m.Dropped.Load() != 1 {
		t.Errorf("dropped %d", m.Dropped.Load())
	}
}

func TestSuspendAndResume(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	srv := serve(t, func(p *peer) {
		for {
			f, ok := p.recv()
			if !ok {
				return
			}
			if full.Load() {
				p.reply(remote.DiskError, f.Seq, "")
				continue
			}
			p.store(f)
			p.reply(remote.Ack, f.Seq, "")
		}
	})
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r ship.Report) ship.Decision {
		if r.Condition == ship.DiskError {
			return ship.Suspend
		}
		return ship.Retry
	}}, newSource("a", "b"))
	until(t, func() bool { return m.DiskError.Load() > 0 && m.Connected.Load() == 0 })
	full.Store(false)
	time.Sleep(50 * time.Millisecond)
	if n := m.Connects.Load(); n != 1 {
		t.Fatalf("connected %d times while suspended", n)
	}
	s.Resume()
	drain(t, s)
	stop()
	if diff := cmp.Diff([]string{"a", "b"}, srv.texts()); diff != "" {
		t.Error(diff)
	}
}

// Suspend holds for whatever it was decided for, and everything goes out after
// Resume; Drain does not wait meanwhile.
func TestSuspendOnEachCondition(t *testing.T) {
	for name, c := range map[string]struct {
		handle func(p *peer)
		on     ship.Condition
	}{
		"warning": {refuse(0x50000099), ship.GenericWarning},
		"error":   {refuse(0x60000099), ship.GenericError},
		"ending":  {func(p *peer) { p.recv(); p.reply(remote.Ending, 0, ""); p.recv() }, ship.RemoteEnding},
		"network": {func(p *peer) {}, ship.NetworkFailure},
	} {
		t.Run(name, func(t *testing.T) {
			var well atomic.Bool
			srv := serve(t, func(p *peer) {
				if well.Load() {
					p.serveAll()
					return
				}
				c.handle(p)
			})
			m := &ship.Metrics{}
			src := newSource("bad", "a")
			s, _ := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r ship.Report) ship.Decision {
				if r.Condition == c.on {
					return ship.Suspend
				}
				return ship.Retry
			}}, src)
			until(t, func() bool { return m.Suspended.Load() == 1 && m.Connected.Load() == 0 })
			connects := m.Connects.Load()
			src.add("b")
			if left, err := s.Drain(context.Background()); !errors.Is(err, ship.ErrSuspended) || left == 0 {
				t.Errorf("drain: %d left, %v", left, err)
			}
			time.Sleep(50 * time.Millisecond)
			if n := m.Connects.Load(); n != connects {
				t.Errorf("connected %d times while suspended", n-connects)
			}
			well.Store(true)
			s.Resume()
			drain(t, s)
			if got := srv.texts(); !slices.Contains(got, "a") || !slices.Contains(got, "b") || m.Suspended.Load() != 0 {
				t.Errorf("after resume: %q", got)
			}
		})
	}
}

// Suspend from outside: what is in flight is answered first, so that nothing is
// sent twice.
func TestSuspendWaitsForReplies(t *testing.T) {
	release := make(chan struct{})
	srv := serve(t, func(p *peer) {
		if p.n > 0 {
			p.serveAll()
			return
		}
		f, _ := p.recv()
		p.store(f)
		<-release
		p.reply(remote.Ack, f.Seq, "")
		p.recv()
	})
	m := &ship.Metrics{}
	src := newSource("a")
	s, _ := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m, Grace: time.Millisecond}, src)
	until(t, func() bool { return len(srv.texts()) == 1 })
	s.Suspend()
	src.add("b")
	time.Sleep(30 * time.Millisecond)
	if m.Connected.Load() != 1 {
		t.Error("it did not wait for the reply")
	}
	close(release)
	until(t, func() bool { return m.Connected.Load() == 0 })
	s.Resume()
	drain(t, s)
	if diff := cmp.Diff([]string{"a", "b"}, srv.texts()); diff != "" || m.Resent.Load() != 0 {
		t.Errorf("resent %d, %s", m.Resent.Load(), diff)
	}
}

// A spool that is full drops its oldest, also those in the window.
func TestSourceDropsOldest(t *testing.T) {
	src := newSource(lines(100)...)
	held := make(chan struct{})
	srv := serve(t, func(p *peer) {
		if p.n == 0 {
			for range 10 {
				p.recv()
			}
			src.drop(61)
			close(held)
			return
		}
		p.serveAll()
	})
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Window: 10}, src)
	<-held
	drain(t, s)
	stop()
	if diff := cmp.Diff(lines(100)[60:], srv.texts()); diff != "" {
		t.Error(diff)
	}
}

// A source that can't be read is reported and tried again.
func TestSourceFails(t *testing.T) {
	srv := serve(t, (*peer).serveAll)
	src := newSource("a")
	src.fail(errors.New("disk on fire"))
	var said atomic.Int64
	s, _ := start(t, ship.Config{Servers: []string{srv.addr()}, Handle: func(r ship.Report) ship.Decision {
		if r.Condition == ship.QueueError && strings.Contains(r.Err.Error(), "disk on fire") {
			said.Add(1)
		}
		return ship.Retry
	}}, src)
	until(t, func() bool { return said.Load() >= 2 })
	src.fail(nil)
	drain(t, s)
	if diff := cmp.Diff([]string{"a"}, srv.texts()); diff != "" {
		t.Error(diff)
	}
}

// When Run's context ends, the replies on their way are waited for.
func TestEndWaitsForReplies(t *testing.T) {
	arrived := make(chan struct{})
	srv := serve(t, func(p *peer) {
		var fs []remote.Frame
		for range 20 {
			f, ok := p.recv()
			if !ok {
				return
			}
			p.store(f)
			fs = append(fs, f)
		}
		close(arrived)
		time.Sleep(30 * time.Millisecond)
		for _, f := range fs {
			p.reply(remote.Ack, f.Seq, "")
		}
		p.recv()
	})
	src := newSource(lines(20)...)
	_, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Grace: 5 * time.Second}, src)
	<-arrived
	stop()
	if n := src.Left(); n != 0 {
		t.Errorf("%d records not acknowledged", n)
	}
}

func TestASCII(t *testing.T) {
	srv := serve(t, func(p *peer) {
		if p.n == 0 {
			for range 50 {
				f, _ := p.recv()
				p.store(f)
			}
			_, _ = p.conn.Write([]byte("what a server says means nothing\n"))
		}
		p.serveAll()
	})
	want := lines(300)
	src := newSource(want...)
	m := &ship.Metrics{}
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, Transport: audisp.Transport{Format: audisp.ASCII}, Metrics: m, Heartbeat: time.Millisecond}, src)
	drain(t, s)
	until(t, func() bool { return len(srv.texts()) == 300 })
	stop()
	if diff := cmp.Diff(want, srv.texts()); diff != "" {
		t.Error(diff)
	}
	if m.Acked.Load() != 300 || m.Heartbeats.Load() != 0 {
		t.Errorf("acked %d, heartbeats %d", m.Acked.Load(), m.Heartbeats.Load())
	}
}

func TestConfig(t *testing.T) {
	one := []string{"a"}
	for name, c := range map[string]ship.Config{
		"no server":        {},
		"window":           {Servers: one, Window: ship.MaxWindow + 1},
		"negative window":  {Servers: one, Window: -1},
		"timeout":          {Servers: one, ReplyTimeout: -1},
		"back-off":         {Servers: one, BackoffMin: time.Hour, BackoffMax: time.Second},
		"negative backoff": {Servers: one, BackoffMin: -time.Hour},
	} {
		c.Transport = audisp.Transport{}
		if _, err := ship.New(c, newSource()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ship.New(ship.Config{Servers: one}, newSource()); err == nil {
		t.Error("no transport: no error")
	}
}

// A dial that hangs ends with the connect timeout, and with Run's context.
func TestDialHangs(t *testing.T) {
	m := &ship.Metrics{}
	_, stop := start(t, ship.Config{Servers: []string{"a"}, Metrics: m, ConnectTimeout: 10 * time.Millisecond,
		Transport: audisp.Transport{Connect: func(ctx context.Context, server string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}}, newSource("a"))
	until(t, func() bool { return m.ConnectFailures.Load() >= 2 })
	stop()
}
