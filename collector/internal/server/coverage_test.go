package server

import (
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Until when a time is kept is by the first day that is not on hold.
func TestKeepingUntil(t *testing.T) {
	t.Parallel()
	const d = 20000
	part := func(day int) store.PartStats { return store.PartStats{Part: store.Part{Day: store.Day(d + day), N: 1}} }
	parts := []store.PartStats{part(0), part(1), part(1), part(3)}
	for name, c := range map[string]struct {
		keep     keeping
		from, to int64 // days
		until    int64 // 0: nobody knows
		held     bool
	}{
		"no holds":                {keeping{days: 7}, 0, 3, 7, false},
		"nobody knows":            {keeping{}, 0, 3, 0, false},
		"all":                     {keeping{7, parts, []bool{true, true, true, true}}, 0, 3, 0, true},
		"the first":               {keeping{7, parts, []bool{true, false, true, false}}, 0, 3, 8, false},
		"one of two of a day":     {keeping{7, parts, []bool{true, true, false, true}}, 0, 3, 8, false},
		"a later one":             {keeping{7, parts, []bool{false, false, false, true}}, 0, 3, 7, false},
		"only days that are held": {keeping{7, parts, []bool{false, true, true, false}}, 1, 2, 0, true},
		"no days":                 {keeping{7, parts, []bool{true, true, true, true}}, 5, 6, 12, false},
		"held, of no collector":   {keeping{0, parts, []bool{true, true, true, true}}, 0, 3, 0, true},
	} {
		want := int64(0)
		if c.until != 0 {
			want = (d + c.until) * ledger.Day
		}
		until, held := c.keep.until((d+c.from)*ledger.Day+5, (d+c.to)*ledger.Day+5)
		if until != want || held != c.held {
			t.Errorf("%s: until day %d, held %v; want %d, %v", name, until/ledger.Day-d, held, c.until, c.held)
		}
	}
}
