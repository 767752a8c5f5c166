package wake

import (
	"testing"
	"testing/synctest"
	"time"
)

// Loops that begin at different times wake at the same ones, each by its own period.
func TestInFallsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at [3][]time.Time
		for i, every := range []time.Duration{5 * time.Second, 5 * time.Second, 10 * time.Second} {
			time.Sleep(time.Duration(i) * 777 * time.Millisecond)
			for range 20 {
				d := In(every)
				if d <= 0 || d > every {
					t.Fatalf("In(%v) is %v", every, d)
				}
				time.Sleep(d)
				at[i] = append(at[i], time.Now())
			}
		}
		for i, list := range at {
			for _, x := range list {
				if rest := x.Sub(at[0][0]) % (5 * time.Second); rest != 0 {
					t.Errorf("loop %d: %v beside the others' time", i, rest)
				}
			}
		}
	})
}
