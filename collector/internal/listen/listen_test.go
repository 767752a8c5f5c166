package listen

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	need.Parallel(16) // they wait for the kernel's clocks
	goleak.VerifyTestMain(m)
}

// server is a running Listener whose handler reads everything until the end.
type server struct {
	*Listener
	reg  *metrics.Registry
	mu   sync.Mutex
	said []Report // guarded by mu
	log  bytes.Buffer
}

func (s *server) reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Report(nil), s.said...)
}

// ops are the reports as words: what the stock server writes of them.
func (s *server) ops() []string {
	var ops []string
	for _, r := range s.reports() {
		switch {
		case r.Close:
			ops = append(ops, "close")
		case r.Op != "":
			ops = append(ops, r.Op)
		default:
			ops = append(ops, "accept")
		}
	}
	return ops
}

func readAll(c *Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := 0, error(unix.EAGAIN)
		for ; errors.Is(err, unix.EAGAIN); time.Sleep(time.Millisecond) {
			if c.Sock().Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) }) != nil {
				return
			}
		}
		if err != nil || n == 0 {
			return
		}
		// "#" begins a frame, "." ends one.
		c.Received(bytes.ContainsRune(buf[:n], '.'), buf[n-1] != '.')
	}
}

func start(t *testing.T, limits Limits, handle func(*Conn)) *server {
	t.Helper()
	s := &server{reg: metrics.New()}
	l, err := Open(Config{
		Addrs:   []string{"127.0.0.1:0"},
		Limits:  limits,
		Log:     hclog.New(&hclog.LoggerOptions{Output: &s.log, Mutex: &s.mu}),
		Metrics: metrics.NewListen(s.reg),
		Report: func(r Report) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.said = append(s.said, r)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	if handle == nil {
		handle = readAll
	}
	go func() { defer close(done); l.Run(ctx, handle) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n := l.Len(); n != 0 {
			t.Errorf("%d connections left after Close", n)
		}
	})
	return s
}

func (s *server) dial(t *testing.T, from string) net.Conn {
	t.Helper()
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
	}
	c, err := d.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// closedWithin says whether the server closes c in time.
func closedWithin(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

// reported waits for what was reported to be want: a peer sees its end, and Len
// says that it is there, a moment before that is reported.
func (s *server) reported(t *testing.T, want []string) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for len(s.ops()) < len(want) && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if diff := cmp.Diff(want, s.ops()); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

var eventually = need.Wait

func TestSecondConnectionOfAnAddressIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{}, nil)
	first := s.dial(t, "")
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	if second := s.dial(t, ""); !closedWithin(second, time.Minute) {
		t.Fatal("a second connection of the same address stays open")
	}
	if closedWithin(first, 50*time.Millisecond) {
		t.Fatal("the first connection was closed with it")
	}
	other := s.dial(t, "127.0.0.2:0")
	eventually(t, "another address is accepted", func() bool { return s.Len() == 2 })
	first.Close()
	eventually(t, "the first is gone", func() bool { return s.Len() == 1 })
	s.dial(t, "")
	eventually(t, "its address is accepted again", func() bool { return s.Len() == 2 })
	other.Close()
	want := []string{"accept", "dup", "accept", "close", "accept", "close"}
	eventually(t, "reports "+strings.Join(want, " "), func() bool { return cmp.Equal(s.ops(), want) })
	if n := metricstest.Value(t, s.reg, "auditfleet_collector_refused_total", `reason="dup"`); n != 1 {
		t.Errorf("%v refusals counted as dup, want 1", n)
	}
	if n := metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="peer"`); n != 2 {
		t.Errorf("%v closed by their peer counted, want 2", n)
	}
}

// A sender that was killed and started again comes back before its old session,
// which is still storing, has ended: it must be let in.
func TestNewcomerReplacesAClosedSession(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := start(t, Limits{}, func(c *Conn) {
		readAll(c)
		<-release
	})
	end := sync.OnceFunc(func() { close(release) })
	t.Cleanup(end)
	s.dial(t, "").Close()
	eventually(t, "accepted, and its end is known", func() bool { return s.Len() == 1 && s.theOne().vital().state != tcpEstablished })
	second := s.dial(t, "")
	eventually(t, "both are there", func() bool { return s.Len() == 2 })
	if closedWithin(second, 50*time.Millisecond) {
		t.Fatal("the newcomer was refused")
	}
	third := s.dial(t, "")
	if !closedWithin(third, time.Minute) {
		t.Fatal("a live session was put aside, too")
	}
	end()
	eventually(t, "the old one is gone", func() bool { return s.Len() == 1 })
}

func TestClientPorts(t *testing.T) {
	// A free port of this machine is the allowed range.
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(probe.Addr().(*net.TCPAddr).Port)
	probe.Close()
	s := start(t, Limits{MinPort: port, MaxPort: port}, nil)
	if c := s.dial(t, ""); !closedWithin(c, time.Minute) {
		t.Fatal("a client from another port stays open")
	}
	c := s.dial(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	eventually(t, "the allowed port is accepted", func() bool { return s.Len() == 1 })
	if closedWithin(c, 50*time.Millisecond) {
		t.Fatal("the allowed port was closed")
	}
	s.reported(t, []string{"port", "accept"})
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{MaxConns: 2, MaxPerAddr: 10}, nil)
	s.dial(t, "")
	s.dial(t, "")
	eventually(t, "two are there", func() bool { return s.Len() == 2 })
	if c := s.dial(t, ""); !closedWithin(c, time.Minute) {
		t.Fatal("a third connection stays open")
	}
	if err := s.SetLimits(Limits{MaxConns: 3, MaxPerAddr: 10}); err != nil {
		t.Fatal(err)
	}
	s.dial(t, "")
	eventually(t, "the changed limit lets it in", func() bool { return s.Len() == 3 })
	s.reported(t, []string{"accept", "accept", "alloc", "accept"})
}

// The stock server looks every tcp_client_max_idle seconds and closes who has
// been quiet since the last look: after one to two times the limit.
func TestIdleClosedAtTheSecondTick(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{MaxPerAddr: 2}, nil)
	quiet, talks := s.dial(t, ""), s.dial(t, "")
	send := func(c net.Conn) {
		c.Write([]byte("#."))
		eventually(t, "it is active", func() bool { return s.from(c) != nil && s.from(c).active.Load() })
	}
	send(quiet)
	send(talks)
	s.sweepOnce(time.Hour, true)
	if closedWithin(quiet, 50*time.Millisecond) {
		t.Error("closed at the first look after it had sent")
	}
	send(talks)
	s.sweepOnce(time.Hour, true)
	if !closedWithin(quiet, time.Minute) {
		t.Error("an idle connection stays open")
	}
	if closedWithin(talks, 50*time.Millisecond) {
		t.Error("a connection with data was closed as idle")
	}
	eventually(t, "counted", func() bool {
		return metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="idle"`) == 1
	})
}

// from is the listener's end of a connection, nil before it is accepted.
func (s *server) from(c net.Conn) *Conn {
	s.Listener.mu.Lock()
	defer s.Listener.mu.Unlock()
	for conn := range s.conns {
		if conn.peer.String() == c.LocalAddr().String() {
			return conn
		}
	}
	return nil
}

func TestBusyIsNotIdle(t *testing.T) {
	t.Parallel()
	const idle = 100 * time.Millisecond
	free := make(chan struct{})
	s := start(t, Limits{MaxIdle: idle, FrameTimeout: idle}, func(c *Conn) {
		c.Received(false, true)
		c.Busy(true)
		<-free
		c.Busy(false)
		c.Received(true, false)
		readAll(c)
	})
	end := sync.OnceFunc(func() { close(free) })
	t.Cleanup(end)
	c := s.dial(t, "")
	if closedWithin(c, 5*idle) {
		t.Fatal("a connection whose records are being stored was closed")
	}
	end()
	if !closedWithin(c, 20*idle) {
		t.Fatal("not closed when it was idle at last")
	}
}

// The time for a frame runs from its first byte; more bytes do not prolong it.
func TestFrameMustArriveInTime(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{FrameTimeout: time.Hour, MaxPerAddr: 2}, nil)
	whole, slow := s.dial(t, ""), s.dial(t, "")
	whole.Write([]byte("#."))
	slow.Write([]byte("#"))
	eventually(t, "a frame is begun, another one done", func() bool {
		return s.from(whole) != nil && s.from(whole).active.Load() && s.from(slow) != nil && s.from(slow).since.Load() != 0
	})
	c := s.from(slow)
	began := c.since.Load()
	c.active.Store(false)
	slow.Write([]byte("#"))
	eventually(t, "more of it has come", c.active.Load)
	if now := c.since.Load(); now != began {
		t.Errorf("more bytes moved the frame's beginning from %d to %d", began, now)
	}
	s.sweepOnce(time.Hour, false)
	if closedWithin(slow, 50*time.Millisecond) {
		t.Error("closed before its time")
	}
	s.sweepOnce(time.Nanosecond, false)
	if !closedWithin(slow, time.Minute) {
		t.Error("a frame that never ends keeps its connection")
	}
	if closedWithin(whole, 50*time.Millisecond) {
		t.Error("a connection between frames was closed, too")
	}
	eventually(t, "counted", func() bool {
		return metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="frame"`) == 1
	})
}

func TestPortInUse(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	addr := held.Addr().String()
	_, err = Open(Config{Addrs: []string{"127.0.0.1:0", addr}, Log: hclog.NewNullLogger(), Metrics: metrics.NewListen(metrics.New())})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Open on a port in use: %v", err)
	}
	for _, want := range []string{addr, "another program holds it", "--listen"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestBadLimits(t *testing.T) {
	for name, bad := range map[string]Limits{
		"tcp_client_ports": {MinPort: 2000, MaxPort: 1000},
		"tcp_max_per_addr": {MaxPerAddr: -1},
		"tcp_max_clients":  {MaxConns: -1},
		"time limit":       {MaxIdle: -time.Second},
	} {
		_, err := Open(Config{Addrs: []string{"127.0.0.1:0"}, Limits: bad, Log: hclog.NewNullLogger(), Metrics: metrics.NewListen(metrics.New())})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("limits %+v: error %v, want one that says %s", bad, err, name)
		}
	}
}

// However many connections break a limit at once, the log has a line for each look
// at them.
func TestManySlowOnesAreOneLine(t *testing.T) {
	t.Parallel()
	const n = 200
	s := start(t, Limits{FrameTimeout: 500 * time.Millisecond, MaxPerAddr: n}, nil)
	for range n {
		s.dial(t, "").Write([]byte("#"))
	}
	eventually(t, "all are closed", func() bool {
		return metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="frame"`) == n
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Count(s.log.String(), "not finished in time"); got < 1 || got > n/4 {
		t.Errorf("%d lines for %d connections", got, n)
	}
}

// The queue's length is the one asked for: once it is full, and nobody accepts,
// the kernel takes no further connection.
func TestListenQueue(t *testing.T) {
	for _, queue := range []int{1, 20} {
		l, err := Open(Config{Addrs: []string{"127.0.0.1:0"}, Backlog: queue, Log: hclog.NewNullLogger(), Metrics: metrics.NewListen(metrics.New())})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := l.ln[0].SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got uint32
		raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			got = info.Sacked // of a listening socket: the queue's length, see tcp_get_info
		})
		if int(got) != queue {
			t.Errorf("queue of %d asked for, the kernel has %d", queue, got)
		}
		l.Close()
	}
}

func TestBothFamilies(t *testing.T) {
	s := &server{reg: metrics.New()}
	l, err := Open(Config{Addrs: []string{":0"}, Log: hclog.NewNullLogger(), Metrics: metrics.NewListen(s.reg)})
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	peers := make(chan netip.AddrPort, 2)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx, func(c *Conn) { peers <- c.Peer() }) }()
	defer func() { cancel(); <-done; l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addrs()[0].String())
	for addr, want := range map[string]string{"127.0.0.1": "::ffff:127.0.0.1", "::1": "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			if addr == "::1" {
				need.Missing(t, "this machine has no IPv6: "+err.Error())
			}
			t.Fatal(err)
		}
		if got := (<-peers).Addr().String(); got != want {
			t.Errorf("a client from %s is %s, want %s as the stock server writes it", addr, got, want)
		}
		c.Close()
	}
}

// Who is refused for the configuration's sake is named once, with the key that is the
// cause and what to do, however often he comes back.
func TestRefusalsAreSaid(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{MaxPerAddr: 1, MaxConns: 2}, nil)
	refused := func(from string) {
		t.Helper()
		if !closedWithin(s.dial(t, from), time.Minute) {
			t.Fatalf("%s was let in", from)
		}
	}
	first := s.dial(t, "127.0.0.7:0")
	first.Write([]byte("."))
	s.reported(t, []string{"accept"})
	for range 5 {
		refused("127.0.0.7:0")
	}
	s.dial(t, "127.0.0.8:0").Write([]byte("."))
	for _, from := range []string{"127.0.0.9:0", "127.0.0.10:0"} {
		refused(from)
	}
	s.reported(t, []string{"accept", "dup", "dup", "dup", "dup", "dup", "accept", "alloc", "alloc"})
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log.String()
	for _, want := range []string{
		"[WARN]  refused a connection: its address has as many connections as tcp_max_per_addr allows", "addr=127.0.0.7", "tcp_max_per_addr=1 open=1",
		"as many connections as max_connections", "most=2 open=2",
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("%q is not said once in\n%s", want, log)
		}
	}
}

// Each receive buffer is smaller the more connections there are, and all together stay
// within their bound.
func TestReceiveBuffers(t *testing.T) {
	last := 1 << 30
	for n := 1; n <= 20_000; n++ {
		size := receiveBuffer(n)
		if n <= receiveFree {
			if size != 0 {
				t.Fatalf("%d connections: %d bytes each", n, size)
			}
			continue
		}
		if size > last || size < receiveLeast || size > receiveLeast && size*n > receiveTotal {
			t.Fatalf("%d connections: %d bytes each, %d before", n, size, last)
		}
		last = size
	}
}

// A connection has the receive buffer of its number, from its beginning on: one that was
// open before keeps its own, and when they are few again, the kernel chooses.
func TestReceiveBuffersAreInherited(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{MaxPerAddr: 1000}, readAll)
	size := func(of net.Conn) (n int) {
		s.Listener.mu.Lock()
		defer s.Listener.mu.Unlock()
		for c := range s.conns {
			if c.peer.String() == of.LocalAddr().String() {
				_ = c.sock.Control(func(fd uintptr) { n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
			}
		}
		return n
	}
	var all []net.Conn
	dial := func() {
		all = append(all, s.dial(t, ""))
		eventually(t, "it is accepted", func() bool { return s.Len() == len(all) })
	}
	dial()
	kernels := size(all[0])
	for len(all) < receiveFree+1 {
		dial()
	}
	if got := size(all[0]); got != kernels {
		t.Errorf("the first has %d bytes now, and had %d", got, kernels)
	}
	if got, want := size(all[receiveFree]), 2*receiveBuffer(receiveFree+1); got != want {
		t.Errorf("the last one has %d bytes, want %d", got, want)
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, "all are gone", func() bool { return s.Len() == 0 })
	all = nil
	dial()
	if got := size(all[0]); got != kernels {
		t.Errorf("the next one has %d bytes, want %d", got, kernels)
	}
}
