package agent

import (
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// slowness is how long each write and each sync of a disk takes longer.
type slowness struct{ ns atomic.Int64 }

func (s *slowness) wait() { time.Sleep(time.Duration(s.ns.Load())) }

// slowDisk is a disk that takes its time.
type slowDisk struct {
	fsys.FS
	slow *slowness
}

type slowFile struct {
	fsys.File
	slow *slowness
}

func (d slowDisk) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return slowFile{f, d.slow}, nil
}

func (f slowFile) Write(b []byte) (int, error) { f.slow.wait(); return f.File.Write(b) }
func (f slowFile) WriteAt(b []byte, at int64) (int, error) {
	f.slow.wait()
	return f.File.WriteAt(b, at)
}
func (f slowFile) Sync() error     { f.slow.wait(); return f.File.Sync() }
func (f slowFile) Datasync() error { f.slow.wait(); return f.File.Datasync() }

// slowFor is how long the disk stays slow: AUDITFLEET_SLOW_DISK makes it minutes.
func slowFor(t *testing.T) time.Duration {
	v := os.Getenv("AUDITFLEET_SLOW_DISK")
	switch {
	case v != "":
	case testing.Short():
		return time.Second
	default:
		return 5 * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("AUDITFLEET_SLOW_DISK: %v", err)
	}
	return d
}

// underLoad runs rounds of an audited workload for a time, and returns its calls,
// for how long it had to wait for the daemon (in the kernel's ticks), and how many
// records the kernel lost meanwhile.
func underLoad(t *testing.T, ctl *kernel.Conn, w *kerneltest.Workload, d, rest time.Duration) (calls int, waited, lost uint32) {
	t.Helper()
	const round = 500
	before, err := ctl.Status()
	if err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(d); time.Now().Before(until); {
		w.Run(t, round)
		calls += round
		time.Sleep(rest)
	}
	after, err := ctl.Status()
	if err != nil {
		t.Fatal(err)
	}
	return calls, after.BacklogWaitTimeActual - before.BacklogWaitTimeActual, after.Lost - before.Lost
}

// A disk on which every write takes 200 ms, for the log and the spool, with the
// collector away: an audited program waits for nothing, and the kernel loses nothing.
// Afterwards every record is at the collector, or its loss is said.
func TestSlowDiskCollectorAway(t *testing.T) {
	ctl := kerneltest.Dial(t)
	w := kerneltest.Getppid(t, ctl)
	// The administrator's: enough for what comes between two turns of a busy CPU.
	if err := ctl.Set(kernel.Status{Mask: kernel.MaskBacklogLimit, BacklogLimit: 8192}); err != nil {
		t.Fatal(err)
	}
	d := slowFor(t)
	dir := t.TempDir()
	slow := &slowness{}
	c := newCollector(t)
	c.hold(true)
	s := startAgent(t, Config{
		Source: SourceKernel, Version: "test", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool", FS: slowDisk{fsys.OS, slow}},
		Log: locallog.Config{Path: dir + "/log/audit.log", Flush: locallog.FlushIncrementalAsync, Freq: 50, MaxSize: 64 << 20, NumLogs: 99, FS: slowDisk{fsys.OS, slow}},
	})
	// About 2,000 records a second, at both disks.
	rest := 300 * time.Millisecond
	wellCalls, wellWaited, wellLost := underLoad(t, ctl, w, d/2, rest)
	slow.ns.Store(int64(200 * time.Millisecond))
	calls, waited, lost := underLoad(t, ctl, w, d, rest)
	t.Logf("well: %d calls, waited %d ticks, the kernel lost %d", wellCalls, wellWaited, wellLost)
	t.Logf("slow disk, no collector, for %v: %d calls, waited %d ticks, the kernel lost %d; queue %+v", d, calls, waited, lost, s.daemon.listener.Stats().QueueBytes)
	if lost > wellLost {
		t.Errorf("the kernel lost %d records, %d with a disk that is well", lost, wellLost)
	}
	if waited > wellWaited {
		t.Errorf("the program waited for %d ticks, %d with a disk that is well", waited, wellWaited)
	}
	slow.ns.Store(0)
	c.hold(false)
	total := calls + wellCalls
	wait(t, "every record arrived, or its loss was said", func() bool {
		if s.ship.spool.Left() > 0 || s.daemon.listener.Stats().QueueRecords > 0 {
			return false
		}
		got := serials(c.got(), w.Key)
		return len(got) == total || len(saidLost(t, c.got())) > 0
	})
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	arrived, said := len(serials(c.got(), w.Key)), 0
	for cause, n := range saidLost(t, c.got()) {
		t.Log("said to be lost: "+cause, strconv.Itoa(n))
		said += n
	}
	if arrived < total && said < total-arrived {
		t.Errorf("%d of %d events arrived, %d records are said to be lost", arrived, total, said)
	}
	if d <= 10*time.Second && (said > 0 || arrived != total) {
		t.Errorf("%d of %d arrived, %d said to be lost: the queue holds more than that", arrived, total, said)
	}
}
