package integration

import (
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

// TestLosses loses records at each hop of their way, on purpose and one at a time, without the
// kernel (TestKernelCoverage has it): coverage names the hop and the number.
func TestLosses(t *testing.T) {
	binaries(t)
	t.Parallel()
	t.Run("none", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		l.start(l.c.Addr())
		l.events(500)
		l.complete("nothing is lost")
		l.shows("none", true)
	})
	t.Run("link", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		link, err := harness.NewProxy(l.c.Addr(), 50*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { link.Close() })
		l.start(link.Addr(), "--window", "1")
		l.events(5)
		l.complete("before the cut")
		link.BlackHole()
		l.events(20)
		// The answer is pending once the host's word is that it holds records for five seconds, so let
		// it say that some times. Each word comes behind what it is about: let little pass at a time.
		said := l.spooled("op=alive")
		l.wait("it does not speak", func() bool { return l.spooled("op=alive") >= said+7 })
		link.Cut()
		pending := func(c *coverageOf) bool {
			return c.State == "pending" && c.Lost == 0 && c.Forwarder.Unsent >= 20
		}
		l.ask("the host still holds records", func(c *coverageOf) bool {
			if pending(c) {
				return true
			}
			link.Resume()
			time.Sleep(100 * time.Millisecond)
			link.BlackHole()
			return false
		})
		l.shows("link-held", false)
		link.Cut()
		link.Resume()
		l.complete("it is mended")
		l.shows("link-cut", true)
	})
	t.Run("collector down", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		l.start(l.c.Addr())
		l.events(200)
		l.complete("before it went down")
		l.c.Kill()
		l.events(300)
		l.inSpool()
		l.again()
		l.complete("it is up again")
		l.shows("collector-down", true)
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
		l.inSpool()
		l.again()
		l.ask("the spool was full", func(c *coverageOf) bool {
			// Words about losses are dropped like any record: the sums that statements have say the rest,
			// of our own records, too.
			n, gone := c.of("spool-full")+c.of("other"), uint64(l.made-len(l.stored()))
			return c.State == "lost" && c.of("spool-full") > 0 && gone > 0 && c.Lost == n && n >= gone && n <= gone+20
		})
		l.shows("spool-full", false)
	})
	t.Run("spool deleted", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		p := l.start(l.c.Addr())
		l.events(200)
		l.complete("before it was deleted")
		l.c.Kill()
		l.events(300)
		l.inSpool()
		p.Kill()
		if err := os.RemoveAll(filepath.Join(l.dir, "spool")); err != nil {
			t.Fatal(err)
		}
		l.again()
		l.start(l.c.Addr())
		l.events(100)
		// Who handed on the records is gone with them: the serials tell.
		l.ask("the spool was deleted", func(c *coverageOf) bool {
			return c.State == "lost" && c.of("serial-gap") == 300 && c.Lost == 300
		})
		l.shows("spool-deleted", true)
	})
	t.Run("spool damaged", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		p := l.start(l.c.Addr())
		l.events(200)
		l.complete("before it was damaged")
		l.c.Kill()
		l.events(300)
		// What a spool has not synced when the power goes is no damage of it: let it sync.
		said := l.spooled("op=alive")
		l.wait("it does not speak", func() bool { return l.spooled("op=alive") >= said+4 })
		p.Kill()
		flip(t, filepath.Join(l.dir, "spool"), fmt.Sprintf(":%d): ", 1000+350))
		l.again()
		l.start(l.c.Addr())
		l.events(100)
		l.ask("the spool was damaged", func(c *coverageOf) bool {
			gone := uint64(l.made - len(l.stored()))
			return c.State == "lost" && gone > 0 && c.of("spool-damaged") == gone && c.Lost == gone && c.of("serial-gap") == 0
		})
		l.shows("spool-damaged", false)
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
		l.wait("nothing was refused", func() bool {
			n, err := l.c.Metric("auditfleet_collector_rejected_records_total")
			return err == nil && n > 0
		})
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		l.complete("there is room again")
		l.shows("disk-full", true)
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
		nodes := func(n int) {
			for line := range strings.Lines(l.lines(n)) {
				if _, err := w.WriteString("node=web1 " + line); err != nil {
					t.Fatal(err)
				}
			}
		}
		nodes(1)
		l.wait("the first does not come", func() bool { return len(l.stored()) == 1 })
		nodes(2000)
		l.wait("none comes after those that it drops", func() bool { // it may drop this one, too
			nodes(1)
			return harness.Poll(2*time.Second, func() bool {
				return strings.Contains(strings.Join(l.stored(), "\n"), l.latest())
			})
		})
		answer := l.ask("its queue was full", func(c *coverageOf) bool {
			return c.State == "lost" && c.of("serial-gap") > 0 && int(c.of("serial-gap"))+len(l.stored()) == l.made
		})
		if answer.Forwarder.Run != "" {
			t.Errorf("a stock sender has no run: %+v", answer)
		}
		l.shows("stock-drops", false)
	})
	t.Run("retention", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		p := l.start(l.c.Addr())
		from := time.Now()
		l.events(200)
		l.complete("before it is dropped")
		l.rotate()
		l.events(100)
		l.complete("in the next partition")
		l.stop(p)
		before := l.records()
		l.restart("--max-bytes", "1")
		l.ask("a partition was dropped", func(c *coverageOf) bool {
			left := l.records()
			return c.State == "lost" && left < before-200 && c.of("retention") == before-left && c.Lost == before-left && c.only("retention")
		}, "-ts", at(from))
		l.noted("retention", "-ts", at(from))
		l.shows("retention", false, "-ts", at(from))
	})
	t.Run("damaged", func(t *testing.T) {
		l := newLosing(t, harness.CollectorOptions{})
		p := l.start(l.c.Addr())
		l.events(200)
		l.complete("before it is damaged")
		l.stop(p)
		before := l.records()
		l.rotate()
		if err := l.c.Terminate(time.Minute); err != nil {
			t.Fatal(err)
		}
		flipEvents(t, filepath.Join(l.c.Store, "partitions"))
		l.again()
		if r, err := l.c.Search(time.Minute, "-n", "web1", "--format", "raw"); err != nil || r.Code == 0 || !strings.Contains(string(r.Stderr), "damaged") {
			t.Errorf("a search does not say what it lacks: %v %+v", err, r)
		}
		l.ask("a block was damaged", func(c *coverageOf) bool {
			return c.State == "lost" && c.of("damaged") == before && c.Lost == before && c.only("damaged")
		})
		l.noted("damaged")
		l.shows("damaged", false)
	})
}

// noted waits until a search of the host says in one line that its trail is not complete, and by which cause. The line is
// waited for but 100 ms.
func (l *losing) noted(cause string, args ...string) {
	l.T.Helper()
	said := ""
	defer func() { l.Log("the search's standard error: ", said) }()
	need.Wait(l.T, "a search that says what it lacks", func() bool {
		r, err := l.c.Command(time.Minute, "search", append([]string{"-n", "web1", "--format", "raw"}, args...)...)
		if err != nil {
			l.T.Fatal(err)
		}
		said = string(r.Stderr)
		n := 0
		for line := range strings.Lines(string(r.Stderr)) {
			if strings.Contains(line, "the trail of web1 is not complete in this time") && strings.Contains(line, cause) {
				n++
			}
		}
		return n == 1
	})
}
