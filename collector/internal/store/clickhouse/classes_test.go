package clickhouse

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var classesOf = store.Classes{{Hosts: "web*"}, {Key: "noise"}, {Hosts: "db*"}}

// classTable has events of each of classesOf and of the rest, of so many hosts of each kind.
func classTable(id uint64, n int) *store.Table {
	tab := store.NewTable()
	for i := range n {
		for _, host := range []string{"web", "db", "mail"} {
			name := fmt.Sprintf("%s%d", host, i)
			for serial, key := range []string{"(null)", `"noise"`} {
				tab.Add(name, storetest.Parse(name, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=59 key=%s", name, storetest.Start.Unix()+int64(id), i%1000, 10*id+uint64(serial), key)))
			}
		}
	}
	return tab
}

// dividedBatch makes a batch of a table as an outbox hands it over, divided by classes, and the root of its events.
func dividedBatch(t testing.TB, id uint64, day store.Day, tab *store.Table, classes store.Classes) (*store.Sealed, eventtree.Hash) {
	t.Helper()
	codec, err := group.NewCodec(1)
	must(t, err)
	t.Cleanup(func() { must(t, codec.Close()) })
	blob, _, root, err := codec.EncodeDivided(tab, tab.Divide(classes), true)
	must(t, err)
	g, err := codec.Open(blob)
	must(t, err)
	d, err := g.Division()
	must(t, err)
	return &store.Sealed{ID: id, Day: day, Division: d, Each: g.Each}, root
}

func TestClasses(t *testing.T) {
	for _, shape := range []cluster.Shape{{}, {Shards: 2}} {
		c := cluster.Start(t, shape)
		t.Run(fmt.Sprintf("%d shards", max(1, shape.Shards)), func(t *testing.T) {
			t.Run("killed between two inserts", func(t *testing.T) { killedBetween(t, c) })
			t.Run("a class is dropped", func(t *testing.T) { classDropped(t, c) })
			if shape.Shards == 0 {
				t.Run("several collectors", func(t *testing.T) { classesOfSeveral(t, c) })
				t.Run("too many classes", func(t *testing.T) { tooManyClasses(t, c) })
			}
		})
	}
}

var errKilled = errors.New("killed")

// A batch of several classes whose writer is killed before or behind any of its inserts is not there before it is stored again, and then each of its events once, in the parts
// that have rows of it already. Its sums are right at any time.
func killedBetween(t *testing.T, c *cluster.Cluster) {
	day := store.DayOf(storetest.Start)
	for at := 0; ; at++ {
		a := address(t, c)
		x := engineOf(t, a, "x")
		first, _ := dividedBatch(t, 1, day, classTable(1, 4), classesOf)
		must(t, x.Append(t.Context(), first))
		n := 0
		x.cluster.fault = func() error {
			if n++; n-1 == at {
				return errKilled
			}
			return nil
		}
		second, _ := dividedBatch(t, 2, day, classTable(2, 5), classesOf)
		err := x.Append(t.Context(), second)
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		there := 24
		if err == nil || n == 2*(c.Shape.Shards+2) { // behind the last insert: it is there
			there = 54
		}
		check := func(e *Engine, when string, want int) {
			t.Helper()
			st, err := e.Stats(t.Context())
			must(t, err)
			if found := len(texts(t, e, &query.Query{})); found != want || st.Events != uint64(want) || len(st.Parts) != 4 {
				t.Fatalf("%s, killed at %d: %d events, and %d of %d parts; want %d of 4", when, at, found, st.Events, len(st.Parts), want)
			}
		}
		check(engineOf(t, a, "y"), "of another collector", there)
		if at%3 == 0 { // a part goes meanwhile
			y := engineOf(t, a, "y")
			for d := range uint64(2) {
				later, _ := dividedBatch(t, d+1, day+3+store.Day(d), classTable(3, 1), store.Classes{{Hosts: "*"}})
				must(t, y.Append(t.Context(), later))
			}
		}
		e := x
		if at%2 == 0 {
			must(t, x.Close())
			e = engineOf(t, a, "x")
		}
		e.cluster.fault = nil
		for range 2 {
			must(t, e.Append(t.Context(), second))
		}
		for _, e := range []*Engine{e, engineOf(t, a, "z")} {
			st, err := e.Stats(t.Context())
			must(t, err)
			found, events := 0, uint64(0)
			for _, p := range st.Parts {
				if p.Day == day {
					events += p.Events
				}
			}
			must(t, store.Scan(t.Context(), e, &query.Query{EndMs: storetest.Start.UnixMilli() + 2999}, func(*event.Event) error { found++; return nil }))
			if sum := tally(t, e, &query.Query{EndMs: storetest.Start.UnixMilli() + 2999}, []query.Field{query.FieldNode}, nil); found != 54 || events != 54 || sum.Events != 54 {
				t.Fatalf("killed at %d: %d events, %d in sums, %d counted; want 54", at, found, events, sum.Events)
			}
		}
		if err == nil {
			if at < 2*3 {
				t.Errorf("only %d inserts", at)
			}
			return
		}
	}
}

// What one class has is dropped, and what others have of the same batches stays, proved by the log's root: whatever is changed, taken out or put in of that is told.
func classDropped(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x := engineOf(t, a, "x")
	day := store.DayOf(storetest.Start)
	roots := map[uint64]eventtree.Hash{}
	said := map[uint64][]store.Divided{}
	events := map[uint64]uint64{}
	for id := uint64(1); id <= 4; id++ {
		b, root := dividedBatch(t, id, day+store.Day(id/4), classTable(id, 3+int(id)), classesOf)
		roots[id], events[id] = root, 6*(3+id)
		said[id] = store.ParseWords(b.Division.Words(), events[id])
		must(t, x.Append(t.Context(), b))
	}
	before := texts(t, x, &query.Query{})
	ask := func(ids ...uint64) map[uint64]*store.Reread {
		t.Helper()
		var list []*store.Reread
		of := map[uint64]*store.Reread{}
		for _, id := range ids {
			list = append(list, &store.Reread{Batch: id, Day: day + store.Day(id/4), Events: events[id]})
			of[id] = list[len(list)-1]
		}
		must(t, x.Reread(t.Context(), list, true))
		return of
	}
	partial := func(r *store.Reread) bool {
		p := eventtree.NewPartial(r.Hashes)
		for _, d := range r.Around {
			_ = p.Around(int64(d.First), int64(d.Events), d.Proof)
		}
		root, ok := p.Root()
		return ok && root == roots[r.Batch]
	}
	for id, r := range ask(1, 2, 3, 4) {
		if r.Differs() != "" || !partial(r) || len(r.Around) != 4 || len(r.Lost(said[id])) != 0 {
			t.Fatalf("batch %d: %q, %d of it", id, r.Differs(), len(r.Around))
		}
	}
	st, err := x.Stats(t.Context())
	must(t, err)
	part := map[string]store.Part{}
	for _, p := range st.Parts {
		if p.Day == day {
			part[p.Class] = p.Part
		}
	}
	snap, err := x.Snapshot(t.Context())
	must(t, err)
	must(t, x.Drop(t.Context(), part["web*"], "retain = web*: 1d"))
	n := 0
	must(t, snap.Scan(t.Context(), &query.Query{}, func(*event.Event) error { n++; return nil }))
	if must(t, snap.Close()); n != len(before) {
		t.Errorf("a snapshot of before has %d events, want %d", n, len(before))
	}
	want := slices.DeleteFunc(slices.Clone(before), func(s string) bool {
		return strings.HasPrefix(s, "web") && !strings.Contains(s, fmt.Sprintf("audit(%d.", storetest.Start.Unix()+4))
	})
	if got := texts(t, x, &query.Query{}); !slices.Equal(got, want) {
		t.Errorf("%d events, want %d of %d", len(got), len(want), len(before))
	}
	drops, err := x.Drops(t.Context())
	must(t, err)
	if len(drops) != 1 || drops[0].Class != "web*" || drops[0].First != 1 || drops[0].Last != 3 || drops[0].Events != 2*(4+5+6) || drops[0].DayGone {
		t.Fatalf("drops: %+v", drops)
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // its copies of rows may still be there
		r := ask(2)[2]
		lost := r.Lost(said[2])
		if len(lost) == 1 && lost[0].Name == "web*" && len(r.Around) == 3 && len(r.Drops) == 1 {
			r.Without(lost[0])
			if r.Differs() != "" || !partial(r) || r.Rest() != events[2]-lost[0].Events {
				t.Errorf("what stays of batch 2: %q, %d events, the root: %v", r.Differs(), r.Rest(), partial(r))
			}
			break
		}
		if time.Now().After(until) {
			t.Fatalf("batch 2: lost %+v, %d around, %+v", lost, len(r.Around), r.Drops)
		}
	}
	counts, err := x.Counts(t.Context(), day, day)
	must(t, err)
	if len(counts) != 3 || store.CountOf(counts[2]) != events[2]-2*5 {
		t.Errorf("counts: %v", counts)
	}
	// Attacks on what stays.
	for what, sql := range map[string]string{
		"a text is changed":  "UPDATE text = concat(substring(text, 1, 60), 'X', substring(text, 62)) WHERE batch = 2 AND node = 'db1'",
		"an event is gone":   "DELETE WHERE batch = 3 AND node = 'db1'",
		"a class is deleted": "DELETE WHERE batch = 1 AND node LIKE 'db%'",
	} {
		for _, node := range c.Nodes {
			_, err := node.Query("ALTER TABLE " + a.Database + ".events " + sql)
			must(t, err)
		}
		found := false
		for until := time.Now().Add(time.Minute); !found && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
			for id, r := range ask(1, 2, 3) {
				for _, d := range r.Lost(said[id]) {
					if slices.ContainsFunc(r.Drops, func(x store.DroppedPart) bool { return store.IsDropOf(x.Class, d.Name) }) {
						r.Without(d)
					}
				}
				found = found || r.Differs() != "" && !strings.Contains(what, "text") || strings.Contains(what, "text") && !partial(r)
			}
		}
		if !found {
			t.Errorf("%s, and nothing is told", what)
		}
	}
}

// Collectors with the same rules have the same parts, those with others have others, and each goes on where it was.
func classesOfSeveral(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
	day := store.DayOf(storetest.Start)
	for id := uint64(1); id <= 2; id++ {
		for i, e := range []*Engine{x, y} {
			b, _ := dividedBatch(t, id, day, classTable(id+uint64(20*i), 2), classesOf[i*int(id-1):]) // y's change
			must(t, e.Append(t.Context(), b))
		}
	}
	must(t, x.Append(t.Context(), sealed(3, classTable(9, 1)))) // and x has none any more
	st, err := engineOf(t, a, "z").Stats(t.Context())
	must(t, err)
	got := map[string]uint64{}
	for _, p := range st.Parts {
		got[p.Class] += p.Events
		if p.Sealed {
			t.Errorf("%s of %q is sealed", p.Part, p.Class)
		}
	}
	for class, n := range map[string]uint64{"web*": 12, "key noise": 18, "db*": 8, classesOf.Rest(): 6, classesOf[1:].Rest(): 4, "": 6} {
		if got[class] != n {
			t.Errorf("of %q %d events, want %d: %v", class, got[class], n, got)
		}
	}
	if n := len(texts(t, engineOf(t, a, "z"), &query.Query{})); n != 54 || len(st.Parts) != 6 {
		t.Errorf("%d events in %d parts", n, len(st.Parts))
	}
	must(t, y.Rotate(t.Context()))
	b, _ := dividedBatch(t, 4, day, classTable(7, 1), classesOf)
	must(t, y.Append(t.Context(), b))
	st, err = engineOf(t, a, "z").Stats(t.Context())
	must(t, err)
	sealedParts := 0
	for _, p := range st.Parts {
		if p.Sealed {
			sealedParts++
		}
	}
	if n := len(texts(t, engineOf(t, a, "z"), &query.Query{})); n != 60 || sealedParts == 0 {
		t.Errorf("%d events, %d parts are ended of %d", n, sealedParts, len(st.Parts))
	}
}

// Rules that come and go have a day of no more than so many parts: what is of further classes goes to one part, which is kept for the longest time.
func tooManyClasses(t *testing.T, c *cluster.Cluster) {
	e := engineOf(t, address(t, c), "x")
	day := store.DayOf(storetest.Start)
	begun, words := time.Now(), ""
	for id := uint64(1); id <= mostParts/40+2; id++ {
		var classes store.Classes
		tab := store.NewTable()
		for i := range 40 {
			name := fmt.Sprintf("h%d-%d", id, i)
			classes = append(classes, store.Class{Hosts: name})
			tab.Add(name, storetest.Parse(name, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.000:1): text", name, storetest.Start.Unix())))
		}
		b, _ := dividedBatch(t, id, day, tab, classes)
		must(t, e.Append(t.Context(), b))
		words = b.Division.Words()
	}
	t.Logf("%d batches of 40 classes: %v", mostParts/40+2, time.Since(begun))
	st, err := e.Stats(t.Context())
	must(t, err)
	last := st.Parts[slices.IndexFunc(st.Parts, func(p store.PartStats) bool { return p.Class == store.Undivided })]
	if n := len(texts(t, e, &query.Query{})); n != mostParts+80 || len(st.Parts) != mostParts+1 || last.Events != 80 {
		t.Errorf("%d events, %d parts, %d events in the last", n, len(st.Parts), last.Events)
	}
	r := []*store.Reread{{Batch: mostParts/40 + 2, Day: day, Events: 40}}
	must(t, e.Reread(t.Context(), r, true))
	if r[0].Differs() != "" || len(r[0].Around) != 40 {
		t.Errorf("read again: %q, %d around", r[0].Differs(), len(r[0].Around))
	}
	counts, err := e.Counts(t.Context(), day, day)
	must(t, err)
	for _, d := range store.DividedOf(words, 40) {
		if n := d.CountIn(counts[mostParts/40+2]); n != 1 {
			t.Errorf("%d events of %q, want 1", n, d.Name)
		}
	}
	must(t, e.Append(t.Context(), dayLater(50, 9, table(1))))
	must(t, e.Drop(t.Context(), last.Part, "max_days = 400"))
	if n := len(texts(t, e, &query.Query{})); n != mostParts {
		t.Errorf("%d events without the last part, want %d", n, mostParts)
	}
}

// Which part a class gets follows from its name, and no part gets a second class.
func TestPartFor(t *testing.T) {
	a := &account{parts: map[store.Part]*store.PartStats{}, dropped: map[store.Part]time.Time{}}
	put := func(day store.Day, class string) store.Part {
		part, is := a.partFor(day, class)
		if was := a.parts[part]; was != nil && was.Class != is {
			t.Fatalf("%s is for %q, and has %q", part, is, was.Class)
		}
		a.parts[part] = &store.PartStats{Part: part, Class: is}
		return part
	}
	if p := put(5, ""); p.N != 1 {
		t.Errorf("of no class: %s", p)
	}
	web := put(5, "web*")
	if other := put(6, "web*"); other.N != web.N || web.N < ofClass || web.N > math.MaxInt32 || web.N%ofClass != 0 {
		t.Errorf("web*: %s and %s", web, other)
	}
	if p := put(5, "web*"); p != web {
		t.Errorf("again: %s", p)
	}
	delete(a.parts, web)
	a.dropped[web] = time.Now()
	if p := put(5, "web*"); p.N != web.N+1 {
		t.Errorf("behind one that is dropped: %s", p)
	}
	// Another class has its number.
	a.parts[store.Part{Day: 7, N: web.N}] = &store.PartStats{Class: "db*"}
	if p := put(7, "web*"); p.N != web.N+ofClass {
		t.Errorf("beside another: %s", p)
	}
	for i := range 500 {
		put(8, fmt.Sprint("class ", i))
	}
	if n := len(a.lastOf(8)); n != mostParts+1 {
		t.Errorf("%d parts of a day", n)
	}
	if p := put(8, ""); p.N != 1 {
		t.Errorf("of no class, on a full day: %s", p)
	}
}
