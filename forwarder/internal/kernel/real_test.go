package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestRealBurst: 20,000 events as fast as one program can cause them, and not
// one is missing.
func TestRealBurst(t *testing.T) {
	c := kerneltest.Dial(t)
	w := kerneltest.Getppid(t, c)
	before, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	l := startReal(t, kernel.Config{QueueBytes: 64 << 20})
	during, err := c.Status()
	if err != nil || during.PID != uint32(os.Getpid()) || during.Enabled != 1 {
		t.Fatalf("while running: %+v, %v", during, err)
	}
	const n = 20000
	began := time.Now()
	w.Run(t, n)
	took := time.Since(began)
	l.cancel()
	if err := <-l.done; err != nil {
		t.Fatal(err)
	}
	after, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	if after.Lost != before.Lost || after.PID != 0 || after.Enabled != before.Enabled {
		t.Errorf("after: %+v, before: %+v", after, before)
	}
	serials, eoe := map[string]bool{}, 0
	key := []byte(`key="` + w.Key + `"`)
	for _, line := range takeAllRaw(t, l.Queue()) {
		switch {
		case line.Type == 1320:
			eoe++
		case line.Type == 1300 && bytes.HasSuffix(line.Text, key):
			head, _, _ := bytes.Cut(line.Text, []byte("): "))
			serials[string(head)] = true
		}
	}
	st := l.Stats()
	if len(serials) != n || eoe < n {
		t.Errorf("%d events and %d EOE of %d; %+v", len(serials), eoe, n, st)
	}
	for cause, lost := range st.Lost {
		if lost != 0 {
			t.Errorf("%d lost by %s", lost, cause)
		}
	}
	t.Logf("%d events (%d records) in %v, %d batches, %d ENOBUFS, backlog_limit %d", n, st.Records, took, st.Batches, st.Overruns, before.BacklogLimit)
}

func startReal(t *testing.T, cfg kernel.Config) *running {
	t.Helper()
	l, err := kernel.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Listener: l, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- l.Run(ctx); close(r.done) }()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func takeAllRaw(t *testing.T, q *kernel.Queue) []kernel.Record {
	t.Helper()
	var all []kernel.Record
	for {
		b, err := q.Take(context.Background())
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			r := b.Record(i)
			all = append(all, kernel.Record{Type: r.Type, Text: bytes.Clone(r.Text)})
		}
		q.Release(b)
	}
}

// A second daemon is refused by the kernel while the first lives, and the
// multicast group gets the same records beside it.
func TestRealMulticastBesideADaemon(t *testing.T) {
	c := kerneltest.Dial(t)
	w := kerneltest.Getppid(t, c)
	daemon := startReal(t, kernel.Config{})
	beside := startReal(t, kernel.Config{Multicast: true})
	w.Run(t, 100)
	time.Sleep(100 * time.Millisecond) // the group gets them from another kernel thread
	daemon.cancel()
	beside.cancel()
	<-daemon.done
	<-beside.done
	count := func(l *running) (n int) {
		for _, r := range takeAllRaw(t, l.Queue()) {
			if r.Type == 1300 && bytes.Contains(r.Text, []byte(w.Key)) {
				n++
			}
		}
		return n
	}
	if d, b := count(daemon), count(beside); d != 100 || b != 100 {
		t.Errorf("daemon %d, multicast %d, want 100 each", d, b)
	}
}

func TestRealOtherDaemon(t *testing.T) {
	stock := need.Stock(t, "auditd")
	c := kerneltest.Dial(t)
	startStock(t, c, stock)
	_, err := kernel.Open(kernel.Config{})
	if !errors.Is(err, kernel.ErrOtherDaemon) || !strings.Contains(err.Error(), "(auditd)") {
		t.Errorf("beside a stock auditd: %v", err)
	}
}

// startStock runs a stock auditd registered with the kernel until the test ends.
func startStock(t *testing.T, c *kernel.Conn, auditd string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"/log", "/conf", "/conf/plugins.d", "/run"} {
		if err := os.MkdirAll(dir+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	conf := "log_file = " + dir + "/log/audit.log\nlog_format = RAW\nplugin_dir = " + dir + "/conf/plugins.d\n" +
		"space_left = 2\nadmin_space_left = 1\nspace_left_action = IGNORE\nadmin_space_left_action = IGNORE\n"
	if err := os.WriteFile(dir+"/conf/auditd.conf", []byte(conf), 0o640); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+dir+"/run /run && exec "+auditd+" -n -c "+dir+"/conf")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := need.EndStock(cmd); err != nil {
			t.Errorf("stock auditd: %v", err)
		}
	})
	wait(t, "a stock auditd is registered", func() bool {
		s, err := c.Status()
		return err == nil && s.PID == uint32(cmd.Process.Pid)
	})
}

// BenchmarkRealReceive: what one record costs our process from the kernel to the
// queue's consumer. The kernel's and the workload's own time is not in it.
func BenchmarkRealReceive(b *testing.B) {
	c := kerneltest.Dial(b)
	w := kerneltest.Getppid(b, c)
	if err := c.Set(kernel.Status{Mask: kernel.MaskBacklogLimit, BacklogLimit: 8192}); err != nil {
		b.Fatal(err)
	}
	l, err := kernel.Open(kernel.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	consumed := make(chan int)
	go func() {
		n := 0
		for {
			blk, err := l.Queue().Take(context.Background())
			if err != nil {
				consumed <- n
				return
			}
			n += blk.Len()
			l.Queue().Release(blk)
		}
	}()
	var mem0, mem1 runtime.MemStats
	runtime.ReadMemStats(&mem0)
	cpu0 := cpuTime(b)
	b.ResetTimer()
	w.Run(b, b.N/3+1)
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	n := <-consumed
	b.StopTimer()
	runtime.ReadMemStats(&mem1)
	b.ReportMetric(float64((cpuTime(b)-cpu0).Nanoseconds())/float64(n), "cpu-ns/record")
	b.ReportMetric(float64(mem1.Mallocs-mem0.Mallocs)/float64(n), "allocs/record")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(l.Stats().Lost["kernel"]), "lost")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
