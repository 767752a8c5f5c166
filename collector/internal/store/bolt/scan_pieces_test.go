package bolt

import (
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Values in compacted days are asked for in order, and what is asked for without values never is: where half of the events of its times are compacted decides.
func TestInPieces(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 7), now: later}) // the last of its batches is of a day that is not over
	values, all := &query.Query{Terms: make([]query.Term, 1)}, &query.Query{}
	want := func(of *query.Query, pieces bool) {
		t.Helper()
		if got := s.InPieces(of); got != pieces {
			t.Errorf("%+v: in pieces %v", of, got)
		}
	}
	want(values, true)
	if compactAll(t, s) == 0 {
		t.Fatal("nothing is compacted")
	}
	want(values, false)
	want(all, true)
	b := &store.Batch{ID: 8, Day: store.DayOf(later()), LSN: 8, Events: store.NewTable()}
	storetest.Fill(b.Events, storetest.NewGenerator(8, storetest.Templates(t), 3, later()), 400)
	must(t, s.Append(t.Context(), b))
	want(values, true)
	values.EndMs = storetest.Start.AddDate(0, 0, 1).UnixMilli()
	want(values, false)
}
