package clickhouse

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Classes that one collector drops while another one stores batches of them.
func TestClassesDroppedMeanwhile(t *testing.T) {
	a := address(t, cluster.Start(t, cluster.Shape{}))
	t.Run("with the last row", func(t *testing.T) { droppedWithLastRow(t, a) })
	t.Run("between telling and mark", func(t *testing.T) { droppedBeforeMark(t, a) })
	t.Run("left by who dropped it", func(t *testing.T) { droppedAndLeft(t, a) })
	t.Run("two at once", func(t *testing.T) { droppedTwoAtOnce(t, a) })
	t.Run("begun in what is dropped", func(t *testing.T) { begunInDropped(t, a) })
	t.Run("dropped elsewhere", func(t *testing.T) { droppedElsewhere(t, a) })
	t.Run("hosts of what is dropped", func(t *testing.T) { hostsDropped(t, a) })
	t.Run("at any insert", func(t *testing.T) { droppedAtAnyInsert(t, a) })
}

// dropping is a collector x with a batch of classesOf, and y, which takes the day of that for old, knows what x has, and which parts these are, by class. Each time has a day and
// stores of its own, so that many have one cluster.
type dropping struct {
	a      *Address
	time   int
	x, y   *Engine
	part   map[string]store.Part
	second *store.Sealed // of 30 events, 10 of them of web*
}

func newDropping(t *testing.T, a *Address, n int) *dropping {
	t.Helper()
	d := &dropping{a: a, time: n, part: map[string]store.Part{}, x: engineOf(t, a, fmt.Sprint("x", n)), y: engineOf(t, a, fmt.Sprint("y", n))}
	day := store.DayOf(time.Now()) - 2000 + store.Day(20*n)
	first, _ := dividedBatch(t, 1, day, classTable(d.id(1), 4), classesOf)
	must(t, d.x.Append(t.Context(), first))
	later, _ := dividedBatch(t, 1, day+9, classTable(d.id(8), 1), store.Classes{{Hosts: "*"}})
	must(t, d.y.Append(t.Context(), later))
	st, err := d.y.Stats(t.Context())
	must(t, err)
	for _, p := range st.Parts {
		if p.Day == day {
			d.part[p.Class] = p.Part
		}
	}
	d.second, _ = dividedBatch(t, 2, day, classTable(d.id(2), 5), classesOf)
	return d
}

// id gives a table's events a time of their own.
func (d *dropping) id(n int) uint64 { return uint64(10*d.time + n) }

// found counts what an engine that knows what was dropped finds of the two batches.
func (d *dropping) found(t *testing.T, e *Engine) int {
	t.Helper()
	e.mu.Lock()
	e.account = nil // as it is some seconds later
	e.mu.Unlock()
	start := storetest.Start.UnixMilli() + 10_000*int64(d.time)
	return len(texts(t, e, &query.Query{StartMs: start, EndMs: start + 4999}))
}

// untold returns of which classes of a batch events are gone, and nothing says that they were dropped.
func untold(t *testing.T, x *Engine, b *store.Sealed, events uint64) (list []string) {
	t.Helper()
	r := &store.Reread{Batch: b.ID, Day: b.Day, Events: events}
	must(t, x.Reread(t.Context(), []*store.Reread{r}, true))
	for _, d := range r.Lost(store.ParseWords(b.Division.Words(), events)) {
		if !slices.ContainsFunc(r.Drops, func(x store.DroppedPart) bool { return store.IsDropOf(x.Class, d.Name) }) {
			list = append(list, d.Name)
		}
	}
	return list
}

// The row that was written last of a batch goes with a class that is dropped by somebody who does not know of that batch yet, and its collector is not heard of again: what the
// batch has of other classes is found by everybody.
func droppedWithLastRow(t *testing.T, a *Address) {
	for i, class := range []string{classesOf.Rest(), "web*"} {
		d := newDropping(t, a, i)
		must(t, d.x.Append(t.Context(), d.second))
		must(t, d.x.Close())
		must(t, d.y.Drop(t.Context(), d.part[class], "retain"))
		want := 54 - []int{9, 18}[i]
		for who, e := range map[string]*Engine{"who dropped it": d.y, "another one": engineOf(t, a, "z")} {
			if n := d.found(t, e); n != want {
				t.Errorf("%q dropped: %s finds %d events, want %d", class, who, n, want)
			}
		}
		x := engineOf(t, a, d.x.opts.Store)
		must(t, x.Append(t.Context(), d.second)) // its outbox has it, for it ended before it knew
		if n := d.found(t, x); n != want {
			t.Errorf("%q dropped, and its batch comes again: %d events, want %d", class, n, want)
		}
		if list := untold(t, x, d.second, 30); list != nil {
			t.Errorf("%q dropped: of %q nothing is told", class, list)
		}
	}
}

// A batch that comes between what is told of a part and its mark is told before that is deleted.
func droppedBeforeMark(t *testing.T, a *Address) {
	d := newDropping(t, a, 2)
	done := false
	d.y.cluster.fault = func() error {
		if !done {
			done = true
			must(t, d.x.Append(t.Context(), d.second))
		}
		return nil
	}
	must(t, d.y.Drop(t.Context(), d.part["web*"], "retain"))
	list, err := d.x.Drops(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].First != 1 || list[0].Last != 2 || list[0].Events != 18 || list[0].By != d.y.opts.Store || list[0].Why != "retain" {
		t.Errorf("told: %+v", list)
	}
	if list := untold(t, d.x, d.second, 30); list != nil {
		t.Errorf("of %q nothing is told", list)
	}
}

// Who drops a part and dies behind the mark has told of what was there before: whoever deletes it tells the rest.
func droppedAndLeft(t *testing.T, a *Address) {
	d := newDropping(t, a, 3)
	n := 0
	d.y.cluster.fault = func() error {
		n++
		switch n {
		case 1:
			must(t, d.x.Append(t.Context(), d.second))
		case 7: // behind the hosts, that it is about to, and the mark: what is told later
			return errKilled
		}
		return nil
	}
	must(t, d.y.Drop(t.Context(), d.part["web*"], "retain"))
	must(t, d.y.Close())
	must(t, engineOf(t, a, "z").delete(t.Context(), &drop{part: d.part["web*"], class: "web*"}))
	if list := untold(t, d.x, d.second, 30); list != nil {
		t.Errorf("of %q nothing is told", list)
	}
}

// Of a batch that is in two parts, as it was stored anew while the first was dropped, and both of which are dropped now, something is told: each is told of it.
func droppedTwoAtOnce(t *testing.T, a *Address) {
	d := newDropping(t, a, 60)
	must(t, d.x.Append(t.Context(), d.second))
	part := d.part["web*"]
	other := part
	other.N++
	_, of, err := d.y.cluster.shards(t.Context())
	must(t, err)
	tell := func(p store.Part) uint64 {
		t.Helper()
		told, err := d.y.tellings(t.Context(), of["1"], p)
		must(t, err)
		if x := told[d.x.opts.Store]; x != nil {
			return x.Last
		}
		return 0
	}
	d.storedAnew(t, part)
	for i, p := range []store.Part{part, other} {
		must(t, d.y.cluster.say(t.Context(), of["1"], []string{droppedName}, []string{dropMark(p, time.Now())}))
		if i == 0 && (tell(part) != 1 || tell(other) != 2) {
			t.Errorf("the first is dropped: told of batches up to %d, and of the other one %d, want 1 and 2", tell(part), tell(other))
		}
	}
	if tell(part) != 2 || tell(other) != 2 {
		t.Errorf("both are dropped: told of batches up to %d and %d, want 2 of each", tell(part), tell(other))
	}
}

// storedAnew has the rows of the second batch in a part stand in the one behind it, too.
func (d *dropping) storedAnew(t *testing.T, part store.Part) {
	t.Helper()
	const others = "store, batch, events, records, bytes, min_ms, max_ms, again, class, first, proof"
	must(t, d.y.cluster.nodes[0].conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s.batches (day, part, %s) SELECT day, part + 1, %s FROM %s.batches WHERE batch = 2 AND day = %d AND part = %d",
		d.a.Database, others, others, d.a.Database, dayNumber(part.Day), part.N)))
}

// A batch of which there are rows in a part that was dropped meanwhile, and anew in another one, goes on in that, wherever what is stored now goes.
func begunInDropped(t *testing.T, a *Address) {
	for i := range 2 {
		d := newDropping(t, a, 61+i)
		must(t, d.x.Append(t.Context(), d.second))
		parts := []store.Part{d.part["web*"], d.part["web*"], d.part["web*"]}
		parts[1].N, parts[2].N = parts[0].N+1, parts[0].N+2
		d.storedAnew(t, parts[0])
		x := engineOf(t, a, d.x.opts.Store)
		known, err := x.known(t.Context(), 0)
		must(t, err)
		first, err := x.first(t.Context())
		must(t, err)
		now := *known
		now.dropped = map[store.Part]time.Time{parts[i]: time.Now()}
		now.parts[parts[2]] = &store.PartStats{Part: parts[2], Class: "web*"}
		rows, err := x.beginBatch(t.Context(), first, d.second, &now)
		must(t, err)
		for _, r := range rows {
			if r.class == "web*" && r.part != parts[1-i] {
				t.Errorf("%s is dropped, and the batch goes to %s, want %s", parts[i], r.part, parts[1-i])
			}
		}
	}
}

// An answer has a part that its own collector has dropped only while no other one may delete it.
func TestReadsDropped(t *testing.T) {
	part := store.Part{N: 1}
	for age, want := range map[time.Duration]bool{0: true, leftTime - time.Hour: false} {
		e := &Engine{drops: []drop{{part: part, until: 3, marked: time.Now().Add(-age)}}}
		if e.reads(3)[part] != want || e.reads(4)[part] {
			t.Errorf("%v after it was dropped: %v", age, e.reads(3))
		}
	}
}

// One answer at most fails of who does not know yet that another has dropped a part: the next question asks what there is.
func droppedElsewhere(t *testing.T, a *Address) {
	d := newDropping(t, a, 50)
	z := engineOf(t, a, "z")
	if n := d.found(t, z); n != 24 {
		t.Fatalf("%d events before", n)
	}
	must(t, d.y.Drop(t.Context(), d.part["web*"], "retain"))
	start, n := storetest.Start.UnixMilli()+10_000*int64(d.time), 0
	ask := func() error {
		n = 0
		return store.Scan(t.Context(), z, &query.Query{StartMs: start, EndMs: start + 4999}, func(*event.Event) error { n++; return nil })
	}
	if err := ask(); !errors.Is(err, ErrCluster) {
		t.Errorf("of what was dropped meanwhile: %v", err)
	}
	if err := ask(); err != nil || n != 16 {
		t.Errorf("asked again: %d events, %v", n, err)
	}
}

// Where the account is forgotten meanwhile, for the cluster is another one, what a batch or a drop would add to it is not added.
func TestForgottenAccount(t *testing.T) {
	e := &Engine{}
	e.takeIn([]row{{batch: 1}})
	if e.account.gone(store.Part{}).without(map[store.Part]bool{{}: true}) != nil {
		t.Error("there is an account")
	}
}

// Of each part that is dropped the hosts are kept whose events it had, of whatever class it is, and when these were; of one that was not dropped after all nothing is said.
func hostsDropped(t *testing.T, a *Address) {
	x, y := engineOf(t, a, "xh"), engineOf(t, a, "yh")
	day := store.DayOf(time.Now()) - 400
	classes := store.Classes{{Hosts: "web0"}, {Key: "noise"}, {Hosts: "web*"}}
	line := func(tab *store.Table, host string, at time.Time, serial int, key string) {
		tab.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=59 key=%s", host, at.Unix(), serial, key)))
	}
	noon := day.Time().Add(12 * time.Hour)
	tab := store.NewTable()
	for i, host := range []string{"web0", "web1", "db0"} {
		line(tab, host, noon.Add(time.Duration(i)*time.Minute), 1, "(null)")
		line(tab, host, noon.Add(time.Duration(i)*time.Minute+time.Second), 2, `"noise"`)
		line(tab, host, noon.Add(-24*time.Hour), 3, "(null)")
		line(tab, host, noon.Add(-900*24*time.Hour), 4, "(null)") // of a time that cannot be
	}
	b, _ := dividedBatch(t, 1, day, tab, classes)
	must(t, x.Append(t.Context(), b))
	for i, id := range []uint64{2, 3} { // one that is not divided, and one of the day that goes on
		tab := store.NewTable()
		line(tab, "db0", noon.Add(time.Duration(i)*time.Hour), 10+i, "(null)")
		b := sealed(id, tab)
		b.Day = day
		must(t, x.Append(t.Context(), b))
		must(t, x.Rotate(t.Context()))
	}
	since := time.Now().Unix()*1000 - 1 // the servers say whole seconds
	said := func() (out []string) {
		t.Helper()
		list, err := x.MemberGone(t.Context(), "xh", nil, since)
		must(t, err)
		for _, h := range list {
			out = append(out, fmt.Sprintf("%s of %q: %d to %d", h.Host, h.Class, (h.FromMs-noon.UnixMilli())/1000, (h.ToMs-noon.UnixMilli())/1000))
		}
		return out
	}
	later, _ := dividedBatch(t, 1, day+9, classTable(900, 1), store.Classes{{Hosts: "*"}})
	must(t, y.Append(t.Context(), later))
	st, err := y.Stats(t.Context())
	must(t, err)
	for _, p := range st.Parts {
		if p.Day != day || p.Events == 0 {
			continue
		}
		before := said()
		must(t, y.Drop(t.Context(), p.Part, "retain"))
		want := map[string][]string{
			"web0":         {`web0 of "web0": -86400 to -86400`, `web0 of "web0": 0 to 1`},
			"key noise":    {`db0 of "key noise": 121 to 121`, `web1 of "key noise": 61 to 61`},
			"web*":         {`web1 of "web*": -86400 to -86400`, `web1 of "web*": 60 to 60`},
			classes.Rest(): {fmt.Sprintf(`db0 of %q: -86400 to -86400`, classes.Rest()), fmt.Sprintf(`db0 of %q: 120 to 120`, classes.Rest())},
			"":             {fmt.Sprintf(`db0 of "": %d to %[1]d`, 3600*(p.Part.N-1))},
		}[p.Class]
		got := slices.DeleteFunc(said(), func(s string) bool { return slices.Contains(before, s) })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("dropped %s of %q:\n%s", p.Part, p.Class, d)
		}
	}
	if list, err := x.OwnGone(t.Context(), []string{"db0"}, []store.Part{{Day: day, N: 1}, {Day: day, N: 2}, {Day: day, N: 7}}); err != nil || len(list) != 2 || list[0].Class != "" || list[1].FromMs != noon.Add(time.Hour).UnixMilli() {
		t.Errorf("of some parts: %+v, %v", list, err)
	}
	if list, err := x.OwnGone(t.Context(), nil, nil); err != nil || len(list) != 0 {
		t.Errorf("of none: %+v, %v", list, err)
	}
	if list, err := x.MemberGone(t.Context(), "xh", []string{"web1"}, since); err != nil || len(list) != 3 {
		t.Errorf("of web1: %v, %v", list, err)
	}
	if list, err := x.MemberGone(t.Context(), "xh", nil, time.Now().UnixMilli()); err != nil || len(list) != 0 {
		t.Errorf("since now: %v, %v", list, err)
	}
}

// A class is dropped before or behind any insert of a batch that has events of it, and who stores that goes on, or dies there and stores it once more: what of the batch is not
// found is told, and it is only where its rows were there before the drop.
func droppedAtAnyInsert(t *testing.T, a *Address) {
	for i, c := range []struct {
		at   int // before or behind the insert of events, of rows, and of what says that it is stored
		dies bool
	}{{1, false}, {1, true}, {3, false}, {3, true}, {4, false}, {4, true}, {5, true}} {
		at, dies := c.at, c.dies
		d := newDropping(t, a, 4+i)
		n := 0
		d.x.cluster.fault = func() error {
			if n++; n-1 != at {
				return nil
			}
			must(t, d.y.Drop(t.Context(), d.part["web*"], "retain"))
			if dies {
				return errKilled
			}
			return nil
		}
		err := d.x.Append(t.Context(), d.second)
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if n <= at {
			t.Fatalf("only %d inserts", n/2)
		}
		must(t, d.x.Close())
		x := engineOf(t, a, d.x.opts.Store)
		must(t, x.Append(t.Context(), d.second))
		want := 46
		if at >= 4 && !dies || at == 5 {
			want = 36
		}
		for _, e := range []*Engine{x, d.y} {
			if n := d.found(t, e); n != want {
				t.Errorf("dropped at %d, dies %v: %d events are found, want %d", at, dies, n, want)
			}
		}
		if list := untold(t, x, d.second, 30); list != nil {
			t.Errorf("dropped at %d, dies %v: of %q nothing is told", at, dies, list)
		}
	}
}
