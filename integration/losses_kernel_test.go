package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// changes is how many records the kernel may lose, or events make that nobody gets, as its settings
// are changed.
const changes = 8

// clockTick is how far the coarse clock, by which the kernel stamps records, may lie behind ours.
const clockTick = 20 * time.Millisecond

// kernelLosing is a host whose kernel, or whoever reads it, loses records.
type kernelLosing struct {
	*testing.T
	k    *harness.Kernel
	c    *harness.Collector
	bins *harness.Binaries
	dir  string
	p    *harness.Proc

	from   time.Time // when the present row began
	to     time.Time // when it ended; zero: it goes on
	before map[string]int
	later  []func()  // rows that take a while to show
	apart  time.Time // until then the kernel's losses would be one with those before: the ledger joins what is near
}

// TestKernelCoverage loses records of the real kernel's on purpose, one loss at a time, with our
// forwarder as its daemon, and as a listener beside it. Each is a row with a time of its own: the
// answer about that time has the loss by its cause, with the kernel's own number where there is one.
// Serials are missing for sure 20 seconds after they are passed over, so those rows are asked last.
func TestKernelCoverage(t *testing.T) {
	bins := binaries(t)
	stockPeers(t)
	l := &kernelLosing{T: t, k: openKernel(t), c: startCollector(t, harness.CollectorOptions{Args: []string{"--tcp-max-per-addr", "64"}}), bins: bins, dir: t.TempDir()}
	l.start()
	if err := l.k.Add("always,exit", "-F", "arch=b64", "-S", "openat", "-F", "exit=-ENOENT", "-F", "exe="+bins.Work, "-k", harness.KeyPrefix+"coverage"); err != nil {
		t.Fatal(err)
	}
	l.begin()
	l.burst(100)
	l.ask("all is there", func(c *coverageOf) bool { return c.State == "complete" && c.Lost == 0 })
	if !harness.Poll(time.Minute, func() bool { return l.arrived() == 100 }) {
		t.Fatalf("%d events arrived, of 100:\n%s", l.arrived(), strings.Join(found(t, l.c, "-n", "kernel1", "-ts", at(l.from)), "\n"))
	}

	l.killed()
	l.takenOver()
	l.switchedOff()
	l.rateLimited()
	l.restarted()
	l.overrun()
	l.queueFull()
	l.backlogFull()
	for _, row := range l.later {
		row()
	}
	if err := l.k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	l.terminate(l.p)
}

// killed: what the kernel keeps for a daemon that is gone, the next one gets. The rest is missing,
// and the kernel says of little of it that it lost it.
func (l *kernelLosing) killed() {
	l.begin()
	l.p.Kill()
	l.burst(40)
	l.start()
	l.afterwards("killed", func(c *coverageOf) bool {
		gap := c.of("serial-gap")
		_, seconds, died := c.by("died")
		return died && seconds > 0 && l.missing(gap, 40)
	})
}

// takenOver: another daemon is the kernel's for a while, and what it gets we do not.
func (l *kernelLosing) takenOver() {
	l.begin()
	l.terminate(l.p)
	stock, err := harness.StartAuditdDaemon(l.dir+"/stock", nil)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(stock.Kill)
	l.burst(50)
	l.terminate(stock.Proc)
	l.start()
	l.afterwards("takeover", func(c *coverageOf) bool {
		_, seconds, stopped := c.by("stopped")
		return stopped && seconds > 0 && l.arrived() == 0 && l.missing(c.of("serial-gap"), 50)
	})
}

func (l *kernelLosing) switchedOff() {
	l.begin()
	l.set("-e", "0")
	time.Sleep(2 * time.Second) // what was off for no time is not looked for
	l.set("-e", "1")
	l.burst(5)
	l.ask("auditing was off", func(c *coverageOf) bool {
		_, seconds, off := c.by("auditing-off")
		return off && seconds >= 1.5 && c.State == "unknown"
	})
	l.shows("switched-off", true)
}

func (l *kernelLosing) rateLimited() {
	l.begin()
	l.set("-r", "5")
	l.burst(200)
	l.set("-r", "0")
	l.burst(5)
	l.ask("the rate limit", l.kernelSaid)
	l.shows("rate-limit", false)
	l.apart = time.Now().Add(15 * time.Second)
}

func (l *kernelLosing) restarted() {
	l.begin()
	l.terminate(l.p)
	l.set("-e", "1") // as it was booted: the forwarder puts back what it found
	l.start()
	l.burst(5)
	l.ask("stopped and started again", func(c *coverageOf) bool { return c.of("serial-gap") == 0 && c.seen() <= changes })
}

// backlogFull: nobody reads, and callers do not wait.
func (l *kernelLosing) backlogFull() {
	st, err := l.k.Status()
	if err != nil {
		l.Fatal(err)
	}
	time.Sleep(time.Until(l.apart))
	l.set("-b", "64", "--backlog_wait_time", "0")
	l.begin()
	l.paused(l.p, func() { l.burst(3000) })
	l.ask("the backlog was full", l.kernelSaid)
	l.shows("backlog", false)
	l.set("-b", fmt.Sprint(st["backlog_limit"]), "--backlog_wait_time", fmt.Sprint(st["backlog_wait_time"]))
}

// overrun: who only listens in gets no second copy of what does not fit into its receive buffer.
func (l *kernelLosing) overrun() {
	p := l.listener("listener1", l.dir+"/listener", "--receive-buffer", "64K")
	l.begin()
	l.paused(p, func() { l.burst(2000) })
	askCoverage(l.T, l.c, "a receive buffer was full", func(c *coverageOf) bool {
		made := overruns(l.T) // it goes on until the buffer is empty
		return c.State == "lost" && made > 0 && c.of("overrun") == made && c.Lost == made && c.only("overrun")
	}, "listener1", "-ts", at(l.from))
	shows(l.T, l.c, "overrun", false, "-n", "listener1", "-ts", at(l.from))
	l.terminate(p)
}

// queueFull: nothing is written to the spool for a while. What it has in memory is bounded, and so is
// what waits in front of it. A traced listener is slow, so no more events are made than it takes to fill the queue.
func (l *kernelLosing) queueFull() {
	addr := "127.0.0.1:" + strconv.Itoa(port(l.T))
	p := l.listener("listener2", l.dir+"/slow", "--queue", "1M", "--receive-buffer", "4M", "--http", addr)
	l.begin()
	tracer := l.slowDisk(p)
	events := uint64(0)
	if !harness.Poll(5*time.Minute, func() bool {
		l.burst(500)
		events += 500
		lost, _ := seriesAt(l.T, addr, `auditfleet_forwarder_lost_total{cause="queue"}`)
		return lost > 0
	}) {
		l.Fatalf("the queue has lost nothing of %d events", events)
	}
	tracer.Kill()
	askCoverage(l.T, l.c, "the queue was full", func(c *coverageOf) bool {
		// Of each event four records are shipped, and the fifth, its end, is lost like any.
		r, err := l.c.Search(time.Minute, "-n", "listener2", "-k", harness.KeyPrefix+"coverage", "-ts", at(l.from), "--format", "raw")
		if err != nil || r.Code != 0 {
			return false
		}
		gone := 4*events - uint64(strings.Count(string(r.Stdout), "\n"))
		n := c.of("queue") + c.of("overrun")
		return c.State == "lost" && c.of("queue") > 0 && c.Lost == n && n >= gone && n <= gone+events && c.only("queue", "overrun")
	}, "listener2", "-ts", at(l.from))
	shows(l.T, l.c, "queue", false, "-n", "listener2", "-ts", at(l.from))
	l.terminate(p)
}

// start starts our forwarder as the kernel's daemon.
func (l *kernelLosing) start() {
	l.Helper()
	l.p, _ = kernelForwarder(l.T, l.k, l.dir, l.c.Addr(), "--alive-interval", "1s", "--receive-buffer", "64K")
}

// listener starts one that listens beside it, and waits for its first word.
func (l *kernelLosing) listener(node, dir string, args ...string) *harness.Proc {
	l.Helper()
	p := startForwarder(l.T, dir, l.c.Addr(), "multicast", nil, append([]string{"--node", node, "--alive-interval", "1s"}, args...)...)
	askCoverage(l.T, l.c, "its first word", func(c *coverageOf) bool { return c.Forwarder.Run != "" }, node)
	return p
}

// begin begins a row: what was before is said by then.
func (l *kernelLosing) begin() {
	l.Helper()
	said := time.Now()
	askCoverage(l.T, l.c, "the row before is over", func(c *coverageOf) bool { return c.Forwarder.Said.After(said.Add(time.Second)) }, "kernel1")
	l.from = time.Now()
	time.Sleep(clockTick) // what happens from now on has no stamp of before
	var err error
	if l.before, err = l.k.Status(); err != nil {
		l.Fatal(err)
	}
}

// ask asks about the time since the row began, until the forwarder has spoken since now and the
// answer is good.
func (l *kernelLosing) ask(what string, good func(*coverageOf) bool) {
	l.Helper()
	now := time.Now()
	askCoverage(l.T, l.c, what, func(c *coverageOf) bool {
		return c.Forwarder.Said.After(now) && c.Lost == c.seen()+c.of("serial-gap") && good(c)
	}, "kernel1", "-ts", at(l.from))
}

// afterwards ends a row that is asked about at the end of the test, when the answer has had time. Events
// behind it divide what is missing then from what will be.
func (l *kernelLosing) afterwards(id string, good func(*coverageOf) bool) {
	l.Helper()
	from, to := l.from, time.Now()
	time.Sleep(10 * time.Millisecond)
	l.burst(5)
	l.ask("the forwarder speaks", func(*coverageOf) bool { return true })
	l.later = append(l.later, func() {
		l.Helper()
		l.from, l.to = from, to
		args := []string{"-ts", at(from), "-te", at(to)}
		askCoverage(l.T, l.c, id, func(c *coverageOf) bool { return c.Lost == c.seen()+c.of("serial-gap") && good(c) }, "kernel1", args...)
		shows(l.T, l.c, id, false, append([]string{"-n", "kernel1"}, args...)...)
	})
}

func (l *kernelLosing) shows(id string, exact bool) {
	l.Helper()
	shows(l.T, l.c, id, exact, "-n", "kernel1", "-ts", at(l.from))
}

// kernelSaid compares an answer with the kernel's own count since the row began. What the kernel lost
// of the changes before it was asked then is in the answer, too.
func (l *kernelLosing) kernelSaid(c *coverageOf) bool {
	after, err := l.k.Status()
	made, n := uint64(after["lost"]-l.before["lost"]), c.of("kernel")
	return err == nil && c.State == "lost" && made > 0 && n >= made && n <= made+changes && c.of("serial-gap") == 0
}

// missing compares missing serials with what is not there of the events of the row, and of those
// that it made.
func (l *kernelLosing) missing(gap uint64, made int) bool {
	gone := uint64(made - l.arrived())
	return gap >= gone && gap <= gone+changes && gone > 0
}

// arrived is how many events of the row's bursts the collector has.
func (l *kernelLosing) arrived() int {
	l.Helper()
	args := []string{"-n", "kernel1", "-k", harness.KeyPrefix + "coverage", "-m", "SYSCALL", "--format", "raw", "-ts", at(l.from)}
	if !l.to.IsZero() {
		args = append(args, "-te", at(l.to))
	}
	r, err := l.c.Search(time.Minute, args...)
	if err != nil || r.Code > 1 {
		l.Fatalf("%v %+v", err, r)
	}
	return strings.Count(string(r.Stdout), ` name="`+l.dir+"/burst-") // the runtime of the program opens files, too
}

func (l *kernelLosing) burst(n int) {
	l.Helper()
	if r, err := harness.Run(5*time.Minute, l.bins.Work, "burst", "-n", fmt.Sprint(n), "-dir", l.dir); err != nil || r.Code != 0 {
		l.Fatalf("the burst: %v %+v", err, r)
	}
}

func (l *kernelLosing) set(words ...string) {
	l.Helper()
	if r, err := harness.Run(time.Minute, append([]string{"/sbin/auditctl"}, words...)...); err != nil || r.Code != 0 {
		l.Fatalf("auditctl %v: %v %+v", words, err, r)
	}
}

func (l *kernelLosing) wait(what string, ok func() bool) {
	l.Helper()
	if !harness.Poll(time.Minute, ok) {
		l.Fatal(what)
	}
}

func (l *kernelLosing) terminate(p *harness.Proc) {
	l.Helper()
	if err := p.Terminate(time.Minute); err != nil {
		l.Error(err)
	}
}

// paused keeps a process from running meanwhile.
func (l *kernelLosing) paused(p *harness.Proc, meanwhile func()) {
	l.Helper()
	if err := unix.Kill(p.Pid(), unix.SIGSTOP); err != nil {
		l.Fatal(err)
	}
	defer func() {
		if err := unix.Kill(p.Pid(), unix.SIGCONT); err != nil {
			l.Error(err)
		}
	}()
	meanwhile()
}

// slowDisk has each write and sync of a process take two minutes, until the returned program, which
// does that, is killed.
func (l *kernelLosing) slowDisk(p *harness.Proc) *harness.Proc {
	l.Helper()
	const calls = "pwrite64,fdatasync,fsync"
	tracer, err := harness.Start(harness.Spec{Name: "strace", Args: []string{need.Tool(l.T, "strace"), "-f", "-qq", "-o", l.dir + "/strace",
		"-e", "trace=" + calls, "-e", "inject=" + calls + ":delay_enter=120000000", "-p", fmt.Sprint(p.Pid())}})
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(tracer.Kill)
	l.wait("it is not traced", func() bool { return traced(p.Pid()) })
	return tracer
}

// overruns is how many messages the kernel had for the listener of the audit multicast group and no
// room to put them.
func overruns(t *testing.T) (dropped uint64) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/netlink")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		if f := strings.Fields(line); len(f) == 10 && f[1] == fmt.Sprint(unix.NETLINK_AUDIT) && f[3] == "00000001" {
			n, err := strconv.ParseUint(f[8], 10, 64)
			if err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			dropped += n
		}
	}
	return dropped
}
