//go:build soak

package soak

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// TestSoakChaos: a million numbered records of four forwarders and two collectors in network
// namespaces, while cables are cut and swallow packets, either end is killed, and certificates
// and CAs change. Each record is stored once at a collector that has it, none is missing, each
// host's are in order.
func TestSoakChaos(t *testing.T) {
	bins, err := harness.Build(t.TempDir(), os.Getenv("AUDITFLEET_RACE") == "1")
	if err != nil {
		t.Fatal(err)
	}
	c := &harness.Chaos{
		Hosts: setting(t, "SOAK_HOSTS", 4), Records: setting(t, "SOAK_RECORDS", 1_000_000), Rate: setting(t, "SOAK_RATE", 4_000),
		Seed: setting(t, "SOAK_SEED", rand.Uint64()), Dir: t.TempDir(), Logf: t.Logf,
	}
	t.Logf("seed %d", c.Seed)
	res, err := c.Run(bins)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(res)
}
