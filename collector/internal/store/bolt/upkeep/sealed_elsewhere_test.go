package upkeep

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Batches that another engine has are compared with the log as those in the store's own files are: what was changed there, taken out or put in is said, and what was dropped
// as the collector has signed is not.
func TestSealedElsewhere(t *testing.T) {
	t.Parallel()
	s, m := newSealedStore(t), storetest.NewMemory()
	cp := s.open(s.dir, func(st *bolt.Store) {
		m.Store = st.ID().String()
		o := bolt.NewOutbox(st, m)
		t.Cleanup(func() { _ = o.Close() })
		o.ProveEvents(true)
		for day := range 3 {
			for range 2 {
				s.next++
				tab := store.NewTable()
				storetest.Fill(tab, s.gen, 10)
				must(t, o.Append(t.Context(), &store.Batch{ID: s.next, Day: partOf(day).Day, Events: tab, LSN: s.next * 10}))
			}
		}
		if o.Delivered() != math.MaxUint64 {
			t.Fatal("batches wait")
		}
		must(t, o.Append(t.Context(), &store.Batch{ID: s.next + 1, Day: partOf(2).Day, LSN: s.next*10 + 1})) // without events
		must(t, o.Drop(t.Context(), partOf(0), "max_days = 2"))
	})
	check := func(o SealedOptions) *SealedReport {
		t.Helper()
		o.Dir, o.Checkpoint, o.Keys = s.dir, cp, s.keys
		rep, err := Sealed(context.Background(), o)
		must(t, err)
		return rep
	}
	if rep := check(SealedOptions{Elsewhere: m}); len(rep.Changed) > 0 || rep.Groups != 4 || rep.Events != 40 || !strings.Contains(strings.Join(rep.Notes, "\n"), "2 batches were dropped with their days") {
		t.Fatalf("%+v", rep)
	}
	if rep := check(SealedOptions{}); len(rep.Changed) > 0 || rep.Groups != 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), "6 batches went to a cluster") {
		t.Errorf("without the engine: %+v", rep)
	}
	if rep := check(SealedOptions{Elsewhere: m, From: partOf(2).Day, To: partOf(2).Day}); len(rep.Changed) > 0 || rep.Groups != 2 || !strings.Contains(strings.Join(rep.Notes, "\n"), "4 batches of other days were not compared") {
		t.Errorf("a day: %+v", rep)
	}
	var whole []storetest.Held
	m.Attack(func(list []storetest.Held) []storetest.Held { whole = slices.Clone(list); return list })
	is := func(x storetest.Held) bool { return x.Batch == 4 && x.Place == 3 }
	for name, c := range map[string]struct {
		want string
		do   func([]storetest.Held) []storetest.Held
	}{
		"changed": {"batch 4 of 2026-11-23 in the cluster is not what was stored on", func(list []storetest.Held) []storetest.Held {
			i := slices.IndexFunc(list, is)
			ev := *list[i].Event
			ev.From = &event.Sender{Host: "trusted", Transport: event.TransportTLS}
			list[i].Event = &ev
			return list
		}},
		"taken out": {"1 of its 10 events are GONE", func(list []storetest.Held) []storetest.Held { return slices.DeleteFunc(list, is) }},
		"put in": {"1 events were PUT IN", func(list []storetest.Held) []storetest.Held {
			return append(list, storetest.Held{Batch: 4, Place: 10, Host: list[0].Host, Event: list[0].Event})
		}},
		"a batch taken out": {"batch 4 of 2026-11-23 in the cluster: all of its 10 events are GONE, and nothing says that the day was dropped", func(list []storetest.Held) []storetest.Held {
			return slices.DeleteFunc(list, func(x storetest.Held) bool { return x.Batch == 4 })
		}},
		"a batch put in": {"batch 7 in the cluster: its 1 events were PUT IN", func(list []storetest.Held) []storetest.Held {
			return append(list, storetest.Held{Batch: 7, Host: list[0].Host, Event: list[0].Event})
		}},
		"a later batch put in": {"batch 99 in the cluster: its 1 events were PUT IN", func(list []storetest.Held) []storetest.Held {
			return append(list, storetest.Held{Batch: 99, Host: list[0].Host, Event: list[0].Event})
		}},
	} {
		m.Attack(func([]storetest.Held) []storetest.Held { return c.do(slices.Clone(whole)) })
		if rep := check(SealedOptions{Elsewhere: m}); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], c.want) {
			t.Errorf("%s: %q", name, rep.Changed)
		}
	}
	m.Attack(func([]storetest.Held) []storetest.Held { return whole })
	must(t, m.DropBy(partOf(1), "ffff", "somebody says so"))
	if rep := check(SealedOptions{Elsewhere: m}); len(rep.Changed) != 2 || !strings.Contains(rep.Changed[0], "no checkpoint has signed that the day was dropped") {
		t.Errorf("dropped, and not signed: %q", rep.Changed)
	}
}

// What waits for the engine is in the store's own files, and not gone.
func TestSealedElsewhereWaits(t *testing.T) {
	t.Parallel()
	s, m := newSealedStore(t), storetest.NewMemory()
	m.Fault = func(bool) error { return errors.New("it is away") }
	cp := s.open(s.dir, func(st *bolt.Store) {
		o := bolt.NewOutbox(st, m)
		t.Cleanup(func() { _ = o.Close() })
		o.ProveEvents(true)
		s.next++
		tab := store.NewTable()
		storetest.Fill(tab, s.gen, 10)
		must(t, o.Append(t.Context(), &store.Batch{ID: s.next, Day: partOf(0).Day, Events: tab, LSN: 10}))
	})
	rep, err := Sealed(t.Context(), SealedOptions{Dir: s.dir, Checkpoint: cp, Keys: s.keys, Elsewhere: m})
	if err != nil || len(rep.Changed) > 0 || rep.Groups != 1 || !strings.Contains(strings.Join(rep.Notes, "\n"), "1 batches wait for the cluster") {
		t.Errorf("%+v, %v", rep, err)
	}
}

// A batch that is being delivered, one that was damaged before it was, and a part that is deleted on some shards only are no tampering; a word of the cluster's that what is there refutes is.
func TestSealedElsewhereHalf(t *testing.T) {
	t.Parallel()
	s, m := newSealedStore(t), storetest.NewMemory()
	var down atomic.Bool
	m.Fault = func(bool) error {
		if down.Load() {
			return errors.New("it is away")
		}
		return nil
	}
	add := func(o *bolt.Outbox, day int) {
		s.next++
		tab := store.NewTable()
		storetest.Fill(tab, s.gen, 10)
		must(t, o.Append(t.Context(), &store.Batch{ID: s.next, Day: partOf(day).Day, Events: tab, LSN: s.next * 10}))
	}
	reopen := func(do func(o *bolt.Outbox)) []byte {
		t.Helper()
		st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
		must(t, err)
		o := bolt.NewOutbox(st, m)
		defer func() { must(t, o.Close()) }()
		o.ProveEvents(true)
		l := s.log(s.dir, st)
		do(o)
		text, _, err := l.Checkpoint(t.Context())
		must(t, err)
		return text
	}
	reopen(func(o *bolt.Outbox) {
		m.Store = o.ID().String()
		for day := range 2 {
			for range 3 {
				add(o, day)
			}
		}
		add(o, 2)
	})
	down.Store(true)
	var whole []storetest.Held
	cp := reopen(func(o *bolt.Outbox) {
		add(o, 2) // 8 waits
		m.Attack(func(list []storetest.Held) []storetest.Held { whole = slices.Clone(list); return list })
		must(t, o.Drop(t.Context(), partOf(0), "max_days = 2"))
	})
	check := func(what string, changes int, want string, note string) {
		t.Helper()
		rep, err := Sealed(t.Context(), SealedOptions{Dir: s.dir, Checkpoint: cp, Keys: s.keys, Elsewhere: m})
		must(t, err)
		if len(rep.Changed) != changes || !strings.Contains(strings.Join(rep.Changed, "\n"), want) || !strings.Contains(strings.Join(rep.Notes, "\n"), note) {
			t.Errorf("%s: changed %q, notes %q; want %d, %q, %q", what, rep.Changed, rep.Notes, changes, want, note)
		}
	}
	check("one waits", 0, "", "1 batches wait for the cluster")
	// Some of it is there already: one shard has its block.
	m.Attack(func(list []storetest.Held) []storetest.Held {
		g := storetest.NewGenerator(5, storetest.Templates(t), 3, storetest.Start)
		tab := store.NewTable()
		for range 8 {
			tab = store.NewTable()
			storetest.Fill(tab, g, 10)
		}
		h := tab.Hosts()[0]
		e := &h.Events[h.Order()[0]]
		return append(list, storetest.Held{Batch: 8, Place: 0, Host: h.Name, Event: store.ParseText(e.Text, e.Counted, []byte(h.Name), e.Origin)})
	})
	check("one is being delivered", 0, "", "1 batches wait for the cluster")
	// Of what was dropped some shards have theirs yet.
	m.Attack(func(list []storetest.Held) []storetest.Held {
		for _, x := range whole {
			if x.Batch <= 3 && x.Place%2 == 0 {
				list = append(list, x)
			}
		}
		return list
	})
	check("a part half deleted", 0, "", "3 batches were dropped with their days")

	// Batch 5 is deleted, and said to be dropped with others that are there.
	m.Attack(func(list []storetest.Held) []storetest.Held {
		return slices.DeleteFunc(list, func(x storetest.Held) bool { return x.Batch == 5 })
	})
	m.Forge(store.DroppedPart{Part: store.Part{Day: partOf(1).Day, N: 7}, At: time.Now(), By: m.Store, Why: "max_days = 2", First: 4, Last: 6, Batches: 3, Events: 30})
	cp = reopen(func(o *bolt.Outbox) {
		for until := time.Now().Add(time.Minute); len(drops(t, s.dir)) < 2 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		}
	})
	check("forged", 1, "batch 5 of 2026-11-23 in the cluster: its 10 events are GONE, or some of them, and it was not dropped", "")
	list, err := manifest.Load(fsys.OS, s.dir)
	must(t, err)
	list.AddLoss(manifest.Loss{File: "partitions/x.db.corrupt-1", Text: "damaged", Batch: 5})
	must(t, manifest.Save(fsys.OS, s.dir, list))
	check("set aside", 1, "batch 5 of 2026-11-23 in the cluster: its 10 events were set aside as damaged, never delivered", "")
}

// drops returns the leaves of drops that a log has.
func drops(t *testing.T, dir string) (list []*seal.Leaf) {
	t.Helper()
	_, _, err := seal.Scan(dir, func(x *seal.Scanned) error {
		if l, err := seal.ParseLeaf(x.Text); err == nil && l.Kind == seal.Dropped {
			list = append(list, l)
		}
		return nil
	})
	must(t, err)
	return list
}
