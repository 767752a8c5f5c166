package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// coverageOf is what `collector coverage --format json` says of a host.
type coverageOf struct {
	Host   string
	State  string
	Lost   uint64
	Causes []struct {
		Cause, Hop string
		Records    uint64
		Seconds    float64
	}
	Unsent    uint64
	Forwarder struct {
		Said time.Time
		Run  string
	}
}

// of returns a cause's records, 0 where the answer does not have it.
func (c *coverageOf) of(cause string) uint64 {
	n, _, _ := c.by(cause)
	return n
}

// seen is how many records the kernel says that it lost.
func (c *coverageOf) seen() uint64 { return c.of("kernel") + c.of("before-start") }

// by returns a cause's records and seconds; there is false where the answer does not have it.
func (c *coverageOf) by(cause string) (records uint64, seconds float64, there bool) {
	for _, x := range c.Causes {
		if x.Cause == cause {
			return x.Records, x.Seconds, true
		}
	}
	return 0, 0, false
}

// TestKernelCoverage makes losses on purpose, one after the other, with the real kernel and our
// forwarder as its daemon: nothing is lost at first, then the forwarder is killed, auditing is
// switched off and on, the kernel's rate limit loses records, the forwarder is stopped and
// started, and the kernel's backlog is full. The answer has each by its cause, with the kernel's own number where there is one.
func TestKernelCoverage(t *testing.T) {
	bins := binaries(t)
	k := openKernel(t)
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--tcp-max-per-addr", "64"}})
	dir := t.TempDir()
	start := func() *harness.Proc {
		p, _ := kernelForwarder(t, k, dir, c.Addr(), "--alive-interval", "1s", "--receive-buffer", "64K")
		return p
	}
	p := start()
	if err := k.Add("always,exit", "-F", "arch=b64", "-S", "openat", "-F", "exit=-ENOENT", "-F", "exe="+bins.Work, "-k", harness.KeyPrefix+"coverage"); err != nil {
		t.Fatal(err)
	}
	burst := func(n int) {
		t.Helper()
		if r, err := harness.Run(5*time.Minute, bins.Work, "burst", "-n", fmt.Sprint(n), "-dir", dir); err != nil || r.Code != 0 {
			t.Fatalf("the burst: %v %+v", err, r)
		}
	}
	set := func(words ...string) {
		t.Helper()
		if r, err := harness.Run(time.Minute, append([]string{"/sbin/auditctl"}, words...)...); err != nil || r.Code != 0 {
			t.Fatalf("auditctl %v: %v %+v", words, err, r)
		}
	}
	var last coverageOf
	// ask asks until the forwarder has made a statement since, and the answer is good.
	ask := func(what string, good func(*coverageOf) bool) {
		t.Helper()
		began, before, text := time.Now(), last, ""
		if !harness.Poll(time.Minute, func() bool {
			r, err := c.Command(time.Minute, "coverage", "-n", "kernel1", "--format", "json")
			if err != nil || r.Code != 0 && r.Code != 3 {
				return false
			}
			last, text = coverageOf{}, string(r.Stdout)
			return json.Unmarshal(r.Stdout, &last) == nil && (r.Code == 0) == (last.State == "complete") && last.Forwarder.Said.After(began) &&
				last.Lost == last.seen()+last.of("serial-gap") && good(&last)
		}) {
			status, err := k.Status()
			t.Fatalf("%s: %s\nthe answer before: %+v\nthe kernel now: %v, %v", what, text, before, status, err)
		}
	}
	// Changing its settings, too, the kernel loses a record or makes an event that nobody gets.
	const changes = 8
	burst(100)
	// What the kernel lost since another forwarder ran in this boot is said at the start.
	ask("all is there", func(c *coverageOf) bool {
		return c.Host == "kernel1" && c.Lost == c.of("before-start") && (c.State == "complete") == (c.Lost == 0)
	})
	first := last

	p.Kill()
	burst(40)
	p = start()
	// What the kernel keeps for a daemon that is gone, the next one gets. The rest is missing, and
	// the kernel says of little of it that it lost it.
	ask("it was killed", func(answer *coverageOf) bool {
		r, err := c.Search(time.Minute, "-n", "kernel1", "-k", harness.KeyPrefix+"coverage", "--format", "raw")
		if err != nil || r.Code != 0 || answer.Forwarder.Run == first.Forwarder.Run {
			return false
		}
		gone := 140 - uint64(bytes.Count(r.Stdout, []byte("type=SYSCALL ")))
		gap, _, _ := answer.by("serial-gap")
		_, seconds, died := answer.by("died")
		return gap >= gone && gap <= gone+changes && died == (gap > 0) && (seconds > 0) == died
	})
	killed := last

	switched := time.Now()
	set("-e", "0")
	time.Sleep(3 * time.Second)
	set("-e", "1")
	burst(5)
	ask("auditing was off", func(c *coverageOf) bool {
		_, seconds, off := c.by("auditing-off")
		return off && seconds >= 2 && seconds < 2+time.Since(switched).Seconds()
	})

	unlimited := last
	before, err := k.Status()
	if err != nil {
		t.Fatal(err)
	}
	set("-r", "5")
	burst(200)
	set("-r", "0")
	// The kernel's number; what it lost of the changes above before it was asked is in the answer, too.
	ask("the rate limit", func(c *coverageOf) bool {
		after, err := k.Status()
		made, n := uint64(after["lost"]-before["lost"]), c.of("kernel")-unlimited.of("kernel")
		return err == nil && made > 0 && n >= made && n <= made+changes && c.of("serial-gap") == killed.of("serial-gap")
	})

	limited := last
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	set("-e", "1") // as it was booted: the forwarder puts back what it found
	p = start()
	burst(10)
	ask("stopped and started again", func(c *coverageOf) bool {
		return c.Forwarder.Run != limited.Forwarder.Run && c.seen() <= limited.seen()+changes && c.of("serial-gap") == killed.of("serial-gap")
	})

	// The kernel's backlog is full while nobody reads, and callers do not wait.
	again := last
	set("-b", "64", "--backlog_wait_time", "0")
	if before, err = k.Status(); err != nil {
		t.Fatal(err)
	}
	pause(t, p, func() { burst(3000) })
	ask("the backlog was full", func(c *coverageOf) bool {
		after, err := k.Status()
		made, n := uint64(after["lost"]-before["lost"]), c.of("kernel")-again.of("kernel")
		return err == nil && made > 0 && n >= made && n <= made+changes && c.of("serial-gap") == killed.of("serial-gap")
	})

	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
}

// pause keeps a process from running meanwhile.
func pause(t *testing.T, p *harness.Proc, meanwhile func()) {
	t.Helper()
	if err := unix.Kill(p.Pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Kill(p.Pid(), unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	meanwhile()
}
