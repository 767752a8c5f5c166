package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("API_TEST_ASK"); path != "" {
		os.Exit(askAsOther(path))
	}
	goleak.VerifyTestMain(m)
}

// askAsOther is what the test below runs as another user.
func askAsOther(path string) int {
	c, err := Dial(context.Background(), path)
	if err == nil {
		defer c.Close()
		_, err = c.Status(context.Background())
	}
	fmt.Println("answer:", err)
	if errors.Is(err, ErrDenied) {
		return 7
	}
	return 0
}

// The kernel says who is calling, whatever the socket's mode lets through.
func TestAnotherUserIsDenied(t *testing.T) {
	need.Root(t)
	path := serve(t, &fakeSource{}, Allowed{GID: 4242})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(filepath.Dir(path), "self") // where another user may run it
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(need.Program(self, text, 0o755), os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	ask := func(cred *syscall.Credential) (string, int) {
		cmd := exec.Command(self)
		cmd.Env = []string{"API_TEST_ASK=" + path}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := ask(&syscall.Credential{Uid: 65534, Gid: 65534}); code != 7 || !strings.Contains(out, "uid 65534 may not ask") {
		t.Errorf("nobody: exit %d, %s", code, out)
	}
	if out, code := ask(&syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, 4242}}); code != 0 || !strings.Contains(out, "<nil>") {
		t.Errorf("nobody in the group: exit %d, %s", code, out)
	}
	if out, code := ask(&syscall.Credential{Uid: 0, Gid: 0}); code != 0 {
		t.Errorf("root: exit %d, %s", code, out)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := ask(&syscall.Credential{Uid: 65534, Gid: 65534}); code != 7 || !strings.Contains(out, "root") {
		t.Errorf("nobody, kept out by the mode: exit %d, %s", code, out)
	}
}

// fakeSource answers every query with the same events.
type fakeSource struct {
	events []*event.Event
	hosts  []*fleet.Host
	err    error // after the events
	got    *query.Query
	given  int
	lost   uint64 // told when the events are out
	idle   chan struct{}
}

// Follow gives the events, and waits to be told to end.
func (f *fakeSource) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) error {
	f.got = q
	for _, ev := range f.events {
		if err := fn(ev); err != nil {
			return err
		}
	}
	if err := idle(f.lost); err != nil {
		return err
	}
	<-ctx.Done()
	if f.idle != nil {
		close(f.idle)
	}
	return ctx.Err()
}

func (f *fakeSource) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	f.got, f.given = q, 0
	fn = q.Limited(fn)
	for _, ev := range f.events {
		f.given++
		if err := fn(ev); err != nil {
			if errors.Is(err, query.ErrStop) {
				return nil
			}
			return err
		}
	}
	return f.err
}

// Tally counts the first event and gives the others.
func (f *fakeSource) Tally(_ context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	f.got = q
	sum := query.NewTally(slices.DeleteFunc(slices.Clone(fields), func(f query.Field) bool { return f == query.FieldEach }), nil) // it is older
	if len(fields) == 0 {
		sum.Events = int64(len(f.events))
		return sum, f.err
	}
	for i, ev := range f.events {
		if i == 0 {
			sum.Time(ev.Ms, ev.Ms)
			sum.Of(fields[0]).Add([]byte("a\xff"), 3)
			sum.Of(fields[0]).Add(nil, 1)
			continue
		}
		if err := rest(ev); err != nil {
			return nil, err
		}
	}
	return sum, f.err
}

func (f *fakeSource) Hosts(context.Context) ([]*fleet.Host, error) { return f.hosts, nil }

func (f *fakeSource) Coverage(_ context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	for _, name := range req.GetHosts() {
		if err := fn(&fleet.Coverage{Host: name, State: "complete"}); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeSource) About(context.Context) (query.About, error) { return query.About{}, nil }

func newEvent(node string, raws ...string) *event.Event {
	ev := &event.Event{Node: []byte(node)}
	for _, raw := range raws {
		var r record.Record
		store.ParseRecord(&r, []byte(raw), []byte(node))
		ev.Records = append(ev.Records, r)
	}
	ev.Ms, ev.Serial = ev.Records[0].Ms(), ev.Records[0].Serial
	return ev
}

// flat is an event as text, to compare.
func flat(ev *event.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d", ev.Node, ev.Ms, ev.Serial)
	for i := range ev.Records {
		fmt.Fprintf(&b, " [%q node=%q type=%d]", ev.Records[i].Raw, ev.Records[i].Node, ev.Records[i].Type)
	}
	return b.String()
}

func serve(t *testing.T, src Source, who Allowed) (path string) {
	t.Helper()
	return serveAs(t, &Service{Source: src, State: func() *fleet.StatusResponse { return &fleet.StatusResponse{State: "ok"} }}, who)
}

func serveAs(t *testing.T, service fleet.QueryServer, may Authorizer) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(ServerOptions(Allowed{}, may)...)
	fleet.RegisterQueryServer(g, service)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(ln) }()
	t.Cleanup(func() { g.Stop(); <-done; os.RemoveAll(dir) })
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEventsArriveAsTheyAre(t *testing.T) {
	src := &fakeSource{}
	// Enough for several responses, with odd bytes, no node, and records that
	// cannot be parsed among them.
	for i := range 3000 {
		node := []string{"web1", "\xff\x00host", ""}[i%3]
		src.events = append(src.events, newEvent(node,
			fmt.Sprintf("type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e key=\"k\"\x1dARCH=x86_64", i%1000, i),
			fmt.Sprintf("type=PATH msg=audit(1700000000.%03d:%d): name=\"%s\"", i%1000, i, strings.Repeat("\xfe", i%200))))
	}
	src.events = append(src.events, newEvent("10.0.0.9", "no record\nat all"), newEvent("x", strings.Repeat("long", 500000)))
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	var got, want []string
	for _, ev := range src.events {
		want = append(want, flat(ev))
	}
	err := c.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
		got = append(got, flat(ev))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-sent +got):\n%s", diff)
	}
}

func TestLimitAndStop(t *testing.T) {
	src := &fakeSource{}
	for i := range 10000 {
		src.events = append(src.events, newEvent("h", fmt.Sprintf("type=USER msg=audit(1.000:%d): x", i)))
	}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	n := 0
	if err := c.Scan(context.Background(), &query.Query{Limit: 1}, func(*event.Event) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("limit 1: %d events, %v", n, err)
	}
	if src.given != 1 {
		t.Errorf("the collector went on to event %d after the first", src.given)
	}
	n = 0
	if err := c.Scan(context.Background(), &query.Query{}, func(*event.Event) error { n++; return query.ErrStop }); err != nil || n != 1 {
		t.Errorf("ErrStop: %d events, %v", n, err)
	}
	// The source may still be at what nobody reads on.
	c = dial(t, serve(t, &fakeSource{events: src.events}, Allowed{GID: -1}))
	mine := errors.New("mine")
	if err := c.Scan(context.Background(), &query.Query{}, func(*event.Event) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the caller's own error became %v", err)
	}
}

// Of a damaged store, what can be read is given, and then the error that says so.
func TestDamage(t *testing.T) {
	src := &fakeSource{events: []*event.Event{newEvent("h", "type=USER msg=audit(1.000:1): x")}, err: fmt.Errorf("day 1: %w", store.ErrDamaged)}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	n := 0
	err := c.Scan(context.Background(), &query.Query{}, func(*event.Event) error { n++; return nil })
	if n != 1 || !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "day 1") {
		t.Errorf("%d events, %v", n, err)
	}
	src.err = errors.New("disk on fire")
	if err := c.Scan(context.Background(), &query.Query{}, func(*event.Event) error { return nil }); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("error %v", err)
	}
}

func TestHosts(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	want := []*fleet.Host{
		FromHost(&store.Host{Name: "a", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}, First: at, Last: at.Add(time.Second), LastEventMs: 5, Records: 7, Bytes: 8, Duplicates: 9, Unparsable: 10}),
		FromHost(&store.Host{Name: "b\xff", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}),
	}
	src := &fakeSource{hosts: want}
	got, err := dial(t, serve(t, src, Allowed{GID: -1})).Hosts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want = []*fleet.Host{
		{Name: []byte("a"), Addresses: []string{"10.0.0.1", "10.0.0.2"}, FirstSeenMs: 1700000000123, LastSeenMs: 1700000001123, LastEventMs: 5, Records: 7, Bytes: 8, Duplicates: 9, Unparsable: 10},
		{Name: []byte("b\xff"), Addresses: []string{"10.0.0.2"}},
	}
	if len(got) != len(want) {
		t.Fatalf("%d hosts", len(got))
	}
	for i := range want {
		if !proto.Equal(want[i], got[i]) {
			t.Errorf("host %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// Whatever a query is, the collector gets it as it was.
func TestQueryTravels(t *testing.T) {
	src := &fakeSource{}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	rapid.Check(t, func(t *rapid.T) {
		anyString := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
		q := &query.Query{
			Fleet:   true, // a collector's events are
			StartMs: rapid.Int64().Draw(t, "start"), EndMs: rapid.Int64().Draw(t, "end"),
			HasSerial: rapid.Bool().Draw(t, "hasSerial"),
			Nodes:     rapid.SliceOfN(anyString, 0, 3).Draw(t, "nodes"),
			Types:     rapid.SliceOfN(rapid.Uint32(), 0, 3).Draw(t, "types"),
		}
		if q.HasSerial {
			q.Serial = rapid.Uint64().Draw(t, "serial")
		}
		for range rapid.IntRange(0, 3).Draw(t, "terms") {
			q.Terms = append(q.Terms, anyTerm(t))
		}
		q.Reverse = rapid.Bool().Draw(t, "reverse")
		q.Limit = rapid.Uint64().Draw(t, "limit")
		q.AfterBatch = rapid.Uint64().Draw(t, "afterBatch")
		q.Origin, q.Batches = rapid.Bool().Draw(t, "origin"), rapid.Bool().Draw(t, "batches")
		if rapid.Bool().Draw(t, "hasAfter") {
			q.After = &query.Cursor{
				Key:   query.Key{Ms: rapid.Int64().Draw(t, "ms"), Node: anyString.Draw(t, "node"), Serial: rapid.Uint64().Draw(t, "at")},
				Batch: rapid.Uint64().Draw(t, "batch"), Tie: rapid.Int64().Draw(t, "tie"),
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "filters") {
			f := query.Filter{Not: rapid.Bool().Draw(t, "not")}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				term := anyTerm(t)
				f.Term = &term
			case 1:
				f.Field = &query.FieldTest{Name: anyString.Draw(t, "name"), Op: query.OpContains, Text: anyString.Draw(t, "text"), Words: rapid.Bool().Draw(t, "words")}
			default:
				f.Expression = `a r= "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(anyString.Draw(t, "text")) + `"`
			}
			q.Filters = append(q.Filters, f)
		}
		if err := c.Scan(context.Background(), q, func(*event.Event) error { return nil }); err != nil {
			t.Fatal(err)
		}
		// An empty list is none, as it travels.
		if len(q.Nodes) == 0 {
			q.Nodes = nil
		}
		if len(q.Types) == 0 {
			q.Types = nil
		}
		if diff := cmp.Diff(q, src.got); diff != "" {
			t.Fatalf("query (-asked +got):\n%s", diff)
		}
	})
}

func anyTerm(t *rapid.T) query.Term {
	anyString := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
	term := query.Term{Op: query.Op(rapid.IntRange(0, int(query.OpUser)).Draw(t, "op")), Text: anyString.Draw(t, "text"), Number: anyString.Draw(t, "number")}
	for range rapid.IntRange(1, 4).Draw(t, "fields") {
		term.Fields = append(term.Fields, query.Field(rapid.IntRange(0, query.NumFields-1).Draw(t, "field")))
	}
	return term
}

func TestQueriesNobodyUnderstands(t *testing.T) {
	for name, req := range map[string]*fleet.Conditions{
		"field":            {Terms: []*fleet.Term{{Fields: []uint32{uint32(query.NumFields)}}}},
		"operator":         {Terms: []*fleet.Term{{Fields: []uint32{1}, Op: uint32(query.OpRegexp) + 1}}},
		"large operator":   {Terms: []*fleet.Term{{Fields: []uint32{1}, Op: 256}}},
		"regexp":           {Terms: []*fleet.Term{{Fields: []uint32{1}, Op: uint32(query.OpRegexp), Text: []byte("(")}}},
		"expression":       {Filters: []*fleet.Filter{{Expression: []byte("a b c")}}},
		"empty filter":     {Filters: []*fleet.Filter{{Not: true}}},
		"two in one":       {Filters: []*fleet.Filter{{Expression: []byte("a r= b"), Field: &fleet.FieldTest{Name: []byte("a")}}}},
		"field's operator": {Filters: []*fleet.Filter{{Field: &fleet.FieldTest{Name: []byte("a"), Op: uint32(query.OpUser)}}}},
		"too many filters": {Filters: make([]*fleet.Filter, maxConditions+1)},
		"no field":         {Terms: []*fleet.Term{{Text: []byte("x")}}},
		"far field":        {Terms: []*fleet.Term{{Fields: []uint32{1 << 31}}}},
		"too much":         {Types: make([]uint32, maxConditions+1)},
	} {
		if _, err := fromConditions(req); !errors.Is(err, ErrQuery) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each of them may be tried on the name of each host.
func TestTooManyHosts(t *testing.T) {
	c := dial(t, serve(t, &fakeSource{}, Allowed{GID: -1}))
	for n, want := range map[int]error{maxConditions: nil, maxConditions + 1: ErrQuery} {
		got := 0
		err := c.Coverage(t.Context(), &fleet.CoverageRequest{Hosts: make([][]byte, n)}, func(*fleet.Coverage) error { got++; return nil })
		if !errors.Is(err, want) || want == nil && got != n {
			t.Errorf("of %d hosts: %d answers, %v", n, got, err)
		}
	}
}

func TestCount(t *testing.T) {
	src := &fakeSource{}
	for i := range 5000 {
		src.events = append(src.events, newEvent("h", fmt.Sprintf("type=USER msg=audit(1.000:%d): x", i)))
	}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	sum, err := c.Tally(t.Context(), &query.Query{Types: []uint32{1}, Limit: 6000}, nil, nil)
	if err != nil || sum.Events != 5000 || src.got.Limit != 6000 || len(src.got.Types) != 1 {
		t.Errorf("%d, %v, asked for %+v", sum.Events, err, src.got)
	}
	src.err = store.ErrDamaged
	if sum, err := c.Tally(t.Context(), &query.Query{}, nil, nil); !errors.Is(err, store.ErrDamaged) || sum.Events != 5000 {
		t.Errorf("of a damaged store: %d, %v", sum.Events, err)
	}
}

// A request of another version is refused, with the side that is older.
func TestVersions(t *testing.T) {
	c := dial(t, serve(t, &fakeSource{}, Allowed{GID: -1}))
	for v, want := range map[uint32]string{5: "program that asks is older", version + 1: "collector that runs is older"} {
		req := toRequest(&query.Query{})
		req.Version = v
		err := stream(t.Context(), c, req, c.q.Search, func(*fleet.SearchResponse) error { return nil })
		if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), ErrQuery.Error()) != 1 {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

// Events come while the search goes on, what was left out is told, and the
// collector's part ends with the caller's.
func TestFollow(t *testing.T) {
	src := &fakeSource{lost: 9, idle: make(chan struct{}), events: []*event.Event{newEvent("h", "type=USER msg=audit(1.000:1): x")}}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, lost := 0, uint64(0)
	err := c.Follow(ctx, &query.Query{StartMs: 5}, func(*event.Event) error { n++; return nil }, func(k uint64) error {
		if lost += k; lost > 0 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 1 || lost != 9 || src.got.StartMs != 5 {
		t.Errorf("%d events, %d lost, %v", n, lost, err)
	}
	select {
	case <-src.idle:
	case <-time.After(time.Minute):
		t.Error("the collector goes on when the caller is gone")
	}
}

// Searches that nobody reads on do not keep others out for ever.
func TestSearchesAtOnce(t *testing.T) {
	var s calls
	var all []*call
	for range maxCalls {
		ctx, end := context.WithCancelCause(t.Context())
		b := &call{ctx: ctx, end: end}
		if err := s.enter(b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	b := &call{}
	if err := s.enter(b); err == nil {
		t.Fatal("one too many")
	}
	all[3].sending(time.Now().Add(-mayStall / 2))
	if err := s.enter(b); err == nil {
		t.Fatal("one too many, while another waits for its reader for a short time")
	}
	all[3].sending(time.Now().Add(-2 * mayStall))
	all[7].sending(time.Now().Add(-3 * mayStall))
	if err := s.enter(b); err != nil || !errors.Is(context.Cause(all[7].ctx), errSlow) || all[3].ctx.Err() != nil {
		t.Errorf("%v; ended: %v, %v", err, context.Cause(all[7].ctx), all[3].ctx.Err())
	}
	s.leave(all[7]) // its own end comes later
	s.leave(b)
	if err := s.enter(&call{}); err != nil {
		t.Error(err)
	}
}

// One name over TLS leaves places to others, and all names together some to who asks on this
// machine.
func TestPlacesOfNames(t *testing.T) {
	var s calls
	enter := func(who string) error {
		ctx, end := context.WithCancelCause(t.Context())
		return s.enter(&call{who: who, ctx: ctx, end: end})
	}
	fill := func(who string, most int) {
		t.Helper()
		for i := range most {
			if err := enter(who); err != nil {
				t.Fatalf("%q, call %d: %v", who, i, err)
			}
		}
		if err := enter(who); err == nil {
			t.Fatalf("%q has more than %d calls", who, most)
		}
	}
	fill("a", maxOfName)
	for i := range maxRemote/maxOfName - 1 {
		fill(string(rune('b'+i)), maxOfName)
	}
	if err := enter("z"); err == nil || !strings.Contains(err.Error(), "other machines") {
		t.Error(err)
	}
	fill("", maxCalls-maxRemote)
}

// A caller that takes nothing holds its own search only, and its end frees it.
func TestSlowReader(t *testing.T) {
	src := &fakeSource{}
	for i := range 3000 {
		src.events = append(src.events, newEvent("h", fmt.Sprintf("type=USER msg=audit(1.000:%d): %s", i, strings.Repeat("x", 8000))))
	}
	path := serve(t, src, Allowed{GID: -1})
	slow, quick := dial(t, path), dial(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		n := 0
		done <- slow.Scan(ctx, &query.Query{}, func(*event.Event) error {
			if n++; n == 1 {
				close(first)
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
	}()
	<-first
	if _, err := quick.Status(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A response that does not add up is an error, whatever sent it.
func FuzzUnpack(f *testing.F) {
	good, err := proto.Marshal(&fleet.Events{Raw: []byte("abc"), RecordBytes: []uint32{1, 2}, Events: []*fleet.Event{{Records: 2, Node: []byte("h")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var resp fleet.Events
		if proto.Unmarshal(b, &resp) != nil {
			return
		}
		total := 0
		err := unpack(&resp, func(ev *event.Event) error {
			for i := range ev.Records {
				total += len(ev.Records[i].Raw)
			}
			return nil
		})
		if total > len(resp.GetRaw()) {
			t.Errorf("%d bytes out of %d, error %v", total, len(resp.GetRaw()), err)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(context.Background(), filepath.Join(dir, "none")); !errors.Is(err, ErrNoServer) {
		t.Errorf("no socket: %v", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "left"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if _, err := Dial(context.Background(), filepath.Join(dir, "left")); !errors.Is(err, ErrNoServer) {
		t.Errorf("a socket that was left behind: %v", err)
	}
	if _, err := Dial(context.Background(), filepath.Join(dir, strings.Repeat("l", 120))); !errors.Is(err, ErrNoServer) {
		t.Errorf("a path that no socket can have: %v", err)
	}
}

func TestWhoMayAsk(t *testing.T) {
	me := uint32(os.Geteuid())
	for name, tc := range map[string]struct {
		allowed Allowed
		cred    unix.Ucred
		groups  []uint32
		want    bool
	}{
		"root":               {Allowed{GID: -1}, unix.Ucred{Uid: 0, Gid: 0}, nil, true},
		"its own user":       {Allowed{GID: -1}, unix.Ucred{Uid: me, Gid: 99}, nil, true},
		"another":            {Allowed{GID: -1}, unix.Ucred{Uid: me + 4242, Gid: 99}, []uint32{99}, false},
		"its group":          {Allowed{GID: 99}, unix.Ucred{Uid: me + 4242, Gid: 99}, nil, true},
		"a further group":    {Allowed{GID: 99}, unix.Ucred{Uid: me + 4242, Gid: 5}, []uint32{7, 99}, true},
		"none of its groups": {Allowed{GID: 99}, unix.Ucred{Uid: me + 4242, Gid: 5}, []uint32{7}, false},
		"gid like no group":  {Allowed{GID: -1}, unix.Ucred{Uid: me + 4242, Gid: ^uint32(0)}, []uint32{^uint32(0)}, false},
	} {
		if got := tc.allowed.allows(&tc.cred, tc.groups); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func (f *fakeSource) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return storetest.ScanText(ctx, f.Scan, q, fn)
}
