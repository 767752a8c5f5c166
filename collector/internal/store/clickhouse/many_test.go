package clickhouse

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// An event in each of more minutes than are counted at once: all come, in either order.
func manyMinutes(t *testing.T, c *cluster.Cluster) {
	e, tab := engineOf(t, address(t, c), "x"), store.NewTable()
	for i := range mostWindows + 1000 {
		tab.Add("a", storetest.Parse("a", fmt.Sprintf("node=a type=KERNEL msg=audit(%d.000:%d): text", storetest.Start.Add(-time.Duration(i)*time.Minute).Unix(), i)))
	}
	must(t, e.Append(t.Context(), sealed(1, tab)))
	for _, reverse := range []bool{false, true} {
		var got []int64
		must(t, store.Scan(t.Context(), e, &query.Query{Reverse: reverse}, func(ev *event.Event) error {
			got = append(got, ev.Ms)
			return nil
		}))
		if reverse {
			slices.Reverse(got)
		}
		if len(got) != mostWindows+1000 || !slices.IsSorted(got) {
			t.Errorf("reverse %v: %d events, in order: %v", reverse, len(got), slices.IsSorted(got))
		}
	}
}

// More hosts have moved within some minutes than can be named: what several collectors have of them is counted once all the same, and of other minutes all is counted.
func manyMoved(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
	both, alone := store.NewTable(), store.NewTable()
	var rows []string
	for i := range maxList + 100 {
		host := fmt.Sprintf("h%d", i)
		both.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.000:1): text", host, storetest.Start.Unix())))
		alone.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.000:2): text", host, storetest.Start.Add(time.Hour).Unix())))
		rows = append(rows, fmt.Sprintf("('x', '%s'), ('y', '%s')", host, host))
	}
	must(t, x.Append(t.Context(), sealed(1, both)))
	must(t, y.Append(t.Context(), sealed(1, both)))
	must(t, x.Append(t.Context(), sealed(2, alone)))
	_, err := c.Nodes[0].Query("INSERT INTO " + a.Database + ".hosts (store, host) VALUES " + strings.Join(rows, ", "))
	must(t, err)
	z := engineOf(t, a, "z")
	want, given := int64(len(texts(t, z, &query.Query{}))), int64(0)
	sum := tally(t, z, &query.Query{}, []query.Field{query.FieldType}, func(*event.Event) error { given++; return nil })
	if sum.Events+given != want || sum.Events < maxList+100 || given == 0 {
		t.Errorf("%d events were counted and %d given of %d", sum.Events, given, want)
	}
}

// Collectors that store in one shard at the same time wait for each other's quorum: nothing that is refused so is taken for inserted twice.
func TestBesideEachOther(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{Replicas: 3})
	a := address(t, c)
	var wg sync.WaitGroup
	for i := range 3 {
		e := engineOf(t, a, fmt.Sprint("beside", i))
		wg.Go(func() {
			for id := uint64(1); id <= 8; id++ {
				tab := store.NewTable()
				storetest.Fill(tab, storetest.NewGenerator(uint64(i)<<32|id, storetest.Templates(t), 3, storetest.Start), 50)
				if err := e.Append(t.Context(), sealed(id, tab)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// The first batch of a process may have been begun by another one.
	if n, err := c.Nodes[0].Query("SELECT count() FROM " + a.Database + ".batches WHERE again = 1 AND batch > 1"); err != nil || n != "0" {
		t.Errorf("%s batches may have been inserted twice, %v", n, err)
	}
}

// However many batches may be there twice, they are named by few runs, each of which has one at both ends.
func TestFewRuns(t *testing.T) {
	a := &account{parts: map[store.Part]*store.PartStats{}}
	was := map[string]map[uint64]bool{"x": {}, "y": {}}
	for i := range uint64(3000) {
		of, batch := "x", 7*i+i%5
		if i%10 == 0 {
			of = "y"
		}
		was[of][batch] = true
		a.again = append(a.again, repeated{part: store.Part{Day: store.Day(i / 1000), N: 1}, store: of, batch: batch})
	}
	var runs []batchRun
	for of, list := range was {
		for batch := range list {
			runs = append(runs, batchRun{of, batch, batch})
		}
	}
	slices.SortFunc(runs, func(a, b batchRun) int {
		return strings.Compare(fmt.Sprintf("%s%9d", a.store, a.from), fmt.Sprintf("%s%9d", b.store, b.from))
	})
	joined := fewer(slices.Clone(runs))
	if len(joined) > mostRuns || len(joined) < 2 {
		t.Errorf("%d runs", len(joined))
	}
	for _, r := range runs {
		if n := len(slices.DeleteFunc(slices.Clone(joined), func(j batchRun) bool { return j.store != r.store || r.from < j.from || r.to > j.to })); n != 1 {
			t.Fatalf("batch %d of %s is in %d runs", r.from, r.store, n)
		}
	}
	for _, j := range joined {
		if !was[j.store][j.from] || !was[j.store][j.to] {
			t.Errorf("%+v", j)
		}
	}
	condition, where := a.repeated(&query.Query{})
	if n := strings.Count(condition, "store ="); n != len(joined) || strings.Contains(where, "day") {
		t.Errorf("%d runs, of which %d are named, in %.80s", len(joined), n, where)
	}
	a.again = a.again[:20]
	if condition, where = a.repeated(&query.Query{}); strings.Count(condition, "store =") != 20 || !strings.Contains(where, "day = 19700101") {
		t.Errorf("%s in %s", condition, where)
	}
}
