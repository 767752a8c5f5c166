package integration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestKernelForwarderKilled: our forwarder is the audit daemon and is killed at
// random while audited programs run. What a kill may cost is what rested in the
// socket, the queue and a write at that moment, and what came before the next start
// registered: a batch of opens outside of that is complete, at the collector and in
// the local log, and nothing is there twice. Each kill shows in the stream, by a
// start without an end before it and by how many serials are missing.
func TestKernelForwarderKilled(t *testing.T) {
	const (
		kills = 6
		batch = 50
		// As many are through between two kills, however slow the machine is.
		between = 8
	)
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	bins := binaries(t)
	k := openKernel(t)
	need.Stock(t, "ausearch")
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--tcp-max-per-addr", "64"}})
	dir := t.TempDir()
	p, log := kernelForwarder(t, k, dir, c.Addr())
	key := harness.KeyPrefix + "killed"
	if err := k.Add("always,exit", "-F", "arch=b64", "-S", "openat", "-F", "exit=-ENOENT", "-F", "exe="+bins.Work, "-k", key); err != nil {
		t.Fatal(err)
	}
	type span struct{ from, to time.Time }
	var mu sync.Mutex // guards batches
	var batches, blind []span
	work := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				work <- nil
				return
			default:
			}
			from := time.Now()
			r, err := harness.Run(5*time.Minute, bins.Work, "burst", "-n", fmt.Sprint(batch), "-dir", fmt.Sprintf("%s/%d", dir, i))
			if err != nil || r.Code != 0 {
				work <- fmt.Errorf("a batch: %w %v", err, r)
				return
			}
			mu.Lock()
			batches = append(batches, span{from, time.Now()})
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
	}()
	// through is the end of the last batch whose last event is in the local log and at the collector, and its number, from 1 on: how
	// much else rests on its way depends on how busy the machine is. Before so many are in the local log, the collector is not asked.
	through := func(least int) (time.Time, int) {
		mu.Lock()
		ended := slices.Clone(batches)
		mu.Unlock()
		last := func(lines []string, n int) int {
			text := strings.Join(lines, "\n")
			for ; n > 0 && !strings.Contains(text, fmt.Sprintf(`name="%s/%d/burst-%06d"`, dir, n-1, batch)); n-- {
			}
			return n
		}
		n := last(linesOf(t, log), len(ended))
		if n >= least && n > 0 {
			n = last(foundKey(t, c, key), n)
		}
		if n < least || n == 0 {
			return time.Time{}, 0
		}
		return ended[n-1].to, n
	}
	for range kills {
		mu.Lock()
		began := len(batches)
		mu.Unlock()
		time.Sleep(time.Second + time.Duration(rng.IntN(500))*time.Millisecond)
		var from time.Time
		if !harness.Poll(2*time.Minute, func() bool {
			last, n := through(began + between)
			from = last
			return n > 0
		}) {
			t.Fatalf("little reaches the local log and the collector:\n%s", p.Output())
		}
		p.Kill()
		p, _ = kernelForwarder(t, k, dir, c.Addr())
		blind = append(blind, span{from, time.Now()})
	}
	time.Sleep(500 * time.Millisecond)
	close(stop)
	if err := <-work; err != nil {
		t.Fatal(err)
	}
	// The last one reads to the end.
	if !harness.Poll(2*time.Minute, func() bool { _, n := through(len(batches)); return n > 0 }) {
		t.Errorf("the last batch does not reach the local log and the collector:\n%s", p.Output())
	}
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	local, remote := ofHost(stockFinds(t, log, "-k", key)), foundKey(t, c, key)
	names := func(lines []string) map[string]int {
		at := map[string]int{}
		for _, line := range lines {
			if _, rest, ok := strings.Cut(line, ` name="`+dir+"/"); ok && strings.Contains(line, "type=PATH") {
				name, _, _ := strings.Cut(rest, `"`)
				at[name]++
			}
		}
		return at
	}
	inLog, stored := names(local), names(remote)
	outside, lost, lostInLog := 0, 0, 0
	for i, b := range batches {
		covered := true
		for _, s := range blind {
			covered = covered && (b.to.Before(s.from) || b.from.After(s.to))
		}
		if covered {
			outside++
		}
		for n := 1; n <= batch; n++ {
			name := fmt.Sprintf("%d/burst-%06d", i, n)
			switch a, b := inLog[name], stored[name]; {
			case a > 1 || b > 1:
				t.Errorf("%s: %d times in the local log, %d times at the collector", name, a, b)
			case covered && (a == 0 || b == 0):
				t.Errorf("%s, of a batch outside of every kill: %d in the local log, %d at the collector", name, a, b)
			default:
				lost, lostInLog = lost+1-b, lostInLog+1-a
			}
		}
	}
	t.Logf("%d batches of %d, %d of them outside of the kills; %d events did not reach the collector, %d the local log", len(batches), batch, outside, lost, lostInLog)
	if outside < 20 || lost == 0 {
		t.Errorf("%d batches outside of the kills, %d events lost within them: the test shows little", outside, lost)
	}
	missing, said := missingSerials(t, c, "kernel1")
	t.Logf("%d serials are missing at the collector, the stream says %d", missing, said)
	// At a kill, a serial may wait behind a higher one that is through already, or a
	// block may be through that is not noted yet.
	if most := 64 * kills; said == 0 || said < missing-most || said > missing+most {
		t.Errorf("%d serials are missing at the collector, and the stream says %d", missing, said)
	}
	// The stream says so: each start but the first has no end before it.
	r, err := c.Search(time.Minute, "--format", "raw", "-m", "DAEMON_START,DAEMON_END", "-n", "kernel1")
	if err != nil || r.Code != 0 {
		t.Fatalf("%v %+v", err, r)
	}
	var order strings.Builder
	for line := range strings.Lines(string(r.Stdout)) {
		order.WriteString(map[bool]string{true: "S", false: "E"}[strings.Contains(line, "type=DAEMON_START ")])
	}
	if want := strings.Repeat("S", kills+1) + "E"; order.String() != want {
		t.Errorf("starts and ends in the stream: %s, want %s", order.String(), want)
	}
}

// missingSerials counts the kernel's serials that a host's records at the collector
// leave out, and sums up what the stream says of that.
func missingSerials(t *testing.T, c *harness.Collector, host string) (missing, said int) {
	t.Helper()
	r, err := c.Search(time.Minute, "--format", "raw", "-n", host)
	if err != nil || r.Code != 0 {
		t.Fatalf("%v %+v", err, r)
	}
	seen := map[uint64]bool{}
	first, last := uint64(math.MaxUint64), uint64(0)
	for line := range strings.Lines(string(r.Stdout)) {
		if _, rest, ok := strings.Cut(line, "op=serial-gaps informative=yes serials="); ok {
			word, _, _ := strings.Cut(rest, " ")
			n, err := strconv.Atoi(word)
			if err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			said += n
		}
		if strings.Contains(line, "type=DAEMON_") {
			continue
		}
		_, rest, _ := strings.Cut(line, "msg=audit(")
		_, rest, _ = strings.Cut(rest, ":")
		word, _, _ := strings.Cut(rest, ")")
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		seen[n] = true
		first, last = min(first, n), max(last, n)
	}
	return int(last-first) + 1 - len(seen), said
}
