package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
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
func (l *losing) ask(what string, good func(*coverageOf) bool, args ...string) coverageOf {
	l.Helper()
	return askCoverage(l.T, l.c, what, good, "web1", args...)
}

// shows compares the answer with a row of the loss table.
func (l *losing) shows(id string, exact bool, args ...string) {
	l.Helper()
	shows(l.T, l.c, id, exact, append([]string{"-n", "web1"}, args...)...)
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

// wait waits until it is so.
func (l *losing) wait(what string, ok func() bool) {
	l.Helper()
	if !harness.Poll(2*time.Minute, ok) {
		l.Fatalf("%s; the collector:\n%s", what, l.c.Output())
	}
}

// latest is what the latest event's record begins with behind its time.
func (l *losing) latest() string { return fmt.Sprintf(":%d): ", 1000+l.made) }

// inSpool waits until the latest event is in the forwarder's spool, on disk.
func (l *losing) inSpool() {
	l.Helper()
	l.wait("it is not spooled", func() bool { return l.spooled(l.latest()) > 0 })
}

// spooled is how often a text stands in the files of the spool.
func (l *losing) spooled(text string) (n int) {
	files, err := filepath.Glob(filepath.Join(l.dir, "spool", "*"))
	if err != nil {
		l.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil { // else it is a folder, or gone by now
			n += strings.Count(string(b), text)
		}
	}
	return n
}

// again starts the collector that was ended.
func (l *losing) again(args ...string) {
	l.Helper()
	l.c = startCollector(l.T, harness.CollectorOptions{Store: l.c.Store, Port: l.c.Port, Args: args})
}

// restart ends the collector and starts it again.
func (l *losing) restart(args ...string) {
	l.Helper()
	if err := l.c.Terminate(time.Minute); err != nil {
		l.Fatal(err)
	}
	l.again(args...)
}

// stop ends the input of a forwarder, which ends when all is acknowledged.
func (l *losing) stop(p *harness.Proc) {
	l.Helper()
	l.feed.Close()
	if err := p.Wait(time.Minute); err != nil {
		l.Fatal(err)
	}
}

// rotate has the collector begin another partition.
func (l *losing) rotate() {
	l.Helper()
	if err := l.c.Signal(syscall.SIGUSR1); err != nil {
		l.Fatal(err)
	}
	l.wait("it does not rotate", func() bool { return strings.Contains(l.c.Output(), "rotated: what comes now") })
}

// records is how many records of the host there are, of our own making, too.
func (l *losing) records() uint64 {
	l.Helper()
	r, err := l.c.Search(time.Minute, "-n", "web1", "--format", "raw")
	if err != nil || r.Code != 0 {
		l.Fatalf("%v %+v", err, r)
	}
	return uint64(strings.Count(string(r.Stdout), "\n"))
}

// flipEvents changes a byte of the compressed events of each stored group in the files of a folder. Their index stays as
// it is: a search that needs less of it notices less.
func flipEvents(t *testing.T, dir string) {
	t.Helper()
	const magic, head, entry, events = "AFGROUP\x00", 16, 24, 5 // FORMAT.md of collector/internal/store/group
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; ; at++ {
			n := strings.Index(string(b[at:]), magic)
			if n < 0 {
				break
			}
			at += n
			for i := range int(binary.LittleEndian.Uint16(b[at+10:])) {
				if e := b[at+head+i*entry:]; e[0] == events {
					offset, size := binary.LittleEndian.Uint64(e[8:]), binary.LittleEndian.Uint64(e[16:])
					b[at+int(offset+size/2)] ^= 0x20
					changed++
				}
			}
		}
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if changed == 0 {
		t.Fatalf("there is no group below %s", dir)
	}
}

// flip changes a byte of a text that stands in some file below a folder.
func flip(t *testing.T, dir, text string) {
	t.Helper()
	done := false
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || done {
			return err
		}
		b, err := os.ReadFile(path)
		if i := strings.Index(string(b), text); err == nil && i >= 0 {
			b[i] ^= 0x20
			done = true
			return os.WriteFile(path, b, 0o600)
		}
		return err
	})
	if err != nil || !done {
		t.Fatalf("nothing was damaged below %s: %v", dir, err)
	}
}
