package need

import (
	"testing"
	"time"
)

// Wait looks until it is so, and ends the test when that takes a minute: only a test that fails waits that long, however busy the machine is.
func Wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
