package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Something is put on hold while another collector drops it, before or behind any of its inserts: once that is done it is gone, or it stays.
func heldMeanwhile(t *testing.T, c *cluster.Cluster) {
	var outcomes []string
	for at := 0; ; at++ {
		a, ctx := address(t, c), t.Context()
		x, y, z := engineOf(t, a, "x"), engineOf(t, a, "y"), engineOf(t, a, "z")
		first, second := sealed(1, table(10)), sealed(2, table(10))
		second.Day++
		must(t, x.Append(ctx, first))
		must(t, x.Append(ctx, second))
		part := store.Part{Day: store.DayOf(storetest.Start), N: 1}
		x.HoldBy(func(_ context.Context, _ *store.PartStats, others map[string]string) string { return others["y"] })
		held := make(chan bool, 1) // whether it was there once it was on hold
		n, begun := 0, false
		hold := func() {
			err := y.ShareHolds(ctx, "all")
			st, serr := z.Stats(ctx)
			if err != nil || serr != nil {
				t.Error(err, serr)
			}
			held <- slices.ContainsFunc(st.Parts, func(p store.PartStats) bool { return p.Part == part })
		}
		x.cluster.fault = func() error {
			if n++; n-1 == at {
				begun = true
				go hold()
				// It has said that something is on hold, and may wait.
				must(t, c.Nodes[0].WaitFor("SELECT count() FROM "+a.Database+".meta WHERE name = 'holds of y'", "1"))
				for i := 0; i < 20 && len(held) == 0; i++ {
					time.Sleep(50 * time.Millisecond)
				}
			}
			return nil
		}
		err := x.Drop(ctx, part, "max_days = 1")
		if !begun {
			if err != nil {
				t.Error(err)
			}
			break
		}
		was := <-held
		st, serr := engineOf(t, a, "z").Stats(ctx)
		must(t, serr)
		is := slices.ContainsFunc(st.Parts, func(p store.PartStats) bool { return p.Part == part })
		if was != is || is != errors.Is(err, store.ErrInUse) || !is && err != nil {
			t.Errorf("at %d: there once it was on hold: %v, and at the end: %v; the drop: %v", at, was, is, err)
		}
		outcomes = append(outcomes, fmt.Sprint(is))
	}
	slices.Sort(outcomes)
	if len(slices.Compact(outcomes)) != 2 {
		t.Errorf("it was there: %v; want either", outcomes)
	}
}

// Whoever was about to drop something and is gone is waited for as long as the mark may come, and no longer.
func droppingLeft(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	y := engineOf(t, a, "y")
	must(t, y.ShareHolds(t.Context(), "1"))
	for age, waits := range map[time.Duration]bool{droppingOld + 2*time.Second: false, droppingTime + 2*time.Second: true, markTime: true} {
		about := fmt.Sprintf("%s x 1", dropMark(store.Part{Day: store.DayOf(storetest.Start), N: 1}, time.Now().Add(-age)))
		_, err := c.Nodes[0].Query("INSERT INTO " + a.Database + ".meta (name, value) SELECT '" + droppingName + "', '" + about + "'")
		must(t, err)
		first, err := y.first(t.Context())
		must(t, err)
		if part, err := y.dropping(t.Context(), first); err != nil || (part != "") != waits {
			t.Errorf("about to for %v: %q, %v", age, part, err)
		}
		_, err = c.Nodes[0].Query("INSERT INTO " + a.Database + ".meta (name, value) SELECT '" + sparedName + "', '" + about + "'")
		must(t, err)
		must(t, y.ShareHolds(t.Context(), "1"))
	}
}

// A collector's own mark may reach a server late, too: what it puts on hold meanwhile is not said to be on hold.
func ownMarkLate(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x := engineOf(t, a, "x")
	must(t, x.Append(t.Context(), sealed(1, table(10))))
	must(t, x.Append(t.Context(), dayLater(2, 1, table(10))))
	said := func() bool {
		n, err := c.Nodes[0].Query("SELECT count() FROM " + a.Database + ".meta WHERE name = '" + droppingName + "'")
		return err == nil && n == "1"
	}
	x.cluster.fault = func() error {
		if said() {
			return errors.New("no answer in time")
		}
		return nil
	}
	if err := x.Drop(t.Context(), store.Part{Day: store.DayOf(storetest.Start), N: 1}, "max_days = 1"); err == nil || !said() {
		t.Fatalf("the drop was to end between what says it and its mark: %v", err)
	}
	x.cluster.fault = nil
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := x.ShareHolds(ctx, "all"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on hold, while the mark may come yet: %v", err)
	}
}

// A block that reaches a part behind its deletion, of a collector that dies before it says where, is found by nobody.
func behindDeletion(t *testing.T, c *cluster.Cluster) {
	a, ctx := address(t, c), t.Context()
	x := engineOf(t, a, "x")
	must(t, x.Append(ctx, sealed(1, table(10))))
	must(t, x.Append(ctx, dayLater(2, 1, table(10))))
	must(t, x.Drop(ctx, store.Part{Day: store.DayOf(storetest.Start), N: 1}, "max_days = 1"))
	names, of, err := x.cluster.shards(ctx)
	must(t, err)
	late := &block{e: x, day: store.DayOf(storetest.Start), batch: 1, nodes: of[names[0]]}
	late.reset()
	late.add("web1", storetest.Parse("web1", fmt.Sprintf("node=web1 type=KERNEL msg=audit(%d.000:77): late", storetest.Start.Unix())), 1, 0)
	_, err = late.insert(ctx)
	must(t, err)
	must(t, c.Nodes[0].WaitFor("SELECT count() FROM "+a.Database+".events", "11"))
	if n := len(texts(t, engineOf(t, a, "z"), &query.Query{Unparsable: true})); n != 10 {
		t.Errorf("%d events are found, want 10", n)
	}
}
