package several

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a collector whose answers are made in advance.
type fake struct {
	id      string
	started int64
	events  []*event.Event
	hosts   []*fleet.Host
	cover   []*fleet.Coverage

	parts   int           // events are sent so many at a time; 0: one
	fails   int           // Scan fails behind so many events; 0: it does not
	older   bool          // it knows no combinations of values
	damaged bool          // of the store something cannot be read, beside the events
	stalls  chan struct{} // Scan stands still behind each part until this is closed, or it is told to end; nil: it does not
	ended   chan struct{} // is closed when it is told to end
	hung    atomic.Bool   // Status does not answer
	follows func(ctx context.Context, call int, fn func(*event.Event) error) error
	calls   atomic.Int32 // of Follow
	starts  []int64      // of Follow's questions
	closed  atomic.Int32
}

var errBroken = errors.New("the line is dead")

func (f *fake) Close() error { f.closed.Add(1); return nil }

func (f *fake) Status(ctx context.Context) (*fleet.StatusResponse, error) {
	if f.hung.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &fleet.StatusResponse{StoreId: f.id, StartedMs: f.started}, nil
}

func (f *fake) About(context.Context) (query.About, error) {
	return query.About{Indexed: true, Store: f.id}, nil
}

func (f *fake) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	m := query.NewMatcher(q)
	list := slices.Clone(f.events)
	if q.Reverse {
		slices.Reverse(list)
	}
	n := 0
	for part := range slices.Chunk(list, max(1, f.parts)) {
		t := &store.Texts{}
		for _, ev := range part {
			if f.fails > 0 && n == f.fails {
				return errBroken
			}
			if m.Match(ev) && (q.Limit == 0 || uint64(n) < q.Limit) {
				t.List = append(t.List, store.FoundOf(ev))
				n++
			}
		}
		if err := fn(t); err != nil {
			return err
		}
		if f.stalls != nil {
			select {
			case <-ctx.Done():
				if f.ended != nil {
					close(f.ended)
				}
				return ctx.Err()
			case <-f.stalls:
			}
		}
	}
	if f.damaged {
		return store.ErrDamaged
	}
	return nil
}

func (f *fake) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	return f.ScanText(ctx, q, func(t query.Texts) error {
		for i := range t.Len() {
			var ev event.Event
			t.Event(i, &ev)
			if err := fn(&ev); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *fake) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum := query.NewTally(fields, nil)
	if f.older && slices.Contains(fields, query.FieldEach) {
		return sum, api.ErrQuery
	}
	if f.damaged && len(fields) > 0 {
		return nil, store.ErrDamaged
	}
	return sum, f.Scan(ctx, q, func(ev *event.Event) error {
		if len(fields) == 0 {
			sum.Events++
			return nil
		}
		return rest(ev)
	})
}

func (f *fake) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, _ func(uint64) error) error {
	f.starts = append(f.starts, q.StartMs)
	return f.follows(ctx, int(f.calls.Add(1)), fn)
}

func (f *fake) Hosts(context.Context) ([]*fleet.Host, error) { return f.hosts, nil }

func (f *fake) Coverage(_ context.Context, _ *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	for _, c := range f.cover {
		one := &fleet.Coverage{Host: c.GetHost(), State: c.GetState(), FromMs: c.GetFromMs(), ToMs: c.GetToMs(), SaidMs: c.GetSaidMs(), Intervals: c.GetIntervals(), Unheard: c.GetUnheard()}
		if err := fn(one); err != nil {
			return err
		}
	}
	if f.damaged {
		return store.ErrDamaged
	}
	return nil
}

// lines makes events of lines, each of its host.
func lines(list ...string) (out []*event.Event) {
	for _, line := range list {
		text := strings.ReplaceAll(line, "|", "\n") + "\n\n"
		node, _, _ := strings.Cut(strings.TrimPrefix(line, "node="), " ")
		out = append(out, store.ParseText([]byte(text), false, []byte(node), store.Origin{}))
	}
	return out
}

// at is a line of a host at a second.
func at(node string, sec int) string {
	return fmt.Sprintf("node=%s type=USER_ACCT msg=audit(%d.000:%d): x", node, sec, sec)
}

// opened is several fakes as one source.
func opened(t *testing.T, list ...*fake) *Source {
	t.Helper()
	var members []Member
	for i, f := range list {
		members = append(members, Member{Name: fmt.Sprint("c", i+1), Open: func(context.Context) (Collector, error) { return f, nil }})
	}
	s, err := Open(t.Context(), members, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// scanned is what a search finds, each event's first line.
func scanned(t *testing.T, s *Source, q *query.Query) (got []string) {
	t.Helper()
	err := s.Scan(t.Context(), q, func(ev *event.Event) error {
		var raw []string
		for i := range ev.Records {
			raw = append(raw, string(ev.Records[i].Raw))
		}
		got = append(got, strings.Join(raw, "|"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
