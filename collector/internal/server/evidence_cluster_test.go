package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// What a bundle says of batches that the cluster has not: whoever can write there cannot have one taken for dropped without a word, a drop is named with whose word it is, and what was damaged
// before it was delivered was not taken out.
func TestTakenOut(t *testing.T) {
	t.Parallel()
	dir, m := filepath.Join(t.TempDir(), "store"), storetest.NewMemory()
	var down atomic.Bool
	m.Fault = func(bool) error {
		if down.Load() {
			return errors.New("it is away")
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := func() *bolt.Outbox {
		local, err := bolt.Open(bolt.Options{Dir: dir})
		must(err)
		o := bolt.NewOutbox(local, m)
		t.Cleanup(func() { _ = o.Close() })
		o.ProveEvents(true)
		return o
	}
	day := store.DayOf(storetest.Start)
	add := func(o *bolt.Outbox, id uint64, d store.Day) {
		t.Helper()
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 10)
		must(o.Append(t.Context(), &store.Batch{ID: id, Day: day + d, Events: tab, LSN: id}))
	}
	o := begin()
	m.Store = o.ID().String()
	for id := range uint64(8) {
		add(o, id+1, store.Day(id/3)) // 1 to 3, 4 to 6, 7 and 8
	}
	said := func(touched ...uint64) string {
		t.Helper()
		must(o.CatchUp(t.Context(), false))
		log, err := seal.OpenLog(seal.LogConfig{Tree: o.Seals(), Store: dir})
		must(err)
		b := &bundling{store: o, log: log}
		list, err := b.takenOut(t.Context(), &evidence.Making{Query: &query.Query{}, Size: o.Seals().Size()}, o, func(batch uint64) bool { return slices.Contains(touched, batch) })
		must(err)
		return strings.Join(list, "; ")
	}
	want := func(what, got string, has string, not ...string) {
		t.Helper()
		if !strings.Contains(got, has) || slices.ContainsFunc(not, func(s string) bool { return strings.Contains(got, s) }) {
			t.Errorf("%s: %q; want %q, and none of %q", what, got, has, not)
		}
	}
	if got := said(1, 2, 3, 4, 5, 6, 7, 8); got != "" {
		t.Errorf("nothing happened: %q", got)
	}
	want("untouched", said(1, 2), "of 6 batches of that time with 60 events none was found: these were only counted", evidence.TakenOut)

	var whole []storetest.Held
	without := func(batch uint64) {
		m.Attack(func(list []storetest.Held) []storetest.Held {
			whole = slices.Clone(list)
			return slices.DeleteFunc(list, func(x storetest.Held) bool { return x.Batch == batch })
		})
	}
	without(5)
	want("deleted", said(), evidence.TakenOut+" of the cluster since they were stored, by the log: batch 5")
	// A row that covers its neighbours is refuted by these, and one that does not is the cluster's word, and named.
	forged := store.DroppedPart{Part: store.Part{Day: day + 1, N: 7}, At: time.Now(), By: m.Store, Why: "max_days = 2", First: 4, Last: 6, Batches: 3, Events: 30}
	m.Forge(forged)
	want("forged of all", said(), evidence.TakenOut+" of the cluster since they were stored, by the log: batch 5")
	forged.Part.N, forged.First, forged.Last = 8, 5, 5
	m.Forge(forged)
	want("forged of one", said(), "1 batches (5) of that time with 10 events, perhaps some that were asked for, were dropped with their days as the cluster says", "by this collector")
	m.Attack(func([]storetest.Held) []storetest.Held { return whole })

	must(o.Drop(t.Context(), store.Part{Day: day, N: 1}, "max_days = 2"))
	want("dropped", said(), "3 batches (1 to 3) of that time with 30 events, perhaps some that were asked for, were dropped with their days by this collector", evidence.TakenOut)

	down.Store(true)
	add(o, 9, 3)
	must(o.Close())
	list, err := filepath.Glob(filepath.Join(dir, "partitions", "*.db"))
	must(err)
	for _, path := range list {
		b, err := os.ReadFile(path)
		must(err)
		if i := strings.LastIndex(string(b), "AFGROUP\x00"); i >= 0 && strings.Contains(path, (day+3).String()) {
			b[i+400] ^= 1
			must(os.WriteFile(path, b, 0o600))
		}
	}
	down.Store(false)
	o = begin()
	for until := time.Now().Add(time.Minute); len(o.Missing()) == 0 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
	}
	add(o, 10, 3)
	want("damaged", said(), "1 batches (9) of that time with 10 events, perhaps some that were asked for, were set aside as damaged, never delivered", evidence.TakenOut)
}

// Of batches that are divided by classes what was dropped of one is said with the class, and what is gone of another is taken out.
func TestTakenOutClasses(t *testing.T) {
	t.Parallel()
	dir, m := filepath.Join(t.TempDir(), "store"), storetest.NewMemory()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	local, err := bolt.Open(bolt.Options{Dir: dir})
	must(err)
	o := bolt.NewOutbox(local, m)
	t.Cleanup(func() { _ = o.Close() })
	o.ProveEvents(true)
	o.Divide(store.Classes{{Hosts: "web*"}})
	m.Store = o.ID().String()
	day := store.DayOf(storetest.Start)
	for id := uint64(1); id <= 4; id++ {
		tab := store.NewTable()
		for i := range 5 {
			for _, host := range []string{"web1", "db1"} {
				tab.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.000:%d): text", host, storetest.Start.Unix(), 10*int(id)+i)))
			}
		}
		must(o.Append(t.Context(), &store.Batch{ID: id, Day: day + store.Day(id/4), Events: tab, LSN: id}))
	}
	st, err := m.Stats(t.Context())
	must(err)
	for _, p := range st.Parts {
		if p.Day == day && p.Class == "web*" {
			must(o.Drop(t.Context(), p.Part, "retain = web*: 1d"))
		}
	}
	said := func() string {
		t.Helper()
		must(o.CatchUp(t.Context(), false))
		log, err := seal.OpenLog(seal.LogConfig{Tree: o.Seals(), Store: dir})
		must(err)
		b := &bundling{store: o, log: log}
		list, err := b.takenOut(t.Context(), &evidence.Making{Query: &query.Query{}, Size: o.Seals().Size()}, o, func(uint64) bool { return true })
		must(err)
		return strings.Join(list, "; ")
	}
	const dropped = `what 3 batches (1 to 3) of that time had of the class "web*", 15 events, perhaps some that were asked for, was dropped by this collector, as its log says`
	if got := said(); got != dropped {
		t.Errorf("dropped: %q", got)
	}
	m.Attack(func(list []storetest.Held) []storetest.Held {
		return slices.DeleteFunc(list, func(x storetest.Held) bool { return x.Batch == 2 && x.Host == "db1" })
	})
	if got := said(); !strings.Contains(got, dropped) || !strings.Contains(got, "at least 5 events of that time, perhaps some that were asked for, were "+evidence.TakenOut) ||
		!strings.Contains(got, fmt.Sprintf("batch 2 of %s had 5 events of the class %q and has 0", day, store.Classes{{Hosts: "web*"}}.Rest())) {
		t.Errorf("taken out: %q", got)
	}
	// Nor has a part taken it that is said to be of any class, where something of it is there.
	m.Attack(func(list []storetest.Held) []storetest.Held {
		i := slices.IndexFunc(list, func(x storetest.Held) bool { return x.Batch == 3 && x.Host == "db1" })
		return slices.Delete(list, i, i+1)
	})
	m.Forge(store.DroppedPart{Part: store.Part{Day: day, N: 90}, Class: store.Undivided, By: m.Store, First: 3, Last: 3, Batches: 1, Events: 5})
	if got := said(); !strings.Contains(got, fmt.Sprintf("batch 3 of %s had 5 events of the class", day)) {
		t.Errorf("taken out, and forged: %q", got)
	}
}
