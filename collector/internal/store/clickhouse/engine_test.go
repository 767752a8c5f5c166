package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/testca"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// table makes a table of so many events of a host, all of one minute; many of them of no time at all.
func table(n int) *store.Table {
	t := store.NewTable()
	for i := range n {
		line := fmt.Sprintf("node=a type=KERNEL msg=audit(%d.%03d:%d): text", storetest.Start.Unix(), i%1000, i)
		if i%2 == 0 {
			line = fmt.Sprintf("node=a line %d of no kind", i)
		}
		t.Add("a", storetest.Parse("a", line))
	}
	return t
}

// engineOf opens the engine of a store with some ID.
func engineOf(t testing.TB, a *Address, id string) *Engine {
	t.Helper()
	e, err := Open(Options{Address: a, Store: id})
	must(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// sealed makes a batch of a table as an outbox hands it over.
func sealed(id uint64, tab *store.Table) *store.Sealed {
	return &store.Sealed{ID: id, Day: store.DayOf(storetest.Start), Each: func(fn func(string, *event.Event) error) error {
		for _, h := range tab.Hosts() {
			for _, i := range h.Order() {
				e := &h.Events[i]
				if err := fn(h.Name, store.ParseText(e.Text, e.Counted, []byte(h.Name), e.Origin)); err != nil {
					return err
				}
			}
		}
		return nil
	}}
}

func texts(t testing.TB, e store.Events, q *query.Query) (out []string) {
	t.Helper()
	must(t, store.Scan(t.Context(), e, q, func(ev *event.Event) error {
		out = append(out, storetest.Text(ev))
		return nil
	}))
	return out
}

// tally counts fields.
func tally(t testing.TB, e store.Events, q *query.Query, fields []query.Field, rest func(*event.Event) error) *query.Tally {
	t.Helper()
	snap, err := e.Snapshot(t.Context())
	must(t, err)
	defer func() { must(t, snap.Close()) }()
	sum, err := snap.Tally(t.Context(), q, fields, rest)
	must(t, err)
	return sum
}

func TestEngine(t *testing.T) {
	ca := testca.New(t, t.TempDir())
	c := cluster.Start(t, cluster.Shape{CA: ca})
	for name, fn := range map[string]func(*testing.T, *cluster.Cluster){
		"more than a window": manyAtOnce, "half of it was there": halfThere, "minutes of years": manyMinutes, "many hosts moved": manyMoved, "several collectors": severalStores, "a folder of before": copied, "holds of another": heldElsewhere, "the list of collectors": listed, "another number of shards": otherShards, "the wrong password": wrongPassword, "newer tables": newerTables, "made anew": madeAnew, "an older copy": olderCopy, "dropped meanwhile": droppedMeanwhile, "dropped takes no room": droppedTakesNoRoom, "reads only": readsOnly, "a clock that is ahead": clockAhead, "held while it is dropped": heldMeanwhile, "about to drop it": droppingLeft, "its own mark is late": ownMarkLate, "put there behind its deletion": behindDeletion,
	} {
		t.Run(name, func(t *testing.T) { fn(t, c) })
	}
	t.Run("over TLS", func(t *testing.T) {
		a := address(t, c)
		a.Nodes, a.TLS, a.CA = c.SecureAddrs(), true, ca.File
		e := engineOf(t, a, "x")
		must(t, e.Append(t.Context(), sealed(1, table(10))))
		if n := len(texts(t, e, &query.Query{Unparsable: true})); n != 10 {
			t.Errorf("%d events, want 10", n)
		}
		b := *a
		b.CA = testca.New(t, t.TempDir()).File
		if _, err := engineOf(t, &b, "x").Stats(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a server of another CA: %v", err)
		}
	})
}

// Of a time that has more rows than are read at once, all come, in either order.
func manyAtOnce(t *testing.T, c *cluster.Cluster) {
	e, ref := engineOf(t, address(t, c), "x"), storetest.NewMemory()
	tab := table(5 * windowRows)
	must(t, e.Append(t.Context(), sealed(1, tab)))
	must(t, ref.Append(t.Context(), sealed(1, tab)))
	for _, reverse := range []bool{false, true} {
		q := &query.Query{Unparsable: true, Reverse: reverse}
		want, got := texts(t, ref, q), texts(t, e, q)
		if !slices.Equal(want, got) {
			t.Errorf("reverse %v: %d events, want %d in the same order", reverse, len(got), len(want))
		}
	}
}

// A batch whose writer died in its midst is there once when it is appended again, also in blocks with other bounds, and not before it is whole.
func halfThere(t *testing.T, c *cluster.Cluster) {
	a, tab := address(t, c), table(100)
	e := engineOf(t, a, "x")
	must(t, e.Append(t.Context(), sealed(1, table(3))))
	_, err := c.Nodes[0].Query("SYSTEM STOP MERGES " + a.Database + ".events")
	must(t, err)
	_, of, err := e.cluster.shards(t.Context())
	must(t, err)
	b := &block{e: e, day: store.DayOf(storetest.Start), batch: 2, nodes: of["1"]}
	b.reset()
	seq := uint32(0)
	must(t, sealed(2, tab).Each(func(host string, ev *event.Event) error {
		if seq < 60 {
			b.add(host, ev, 1, seq)
		}
		seq++
		return nil
	}))
	_, err = b.insert(t.Context())
	must(t, err)
	q := &query.Query{Unparsable: true}
	if n := len(texts(t, e, q)); n != 3 {
		t.Errorf("%d events while batch 2 is not whole, want the 3 of batch 1", n)
	}
	must(t, e.Close())
	e = engineOf(t, a, "x")
	for range 2 {
		must(t, e.Append(t.Context(), sealed(2, tab)))
	}
	if got := texts(t, e, q); len(got) != 103 {
		t.Errorf("%d events, want 103", len(got))
	}
	if rows, err := c.Nodes[0].Query("SELECT count() FROM " + a.Database + ".events"); err != nil || rows != "163" {
		t.Errorf("%s rows, %v; want 60 that are there twice", rows, err)
	}
	// Half of the events have no time: what is counted of the others, and what is given; also where so many batches may be there twice that not each is named.
	for i, fields := range [][]query.Field{nil, {query.FieldNode}, {query.FieldType}, {query.FieldShape, query.FieldHour}, {query.FieldNode, query.FieldType, query.FieldEach}} {
		if i == 3 {
			_, err := e.known(t.Context(), fresh)
			must(t, err)
			e.mu.Lock()
			for n := range uint64(3 * mostRuns) {
				e.account.again = append(e.account.again, repeated{store.Part{Day: 1, N: 1}, "x", 3*n + 1})
			}
			e.mu.Unlock()
		}
		rest := int64(0)
		sum := tally(t, e, &query.Query{Unparsable: true}, fields, func(*event.Event) error { rest++; return nil })
		if rest != 52 || sum.Events != 51 {
			t.Errorf("%v: %d events were counted, want 51, and %d given, want 52", fields, sum.Events, rest)
		}
		for _, f := range fields {
			sum.Of(f).Each(func(v string, n int64) {
				if n != 51 {
					t.Errorf("%v: %d times %s %q, want 51", fields, n, f, v)
				}
			})
		}
	}
	if st, err := e.Stats(t.Context()); err != nil || st.Events != 103 {
		t.Errorf("%+v, %v; want 103 events", st, err)
	}
}

// A folder that is older than what the cluster has of it, or a second one, gives numbers again: its batches are refused, and never taken for those that are there.
func copied(t *testing.T, c *cluster.Cluster) {
	e := engineOf(t, address(t, c), "x")
	must(t, e.Append(t.Context(), sealed(1, table(10))))
	must(t, e.Append(t.Context(), sealed(2, table(20))))
	if err := e.Append(t.Context(), sealed(2, table(21))); !errors.Is(err, ErrCopied) { // its store went back, and not what it knows of the cluster
		t.Errorf("another batch 2: %v, want ErrCopied", err)
	}
	for range 2 {
		e = engineOf(t, e.opts.Address, "x") // whose folder does not know that they were taken
		for id, n := range map[uint64]int{1: 11, 2: 21} {
			if err := e.Append(t.Context(), sealed(id, table(n))); !errors.Is(err, ErrCopied) {
				t.Errorf("batch %d of %d events: %v, want ErrCopied", id, n, err)
			}
		}
		must(t, e.Append(t.Context(), sealed(1, table(10)))) // as an outbox does again
		must(t, e.Append(t.Context(), sealed(2, table(20))))
	}
}

// Batches of the same number of two collectors are both there, and either answers for both.
func severalStores(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x := engineOf(t, a, "x")
	must(t, x.Append(t.Context(), sealed(1, table(10))))
	y := engineOf(t, a, "y")
	must(t, y.Append(t.Context(), sealed(1, table(20))))
	must(t, x.Close())
	for _, e := range []*Engine{engineOf(t, a, "x"), y} {
		if n := len(texts(t, e, &query.Query{Unparsable: true})); n != 30 {
			t.Errorf("%s finds %d events, want 30", e.opts.Store, n)
		}
		err := store.Scan(t.Context(), e, &query.Query{AfterBatch: 1}, func(*event.Event) error { return nil })
		if !errors.Is(err, query.ErrQuery) {
			t.Errorf("later batches of several collectors: %v, want an ErrQuery", err)
		}
	}
}

func wrongPassword(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	a.Password = filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(a.Password, []byte("not the password"), 0o600))
	e := engineOf(t, a, "x")
	_, err := e.Snapshot(context.Background())
	if !errors.Is(err, ErrCluster) || !strings.Contains(err.Error(), "password_file=") || strings.Contains(err.Error(), "not the password") {
		t.Errorf("a search: %v", err)
	}
	if err := e.Append(t.Context(), sealed(1, table(1))); !errors.Is(err, ErrCluster) {
		t.Errorf("a batch: %v", err)
	}
}

// What one collector holds, no other one drops, also where it said so right before; what nobody holds is dropped, whoever holds something else. What a collector that is gone for good
// held is held no longer, until it says it again.
func heldElsewhere(t *testing.T, c *cluster.Cluster) {
	a, ctx := address(t, c), t.Context()
	x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
	for i := range 5 {
		b := sealed(uint64(i+1), table(10))
		b.Day += store.Day(i)
		must(t, x.Append(ctx, b))
	}
	part := func(i int) store.Part { return store.Part{Day: store.DayOf(storetest.Start) + store.Day(i), N: 1} }
	refused := func(what string, p store.Part) {
		t.Helper()
		if err := x.Drop(ctx, p, ""); !errors.Is(err, store.ErrInUse) {
			t.Errorf("%s: %v, want ErrInUse", what, err)
		}
	}
	must(t, x.ShareHolds(ctx, "own")) // which retention knows
	must(t, y.ShareHolds(ctx, "0"))
	refused("nobody can read it", part(0))
	x.HoldBy(func(_ context.Context, p *store.PartStats, others map[string]string) string {
		if _, own := others["x"]; own {
			t.Error("its own are others'")
		}
		for id, text := range others {
			if text == fmt.Sprint(int(p.Day-part(0).Day)) {
				return "by " + id
			}
		}
		return ""
	})
	refused("it is on hold", part(0))
	must(t, x.Drop(ctx, part(1), ""))
	if others, err := x.OthersHolds(ctx); err != nil || len(others) != 1 || others["y"] != "0" {
		t.Errorf("others: %v, %v", others, err)
	}
	must(t, y.ShareHolds(ctx, "2"))
	refused("it is on hold since", part(2))
	rows := func() string {
		n, err := c.Nodes[0].Query("SELECT count() FROM " + a.Database + ".meta WHERE name = 'holds of y'")
		must(t, err)
		return n
	}
	before := rows()
	must(t, y.ShareHolds(ctx, "2"))
	if after := rows(); before != after {
		t.Errorf("what is known already was said again: %s rows, then %s", before, after)
	}
	_, err := c.Nodes[0].Query("ALTER TABLE " + a.Database + ".meta DELETE WHERE name = 'holds of y'") // as in an older copy
	must(t, err)
	must(t, c.Nodes[0].WaitFor("SELECT count() FROM "+a.Database+".meta WHERE name = 'holds of y'", "0"))
	must(t, y.ShareHolds(ctx, "2"))
	refused("it is on hold again", part(2))
	must(t, x.Lose(ctx, "y", 2000))
	must(t, x.Drop(ctx, part(2), ""))
	must(t, y.ShareHolds(ctx, "3")) // it is there again
	refused("on hold by one that was gone", part(3))
	must(t, y.ShareHolds(ctx, ""))
	must(t, x.Drop(ctx, part(3), ""))
	if n := len(texts(t, x, &query.Query{Unparsable: true})); n != 20 {
		t.Errorf("%d events are left, want 20", n)
	}
}

// Who leaves out servers of a shard, or a shard, is told so: half an answer, and batches on fewer servers than others think, would be the price.
func otherShards(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	_, err := engineOf(t, a, "x").Stats(t.Context())
	must(t, err)
	_, err = c.Nodes[0].Query(fmt.Sprintf("INSERT INTO %s.meta (name, value) VALUES ('shards', '2')", a.Database))
	must(t, err)
	if _, err := engineOf(t, a, "y").Stats(t.Context()); !errors.Is(err, ErrCluster) || !strings.Contains(err.Error(), "shards=2") {
		t.Errorf("one of two shards: %v", err)
	}
}

func newerTables(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	_, err := engineOf(t, a, "x").Stats(t.Context())
	must(t, err)
	_, err = c.Nodes[0].Query(fmt.Sprintf("INSERT INTO %s.meta (name, value) VALUES ('version', '%d')", a.Database, Version+1))
	must(t, err)
	if _, err := engineOf(t, a, "x").Stats(t.Context()); !errors.Is(err, store.ErrVersion) {
		t.Errorf("newer tables: %v, want ErrVersion", err)
	}
}
