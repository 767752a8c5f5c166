package bolt

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// goneDay is a day of TestOutboxDrops.
func goneDay(d int) time.Time { return storetest.Start.Truncate(24*time.Hour).AddDate(0, 0, d) }

// goneBatch has a batch of a day with events of two hosts, of which late has as many records of the day before as it has of the day itself.
func goneBatch(t *testing.T, id uint64, d int) *store.Batch {
	b := &store.Batch{ID: id, Day: store.DayOf(goneDay(d)), LSN: id, Events: store.NewTable()}
	storetest.Fill(b.Events, storetest.NewGenerator(id, storetest.Templates(t), 3, goneDay(d)), 20)
	row := func(day, slot int, n uint64) *ledger.Row {
		r := &ledger.Row{Start: goneDay(day).Add(time.Duration(slot) * time.Hour).UnixMilli(), Length: ledger.Hour, Counts: []ledger.Count{{Slot: 0, Records: n, Events: 1}, {Slot: 59, Records: n, Events: 1}}}
		r.Stated.Add(r.Start, r.Start+ledger.Hour)
		return r
	}
	b.Ledger = []store.HostLedger{{Host: "web1", Rows: []*ledger.Row{row(d, 3, 10+uint64(d)), row(d, 4, 1)}}, {Host: "late", Rows: []*ledger.Row{row(d-1, 23, 5), row(d, 4, 5)}}}
	return b
}

// judged is what the account says of a host on a day.
func judged(t *testing.T, s store.Store, host string, d int) (out []string) {
	t.Helper()
	var rows []*ledger.Row
	_, err := s.Ledger(t.Context(), []string{host}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) { rows = append(rows, r) })
	must(t, err)
	a := ledger.Judge(host, rows, ledger.Followed{}, ledger.Question{From: goneDay(d).UnixMilli(), To: goneDay(d+1).UnixMilli() - 1, Now: goneDay(90).UnixMilli()})
	out = append(out, fmt.Sprintf("%d records", a.Records))
	for _, x := range a.Intervals {
		if x.Cause == ledger.Retention {
			out = append(out, fmt.Sprintf("%s: %d dropped, was %s", x.Cause, x.N, x.Was))
		}
	}
	return out
}

// Days that an engine elsewhere has dropped, by this collector or by another one, are in the account as dropped and not as lost or there, with as many records as
// came on them, and in the log, once each, also after a restart, and whenever the place hears of it.
func TestOutboxDrops(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	begin := func() *Outbox { return quick(open(t, Options{Dir: dir}), m) }
	o := begin()
	m.Store = o.ID().String()
	const days = 4
	for d := range days {
		must(t, o.Append(t.Context(), goneBatch(t, uint64(2*d+1), d)))
		must(t, o.Append(t.Context(), goneBatch(t, uint64(2*d+2), d)))
	}
	empty(t, o)
	part := func(d int) store.Part { return store.Part{Day: store.DayOf(goneDay(d)), N: 1} }
	want := func(when, host string, d int, lines ...string) {
		t.Helper()
		if diff := cmp.Diff(lines, judged(t, o, host, d)); diff != "" {
			t.Errorf("%s: %s on day %d (-want +got):\n%s", when, host, d, diff)
		}
	}
	leaves := func(list ...string) {
		t.Helper()
		var got []string
		for until := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
			got = nil
			for _, l := range leavesOf(t, o.local, seal.Dropped) {
				if l.Flags&seal.Elsewhere != 0 {
					got = append(got, fmt.Sprintf("%s: %d to %d, %d batches, %d events: %s", l.Part, l.First, l.Last, l.Groups, l.Events, l.Why))
				}
			}
			if len(got) == len(list) || time.Now().After(until) {
				break
			}
		}
		for i := range got {
			if i >= len(list) || !strings.HasPrefix(got[i], "cluster "+part(i).String()+": "+list[i]) {
				t.Errorf("leaf %d: %s", i, got[i])
			}
		}
		if len(got) != len(list) {
			t.Errorf("%d leaves of drops, want %d", len(got), len(list))
		}
	}
	want("before", "web1", 0, "44 records")
	want("before", "late", 0, "40 records")

	must(t, o.Drop(t.Context(), part(0), "max_days = 3"))
	leaves("1 to 2, 2 batches, 40 events: max_days = 3")
	check := func(when string) {
		t.Helper()
		want(when, "web1", 0, "0 records", "retention: 44 dropped, was complete")
		want(when, "late", 0, "20 records", "retention: 20 dropped, was complete") // what came a day later is there
		want(when, "web1", 1, "48 records")
	}
	check("dropped")

	// Another collector, while this one is away.
	must(t, o.Close())
	must(t, m.DropBy(part(1), "ffff", "max_days = 2"))
	o = begin()
	leaves("1 to 2, 2 batches, 40 events: max_days = 3", "3 to 4, 2 batches, 40 events: by the collector of the store ffff")
	for until := time.Now().Add(2 * time.Minute); judged(t, o, "web1", 1)[0] != "0 records" && time.Now().Before(until); time.Sleep(time.Millisecond) {
	}
	want("by another", "web1", 1, "0 records", "retention: 48 dropped, was complete")
	want("by another", "late", 0, "0 records", "retention: 20 dropped, was complete", "retention: 20 dropped, was complete")
	want("by another", "late", 1, "20 records", "retention: 20 dropped, was complete")
	want("by another", "web1", 2, "52 records")

	// What is known goes on to the files of later days, and comes once.
	must(t, o.Append(t.Context(), goneBatch(t, 2*days+1, days)))
	empty(t, o)
	must(t, o.Close())
	o = begin()
	want("a day later", "web1", 1, "0 records", "retention: 48 dropped, was complete")
	want("a day later", "late", 1, "20 records", "retention: 20 dropped, was complete")
	want("a day later", "web1", 0, "0 records", "retention: 44 dropped, was complete")
	leaves("1 to 2, 2 batches, 40 events: max_days = 3", "3 to 4, 2 batches, 40 events: by the collector of the store ffff")
	must(t, o.Close())
}

// That this place has dropped a part is its own word only where it did so itself: whoever may write where the engine keeps its events can say that it was this place.
func TestOutboxDropsForged(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	o := quick(open(t, Options{Dir: t.TempDir()}), m)
	m.Store = o.ID().String()
	for d := range 2 {
		must(t, o.Append(t.Context(), goneBatch(t, uint64(d+1), d)))
	}
	empty(t, o)
	part := store.Part{Day: store.DayOf(goneDay(0)), N: 9}
	d := store.DroppedPart{Part: part, At: goneDay(1), By: m.Store, Why: "max_days = 1", First: 1, Last: 1, Batches: 1, Events: 20}
	m.Forge(d)
	must(t, o.noteDrops(t.Context()))
	d.Last = 2 // a batch that was stored in it meanwhile is told later
	must(t, m.Retell(d))
	must(t, o.noteDrops(t.Context()))
	must(t, o.noteDrops(t.Context()))
	list := slices.DeleteFunc(leavesOf(t, o.local, seal.Dropped), func(l *seal.Leaf) bool { return l.Flags&seal.Elsewhere == 0 })
	if len(list) != 2 || list[0].Last != 1 || list[1].Last != 2 {
		t.Fatalf("leaves: %+v", list)
	}
	for _, l := range list {
		if !strings.HasPrefix(l.Why, seal.ClusterWord+m.Store+" on ") {
			t.Errorf("it is taken for this place's own: %s", l.Why)
		}
	}
	must(t, o.Close())
}

// What somebody has said of a part before this place drops it is the engine's word, beside its own: of the class that it had and the batches that were in it.
func TestOutboxDropsForgedBefore(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	o := quick(open(t, Options{Dir: dir}), m)
	m.Store = o.ID().String()
	for d := range 3 {
		must(t, o.Append(t.Context(), goneBatch(t, uint64(d+1), d)))
	}
	empty(t, o)
	for i, noted := range []bool{true, false} { // the log has it before, or not
		part := store.Part{Day: store.DayOf(goneDay(i)), N: 1}
		m.Forge(store.DroppedPart{Part: part, Class: store.Undivided, At: goneDay(0), By: m.Store, Why: "retain = db*: 1d", First: 1, Last: 9, Batches: 9, Events: 900})
		if noted {
			must(t, o.noteDrops(t.Context()))
		}
		must(t, o.Drop(t.Context(), part, "max_days = 1"))
		must(t, o.noteDrops(t.Context()))
	}
	for range 2 { // also after a restart
		var own, told []string
		for _, l := range leavesOf(t, o.local, seal.Dropped) {
			if said := fmt.Sprintf("%s: %q, %d to %d", l.Part, seal.DroppedClass(l.Why), l.First, l.Last); strings.HasPrefix(l.Why, seal.ClusterWord) {
				told = append(told, said)
			} else if l.Flags&seal.Elsewhere != 0 {
				own = append(own, said)
			}
		}
		days := []string{store.Part{Day: store.DayOf(goneDay(0)), N: 1}.String(), store.Part{Day: store.DayOf(goneDay(1)), N: 1}.String()}
		if d := cmp.Diff([]string{"cluster " + days[0] + `: "", 1 to 1`, "cluster " + days[1] + `: "", 2 to 2`}, own); d != "" {
			t.Errorf("own (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"cluster " + days[0] + `: "* undivided", 1 to 9`, "cluster " + days[1] + `: "* undivided", 1 to 9`}, told); d != "" {
			t.Errorf("the cluster's (-want +got):\n%s", d)
		}
		must(t, o.Close())
		o = quick(open(t, Options{Dir: dir}), m)
		must(t, o.noteDrops(t.Context()))
	}
	must(t, o.Close())
}

// A class that an engine elsewhere has dropped is in the account as far as it goes, and in the log with its name: what other classes have of the day is there, until that is
// dropped, too. The batches are divided as they were when they came, whatever the rules are when they are delivered.
func TestOutboxDropsClasses(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	var away atomic.Bool
	m.Fault = func(bool) error {
		if away.Load() {
			return errBusyEngine
		}
		return nil
	}
	begin := func(c ...store.Class) *Outbox {
		o := quick(open(t, Options{Dir: dir}), m)
		o.Divide(c)
		return o
	}
	web, noise := store.Class{Hosts: "web*"}, store.Class{Key: "noise"}
	o := begin(web, noise)
	m.Store = o.ID().String()
	add := func(id uint64, d int) {
		t.Helper()
		b := &store.Batch{ID: id, Day: store.DayOf(goneDay(d)), LSN: id, Events: store.NewTable()}
		for h, host := range []string{"web1", "db1"} {
			row := &ledger.Row{Start: goneDay(d).Add(3 * time.Hour).UnixMilli(), Length: ledger.Hour, Counts: []ledger.Count{{Slot: 0, Records: 6, Events: 6}}}
			row.Stated.Add(row.Start, row.Start+ledger.Hour)
			b.Ledger = append(b.Ledger, store.HostLedger{Host: host, Rows: []*ledger.Row{row}})
			for i := range 6 {
				key := []string{"(null)", `"noise"`}[i%2]
				b.Events.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.000:%d): arch=c000003e key=%s", host, goneDay(d).Add(3*time.Hour).Unix(), 100*int(id)+10*h+i, key)))
			}
		}
		must(t, o.Append(t.Context(), b))
	}
	add(1, 0)
	away.Store(true)
	add(2, 0)
	must(t, o.Close())
	o = begin(noise)
	add(3, 0)
	away.Store(false)
	add(4, 1)
	empty(t, o)
	drop := func(class, why string) {
		t.Helper()
		st, err := m.Stats(t.Context())
		must(t, err)
		for _, p := range st.Parts {
			if p.Day == store.DayOf(goneDay(0)) && p.Class == class {
				must(t, o.Drop(t.Context(), p.Part, why))
				return
			}
		}
		t.Fatalf("no part of %q: %+v", class, st.Parts)
	}
	want := func(when, host string, lines ...string) {
		t.Helper()
		var rows []*ledger.Row
		_, err := o.Ledger(t.Context(), []string{host}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) { rows = append(rows, r) })
		must(t, err)
		a := ledger.Judge(host, rows, ledger.Followed{}, ledger.Question{From: goneDay(0).UnixMilli(), To: goneDay(1).UnixMilli() - 1, Now: goneDay(90).UnixMilli()})
		got := []string{fmt.Sprintf("%d records", a.Records)}
		for _, x := range a.Intervals {
			if x.Cause == ledger.Retention || x.Cause == ledger.ClassRetention {
				got = append(got, fmt.Sprintf("%s: %d", x.Cause, x.N))
			}
		}
		if d := cmp.Diff(lines, got); d != "" {
			t.Errorf("%s: %s (-want +got):\n%s", when, host, d)
		}
	}
	want("before", "web1", "18 records")
	drop("web*", "retain = web*: 1d")
	for range 2 { // also once more, after a restart
		want("web* is dropped", "web1", "6 records", "retention: 12")
		want("web* is dropped", "db1", "18 records")
		must(t, o.Close())
		o = begin()
		must(t, o.noteDrops(t.Context()))
	}
	drop("key noise", "retain = key noise: 1d")
	want("noise is dropped", "web1", "3 records", "retention: 12", "retention-key: 3")
	want("noise is dropped", "db1", "9 records", "retention-key: 9")
	drop(store.Classes{web, noise}.Rest(), "max_days = 1")
	drop(store.Classes{noise}.Rest(), "max_days = 1")
	want("the day is dropped", "web1", "0 records", "retention: 15", "retention-key: 3")
	want("the day is dropped", "db1", "0 records", "retention: 9", "retention-key: 9")
	var leaves []string
	for _, l := range leavesOf(t, o.local, seal.Dropped) {
		if l.Flags&seal.Elsewhere != 0 {
			leaves = append(leaves, fmt.Sprintf("%d to %d, %d batches, %d events: %s; %q", l.First, l.Last, l.Groups, l.Events, l.Why, seal.DroppedClass(l.Why)))
		}
	}
	if d := cmp.Diff([]string{`1 to 2, 2 batches, 12 events: class "web*": retain = web*: 1d; "web*"`, `1 to 3, 3 batches, 12 events: class "key noise": retain = key noise: 1d; "key noise"`,
		`1 to 2, 2 batches, 6 events: class "* ` + store.Classes{web, noise}.Rest()[2:] + `": max_days = 1; "` + store.Classes{web, noise}.Rest() + `"`,
		`3 to 3, 1 batches, 6 events: class "` + store.Classes{noise}.Rest() + `": max_days = 1; "` + store.Classes{noise}.Rest() + `"`}, leaves); d != "" {
		t.Errorf("leaves (-want +got):\n%s", d)
	}
	must(t, o.Close())
}

// What a class had in a part that is undivided is gone with that, where no other part has events of the class.
func TestOutboxDropsUndivided(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	o := quick(open(t, Options{Dir: t.TempDir()}), m)
	o.Divide(store.Classes{{Hosts: "web*"}})
	m.Store = o.ID().String()
	for d := range 2 {
		b := &store.Batch{ID: uint64(d + 1), Day: store.DayOf(goneDay(d)), LSN: uint64(d + 1), Events: store.NewTable()}
		for _, host := range []string{"web1", "db1"} {
			row := &ledger.Row{Start: goneDay(d).Add(3 * time.Hour).UnixMilli(), Length: ledger.Hour, Counts: []ledger.Count{{Slot: 0, Records: 1, Events: 1}}}
			row.Stated.Add(row.Start, row.Start+ledger.Hour)
			b.Ledger = append(b.Ledger, store.HostLedger{Host: host, Rows: []*ledger.Row{row}})
			b.Events.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.000:1): arch=c000003e", host, goneDay(d).Add(3*time.Hour).Unix())))
		}
		must(t, o.Append(t.Context(), b))
	}
	empty(t, o)
	st, err := m.Stats(t.Context())
	must(t, err)
	o.noting.Lock()
	for _, p := range st.Parts {
		if p.Day == store.DayOf(goneDay(0)) && p.Class == "web*" {
			must(t, m.DropBy(p.Part, "ffff", "retain = web*: 1d"))
			must(t, m.Retell(store.DroppedPart{Part: p.Part, Class: store.Undivided, At: goneDay(2), By: "ffff", First: 1, Last: 1, Batches: 1, Events: 1}))
		}
	}
	o.noting.Unlock()
	must(t, o.noteDrops(t.Context()))
	for host, want := range map[string]string{"web1": "0 records", "db1": "1 records"} {
		if got := judged(t, o, host, 0); got[0] != want {
			t.Errorf("%s: %q, want %s", host, got, want)
		}
	}
	must(t, o.Close())
}
