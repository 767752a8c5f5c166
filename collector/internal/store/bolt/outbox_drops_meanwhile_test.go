package bolt

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// What is known of days that are dropped is aged wherever it is: a file that is handed over meanwhile has passed it to one that was not there before.
func TestAgeWhileHandedOver(t *testing.T) {
	t.Parallel()
	var s *Store
	var meanwhile func() // appendMu is held, by who ages the first file
	s = open(t, Options{Dir: t.TempDir(), now: func() time.Time {
		if fn := meanwhile; fn != nil {
			meanwhile = nil
			fn()
		}
		return time.Now()
	}})
	s.elsewhere.Store(true)
	must(t, s.Append(t.Context(), goneBatch(t, 1, 0)))
	must(t, s.Append(t.Context(), goneBatch(t, 2, 1)))
	second := s.cur
	meanwhile = func() {
		must(t, s.rotate(second, math.MaxInt64))
		must(t, s.inherit(s.cur, second))
		must(t, s.dropLocked(second.part, whyHandedOver, false))
	}
	must(t, s.age(map[store.Day]int64{store.DayOf(goneDay(0)): goneDay(9).UnixMilli(), store.DayOf(goneDay(1)): goneDay(9).UnixMilli()}))
	if meanwhile != nil {
		t.Fatal("nothing was handed over")
	}
	for d, want := range [][]string{{"0 records", "retention: 22 dropped, was complete"}, {"0 records", "retention: 24 dropped, was complete"}} {
		if diff := cmp.Diff(want, judged(t, s, "web1", d)); diff != "" {
			t.Errorf("day %d (-want +got):\n%s", d, diff)
		}
	}
}
