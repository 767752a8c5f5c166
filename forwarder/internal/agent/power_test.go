package agent

import (
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// The power goes while a host ships, with the stop that Debian's audisp-remote.conf has
// for queue_error_action: whatever is left of the records that were not synced, those
// that were arrive, nothing is said to be lost, and shipping goes on.
func TestPowerLossIsNoQueueError(t *testing.T) {
	t.Parallel()
	disk := faultfs.New(1)
	disk.KeepHistory()
	sp, _, err := spool.Open(spool.Options{FS: disk, Dir: "/spool", SyncInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	lines := sample(1, 150)
	for i, l := range lines {
		if err := sp.Append(nil, []byte(l)); err != nil {
			t.Fatal(err)
		}
		if i == 39 {
			if err := sp.Ack(10); err != nil {
				t.Fatal(err)
			}
			if err := sp.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, holes := 0, 0
	states, all := disk.EachLoss(faultfs.Page, 10, rand.New(rand.NewSource(1)), func(after *faultfs.FS) {
		n++
		holes += afterPowerLoss(t, after, lines[10:], 30, n)
	})
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states, all there are: %v; %d with a hole", states, all, holes)
	if states < 8 || holes == 0 {
		t.Errorf("%d states, %d with a hole", states, holes)
	}
}

// afterPowerLoss returns 1 when records are missing before others that are there.
func afterPowerLoss(t *testing.T, disk *faultfs.FS, lines []string, synced, state int) (hole int) {
	t.Helper()
	c := newCollector(t)
	defer c.close()
	var log said
	s := startAgent(t, fake(fakekernel.New(), Config{
		Ship: shipTo(c.addr), Spool: spool.Options{FS: disk, Dir: "/spool"},
		Remote:  RemoteActions{QueueError: conf.Action{Do: conf.DoStop}},
		Actions: action.Config{Syslog: log.write},
	}))
	wait(t, "what was left in the spool arrived, and the start of the daemon", func() bool { return s.ship.spool.Left() == 0 && len(c.got()) > synced })
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	got := c.got()
	if diff := cmp.Diff(lines[:synced], got[:synced]); diff != "" {
		t.Errorf("state %d: what was synced: %s", state, diff)
	}
	if l := saidLost(t, got); len(l) > 0 || s.ship.metrics.Suspended.Load() != 0 || log.with("auditfleet forwarder: ") > 0 {
		t.Errorf("state %d: said to be lost: %v, suspended: %v, said to syslog: %q", state, l, s.ship.metrics.Suspended.Load(), log.lines)
	}
	for i, l := range got[synced:] {
		if at := slices.Index(lines, l); at > synced+i {
			return 1
		}
	}
	return 0
}
