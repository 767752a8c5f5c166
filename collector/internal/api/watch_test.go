package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/importer"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// records collects what a Watch records.
type records struct {
	mu  sync.Mutex
	all []Asked // guarded by mu
}

func (r *records) add(a *Asked) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *a)
	return uint64(len(r.all))
}

// wait returns the n-th record, from 1.
func (r *records) wait(t *testing.T, n int) Asked {
	t.Helper()
	need.Wait(t, fmt.Sprintf("record %d", n), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.all) >= n
	})
	return r.all[n-1]
}

// serveWatched serves a service whose calls are recorded.
func serveWatched(t *testing.T, service *Service, may Authorizer) (path string, got *records, w *Watch) {
	t.Helper()
	got = &records{}
	w = &Watch{Record: got.add, Node: "own"}
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(ServerOptions(Allowed{}, w.Authorizer(may))...)
	w.Register(g, service)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(ln) }()
	t.Cleanup(func() { w.Close(); g.Stop(); <-done; os.RemoveAll(dir) })
	return path, got, w
}

// fakeSealer has a log without a leaf.
type fakeSealer struct{}

func (fakeSealer) Checkpoint(context.Context, bool, int64) (*fleet.CheckpointResponse, error) {
	return &fleet.CheckpointResponse{}, nil
}

func (fakeSealer) AcceptLog(context.Context, string) (*fleet.CheckpointResponse, error) {
	return &fleet.CheckpointResponse{}, nil
}

// fakeHolder has one thing on hold, and takes every change.
type fakeHolder struct{}

func (fakeHolder) Holds(context.Context) (*fleet.HoldsResponse, error) {
	return &fleet.HoldsResponse{Holds: []*fleet.Hold{{}}}, nil
}

func (fakeHolder) ChangeHolds(_ context.Context, c hold.Change) ([]hold.Done, error) {
	return make([]hold.Done, len(c.Add)), nil
}

// fakeImporter knows one file, and counts.
type fakeImporter struct{}

func (fakeImporter) BeginImport(context.Context, Importing) (importing.Sink, int64, error) {
	return &fakeSink{}, 7, nil
}

func (fakeImporter) ListImports(context.Context, string) ([]importer.Summary, error) {
	return []importer.Summary{{Imported: store.Imported{Name: "old"}}}, nil
}

func (fakeImporter) UndoImport(context.Context, string, string) (store.Undone, error) {
	return store.Undone{Records: 4}, nil
}

type fakeSink struct{ sum importing.Sum }

func (*fakeSink) Known(context.Context) ([]importing.Known, error) {
	return []importing.Known{{Node: "web1"}}, nil
}

func (s *fakeSink) Skip(_ context.Context, n int64) error {
	s.sum = importing.Sum{Files: s.sum.Files + 1, Records: s.sum.Records + n, Stored: s.sum.Stored, Skipped: s.sum.Skipped + n}
	return nil
}

func (s *fakeSink) File(context.Context, importing.FileBegin) error {
	s.sum.Files++
	return nil
}

func (s *fakeSink) Chunk(_ context.Context, text []byte, _ int64, _ oldlogs.Content) error {
	n := int64(bytes.Count(text, []byte("\n")))
	s.sum.Records, s.sum.Stored = s.sum.Records+n, s.sum.Stored+n
	return nil
}

func (*fakeSink) EndFile(context.Context, oldlogs.Content, bool) error { return nil }
func (s *fakeSink) End(context.Context) (importing.Sum, error)         { return s.sum, nil }
func (s *fakeSink) Interrupt(context.Context) (importing.Sum, error)   { return s.sum, nil }

// TestEveryCallIsRecorded calls each method that the service has: one that is new fails here until it
// has words of its own.
func TestEveryCallIsRecorded(t *testing.T) {
	src := &fakeSource{events: []*event.Event{newEvent("web1", "r1"), newEvent("web1", "r2", "r3")}, hosts: []*fleet.Host{{}, {}, {}}}
	service := &Service{
		Source: src, State: func() *fleet.StatusResponse { return &fleet.StatusResponse{} },
		Change: func(_ context.Context, c *store.Change) ([]string, error) { return c.Forget, nil },
		SearchText: func(ctx context.Context, src Source, _ *query.Memory, words []string, out, _ io.Writer) (int, error) {
			fmt.Fprint(out, "text")
			return 0, src.Scan(ctx, &query.Query{StartMs: 5000, Nodes: []string{"web1"}}, func(*event.Event) error { return nil })
		},
	}
	service.MakeEvidence = func(_ context.Context, _ *query.Query, _ Bundle, send func(string, []byte) error) error {
		return errors.Join(send(evidenceLines, []byte("{}\n{}\n")), send("records.log", []byte("r\n\n")))
	}
	service.ReportText, service.Holder = service.SearchText, fakeHolder{}
	service.ListAlerts = func() *fleet.AlertsResponse { return &fleet.AlertsResponse{Alerts: []*fleet.Alert{{Id: "loss"}}} }
	service.SendTest = func(_ context.Context, sink string) ([]*fleet.AlertTest, error) {
		return []*fleet.AlertTest{{Sink: sink}}, nil
	}
	service.Sealer, service.Importer, service.Cluster = fakeSealer{}, fakeImporter{}, fakeCluster{}
	path, got, _ := serveWatched(t, service, Allowed{GID: -1})
	c := dial(t, path)
	ctx := t.Context()
	drop := func(*event.Event) error { return nil }
	q := &query.Query{
		Nodes: []string{"web1,web*", "web1", "web*"}, StartMs: 1000, EndMs: 2999, Serial: 7, HasSerial: true, Types: []uint32{uint32(tables.UserCmd), 9999},
		Terms:   []query.Term{{Fields: []query.Field{query.FieldAUID, query.FieldAUIDName}, Op: query.OpUser, Text: "alice", Number: "1000"}},
		Filters: []query.Filter{{Not: true, Field: &query.FieldTest{Name: "a0", Op: query.OpRegexp, Text: "x y"}}, {Expression: "uid == 0"}},
		From:    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Mismatch: true, Reverse: true, Limit: 2,
	}
	told := []string{"verify", "--store", "a b"}
	calls := []struct {
		method string
		do     func() error
		want   string // op, command, hosts, times, results
	}{
		{"Search", func() error { return c.Scan(ctx, q, drop) }, `search "search -n 'web1,web*' -ts 1970-01-01T00:00:01.000Z -te 1970-01-01T00:00:02.999Z -a 7 -m 'USER_CMD,UNKNOWN[9999]' auid=alice --field '!a0~x y' --expression 'uid == 0' --from 192.0.2.0/24 --mismatch --reverse --limit 2" [web1 web*] 1000 2999 2`},
		{"Search", func() error { return c.Scan(ctx, &query.Query{Batches: true, AfterBatch: 3}, drop) }, `search-new "search --checkpoint --after-batch 3" [] 0 0 2`},
		{"Follow", func() error { return c.Follow(ctx, &query.Query{Limit: 1}, drop, func(uint64) error { return nil }) }, `follow "search --follow --limit 1" [] 0 0 0`},
		{"", nil, `follow "search --follow --limit 1" [] 0 0 1`},
		{"Tally", func() error { _, err := c.Tally(ctx, &query.Query{}, []query.Field{query.FieldExe}, drop); return err }, `count "count --by exe" [] 0 0 1`},
		{"Hosts", func() error { _, err := c.Hosts(ctx); return err }, `hosts "hosts" [] 0 0 3`},
		{"Status", func() error { _, err := c.Status(ctx); return err }, ""},
		{"Coverage", func() error {
			return c.Coverage(ctx, &fleet.CoverageRequest{Hosts: [][]byte{[]byte("web1")}, FromMs: 1000}, func(*fleet.Coverage) error { return nil })
		}, `coverage "coverage -n web1 -ts 1970-01-01T00:00:01.000Z" [web1] 1000 0 `},
		{"Text", func() error { _, _, err := textOf(t, c, "-k", "a b", ""); return err }, `search "search -k 'a b' ''" [web1] 5000 0 2`},
		{"Report", func() error {
			s, err := c.q.Report(ctx, &fleet.ReportRequest{Version: version, Words: [][]byte{[]byte("-au")}})
			for err == nil {
				_, err = s.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}, `report "report -au" [web1] 5000 0 2`},
		{"ChangeHosts", func() error {
			_, err := c.ChangeHosts(ctx, &store.Change{Forget: []string{"web1"}, Also: map[netip.Addr]string{netip.MustParseAddr("192.0.2.1"): "db 1"}})
			return err
		}, `change-hosts "hosts --forget web1 --reattribute '192.0.2.1=db 1'" [web1] 0 0 1`},
		{"Holds", func() error { _, err := c.Holds(ctx); return err }, `holds "hold list" [] 0 0 1`},
		{"ChangeHolds", func() error {
			_, err := c.ChangeHolds(ctx, hold.Change{Add: []string{"web1", "2026-11-22"}, Reason: "case 7"})
			return err
		}, `change-holds "hold add web1 2026-11-22 --reason 'case 7'" [web1 2026-11-22] 0 0 2`},
		{"Alerts", func() error { _, err := c.Alerts(ctx); return err }, `alerts "alerts" [] 0 0 1`},
		{"TestAlert", func() error { _, err := c.TestAlert(ctx, "ops mail"); return err }, `test-alert "alerts test 'ops mail'" [] 0 0 1`},
		{"Checkpoint", func() error { _, err := c.Checkpoint(ctx, true, 7); return err }, `checkpoint "seal checkpoint --from 7" [] 0 0 0`},
		{"Import", func() error {
			i, err := c.Imports().Begin(ctx, "old", false, []string{"logs", "--node", "a b"})
			if err != nil {
				return err
			}
			if known, err := i.Known(ctx); err != nil || len(known) != 1 || known[0].Node != "web1" || i.MaxDays != 7 {
				t.Errorf("known: %+v, %v", known, err)
			}
			err = errors.Join(i.Skip(ctx, 3), i.File(ctx, importing.FileBegin{Node: "web1"}), i.Chunk(ctx, []byte("x\n"), 2, oldlogs.Content{Size: 2}), i.EndFile(ctx, oldlogs.Content{Size: 2}, true))
			sum, ierr := i.End(ctx)
			if want := (importing.Sum{Files: 2, Records: 4, Stored: 1, Skipped: 3}); sum != want {
				t.Errorf("sum %+v, want %+v", sum, want)
			}
			return errors.Join(err, ierr)
		}, `import "import logs --node 'a b'" [] 0 0 1`},
		{"Imports", func() error { _, err := c.Imports().ListImports(ctx); return err }, `imports "import --list" [] 0 0 1`},
		{"UndoImport", func() error { _, err := c.Imports().UndoImport(ctx, "old", "why"); return err }, `undo-import "import --undo old" [] 0 0 4`},
		{"ForgetCollector", func() error { _, _, err := c.ForgetCollector(ctx, "c2"); return err }, `forget-collector "hosts --forget-collector c2" [] 0 0 1`},
		{"AcceptLog", func() error { _, err := c.AcceptLog(ctx, "restored"); return err }, `accept-log "seal accept --reason restored" [] 0 0 0`},
		{"Evidence", func() error {
			return c.Evidence(ctx, &query.Query{StartMs: 1000, EndMs: 2999, Nodes: []string{"web1"}}, Bundle{Words: []string{"-k", "a b"}}, func(string, []byte) error { return nil })
		}, `evidence "evidence -k 'a b'" [web1] 1000 2999 2`},
		{"Told", func() error {
			tell, err := c.Tell(ctx, told)
			if err != nil {
				return err
			}
			return tell.Ended(0, "")
		}, `verify "verify --store 'a b'" [] 0 0 0`},
		{"", nil, `verify "verify --store 'a b'" [] 0 0 0`},
	}
	left := map[string]bool{}
	for _, m := range fleet.Query_ServiceDesc.Methods {
		left[m.MethodName] = true
	}
	for _, m := range fleet.Query_ServiceDesc.Streams {
		left[m.StreamName] = true
	}
	n := 0
	for _, call := range calls {
		delete(left, call.method)
		if call.do != nil {
			if err := call.do(); err != nil {
				t.Errorf("%s: %v", call.method, err)
			}
		}
		if call.want == "" {
			continue
		}
		n++
		a := got.wait(t, n)
		text := fmt.Sprintf("%s %q %v %d %d %d", a.Op, a.Command, a.Hosts, a.Since, a.Until, a.Results)
		if !strings.HasPrefix(text, call.want) || a.Who.PID != int32(os.Getpid()) || a.Who.UID != uint32(os.Getuid()) || a.State != StateComplete && a.State != StateBegun {
			t.Errorf("%s %+v\nwant %s", text, a, call.want)
		}
	}
	if len(left) > 0 {
		t.Errorf("not tried: %v", left)
	}
}

// TestHowCallsEnd has calls end in each way.
func TestHowCallsEnd(t *testing.T) {
	t.Parallel()
	src := &fakeSource{events: []*event.Event{newEvent("web1", "r1")}}
	path, got, w := serveWatched(t, &Service{Source: src}, Allowed{GID: -1})
	c := dial(t, path)
	n := 0
	next := func(state State, reason string) {
		t.Helper()
		n++
		if a := got.wait(t, n); a.State != state || !strings.Contains(a.Reason, reason) {
			t.Errorf("%s %q, want %s %q", a.State, a.Reason, state, reason)
		}
	}
	drop := func(*event.Event) error { return nil }
	src.err = fmt.Errorf("%w: day 3", store.ErrDamaged)
	_ = c.Scan(t.Context(), &query.Query{}, drop)
	next(StateDamaged, "day 3")
	src.err = errors.New("disk")
	_ = c.Scan(t.Context(), &query.Query{}, drop)
	next(StateFailed, "disk")
	src.err = fmt.Errorf("%w", query.ErrMemory)
	_ = c.Scan(t.Context(), &query.Query{}, drop)
	next(StateCutOff, "too many")
	src.err = nil
	_ = c.Scan(t.Context(), &query.Query{Filters: []query.Filter{{Expression: "((("}}}, drop)
	next(StateRefused, "not a valid query")
	_, _, _ = textOf(t, c, "x")
	next(StateRefused, "nothing is printed here")
	// A caller that goes away, and a collector that stops.
	ctx, cancel := context.WithCancel(t.Context())
	_ = c.Follow(ctx, &query.Query{}, func(*event.Event) error { cancel(); return nil }, func(uint64) error { return nil })
	next(StateBegun, "")
	next(StateCancelled, "")
	go func() { _ = c.Follow(context.Background(), &query.Query{}, drop, func(uint64) error { return nil }) }()
	next(StateBegun, "")
	w.Close()
	next(StateCutOff, "stops")
	if err := c.Scan(t.Context(), &query.Query{}, drop); err == nil || !strings.Contains(err.Error(), "stops") {
		t.Errorf("a call beyond the end: %v", err)
	}
	if n != len(got.all) {
		t.Errorf("%d records beyond: %+v", len(got.all)-n, got.all[n:])
	}
}

// TestNoteOfAnother: a question about completeness has no record of its own only where a search of the same
// asker is about as much.
func TestNoteOfAnother(t *testing.T) {
	for name, c := range map[string]struct {
		searched, asked scope
		beside          bool
	}{
		"the same":     {scope{hosts: []string{"web1"}, since: 5, until: 9}, scope{hosts: []string{"web1"}, since: 5, until: 9}, true},
		"all":          {scope{}, scope{}, true},
		"a part":       {scope{}, scope{hosts: []string{"web1"}, since: 5, until: 9}, true},
		"another host": {scope{hosts: []string{"web1"}}, scope{hosts: []string{"web1", "vault"}}, false},
		"all hosts":    {scope{hosts: []string{"web1"}}, scope{}, false},
		"more time":    {scope{since: 5, until: 9}, scope{since: 4, until: 9}, false},
		"open":         {scope{since: 5, until: 9}, scope{since: 5}, false},
	} {
		w := &Watch{Record: (&records{}).add}
		a := Asked{Hosts: c.searched.hosts, Since: c.searched.since, Until: c.searched.until}
		w.asks(&a.Who)
		w.searches(&a)
		x := &watched{w: w, begun: time.Now(), asked: Asked{Hosts: c.asked.hosts, Since: c.asked.since, Until: c.asked.until}}
		if w.beside(x) != c.beside {
			t.Errorf("%s: not %v", name, c.beside)
		}
	}
}

// TestLongCallsAreSaid: what takes long is recorded when it has, too.
func TestLongCallsAreSaid(t *testing.T) {
	w := &Watch{Node: "own"}
	got := &records{}
	w.Record = got.add
	x, err := w.begin(t.Context(), "Search")
	if err != nil {
		t.Fatal(err)
	}
	x.timer.Reset(time.Millisecond)
	if a := got.wait(t, 1); a.State != StateBegun {
		t.Errorf("%+v", a)
	}
	x.end(t.Context(), status.Error(codes.Aborted, "slow"))
	if a := got.wait(t, 2); a.State != StateCutOff || a.Reason != "slow" {
		t.Errorf("%+v", a)
	}
}

// TestFollowersOwnBeginning: who follows everything is not shown the record that says so, and a limit
// is of what is shown.
func TestFollowersOwnBeginning(t *testing.T) {
	own := newEvent("own", "r1")
	own.Serial = 1
	src := &fakeSource{events: []*event.Event{own, newEvent("web1", "r2"), newEvent("web1", "r3")}}
	path, _, _ := serveWatched(t, &Service{Source: src}, Allowed{GID: -1})
	var seen []string
	err := dial(t, path).Follow(t.Context(), &query.Query{Limit: 1}, func(ev *event.Event) error {
		seen = append(seen, flat(ev))
		return nil
	}, func(uint64) error { return nil })
	if err != nil || len(seen) != 1 || !strings.Contains(seen[0], "r2") {
		t.Errorf("%q %v", seen, err)
	}
}

// TestWordsAreBounded: whatever is asked, its words take so many bytes, and say how many there are.
func TestWordsAreBounded(t *testing.T) {
	for _, q := range []*query.Query{
		{Nodes: []string{strings.Repeat("n", 1<<20)}},
		{Terms: []query.Term{{Text: strings.Repeat("'", 1<<20)}}},
		{Types: make([]uint32, 4096)},
	} {
		var all text
		all.conditions(q)
		if all.b.Len() > maxWords || all.all < all.b.Len() {
			t.Errorf("%d of %d bytes", all.b.Len(), all.all)
		}
	}
}
