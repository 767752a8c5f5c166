package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
)

// isProxy has 127.0.0.2 and ::1 as proxies.
func isProxy(a netip.Addr) bool {
	a = a.Unmap()
	return a == netip.MustParseAddr("127.0.0.2") || a == netip.IPv6Loopback()
}

const proxyAddr = "127.0.0.2:0"

func line(from string) string {
	return fmt.Sprintf("PROXY TCP4 %s 198.51.100.1 40000 60\r\n", from)
}

const (
	sigV2   = "\r\n\r\n\x00\r\nQUIT\n"
	localV2 = sigV2 + "\x20\x00\x00\x00"
	seven   = sigV2 + "\x21\x11\x00\x0f\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x00\x3c\x04\x00\x00" // 192.0.2.7:40000, and a TLV
)

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (s *server) peers() (all []string) {
	s.Connected(func(p netip.AddrPort) { all = append(all, p.String()) })
	return all
}

// A proxy's connections are their clients': for the limit of an address, the ports, those who
// are trusted, and what is reported. The proxy's own address is not limited.
func TestProxiedConnectionIsItsClients(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	s := start(t, Limits{Proxy: isProxy, MinPort: 40000, MaxPort: 50000, Trusts: func(a netip.Addr) bool { return a != netip.MustParseAddr("192.0.2.9") }}, func(c *Conn) {
		buf := make([]byte, 100)
		n := 0
		for n <= 0 && c.Cause() == "" {
			_ = c.Sock().Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) })
			time.Sleep(time.Millisecond)
		}
		got <- c.Peer().String() + " " + string(buf[:max(n, 0)])
		readAll(c)
	})
	first, second := s.dial(t, proxyAddr), s.dial(t, proxyAddr)
	for i, b := range []byte(line("192.0.2.8")) { // torn
		say(t, first, string(b))
		if i%8 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	say(t, second, seven+"frame.")
	if diff := cmp.Diff("192.0.2.7:40000 frame.", <-got); diff != "" {
		t.Error(diff)
	}
	say(t, first, "later.")
	if diff := cmp.Diff("192.0.2.8:40000 later.", <-got); diff != "" {
		t.Error(diff)
	}
	dup, port, untrusted := s.dial(t, proxyAddr), s.dial(t, proxyAddr), s.dial(t, proxyAddr)
	say(t, dup, seven)
	if !closedWithin(dup, time.Minute) {
		t.Error("a second connection of a client stays open")
	}
	say(t, port, "PROXY TCP4 192.0.2.10 198.51.100.1 39999 60\r\n")
	if !closedWithin(port, time.Minute) {
		t.Error("a client from another port stays open")
	}
	say(t, untrusted, line("192.0.2.9"))
	if !closedWithin(untrusted, time.Minute) {
		t.Error("a client that is not trusted stays open")
	}
	want := []string{"accept", "accept", "dup", "port", "untrusted"}
	s.reported(t, want)
	for i, r := range s.reports() {
		if a := r.Peer.Addr().String(); !strings.HasPrefix(a, "192.0.2.") {
			t.Errorf("report %d is of %s", i, a)
		}
	}
}

// A header makes nobody another one whose address is no proxy's: not a byte of it is taken.
func TestStrangersHeaderIsNotRead(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	s := start(t, Limits{Proxy: isProxy}, func(c *Conn) {
		buf, n := make([]byte, 100), 0
		for n <= 0 {
			_ = c.Sock().Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) })
			time.Sleep(time.Millisecond)
		}
		got <- c.Peer().Addr().String() + " " + string(buf[:n])
	})
	say(t, s.dial(t, "127.0.0.3:0"), line("127.0.0.2"))
	if diff := cmp.Diff("127.0.0.3 "+line("127.0.0.2"), <-got); diff != "" {
		t.Error(diff)
	}
}

// Without a whole and sound header in time a proxy's connection is refused, and somebody is
// told once what to do.
func TestProxyWithoutHeaderIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{Proxy: isProxy, FrameTimeout: 200 * time.Millisecond}, nil)
	var want []string
	for _, text := range []string{
		"\xfe\x00\x00\xff", "type=USER msg=audit(1.000:1): x\n", "", "PROXY TCP4 ", sigV2 + "\x21\x11\xff\xff", sigV2 + "\x21\x11\x00\x0c\xc0\x00",
		sigV2 + "\x21\x31\x00\xd8" + strings.Repeat("/", 216), "PROXY TCP4 0.0.0.0 0.0.0.0 1 1\r\n", "PROXY TCP4 ::1 ::1 1 1\r\n",
	} {
		c := s.dial(t, proxyAddr)
		say(t, c, text)
		if !closedWithin(c, time.Minute) {
			t.Errorf("%q: it stays open", text)
		}
		want = append(want, "proxy")
	}
	closed := s.dial(t, proxyAddr)
	closed.Close()
	s.reported(t, append(want, "proxy"))
	if n := metricstest.Value(t, s.reg, "auditfleet_collector_refused_total", `reason="proxy"`); n != float64(len(want)+1) {
		t.Errorf("%v are counted", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if log := s.log.String(); strings.Count(log, "so it must begin with a PROXY header") != 1 || !strings.Contains(log, "addr=127.0.0.2") {
		t.Errorf("it is not said once:\n%s", log)
	}
}

// A proxy that speaks for itself is who it is, and bounded as such.
func TestProxysOwnConnection(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{Proxy: isProxy}, nil)
	first, second := s.dial(t, proxyAddr), s.dial(t, proxyAddr)
	say(t, first, localV2)
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	if p := s.peers(); p[0] != first.LocalAddr().String() {
		t.Errorf("it is %s, want %s", p, first.LocalAddr())
	}
	say(t, second, "PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 1\r\n")
	if !closedWithin(second, time.Minute) {
		t.Error("a second one stays open")
	}
}

// Connections without their header take a part of the places at most, and the oldest makes
// room: those who send theirs get in, however many there are.
func TestHalfConnections(t *testing.T) {
	t.Parallel()
	const most, half, share = 64, 200, 8 // the share is that of proxied
	s := start(t, Limits{Proxy: isProxy, MaxConns: most}, nil)
	conns := make([]net.Conn, half)
	for i := range conns {
		conns[i] = s.dial(t, proxyAddr)
		say(t, conns[i], "PROXY TCP4 192.0.2.")
	}
	waiting := func() int {
		s.Listener.mu.Lock()
		defer s.Listener.mu.Unlock()
		return s.headers.Len()
	}
	eventually(t, "the rest was ended", func() bool { return len(s.ops()) == half-most/share && waiting() == most/share })
	good := s.dial(t, proxyAddr)
	say(t, good, seven)
	eventually(t, "one with a header gets in", func() bool { return s.Len() == 1 })
	if n := metricstest.Value(t, s.reg, "auditfleet_collector_refused_total", `reason="proxy"`); n < half-most/share {
		t.Errorf("%v are counted as refused", n)
	}
	// What waits ends with the listener; start's cleanup joins it.
}

// Whoever is a proxy can change while connections are open.
func TestProxiesAreReloaded(t *testing.T) {
	t.Parallel()
	s := start(t, Limits{}, nil)
	if err := s.SetLimits(Limits{Proxy: isProxy}); err != nil {
		t.Fatal(err)
	}
	c := s.dial(t, proxyAddr)
	say(t, c, seven)
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	if diff := cmp.Diff([]string{"192.0.2.7:40000"}, s.peers()); diff != "" {
		t.Error(diff)
	}
	if err := s.SetLimits(Limits{}); err != nil {
		t.Fatal(err)
	}
	direct := s.dial(t, proxyAddr)
	eventually(t, "it is a sender now", func() bool { return s.Len() == 2 })
	if closedWithin(c, 50*time.Millisecond) || closedWithin(direct, 50*time.Millisecond) {
		t.Error("one was closed")
	}
}

// A client has the same address directly and through a proxy, also on a socket of both
// families.
func TestProxiedAddressHasTheSocketsForm(t *testing.T) {
	s := &server{reg: metrics.New()}
	l, err := Open(Config{Addrs: []string{":0"}, Limits: Limits{Proxy: isProxy, MaxPerAddr: 9}, Log: hclog.NewNullLogger(), Metrics: metrics.NewListen(s.reg)})
	if err != nil {
		t.Fatal(err)
	}
	peers := make(chan netip.AddrPort, 2)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx, func(c *Conn) { peers <- c.Peer() }) }()
	defer func() { cancel(); <-done; l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addrs()[0].String())
	for _, tt := range [][3]string{
		{"127.0.0.2", line("192.0.2.7"), "::ffff:192.0.2.7"}, {"::1", line("192.0.2.7"), "::ffff:192.0.2.7"}, {"::1", "PROXY TCP6 2001:db8::7 ::1 1 1\r\n", "2001:db8::7"},
	} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tt[0])}}
		to := "127.0.0.1"
		if tt[0] == "::1" {
			to = "::1"
		}
		c, err := d.Dial("tcp", net.JoinHostPort(to, port))
		if err != nil {
			need.Missing(t, "this machine has no IPv6: "+err.Error())
		}
		say(t, c, tt[1])
		if got := (<-peers).Addr().String(); got != tt[2] {
			t.Errorf("%q from %s: %s, want %s", tt[1], tt[0], got, tt[2])
		}
		c.Close()
	}
}
