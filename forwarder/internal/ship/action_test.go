package ship

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
	m := &Metrics{}
	var mu sync.Mutex
	var reports []Report
	s, stop := start(t, Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r Report) Decision {
		if r.Condition == Connected {
			return Retry
		}
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, r)
		if r.Condition == DiskFull {
			return Drop
		}
		return Retry
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
		case DiskFull:
			if r.Reply != remote.DiskFull || r.Text != "no" || r.Server != srv.addr() || r.Index != 1 && r.Index != 3 {
				t.Errorf("%+v", r)
			}
		case Recovered:
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
	m := &Metrics{}
	s, stop := start(t, Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r Report) Decision {
		if r.Condition == NetworkFailure && r.Attempts == 3 { // max_tries_per_record = 3
			return Drop
		}
		return Retry
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
	m := &Metrics{}
	s, stop := start(t, Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r Report) Decision {
		if r.Condition == DiskError {
			return Suspend
		}
		return Retry
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
		on     Condition
	}{
		"warning": {refuse(0x50000099), GenericWarning},
		"error":   {refuse(0x60000099), GenericError},
		"ending":  {func(p *peer) { p.recv(); p.reply(remote.Ending, 0, ""); p.recv() }, RemoteEnding},
		"network": {func(p *peer) {}, NetworkFailure},
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
			m := &Metrics{}
			src := newSource("bad", "a")
			s, _ := start(t, Config{Servers: []string{srv.addr()}, Metrics: m, Handle: func(r Report) Decision {
				if r.Condition == c.on {
					return Suspend
				}
				return Retry
			}}, src)
			until(t, func() bool { return m.Suspended.Load() == 1 && m.Connected.Load() == 0 })
			connects := m.Connects.Load()
			src.add("b")
			if left, err := s.Drain(context.Background()); !errors.Is(err, ErrSuspended) || left == 0 {
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
	m := &Metrics{}
	src := newSource("a")
	s, _ := start(t, Config{Servers: []string{srv.addr()}, Metrics: m, Grace: time.Millisecond}, src)
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
	s, stop := start(t, Config{Servers: []string{srv.addr()}, Window: 10}, src)
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
	s, _ := start(t, Config{Servers: []string{srv.addr()}, Handle: func(r Report) Decision {
		if r.Condition == QueueError && strings.Contains(r.Err.Error(), "disk on fire") {
			said.Add(1)
		}
		return Retry
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
	_, stop := start(t, Config{Servers: []string{srv.addr()}, Grace: 5 * time.Second}, src)
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
	m := &Metrics{}
	s, stop := start(t, Config{Servers: []string{srv.addr()}, Format: ASCII, Metrics: m, Heartbeat: time.Millisecond}, src)
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
	for in, want := range map[string]string{
		"log.example":       "log.example:60",
		"log.example:6000":  "log.example:6000",
		"192.0.2.1":         "192.0.2.1:60",
		"2001:db8::1":       "[2001:db8::1]:60",
		"[2001:db8::1]":     "[2001:db8::1]:60",
		"[2001:db8::1]:600": "[2001:db8::1]:600",
	} {
		s, err := New(Config{Servers: []string{in}}, newSource())
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := s.cfg.Servers[0]; got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	one := []string{"a"}
	for name, c := range map[string]Config{
		"no server":        {},
		"empty server":     {Servers: []string{""}},
		"no host":          {Servers: []string{":60"}},
		"no port":          {Servers: []string{"a:"}},
		"two ports":        {Servers: []string{"a:1:2"}},
		"window":           {Servers: one, Window: MaxWindow + 1},
		"negative window":  {Servers: one, Window: -1},
		"record":           {Servers: one, MaxRecord: remote.MaxLength + 1},
		"timeout":          {Servers: one, ReplyTimeout: -1},
		"format":           {Servers: one, Format: 2},
		"back-off":         {Servers: one, BackoffMin: time.Hour, BackoffMax: time.Second},
		"negative backoff": {Servers: one, BackoffMin: -time.Hour},
	} {
		if _, err := New(c, newSource()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBackoff(t *testing.T) {
	s, err := New(Config{Servers: []string{"a"}}, newSource())
	if err != nil {
		t.Fatal(err)
	}
	for round := range 100 {
		d := s.backoff(round)
		least := min(DefaultBackoffMax, DefaultBackoffMin<<min(round, 20)) / 2
		if d < least || d > 2*least {
			t.Errorf("round %d: %v, want %v to %v", round, d, least, 2*least)
		}
	}
}

// A dial that hangs ends with the connect timeout, and with Run's context.
func TestDialHangs(t *testing.T) {
	m := &Metrics{}
	_, stop := start(t, Config{Servers: []string{"a"}, Metrics: m, ConnectTimeout: 10 * time.Millisecond,
		Dial: func(ctx context.Context, server string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, newSource("a"))
	until(t, func() bool { return m.ConnectFailures.Load() >= 2 })
	stop()
}
