package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// losing is a host of which a row of the loss table loses records: what it is fed, and the
// collector it reports to.
type losing struct {
	*testing.T
	c    *harness.Collector
	dir  string
	feed *os.File // the forwarder's input
	made int      // events
	run  string   // of the forwarder
}

func newLosing(t *testing.T, o harness.CollectorOptions) *losing {
	t.Helper()
	t.Parallel()
	return &losing{T: t, c: startCollector(t, o), dir: t.TempDir()}
}

// start starts a forwarder that reads what events writes.
func (l *losing) start(remote string, args ...string) *harness.Proc {
	l.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		l.Fatal(err)
	}
	defer r.Close()
	l.Cleanup(func() { w.Close() })
	l.feed = w
	p, err := harness.StartForwarder(binaries(l.T), l.dir, remote, "stdin", r, append([]string{"--node", "web1", "--alive-interval", "1s"}, args...)...)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(p.Kill)
	// What is made before it has started nobody answers for.
	l.ask("its first statement", func(c *coverageOf) bool { return c.Forwarder.Run != "" && c.Forwarder.Run != l.run })
	l.run = l.ask("its run", func(*coverageOf) bool { return true }).Forwarder.Run
	return p
}

// lines are n events of one record each, the next ones.
func (l *losing) lines(n int) string {
	var b strings.Builder
	for range n {
		l.made++
		now := time.Now()
		fmt.Fprintf(&b, "type=USER_CMD msg=audit(%d.%03d:%d): pid=1 uid=0 auid=0 ses=1 msg='cwd=\"/\" cmd=%s res=success'\n", now.Unix(), now.Nanosecond()/1e6, 1000+l.made, strings.Repeat("41", 200))
	}
	return b.String()
}

func (l *losing) events(n int) {
	l.Helper()
	if _, err := l.feed.WriteString(l.lines(n)); err != nil {
		l.Fatal(err)
	}
}

// ask asks until the answer is good.
func (l *losing) ask(what string, good func(*coverageOf) bool) coverageOf {
	l.Helper()
	var last coverageOf
	var text []byte
	if !harness.Poll(time.Minute, func() bool {
		r, err := l.c.Command(time.Minute, "coverage", "-n", "web1", "--format", "json")
		if err != nil || r.Code != 0 && r.Code != 3 {
			return false
		}
		last, text = coverageOf{}, r.Stdout
		return json.Unmarshal(text, &last) == nil && (r.Code == 0) == (last.State == "complete") && good(&last)
	}) {
		l.Fatalf("%s: %s", what, text)
	}
	return last
}

// complete waits for an answer that lacks nothing, by which time all events are stored.
func (l *losing) complete(what string) {
	l.Helper()
	since := time.Now()
	l.ask(what, func(c *coverageOf) bool {
		return c.State == "complete" && c.Lost == 0 && c.Forwarder.Said.After(since) && len(l.stored()) == l.made
	})
}

func (l *losing) stored() []string { return found(l.T, l.c, "-n", "web1") }

// TestLosses loses records at each hop of their way, on purpose and one at a time, without the
// kernel (TestKernelCoverage and TestKernelLosses have it): coverage names the hop and the number.
func TestLosses(t *testing.T) {
	binaries(t)
	t.Run("none", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		l.start(l.c.Addr())
		l.events(500)
		l.complete("nothing is lost")
	})
	t.Run("link cut", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		link, err := harness.NewProxy(l.c.Addr(), 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { link.Close() })
		l.start(link.Addr())
		l.events(200)
		l.complete("before the cut")
		link.BlackHole()
		l.events(300)
		time.Sleep(7 * time.Second) // what it holds must be older than pendingAfter
		link.Cut()
		link.Resume()
		l.complete("it is mended")
	})
	t.Run("collector down", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		l.start(l.c.Addr())
		l.events(200)
		l.complete("before it went down")
		l.c.Kill()
		l.events(300)
		time.Sleep(2 * time.Second)
		l.c = startCollector(t, harness.CollectorOptions{Store: l.c.Store, Port: l.c.Port})
		l.complete("it is up again")
	})
	t.Run("full spool", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		l.start(l.c.Addr(), "--spool-size", "1M", "--spool-full", "drop-oldest")
		l.events(200)
		l.complete("before it was full")
		l.c.Kill()
		for range 20 {
			l.events(1000)
		}
		time.Sleep(2 * time.Second)
		l.c = startCollector(t, harness.CollectorOptions{Store: l.c.Store, Port: l.c.Port})
		l.ask("the spool was full", func(c *coverageOf) bool {
			// Words about losses are dropped like any record: the sums that statements have say the rest,
			// of our own records, too.
			n, gone := c.of("spool-full")+c.of("other"), uint64(l.made-len(l.stored()))
			return c.State == "lost" && c.of("spool-full") > 0 && gone > 0 && c.Lost == n && n >= gone && n <= gone+20
		})
	})
	t.Run("spool deleted", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		p := l.start(l.c.Addr())
		l.events(200)
		l.complete("before it was deleted")
		l.c.Kill()
		l.events(300)
		time.Sleep(2 * time.Second)
		p.Kill()
		if err := os.RemoveAll(filepath.Join(l.dir, "spool")); err != nil {
			t.Fatal(err)
		}
		l.c = startCollector(t, harness.CollectorOptions{Store: l.c.Store, Port: l.c.Port})
		l.start(l.c.Addr())
		l.events(100)
		// Who handed on the records is gone with them: the serials tell.
		l.ask("the spool was deleted", func(c *coverageOf) bool {
			return c.State == "lost" && c.of("serial-gap") == 300 && c.Lost == 300
		})
	})
	t.Run("spool damaged", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		p := l.start(l.c.Addr())
		l.events(200)
		l.complete("before it was damaged")
		l.c.Kill()
		l.events(300)
		time.Sleep(2 * time.Second)
		p.Kill()
		flip(t, filepath.Join(l.dir, "spool"), `cmd=`)
		l.c = startCollector(t, harness.CollectorOptions{Store: l.c.Store, Port: l.c.Port})
		l.start(l.c.Addr())
		l.events(100)
		l.ask("the spool was damaged", func(c *coverageOf) bool {
			return c.State == "lost" && c.of("spool-damaged")+c.of("serial-gap") > 0
		})
	})
	t.Run("disk full", func(t *testing.T) {
		dir := t.TempDir()
		need.Tmpfs(t, dir, "size=24m")
		l := newLosing(t, harness.CollectorOptions{Store: dir + "/store", Args: []string{"--disk-reserve", "0"}})
		l.start(l.c.Addr())
		l.events(200)
		l.complete("before it was full")
		ballast := filepath.Join(dir, "ballast")
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		_ = os.WriteFile(ballast, make([]byte, int64(st.Bavail)*st.Bsize), 0o600) // up to the end
		for range 4 {
			l.events(1000)
		}
		if !harness.Poll(time.Minute, func() bool {
			n, err := l.c.Metric("auditfleet_collector_rejected_records_total")
			return err == nil && n > 0
		}) {
			t.Errorf("nothing was refused:\n%s", l.c.Output())
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		l.complete("there is room again")
	})
	t.Run("stock sender that drops", func(t *testing.T) {
		stockPeers(t)
		l := newLosing(t, harness.CollectorOptions{})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		p, err := harness.StartAudispRemote(filepath.Join(l.dir, "stock"), l.c.Port, r, map[string]string{"queue_depth": "16", "max_tries_per_record": "3"})
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		l.feed = w
		nodes := func(n int) {
			for line := range strings.Lines(l.lines(n)) {
				if _, err := w.WriteString("node=web1 " + line); err != nil {
					t.Fatal(err)
				}
			}
		}
		nodes(1)
		if !harness.Poll(time.Minute, func() bool { return len(l.stored()) == 1 }) {
			t.Fatalf("the first does not come:\n%s", p.Output())
		}
		nodes(2000)
		time.Sleep(3 * time.Second)
		nodes(1)
		answer := l.ask("its queue was full", func(c *coverageOf) bool {
			return c.State == "lost" && c.of("serial-gap") > 0 && int(c.of("serial-gap"))+len(l.stored()) == l.made
		})
		if answer.Forwarder.Run != "" {
			t.Errorf("a stock sender has no run: %+v", answer)
		}
	})
}

// flip changes a byte of a part of some file below a folder, in the middle of where the part stands.
func flip(t *testing.T, dir, part string) {
	t.Helper()
	done := false
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || done {
			return err
		}
		b, err := os.ReadFile(path)
		if i := strings.Index(string(b), part); err == nil && i >= 0 {
			n := strings.Count(string(b), part)
			at := 0
			for range n/2 + 1 {
				at += strings.Index(string(b[at:]), part) + 1
			}
			b[at] ^= 0x20
			done = true
			return os.WriteFile(path, b, 0o600)
		}
		return err
	})
	if err != nil || !done {
		t.Fatalf("nothing was damaged below %s: %v", dir, err)
	}
}
