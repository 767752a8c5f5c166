package bolt

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestSealedTakesNoMore: a sealed partition has no room for pages that are not used, and those before the last sealed one do not say
// what is followed of hosts; all has the same answers, also when the clock goes back to such a day.
func TestSealedTakesNoMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	gen := storetest.NewGenerator(3, storetest.Templates(t), 3, storetest.Start)
	id := uint64(0)
	add := func(day int) {
		t.Helper()
		id++
		tab := store.NewTable()
		storetest.Fill(tab, gen, 20)
		b := &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: id * 20}
		for i := range 300 {
			r := &ledger.Row{Start: ledger.DayOf(storetest.Start.UnixMilli()) + int64(day)*ledger.Day, Length: ledger.Day, Counts: []ledger.Count{{Records: id, Events: 1}}}
			b.Ledger = append(b.Ledger, store.HostLedger{Host: fmt.Sprintf("host%d", i), Tracker: fmt.Appendf(nil, "%d of %d", i, id), Rows: []*ledger.Row{r}})
		}
		must(t, s.Append(t.Context(), b))
	}
	for day := range 3 {
		for range 6 {
			add(day)
		}
	}
	must(t, s.Rotate(t.Context()))
	followed := func(day int) (n int) {
		t.Helper()
		db, err := bbolt.Open(partPath(dir, day), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Minute})
		must(t, err)
		defer db.Close()
		must(t, db.View(func(tx *bbolt.Tx) error { n = len(trackers(tx)); return nil }))
		return n
	}
	for day := range 3 {
		path := partPath(dir, day)
		f, err := pages.Open(path)
		must(t, err)
		list, err := f.Unused()
		must(t, err)
		var st syscall.Stat_t
		must(t, syscall.Stat(path, &st))
		unused := int64(0)
		for _, r := range list {
			unused += r.Size
			b := make([]byte, r.Size)
			_, err := f.ReadAt(b, r.Off)
			must(t, err)
			for _, x := range b {
				if x != 0 {
					t.Skipf("%s: this filesystem has no holes", dir)
				}
			}
		}
		must(t, f.Close())
		if unused == 0 || st.Blocks*512 > st.Size-unused {
			t.Errorf("day %d takes %d of %d bytes, %d are not used", day, st.Blocks*512, st.Size, unused)
		}
		if want := map[int]int{0: 0, 1: 0, 2: 300}[day]; followed(day) != want {
			t.Errorf("day %d: %d hosts are followed in it, want %d", day, followed(day), want)
		}
	}
	add(0) // the clock goes back
	add(3)
	for day := range 3 {
		p, err := raw.Open(partPath(dir, day), store.Part{Day: store.DayOf(storetest.Start) + store.Day(day), N: 1}, true)
		must(t, err)
		for i := range p.Findings {
			t.Errorf("day %d: %v", day, &p.Findings[i])
		}
		must(t, p.Close())
	}
	must(t, s.Close())
	s = open(t, Options{Dir: dir})
	state, err := s.State(t.Context())
	must(t, err)
	if n := len(storetest.Collect(t, s, &query.Query{})); n != 20*20 || len(state.Ledger) != 300 || string(state.Ledger[0].Value) != "0 of 20" {
		t.Errorf("%d events, %d hosts are followed", n, len(state.Ledger))
	}
	sum := uint64(0)
	_, err = s.Ledger(t.Context(), []string{"host7"}, 0, 1<<60, func(_ string, r *ledger.Row) {
		for _, c := range r.Counts {
			sum += c.Records
		}
	})
	if must(t, err); sum != 20*21/2 {
		t.Errorf("the rows of a host have %d records", sum)
	}
	if _, err := os.Stat(partPath(dir, 3)); err != nil {
		t.Error(err)
	}
}
