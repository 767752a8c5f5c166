package bolt

import (
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// TestDayThatEndedBeforeTheStart: the hours of a day become one row also where the collector stood
// still as the day ended, and the first that it writes is the next day's.
func TestDayThatEndedBeforeTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	midnight := ledger.DayOf(storetest.Start.UnixMilli())
	add := func(id uint64, day int, hours ...int64) {
		t.Helper()
		b := &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), LSN: id}
		for _, h := range hours {
			r := &ledger.Row{Start: midnight + int64(day)*ledger.Day + h*ledger.Hour, Length: ledger.Hour, Counts: []ledger.Count{{Records: id, Events: 1}}}
			b.Ledger = append(b.Ledger, store.HostLedger{Host: "web1", Tracker: []byte("followed"), Rows: []*ledger.Row{r}})
		}
		must(t, s.Append(t.Context(), b))
	}
	add(1, 0, 5, 6)
	must(t, s.Close())
	s = open(t, Options{Dir: dir})
	add(2, 1, 3)
	var rows []int64
	_, err := s.Ledger(t.Context(), []string{"web1"}, 0, midnight+ledger.Day-1, func(_ string, r *ledger.Row) { rows = append(rows, r.Length) })
	if must(t, err); len(rows) != 1 || rows[0] != ledger.Day {
		t.Errorf("rows of the day before: of %v ms", rows)
	}
}
