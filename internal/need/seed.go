package need

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed returns the seed of this run's random numbers; AUDITFLEET_SEED repeats that of an
// earlier run.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("AUDITFLEET_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("AUDITFLEET_SEED=%d", seed)
	return seed
}
