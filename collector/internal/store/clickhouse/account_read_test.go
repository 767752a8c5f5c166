package clickhouse

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// An account that is read behind the one before is the same as one of which all is read, whatever collectors store, begin, drop and leave half done in between.
func TestAccountBehind(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{})
	a := address(t, c)
	one, two := engineOf(t, a, "one"), engineOf(t, a, "two")
	behind := engineOf(t, a, "behind")
	compare := func(step string) {
		t.Helper()
		_, err := behind.known(t.Context(), 0) // which hides what is dropped meanwhile, and the next one no more
		must(t, err)
		got, err := behind.known(t.Context(), 0)
		must(t, err)
		if behind.base == nil {
			t.Fatal("it is not read behind anything")
		}
		want, err := engineOf(t, a, "behind").known(t.Context(), 0)
		must(t, err)
		opts := []cmp.Option{cmp.AllowUnexported(account{}, latest{}, repeated{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(account{}, "read", "now"), cmpopts.SortSlices(func(a, b repeated) bool {
			return fmt.Sprint(a) < fmt.Sprint(b)
		}), cmpopts.SortSlices(func(a, b store.Part) bool { return a.Compare(b) < 0 }), cmpopts.IgnoreFields(store.PartStats{}, "DiskBytes")}
		if d := cmp.Diff(want, got, opts...); d != "" {
			t.Errorf("%s (-all +behind):\n%s", step, d)
		}
	}
	day := store.DayOf(storetest.Start)
	ids := map[*Engine]uint64{}
	add := func(e *Engine, d store.Day, classes store.Classes) {
		t.Helper()
		ids[e]++
		b, _ := dividedBatch(t, ids[e], d, classTable(ids[e]+100*uint64(len(e.opts.Store)), 3), classes)
		must(t, e.Append(t.Context(), b))
	}
	drop := func(e *Engine, which func(store.PartStats) bool) bool {
		t.Helper()
		_, err := e.known(t.Context(), 0)
		must(t, err)
		st, err := e.Stats(t.Context())
		must(t, err)
		for _, p := range st.Parts {
			if which(p) {
				must(t, e.Drop(t.Context(), p.Part, "retain"))
				return true
			}
		}
		return false
	}
	compare("nothing")
	add(one, day, classesOf)
	compare("one batch")
	add(one, day, classesOf)
	add(two, day, store.Classes{{Hosts: "*"}})
	compare("of another collector")
	must(t, one.Rotate(t.Context()))
	compare("a part is begun")
	add(one, day, classesOf)
	add(one, day+1, classesOf)
	compare("another day")
	add(two, day+9, classesOf)
	compare("much later")
	if !drop(two, func(p store.PartStats) bool { return p.Day == day && p.Class == "web*" }) {
		t.Error("there is no such part")
	}
	compare("a class is dropped")
	for drop(two, func(p store.PartStats) bool { return p.Day == day+1 }) {
		compare("what the one has last is dropped")
	}
	add(one, day+9, classesOf)
	compare("it goes on")
	left := engineOf(t, a, "left") // it dies behind the first insert of its second batch
	add(left, day+9, classesOf)
	compare("a third")
	left.cluster.fault = func() error { return errKilled }
	b, _ := dividedBatch(t, 2, day+9, classTable(7, 3), classesOf)
	if err := left.Append(t.Context(), b); err == nil {
		t.Error("it was stored")
	}
	compare("half a batch")
	left.cluster.fault = nil
	must(t, left.Append(t.Context(), b))
	compare("and the rest")
}
