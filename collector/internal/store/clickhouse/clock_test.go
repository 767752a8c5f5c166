package clickhouse

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// One clock goes for all who have their events in a cluster. A collector whose own is a year ahead takes no part for old which another one writes, and drops nothing; nor does a right one
// drop what is written because of the wrong one's days.
func clockAhead(t *testing.T, c *cluster.Cluster) {
	a, today := address(t, c), store.DayOf(time.Now())
	x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
	of := func(id uint64, day store.Day) *store.Sealed {
		b := sealed(id, table(10))
		b.Day = day
		return b
	}
	must(t, y.Append(t.Context(), of(1, today-1)))
	must(t, y.Append(t.Context(), of(2, today)))
	x.now = func() time.Time { return time.Now().Add(365 * 24 * time.Hour) }
	for i := range 3 {
		must(t, x.Append(t.Context(), of(uint64(i+1), store.DayOf(x.now())-2+store.Day(i))))
	}
	must(t, y.Append(t.Context(), of(3, today)))
	written, old := store.Part{Day: today, N: 1}, store.Part{Day: today - 1, N: 1}
	for _, id := range []string{"x", "y", "z"} {
		e := engineOf(t, a, id)
		e.now = map[string]func() time.Time{"x": x.now, "y": time.Now, "z": time.Now}[id]
		st, err := e.Stats(t.Context())
		must(t, err)
		if off := time.Since(st.Now).Abs(); off > time.Hour {
			t.Errorf("%s: the cluster's clock is %v off", id, off)
		}
		for _, p := range st.Parts {
			if p.Part == written && p.Sealed {
				t.Errorf("%s takes what is written for sealed", id)
			}
		}
		if err := e.Drop(t.Context(), written, "max_bytes"); !errors.Is(err, store.ErrInUse) {
			t.Errorf("%s drops what is written: %v", id, err)
		}
		if err := e.Drop(t.Context(), old, "max_days"); id == "x" != errors.Is(err, store.ErrInUse) || id == "y" && err != nil || id == "z" && !errors.Is(err, store.ErrNoDay) {
			t.Errorf("%s drops what is old: %v", id, err)
		}
	}
	// What a right one has dropped is not deleted by the other, which reads the mark as a year old.
	open, err := y.Snapshot(t.Context())
	must(t, err)
	defer open.Close()
	must(t, y.Append(t.Context(), of(4, today+1))) // midnight
	must(t, y.Drop(t.Context(), written, "max_bytes"))
	_, err = x.known(t.Context(), 0)
	must(t, err)
	x.cluster.meets.Wait()
	if rows, err := c.Nodes[0].Query("SELECT count() FROM " + a.Database + ".events WHERE day = " + fmt.Sprint(dayNumber(today))); err != nil || rows != "20" {
		t.Errorf("%s rows are there, %v; want the 20 that an answer may still read", rows, err)
	}
}
