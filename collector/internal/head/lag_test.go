package head

import (
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// received is a batch of one event of a second, received so much later.
func received(host string, sec, serial int, late time.Duration) *journal.Batch {
	b := plain(1, line(host, sec, serial, "USER_LOGIN", "x"))
	b.Received = time.Unix(1795334400+int64(sec), 0).Add(late)
	return b
}

// TestLag takes only what a live host sends for its lag, also behind a restart.
func TestLag(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, small)
	serial := 0
	expect := func(why, host string, live bool, lag time.Duration, sec int, late time.Duration) {
		t.Helper()
		serial++
		r.put(t, received(host, sec, serial, late))
		r.settle(t)
		if x := hostNamed(t, r.h, host); x.Live != live || x.LagMs != lag.Milliseconds() {
			t.Errorf("%s: live %v, lag %d ms", why, x.Live, x.LagMs)
		}
	}
	const year = 365 * 24 * time.Hour
	expect("an old log of a host that never sent live", "web1", false, 0, 100, year)
	expect("its next event", "web1", false, 0, 200, year)
	expect("a live event", "web2", true, time.Second, 1000, time.Second)
	expect("an old log of the host beside it", "web2", true, time.Second, 10, year)
	expect("late after an outage", "web2", true, 3*time.Hour, 1010, 3*time.Hour)
	expect("less late", "web2", true, 2*time.Hour, 1020, 2*time.Hour)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, small)
	if x := hostNamed(t, r.h, "web2"); !x.Live || x.LagMs != (2*time.Hour).Milliseconds() {
		t.Errorf("behind a restart: %+v", x)
	}
	expect("a clock ahead is no lag", "web2", true, 0, 1030, -time.Minute)
	expect("a host that was imported and is live now", "web1", true, time.Minute, 1000, time.Minute)
}

// TestLost counts what hosts say that they lost, once whatever restarts.
func TestLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, small)
	lost := func(host, rest string) string { return line(host, 1, 1, "DAEMON_ERR", rest) }
	b := plain(1,
		lost("web1", "op=lost-records cause=backlog records=40 first=1.000 last=2.000 auid=0 pid=1 res=failed"),
		lost("web1", "op=lost-records cause=spool-full records=2 first=1.000 last=2.000 auid=0 pid=1 res=failed"),
		lost("web1", "op=log-removed cause=local-log records=7 auid=0 pid=1 res=failed"),
		lost("web1", "op=serial-gaps informative=yes serials=9 first-serial=1 last-serial=9 res=success"),
		lost("web1", "op=lost-records records=-1"), lost("web1", "op=lost-records records=1e3"), lost("web1", "op=lost-records"),
		line("web1", 1, 2, "USER_CMD", "op=lost-records records=11"),
		lost("web2", "op=lost-records records=18446744073709551615"), lost("web2", "op=lost-records records=5"),
		line("web3", 1, 3, "USER_LOGIN", "x"))
	b.Received = storetest.Start
	r.put(t, b)
	check := func(when string) {
		t.Helper()
		for host, want := range map[string]uint64{"web1": 42, "web2": 1<<64 - 1, "web3": 0} {
			if x := hostNamed(t, r.h, host); x.Lost != want {
				t.Errorf("%s: %s lost %d, want %d", when, host, x.Lost, want)
			}
		}
	}
	r.settle(t)
	check("received")
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, small)
	check("restarted")
}
