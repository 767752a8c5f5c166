package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// engineWith opens the engine of a store with what its folder knows.
func engineWith(t testing.TB, a *Address, id string, m Memory) *Engine {
	t.Helper()
	e, err := Open(Options{Address: a, Store: id, Memory: m})
	must(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// dayLater is a batch of so many days later.
func dayLater(id uint64, days int, tab *store.Table) *store.Sealed {
	b := sealed(id, tab)
	b.Day += store.Day(days)
	return b
}

// Tables that were made anew have nothing of what a collector gave them: it says so, inserts nothing and finds nothing, until it is told to take them as they are.
func madeAnew(t *testing.T, c *cluster.Cluster) {
	a, m := address(t, c), &noMemory{}
	x := engineWith(t, a, "x", m)
	must(t, x.Append(t.Context(), sealed(1, table(10))))
	for _, name := range []string{"events", "batches", "meta"} {
		_, err := c.Nodes[0].Query(fmt.Sprintf("DROP TABLE %s.%s", a.Database, name))
		must(t, err)
	}
	if err := x.Append(t.Context(), sealed(2, table(10))); !errors.Is(err, ErrCluster) {
		t.Errorf("a batch without tables: %v", err)
	}
	y := engineOf(t, a, "y") // makes them
	must(t, y.Append(t.Context(), sealed(1, table(5))))
	find := func(e *Engine) (int, error) {
		n := 0
		err := store.Scan(t.Context(), e, &query.Query{Unparsable: true}, func(*event.Event) error { n++; return nil })
		return n, err
	}
	for _, e := range []*Engine{x, engineWith(t, a, "x", m)} {
		if err := e.Append(t.Context(), sealed(2, table(10))); !errors.Is(err, ErrOther) {
			t.Errorf("a batch: %v, want ErrOther", err)
		}
		if _, err := find(e); !errors.Is(err, ErrOther) {
			t.Errorf("a search: %v, want ErrOther", err)
		}
		if m.k.Delivered != 1 {
			t.Errorf("it has taken batch %d, want 1", m.k.Delivered)
		}
	}
	x = engineOf(t, a, "x")
	must(t, x.Append(t.Context(), sealed(2, table(10))))
	if n, err := find(x); n != 15 || err != nil {
		t.Errorf("%d events, %v; want 15", n, err)
	}
}

// An older copy of the cluster lacks batches that it has taken. That a part was dropped with the last batch of a collector makes none of it.
func olderCopy(t *testing.T, c *cluster.Cluster) {
	a, m := address(t, c), &noMemory{}
	x := engineWith(t, a, "x", m)
	must(t, x.Append(t.Context(), sealed(1, table(10))))
	must(t, x.Append(t.Context(), dayLater(2, 1, table(10))))
	part := store.Part{Day: store.DayOf(storetest.Start) + 1, N: 1}
	y := engineOf(t, a, "y")
	must(t, y.Append(t.Context(), dayLater(1, 9, table(10))))
	must(t, y.Drop(t.Context(), part, "max_days = 1"))
	for _, e := range []*Engine{x, engineWith(t, a, "x", m)} {
		must(t, e.Append(t.Context(), dayLater(2, 1, table(10)))) // as an outbox does again
	}
	must(t, x.Append(t.Context(), dayLater(3, 2, table(10))))
	for _, tab := range []string{"events", "batches"} {
		_, err := c.Nodes[0].Query(fmt.Sprintf("ALTER TABLE %s.%s DROP PARTITION %s", a.Database, tab, partition(store.Part{Day: part.Day + 1, N: 1})))
		must(t, err)
	}
	for _, e := range []*Engine{x, engineWith(t, a, "x", m)} {
		if err := e.Append(t.Context(), dayLater(4, 2, table(10))); !errors.Is(err, ErrOther) {
			t.Errorf("a batch for an older copy: %v, want ErrOther", err)
		}
	}
}

// A part that another collector drops during an answer is in it, or the answer fails; and no batch goes to a part of that number again.
func droppedMeanwhile(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
	must(t, x.Append(t.Context(), dayLater(1, 0, table(3*windowRows))))
	must(t, x.Append(t.Context(), dayLater(2, 1, table(10))))
	must(t, y.Append(t.Context(), dayLater(1, 1, table(10))))
	part := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	for _, first := range []bool{true, false} {
		n := 0
		err := store.Scan(t.Context(), x, &query.Query{Unparsable: true}, func(*event.Event) error {
			if n++; n == 1 && first {
				return y.Drop(t.Context(), part, "max_days = 1")
			}
			return nil
		})
		switch {
		case first && !errors.Is(err, ErrCluster) && (err != nil || n != 3*windowRows+20):
			t.Errorf("during the drop: %d events, %v; want all %d, or that it failed", n, err, 3*windowRows+20)
		case !first && err != nil && !errors.Is(err, ErrCluster), !first && err == nil && n != 20:
			t.Errorf("after it: %d events, %v; want 20", n, err)
		}
	}
	z := engineOf(t, a, "z")
	must(t, z.Append(t.Context(), dayLater(1, 0, table(10))))
	if n := len(texts(t, z, &query.Query{Unparsable: true})); n != 30 {
		t.Errorf("%d events with some of the day that was dropped, want 30", n)
	}
}

// A part that is dropped takes no more room at once, though somebody reads it: whoever drops days until they fit stops there.
func droppedTakesNoRoom(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	e := engineOf(t, a, "x")
	for day := range 3 {
		must(t, e.Append(t.Context(), dayLater(uint64(day+1), day, table(1000))))
	}
	must(t, e.Close())
	e = engineOf(t, a, "x") // which reads what is on the disks
	s, err := e.Snapshot(t.Context())
	must(t, err)
	defer func() { must(t, s.Close()) }()
	before, err := e.Stats(t.Context())
	must(t, err)
	must(t, e.Drop(t.Context(), store.Part{Day: store.DayOf(storetest.Start), N: 1}, "max_bytes"))
	after, err := e.Stats(t.Context())
	must(t, err)
	if gone := before.Parts[0].DiskBytes; len(before.Parts) != 3 || len(after.Parts) != 2 || gone == 0 || after.DiskBytes != before.DiskBytes-gone {
		t.Errorf("%d bytes in %d parts, after a drop of %d %d in %d", before.DiskBytes, len(before.Parts), gone, after.DiskBytes, len(after.Parts))
	}
}

// Who only reads deletes nothing, though a part was dropped long ago, and makes no tables.
func readsOnly(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	e := engineOf(t, a, "x")
	must(t, e.Append(t.Context(), dayLater(1, 0, table(10))))
	must(t, e.Append(t.Context(), dayLater(2, 1, table(10))))
	part := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	_, err := c.Nodes[0].Query("INSERT INTO " + a.Database + ".meta (name, value) SELECT '" + droppedName + "', '" + dropMark(part, time.Now().Add(-2*leftTime)) + "'")
	must(t, err)
	for _, readOnly := range []bool{true, false} {
		e, err := Open(Options{Address: a, Store: "x", Memory: e.opts.Memory, ReadOnly: readOnly})
		must(t, err)
		if st, err := e.Stats(t.Context()); err != nil || st.Events != 10 {
			t.Errorf("%+v, %v; want the 10 of the day that is not dropped", st, err)
		}
		left := func() string {
			rows, err := c.Nodes[0].Query("SELECT count() FROM " + a.Database + ".events")
			must(t, err)
			return rows
		}
		if readOnly {
			time.Sleep(time.Second)
			if rows := left(); rows != "20" {
				t.Errorf("%s rows are left, want 20", rows)
			}
		} else {
			need.Wait(t, "what was left is deleted", func() bool { return left() == "10" })
		}
		must(t, e.Close())
	}
	a.Database += "_none"
	e, err = Open(Options{Address: a, Store: "x", ReadOnly: true})
	must(t, err)
	if _, err := e.Stats(t.Context()); err == nil {
		t.Error("there are no tables, and nothing is said")
	}
	must(t, e.Close())
	if n, err := c.Nodes[0].Query("SELECT count() FROM system.databases WHERE name = '" + a.Database + "'"); err != nil || n != "0" {
		t.Errorf("%s databases are made, %v", n, err)
	}
}

// Of servers that hang nobody waits for ever: not who shows sizes, who asks, who ends while a batch is on its way, nor who closes.
func TestHangs(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{})
	a := address(t, c)
	e, busy := engineOf(t, a, "x"), engineOf(t, a, "y")
	must(t, e.Append(t.Context(), sealed(1, table(10))))
	must(t, busy.Append(t.Context(), sealed(1, table(10))))
	must(t, c.Nodes[0].Freeze())
	for _, x := range []*Engine{e, engineOf(t, a, "x")} {
		x.mu.Lock()
		x.account = nil // it is not fresh
		x.mu.Unlock()
		if st, err := x.Stats(t.Context()); !errors.Is(err, ErrCluster) {
			t.Errorf("sizes: %+v, %v", st, err)
		}
		must(t, x.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- busy.Append(ctx, sealed(2, table(20))) }()
	time.Sleep(time.Second) // it is on its way, or soon
	cancel()
	if err := <-done; err == nil {
		t.Error("a batch was stored by a server that hangs")
	}
	must(t, busy.Close())
	must(t, c.Nodes[0].Thaw())
}
