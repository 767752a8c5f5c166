//go:build soak

package soak

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// setting reads a duration or number from the environment.
func setting[T any](t *testing.T, name string, def T) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	var err error
	switch p := any(&def).(type) {
	case *time.Duration:
		*p, err = time.ParseDuration(text)
	case *int:
		_, err = fmt.Sscan(text, p)
	case *uint64:
		_, err = fmt.Sscan(text, p)
	}
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return def
}

// TestSiege: 1,000 senders from addresses of their own for ten minutes, a quarter
// of them stop-and-wait as stock ones are, while the collector is killed at random
// moments. Every record acknowledged is there once, verify is clean, also beside
// the server after each kill, and a backup made in mid-run is, too.
func TestSiege(t *testing.T) {
	long := setting(t, "SOAK_TIME", 10*time.Minute)
	kills := setting(t, "SOAK_KILLS", int(long/(15*time.Second)))
	senders := setting(t, "SOAK_SENDERS", 1000)
	seed := setting(t, "SOAK_SEED", rand.Uint64())
	t.Logf("seed %d: %d senders, %v, %d kills", seed, senders, long, kills)
	bins, err := harness.Build(t.TempDir(), os.Getenv("AUDITFLEET_RACE") == "1")
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir() + "/backup"
	f := &harness.Fleet{Senders: senders, Stock: senders / 4, Window: 256, Gap: setting(t, "SOAK_GAP", 400*time.Millisecond)}
	s := &harness.Siege{
		Fleet: f, Opts: harness.CollectorOptions{Store: t.TempDir() + "/store"}, For: long, Kills: kills, Seed: seed, Logf: t.Logf,
		Each: func(c *harness.Collector, kill int) error {
			for _, command := range []string{"verify", "backup"} {
				if kill%5 != 4 {
					continue
				}
				var args []string
				if command == "backup" {
					args = []string{target}
				}
				r, err := c.Command(5*time.Minute, command, args...)
				if err == nil && r.Code != 0 {
					err = fmt.Errorf("%s: exit %d:\n%s%s", command, r.Code, r.Stdout, r.Stderr)
				}
				if err != nil {
					return err
				}
				t.Logf("%s, in %v: %s", command, r.Wall.Round(time.Millisecond), r.Stdout)
			}
			return nil
		},
	}
	res, err := s.Run(bins)
	if err != nil {
		t.Fatal(err)
	}
	slowest := time.Duration(0)
	for _, d := range res.Starts {
		slowest = max(slowest, d)
	}
	t.Logf("%d records acknowledged (%.0f/s), %d sent again, %d connections, slowest start %v, peak %d MiB, drained in %v",
		res.Acked, float64(res.Acked)/long.Seconds(), res.Again, res.Connections, slowest, res.PeakRSS>>20, res.Drained)
	if kills > 0 && res.Again == 0 {
		t.Error("nothing was ever sent again: the test shows nothing")
	}
	if kills >= 5 {
		r, err := harness.Run(5*time.Minute, bins.Collector, "verify", "--store", target+"/store")
		if err != nil || r.Code != 0 {
			t.Errorf("verify the backup: %v: %+v", err, r)
		}
	}
}
