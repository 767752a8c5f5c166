package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestEventKeptOpen has a sender keep one event open with ten records a second on a disk
// of 64 MB, while good senders send more than the disk takes of records in a journal.
// None of theirs is refused, and the journal keeps its size: because the open records
// are carried, or because the event is ended for its age.
func TestEventKeptOpen(t *testing.T) {
	t.Parallel()
	const records, conns = 160_000, 8
	for name, age := range map[string]string{"carried": "1h", "ended": "2s"} {
		t.Run(name, func(t *testing.T) {
			disk := t.TempDir()
			need.Tmpfs(t, disk, "size=64m,mode=0700")
			c := startCollector(t, harness.CollectorOptions{Store: filepath.Join(disk, "store"), Args: []string{"--max-open-age", age}})
			evil := dialFrom(t, c, "127.9.9.9")
			keep := func(n int) {
				evil.send(fmt.Sprintf("node=evil type=SYSCALL msg=audit(1795336201.000:1): n=%d", n))
			}
			keep(0)
			corpus, err := harness.ParseCorpus(harness.RecordedRaw())
			if err != nil {
				t.Fatal(err)
			}
			load := &harness.Load{Addr: c.Addr(), Conns: conns, Window: 64, Records: records, Corpus: corpus, Seed: 1}
			var got *harness.LoadResult
			done := make(chan error, 1)
			go func() {
				var err error
				got, err = load.Run(t.Context())
				done <- err
			}()
			sent, largest := 1, 0.0
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for running := true; running; {
				select {
				case err := <-done:
					if err != nil {
						t.Fatalf("good senders: %v; the collector's output:\n%s", err, c.Output())
					}
					running = false
				case <-tick.C:
					keep(sent)
					sent++
					largest = max(largest, metric(t, c, "auditfleet_collector_journal_disk_bytes"))
				}
			}
			if name == "ended" { // the load may be over before the event is old
				harness.Poll(time.Minute, func() bool {
					keep(sent)
					sent++
					return strings.Contains(c.Output(), "max_open_age=")
				})
			}
			limit := metric(t, c, "auditfleet_collector_journal_limit_bytes")
			carried := metric(t, c, "auditfleet_collector_journal_carried_records_total")
			ended := metric(t, c, `auditfleet_collector_evicted_events_total{reason="max_open_age"}`)
			t.Logf("%d records of good senders, %d MB, in %v; journal at most %.0f bytes, limit %.0f; %d records kept the event open, %.0f carried, %.0f events ended for their age",
				got.Acked, got.Bytes>>20, got.Wall, largest, limit, sent, carried, ended)
			if got.Acked != records/conns*conns {
				t.Errorf("%d of %d records are acknowledged", got.Acked, records)
			}
			if largest == 0 || largest > limit || metric(t, c, "auditfleet_collector_journal_outgrown") != 0 {
				t.Errorf("the journal had %.0f bytes, the limit is %.0f", largest, limit)
			}
			for _, reply := range []string{"diskfull", "diskerror", "suspended"} {
				if n := metric(t, c, `auditfleet_collector_rejected_records_total{reply="`+reply+`"}`); n != 0 {
					t.Errorf("%.0f records are refused with %s", n, reply)
				}
			}
			if name == "carried" && (carried == 0 || ended != 0) || name == "ended" && ended == 0 {
				t.Errorf("%.0f records carried, %.0f events ended: the test shows nothing", carried, ended)
			}
			if err := c.Terminate(time.Minute); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Command(time.Minute, "verify"); err != nil || r.Code != 0 {
				t.Errorf("verify: %v, %+v", err, r)
			}
			if said := strings.Contains(c.Output(), "max_open_age="); said != (name == "ended") {
				t.Errorf("the log says\n%s", c.Output())
			}
		})
	}
}
