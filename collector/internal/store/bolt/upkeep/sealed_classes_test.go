package upkeep

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Of batches of which one class was dropped the rest is compared with the log as ever: what was changed there, taken out or put in is said, also where it is a whole class, and
// whatever the engine says of the parts that a batch is in.
func TestSealedElsewhereClasses(t *testing.T) {
	t.Parallel()
	s, m := newSealedStore(t), storetest.NewMemory()
	classes := store.Classes{{Hosts: "web*"}, {Hosts: "db*"}}
	cp := s.open(s.dir, func(st *bolt.Store) {
		m.Store = st.ID().String()
		o := bolt.NewOutbox(st, m)
		t.Cleanup(func() { _ = o.Close() })
		o.ProveEvents(true)
		o.Divide(classes)
		for day := range 2 {
			for range 3 {
				s.next++
				tab := store.NewTable()
				for i := range 4 {
					for _, host := range []string{"web1", "db1", "mail"} {
						tab.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.000:%d): text", host, storetest.Start.Unix()+int64(day)*86400, 10*int(s.next)+i)))
					}
				}
				must(t, o.Append(t.Context(), &store.Batch{ID: s.next, Day: partOf(day).Day, Events: tab, LSN: s.next * 10}))
			}
		}
		stats, err := m.Stats(t.Context())
		must(t, err)
		if len(stats.Parts) != 6 {
			t.Fatalf("parts: %+v", stats.Parts)
		}
		for _, p := range stats.Parts {
			if p.Day == partOf(0).Day && p.Class == "web*" {
				// Somebody has said so before, of more batches: what the collector says itself is its own word all the same.
				m.Forge(store.DroppedPart{Part: p.Part, Class: "web*", At: time.Now(), By: "ffff", First: 1, Last: 9})
				must(t, o.Drop(t.Context(), p.Part, "retain = web*: 1d"))
			}
		}
	})
	check := func() *SealedReport {
		t.Helper()
		rep, err := Sealed(context.Background(), SealedOptions{Dir: s.dir, Checkpoint: cp, Keys: s.keys, Elsewhere: m})
		must(t, err)
		return rep
	}
	const note = `of 3 batches what they had of the class "web*" was dropped, 12 events; the rest of them was compared with the log`
	if rep := check(); len(rep.Changed) > 0 || rep.Groups != 6 || rep.Events != 60 || !slices.Contains(rep.Notes, note) || strings.Contains(strings.Join(rep.Notes, "\n"), "cluster's word") {
		t.Fatalf("%+v", rep)
	}
	var whole []storetest.Held
	m.Attack(func(list []storetest.Held) []storetest.Held { whole = slices.Clone(list); return list })
	of := func(host string) func(x storetest.Held) bool {
		return func(x storetest.Held) bool { return x.Batch == 2 && x.Host == host }
	}
	for name, c := range map[string]struct {
		want string
		do   func([]storetest.Held) []storetest.Held
	}{
		"changed": {"batch 2 of 2026-11-22 in the cluster is not what was stored on", func(list []storetest.Held) []storetest.Held {
			i := slices.IndexFunc(list, of("mail"))
			ev := *list[i].Event
			ev.From = &event.Sender{Host: "trusted", Transport: event.TransportTLS}
			list[i].Event = &ev
			return list
		}},
		"an event taken out": {"1 of its 12 events are GONE", func(list []storetest.Held) []storetest.Held {
			i := slices.IndexFunc(list, of("db1"))
			return slices.Delete(list, i, i+1)
		}},
		"a class taken out": {`batch 2 of 2026-11-22 in the cluster, class "db*": all of its 4 events are GONE, and nothing says that the day was dropped`, func(list []storetest.Held) []storetest.Held {
			return slices.DeleteFunc(list, of("db1"))
		}},
		"put in where it was dropped": {"4 events were PUT IN", func(list []storetest.Held) []storetest.Held {
			for i := range 4 {
				x := list[slices.IndexFunc(list, of("db1"))]
				list = append(list, storetest.Held{Batch: 2, Place: 20 + i, Host: "web1", Event: x.Event})
			}
			return list
		}},
		"another event in the place of one that was dropped": {"of batch 2, which would have gone with it, something is there", func(list []storetest.Held) []storetest.Held {
			x := list[slices.IndexFunc(list, of("db1"))]
			return append(list, storetest.Held{Batch: 2, Place: 0, Host: "web1", Event: x.Event})
		}},
	} {
		m.Attack(func([]storetest.Held) []storetest.Held { return c.do(slices.Clone(whole)) })
		if rep := check(); len(rep.Changed) != 1 && !strings.HasPrefix(name, "another") || !strings.Contains(strings.Join(rep.Changed, "\n"), c.want) {
			t.Errorf("%s: %q", name, rep.Changed)
		}
	}
	m.Attack(func([]storetest.Held) []storetest.Held { return whole })
	if rep := check(); len(rep.Changed) > 0 {
		t.Errorf("put right again: %q", rep.Changed)
	}
	m.Around(3, func(d *store.Divided) { d.Proof[0][7] ^= 1 })
	if rep := check(); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], "batch 3 of 2026-11-22") || !strings.Contains(rep.Changed[0], "CHANGED") {
		t.Errorf("hashes forged: %q", rep.Changed)
	}
	m.Around(3, func(d *store.Divided) { d.Proof[0][7] ^= 1 })
	// What lies around the rest has a hash for all before it, of which something is still there. Who takes away what lies around that, and says that it was dropped, has it
	// compared all the same.
	m.Attack(func([]storetest.Held) []storetest.Held {
		list := slices.Clone(whole)
		i := slices.IndexFunc(list, of("db1"))
		ev := *list[i].Event
		ev.From = &event.Sender{Host: "trusted", Transport: event.TransportTLS}
		list[i].Event = &ev
		return list
	})
	var was store.Divided
	m.Around(2, func(d *store.Divided) {
		if d.Name == "db*" {
			was, d.Proof = *d, nil
		}
	})
	for i, also := range []func(){
		func() {},
		func() {
			m.Around(2, func(d *store.Divided) {
				if d.Name == "db*" {
					d.First = 1 << 30
				}
			})
		},
		func() {
			m.Forge(store.DroppedPart{Part: store.Part{Day: partOf(0).Day, N: 91}, Class: "db*", At: time.Now(), By: m.Store, Why: "retain = db*: 1d", First: 2, Last: 2, Batches: 1, Events: 4})
		},
	} {
		also()
		if rep := check(); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], "batch 2 of 2026-11-22") || !strings.Contains(rep.Changed[0], "CHANGED") {
			t.Errorf("proof withheld, %d: %q", i, rep.Changed)
		}
	}
	m.Attack(func([]storetest.Held) []storetest.Held { return whole })
	m.Around(2, func(d *store.Divided) {
		if d.Name == "db*" {
			*d = was
		}
	})
	must(t, m.Retell(store.DroppedPart{Part: store.Part{Day: partOf(0).Day, N: 91}, Class: "another"}))
	// A class that is said to be dropped with a part that has all of the day, and what its batches had of it is there.
	m.Forge(store.DroppedPart{Part: store.Part{Day: partOf(0).Day, N: 90}, Class: "db*", At: time.Now(), By: m.Store, Why: "retain = db*: 1d", First: 1, Last: 3, Batches: 3, Events: 12})
	m.Attack(func(list []storetest.Held) []storetest.Held { return slices.DeleteFunc(list, of("db1")) })
	if rep := check(); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], "it was not dropped, as the cluster says: of batch 1") {
		t.Errorf("forged: %q", rep.Changed)
	}
	// Nor was one whose part is said to be of any class.
	m.Forge(store.DroppedPart{Part: store.Part{Day: partOf(1).Day, N: 92}, Class: store.Undivided, At: time.Now(), By: m.Store, Why: "retain = db*: 1d", First: 5, Last: 5, Batches: 1, Events: 4})
	cut := func([]storetest.Held) []storetest.Held {
		list := slices.Clone(whole)
		i := slices.IndexFunc(list, func(x storetest.Held) bool { return x.Batch == 5 && x.Host == "db1" })
		list = slices.Delete(list, i, i+1)
		ev := *list[i].Event
		ev.From = &event.Sender{Host: "trusted", Transport: event.TransportTLS}
		list[i].Event = &ev
		return list
	}
	m.Attack(cut)
	cp = s.open(s.dir, func(st *bolt.Store) { // which signs it
		o := bolt.NewOutbox(st, m)
		must(t, o.CatchUp(t.Context(), false))
		t.Cleanup(func() { _ = o.Close() })
	})
	if rep := check(); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], "it was not dropped, as the cluster says: of batch 5") {
		t.Errorf("forged for any class: %q", rep.Changed)
	}
	// A drop of another class, by the collector's own word, says nothing of this one.
	m.Attack(func([]storetest.Held) []storetest.Held {
		return slices.DeleteFunc(slices.Clone(whole), func(x storetest.Held) bool { return x.Batch <= 3 && x.Host == "mail" })
	})
	if rep := check(); len(rep.Changed) != 3 || !strings.Contains(rep.Changed[0], "nothing says that the day was dropped") {
		t.Errorf("the rest taken out: %q", rep.Changed)
	}
}
