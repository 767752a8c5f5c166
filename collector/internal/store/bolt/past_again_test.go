package bolt

import (
	"fmt"
	"math"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// days is a store of days of which some hosts' completeness is known.
type days struct {
	*Store
	t     *testing.T
	dir   string
	first time.Time
	clock time.Time
	n     uint64
}

func newDays(t *testing.T) *days {
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	d := &days{t: t, dir: t.TempDir(), first: first, clock: first.AddDate(0, 0, 100)}
	d.open()
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func (d *days) open() {
	var err error
	d.Store, err = Open(Options{Dir: d.dir, now: func() time.Time { return d.clock }})
	must(d.t, err)
}

// crash has another process go on.
func (d *days) crash() {
	must(d.t, d.Close())
	d.open()
}

// add stores a batch in a day, with a row of as many hosts, of so many records each.
func (d *days) add(day, hosts int, records uint64) {
	d.t.Helper()
	d.n++
	at := d.first.AddDate(0, 0, day)
	b := &store.Batch{ID: d.n, Day: store.DayOf(at), LSN: d.n}
	for i := range hosts {
		r := &ledger.Row{Start: at.UnixMilli(), Length: ledger.Day, Counts: []ledger.Count{{Records: records, Events: 1}}}
		r.Stated.Add(r.Start, r.Start+ledger.Day)
		b.Ledger = append(b.Ledger, store.HostLedger{Host: fmt.Sprintf("host%d", i), Tracker: []byte("{}"), Rows: []*ledger.Row{r}})
	}
	must(d.t, d.Append(d.t.Context(), b))
}

func (d *days) part(day int) store.Part {
	return store.Part{Day: store.DayOf(d.first.AddDate(0, 0, day)), N: 1}
}

func (d *days) drop(day int) {
	d.t.Helper()
	must(d.t, d.Drop(d.t.Context(), d.part(day), "a test"))
}

// half passes on what is known of some hosts of a day, as a drop that is cut short does.
func (d *days) half(day int) {
	d.t.Helper()
	p, err := d.droppable(d.part(day))
	must(d.t, err)
	must(d.t, d.bequeath(p, d.heirOf(p), d.clock.UnixMilli()))
}

// records returns how many records of a host are known of a day, dropped or not.
func (d *days) records(host, day int) (n uint64) {
	d.t.Helper()
	from := d.first.AddDate(0, 0, day).UnixMilli()
	var rows []*ledger.Row
	_, err := d.Ledger(d.t.Context(), []string{fmt.Sprintf("host%d", host)}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) { rows = append(rows, r) })
	must(d.t, err)
	a := ledger.Judge("host", rows, ledger.Followed{}, ledger.Question{From: from, To: from + ledger.Day, Now: d.clock.UnixMilli()})
	for _, x := range a.Intervals {
		n += x.N
	}
	there := 0
	for _, r := range rows {
		if r.Start == from {
			there++
		}
	}
	if there > 1 {
		d.t.Errorf("host%d has %d rows of one day", host, there)
	}
	if len(a.Intervals) == 0 { // it is there
		for _, r := range rows {
			if r.Start == from {
				n += r.Counts[0].Records
			}
		}
	}
	return n
}

// A day that was dropped comes again when the clock goes back: what is known of it then goes on, too, when it is
// dropped once more.
func TestClockBackOverADrop(t *testing.T) {
	t.Parallel()
	d := newDays(t)
	for day := range 3 {
		d.add(day, 5, 3)
	}
	d.drop(0)
	if n := d.records(4, 0); n != 3 {
		t.Fatalf("%d records of the day are known", n)
	}
	d.add(0, 5, 40) // the clock went back
	d.add(2, 5, 3)
	d.drop(0)
	if n := d.records(4, 0); n != 43 {
		t.Errorf("%d records of the day are known, there were 43", n)
	}
}

// A drop that is cut short and done again after a day has come in between passes on nothing twice.
func TestDayComesBetween(t *testing.T) {
	t.Parallel()
	d := newDays(t)
	d.add(0, 5, 3)
	d.add(4, 5, 3)
	d.add(5, 5, 3)
	d.half(0)
	d.crash()
	d.add(2, 5, 3) // the clock went back
	d.add(5, 5, 3)
	d.drop(0)
	if n := d.records(4, 0); n != 3 {
		t.Errorf("%d records of the day are known, there were 3", n)
	}
}

// Whoever asks while a day is dropped hears of each host once, whether what is known of it is passed on or not.
func TestAskedDuringADrop(t *testing.T) {
	t.Parallel()
	d := newDays(t)
	hosts := bequeathHosts + 5 // some of which are passed on by another transaction
	for day := range 2 {
		d.add(day, hosts, 3)
	}
	d.add(2, 1, 3)
	ask := func(when string) {
		t.Helper()
		for _, host := range []int{0, 7, hosts - 1} {
			if n := d.records(host, 0); n != 3 {
				t.Errorf("%s: %d records of host%d are known, there were 3", when, n, host)
			}
		}
	}
	ask("before")
	p, err := d.droppable(d.part(0))
	must(t, err)
	heir := d.heirOf(p)
	must(t, heir.reopen(true))
	list, _, err := p.pasts("", d.clock.UnixMilli(), nil)
	must(t, err)
	if len(list) != bequeathHosts {
		t.Fatalf("%d hosts at once", len(list))
	}
	must(t, heir.update(func(tx *bbolt.Tx) error { return addPasts(tx, list, p.mark(), d.clock.UnixMilli()) }))
	must(t, heir.reopen(false))
	ask("some are passed on")
	d.half(0)
	ask("all are passed on")
	d.drop(0)
	ask("after")
}
