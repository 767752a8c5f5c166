package integration

import (
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestSiege is the soak's small sister: 300 senders at addresses of their own, of
// which a fifth send as stock ones do, through four kills. In the end each record
// is there once and verify finds nothing.
func TestSiege(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	f := &harness.Fleet{Senders: 300, Stock: 60, Window: 64, Gap: 200 * time.Millisecond}
	s := &harness.Siege{Fleet: f, Opts: harness.CollectorOptions{Store: t.TempDir() + "/store"}, For: 6 * time.Second, Kills: 4, Seed: seed, Logf: t.Logf}
	res, err := s.Run(binaries(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *res)
	if res.Again == 0 || res.Connections < 600 || res.Acked < 10_000 {
		t.Errorf("%d records acknowledged, %d sent again, %d connections: the test shows little", res.Acked, res.Again, res.Connections)
	}
}
