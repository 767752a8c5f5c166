package ship_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// stockServer starts the stock auditd as a server only: it listens on loopback
// and doesn't touch the kernel. stop ends it and returns the records in its log.
func stockServer(t testing.TB) (a *harness.Auditd, stop func() []byte) {
	t.Helper()
	need.Root(t)
	need.Stock(t, "auditd")
	a, err := harness.StartAuditdServer(t.TempDir(), map[string]string{"tcp_max_per_addr": "10"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	return a, func() []byte {
		if err := a.Terminate(time.Minute); err != nil {
			t.Error(err)
		}
		lines, err := a.Lines()
		if err != nil {
			t.Fatal(err)
		}
		return []byte(strings.Join(append(lines, ""), "\n"))
	}
}

// stockRecords are records as hosts send them, of every length up to what a
// stock server keeps, with every byte but NUL and newline.
func stockRecords(n int) (records []string, log []byte) {
	rng := rand.New(rand.NewPCG(4, 2))
	for i := range n {
		l := fmt.Appendf(nil, "node=web%d type=USER_CMD msg=audit(1700000000.%03d:%d): pid=%d cmd=", i%7, i%1000, i, i)
		size := rng.IntN(500)
		if i%500 == 0 {
			size = remote.StockServerMax - len(l)
		}
		for range size {
			b := byte(1 + rng.IntN(255))
			if b == '\n' {
				b = 0x1d
			}
			l = append(l, b)
		}
		records = append(records, string(l))
		log = append(append(log, l...), '\n')
	}
	return records, log
}

func TestStockServerStoresByteForByte(t *testing.T) {
	a, stop := stockServer(t)
	records, want := stockRecords(20000)
	src := newSource(records...)
	m := &ship.Metrics{}
	s, end := start(t, ship.Config{Servers: []string{a.Addr()}, Metrics: m, Heartbeat: 50 * time.Millisecond}, src)
	began := time.Now()
	drain(t, s)
	t.Logf("20,000 records acknowledged in %v", time.Since(began))
	until(t, func() bool { return m.Heartbeats.Load() >= 2 }) // answered too, or it would reconnect
	end()
	if got := stop(); !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("log of %d bytes, want %d; they differ at %d", len(got), len(want), at)
	}
	if m.Resent.Load() != 0 || m.Reconnects.Load() != 0 || m.UnexpectedReplies.Load() != 0 {
		t.Errorf("resent %d, reconnects %d, unexpected replies %d", m.Resent.Load(), m.Reconnects.Load(), m.UnexpectedReplies.Load())
	}
}

// A record over what a stock server keeps costs a reconnect, not the records
// around it.
func TestStockServerOverLongRecord(t *testing.T) {
	a, stop := stockServer(t)
	long := bytes.Repeat([]byte("z"), remote.MaxLength)
	var records []string
	for i := range 50 {
		records = append(records, fmt.Sprintf("type=USER msg=audit(1700000000.000:%d): before", i))
	}
	records = append(records, string(long), "type=USER msg=audit(1700000000.000:100): after")
	src := newSource(records...)
	m := &ship.Metrics{}
	s, end := start(t, ship.Config{Servers: []string{a.Addr()}, Metrics: m}, src)
	drain(t, s)
	end()
	got := stop()
	for i, r := range records {
		if i == 50 {
			r = r[:remote.StockServerMax]
		}
		if !bytes.Contains(got, []byte(r+"\n")) {
			t.Errorf("record %d isn't in the log", i)
		}
	}
	if m.Reconnects.Load() == 0 {
		t.Error("no reconnect: a stock server keeps long records now, and StockServerMax can go")
	}
}

// A stock server that stops says so.
func TestStockServerEnding(t *testing.T) {
	a, stop := stockServer(t)
	src := newSource(lines(100)...)
	m := &ship.Metrics{}
	s, _ := start(t, ship.Config{Servers: []string{a.Addr()}, Metrics: m}, src)
	drain(t, s)
	if err := a.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return m.Endings.Load() == 1 && m.ConnectFailures.Load() > 0 })
	if got := bytes.Count(stop(), []byte("\n")); got != 100 {
		t.Errorf("%d records in the log, want 100", got)
	}
}
