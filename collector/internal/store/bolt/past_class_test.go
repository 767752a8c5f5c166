package bolt

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestPastOfClasses drops the classes of some days in any order, with crashes between what is passed on and the drop: at each
// moment the account of each host has what is there, and what was dropped of which day.
func TestPastOfClasses(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(need.Seed(t), 3))
	classes := store.Classes{{Key: "noise"}, {Hosts: "web*"}}
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	clock := first.AddDate(0, 0, 10)
	dir := t.TempDir()
	opts := Options{Dir: dir, now: func() time.Time { return clock }}
	s, err := Open(opts)
	must(t, err)
	const days = 3
	hosts := []string{"web1", "db1", "all-noise"}
	for d := range days {
		day := first.AddDate(0, 0, d)
		tab, rows := store.NewTable(), map[string]*ledger.Row{}
		for i := range 40 + rng.IntN(40) {
			host, key := hosts[i%len(hosts)], ""
			if host == "all-noise" || rng.IntN(3) == 0 {
				key = " key=\"noise\""
			}
			ms := day.UnixMilli() + rng.Int64N(ledger.Day)
			tab.Add(host, storetest.Parse(host, fmt.Sprintf("type=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=59%s", ms/1000, ms%1000, i, key), fmt.Sprintf("type=CWD msg=audit(%d.%03d:%d): cwd=\"/\"", ms/1000, ms%1000, i)))
			r := rows[host]
			if r == nil {
				r = &ledger.Row{Start: day.UnixMilli(), Length: ledger.Day}
				r.Stated.Add(r.Start, r.Start+ledger.Day)
				rows[host] = r
			}
			for slot := len(r.Counts); slot < 24; slot++ {
				r.Counts = append(r.Counts, ledger.Count{Slot: uint16(slot)})
			}
			c := &r.Counts[(ms-r.Start)/ledger.Hour]
			c.Records, c.Events = c.Records+2, c.Events+1
		}
		b := &store.Batch{ID: uint64(d + 1), Day: store.DayOf(day), Events: tab, LSN: uint64(d + 1)}
		for _, host := range hosts {
			b.Ledger = append(b.Ledger, store.HostLedger{Host: host, Tracker: []byte("{}"), Rows: []*ledger.Row{rows[host]}})
		}
		must(t, s.Append(t.Context(), b))
	}
	must(t, s.Append(t.Context(), &store.Batch{ID: days + 1, Day: store.DayOf(clock), LSN: days + 1})) // it inherits
	for {
		done, err := s.Compact(t.Context(), store.Compaction{Oldest: 400, Classes: classes})
		must(t, err)
		if done == nil {
			break
		}
	}
	answer := func(host string, from, to time.Time) *ledger.Answer {
		t.Helper()
		var all []*ledger.Row
		_, err := s.Ledger(t.Context(), []string{host}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) { all = append(all, r) })
		must(t, err)
		q := ledger.Question{Now: clock.UnixMilli()}
		if !from.IsZero() {
			q.From, q.To = from.UnixMilli(), to.UnixMilli()-1
		}
		return ledger.Judge(host, all, ledger.Followed{}, q)
	}
	dropped := map[string]map[store.Day]uint64{}
	var parts []store.PartStats
	st, err := s.Stats(t.Context())
	must(t, err)
	for _, p := range st.Parts {
		if p.Compacted {
			parts = append(parts, p)
		}
	}
	if len(parts) != 3*days {
		t.Fatalf("%d parts of classes: %+v", len(parts), parts)
	}
	rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	total := map[string]map[store.Day]uint64{}
	for _, host := range hosts {
		total[host], dropped[host] = map[store.Day]uint64{}, map[store.Day]uint64{}
		for d := range days {
			day := first.AddDate(0, 0, d)
			a := answer(host, day, day.AddDate(0, 0, 1))
			if total[host][store.DayOf(day)] = a.Records; a.State != ledger.Complete || a.Records == 0 {
				t.Fatalf("before: %s: %+v", host, a)
			}
		}
	}
	for i, part := range parts {
		p, err := s.droppable(part.Part)
		must(t, err)
		gone, err := p.gone()
		must(t, err)
		for _, g := range gone {
			dropped[g.host][part.Day] += g.records
		}
		if rng.IntN(2) == 0 { // a crash once that is passed on
			must(t, s.bequeath(p, s.heirOf(p), clock.UnixMilli()))
			must(t, s.Close())
			s, err = Open(opts)
			must(t, err)
		}
		must(t, s.Drop(context.Background(), part.Part, "retain"))
		for _, host := range hosts {
			open := answer(host, time.Time{}, time.Time{})
			for d := range days {
				day := first.AddDate(0, 0, d)
				n, all := dropped[host][store.DayOf(day)], total[host][store.DayOf(day)]
				a := answer(host, day, day.AddDate(0, 0, 1))
				state := ledger.Complete
				if n > 0 {
					state = ledger.Lost
				}
				if a.Records != all-n || a.EventsStored != (all-n)/2 || a.Lost != n || a.State != state {
					t.Errorf("drop %d, %s %q: %s of %s: %d records, %d events, %d lost, %s; want %d of %d, %d lost, %s: %+v", i, part.Part, part.Class, host, day.Format(time.DateOnly), a.Records, a.EventsStored, a.Lost, a.State, all-n, all, n, state, a.Causes)
				}
				for _, c := range a.Causes {
					if !c.Cause.Drop() || c.Was != ledger.Complete || c.Dropped != clock.UnixMilli() {
						t.Errorf("%s: %+v", host, c)
					}
				}
			}
			for _, c := range open.Causes {
				if c.Cause.Drop() {
					t.Errorf("%s, open: what was dropped as it should be is %+v", host, c)
				}
			}
		}
	}
	must(t, s.Close())
}
