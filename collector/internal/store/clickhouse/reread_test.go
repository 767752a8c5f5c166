package clickhouse

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// mixedTable has events of several hosts, of hosts that are not told apart, and with records of every form.
func mixedTable(t *testing.T, seed uint64) *store.Table {
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(seed, storetest.Templates(t), 3, storetest.Start), 200)
	for i, host := range []string{"", "a", "b"} {
		ev := storetest.Parse(host, fmt.Sprintf("node=n%d type=USER_TTY msg=audit(%d.000:%d): a", i, storetest.Start.Unix(), i))
		tab.Add(host, ev)
	}
	return tab
}

// What is read again of a batch has the root that its group has, from each shard, inserted twice or not; and what was changed, taken out or put in since is told.
func reread(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	e := engineOf(t, a, "x")
	codec, err := group.NewCodec(1)
	must(t, err)
	defer func() { must(t, codec.Close()) }()
	roots := map[uint64][32]byte{}
	events := map[uint64]uint64{}
	for id := range uint64(3) {
		tab := mixedTable(t, id+1)
		_, sum, root, err := codec.EncodeWithRoot(tab)
		must(t, err)
		roots[id+1], events[id+1] = root, sum.Events
		must(t, e.Append(t.Context(), sealed(id+1, tab)))
	}
	day := store.DayOf(storetest.Start)
	ask := func(columns bool) (list []*store.Reread) {
		t.Helper()
		for id := range uint64(3) {
			list = append(list, &store.Reread{Batch: id + 1, Day: day, Events: events[id+1]})
		}
		must(t, e.Reread(t.Context(), list, columns))
		return list
	}
	root := func(r *store.Reread) [32]byte {
		tree := eventtree.NewTree(len(r.Hashes))
		for _, h := range r.Hashes {
			tree.Add(h)
		}
		return tree.Root()
	}
	for _, columns := range []bool{false, true} {
		for _, r := range ask(columns) {
			if d := r.Differs(); d != "" || root(r) != roots[r.Batch] || len(r.Mixed) != 1 || len(r.Drops) > 0 {
				t.Fatalf("columns %v: batch %d: %q, %d mixed, the same root: %v", columns, r.Batch, d, len(r.Mixed), root(r) == roots[r.Batch])
			}
		}
	}
	counts, err := e.Counts(t.Context(), day, day)
	must(t, err)
	if store.CountOf(counts[2]) != events[2] || len(counts) != 3 {
		t.Errorf("counts: %v", counts)
	}
	if counts, err := e.Counts(t.Context(), day+1, day+9); err != nil || len(counts) != 0 {
		t.Errorf("counts of other days: %v, %v", counts, err)
	}
	mutations := 0
	run := func(sql string) {
		t.Helper()
		if strings.HasPrefix(sql, "ALTER") {
			mutations++
		}
		for _, n := range c.Nodes {
			if _, err := n.Query(strings.ReplaceAll(sql, "DB.", a.Database+".")); err != nil {
				t.Fatal(err)
			}
		}
		for until := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			left := 0
			for _, n := range c.Nodes {
				got, err := n.Query("SELECT countIf(is_done = 1) FROM system.mutations WHERE database = '" + a.Database + "'") // none is listed until the server has heard of it
				if err != nil || strings.TrimSpace(got) != fmt.Sprint(mutations) {
					left++
				}
			}
			if left == 0 {
				return
			}
			if time.Now().After(until) {
				t.Fatal("a mutation is not done")
			}
		}
	}
	second := func(columns bool) (*store.Reread, string) { r := ask(columns)[1]; return r, r.Differs() }
	run("ALTER TABLE DB.events UPDATE received = received + 1 WHERE batch = 2 AND seq = 7")
	if r, d := second(false); d != "" || root(r) == roots[2] {
		t.Errorf("a receipt changed: %q, the same root: %v", d, root(r) == roots[2])
	}
	run("ALTER TABLE DB.events UPDATE received = received - 1 WHERE batch = 2 AND seq = 7")
	run("ALTER TABLE DB.events UPDATE f_exe = '/bin/true', f_type = arraySlice(f_type, 2) WHERE batch = 2 AND seq = 9")
	if r, d := second(false); d != "" || root(r) != roots[2] {
		t.Errorf("columns changed, and not looked at: %q", d)
	}
	if _, d := second(true); !strings.Contains(d, "1 events are not found by what they say") {
		t.Errorf("columns changed: %q", d)
	}
	run("ALTER TABLE DB.events DELETE WHERE batch = 2 AND seq < 3")
	if r, d := second(false); r.Gone() != 3 || !strings.Contains(d, fmt.Sprintf("3 of its %d events are GONE", events[2])) {
		t.Errorf("rows deleted: %q", d)
	}
	// A row at a place that the batch does not have, and another one at a place that it has.
	for _, seq := range []string{"toUInt32(seq + 100000)", "toUInt32(seq + 1)"} {
		run("INSERT INTO DB.events (day, part, node, ts_ms, serial, batch, store, seq, host, counted, text, size, received) SELECT day, part, node, ts_ms, serial, batch, store, " + seq + ", host, counted, text, size, received FROM DB.events WHERE batch = 2 AND seq = 50")
	}
	if r, d := second(false); r.Strange != 2 || !strings.Contains(d, "2 events were PUT IN") {
		t.Errorf("rows put in: %d, %q", r.Strange, d)
	}
	if d := ask(true)[0].Differs(); d != "" {
		t.Errorf("another batch: %q", d)
	}
	if n := len(texts(t, e, &query.Query{Unparsable: true})); n == 0 {
		t.Error("nothing is found")
	}
}

// A part that one collector drops is told to each that has batches in it: which, why, and by whom. A batch in it is dropped, and not gone.
func dropsAreTold(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x, y, z := engineOf(t, a, "x"), engineOf(t, a, "y"), engineOf(t, a, "z")
	for id := range uint64(2) {
		must(t, x.Append(t.Context(), sealed(id+1, table(10))))
		must(t, y.Append(t.Context(), sealed(id+5, table(7))))
	}
	for i, e := range []*Engine{x, y, z} {
		must(t, e.Append(t.Context(), dayLater(9, 9, table(1+i))))
	}
	if list, err := x.Drops(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("before: %v, %v", list, err)
	}
	day := store.DayOf(storetest.Start)
	must(t, x.Drop(t.Context(), store.Part{Day: day, N: 1}, "max_days = 1"))
	for e, want := range map[*Engine]store.DroppedPart{x: {First: 1, Last: 2, Batches: 2, Events: 20}, y: {First: 5, Last: 6, Batches: 2, Events: 14}} {
		list, err := e.Drops(t.Context())
		must(t, err)
		for until := time.Now().Add(time.Minute); len(list) == 1 && !list[0].DayGone && time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
			list, err = e.Drops(t.Context()) // y has read what there is some seconds ago
			must(t, err)
		}
		if len(list) != 1 {
			t.Fatalf("drops: %+v", list)
		}
		d := list[0]
		if d.First != want.First || d.Last != want.Last || d.Batches != want.Batches || d.Events != want.Events || d.By != "x" || d.Why != "max_days = 1" || d.Part != (store.Part{Day: day, N: 1}) || !d.DayGone || d.MinMs == 0 {
			t.Errorf("drops of %s: %+v", e.opts.Store, d)
		}
	}
	if list, err := z.Drops(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("of who has nothing in it: %v, %v", list, err)
	}
	r := []*store.Reread{{Batch: 5, Day: day, Events: 7}, {Batch: 9, Day: day + 9, Events: 2}}
	must(t, y.Reread(t.Context(), r, true))
	if len(r[0].Drops) == 0 || r[0].Gone() != 7 || len(r[1].Drops) > 0 || r[1].Differs() != "" {
		t.Errorf("read again: %+v %+v", r[0], r[1])
	}
}

// The account of a place says that a day is dropped once the cluster has no part of it.
func accountOfDrops(t *testing.T, c *cluster.Cluster) {
	p := open(t, t.TempDir(), address(t, c))
	day := store.DayOf(storetest.Start)
	for d := range store.Day(2) {
		row := &ledger.Row{Start: (day + d).Time().UnixMilli(), Length: ledger.Hour, Counts: []ledger.Count{{Slot: 1, Records: 7, Events: 7}}}
		must(t, p.Append(t.Context(), &store.Batch{ID: uint64(d) + 1, Day: day + d, Events: table(7), LSN: uint64(d) + 1, Ledger: []store.HostLedger{{Host: "a", Rows: []*ledger.Row{row}}}}))
	}
	for until := time.Now().Add(time.Minute); p.Delivered() != math.MaxUint64 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
	}
	must(t, p.Drop(t.Context(), store.Part{Day: day, N: 1}, "max_days = 1"))
	gone := map[store.Day]uint64{}
	_, err := p.Ledger(t.Context(), []string{"a"}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) {
		for _, x := range r.Entries {
			if x.Cause == ledger.Retention {
				gone[store.Day(r.Start/ledger.Day)] += x.N
			}
		}
	})
	must(t, err)
	if len(gone) != 1 || gone[day] != 7 {
		t.Errorf("dropped, by day: %v; want 7 records of the first", gone)
	}
}

func TestReread(t *testing.T) {
	for _, shape := range []cluster.Shape{{}, {Shards: 2}} {
		c := cluster.Start(t, shape)
		t.Run(fmt.Sprintf("%d shards", max(1, shape.Shards)), func(t *testing.T) { reread(t, c) })
		if shape.Shards == 0 {
			t.Run("drops are told", func(t *testing.T) { dropsAreTold(t, c) })
			t.Run("drops during an append", func(t *testing.T) { dropsDuringAppend(t, c) })
			t.Run("drops that are forged", func(t *testing.T) { dropsForged(t, c) })
			t.Run("the account of drops", func(t *testing.T) { accountOfDrops(t, c) })
		}
	}
}

// A batch that is stored in a part while another collector drops that, which does not see it, goes to another part, and is not gone.
func dropsDuringAppend(t *testing.T, c *cluster.Cluster) {
	for _, before := range []int{0, 1} {
		a := address(t, c)
		x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
		must(t, y.Append(t.Context(), sealed(1, table(3))))
		must(t, y.Append(t.Context(), dayLater(2, 9, table(1))))
		for id := range before {
			must(t, x.Append(t.Context(), sealed(uint64(id)+1, table(10))))
		}
		day := store.DayOf(storetest.Start)
		part := store.Part{Day: day, N: 1}
		late := sealed(7, table(5))
		each, done := late.Each, false
		late.Each = func(fn func(string, *event.Event) error) error {
			if !done {
				done = true
				must(t, y.Drop(t.Context(), part, "max_days = 1"))
			}
			return each(fn)
		}
		must(t, x.Append(t.Context(), late))
		list, err := x.Drops(t.Context())
		must(t, err)
		if len(list) != before || before > 0 && (list[0].Part != part || list[0].First != 1 || list[0].Last != 1 || list[0].Events != 10 || list[0].By != "y" || list[0].Why != "max_days = 1") {
			t.Errorf("with %d batches before: %+v", before, list)
		}
		r := []*store.Reread{{Batch: 7, Day: day, Events: 5}}
		must(t, x.Reread(t.Context(), r, true))
		if len(r[0].Drops) > 0 || r[0].Differs() != "" {
			t.Errorf("read again: %q, %+v", r[0].Differs(), r[0])
		}
		if n := len(texts(t, engineOf(t, a, "z"), &query.Query{Unparsable: true})); n != 6 {
			t.Errorf("%d events are found, want 5 and the other day's", n)
		}
	}
}

// A row that says of a part which is there that it was dropped says nothing.
func dropsForged(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x := engineOf(t, a, "x")
	must(t, x.Append(t.Context(), sealed(1, table(10))))
	day := store.DayOf(storetest.Start)
	row := fmt.Sprintf(`{"day":%d,"part":1,"at":1,"by":"x","why":"max_days = 1","first":1,"last":1,"batches":1,"events":10}`, dayNumber(day))
	_, err := c.Nodes[0].Query(fmt.Sprintf("INSERT INTO %s.meta (name, value) VALUES ('dropped of x', '%s')", a.Database, row))
	must(t, err)
	_, err = c.Nodes[0].Query(fmt.Sprintf("ALTER TABLE %s.events DELETE WHERE batch = 1", a.Database))
	must(t, err)
	if list, err := x.Drops(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("drops: %+v, %v", list, err)
	}
	r := []*store.Reread{{Batch: 1, Day: day, Events: 10}}
	if must(t, x.Reread(t.Context(), r, true)); len(r[0].Drops) > 0 {
		t.Error("the batch is said to be dropped")
	}
}
