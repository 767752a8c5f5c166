package several

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// patience is how long tests have collectors answer.
const patience = time.Minute

// TestOneFails has one of two collectors fail in the middle: what it had sent is in the answer, and what is missing is said.
func TestOneFails(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		a := &fake{events: lines(at("h", 1), at("h", 3), at("h", 5), at("h", 7))}
		b := &fake{events: lines(at("g", 2), at("g", 4), at("g", 6)), fails: 2}
		s := opened(t, a, b)
		got := scanned(t, s, &query.Query{Reverse: reverse})
		want := []string{at("h", 1), at("g", 2), at("h", 3), at("g", 4), at("h", 5), at("h", 7)}
		last := int64(4000)
		if reverse {
			want = []string{at("h", 7), at("g", 6), at("h", 5), at("g", 4), at("h", 3), at("h", 1)}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("reverse %v (-want +got):\n%s", reverse, d)
		}
		m := s.Missing()
		if len(m) != 1 || m[0].Collector != "c2" || !m[0].Part || m[0].LastMs != last || m[0].Reversed != reverse || !errors.Is(m[0].Err, errBroken) {
			t.Errorf("reverse %v: %+v", reverse, m)
		}
		if got := scanned(t, s, &query.Query{}); len(got) != 4 { // it is not asked again
			t.Errorf("%q", got)
		}
		if len(s.Missing()) != 1 {
			t.Errorf("%+v", s.Missing())
		}
	}
}

// TestEnough ends a search before a collector would have failed: the answer is whole.
func TestEnough(t *testing.T) {
	a := &fake{events: lines(at("h", 1), at("h", 3)), stalls: make(chan struct{})}
	b := &fake{events: lines(at("g", 2), at("g", 4), at("g", 6)), stalls: make(chan struct{})}
	s := opened(t, a, b)
	if got := scanned(t, s, &query.Query{Limit: 1}); !slices.Equal(got, []string{at("h", 1)}) {
		t.Errorf("%q", got)
	}
	if m := s.Missing(); m != nil {
		t.Error(m)
	}
}

// TestLimitOfCut has a collector give more parts of one event than a limit leaves room for.
func TestLimitOfCut(t *testing.T) {
	var whole []string
	var cut []*event.Event
	for i := range 3 * limitMore {
		part := strings.Replace(at("h", 1), "USER_ACCT", "SYSCALL", 1) + string(rune('A'+i%26)) + strings.Repeat("y", i)
		whole = append(whole, part)
		cut = append(cut, lines(part)...)
	}
	cut = append(cut, lines(at("h", 2), at("h", 3))...)
	a := &fake{events: append(lines(strings.Join(whole, "|")), lines(at("h", 4))...), parts: 7}
	b := &fake{events: cut, parts: 7}
	got := scanned(t, opened(t, a, b), &query.Query{Limit: 3})
	if d := cmp.Diff([]string{strings.Join(whole, "|"), at("h", 2), at("h", 3)}, got); d != "" {
		t.Error(d)
	}
}

// TestNone has no collector that can be reached, and then none that is left.
func TestNone(t *testing.T) {
	fails := Member{Name: "c1", Open: func(context.Context) (Collector, error) { return nil, errBroken }}
	if _, err := Open(t.Context(), []Member{fails}, patience); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "c1: the line is dead") {
		t.Error(err)
	}
	a := &fake{events: lines(at("h", 1)), fails: 1}
	a.events = append(a.events, lines(at("h", 2))...)
	s := opened(t, a)
	if got := scanned(t, s, &query.Query{}); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if err := s.Scan(t.Context(), &query.Query{}, func(*event.Event) error { return nil }); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// TestHung gives up a collector that answers nothing, neither a search nor how it fares; one that only takes its time is
// waited for.
func TestHung(t *testing.T) {
	givenUp := make(chan struct{})
	slow := &fake{events: lines(at("h", 1), at("h", 3)), stalls: givenUp}
	hung := &fake{events: lines(at("g", 2), at("g", 4)), stalls: make(chan struct{}), ended: givenUp}
	s := opened(t, slow, hung)
	hung.hung.Store(true)
	s.wait = 40 * time.Millisecond
	got := scanned(t, s, &query.Query{})
	if d := cmp.Diff([]string{at("h", 1), at("g", 2), at("h", 3)}, got); d != "" {
		t.Error(d)
	}
	if m := s.Missing(); len(m) != 1 || m[0].Collector != "c2" || !errors.Is(m[0].Err, errSilent) || m[0].LastMs != 2000 {
		t.Errorf("%+v", m)
	}
}

// TestSameStore names a collector twice.
func TestSameStore(t *testing.T) {
	a, b := &fake{id: "x", events: lines(at("h", 1))}, &fake{id: "x", events: lines(at("h", 1), at("h", 2))}
	s := opened(t, a, b)
	if got := scanned(t, s, &query.Query{}); len(got) != 1 || b.closed.Load() != 1 {
		t.Errorf("%q, closed %d", got, b.closed.Load())
	}
	if d := cmp.Diff([]string{"c1 and c2 have the same store: it is asked once"}, s.Same()); d != "" {
		t.Error(d)
	}
}

// TestCopy asks a collector that runs on a backup of another one's store: each has what the other has not.
func TestCopy(t *testing.T) {
	a, b := &fake{id: "x", started: 1, events: lines(at("h", 2), at("h", 3))}, &fake{id: "x", started: 2, events: lines(at("h", 1), at("h", 2))}
	s := opened(t, a, b)
	if d := cmp.Diff([]string{at("h", 1), at("h", 2), at("h", 3)}, scanned(t, s, &query.Query{})); d != "" {
		t.Error(d)
	}
	if list := s.Same(); list != nil {
		t.Error(list)
	}
}

// TestOne refuses what goes by the batches of a store.
func TestOne(t *testing.T) {
	s := opened(t, &fake{}, &fake{})
	for _, q := range []*query.Query{{Batches: true}, {AfterBatch: 1}, {After: &query.Cursor{}}} {
		if err := s.Scan(t.Context(), q, nil); !errors.Is(err, ErrOne) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestCount counts an event once that two collectors have, and none that a failed one would have had.
func TestCount(t *testing.T) {
	a, b := &fake{events: lines(at("h", 1), at("h", 2), at("h", 9000))}, &fake{events: lines(at("h", 2), at("h", 3), at("g", 4), at("h", 5000))}
	for _, fields := range [][]query.Field{nil, {query.FieldType}} {
		s := opened(t, a, b)
		n := int64(0)
		sum, err := s.Tally(t.Context(), &query.Query{}, fields, func(*event.Event) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if n += sum.Events; n != 6 {
			t.Errorf("%v: %d events, want 6", fields, n)
		}
	}
}

// TestCountDamaged counts an event once that two collectors have, of which one has a damaged store: that one cannot say whose events it has. What is to be
// counted by values has to be read.
func TestCountDamaged(t *testing.T) {
	a := &fake{events: lines(at("h", 1), at("h", 2), at("h", 9000)), damaged: true}
	b := &fake{events: lines(at("h", 2), at("h", 3), at("g", 4), at("h", 5000))}
	s := opened(t, a, b)
	sum, err := s.Tally(t.Context(), &query.Query{}, nil, nil)
	if err != nil || sum.Events != 6 {
		t.Errorf("%d events, want 6: %v", sum.Events, err)
	}
	if m := s.Missing(); len(m) != 1 || m[0].Collector != "c1" || !m[0].Part || !errors.Is(m[0].Err, store.ErrDamaged) {
		t.Errorf("%+v", m)
	}
	if _, err := s.Tally(t.Context(), &query.Query{}, []query.Field{query.FieldType}, func(*event.Event) error { return nil }); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("by type: %v", err)
	}
	if len(s.asked()) != 2 {
		t.Error("a collector that can be read is not asked any more")
	}
}

// TestCountOlder asks for combinations of which one of two collectors knows nothing: it has not failed, and has to be read.
func TestCountOlder(t *testing.T) {
	a, b := &fake{events: lines(at("h", 1)), older: true}, &fake{events: lines(at("g", 2))}
	s := opened(t, a, b)
	_, err := s.Tally(t.Context(), &query.Query{}, []query.Field{query.FieldNode, query.FieldExe, query.FieldEach}, func(*event.Event) error { return nil })
	if !errors.Is(err, api.ErrQuery) || s.Missing() != nil {
		t.Errorf("%v, and it lacks %+v", err, s.Missing())
	}
	if got := scanned(t, s, &query.Query{}); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestHosts adds up what two collectors know of a host.
func TestHosts(t *testing.T) {
	lag := int64(7)
	a := &fake{hosts: []*fleet.Host{{Name: []byte("h"), Records: 5, LastSeenMs: 10, FirstSeenMs: 4, LastEventMs: 9, Addresses: []string{"1"}}, {Name: []byte("x")}}}
	b := &fake{hosts: []*fleet.Host{{Name: []byte("h"), Records: 6, LastSeenMs: 20, FirstSeenMs: 6, LastEventMs: 19, LagMs: &lag, Connected: true, Addresses: []string{"2", "1"}}}}
	s := opened(t, a, b)
	got, err := s.Hosts(t.Context())
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	h := got[0]
	if h.GetRecords() != 11 || h.GetFirstSeenMs() != 4 || h.GetLastSeenMs() != 20 || !h.GetConnected() || h.GetLagMs() != 7 || !slices.Equal(h.GetAddresses(), []string{"2", "1"}) {
		t.Errorf("%v", h)
	}
	each, err := s.HostsOfEach(t.Context())
	if err != nil || each["h"][0].Collector != "c2" || len(each["x"]) != 1 {
		t.Error(each, err)
	}
}

// TestFollow follows two collectors, of which one is cut off and comes again, and has events a second time.
func TestFollow(t *testing.T) {
	more := make(chan struct{})
	a := &fake{follows: func(ctx context.Context, _ int, fn func(*event.Event) error) error {
		for _, ev := range lines(at("h", 1), at("h", 3)) {
			if err := fn(ev); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	b := &fake{follows: func(ctx context.Context, call int, fn func(*event.Event) error) error {
		list := lines(at("h", 3), at("g", 4))
		if call > 1 {
			list = lines(at("g", 4), at("g", 5))
		}
		for _, ev := range list {
			if err := fn(ev); err != nil {
				return err
			}
		}
		if call == 1 {
			return errBroken
		}
		close(more)
		<-ctx.Done()
		return ctx.Err()
	}}
	s := opened(t, a, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-more:
		case <-time.After(patience):
		}
		cancel()
	}()
	var got []string
	err := s.Follow(ctx, &query.Query{StartMs: 1}, func(ev *event.Event) error {
		got = append(got, string(ev.Records[0].Raw))
		return nil
	}, func(uint64) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	slices.Sort(got)
	want := []string{at("g", 4), at("g", 5), at("h", 1), at("h", 3)}
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m := s.Missing(); len(m) != 1 || m[0].Collector != "c2" || m[0].LastMs != 4000 {
		t.Errorf("%+v", m)
	}
}

// TestFollowAgain follows a collector that is down at first, and one that is cut off after an event whose host's clock is years ahead.
func TestFollowAgain(t *testing.T) {
	const start = 3000
	down := &fake{follows: func(ctx context.Context, _ int, fn func(*event.Event) error) error {
		if err := fn(lines(at("h", 7))[0]); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	cut := &fake{follows: func(ctx context.Context, call int, fn func(*event.Event) error) error {
		if call == 1 {
			if err := fn(lines(at("g", 4_000_000_000))[0]); err != nil {
				return err
			}
			return errBroken
		}
		if err := fn(lines(at("g", 8))[0]); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	var opens atomic.Int32
	s, err := Open(t.Context(), []Member{
		{Name: "down", Open: func(context.Context) (Collector, error) {
			if opens.Add(1) == 1 {
				return nil, errBroken
			}
			return down, nil
		}},
		{Name: "cut", Open: func(context.Context) (Collector, error) { return cut, nil }},
	}, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []string
	err = s.Follow(ctx, &query.Query{StartMs: start}, func(ev *event.Event) error {
		if got = append(got, string(ev.Records[0].Raw)); len(got) == 3 {
			cancel()
		}
		return nil
	}, func(uint64) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	slices.Sort(got)
	if d := cmp.Diff([]string{at("g", 4_000_000_000), at("g", 8), at("h", 7)}, got); d != "" {
		t.Error(d)
	}
	if !slices.Equal(down.starts, []int64{start}) {
		t.Errorf("asked from %d on, want %d", down.starts, start)
	}
	if now := time.Now().UnixMilli(); len(cut.starts) != 2 || cut.starts[1] < start || cut.starts[1] > now {
		t.Errorf("asked from %d on, want %d to %d", cut.starts, start, now)
	}
}

// TestTold has a call end while what it has told is not used yet: what the next call tells must wait for that.
func TestTold(t *testing.T) {
	for range 100 {
		in := make(chan news)
		f := &follower{in: in, used: make(chan struct{}, 1)}
		call, end := context.WithCancel(t.Context())
		told := make(chan error, 1)
		go func() { told <- f.tell(t.Context(), call, news{of: f}) }()
		<-in
		end()
		f.use()
		if err := <-told; err != nil || len(f.used) > 0 {
			t.Fatalf("%v, %d", err, len(f.used))
		}
	}
}
