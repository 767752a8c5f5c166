package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Env opens stores for the contract's tests. Reopen closes s, if it is open, and
// opens what it held again.
type Env struct {
	Open   func(t *testing.T) store.Store
	Reopen func(t *testing.T, s store.Store) store.Store
}

// Templates are the records the generator starts from.
func Templates(t testing.TB) []byte {
	t.Helper()
	dir := need.Source(t, "pkg/record/testdata")
	var all []byte
	for _, name := range []string{"kernel-enriched.log", "samples.log"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// Start is when generated logs begin.
var Start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// Parse makes an event of records that came from a host.
func Parse(host string, raw ...string) *event.Event {
	ev := &event.Event{}
	for _, r := range raw {
		ev.Records = append(ev.Records, record.Record{})
		store.ParseRecord(&ev.Records[len(ev.Records)-1], []byte(r), []byte(host))
	}
	ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
	return ev
}

// Fill adds n generated events to a table.
func Fill(t *store.Table, g *Generator, n int) {
	for range n {
		host, recs := g.Event()
		ev := &event.Event{Records: make([]record.Record, len(recs))}
		for i, r := range recs {
			store.ParseRecord(&ev.Records[i], r, []byte(host))
		}
		ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
		g.origin(ev)
		t.Add(host, ev)
	}
}

// Text is an event as the tests compare it.
func Text(ev *event.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d\n", ev.Node, ev.Ms, ev.Serial)
	for i := range ev.Records {
		fmt.Fprintf(&b, "%s\n", ev.Records[i].Raw)
	}
	return b.String()
}

// origins is what is known of an event beside its text, as the tests compare it.
func origins(ev *event.Event) string {
	var b strings.Builder
	if s := ev.From; s != nil {
		fmt.Fprintf(&b, "from %q %v %v", s.Host, s.Addr, s.Transport)
	}
	for i := range ev.Records {
		fmt.Fprintf(&b, " %d", ev.Records[i].Received)
	}
	return b.String() + "\n"
}

// TextFor is Text with what a query asks for beside an event's text.
func TextFor(q *query.Query, ev *event.Event) string {
	text := Text(ev)
	if q.Origin || len(q.From) > 0 {
		text += origins(ev)
	}
	if q.Batches {
		text += fmt.Sprintf("batch %d\n", ev.Batch)
	}
	return text
}

// Collect is the whole answer to a query.
func Collect(t testing.TB, s store.Store, q *query.Query) []string {
	t.Helper()
	var out []string
	err := store.Scan(context.Background(), s, q, func(ev *event.Event) error {
		out = append(out, TextFor(q, ev))
		return nil
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return out
}

// Run runs the contract's tests.
func Run(t *testing.T, env Env) {
	for name, fn := range map[string]func(*testing.T, Env){
		"answers as the reference does": testAnswers,
		"stores a batch once":           testOnce,
		"keeps state over a reopen":     testState,
		"moves to the next day":         testDays,
		"has several parts of a day":    testRotate,
		"odd records come back as sent": testOdd,
		"stops early, errors, contexts": testStops,
		"snapshots stay as they are":    testSnapshot,
		"ties in order of storing":      testTies,
		"counts what it would give":     testTally,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, env)
		})
	}
}

func mustAppend(t *testing.T, s store.Store, b *store.Batch) {
	t.Helper()
	if err := s.Append(context.Background(), b); err != nil {
		t.Fatalf("append batch %d: %v", b.ID, err)
	}
}

// Queries are of every kind the plan knows.
func Queries() map[string]*query.Query {
	at := func(d time.Duration) int64 { return Start.Add(d).UnixMilli() }
	term := func(op query.Op, text string, f ...query.Field) query.Term {
		return query.Term{Fields: f, Op: op, Text: text}
	}
	return map[string]*query.Query{
		"all":            {},
		"all, and whose": {Origin: true},
		"from a host":    {From: nets("192.0.2.2/32")},
		"from a network": {From: nets("192.0.2.0/30", "2001:db8::/32"), StartMs: at(2 * time.Second)},
		"from and file":  {From: nets("192.0.2.9/32"), Terms: []query.Term{term(query.OpContains, "/srv/data/", query.FieldFile)}},
		"from nowhere":   {From: nets("203.0.113.0/24")},
		"a nameless one": {Nodes: []string{"192.0.2.77", "192.0.2.78"}, Origin: true},
		"time":           {StartMs: at(3 * time.Second), EndMs: at(7*time.Second) + 999},
		"open end":       {StartMs: at(9 * time.Second)},
		"no time":        {EndMs: 1},
		"node":           {Nodes: []string{"web2.example.net"}},
		"nodes and time": {Nodes: []string{"web1.example.net", "web4.example.net", "nowhere"}, EndMs: at(5 * time.Second)},
		"type":           {Types: []uint32{1300}},
		"rare types":     {Types: []uint32{1112, 1400, 1105}},
		"no such type":   {Types: []uint32{9999}},
		"serial":         {Serial: 50000, HasSerial: true},
		"exe contains":   {Terms: []query.Term{term(query.OpContains, "sud", query.FieldExe)}},
		"exe is":         {Terms: []query.Term{term(query.OpEqual, "/usr/bin/sudo", query.FieldExe)}},
		"success no":     {Terms: []query.Term{term(query.OpEqual, "no", query.FieldSuccess)}},
		"file and exe": {Terms: []query.Term{term(query.OpContains, "/srv/data/7/", query.FieldFile),
			term(query.OpContains, "bash", query.FieldExe, query.FieldComm)}},
		"crossing values": {Terms: []query.Term{term(query.OpContains, "sshd/usr", query.FieldExe)}},
		"user":            {Terms: []query.Term{{Fields: []query.Field{query.FieldAUID, query.FieldAUIDName}, Op: query.OpUser, Text: "user1001", Number: "1001"}}},
		"group":           {Terms: []query.Term{{Fields: []query.Field{query.FieldGID, query.FieldGIDName}, Op: query.OpUser, Text: "root", Number: "0"}}},
		"group by name":   {Terms: []query.Term{{Fields: []query.Field{query.FieldGIDName, query.FieldEGIDName}, Op: query.OpUser, Text: "daemon"}}},
		"key":             {Terms: []query.Term{term(query.OpContains, "audit-k", query.FieldKey)}},
		"nothing":         {Terms: []query.Term{term(query.OpEqual, "no such thing", query.FieldComm)}},
		"everything at once": {StartMs: at(time.Second), EndMs: at(9 * time.Second), Nodes: []string{"web1.example.net", "web3.example.net"},
			Types: []uint32{1302}, Terms: []query.Term{term(query.OpEqual, "yes", query.FieldSuccess), term(query.OpContains, "file-1", query.FieldFile)}},
	}
}

// BatchQueries are those that only a store knows the answers of, beside Queries.
func BatchQueries() map[string]*query.Query {
	at := func(d time.Duration) int64 { return Start.Add(d).UnixMilli() }
	return map[string]*query.Query{
		"of which batch": {Batches: true},
		"later batches":  {Batches: true, AfterBatch: 3},
		"later, in time": {Batches: true, AfterBatch: 2, StartMs: at(3 * time.Second), EndMs: at(7*time.Second) + 999},
		"later, one key": {AfterBatch: 4, Terms: []query.Term{{Fields: []query.Field{query.FieldKey}, Op: query.OpContains, Text: "audit-k"}}},
		"beyond the end": {AfterBatch: 6},
	}
}

func nets(list ...string) (out []netip.Prefix) {
	for _, n := range list {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}

func testAnswers(t *testing.T, env Env) {
	ref, s := NewReference(), env.Open(t)
	const seed = 7
	g := NewGenerator(seed, Templates(t), 5, Start)
	t.Logf("seed %d", seed)
	for id := uint64(1); id <= 6; id++ {
		tab := store.NewTable()
		Fill(tab, g, 400)
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
		b := &store.Batch{ID: id, Day: store.DayOf(Start) + store.Day(id/4), Events: tab, LSN: 400 * id}
		mustAppend(t, ref, b)
		mustAppend(t, s, b)
	}
	for _, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		all := Queries()
		maps.Copy(all, BatchQueries())
		for name, q := range all {
			want, got := Collect(t, ref, q), Collect(t, s, q)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, %s: %d events, want %d (-reference +store):\n%s", when, name, len(got), len(want), clip(d))
			}
			backwards := *q
			backwards.Reverse = true
			slices.Reverse(want)
			if d := cmp.Diff(want, Collect(t, s, &backwards)); d != "" {
				t.Errorf("%s, %s, the newest first (-reference +store):\n%s", when, name, clip(d))
			}
		}
	}
	if n := len(Collect(t, ref, Queries()["exe contains"])); n == 0 {
		t.Error("the generated log has nothing for the queries to find")
	}
	a, _ := ref.Stats(context.Background())
	b, err := s.Stats(context.Background())
	if err != nil || a.Events != b.Events || a.Records != b.Records || a.RawBytes != b.RawBytes {
		t.Errorf("stats: %+v, %v; want counts as %+v", b, err, a)
	}
}

func clip(s string) string {
	if len(s) > 3000 {
		return s[:3000] + "…"
	}
	return s
}

func oneEvent(host string, ms int64, serial uint64) *event.Event {
	return Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.%03d:%d): text", host, ms/1000, ms%1000, serial))
}

func tableOf(evs ...*event.Event) *store.Table {
	t := store.NewTable()
	for _, ev := range evs {
		t.Add(string(ev.Node), ev)
	}
	return t
}

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

func testState(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	if st, err := s.State(ctx); err != nil || st.ID != 0 || st.LSN != 0 || len(st.Hosts) != 0 {
		t.Fatalf("state of a new store: %+v, %v", st, err)
	}
	now := Start.Local()
	host := func(name string, n uint64) store.Host {
		return store.Host{Name: name, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")},
			First: now, Last: now.Add(time.Second), LastEventMs: 5, Records: n, Bytes: 2 * n, Duplicates: 3, Unparsable: 4}
	}
	kv := func(k, v string) store.KV { return store.KV{Key: []byte(k), Value: []byte(v)} }
	day := store.DayOf(Start)
	mustAppend(t, s, &store.Batch{ID: 1, Day: day, LSN: 10, Open: []uint64{3, 7, 900}, Hosts: []store.Host{host("b", 1), host("a", 2), {Name: ""}},
		Senders: []store.KV{kv("x", "1"), kv("y", "2")}})
	mustAppend(t, s, &store.Batch{ID: 2, Day: day + 1, LSN: 11, Open: []uint64{7}, Hosts: []store.Host{host("b", 5)},
		Senders: []store.KV{kv("x", "3"), {Key: []byte("y")}, kv("z", "4")}})
	want := &store.State{ID: 2, LSN: 11, Open: []uint64{7}, Hosts: []store.Host{{Name: ""}, host("a", 2), host("b", 5)},
		Senders: []store.KV{kv("x", "3"), kv("z", "4")}}
	for _, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		got, err := s.State(ctx)
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", when, err, d)
		}
		hosts, err := s.Hosts(ctx)
		if d := cmp.Diff(want.Hosts, hosts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
			t.Errorf("%s: hosts: %v (-want +got):\n%s", when, err, d)
		}
	}
}

func testDays(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	day := store.DayOf(Start)
	for i, d := range []store.Day{day, day + 1, day, day + 2} { // the clock went back once
		ms := Start.UnixMilli() + int64(i)
		mustAppend(t, s, &store.Batch{ID: uint64(i + 1), Day: d, Events: tableOf(oneEvent("a", ms, uint64(i))), LSN: uint64(i + 1)})
	}
	if err := s.Drop(ctx, store.Part{Day: day + 7, N: 1}); !errors.Is(err, store.ErrNoDay) {
		t.Errorf("drop a day that is not there: %v, want ErrNoDay", err)
	}
	if err := s.Drop(ctx, store.Part{Day: day, N: 2}); !errors.Is(err, store.ErrNoDay) {
		t.Errorf("drop a second part that is not there: %v, want ErrNoDay", err)
	}
	if err := s.Drop(ctx, store.Part{Day: day + 2, N: 1}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("drop the last day: %v, want ErrInUse", err)
	}
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(ctx, store.Part{Day: day, N: 1}); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := snap.Scan(ctx, &query.Query{}, func(*event.Event) error { n++; return nil }); err != nil || n != 4 {
		t.Errorf("a snapshot from before the drop: %d events, %v; want all 4", n, err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	if got := Collect(t, s, &query.Query{}); len(got) != 2 {
		t.Errorf("after the drop %d events, want 2", len(got))
	}
	s = env.Reopen(t, s)
	if got := Collect(t, s, &query.Query{}); len(got) != 2 {
		t.Errorf("after the drop and a reopen %d events, want 2", len(got))
	}
	mustAppend(t, s, &store.Batch{ID: 5, Day: day + 2, Events: tableOf(oneEvent("a", 1, 1)), LSN: 5})
}

// A day of several partitions is searched as one; each part goes by itself; what
// was begun is gone on with after a restart.
func testRotate(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	if err := s.Rotate(ctx); err != nil {
		t.Fatalf("with nothing stored: %v", err)
	}
	day, id := store.DayOf(Start), uint64(0)
	add := func(d store.Day) {
		t.Helper()
		id++
		mustAppend(t, s, &store.Batch{ID: id, Day: d, Events: tableOf(oneEvent("a", Start.UnixMilli()-int64(id), id)), LSN: 10 * id,
			Open: []uint64{id}, Hosts: []store.Host{{Name: "a", Records: id}}})
	}
	rotate := func(reopen bool) {
		t.Helper()
		for range 2 { // the second has nothing to do
			if err := s.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if reopen {
			s = env.Reopen(t, s)
		}
		st, err := s.State(ctx)
		if err != nil || st.ID != id || st.LSN != 10*id || !slices.Equal(st.Open, []uint64{id}) || len(st.Hosts) != 1 || st.Hosts[0].Records != id {
			t.Fatalf("after a rotation: %+v, %v", st, err)
		}
	}
	find := func(want int, why string) {
		t.Helper()
		if got := Collect(t, s, &query.Query{}); len(got) != want || !slices.IsSorted(got) {
			t.Errorf("%s: %d events, want %d: %q", why, len(got), want, got)
		}
	}
	add(day)
	add(day)
	rotate(false)
	add(day)
	rotate(true)
	find(3, "before anything is in the third")
	add(day)
	find(4, "three parts")
	add(day - 1) // the clock went back
	add(day)     // and forth
	s = env.Reopen(t, s)
	find(6, "after a clock that went back")
	if err := s.Drop(ctx, store.Part{Day: day, N: 3}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("drop the part being written: %v, want ErrInUse", err)
	}
	if err := s.Drop(ctx, store.Part{Day: day, N: 1}); err != nil {
		t.Fatal(err)
	}
	find(4, "without the first part")
	s = env.Reopen(t, s)
	find(4, "without the first part, after a reopen")
	rotate(true)
	add(day + 1)
	add(day)
	find(6, "a day later and back")
}

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
	err := store.Scan(context.Background(), s, &query.Query{}, func(ev *event.Event) error {
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
	// What parses has a time now, so the order is not that of arrival.
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

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
				return store.ErrStop
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
