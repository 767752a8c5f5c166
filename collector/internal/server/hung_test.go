package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// With a disk that takes nothing and returns nothing, whoever asks is answered, and the first to be told is who
// looks at health and alerts. What was sent meanwhile is stored once the disk goes on.
func TestHungDisk(t *testing.T) {
	t.Parallel()
	disk := faultfs.NewHang(fsys.OS)
	cfg := testConfig(shortDir(t))
	cfg.files, cfg.hung = disk, 50*time.Millisecond
	cfg.Alerts = alert.DefaultConfig()
	cfg.Alerts.Every, cfg.Alerts.Group = 50*time.Millisecond, time.Millisecond
	r := start(t, cfg)
	c := r.dial()
	exchange(t, c, 1, userRecord("web1", 1))
	client := r.client()
	eventually(t, "the first is found", func() bool { return len(raws(t, scanner(client), "web1")) == 1 })
	disk.Freeze()
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			disk.Thaw()
		}
	}
	t.Cleanup(thaw) // before the server's end
	if _, err := c.Write(remote.Append(nil, remote.Message, 2, []byte(userRecord("web1", 2)))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a write that hangs", func() bool { return disk.Waiting() > 0 })
	for _, path := range []string{"/healthz", "/readyz"} {
		eventually(t, "a word of it from "+path, func() bool {
			code, text := get(t, r, path)
			return code == http.StatusServiceUnavailable && strings.HasPrefix(text, "a write to the journal has not returned for ")
		})
	}
	eventually(t, "an alert of it", func() bool {
		list, err := client.Alerts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list.Alerts, func(a *fleet.Alert) bool {
			return a.Labels["kind"] == "journal-hangs" && a.State == alert.Firing && a.ToldMs != 0
		})
	})
	if code, text := get(t, r, "/metrics"); code != http.StatusOK || !strings.Contains(text, "auditfleet_collector_journal_write_waits_seconds ") {
		t.Errorf("/metrics: %d", code)
	}
	if n := len(raws(t, scanner(client), "web1")); n != 1 {
		t.Errorf("%d records found", n)
	}
	if hosts, err := client.Hosts(t.Context()); err != nil || len(hosts) != 2 {
		t.Errorf("%d hosts, %v", len(hosts), err)
	}
	if err := client.Coverage(t.Context(), &fleet.CoverageRequest{}, func(*fleet.Coverage) error { return nil }); err != nil {
		t.Errorf("coverage: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := client.Follow(ctx, &query.Query{Nodes: []string{"web1"}, StartMs: 1}, func(*event.Event) error { cancel(); return nil }, func(uint64) error { return nil })
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("follow: %v", err)
	}
	if before := r.alive(); r.alive() == before {
		t.Error("the watchdog would end a collector that a restart does not help")
	}
	thaw()
	eventually(t, "the second is found", func() bool { return len(raws(t, scanner(client), "web1")) == 2 })
	eventually(t, "health", func() bool { code, _ := get(t, r, "/healthz"); return code == http.StatusOK })
}

// A watchdog that waits for less than it takes until a store is said to hang hears of the hang in time, at its next look, and not of one that
// has just begun.
func TestHangAndWatchdog(t *testing.T) {
	t.Parallel()
	for _, watched := range []time.Duration{4 * time.Second, 30 * time.Second, 3 * time.Minute} {
		if hangsFor(watched/8, watched) || !hangsFor(watched/2, watched) {
			t.Errorf("a watchdog of %v", watched)
		}
	}
	if hangsFor(time.Hour, 0) {
		t.Error("without a watchdog")
	}
}

// A change of holds is recorded until its record is stored, and until then kept in the list: a collector that is killed
// while its journal hangs has the next one record it.
func TestHoldsOnAHungDisk(t *testing.T) {
	t.Parallel()
	disk := faultfs.NewHang(fsys.OS)
	cfg := testConfig(shortDir(t))
	cfg.files = disk
	r := start(t, cfg)
	t.Cleanup(disk.Thaw) // before the server's end
	disk.Freeze()
	r.hold(hold.Change{Add: []string{"web1"}, Reason: "case 4711"})
	for range 3 {
		r.recordHolds(r.holds.set.Unsaid()) // as each minute does
		if err := r.holds.settle(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.holds.set.Unsaid()); n != 1 {
		t.Fatalf("%d changes wait for their records", n)
	}
	disk.Thaw()
	eventually(t, "its record", func() bool { return strings.Contains(r.ownText(), `op=hold-add hold="web1"`) })
	eventually(t, "a list that has forgotten it", func() bool { return r.holds.settle() == nil && len(r.holds.set.Unsaid()) == 0 })
	if n := strings.Count(r.ownText(), `op=hold-add hold="web1"`); n != 1 {
		t.Errorf("recorded %d times", n)
	}
	// Where the journal refused it, it is recorded again.
	gone := hold.Done{Op: "add", What: "web2"}
	if !r.holds.begin(gone) || r.holds.begin(gone) {
		t.Error("a record is made once")
	}
	if r.holds.end(gone, false); !r.holds.begin(gone) {
		t.Error("a record that was lost is made again")
	}
}
