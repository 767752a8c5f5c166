package upkeep

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
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
