package bolt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// always compacts each day that is over.
var always = store.Compaction{Oldest: 400}

// later is when all days of generated logs are over.
func later() time.Time { return storetest.Start.AddDate(0, 0, 30) }

// compactAll compacts until nothing is due, and returns how often it did.
func compactAll(t testing.TB, s *Store) (n int) {
	t.Helper()
	for ; ; n++ {
		done, err := s.Compact(context.Background(), always)
		if err != nil {
			t.Fatal(err)
		}
		if done == nil {
			return n
		}
		if len(done.Into) == 0 || done.Took <= 0 {
			t.Errorf("%+v", done)
		}
	}
}

// someClasses are classes of retention of generated logs: of a host, of a key, of a host that the key's events are of, too, and
// of none.
var someClasses = store.Classes{{Hosts: "web1.*"}, {Key: "audit-*"}, {Hosts: "web2.*"}, {Hosts: "mail*"}}

// moody is a store that is compacted whenever it feels like it: behind batches, and before questions.
type moody struct {
	*Store
	t   *testing.T
	rng *rand.Rand
	n   *atomic.Int64
	how store.Compaction
}

func (m *moody) compact() {
	if m.rng.IntN(2) != 0 {
		return
	}
	if m.how.Groups == 0 {
		if err := m.Rotate(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
			m.t.Errorf("rotate: %v", err)
		}
	}
	for range 1 + m.rng.IntN(3) {
		done, err := m.Compact(context.Background(), m.how)
		if err != nil && !errors.Is(err, store.ErrClosed) {
			m.t.Errorf("compact: %v", err)
		}
		if done == nil {
			return
		}
		m.n.Add(1)
	}
}

func (m *moody) Append(ctx context.Context, b *store.Batch) error {
	err := m.Store.Append(ctx, b)
	m.compact()
	return err
}

func (m *moody) Snapshot(ctx context.Context) (store.Snapshot, error) {
	m.compact()
	return m.Store.Snapshot(ctx)
}

// What a store promises holds for one that is compacted at random moments, and for one whose running day is merged in tiers meanwhile.
func TestContractCompacted(t *testing.T) {
	t.Parallel()
	for _, tiers := range []bool{false, true} {
		var n atomic.Int64
		var seed atomic.Uint64
		wrap := func(t *testing.T, dir string) store.Store {
			rng := rand.New(rand.NewPCG(seed.Add(1), 1))
			how := store.Compaction{Oldest: 400, ImportAfter: 9999 * time.Hour, Today: !tiers}
			o := Options{Dir: dir, now: later}
			if tiers {
				how.Groups = 1 + rng.IntN(3)
				o.now, o.tierParts = func() time.Time { return storetest.Start }, 2+rng.IntN(2)
			}
			if rng.IntN(2) == 0 {
				how.Classes = someClasses
			}
			return &moody{open(t, o), t, rng, &n, how}
		}
		t.Run(fmt.Sprintf("tiers %v", tiers), func(t *testing.T) {
			env := storetest.Env{
				Moves: true,
				Open:  func(t *testing.T) store.Store { return wrap(t, t.TempDir()) },
				Reopen: func(t *testing.T, s store.Store) store.Store {
					must(t, s.Close())
					return wrap(t, s.(*moody).opts.Dir)
				},
			}
			storetest.Place(t, env)
			storetest.Events(t, env)
		})
		if n.Load() == 0 {
			t.Error("it was never compacted")
		}
		t.Logf("tiers %v: %d compactions", tiers, n.Load())
	}
}

// A store that is compacted as a whole gives every answer that it gave before.
func TestCompact(t *testing.T) {
	t.Parallel()
	dir := made(t, 7)
	s := open(t, Options{Dir: dir, now: later})
	want := whole(t, s)
	parts, bytes := s.Compactable(always)
	if parts != 3 || bytes == 0 {
		t.Errorf("%d parts of %d bytes are to be compacted, want 3", parts, bytes)
	}
	if n := compactAll(t, s); n != 3 {
		t.Errorf("%d compactions, want 3", n)
	}
	for i := range 2 {
		if d := cmp.Diff(want, whole(t, s)); d != "" {
			t.Errorf("compacted, opened %d times (-before +after):\n%.1000s", i+1, d)
		}
		stats, err := s.Stats(context.Background())
		must(t, err)
		var got []string
		for _, p := range stats.Parts {
			got = append(got, fmt.Sprintf("%s %v %d %d", p.Part, p.Compacted, p.LastID, p.Events))
			if p.Events > 0 && p.Compacted && (store.DayOf(time.UnixMilli(p.MinMs)) != p.Day || store.DayOf(time.UnixMilli(p.MaxMs)) != p.Day) {
				t.Errorf("%s has events from %v to %v", p.Part, time.UnixMilli(p.MinMs), time.UnixMilli(p.MaxMs))
			}
		}
		// All of the generated events happened on the first day.
		expect := []string{"2026-11-22.2 true 2 120", "2026-11-22.3 true 4 120", "2026-11-22.4 true 6 120", "2026-11-23.2 true 0 0", "2026-11-24.2 true 0 0", "2026-11-25 false 7 60"}
		if d := cmp.Diff(expect, got); d != "" {
			t.Errorf("parts (-want +got):\n%s", d)
		}
		must(t, s.Close())
		s = open(t, Options{Dir: dir, now: later})
	}
}

// troubled is a fleet's log of some days as a collector with trouble received it: late events and slow ones, clocks that are
// ahead, that begin in 1970 or were never set, and lines that are no records.
func troubled(t *testing.T, s store.Store, ref store.Store, batches int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(11, 3))
	var gens []*storetest.Generator
	starts := []int{0, 24, 48, 72, 24 * -2, 24 * -500, 24 * 90, 24*3 + 15, -9} // hours
	for i, h := range starts {
		gens = append(gens, storetest.NewGenerator(uint64(i), storetest.Templates(t), 4, storetest.Start.Add(time.Duration(h)*time.Hour)))
	}
	for id := uint64(1); id <= uint64(batches); id++ {
		day := int(id-1) / 4
		tab := store.NewTable()
		storetest.Fill(tab, gens[min(day, 3)], 60)
		for range 3 {
			storetest.Fill(tab, gens[rng.IntN(len(gens))], 5)
		}
		for i, raw := range []string{"not a record", "type=X", "type=USER_TTY msg=audit(1.000:1): a", "node=web1.example.net type=USER_TTY msg=audit(1795334400.000:7): same",
			"node=web1.example.net type=USER_TTY msg=audit(1795334400.000:7): and again"} {
			host := []string{"web1.example.net", ""}[i%2]
			tab.Add(host, storetest.Parse(host, raw))
		}
		b := &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: id}
		for _, to := range []store.Store{s, ref} {
			must(t, to.Append(context.Background(), b))
		}
	}
}

// questions are all kinds of them about troubled days: by time, batch and from both ends.
func questions(batches int) map[string]*query.Query {
	all := storetest.Queries()
	maps.Copy(all, storetest.BatchQueries())
	for i := range 6 {
		day := storetest.Start.AddDate(0, 0, i-3)
		for _, h := range []int{0, 7, 16} {
			from := day.Truncate(24 * time.Hour).Add(time.Duration(h) * time.Hour)
			all[fmt.Sprintf("since %v", from)] = &query.Query{StartMs: from.UnixMilli(), Batches: true}
			all[fmt.Sprintf("an hour from %v", from)] = &query.Query{StartMs: from.UnixMilli(), EndMs: from.Add(time.Hour).UnixMilli(), Origin: true}
		}
	}
	for after := range batches {
		all[fmt.Sprintf("after batch %d", after)] = &query.Query{AfterBatch: uint64(after), Batches: true, Origin: true}
		all[fmt.Sprintf("a host after batch %d", after)] = &query.Query{AfterBatch: uint64(after), Batches: true, Nodes: []string{"web1.example.net"}}
	}
	all["lines"] = &query.Query{Unparsable: true, Batches: true}
	return all
}

// Whatever clocks say, answers are the same before and after compaction, and each event is in the file of its day where
// its clock can be trusted.
func TestCompactTimes(t *testing.T) {
	t.Parallel()
	batches := need.Size(20, 10)
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, now: later})
	ref := storetest.NewReference()
	troubled(t, s, ref, batches)
	all := questions(batches)
	answers := map[string][]string{}
	for name, q := range all {
		answers[name] = storetest.Collect(t, ref, q)
	}
	compared := 0
	compare := func(when string) {
		t.Helper()
		for _, name := range need.Turn(all, compared, 3) {
			q, want := all[name], slices.Clone(answers[name])
			if got := storetest.Collect(t, s, q); !slices.Equal(want, got) {
				t.Errorf("%s, %s (-reference +store):\n%.1000s", when, name, cmp.Diff(want, got))
			}
			backwards := *q
			backwards.Reverse = true
			slices.Reverse(want)
			if got := storetest.Collect(t, s, &backwards); !slices.Equal(want, got) {
				t.Errorf("%s, %s, the newest first (-reference +store):\n%.1000s", when, name, cmp.Diff(want, got))
			}
		}
		compared++
	}
	for i := 0; ; i++ {
		done, err := s.Compact(context.Background(), always)
		must(t, err)
		if done == nil {
			break
		}
		if i == 0 {
			compare("a day compacted")
		}
	}
	compare("all days compacted")
	must(t, s.Close())
	s = open(t, Options{Dir: dir, now: later})
	compare("opened again")
	stats, err := s.Stats(context.Background())
	must(t, err)
	parts := map[store.Day]int{}
	for _, p := range stats.Parts {
		if p.Compacted {
			parts[p.Day]++
		}
	}
	today := store.DayOf(storetest.Start)
	for i, day := range []store.Day{today, today + 1, today - 1, today - 2, today + 2, today + 3} {
		if parts[day] == 0 && (i < 2 || !testing.Short()) || parts[day] > mostParts {
			t.Errorf("%d parts of %s", parts[day], day)
		}
	}
	if len(parts) != 6 && !testing.Short() {
		t.Errorf("parts by day: %v", parts)
	}
}

// An older program read no time in some records, where this one reads one: their groups are not in order, and say nothing of
// when they were. They come into the file of their day all the same, and are found by their time.
func TestCompactReadSince(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir(), now: later})
	day := store.DayOf(storetest.Start)
	for id := uint64(1); id <= 9; id++ {
		tab := store.NewTable()
		for i := range 40 {
			host := []string{"", "a", "b"}[i%3]
			raw := fmt.Sprintf("type=USER_TTY msg=audit(%d.%03d:%d): text %d", storetest.Start.AddDate(0, 0, int(id/3)-i*7%4).Unix(), i%5, i%7, i)
			ev := storetest.Parse(host, raw)
			if i%4 != 1 && id != 5 {
				ev.Ms, ev.Serial = 0, 0
			}
			tab.Add(host, ev)
		}
		must(t, s.Append(context.Background(), &store.Batch{ID: id, Day: day + store.Day(id/3), Events: tab, LSN: id}))
	}
	q := &query.Query{Batches: true}
	want := storetest.Collect(t, s, q)
	slices.Sort(want)
	if n := compactAll(t, s); n < 3 || len(want) != 360 {
		t.Errorf("%d compactions, %d events", n, len(want))
	}
	got := storetest.Collect(t, s, q)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-before +after):\n%.1000s", d)
	}
	stats, err := s.Stats(context.Background())
	must(t, err)
	for _, p := range stats.Parts {
		if p.Events > 0 && p.Compacted && (store.DayOf(time.UnixMilli(p.MinMs)) != p.Day || store.DayOf(time.UnixMilli(p.MaxMs)) != p.Day) {
			t.Errorf("%s has events from %v to %v", p.Part, time.UnixMilli(p.MinMs), time.UnixMilli(p.MaxMs))
		}
	}
}

// An import's events come to the days in which they happened, however many these are, once it can no longer be taken
// back; what came meanwhile stays as it is.
func TestCompactImport(t *testing.T) {
	t.Parallel()
	at := time.Now()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, now: func() time.Time { return at }})
	today, oldest := store.DayOf(at), store.DayOf(at.AddDate(-3, 0, 0))
	add := func(id uint64, name string, start time.Time, step time.Duration, n int) {
		tab := store.NewTable()
		for i := range n {
			ms := start.Add(time.Duration(i) * step).UnixMilli()
			tab.Add("a", storetest.Parse("a", fmt.Sprintf("type=USER_TTY msg=audit(%d.%03d:%d): text", ms/1000, ms%1000, i)))
		}
		b := &store.Batch{ID: id, Day: today, Events: tab, LSN: 7}
		if name != "" {
			b.Import = &store.Import{Name: name}
		}
		must(t, s.Append(context.Background(), b))
	}
	add(1, "", at, time.Second, 5)
	add(2, "old", at.AddDate(-3, 0, 0), 24*time.Hour, 150)
	add(3, "old", at.AddDate(-3, 0, 60), 24*time.Hour, 100)
	add(4, "", at, time.Second, 5)
	want := whole(t, s)
	c := store.Compaction{After: time.Hour, ImportAfter: 24 * time.Hour, Oldest: 400}
	try := func(when string, due int) {
		t.Helper()
		if n, _ := s.Compactable(c); n != due {
			t.Errorf("%s: %d partitions are to be compacted, want %d", when, n, due)
		}
	}
	try("while batches come", 0)
	must(t, s.EndImport(context.Background(), "old"))
	try("at its end", 0)
	at = at.Add(23 * time.Hour)
	try("an hour too early", 0)
	at = at.Add(2 * time.Hour)
	try("a day later", 1)
	done, err := s.Compact(context.Background(), c)
	must(t, err)
	if len(done.Into) != 160 || done.Into[0].Day != oldest || done.Events != 250 {
		t.Errorf("%+v", done)
	}
	for range 2 {
		if d := cmp.Diff(want, whole(t, s)); d != "" {
			t.Errorf("(-before +after):\n%.1000s", d)
		}
		if list, err := s.Imports(context.Background()); len(list) != 0 || err != nil {
			t.Errorf("imports: %v, %v", list, err)
		}
		st, err := s.State(context.Background())
		if err != nil || st.ID != 4 || st.LSN != 7 {
			t.Errorf("state: %+v, %v", st, err)
		}
		must(t, s.Close())
		s = open(t, Options{Dir: dir, now: func() time.Time { return at }})
	}
}

// What of a running day is sealed is compacted where that is asked for, and the part that gets batches is not.
func TestCompactToday(t *testing.T) {
	t.Parallel()
	at := time.Now()
	s := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return at }})
	today := store.DayOf(at)
	add := func(id uint64) {
		tab := store.NewTable()
		ms := today.Time().UnixMilli()
		tab.Add("a", storetest.Parse("a", fmt.Sprintf("type=USER_TTY msg=audit(%d.%03d:%d): text", ms/1000, ms%1000, id)))
		must(t, s.Append(context.Background(), &store.Batch{ID: id, Day: today, Events: tab, LSN: id}))
	}
	add(1)
	must(t, s.Rotate(context.Background()))
	add(2)
	want := whole(t, s)
	if n, _ := s.Compactable(store.Compaction{Oldest: 400}); n != 0 {
		t.Errorf("%d partitions of a running day are to be compacted", n)
	}
	done, err := s.Compact(context.Background(), store.Compaction{Oldest: 400, Today: true})
	must(t, err)
	if done == nil || done.Events != 1 || len(done.From) != 1 {
		t.Fatalf("%+v", done)
	}
	add(3)
	if d := cmp.Diff(want, whole(t, s)[:len(want)]); d != "" {
		t.Errorf("(-before +after):\n%.1000s", d)
	}
}

// A day is divided by classes of retention: each event is in the part of its class, and all answers are what they
// were.
func TestCompactClasses(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 7), now: later})
	want := whole(t, s)
	of := always
	of.Classes = someClasses
	for {
		done, err := s.Compact(context.Background(), of)
		must(t, err)
		if done == nil {
			break
		}
	}
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("divided (-before +after):\n%.1000s", d)
	}
	stats, err := s.Stats(context.Background())
	must(t, err)
	c, seen := store.NewClassifier(someClasses), map[string]uint64{}
	for _, p := range stats.Parts {
		if !p.Compacted {
			continue
		}
		seen[p.Class] += p.Events
		snap, err := s.Snapshot(context.Background())
		must(t, err)
		for _, v := range snap.(*snapshot).parts {
			if v.p.part != p.Part {
				continue
			}
			for i := range v.entries {
				must(t, v.p.withGroup(v.entries[i].id, func(g *group.Group) error {
					return g.Each(func(host string, ev *event.Event) error {
						if name := someClasses.Name(c.Of(host, ev)); name != p.Class {
							t.Errorf("%s of class %q has an event of class %q", p.Part, p.Class, name)
						}
						return nil
					})
				}))
			}
		}
		must(t, snap.Close())
	}
	for _, name := range []string{"web1.*", "key audit-*", someClasses.Rest()} {
		if seen[name] == 0 {
			t.Errorf("no events of class %q: %v", name, seen)
		}
	}
	if _, ok := seen["mail*"]; ok {
		t.Errorf("a part was made for a class without events: %v", seen)
	}
}

// Parts of a day that have become many become fewer, also those that have a day's account of completeness: a day that was
// ended again and again.
func TestCompactMany(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir(), now: later})
	day := store.DayOf(storetest.Start)
	rows := func() (n uint64) {
		_, err := s.Ledger(context.Background(), []string{"web1"}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) {
			for _, c := range r.Counts {
				n += c.Records
			}
		})
		must(t, err)
		return n
	}
	for id := uint64(1); id <= 14; id++ {
		tab := store.NewTable()
		g := storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start)
		storetest.Fill(tab, g, 20)
		row := &ledger.Row{Start: day.Time().UnixMilli(), Length: ledger.Day, Counts: []ledger.Count{{Slot: 1, Records: 1, Events: 1}}}
		must(t, s.Append(context.Background(), &store.Batch{ID: id, Day: day, Events: tab, LSN: id, Ledger: []store.HostLedger{{Host: "web1", Rows: []*ledger.Row{row}}}}))
		must(t, s.Rotate(context.Background()))
		want, account := whole(t, s), rows()
		for {
			done, err := s.Compact(context.Background(), store.Compaction{Oldest: 400, Today: true})
			must(t, err)
			if done == nil {
				break
			}
		}
		if d := cmp.Diff(want, whole(t, s)); d != "" {
			t.Fatalf("batch %d (-before +after):\n%.1000s", id, d)
		}
		if n := rows(); n != account || n != id {
			t.Errorf("batch %d: %d records are accounted for, %d were before", id, n, account)
		}
		if n := len(s.parts); n > mostParts+1 {
			t.Errorf("batch %d: %d parts", id, n)
		}
	}
}
