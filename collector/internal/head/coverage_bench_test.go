package head

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
)

// BenchmarkCoverage asks about 1,000 hosts over 90 days, each with a loss and a shutdown a day.
func BenchmarkCoverage(b *testing.B) {
	dir := b.TempDir()
	st, err := bolt.Open(bolt.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	const hosts, days = 1000, 90
	for d := range days {
		day := begin.AddDate(0, 0, d)
		for part := range int64(2) { // both halves of a day, so that its rows are added up
			batch := &store.Batch{ID: uint64(2*d) + uint64(part) + 1, At: day.Add(time.Duration(part+1) * 12 * time.Hour), Day: store.DayOf(day), LSN: uint64(2*d) + uint64(part) + 1}
			for i := range hosts {
				l := store.HostLedger{Host: fmt.Sprintf("host%04d", i), Tracker: ledger.NewHost().Encode()}
				for hour := 12 * part; hour < 12*part+12; hour++ {
					l.Rows = append(l.Rows, benchRow(day.UnixMilli(), hour))
				}
				batch.Ledger = append(batch.Ledger, l)
				if d == 0 && part == 0 {
					batch.Hosts = append(batch.Hosts, store.Host{Name: l.Host, First: day, Verified: day})
				}
			}
			if err := st.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	h, err := OpenReadOnly(Options{Place: st, Events: st, Now: func() time.Time { return begin.AddDate(0, 0, days) }}, journal.Options{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	defer st.Close()
	b.ReportAllocs()
	for b.Loop() {
		list, err := h.Completeness(b.Context(), CoverageQuery{})
		if err != nil || len(list) != hosts || list[5].Lost != 7*days {
			b.Fatalf("%d answers, %v, %+v", len(list), err, list[0])
		}
	}
	stats, err := st.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(stats.DiskBytes)/hosts/days, "bytes/host/day")
}

// benchRow is an hour of a host: ordinary minutes, and in one of the hours a shutdown and a loss.
func benchRow(day, hour int64) *ledger.Row {
	row := &ledger.Row{Start: day + hour*ledger.Hour, Length: ledger.Hour}
	for m := range uint16(60) {
		row.Counts = append(row.Counts, ledger.Count{Slot: m, Records: 300, Events: 100})
	}
	from := row.Start
	if hour == 7 {
		from += 600_000
		row.Entries = []ledger.Entry{{Cause: ledger.Off, From: row.Start, To: from}, {Cause: ledger.Kernel, From: from + 5, To: from + 900, N: 7}}
	}
	row.Stated.Add(from, row.Start+ledger.Hour)
	return row
}
