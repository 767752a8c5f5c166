package evidence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// farHub is a hub whose events another engine has.
type farHub struct {
	t      *testing.T
	st     *bolt.Outbox
	engine *storetest.Memory
	log    *seal.Log
	keys   []note.Verifier
	signer note.Signer
	down   atomic.Bool // the engine takes nothing
}

func newFarHub(t *testing.T) *farHub {
	t.Helper()
	h := &farHub{t: t, engine: storetest.NewMemory()}
	h.engine.Fault = func(bool) error {
		if h.down.Load() {
			return errors.New("it is away")
		}
		return nil
	}
	var public string
	h.signer, public, h.keys = newKey(t)
	dir := filepath.Join(t.TempDir(), "store")
	local, err := bolt.Open(bolt.Options{Dir: dir})
	h.must(err)
	h.st = bolt.NewOutbox(local, h.engine)
	t.Cleanup(func() { _ = h.st.Close() })
	h.st.ProveEvents(true)
	h.log, err = seal.OpenLog(seal.LogConfig{Tree: h.st.Seals(), Store: dir, Signer: h.signer, Public: public, CatchUp: h.st.CatchUp})
	h.must(err)
	return h
}

func (h *farHub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// add stores a batch with events of three hosts, of hosts that are not told apart, and with some that are alike.
func (h *farHub) add(id uint64) {
	h.t.Helper()
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(h.t), 3, storetest.Start), 30)
	for range 2 {
		for _, host := range []string{"", "web1.example.net"} {
			ev := storetest.Parse(host, "type=USER_TTY msg=audit(1795334400.000:1): a")
			ev.From = &event.Sender{Transport: event.TransportTCP, Addr: event.SenderAddr(storetest.Addr(1))}
			if host == "" {
				ev.Node = store.NodeOf(ev.From)
			}
			tab.Add(host, ev)
		}
	}
	h.must(h.st.Append(h.t.Context(), &store.Batch{ID: id, Day: store.DayOf(storetest.Start), Events: tab, LSN: id * 10}))
}

func (h *farHub) bundle(q *query.Query) (dir string, rep *Report) {
	h.t.Helper()
	at, c, err := h.log.Checkpoint(h.t.Context())
	h.must(err)
	_, last, err := h.log.At(at)
	h.must(err)
	dir = filepath.Join(h.t.TempDir(), "b")
	f, err := NewFolder(dir)
	h.must(err)
	_, err = Make(h.t.Context(), Making{
		Query: q, About: Query{Store: h.st.ID().String(), Words: []string{}, LastBatch: last}, Log: h.log, Checkpoint: at, Size: c.Size,
		Groups: h.st, Signer: h.signer, Send: f.Take,
		Scan: func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
			return store.Scan(ctx, h.st, q, fn)
		},
		Coverage: func(context.Context, []string, int64, int64) ([]byte, error) { return nil, nil },
	})
	h.must(errors.Join(err, f.Finish()))
	rep, err = Verify(dir, h.keys)
	h.must(err)
	return dir, rep
}

// Events that another engine has are proved alone, by the root that their batch got before it went there, and so are those that still wait. What was changed there since, taken
// out or put in proves nothing of its batch, and the bundle says what; other batches are proved.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	h := newFarHub(t)
	for id := range uint64(3) {
		h.add(id + 1)
	}
	if h.st.Delivered() != math.MaxUint64 {
		t.Fatal("batches wait")
	}
	dir, rep := h.bundle(&query.Query{})
	if rep.Unproved != 0 || rep.Proved != 3*34 || rep.Query.Format != plainFormat || read(t, dir, Pieces) != "" {
		t.Fatalf("%+v", rep)
	}
	byHand(t, dir, rep)
	h.down.Store(true)
	h.add(4)
	if h.st.Delivered() != 3 {
		t.Fatalf("batch %d is the last that is delivered", h.st.Delivered())
	}
	if _, rep := h.bundle(&query.Query{}); rep.Unproved != 0 || rep.Proved != 4*34 {
		t.Fatalf("with one that waits: %+v", rep)
	}
	of := func(fn func(x *storetest.Held)) func([]storetest.Held) []storetest.Held {
		return func(list []storetest.Held) []storetest.Held {
			for i := range list {
				if list[i].Batch == 2 && list[i].Place == 7 {
					fn(&list[i])
				}
			}
			return list
		}
	}
	other := func(ev *event.Event, change func(*event.Event)) *event.Event {
		text, counted := store.AppendText(nil, ev)
		out := store.ParseText(text, counted, slices.Clone(ev.Node), store.OriginOf(ev))
		change(out)
		return out
	}
	var whole []storetest.Held
	h.engine.Attack(func(list []storetest.Held) []storetest.Held { whole = slices.Clone(list); return list })
	for _, c := range []struct {
		name, want string
		unproved   int64
		do         func([]storetest.Held) []storetest.Held
	}{
		{"a text", "CHANGED since it was stored", 34, of(func(x *storetest.Held) {
			x.Event = other(x.Event, func(ev *event.Event) {
				text, counted := store.AppendText(nil, ev)
				text[len(text)-4] ^= 1
				*ev = *store.ParseText(text, counted, slices.Clone(ev.Node), store.OriginOf(ev))
			})
		})},
		{"a sender", "the text, sender or receipts of some of its 34 events", 34, of(func(x *storetest.Held) {
			x.Event = other(x.Event, func(ev *event.Event) {
				ev.From = &event.Sender{Transport: event.TransportTLS, Host: "trusted.example.net"}
			})
		})},
		{"a receipt", "the text, sender or receipts", 34, of(func(x *storetest.Held) {
			x.Event = other(x.Event, func(ev *event.Event) { ev.Records[0].Received++ })
		})},
		{"a host", "the text, sender or receipts", 34, of(func(x *storetest.Held) { x.Host = "db9" })},
		{"two places", "the text, sender or receipts", 34, func(list []storetest.Held) []storetest.Held {
			for i := range list {
				if list[i].Batch == 2 && (list[i].Place == 10 || list[i].Place == 25) {
					list[i].Place = 35 - list[i].Place
				}
			}
			return list
		}},
		{"taken out", "1 of its 34 events are GONE", 33, func(list []storetest.Held) []storetest.Held {
			return slices.DeleteFunc(list, func(x storetest.Held) bool { return x.Batch == 2 && x.Place == 7 })
		}},
		{"put in", "1 events were PUT IN", 35, func(list []storetest.Held) []storetest.Held {
			return append(list, storetest.Held{Batch: 2, Place: 34, Host: list[0].Host, Event: list[0].Event})
		}},
		{"put in at a place", "1 events were PUT IN", 35, func(list []storetest.Held) []storetest.Held {
			return append(list, storetest.Held{Batch: 2, Place: 3, Host: list[0].Host, Event: list[0].Event})
		}},
		{"hidden", "1 events are not found by what they say", 34, of(func(x *storetest.Held) { x.Hidden = true })},
		{"replaced by another one", "1 of its 34 events are GONE, 1 events were PUT IN", 34, func(list []storetest.Held) []storetest.Held {
			return of(func(x *storetest.Held) { x.Place = 99 })(list)
		}},
	} {
		h.engine.Attack(func([]storetest.Held) []storetest.Held { return c.do(slices.Clone(whole)) })
		_, rep := h.bundle(&query.Query{})
		if rep.Unproved != c.unproved || rep.Proved != 3*34 || !strings.Contains(rep.Query.Why, "CHANGED") || !strings.Contains(rep.Query.Why, c.want) {
			t.Errorf("%s: %d proved, %d not: %s", c.name, rep.Proved, rep.Unproved, rep.Query.Why)
		}
	}
	h.engine.Attack(func([]storetest.Held) []storetest.Held { return whole })
	if _, rep := h.bundle(&query.Query{}); rep.Unproved != 0 {
		t.Errorf("put right again: %+v", rep)
	}
}

// A batch that the log never had is none that was stored before the log: somebody has put it in.
func TestElsewherePutIn(t *testing.T) {
	t.Parallel()
	h := newFarHub(t)
	h.add(1)
	h.must(h.st.Append(t.Context(), &store.Batch{ID: 2, Day: store.DayOf(storetest.Start), LSN: 11})) // without events
	h.add(3)
	h.engine.Attack(func(list []storetest.Held) []storetest.Held {
		return append(list, storetest.Held{Batch: 2, Host: list[0].Host, Event: list[0].Event})
	})
	if _, rep := h.bundle(&query.Query{}); rep.Unproved != 1 || rep.Proved != 2*34 || !strings.Contains(rep.Query.Why, "PUT IN") {
		t.Errorf("%+v", rep)
	}
}

// What went to the engine before there was a key is not proved by what the engine has now.
func TestElsewhereBeforeTheKey(t *testing.T) {
	t.Parallel()
	h := newFarHub(t)
	h.st.ProveEvents(false)
	h.add(1)
	h.st.ProveEvents(true)
	h.add(2)
	if _, rep := h.bundle(&query.Query{}); rep.Unproved != 34 || rep.Proved != 34 || !strings.Contains(rep.Query.Why, "there was no key then") {
		t.Errorf("%+v", rep)
	}
}

// Many batches are read again some at a time, with the same proofs.
func TestElsewhereMany(t *testing.T) {
	t.Parallel()
	h := newFarHub(t)
	for id := range uint64(store.RereadBatches + 20) {
		tab := store.NewTable()
		for i := range 2 {
			tab.Add("web1", storetest.Parse("web1", fmt.Sprintf("node=web1 type=USER_TTY msg=audit(%d.000:%d): x", storetest.Start.Unix(), 2*int(id)+i)))
		}
		h.must(h.st.Append(t.Context(), &store.Batch{ID: id + 1, Day: store.DayOf(storetest.Start), Events: tab, LSN: id + 1}))
	}
	if _, rep := h.bundle(&query.Query{}); rep.Unproved != 0 || rep.Proved != 2*(store.RereadBatches+20) {
		t.Errorf("%+v", rep)
	}
}

// Of a batch of which a class was dropped the rest is proved, and what was changed of it is said to be changed, also where what would show it was taken away.
func TestElsewhereClasses(t *testing.T) {
	t.Parallel()
	h := newFarHub(t)
	h.engine.Store = h.st.ID().String()
	h.st.Divide(store.Classes{{Hosts: "web*"}, {Hosts: "db*"}})
	day := store.DayOf(storetest.Start)
	for id := range uint64(2) {
		tab := store.NewTable()
		for i := range 4 {
			for _, host := range []string{"web1", "db1", "mail"} {
				tab.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.000:%d): text", host, storetest.Start.Unix(), 10*int(id)+i)))
			}
		}
		h.must(h.st.Append(t.Context(), &store.Batch{ID: id + 1, Day: day + store.Day(id), Events: tab, LSN: id + 1}))
	}
	stats, err := h.engine.Stats(t.Context())
	h.must(err)
	for _, p := range stats.Parts {
		if p.Day == day && p.Class == "web*" {
			h.must(h.st.Drop(t.Context(), p.Part, "retain = web*: 1d"))
		}
	}
	if _, rep := h.bundle(&query.Query{}); rep.Unproved != 0 || rep.Proved != 8+12 {
		t.Fatalf("%+v", rep)
	}
	h.engine.Attack(func(list []storetest.Held) []storetest.Held {
		i := slices.IndexFunc(list, func(x storetest.Held) bool { return x.Batch == 1 && x.Host == "db1" })
		ev := *list[i].Event
		ev.From = &event.Sender{Transport: event.TransportTLS, Host: "trusted.example.net"}
		list[i].Event = &ev
		return list
	})
	for name, also := range map[string]func(d *store.Divided){
		"the row has no hashes": func(d *store.Divided) { d.Proof = nil },
		"there is no row":       func(d *store.Divided) { d.First = 1 << 30 },
	} {
		h.engine.Around(1, func(d *store.Divided) {
			if d.Name == "db*" {
				also(d)
			}
		})
		for i := range 2 {
			if i == 1 {
				h.engine.Forge(store.DroppedPart{Part: store.Part{Day: day, N: 90}, Class: "db*", By: h.engine.Store, Why: "retain = db*: 1d", First: 1, Last: 1, Batches: 1, Events: 4})
			}
			if _, rep := h.bundle(&query.Query{}); rep.Proved != 12 || !strings.Contains(rep.Query.Why, "CHANGED") {
				t.Errorf("%s, said to be dropped: %v: %d proved, %d not: %s", name, i == 1, rep.Proved, rep.Unproved, rep.Query.Why)
			}
		}
	}
}
