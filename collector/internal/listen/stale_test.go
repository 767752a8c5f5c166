package listen

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
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

// netns is a network namespace: what its goroutine does happens in there.
type netns struct {
	t   *testing.T
	run chan func()
	tid int
}

// newNetns makes a namespace that goes with the test.
func newNetns(t *testing.T) *netns {
	t.Helper()
	need.Root(t)
	ns := &netns{t: t, run: make(chan func())}
	began := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
		ns.tid = unix.Gettid()
		err := unix.Unshare(unix.CLONE_NEWNET)
		began <- err
		if err != nil {
			return
		}
		for f := range ns.run {
			f()
		}
	}()
	if err := <-began; err != nil {
		need.Missing(t, "no network namespace can be made: "+err.Error())
	}
	t.Cleanup(func() { close(ns.run) })
	return ns
}

func (ns *netns) do(f func()) {
	done := make(chan struct{})
	ns.run <- func() { f(); close(done) }
	<-done
}

// ip runs ip(8) in the namespace, once for each line.
func (ns *netns) ip(lines ...string) {
	ns.t.Helper()
	for _, line := range lines {
		var out []byte
		var err error
		ns.do(func() { out, err = exec.Command("ip", strings.Fields(line)...).CombinedOutput() })
		if err != nil {
			ns.t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
}

// dial connects from a port of the namespace.
func (ns *netns) dial(to string, from int) net.Conn {
	ns.t.Helper()
	var c net.Conn
	var err error
	ns.do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.98.0.2"), Port: from}, Timeout: time.Minute}
		c, err = d.Dial("tcp", to)
	})
	if err != nil {
		ns.t.Fatal(err)
	}
	ns.t.Cleanup(func() { c.Close() })
	return c
}

// cut makes what the collector sends to a port of the namespace vanish, as if the
// machine that had it open were gone.
func (ns *netns) cut(port int) {
	ns.ip(fmt.Sprintf("rule add pref 1 ipproto 6 dport %d blackhole", port))
}

// twoHosts is a collector and a sender's machine with a cable between them.
func twoHosts(t *testing.T, limits Limits) (*server, *netns) {
	t.Helper()
	t.Parallel()
	need.Stock(t, "ip")
	here, there := newNetns(t), newNetns(t)
	here.ip("link set lo up", fmt.Sprintf("link add v0 type veth peer name v1 netns %d", there.tid),
		"addr add 10.98.0.1/24 dev v0", "link set v0 up")
	there.ip("addr add 10.98.0.2/24 dev v1", "link set v1 up",
		"rule add pref 100 lookup local", "rule del pref 0") // rules of ours go before it
	// The rules must hold for sessions that are there, too.
	there.do(func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/tcp_early_demux", []byte("0"), 0); err != nil {
			t.Errorf("in the namespace: %v", err)
		}
	})
	s := &server{reg: metrics.New()}
	var err error
	here.do(func() {
		s.Listener, err = Open(Config{
			Addrs: []string{"10.98.0.1:0"}, Limits: limits,
			Log: hclog.New(&hclog.LoggerOptions{Output: &s.log, Mutex: &s.mu}), Metrics: metrics.NewListen(s.reg),
			Report: func(r Report) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.said = append(s.said, r)
			},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx, readAll) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	return s, there
}

// silent waits until the one session's peer has not been heard of for so long that a
// newcomer makes the kernel ask it.
func (s *server) silent(t *testing.T) {
	t.Helper()
	eventually(t, "the session is doubtful", func() bool { return s.theOne().vital().heard >= fresh })
}

// theOne is the only connection there is.
func (s *server) theOne() (c *Conn) {
	s.Listener.mu.Lock()
	defer s.Listener.mu.Unlock()
	for c = range s.conns {
	}
	return c
}

// A machine that is gone, and back under its address, while its session lingers:
// the newcomer is let in.
func TestStaleSessionIsEvicted(t *testing.T) {
	s, host := twoHosts(t, Limits{})
	to := s.Addrs()[0].String()
	host.dial(to, 41001).Write([]byte("#."))
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	host.cut(41001)
	s.silent(t)
	second := host.dial(to, 41002)
	eventually(t, "the newcomer is let in", func() bool {
		return cmp.Equal(s.ops(), []string{"accept", "accept", "close"}) || cmp.Equal(s.ops(), []string{"accept", "close", "accept"})
	})
	second.Write([]byte("#."))
	if closedWithin(second, 300*time.Millisecond) {
		t.Error("the newcomer was closed")
	}
	eventually(t, "the old one is counted as stale", func() bool {
		return metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="stale"`) == 1
	})
}

// The same while acknowledgements for it are on their way: then the kernel repeats
// those, and does not ask.
func TestStaleSessionWithUnsentReplies(t *testing.T) {
	s, host := twoHosts(t, Limits{})
	to := s.Addrs()[0].String()
	host.dial(to, 41001).Write([]byte("#."))
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	host.cut(41001)
	write(t, s.theOne(), []byte("a reply"))
	s.silent(t)
	host.dial(to, 41002)
	eventually(t, "the newcomer is let in", func() bool { return metricstest.Value(t, s.reg, "auditfleet_collector_accepted_total", "") == 2 })
	eventually(t, "the old one is counted as stale", func() bool {
		return metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="stale"`) == 1
	})
}

// write says whether the socket took anything.
func write(t *testing.T, c *Conn, b []byte) bool {
	t.Helper()
	var n int
	var failed error
	if err := c.Sock().Control(func(fd uintptr) { n, failed = unix.Write(int(fd), b) }); err != nil {
		t.Fatal(err)
	}
	if failed != nil && failed != unix.EAGAIN {
		t.Fatal(failed)
	}
	return n > 0
}

// A live session stays, however long it has been silent, also when its program
// does not take anything; the newcomer is refused as the stock server does.
func TestLiveSessionIsNotEvicted(t *testing.T) {
	s, host := twoHosts(t, Limits{})
	to := s.Addrs()[0].String()
	first := host.dial(to, 41001)
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	s.silent(t)
	second := host.dial(to, 41002)
	if !closedWithin(second, time.Minute) {
		t.Fatal("the newcomer stays")
	}
	if closedWithin(first, 50*time.Millisecond) {
		t.Fatal("the live session was closed")
	}
	// A window that is shut: the peer is there all the same.
	c := s.theOne()
	eventually(t, "its window is shut, and it is doubtful", func() bool {
		return !write(t, c, make([]byte, 64<<10)) && c.vital().heard >= fresh
	})
	third := host.dial(to, 41003)
	if !closedWithin(third, time.Minute) {
		t.Fatal("the newcomer stays")
	}
	if s.Len() != 1 {
		t.Fatal("a session that does not read was evicted")
	}
	s.reported(t, []string{"accept", "dup", "dup"})
}

// Only one newcomer of an address waits; the end of the listener does not wait for
// it.
func TestOnlyOneWaits(t *testing.T) {
	s, host := twoHosts(t, Limits{})
	to := s.Addrs()[0].String()
	host.dial(to, 41001)
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	host.cut(41001)
	s.silent(t)
	host.dial(to, 41002)
	eventually(t, "it waits", func() bool {
		s.Listener.mu.Lock()
		defer s.Listener.mu.Unlock()
		return len(s.waits) == 1
	})
	if !closedWithin(host.dial(to, 41003), time.Minute) {
		t.Error("a second one waits, too")
	}
	s.reported(t, []string{"accept", "dup"}) // while the first one still waits
	s.Close()
	// Had Close waited for the kernel to ask, the dead session would have been evicted.
	if n := metricstest.Value(t, s.reg, "auditfleet_collector_closed_total", `reason="shutdown"`); n != 1 {
		t.Errorf("%v sessions closed by the end, want 1", n)
	}
}

// A machine that was restarted answers with a reset when it is asked.
func TestRestartedMachine(t *testing.T) {
	s, host := twoHosts(t, Limits{})
	to := s.Addrs()[0].String()
	first := host.dial(to, 41001)
	eventually(t, "accepted", func() bool { return s.Len() == 1 })
	host.ip("rule add pref 2 to 10.98.0.1 ipproto tcp sport 41001 blackhole") // its end says nothing …
	first.(*net.TCPConn).SetLinger(0)
	first.Close()
	s.silent(t)
	if s.Len() != 1 {
		t.Fatal("the dead session does not linger")
	}
	host.ip("rule del pref 2") // … and is back
	host.dial(to, 41002)
	eventually(t, "the newcomer is let in", func() bool { return metricstest.Value(t, s.reg, "auditfleet_collector_accepted_total", "") == 2 })
}
