package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// metric is the value of one series of a collector's /metrics.
func metric(t *testing.T, c *harness.Collector, series string) float64 {
	t.Helper()
	v, there := seriesAt(t, c.HTTP, series)
	if !there {
		t.Fatalf("no series %s", series)
	}
	return v
}

// seriesAt is the value of one series of the /metrics of what listens at addr, if it has that.
func seriesAt(t *testing.T, addr, series string) (v float64, there bool) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v, true
		}
	}
	return 0, false
}

// besiege has good senders send while others attack, and returns how many records of
// theirs were acknowledged.
func besiege(t *testing.T, c *harness.Collector, evil *harness.Hostile, good *harness.Paced) *harness.LoadResult {
	t.Helper()
	addr, err := netip.ParseAddrPort(c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	good.Addr, evil.Addr = c.Addr(), addr
	if good.Corpus, err = harness.ParseCorpus(harness.RecordedRaw()); err != nil {
		t.Fatal(err)
	}
	send, err := good.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := evil.Connect(); err != nil {
		t.Fatal(err)
	}
	defer evil.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(stopped); evil.Run(stop) }()
	got, err := send()
	close(stop)
	<-stopped
	if err != nil {
		t.Fatalf("good senders: %v; the collector's output:\n%s", err, c.Output())
	}
	return got
}

// TestFewDescriptors has more idle connections than the collector may have files open:
// the journal, the store and queries have theirs all the same.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	c, err := harness.StartCollector(binaries(t), harness.CollectorOptions{Store: t.TempDir() + "/store", Files: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kill()
	good := &harness.Paced{Conns: 2, Rate: 200, For: 2 * time.Second}
	got := besiege(t, c, &harness.Hostile{Conns: 400, Attack: "idle"}, good)
	if got.Acked < 50 {
		t.Errorf("%d records acknowledged: the test shows little", got.Acked)
	}
	if n := metric(t, c, `auditfleet_collector_refused_total{reason="limit"}`); n < 200 {
		t.Errorf("%v connections refused for their number", n)
	}
	if n := metric(t, c, "auditfleet_collector_accept_errors_total"); n != 0 {
		t.Errorf("%v failures to accept", n)
	}
	r, err := c.Search(time.Minute, "-m", "DAEMON_ACCEPT", "--format", "raw")
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 || !strings.Contains(string(r.Stdout), "op=alloc addr=127.2.") {
		t.Errorf("exit %d, no refusal is recorded:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if err := c.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	out := c.Output()
	for _, want := range []string{"fewer connections than max_connections", "open_files_limit=256", "refused a connection: there are as many connections as max_connections"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("%q is not said once in\n%s", want, out)
		}
	}
	if strings.Contains(out, "too many open files") || strings.Contains(out, "failed twice") {
		t.Errorf("descriptors ran out:\n%s", out)
	}
}

// TestHostilePeers has 200 connections do each of the attacks by turns: good senders have
// their records acknowledged meanwhile, and the collector ends in good order. How long
// they wait at 9,000 is measured by the bench (-only hostile).
func TestHostilePeers(t *testing.T) {
	for _, attack := range harness.Attacks() {
		t.Run(attack, func(t *testing.T) {
			c, err := harness.StartCollector(binaries(t), harness.CollectorOptions{Store: t.TempDir() + "/store"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Kill()
			evil := &harness.Hostile{Conns: 200, Attack: attack}
			got := besiege(t, c, evil, &harness.Paced{Conns: 10, Rate: 200, For: time.Second})
			writes, renewed := evil.Did()
			t.Logf("%d records, p99 %v, max %v; %d writes, %d connections of the attack", got.Acked, got.P99, got.Max, writes, renewed)
			if attack != "idle" && writes+renewed < 100 {
				t.Errorf("%d writes and %d connections: no attack", writes, renewed)
			}
			if got.Acked < 10 {
				t.Errorf("%d records acknowledged", got.Acked)
			}
			if err := c.Terminate(time.Minute); err != nil {
				t.Fatal(err)
			}
		})
	}
}
