package storetest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// testOnce appends a batch again, before and after a reopen: it is stored once. A gap in the
// IDs is refused.
func testOnce(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	day := store.DayOf(Start)
	b := &store.Batch{ID: 1, Day: day, Events: tableOf(oneEvent("a", 1000, 1)), LSN: 1}
	mustAppend(t, s, b)
	mustAppend(t, s, b)
	s = env.Reopen(t, s)
	mustAppend(t, s, b)
	if got := Collect(t, s, &query.Query{}); len(got) != 1 {
		t.Errorf("a batch appended three times is there %d times", len(got))
	}
	if err := s.Append(ctx, &store.Batch{ID: 3, Day: day, LSN: 9}); !errors.Is(err, store.ErrGap) {
		t.Errorf("batch 3 after 1: %v, want ErrGap", err)
	}
	mustAppend(t, s, &store.Batch{ID: 2, Day: day, LSN: 5}) // without events
	st, err := s.State(ctx)
	if err != nil || st.ID != 2 || st.LSN != 5 {
		t.Errorf("state %+v, %v; want ID 2, LSN 5", st, err)
	}
}

// testState wants the state of the last batch, with the hosts and senders that batches have
// changed, added and deleted.
func testState(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	if st, err := s.State(ctx); err != nil || st.ID != 0 || st.LSN != 0 || len(st.Hosts) != 0 {
		t.Fatalf("state of a new store: %+v, %v", st, err)
	}
	now := Start.Local()
	host := func(name string, n uint64) store.Host {
		return store.Host{Name: name, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")},
			First: now, Last: now.Add(time.Second), LastEventMs: 5, Records: n, Bytes: 2 * n, Duplicates: 3, Unparsable: 4, Lost: 6, Live: true, LagMs: 7, Mismatched: 8, Verified: now}
	}
	kv := func(k, v string) store.KV { return store.KV{Key: []byte(k), Value: []byte(v)} }
	day := store.DayOf(Start)
	mustAppend(t, s, &store.Batch{ID: 1, Day: day, LSN: 10, Open: []uint64{3, 7, 900}, Hosts: []store.Host{host("b", 1), host("a", 2), {Name: ""}},
		Senders: []store.KV{kv("x", "1"), kv("y", "2")}})
	mustAppend(t, s, &store.Batch{ID: 2, Day: day + 1, LSN: 11, Open: []uint64{7}, Hosts: []store.Host{host("b", 5)},
		Senders: []store.KV{kv("x", "3"), {Key: []byte("y")}, kv("z", "4")}})
	// A host that is forgotten and met anew counts from nought.
	mustAppend(t, s, &store.Batch{ID: 3, Day: day + 1, LSN: 11, Open: []uint64{7}, Forget: []string{"b", "nowhere"}, Hosts: []store.Host{{Name: "b", Records: 1}}})
	want := &store.State{ID: 3, LSN: 11, Open: []uint64{7}, Hosts: []store.Host{{Name: ""}, host("a", 2), {Name: "b", Records: 1}},
		Senders: []store.KV{kv("x", "3"), kv("z", "4")}}
	for _, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		got, err := s.State(ctx)
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", when, err, d)
		}
	}
}

// testJournal wants what is known of the journal to be kept, and what was found missing of
// it to be in Missing.
func testJournal(t *testing.T, env Env) {
	s := env.Open(t)
	known := seglog.Known{First: 5, Oldest: 2, Last: 90, Newest: 4, Begins: 60, Dropping: []string{"1.seg"}}
	if k := s.Journal(); !k.Equal(seglog.Known{}) {
		t.Errorf("of a new store: %+v", k)
	}
	if err := s.KeepJournal(known, nil); err != nil {
		t.Fatal(err)
	}
	id := s.ID()
	s = env.Reopen(t, s)
	if k := s.Journal(); !k.Equal(known) || len(s.Missing()) != 0 || s.ID() != id || id == (seglog.ID{}) {
		t.Errorf("reopened: %+v of store %v, missing: %v; want %+v of %v", k, s.ID(), s.Missing(), known, id)
	}
	known.Last++
	if err := s.KeepJournal(known, []string{"journal/2.seg: 7 records are lost"}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		if m := s.Missing(); len(m) != 1 || !errors.Is(m[0], store.ErrDamaged) || !strings.Contains(m[0].Error(), "2.seg: 7 records") {
			t.Errorf("%s: missing: %v", when, m)
		}
	}
}

// testClosed wants ErrClosed from a store that is closed, and Close to be callable twice.
func testClosed(t *testing.T, env Env) {
	s := env.Open(t)
	mustAppend(t, s, &store.Batch{ID: 1, Day: store.DayOf(Start), Events: tableOf(oneEvent("a", 1000, 1)), LSN: 1})
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, serr := s.State(ctx)
	_, nerr := s.Snapshot(ctx)
	for what, err := range map[string]error{"append": s.Append(ctx, &store.Batch{ID: 2, LSN: 2}), "state": serr, "snapshot": nerr} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
}
