package agent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
)

// saidLost sums up what a stream says was lost, by cause.
func saidLost(t *testing.T, lines []string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, l := range lines {
		if m := regexp.MustCompile(`op=lost-records cause=(\S+) records=(\d+) `).FindStringSubmatch(l); m != nil {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			out[m[1]] += n
		}
	}
	return out
}

// fillSpool leaves n records in a spool, as a forwarder does whose collector is
// away, and returns them and the segments' paths.
func fillSpool(t *testing.T, dir string, n int) (lines, segments []string) {
	t.Helper()
	o := spool.Options{Dir: dir, MaxBytes: 4 << 20, SegmentBytes: 128 << 10}
	sp, _, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	lines = sample(1, n)
	for at := 0; at < n; at += 10 {
		var b [][]byte
		for _, l := range lines[at : at+10] {
			b = append(b, []byte(l))
		}
		if err := sp.Append(nil, b...); err != nil {
			t.Fatal(err)
		}
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != "state" && e.Name() != "lock" && !e.IsDir() {
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				segments = append(segments, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(segments)
	if len(segments) < 4 {
		t.Fatalf("segments %q: want several", segments)
	}
	return lines, segments
}

// Damage to the spool while nobody had it open: what can be read still arrives,
// once and in order, and what cannot is counted and said in the stream, to the
// record.
func TestDamagedSpool(t *testing.T) {
	t.Parallel()
	n := need.Size(6000, 4500)
	flip := func(t *testing.T, path string, at int64) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x40
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	size := func(t *testing.T, path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for name, damage := range map[string]func(t *testing.T, segments []string){
		"nothing":      func(*testing.T, []string) {},
		"flip first":   func(t *testing.T, s []string) { flip(t, s[0], size(t, s[0])/2) },
		"flip middle":  func(t *testing.T, s []string) { flip(t, s[2], size(t, s[2])/2) },
		"flip head":    func(t *testing.T, s []string) { flip(t, s[1], 3) },
		"flip several": func(t *testing.T, s []string) { flip(t, s[0], 5000); flip(t, s[1], 9000); flip(t, s[2], 100000) },
		"cut middle":   func(t *testing.T, s []string) { mustDo(t, os.Truncate(s[1], size(t, s[1])/2)) },
		"cut to zero":  func(t *testing.T, s []string) { mustDo(t, os.Truncate(s[1], 0)) },
		"cut last":     func(t *testing.T, s []string) { mustDo(t, os.Truncate(s[len(s)-1], 5000)) },
		"first gone":   func(t *testing.T, s []string) { mustDo(t, os.Remove(s[0])) },
		"middle gone":  func(t *testing.T, s []string) { mustDo(t, os.Remove(s[2])) },
		"last gone":    func(t *testing.T, s []string) { mustDo(t, os.Remove(s[len(s)-1])) },
		"zeros": func(t *testing.T, s []string) {
			f, err := os.OpenFile(s[1], os.O_RDWR, 0)
			mustDo(t, err)
			_, err = f.WriteAt(make([]byte, 4096), 20000)
			mustDo(t, err)
			mustDo(t, f.Close())
		},
		"state gone": func(t *testing.T, s []string) { mustDo(t, os.Remove(filepath.Dir(s[0])+"/state")) },
		"state and segment": func(t *testing.T, s []string) {
			flip(t, filepath.Dir(s[0])+"/state", 30)
			flip(t, s[2], 1000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir() + "/spool"
			lines, segments := fillSpool(t, dir, n)
			damage(t, segments)
			c := newCollector(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			s := startAgent(t, Config{Source: SourceStdin, Stdin: r, Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir, MaxBytes: 4 << 20, SegmentBytes: 128 << 10}})
			wait(t, "what is left is sent", func() bool { return s.ship.spool.Left() == 0 })
			// New records are taken as before.
			const after = "type=USER msg=audit(1800000000.000:1): after"
			fmt.Fprintln(w, after)
			wait(t, "what came after", func() bool { return slices.Contains(c.got(), after) })
			time.Sleep(1100 * time.Millisecond) // losses are said once a second
			w.Close()
			if err := s.end(t); err != nil {
				t.Fatal(err)
			}
			var arrived []string
			for _, l := range c.got() {
				if strings.HasPrefix(l, "type=SYSCALL") {
					arrived = append(arrived, l)
				}
			}
			at := 0
			for _, l := range arrived {
				i := slices.Index(lines[at:], l)
				if i < 0 {
					t.Fatalf("%.60s: out of order, twice, or never written", l)
				}
				at += i + 1
			}
			lost := n - len(arrived)
			said := saidLost(t, c.got())["spool-damaged"]
			t.Logf("%d of %d records lost, %d said", lost, n, said)
			if said != lost || s.losses()["spool-damaged"] != uint64(lost) {
				t.Errorf("%d records lost, %d said in the stream, %v counted", lost, said, s.losses()["spool-damaged"])
			}
			if strings.HasPrefix(name, "flip") && (lost == 0 && name != "flip head" || lost > 1300) {
				t.Errorf("a flipped bit costs %d records", lost)
			}
			if name == "nothing" && lost != 0 || name == "state gone" && lost != 0 {
				t.Errorf("%d lost", lost)
			}
		})
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A real disk that is full: for a source that waits nothing is lost; the kernel's
// records that found no room are counted, said, and still in the local log.
func TestFullSpoolDisk(t *testing.T) {
	t.Run("lines", func(t *testing.T) {
		disk := tinyDisk(t, 2048)
		dir := t.TempDir()
		var want []string
		for _, l := range sample(1, 5000) {
			want = append(want, l+strings.Repeat("y", 700)) // twice the disk
		}
		writeLines(t, dir+"/in", want)
		c := newCollector(t)
		s := startAgent(t, Config{Source: dir + "/in", Ship: shipTo("127.0.0.1:1", c.addr), Spool: spool.Options{Dir: disk + "/spool", SegmentBytes: 256 << 10}})
		if err := s.end(t); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.got()); diff != "" {
			t.Errorf("%d of %d", len(c.got()), len(want))
		}
	})
	t.Run("kernel", func(t *testing.T) {
		disk := tinyDisk(t, 2048)
		dir := t.TempDir()
		c := newCollector(t)
		k := fakekernel.New()
		sc := shipTo(c.addr)
		cfg := fake(k, Config{Ship: sc, Spool: spool.Options{Dir: disk + "/spool", SegmentBytes: 256 << 10}, Log: locallog.Config{Path: dir + "/audit.log", NumLogs: 2}})
		// Somebody else fills the disk.
		if err := os.WriteFile(disk+"/hog", make([]byte, 1600<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		sc.Servers = []string{"127.0.0.1:1", c.addr}
		c.hold(true)
		s := startAgent(t, cfg)
		const n = 2000
		body := strings.Repeat("x", 700)
		for i := range n {
			k.Emit(1300, fmt.Sprintf("n=%d %s", i, body))
			if i%100 == 99 {
				wait(t, "it keeps up", func() bool { return s.log.Load().Stats().Records >= uint64(i) })
			}
		}
		wait(t, "all is in the local log", func() bool { return s.log.Load().Stats().Records >= n })
		wait(t, "the disk is full", func() bool { return s.losses()["spool-full"]+s.losses()["spool-error"] > 0 })
		mustDo(t, os.Remove(disk+"/hog"))
		c.hold(false)
		wait(t, "the spool is empty", func() bool { return s.ship.spool.Left() == 0 })
		k.Emit(1300, "after")
		wait(t, "what came after", func() bool {
			got := c.got()
			return len(got) > 0 && strings.Contains(strings.Join(got[max(0, len(got)-20):], "\n"), ": after")
		})
		time.Sleep(1100 * time.Millisecond)
		s.stop()
		if err := s.end(t); err != nil {
			t.Fatal(err)
		}
		var inLog []string
		for _, l := range fileLines(t, dir+"/audit.log") {
			if strings.HasPrefix(l, "type=SYSCALL") && strings.Contains(l, ": n=") {
				inLog = append(inLog, l)
			}
		}
		if len(inLog) != n {
			t.Errorf("%d of %d are in the local log", len(inLog), n)
		}
		seen := map[string]int{}
		for _, l := range c.got() {
			if seen[l]++; seen[l] > 1 {
				t.Errorf("twice: %.60s", l)
			}
		}
		// Records of ours were lost as any other.
		arrived, handed := len(c.got()), int(s.pump.records.Load())
		said := saidLost(t, c.got())
		t.Logf("%d of %d arrived, said lost: %v", arrived, handed, said)
		if arrived >= n || arrived+said["spool-full"]+said["spool-error"] != handed {
			t.Errorf("%d arrived and %v are said to be lost of %d", arrived, said, handed)
		}
	})
}

// A wall clock that jumps, by years and back, in steps and at random: nothing is
// lost, nothing comes twice, ages stay sane, and the timers, which are the
// monotonic clock's, go on.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var offset atomic.Int64
	rng := rand.New(rand.NewPCG(7, 7))
	now := func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }
	c := newCollector(t)
	k := fakekernel.New()
	sc := shipTo(c.addr)
	sc.Heartbeat = 20 * time.Millisecond
	s := startAgent(t, fake(k, Config{
		Ship: sc, Spool: spool.Options{Dir: dir + "/spool", Now: now}, Log: locallog.Config{Path: dir + "/audit.log", NumLogs: 2},
		Now: now, Report: dir + "/state", ReportEvery: time.Second,
	}))
	jumps := []time.Duration{0, 10 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, time.Hour, -time.Hour}
	const n = 2000
	for i := range n {
		if i%100 == 0 {
			j := jumps[rng.IntN(len(jumps))]
			offset.Store(int64(j) + rng.Int64N(int64(time.Hour)))
			if i%400 == 0 {
				c.cut()
			}
			// Ages are looked at in the middle of it.
			if st := s.ship.spool.Stats(); st.Age < 0 {
				t.Errorf("age %v", st.Age)
			}
		}
		k.Emit(1300, fmt.Sprintf("n=%d", i))
		if i%10 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	wait(t, "everything is there", func() bool { return s.ship.spool.Left() == 0 && s.pump.records.Load() >= n })
	offset.Store(-int64(20 * 365 * 24 * time.Hour))
	k.Emit(1300, "last")
	wait(t, "the last one", func() bool { return strings.HasSuffix(c.got()[len(c.got())-1], ": last") })
	wait(t, "heartbeats go on", func() bool { return s.ship.metrics.Heartbeats.Load() > 3 })
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, l := range c.got() {
		if _, what, ok := strings.Cut(l, ": n="); ok {
			seen[what]++
		}
	}
	for i := range n {
		if seen[strconv.Itoa(i)] != 1 {
			t.Fatalf("record %d is there %d times", i, seen[strconv.Itoa(i)])
		}
	}
	if l := saidLost(t, c.got()); len(l) > 0 {
		t.Errorf("said to be lost: %v", l)
	}
}
