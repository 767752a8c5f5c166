package bolt

import (
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// TestPast drops day after day, as retention does: what was known of each host stays known, with
// how many records were dropped and when, also when it is done twice, and days that are too long
// ago go.
func TestPast(t *testing.T) {
	t.Parallel()
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	clock := first
	dir := t.TempDir()
	open := func() *Store {
		s, err := Open(Options{Dir: dir, now: func() time.Time { return clock }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	const days = 6
	hosts := bequeathHosts + 300
	for d := range days {
		day := first.AddDate(0, 0, d)
		b := &store.Batch{ID: uint64(d + 1), Day: store.DayOf(day), LSN: uint64(d + 1)}
		for i := range hosts {
			if d > 1 && i > 9 {
				break
			}
			r := &ledger.Row{Start: day.UnixMilli(), Length: ledger.Day, Counts: []ledger.Count{{Slot: 0, Records: 3, Events: 1}, {Slot: 23, Records: uint64(i), Events: 1}}}
			r.Stated.Add(r.Start, r.Start+ledger.Day)
			r.Entries = []ledger.Entry{{Cause: ledger.Resent, From: r.Start, To: r.Start, N: 5}}
			if d == 1 {
				r.Entries = append(r.Entries, ledger.Entry{Cause: ledger.Kernel, From: r.Start + 7, To: r.Start + 9, N: 4})
			}
			b.Ledger = append(b.Ledger, store.HostLedger{Host: fmt.Sprintf("host%d", i), Tracker: []byte("{}"), Rows: []*ledger.Row{r}})
		}
		if err := s.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(host string) (all []*ledger.Row) {
		t.Helper()
		if _, err := s.Ledger(t.Context(), []string{host}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) { all = append(all, r) }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	for d := range 3 {
		clock = first.AddDate(0, 0, 100+d)
		part := store.Part{Day: store.DayOf(first.AddDate(0, 0, d)), N: 1}
		if d == 1 { // a crash after what is known was passed on
			if err := s.bequeath(s.parts[0], s.parts[1], clock.UnixMilli()); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open()
		}
		if err := s.Drop(t.Context(), part, "max_days = 1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, host := range []string{"host7", fmt.Sprintf("host%d", hosts-1)} {
		n := uint64(7)
		if host != "host7" {
			n = uint64(hosts - 1)
		}
		all := rows(host)
		now := clock.UnixMilli()
		a := ledger.Judge(host, all, ledger.Followed{}, ledger.Question{From: first.UnixMilli(), To: first.AddDate(0, 0, 2).UnixMilli(), Now: now})
		if len(a.Intervals) != 3 || a.State != ledger.Lost || a.Lost != 2*(3+n)+4 || len(a.Notes) > 0 {
			t.Fatalf("%s: %+v", host, a)
		}
		for i, x := range []ledger.Interval{
			{Cause: ledger.Retention, From: first.UnixMilli(), To: first.AddDate(0, 0, 1).UnixMilli(), N: 3 + n, Dropped: first.AddDate(0, 0, 100).UnixMilli(), Was: ledger.Complete},
			{Cause: ledger.Retention, From: first.AddDate(0, 0, 1).UnixMilli(), To: first.AddDate(0, 0, 2).UnixMilli(), N: 3 + n, Dropped: first.AddDate(0, 0, 101).UnixMilli(), Was: ledger.Lost},
		} {
			if got := a.Intervals[i]; got != x {
				t.Errorf("%s: interval %d is %+v, want %+v", host, i, got, x)
			}
		}
	}
	// Where the begin is open, the answer begins after what was dropped.
	a := ledger.Judge("host7", rows("host7"), ledger.Followed{}, ledger.Question{Now: first.AddDate(0, 0, days).UnixMilli()})
	if a.State != ledger.Complete || a.From != first.AddDate(0, 0, 3).UnixMilli() {
		t.Errorf("%+v", a)
	}
	clock = first.AddDate(0, 0, 404)
	if err := s.Drop(t.Context(), store.Part{Day: store.DayOf(first.AddDate(0, 0, 3)), N: 1}, "max_days = 1"); err != nil {
		t.Fatal(err)
	}
	if all := rows(fmt.Sprintf("host%d", hosts-1)); len(all) > 0 {
		t.Errorf("of long ago: %+v", all)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestExtent has a partition set aside: what is missing knows of which time it is, now and after the
// next start.
func TestExtent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for d := range 2 {
		if err := s.Append(t.Context(), &store.Batch{ID: uint64(d + 1), Day: store.DayOf(day.AddDate(0, 0, d)), LSN: uint64(d + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	path := s.parts[0].path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"found", "again"} {
		if s, err = Open(Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range s.Missing() {
			var d store.Damage
			if !errors.As(e, &d) {
				continue
			}
			found = true
			if from, to, _, _ := d.Extent(); from != day.UnixMilli() || to != day.AddDate(0, 0, 1).UnixMilli() {
				t.Errorf("%s: %d to %d: %v", when, from, to, e)
			}
		}
		if !found {
			t.Errorf("%s: %v", when, s.Missing())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
