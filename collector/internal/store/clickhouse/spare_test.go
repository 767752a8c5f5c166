package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"github.com/hashicorp/go-hclog"
	"slices"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A part is deleted whichever replica is named first: one of them takes that, and the others do not know how to send it on.
func TestDropOnReplicas(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{Replicas: 3})
	for i := range c.Nodes {
		a := address(t, c)
		a.Nodes = append(slices.Clone(a.Nodes[i:]), a.Nodes[:i]...)
		var log bytes.Buffer
		e, err := Open(Options{Address: a, Store: "x", Log: hclog.New(&hclog.LoggerOptions{Output: &log})})
		must(t, err)
		must(t, e.Append(t.Context(), dayLater(1, 0, table(10))))
		must(t, e.Append(t.Context(), dayLater(2, 1, table(10))))
		must(t, e.Drop(t.Context(), store.Part{Day: store.DayOf(storetest.Start), N: 1}, "max_bytes"))
		must(t, e.Close())
		for _, n := range c.Nodes {
			must(t, n.WaitFor("SELECT count() FROM "+a.Database+".events", "10"))
		}
		z := engineOf(t, a, "z")
		if n := len(texts(t, z, &query.Query{Unparsable: true})); n != 10 {
			t.Errorf("%d events are found, want 10", n)
		}
		must(t, engineOf(t, a, "x").Append(t.Context(), dayLater(3, 1, table(10))))
		if log.Len() > 0 {
			t.Error(log.String())
		}
	}
}

// Where the disks of all servers are full, days are dropped all the same, and make room.
func TestDropOnFullDisks(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{DiskMiB: 200})
	a := address(t, c)
	e := engineOf(t, a, "x")
	for day := range 4 {
		must(t, e.Append(t.Context(), dayLater(uint64(day+1), day, table(1000))))
	}
	kept := "SELECT uniqExact(n) FROM " + a.Database + ".spare"
	for _, n := range c.Nodes {
		must(t, n.WaitFor(kept, fmt.Sprint(spares)))
		must(t, n.WaitFor("SELECT count() FROM "+a.Database+".events", "4000"))
		must(t, n.FillDisk())
	}
	err := e.Append(t.Context(), dayLater(5, 3, table(1000)))
	if !errors.Is(err, ErrCluster) || !noRoom(err) {
		t.Errorf("a batch on full disks: %v", err)
	}
	part := func(day int) store.Part { return store.Part{Day: store.DayOf(storetest.Start) + store.Day(day), N: 1} }
	must(t, e.Drop(t.Context(), part(0), "max_bytes"))
	for _, n := range c.Nodes {
		rows := ""
		for range 600 { // where it is not deleted at once, each search tries again
			if n := len(texts(t, e, &query.Query{Unparsable: true})); n != 3000 {
				t.Fatalf("%d events are found, want 3000", n)
			}
			if rows, err = n.Query("SELECT count() FROM " + a.Database + ".events"); err == nil && rows == "3000" {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if rows != "3000" {
			t.Errorf("%s: %s rows are there, %v; want 3000", n.Name, rows, err)
		}
	}
	for _, n := range c.Nodes {
		must(t, n.FreeDisk())
	}
	must(t, e.Drop(t.Context(), part(1), "max_bytes"))
	must(t, c.Nodes[0].WaitFor(kept, fmt.Sprint(spares)))
	must(t, e.Append(t.Context(), dayLater(5, 3, table(1000))))
}

// Where the disks of two of three replicas are full, and the third takes what no quorum gets, days are dropped, too.
func TestDropWhereQuorumIsFull(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Shape{Replicas: 3, DiskMiB: 200})
	a := address(t, c)
	e := engineOf(t, a, "x")
	for day := range 4 {
		must(t, e.Append(t.Context(), dayLater(uint64(day+1), day, table(1000))))
	}
	for i, n := range c.Nodes {
		must(t, n.WaitFor("SELECT uniqExact(n) FROM "+a.Database+".spare", fmt.Sprint(spares)))
		must(t, n.WaitFor("SELECT count() FROM "+a.Database+".events", "4000"))
		if i > 0 {
			must(t, n.FillDisk())
		}
	}
	must(t, e.Drop(t.Context(), store.Part{Day: store.DayOf(storetest.Start), N: 1}, "max_bytes"))
	need.Wait(t, "the day is gone", func() bool { return len(texts(t, e, &query.Query{Unparsable: true})) == 3000 })
	for _, n := range c.Nodes[1:] {
		must(t, n.FreeDisk())
	}
	must(t, e.Append(t.Context(), dayLater(5, 3, table(10))))
}
