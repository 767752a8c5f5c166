package agent

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
)

// serials counts the events with the workload's key, by serial.
func serials(lines []string, key string) map[string]int {
	out := map[string]int{}
	for _, l := range lines {
		if strings.HasPrefix(l, "type=SYSCALL ") && strings.HasSuffix(l, `key="`+key+`"`) {
			head, _, _ := strings.Cut(l, "): ")
			out[head]++
		}
	}
	return out
}

// TestRealBurst: 20,000 events at once, and every one is in the local log, which
// the stock reader reads, and at the collector; the kernel is left as it was.
func TestRealBurst(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	ausearch := need.Stock(t, "ausearch")
	ctl := kerneltest.Dial(t)
	w := kerneltest.Getppid(t, ctl)
	before, err := ctl.Status()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := newCollector(t)
	s := startAgent(t, Config{
		Source: SourceKernel, Version: "test", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"},
		Log: locallog.Config{Path: dir + "/log/audit.log", Flush: locallog.FlushIncrementalAsync, Freq: 50, MaxSize: 4 << 20, NumLogs: 99},
	})
	const n = 20000
	began := time.Now()
	w.Run(t, n)
	took := time.Since(began)
	wait(t, "the last record at the collector", func() bool { return len(serials(c.got(), w.Key)) == n && s.ship.spool.Left() == 0 })
	all := time.Since(began)
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	after, err := ctl.Status()
	if err != nil {
		t.Fatal(err)
	}
	if after.Lost != before.Lost || after.PID != 0 || after.Enabled != before.Enabled {
		t.Errorf("after: %+v, before: %+v", after, before)
	}
	logs, err := filepath.Glob(dir + "/log/audit.log*")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := len(logs) - 1; i >= 0; i-- {
		lines = append(lines, fileLines(t, logs[i])...)
	}
	if got := len(serials(lines, w.Key)); got != n {
		t.Errorf("%d of %d events in the local log", got, n)
	}
	if len(logs) < 2 {
		t.Errorf("nothing was rotated: %q", logs)
	}
	shipped := c.got()
	if diff := cmp.Diff(lines[len(lines)-1], shipped[len(shipped)-1]); diff != "" || len(lines) != len(shipped) {
		t.Errorf("%d lines in the log, %d shipped: %s", len(lines), len(shipped), diff)
	}
	out, err := exec.Command(ausearch, "-k", w.Key, "-m", "SYSCALL", "--format", "raw", "-if", dir+"/log").Output()
	if err != nil {
		t.Fatalf("ausearch: %v", err)
	}
	if got := len(serials(strings.Split(string(out), "\n"), w.Key)); got != n {
		t.Errorf("the stock ausearch finds %d of %d events", got, n)
	}
	t.Logf("%d events: the workload took %v, all at the collector after %v; %+v", n, took, all, s.log.Load().Stats())
}

// BenchmarkReal: what one record costs this process, all goroutines, from the
// kernel to the local log, to the spool, and to a collector in the same process
// (whose cost is in the last).
func BenchmarkReal(b *testing.B) {
	for _, c := range []struct {
		name        string
		spool, ship bool
	}{{"log", false, false}, {"log+spool", true, false}, {"log+spool+ship+collector", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			ctl := kerneltest.Dial(b)
			w := kerneltest.Getppid(b, ctl)
			if err := ctl.Set(kernel.Status{Mask: kernel.MaskBacklogLimit, BacklogLimit: 8192}); err != nil {
				b.Fatal(err)
			}
			dir := b.TempDir()
			cfg := Config{
				Source: SourceKernel, ShutdownTimeout: time.Millisecond,
				Log: locallog.Config{Path: dir + "/log/audit.log", Flush: locallog.FlushIncrementalAsync, Freq: 50, MaxSize: 8 << 20, NumLogs: 5},
			}
			switch {
			case c.ship:
				cfg.Ship, cfg.Spool.Dir = shipTo(newCollector(b).addr), dir+"/spool"
			case c.spool:
				cfg.Ship, cfg.Spool.Dir = shipTo("127.0.0.1:1"), dir+"/spool"
			}
			s := startAgent(b, cfg)
			var m0, m1 runtime.MemStats
			runtime.ReadMemStats(&m0)
			cpu0, began := cpuTime(b), time.Now()
			b.ResetTimer()
			w.Run(b, b.N/2+1)
			want := uint64(2 * (b.N/2 + 1))
			wait(b, "all records are through", func() bool {
				return s.pump.records.Load() >= want && (!c.ship || s.ship.spool.Left() == 0)
			})
			b.StopTimer()
			took, cpu := time.Since(began), cpuTime(b)-cpu0
			runtime.ReadMemStats(&m1)
			n := float64(s.pump.records.Load())
			b.ReportMetric(float64(cpu.Nanoseconds())/n, "cpu-ns/record")
			b.ReportMetric(float64(m1.Mallocs-m0.Mallocs)/n, "allocs/record")
			b.ReportMetric(n/took.Seconds(), "records/s")
			b.ReportMetric(float64(s.daemon.listener.Stats().Lost["kernel"]+s.daemon.listener.Stats().Lost["queue"]), "lost")
			s.stop()
			if err := s.end(b); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
