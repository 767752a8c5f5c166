package integration

import (
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// pacer feeds a sender through a pipe, a few records at a time, until all are
// out: the stream must last as long as the test disturbs it. So each round of the test allows a part of it, however long
// the rounds take.
type pacer struct {
	r, w  *os.File
	lines []string
	gap   time.Duration // between portions
	part  int           // how many lines a round allows
	round chan struct{} // of each round; closed where there are no more
	done  chan error
}

const portion = 50

func newPacer(t *testing.T, lines []string, rounds int, gap time.Duration) *pacer {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &pacer{r: r, w: w, lines: lines, gap: gap, part: len(lines) / (rounds + 1), round: make(chan struct{}, rounds), done: make(chan error, 1)}
	t.Cleanup(func() { r.Close(); w.Close() })
	if rounds == 0 {
		close(p.round)
	}
	return p
}

func (p *pacer) start() {
	p.r.Close() // the child has it
	go func() {
		var err error
		for at, allowed := 0, 0; at < len(p.lines) && err == nil; {
			if at == allowed {
				if _, more := <-p.round; more {
					allowed = min(at+p.part, len(p.lines))
				} else {
					allowed = len(p.lines)
				}
			}
			end := min(at+portion, allowed)
			_, err = io.WriteString(p.w, strings.Join(p.lines[at:end], "\n")+"\n")
			at = end
			time.Sleep(p.gap)
		}
		p.w.Close()
		p.done <- err
	}()
}

// TestCollectorKilled: the collector is killed ten times in mid-stream while a
// stock sender and two of our forwarders send. Ours exit 0 once all is
// acknowledged and the stock one ends when its queue is empty, so in the end
// every record must be there, once.
func TestCollectorKilled(t *testing.T) {
	t.Parallel()
	stockPeers(t)
	const kills = 10
	o := harness.CollectorOptions{Store: t.TempDir() + "/store", Args: []string{"--tcp-max-per-addr", "64"}}
	c := startCollector(t, o)
	o.Port = c.Port

	const records = 6_000
	stockLines := realLog(t, harness.RecordedEnriched(), harness.Make{Seed: 21, Records: records, Nodes: []string{"stock1"}})
	slowLines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 22, Records: records, Nodes: []string{"ours1"}})
	fastLines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 23, Records: 10 * records, Nodes: []string{"ours2"}})

	// A stock sender waits a second after its second failure, so what it queued
	// meanwhile comes as a burst.
	stockIn, slowIn, fastIn := newPacer(t, stockLines, kills, 50*time.Millisecond), newPacer(t, slowLines, kills, 50*time.Millisecond), newPacer(t, fastLines, kills, 5*time.Millisecond)
	stock, err := harness.StartAudispRemote(t.TempDir(), c.Port, stockIn.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stock.Kill)
	var ours []*harness.Proc
	for _, in := range []*pacer{slowIn, fastIn} {
		p, err := harness.StartForwarder(binaries(t), t.TempDir(), c.Addr(), "stdin", in.r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		ours = append(ours, p)
	}
	for _, in := range []*pacer{stockIn, slowIn, fastIn} {
		in.start()
	}

	for i := range kills {
		for _, in := range []*pacer{stockIn, slowIn, fastIn} {
			in.round <- struct{}{}
		}
		// Mid-stream: after this start records have come in, and more are on their way.
		flowing := harness.Poll(time.Minute, func() bool {
			n, err := c.Metric("auditfleet_collector_records_total")
			return err == nil && n > 100
		})
		if !flowing {
			t.Fatalf("nothing flows before kill %d; stock sender:\n%s\nours:\n%s", i+1, stock.Output(), ours[0].Output())
		}
		time.Sleep(time.Duration(20+37*i) * time.Millisecond)
		for _, p := range append(ours, stock) {
			if p.Exited() {
				t.Errorf("a sender ended before kill %d, with the rest of its stream to come:\n%s", i+1, p.Output())
			}
		}
		c.Kill()
		c = startCollector(t, o)
	}
	for _, in := range []*pacer{stockIn, slowIn, fastIn} {
		close(in.round)
	}
	for _, p := range append(ours, stock) {
		if err := p.Wait(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range []*pacer{stockIn, slowIn, fastIn} {
		if err := <-in.done; err != nil {
			t.Fatalf("a sender stopped reading: %v", err)
		}
	}
	sameRecords(t, stockLines, foundAll(t, c, len(stockLines), "-n", "stock1"))
	sameRecords(t, slowLines, foundAll(t, c, len(slowLines), "-n", "ours1"))
	sameRecords(t, fastLines, foundAll(t, c, len(fastLines), "-n", "ours2"))
}

// TestForwarderKilled: our forwarder is killed at random while it drains a file
// into its spool and over the network, and started again on the same spool: what was
// spooled is sent, and the collector has nothing twice.
func TestForwarderKilled(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--tcp-max-per-addr", "64"}})
	// 16 in flight over 10 ms: slow enough to be killed in the middle of it.
	link, err := harness.NewProxy(c.Addr(), 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	sent := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 24, Records: 30_000, Nodes: []string{"ours1"}})
	dir := t.TempDir()
	log := dir + "/audit.log"
	if err := os.WriteFile(log, []byte(strings.Join(sent, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--follow", "--state", dir + "/state"}
	received := func() int {
		n, err := c.Metric("auditfleet_collector_records_total")
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	midStream := 0
	for i := range 8 {
		p := startForwarder(t, dir, link.Addr(), log, nil, append(args, "--window", "16")...)
		if i%2 == 0 {
			until := received() + 1 + rng.IntN(1000)
			harness.Poll(time.Minute, func() bool { return received() >= min(until, len(sent)) })
		} else { // perhaps before anything flows
			time.Sleep(time.Duration(40+rng.IntN(300)) * time.Millisecond)
		}
		if p.Exited() {
			t.Fatalf("the forwarder ended by itself:\n%s", p.Output())
		}
		p.Kill()
		if n := received(); n > 0 && n < len(sent) {
			midStream++
		}
	}
	if midStream < 5 {
		t.Errorf("%d of 8 kills were in mid-stream: the test shows little", midStream)
	}
	p := startForwarder(t, dir, link.Addr(), log, nil, args...)
	if !harness.Poll(time.Minute, func() bool { return len(found(t, c)) >= len(sent) }) {
		t.Errorf("not all came; the forwarder's output:\n%s", p.Output())
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	sameRecords(t, sent, foundAll(t, c, len(sent)))
}
