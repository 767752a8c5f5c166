package agent

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
	"golang.org/x/sys/unix"

	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
)

// wire is two network namespaces with a cable between, of this test's own.
type wire struct {
	t            testing.TB
	host, server string // their names
	hole         func(on bool)
}

const serverIP = "192.0.2.1"

func newWire(t testing.TB) *wire {
	t.Helper()
	need.Root(t)
	ip := need.Tool(t, "ip")
	w := &wire{t: t, host: fmt.Sprintf("af-h-%d", os.Getpid()), server: fmt.Sprintf("af-s-%d", os.Getpid())}
	run := func(line string) error {
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
		return nil
	}
	for _, ns := range []string{w.host, w.server} {
		if err := run(ip + " netns add " + ns); err != nil {
			need.Missing(t, err.Error())
		}
		t.Cleanup(func() {
			if err := run(ip + " netns del " + ns); err != nil {
				t.Error(err)
			}
		})
	}
	for _, line := range []string{
		ip + " -n " + w.host + " link add up0 type veth peer name up0 netns " + w.server,
		ip + " -n " + w.host + " addr add 192.0.2.2/30 dev up0", ip + " -n " + w.server + " addr add " + serverIP + "/30 dev up0",
		ip + " -n " + w.host + " link set up0 up", ip + " -n " + w.server + " link set up0 up",
	} {
		if err := run(line); err != nil {
			need.Missing(t, err.Error())
		}
	}
	must := func(line string) {
		if err := run(line); err != nil {
			t.Error(err)
		}
	}
	in := ip + " netns exec " + w.server + " nft "
	if _, err := exec.LookPath("nft"); err == nil && run(in+"add table inet af") == nil {
		// Packets arrive, and are swallowed.
		must(in + "add chain inet af in { type filter hook input priority 0 ; }")
		w.hole = func(on bool) {
			if on {
				must(in + "add rule inet af in drop")
			} else {
				must(in + "flush chain inet af in")
			}
		}
		return w
	}
	t.Log("there is no nft: the cable is pulled at the far end instead")
	w.hole = func(on bool) {
		state := "up"
		if on {
			state = "down"
		}
		must(ip + " -n " + w.server + " link set up0 " + state)
	}
	return w
}

// in runs f on a thread in a namespace: sockets made there stay there.
func (w *wire) in(ns string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else gets it.
		runtime.LockOSThread()
		fd, err := unix.Open("/var/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

func (w *wire) dial(ctx context.Context, server string) (conn net.Conn, err error) {
	err = w.in(w.host, func() error {
		// A numeric address: the dialer has no need of another thread.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, "tcp4", server)
		return err
	})
	return conn, err
}

// A link that swallows everything without a word, in the middle of a stream and
// while nothing is sent: it is noticed by the replies that do not come, and
// afterwards every record is there, once.
func TestBlackHole(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s")
	}
	w := newWire(t)
	var ln net.Listener
	if err := w.in(w.server, func() (err error) {
		ln, err = net.Listen("tcp4", serverIP+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := collectorOn(t, ln)
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sc := shipTo(c.addr)
	sc.Transport = audisp.Transport{Connect: w.dial}
	sc.ReplyTimeout, sc.ConnectTimeout, sc.Heartbeat = 400*time.Millisecond, 400*time.Millisecond, 100*time.Millisecond
	s := startAgent(t, Config{Source: SourceStdin, Stdin: r, Ship: sc, Spool: spool.Options{Dir: t.TempDir() + "/spool"}})
	want := sample(1, 3000)
	sent := 0
	send := func(n int) {
		for range n {
			fmt.Fprintln(pipe, want[sent])
			if sent++; sent%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	send(500)
	wait(t, "the first records", func() bool { return len(c.got()) == 500 })
	for i := range 3 {
		// While records are on their way …
		send(100)
		w.hole(true)
		send(300)
		wait(t, "the silence is noticed", func() bool { return s.ship.metrics.Connected.Load() == 0 })
		failures := s.ship.metrics.ConnectFailures.Load()
		wait(t, "it is tried again", func() bool { return s.ship.metrics.ConnectFailures.Load() > failures })
		w.hole(false)
		wait(t, fmt.Sprintf("all is there after hole %d", i), func() bool { return len(c.got()) == sent })
		// … and while nothing is: heartbeats find out.
		w.hole(true)
		wait(t, "heartbeats notice it", func() bool { return s.ship.metrics.Connected.Load() == 0 })
		w.hole(false)
		wait(t, "it is connected again", func() bool { return s.ship.metrics.Connected.Load() == 1 })
	}
	send(len(want) - sent)
	pipe.Close()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.got()); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d connections, %d records sent again and recognised %d times", s.ship.metrics.Connects.Load(), s.ship.metrics.Resent.Load(), c.again())
}
