package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// testLedger wants rows of the same host and time to be added up, whichever batches, days and
// parts they came with, and what is followed of a host to be what the last batch said.
func testLedger(t *testing.T, env Env) {
	ctx := context.Background()
	s := env.Open(t)
	day := store.DayOf(Start)
	noon := ledger.DayOf(Start.UnixMilli()) + 12*ledger.Hour
	row := func(start, length int64, records uint64) *ledger.Row {
		r := &ledger.Row{Start: start, Length: length, Counts: []ledger.Count{{Slot: 3, Records: records, Events: 1}}}
		r.Stated.Add(start, start+ledger.Hour/2)
		r.Entries = []ledger.Entry{{Cause: ledger.Kernel, From: start + 5, To: start + 7, N: records}}
		return r
	}
	old := noon - 10*ledger.Day - 12*ledger.Hour
	mustAppend(t, s, &store.Batch{ID: 1, Day: day, LSN: 10, Ledger: []store.HostLedger{
		{Host: "a", Tracker: []byte("a1"), Rows: []*ledger.Row{row(noon, ledger.Hour, 7), row(old, ledger.Day, 2)}},
		{Host: "", Tracker: []byte("none"), Rows: []*ledger.Row{row(noon, ledger.Hour, 100)}},
		{Host: "a\x00b", Tracker: []byte("odd")},
	}})
	mustAppend(t, s, &store.Batch{ID: 2, Day: day, LSN: 11, Ledger: []store.HostLedger{{Host: "a", Tracker: []byte("a2"), Rows: []*ledger.Row{row(noon, ledger.Hour, 4), row(noon+ledger.Hour, ledger.Hour, 1)}}}})
	if err := s.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, &store.Batch{ID: 3, Day: day + 1, LSN: 12, Forget: []string{"a\x00b"}, Ledger: []store.HostLedger{{Host: "b", Tracker: []byte("b3"), Rows: []*ledger.Row{row(noon+ledger.Day, ledger.Hour, 9)}}}})
	mustAppend(t, s, &store.Batch{ID: 4, Day: day, LSN: 13, Ledger: []store.HostLedger{{Host: "a", Tracker: []byte("a4"), Rows: []*ledger.Row{row(noon, ledger.Hour, 1000)}}}}) // the clock went back
	for _, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		st, err := s.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var followed []string
		for _, kv := range st.Ledger {
			followed = append(followed, fmt.Sprintf("%s=%s", kv.Key, kv.Value))
		}
		if want := []string{"=none", "a=a4", "b=b3"}; !slices.Equal(followed, want) {
			t.Errorf("%s: followed %q, want %q", when, followed, want)
		}
		for _, c := range []struct {
			what     string
			hosts    []string
			from, to int64
			records  map[string]uint64
		}{
			{"all", nil, 0, noon + 100*ledger.Day, map[string]uint64{"a": 1014, "": 100, "b": 9}},
			{"one", []string{"nobody", "a"}, 0, noon + 100*ledger.Day, map[string]uint64{"a": 1014}},
			{"a day", nil, noon - ledger.Day, noon + 12*ledger.Hour, map[string]uint64{"a": 1012, "": 100}},
			{"long ago", nil, old + ledger.Day - 1, old + ledger.Day, map[string]uint64{"a": 2}},
			{"before all", nil, 0, old, map[string]uint64{}},
		} {
			if c.hosts == nil {
				set := map[string]bool{}
				if err := s.LedgerHosts(ctx, func(h []byte) { set[string(h)] = true }); err != nil {
					t.Fatal(err)
				}
				c.hosts = slices.Sorted(maps.Keys(set))
			}
			got, lost := map[string]uint64{}, map[string]uint64{}
			id, err := s.Ledger(ctx, c.hosts, c.from, c.to, func(h string, r *ledger.Row) {
				for _, n := range r.Counts {
					got[h] += n.Records
				}
				for _, e := range r.Entries {
					lost[h] += e.N
				}
			})
			if d := cmp.Diff(c.records, got); err != nil || id != 4 || d != "" || cmp.Diff(got, lost) != "" {
				t.Errorf("%s, %s: batch %d, %v (-want +got):\n%s lost: %v", when, c.what, id, err, d, lost)
			}
		}
	}
}
