package rewrite

import (
	"runtime"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestCourtesy: a job that the kernel has wait is an eighth of one CPU at most, and one that never waits does not rest.
func TestCourtesy(t *testing.T) {
	for _, tt := range []struct {
		what         string
		ran, waited  time.Duration // each time
		least, share float64       // of the CPU that is left to it
	}{
		{"alone", 5 * time.Millisecond, 0, 1, 1},
		{"others now and then", 5 * time.Millisecond, 100 * time.Microsecond, 0.5, 0.95},
		{"as many as CPUs", 5 * time.Millisecond, 5 * time.Millisecond, 0.1, 0.13},
		{"crowded", time.Millisecond, 50 * time.Millisecond, 0.1, 0.13},
	} {
		c := &courtesy{}
		var work, rest time.Duration
		for i := range 1000 {
			d := c.owe(tt.ran, tt.waited)
			if i >= 100 { // it has seen what there is
				work, rest = work+tt.ran, rest+d
			}
		}
		if got := float64(work) / float64(work+rest); got < tt.least || got > tt.share {
			t.Errorf("%s: it has %.2f of a CPU, want %.2f to %.2f", tt.what, got, tt.least, tt.share)
		}
	}
	c := &courtesy{}
	for range 100 {
		c.owe(5*time.Millisecond, 20*time.Millisecond)
	}
	for range 100 {
		c.owe(5*time.Millisecond, 0)
	}
	if d := c.owe(5*time.Millisecond, 0); d != 0 {
		t.Errorf("it rests for %v long after the others have gone", d)
	}
}

func TestSchedstat(t *testing.T) {
	if ran, waited, ok := parseSchedstat([]byte("361613596 344319621 4094\n")); ran != 361613596 || waited != 344319621 || !ok {
		t.Error(ran, waited, ok)
	}
	for _, bad := range []string{"", "1 2", "a b c", "1 b 3", "99999999999999999999999 1 1"} {
		if _, _, ok := parseSchedstat([]byte(bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, _, ok := look()
	if !ok {
		need.Missing(t, "this kernel has no schedstat")
	}
	var c courtesy
	for x := 0; ; x++ {
		if x%1_000_000 != 0 {
			continue
		}
		ran, _, ok := look()
		if c.rest(); !ok || c.ran < ran {
			t.Fatalf("what the kernel says of a thread is not understood: %v, %v", ran, c.ran)
		}
		if ran > before {
			return
		}
	}
}
