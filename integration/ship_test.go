package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// remoteForwarder starts the forwarder with an audisp-remote.conf and no --remote.
func remoteForwarder(t *testing.T, dir, conf string, in *os.File, args ...string) *harness.Proc {
	t.Helper()
	all := []string{binaries(t).Forwarder, "run", "--remote-config", conf, "--source", "stdin", "--spool", dir + "/spool"}
	p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: append(all, args...), In: in})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestReloadOfRemoteConf: SIGHUP after audisp-remote.conf was changed, with many
// records in flight over a slow link: they go on to the other collector, and every
// record is on one of the two, once. A file that is wrong changes nothing.
func TestReloadOfRemoteConf(t *testing.T) {
	t.Parallel()
	a, b := startCollector(t, harness.CollectorOptions{}), startCollector(t, harness.CollectorOptions{})
	link, err := harness.NewProxy(a.Addr(), 40*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	dir := t.TempDir()
	conf := filepath.Join(dir, "audisp-remote.conf")
	writeFile(t, conf, fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\n", link.Port()))
	in := newEndless(t, 2*time.Millisecond)
	p := remoteForwarder(t, dir, conf, in.r)
	in.start(t, 61, "moved1")
	flows := func(c *harness.Collector, n float64) bool {
		got, err := c.Metric("auditfleet_collector_records_total")
		return err == nil && got > n
	}
	if !harness.Poll(time.Minute, func() bool { return flows(a, 2000) }) {
		t.Fatalf("nothing flows:\n%s", p.Output())
	}
	writeFile(t, conf, "remote_server = 127.0.0.1\nprot = 1\n")
	if err := p.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !harness.Poll(time.Minute, func() bool { return strings.Contains(p.Output(), conf+":2") }) {
		t.Errorf("what is wrong with the file is not said:\n%s", p.Output())
	}
	if flows(b, 0) {
		t.Error("records at the second collector already")
	}
	writeFile(t, conf, fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\nheartbeat_timeout = 1\n", b.Port))
	if err := p.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !harness.Poll(time.Minute, func() bool { return flows(b, 2000) }) {
		t.Fatalf("nothing goes to the second collector:\n%s", p.Output())
	}
	lines := in.end(t)
	if err := p.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	first, second := found(t, a), found(t, b)
	t.Logf("%d records at the first, %d at the second", len(first), len(second))
	if !harness.Poll(time.Minute, func() bool {
		first, second = found(t, a), found(t, b)
		return len(first)+len(second) >= len(lines)
	}) {
		t.Errorf("only %d of %d are there", len(first)+len(second), len(lines))
	}
	sameRecords(t, lines, append(first, second...))
}

// TestFailoverBetweenCollectors: the first of two collectors ends in mid-stream
// and comes back: the second gets what comes meanwhile, the first takes over again
// by itself, and all records are on one of the two. What the first had stored but
// could not acknowledge any more is on both, and nothing else is.
func TestFailoverBetweenCollectors(t *testing.T) {
	t.Parallel()
	o := harness.CollectorOptions{Store: t.TempDir() + "/store"}
	a, b := startCollector(t, o), startCollector(t, harness.CollectorOptions{})
	o.Port = a.Port
	in := newEndless(t, 5*time.Millisecond)
	dir := t.TempDir()
	conf := filepath.Join(dir, "audisp-remote.conf")
	writeFile(t, conf, fmt.Sprintf("remote_server = 127.0.0.1:%d,127.0.0.1:%d\n", a.Port, b.Port))
	p := remoteForwarder(t, dir, conf, in.r, "--probe-interval", "200ms")
	in.start(t, 62, "two1")
	flowing := func(c *harness.Collector) float64 {
		got, err := c.Metric("auditfleet_collector_records_total")
		if err != nil {
			return 0
		}
		return got
	}
	if !harness.Poll(time.Minute, func() bool { return flowing(a) > 1000 }) {
		t.Fatalf("nothing flows:\n%s", p.Output())
	}
	if n := flowing(b); n > 0 {
		t.Errorf("%v records at the second while the first is there", n)
	}
	a.Kill()
	if !harness.Poll(time.Minute, func() bool { return flowing(b) > 1000 }) {
		t.Fatalf("the second does not take over:\n%s", p.Output())
	}
	a = startCollector(t, o)
	if !harness.Poll(time.Minute, func() bool { return flowing(a) > 1000 }) {
		t.Fatalf("the first does not take over again:\n%s", p.Output())
	}
	before := flowing(b)
	if !harness.Poll(time.Minute, func() bool { return flowing(a) > 5000 }) {
		t.Fatalf("the first does not keep it:\n%s", p.Output())
	}
	lines := in.end(t)
	if err := p.Wait(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := flowing(b); n != before {
		t.Errorf("%v records went to the second while the first was back", n-before)
	}
	var first, second []string
	distinct := map[string]bool{}
	harness.Poll(time.Minute, func() bool {
		clear(distinct)
		first, second = found(t, a), found(t, b)
		for _, l := range append(append([]string(nil), first...), second...) {
			distinct[l] = true
		}
		return len(distinct) >= len(lines)
	})
	both := len(first) + len(second) - len(distinct)
	t.Logf("%d records at the first, %d at the second, %d at both", len(first), len(second), both)
	if both > 4096 {
		t.Errorf("%d records are on both: more than a window", both)
	}
	all := make([]string, 0, len(distinct))
	for l := range distinct {
		all = append(all, l)
	}
	sameRecords(t, lines, all)
	once(t, first)
	once(t, second)
}

func once(t *testing.T, lines []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, l := range lines {
		if seen[l] {
			t.Fatalf("twice on one collector: %s", l)
		}
		seen[l] = true
	}
}

// TestEverythingGoesWrong: a log that grows and is rotated, a forwarder and a
// collector that are killed at random, a link that is cut and black-holed at
// random. In the end every record is there, once.
func TestEverythingGoesWrong(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	o := harness.CollectorOptions{Store: t.TempDir() + "/store", Args: []string{"--tcp-max-per-addr", "64"}}
	c := startCollector(t, o)
	o.Port = c.Port
	link, err := harness.NewProxy(c.Addr(), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	lines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 63, Records: 40_000, Nodes: []string{"worst1"}})
	dir := t.TempDir()
	log := dir + "/audit.log"
	writeFile(t, log, "")
	conf := dir + "/audisp-remote.conf"
	writeFile(t, conf, fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\nmax_time_per_record = 1\nheartbeat_timeout = 1\n", link.Port()))
	launch := func() *harness.Proc {
		p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: []string{
			binaries(t).Forwarder, "run", "--remote-config", conf, "--source", log, "--follow", "--state", dir + "/state", "--spool", dir + "/spool",
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	restart := func() {
		c.Kill()
		c = startCollector(t, o)
	}
	p := worstDay(t, rng, log, lines, launch, func() worstServer { return worstServer{link, restart} })
	if !harness.Poll(2*time.Minute, func() bool { return len(found(t, c)) >= len(lines) }) {
		t.Errorf("not all came; the forwarder's output:\n%s", p.Output())
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	sameRecords(t, lines, foundAll(t, c, len(lines)))
}

// grow writes lines to a log for about twelve seconds, and rotates it now and
// then as a daemon does.
func grow(log string, lines []string) error {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for at := 0; at < len(lines); at += 100 {
		if at%10_000 == 9_900 {
			f.Close()
			for i := 5; i > 1; i-- {
				_ = os.Rename(fmt.Sprintf("%s.%d", log, i-1), fmt.Sprintf("%s.%d", log, i)) // may not be there yet
			}
			if err := os.Rename(log, log+".1"); err != nil {
				return err
			}
			if f, err = os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640); err != nil {
				return err
			}
		}
		if _, err := f.WriteString(strings.Join(lines[at:min(at+100, len(lines))], "\n") + "\n"); err != nil {
			return err
		}
		time.Sleep(30 * time.Millisecond)
	}
	return f.Close()
}
