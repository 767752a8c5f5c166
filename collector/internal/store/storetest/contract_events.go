package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// testAnswers compares the answers to queries of every kind with the reference's, forwards
// and backwards, before and after a reopen.
func testAnswers(t *testing.T, env Env) {
	ref, s := NewReference(), env.Open(t)
	const seed = 7
	size := need.Size(400, 120)
	g := NewGenerator(seed, Templates(t), 5, Start)
	t.Logf("seed %d", seed)
	for id := uint64(1); id <= 6; id++ {
		tab := store.NewTable()
		Fill(tab, g, size)
		if id == 3 {
			tab.Add("web1.example.net", Parse("web1.example.net", "node=web1.example.net not a record"))
			tab.Add("", Parse("", "node=stranger type=USER_LOGIN msg=audit(1795334401.000:5): pid=1 uid=0 auid=1000 ses=3 msg='op=login acct=\"x\" exe=\"/bin/login\" hostname=h addr=10.0.0.1 terminal=tty1 res=success'"))
			for _, from := range []string{"192.0.2.77", "192.0.2.78"} { // of hosts that have no place of their own
				ev := Parse(from, "type=USER_LOGIN msg=audit(1795334401.000:6): pid=1 uid=0 auid=1000 ses=3 msg='op=login'")
				ev.From = &event.Sender{Addr: netip.MustParseAddr(from), Transport: event.TransportTCP}
				tab.Add("", ev)
			}
			tab.Add("", Parse("", "node=web2.example.net type=USER_LOGIN msg=audit(1795334401.000:4): pid=1 uid=0 auid=1000 ses=3 msg='op=login acct=\"x\" exe=\"/bin/login\" hostname=h addr=10.0.0.1 terminal=tty1 res=success'"))
		}
		b := &store.Batch{ID: id, Day: store.DayOf(Start) + store.Day(id/4), Events: tab, LSN: uint64(size) * id}
		mustAppend(t, ref, b)
		mustAppend(t, s, b)
	}
	all := Queries()
	maps.Copy(all, BatchQueries())
	answers := map[string][]string{}
	for name, q := range all {
		answers[name] = Collect(t, ref, q)
	}
	for i, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		for _, name := range need.Turn(all, i, 2) {
			q, want := all[name], answers[name]
			if got := Collect(t, s, q); !slices.Equal(want, got) {
				t.Errorf("%s, %s: %d events, want %d (-reference +store):\n%s", when, name, len(got), len(want), clip(cmp.Diff(want, got)))
			}
			backwards := *q
			backwards.Reverse = true
			want = slices.Clone(want)
			slices.Reverse(want)
			if got := Collect(t, s, &backwards); !slices.Equal(want, got) {
				t.Errorf("%s, %s, the newest first (-reference +store):\n%s", when, name, clip(cmp.Diff(want, got)))
			}
		}
	}
	if len(answers["exe contains"]) == 0 {
		t.Error("the generated log has nothing for the queries to find")
	}
	a, _ := ref.Stats(context.Background())
	b, err := s.Stats(context.Background())
	if err != nil || a.Events != b.Events || a.Records != b.Records || a.RawBytes != b.RawBytes {
		t.Errorf("stats: %+v, %v; want counts as %+v", b, err, a)
	}
}

// testOdd stores records that are empty, have newlines or cannot be parsed, and wants their
// bytes back.
func testOdd(t *testing.T, env Env) {
	s := env.Open(t)
	stamp := "type=USER_TTY msg=audit(1795334400.001:9): "
	odd := []string{"", "\n", "a\nb", "\n\n", "x\n", "no header \x00\xff\x1d", strings.Repeat("long ", 2000), stamp + "data=\"a\nb\"", stamp + "plain", "type=X", "  "}
	tab := store.NewTable()
	var want []string
	for i, r := range odd {
		ev := &event.Event{}
		n := 1 + i%3
		for range n {
			ev.Records = append(ev.Records, record.Record{Raw: []byte(r)})
		}
		ev.Records[0].Node = []byte("h")
		ev.Node = []byte("h")
		tab.Add("h", ev)
		want = append(want, strings.Repeat(r+"|", n))
	}
	mustAppend(t, s, &store.Batch{ID: 1, Day: store.DayOf(Start), Events: tab, LSN: 1})
	s = env.Reopen(t, s)
	var got []string
	err := store.Scan(context.Background(), s, &query.Query{Unparsable: true}, func(ev *event.Event) error {
		text := ""
		for i := range ev.Records {
			text += string(ev.Records[i].Raw) + "|"
		}
		got = append(got, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	err = store.Scan(context.Background(), s, &query.Query{}, func(ev *event.Event) error {
		records++
		if !ev.Records[0].IsRecord() {
			t.Errorf("%q is no record, and is found", ev.Records[0].Raw)
		}
		return nil
	})
	snap, serr := s.Snapshot(context.Background())
	if err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	defer func() { _ = snap.Close() }()
	rest := 0
	sum, err := snap.Tally(context.Background(), &query.Query{}, nil, func(*event.Event) error { rest++; return nil })
	if err != nil || records == 0 || int(sum.Events)+rest != records {
		t.Errorf("%d records, %d counted and %d to be counted, %v", records, sum.Events, rest, err)
	}
	// What parses has a time now, so the order is not that of arrival.
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// testStops ends scans early: by ErrStop, by another error, by the context.
func testStops(t *testing.T, env Env) {
	s := env.Open(t)
	g := NewGenerator(3, Templates(t), 3, Start)
	for id := uint64(1); id <= 3; id++ {
		tab := store.NewTable()
		Fill(tab, g, 300)
		mustAppend(t, s, &store.Batch{ID: id, Day: store.DayOf(Start), Events: tab, LSN: id})
	}
	ctx := context.Background()
	for _, after := range []int{1, 2, 299, 500} {
		n := 0
		err := store.Scan(ctx, s, &query.Query{}, func(*event.Event) error {
			if n++; n == after {
				return query.ErrStop
			}
			return nil
		})
		if err != nil || n != after {
			t.Errorf("ErrStop after %d: %d events, %v", after, n, err)
		}
	}
	boom := errors.New("boom")
	if err := store.Scan(ctx, s, &query.Query{}, func(*event.Event) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("fn's error: %v", err)
	}
	cctx, cancel := context.WithCancel(ctx)
	n := 0
	err := store.Scan(cctx, s, &query.Query{}, func(*event.Event) error {
		if n++; n == 10 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n == 900 {
		t.Errorf("cancelled after 10: %d events, %v", n, err)
	}
	if err := s.Append(cctx, &store.Batch{ID: 4, Day: store.DayOf(Start), LSN: 4}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("append under a cancelled context: %v", err)
	}
}

// testSnapshot wants a snapshot to have the batches of when it was made, whatever comes
// later, and its Close to be callable twice.
func testSnapshot(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	day := store.DayOf(Start)
	mustAppend(t, s, &store.Batch{ID: 1, Day: day, Events: tableOf(oneEvent("a", 1000, 1)), LSN: 1})
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, &store.Batch{ID: 2, Day: day, Events: tableOf(oneEvent("a", 500, 2)), LSN: 2})
	mustAppend(t, s, &store.Batch{ID: 3, Day: day + 1, Events: tableOf(oneEvent("a", 600, 2)), LSN: 3})
	n := 0
	err = snap.Scan(ctx, &query.Query{}, func(*event.Event) error { n++; return nil })
	if err != nil || n != 1 || snap.LastID() != 1 {
		t.Errorf("a snapshot of batch 1 has %d events, last ID %d, %v", n, snap.LastID(), err)
	}
	if err := errors.Join(snap.Close(), snap.Close()); err != nil {
		t.Error(err)
	}
	if got := Collect(t, s, &query.Query{}); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

// testTies stores events that are equal in time, and in serial and node, too: the one stored
// earlier comes first.
func testTies(t *testing.T, env Env) {
	s := env.Open(t)
	line := func(node string, serial int, text string) *event.Event {
		return Parse(node, fmt.Sprintf("node=%s type=KERNEL msg=audit(1000.000:%d): %s", node, serial, text))
	}
	day := store.DayOf(Start)
	mustAppend(t, s, &store.Batch{ID: 1, Day: day + 1, Events: tableOf(line("b", 1, "first"), line("b", 1, "second"), line("a", 2, "")), LSN: 3})
	mustAppend(t, s, &store.Batch{ID: 2, Day: day, Events: tableOf(line("b", 1, "third"), line("a", 1, ""), line("b", 0, "")), LSN: 6})
	want := []string{"a1 ", "a2 ", "b0 ", "b1 first", "b1 second", "b1 third"}
	for _, reverse := range []bool{false, true} {
		var got []string
		for _, e := range Collect(t, s, &query.Query{Reverse: reverse}) {
			f := strings.Fields(e)
			got = append(got, f[0]+f[2]+" "+strings.Join(f[6:], " "))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("reverse %v (-want +got):\n%s", reverse, d)
		}
		slices.Reverse(want)
	}
}
