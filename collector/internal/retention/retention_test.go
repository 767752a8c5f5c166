package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// held is a store of a part a day, of 10 bytes and one event each; the last is being
// written.
type held struct {
	mu    sync.Mutex
	parts []store.PartStats // guarded by mu
	now   time.Time         // of the servers that have them; zero: none
	err   error             // guarded by mu: of the next Drop
}

func days(last store.Day, n int) *held {
	h := &held{}
	for i := range n {
		h.parts = append(h.parts, store.PartStats{Part: store.Part{Day: last - store.Day(n-1-i), N: 1}, Received: last - store.Day(n-1-i), LastID: uint64(i + 1), Events: 1, DiskBytes: 10, Sealed: i < n-1})
	}
	return h
}

func (h *held) Stats(context.Context) (store.Stats, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return store.Stats{Parts: slices.Clone(h.parts), DiskBytes: uint64(10 * len(h.parts)), Now: h.now}, nil
}

func (h *held) Drop(_ context.Context, part store.Part, why string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.err; err != nil {
		h.err = nil
		return err
	}
	h.parts = slices.DeleteFunc(h.parts, func(p store.PartStats) bool { return p.Part == part })
	return nil
}

func (h *held) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.parts)
}

// kept is a keeper of h and what it says.
type kept struct {
	*Keeper
	log     bytes.Buffer
	records []string
}

func keeper(h *held, l Limits, now func() time.Time) *kept {
	k := &kept{}
	k.Keeper = New(Config{
		Events: h, Limits: l, Now: now, Metrics: metrics.New(), Log: hclog.New(&hclog.LoggerOptions{Output: &k.log}),
		Record: func(format string, args ...any) { k.records = append(k.records, fmt.Sprintf(format, args...)) },
	})
	return k
}

var today = store.DayOf(time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC))

func onDay(d store.Day) func() time.Time { return func() time.Time { return d.Time().Add(time.Hour) } }

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		left   int
		why    string
	}{
		{Limits{}, 5, ""},
		{Limits{MaxDays: 5}, 5, ""},
		{Limits{MaxDays: 2}, 2, dropDays},
		{Limits{MaxBytes: 50}, 5, ""},
		{Limits{MaxBytes: 49}, 4, dropBytes},
		{Limits{MaxDays: 1, MaxBytes: 1}, 1, dropDays}, // the one that is written stays
	} {
		h := days(today, 5)
		k := keeper(h, c.limits, onDay(today))
		if err := k.apply(context.Background()); err != nil || h.left() != c.left {
			t.Errorf("%+v: %d parts left, %v; want %d", c.limits, h.left(), err, c.left)
		}
		if len(k.records) != 5-c.left {
			t.Errorf("%+v: records %q", c.limits, k.records)
		}
		for _, r := range k.records {
			if !strings.Contains(r, " reason="+c.why+" events=1 ") || !strings.HasSuffix(r, "res=success") {
				t.Errorf("%+v: record %q", c.limits, r)
			}
		}
	}
}

// A part that cannot be dropped is said to be there; one that is gone already is no
// error; and when none is sealed there is nothing to drop.
func TestDropOldest(t *testing.T) {
	h := days(today, 3)
	k := keeper(h, Limits{}, onDay(today))
	broken := errors.New("a broken disk")
	h.err = broken
	if ok, err := k.DropOldest(context.Background(), "space_left_action"); ok || !errors.Is(err, broken) || len(k.records) != 1 || !strings.HasSuffix(k.records[0], "res=failed") {
		t.Errorf("it cannot be dropped: %v, %v, records %q", ok, err, k.records)
	}
	h.err = broken // a minute later
	if ok, err := k.DropOldest(context.Background(), "space_left_action"); ok || !errors.Is(err, broken) || len(k.records) != 1 {
		t.Errorf("it cannot be dropped, again: %v, %v, records %q", ok, err, k.records)
	}
	h.err = store.ErrNoDay
	if ok, err := k.DropOldest(context.Background(), "space_left_action"); !ok || err != nil || h.left() != 3 {
		t.Errorf("somebody was faster: %v, %v", ok, err)
	}
	for range 2 {
		if ok, err := k.DropOldest(context.Background(), "space_left_action"); !ok || err != nil {
			t.Errorf("dropped: %v, %v", ok, err)
		}
	}
	if ok, err := k.DropOldest(context.Background(), "space_left_action"); ok || err != nil || h.left() != 1 {
		t.Errorf("only what is written is left: %v, %v, %d parts", ok, err, h.left())
	}
}

// Two who ask at once drop two parts, the oldest ones, each said once.
func TestDropAtOnce(t *testing.T) {
	h := days(today, 20)
	k := keeper(h, Limits{}, onDay(today))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if ok, err := k.DropOldest(context.Background(), dropBytes); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
	wg.Wait()
	if h.left() != 10 || h.parts[0].Day != today-9 || len(k.records) != 10 {
		t.Errorf("%d parts left from %v on, %d records", h.left(), h.parts[0].Day, len(k.records))
	}
}

// Run applies the limits once a minute, at once when they are changed, and tells when
// it waits for the clock.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		clock := today
		h := days(today, 10)
		k := keeper(h, Limits{MaxDays: 9}, func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return clock.Time()
		})
		set := func(d store.Day) {
			mu.Lock()
			defer mu.Unlock()
			clock = d
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		left := func(what string, after time.Duration, want int, doubted bool) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if h.left() != want || k.ClockDoubted() != doubted {
				t.Errorf("%s: %d parts are left, doubted: %v; want %d, %v", what, h.left(), k.ClockDoubted(), want, doubted)
			}
		}
		left("begun", 0, 9, false)
		set(today + 1)
		left("not yet", every-time.Second, 9, false)
		left("a day has gone by", time.Second, 8, false)
		k.SetLimits(Limits{MaxDays: 5})
		left("changed", 0, 4, false)
		set(today + 365)
		k.Apply()
		left("a year ahead", 0, 4, true)
		set(today + 1)
		k.Apply()
		left("put right", 0, 4, false)
		cancel()
		<-ended
		for _, want := range []string{"the clock is far beyond the last stored day", "the clock agrees with the stored days"} {
			if n := strings.Count(k.log.String(), want); n != 1 {
				t.Errorf("%q is said %d times", want, n)
			}
		}
	})
}

// What is on hold is never dropped, whatever asks for room: the next one that is not is, and where all is on
// hold nothing is. Each day that stays is said once.
func TestHeld(t *testing.T) {
	onHold := map[store.Day]bool{today - 4: true, today - 2: true}
	held := func(_ context.Context, p *store.PartStats) string {
		if onHold[p.Day] {
			return "case 4711"
		}
		return ""
	}
	for _, c := range []struct {
		limits Limits
		left   string
	}{
		{Limits{}, "4 3 2 1 0"},
		{Limits{MaxDays: 2}, "4 2 1 0"},
		{Limits{MaxDays: 1}, "4 2 0"},
		{Limits{MaxBytes: 49}, "4 2 1 0"},
		{Limits{MaxBytes: 1}, "4 2 0"},
	} {
		h := days(today, 5)
		k := keeper(h, c.limits, onDay(today))
		k.cfg.Held = held
		for range 3 {
			if err := k.apply(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		var left []string
		for _, p := range h.parts {
			left = append(left, fmt.Sprint(int(today-p.Day)))
		}
		if got := strings.Join(left, " "); got != c.left {
			t.Errorf("%+v: left %s, want %s", c.limits, got, c.left)
		}
		for day := range onHold {
			want := 0
			if c.limits.MaxBytes == 1 || c.limits.MaxDays > 0 || day == today-4 && c.limits.MaxBytes > 0 {
				want = 1
			}
			if n := strings.Count(k.log.String(), "is on hold and stays, which would be dropped: day="+day.String()); n != want {
				t.Errorf("%+v: that %s stays was said %d times, want %d:\n%s", c.limits, day, n, want, k.log.String())
			}
		}
	}
	// For want of space: all that is not on hold goes, then nothing.
	h := days(today, 5)
	k := keeper(h, Limits{}, onDay(today))
	k.cfg.Held = held
	for range 6 {
		if _, err := k.DropOldest(context.Background(), "disk_full_action"); err != nil {
			t.Fatal(err)
		}
	}
	if h.left() != 3 || strings.Count(k.log.String(), "all sealed days are on hold") != 1 {
		t.Errorf("%d parts left; log %s", h.left(), k.log.String())
	}
	if err := k.While(func() error { delete(onHold, today-4); return nil }); err != nil {
		t.Fatal(err)
	}
	if ok, err := k.DropOldest(context.Background(), "disk_full_action"); !ok || err != nil || h.left() != 2 {
		t.Errorf("taken off hold: %v, %v, %d parts", ok, err, h.left())
	}
}

// Drops and changes of holds at the same time: what is on hold once While has returned stays.
func TestHeldAtOnce(t *testing.T) {
	h := days(today, 200)
	k := keeper(h, Limits{}, onDay(today))
	var mu sync.Mutex
	onHold := map[store.Part]bool{} // guarded by mu
	k.cfg.Held = func(_ context.Context, p *store.PartStats) string {
		mu.Lock()
		defer mu.Unlock()
		if onHold[p.Part] {
			return "x"
		}
		return ""
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := k.DropOldest(context.Background(), dropBytes); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var kept []store.Part
	wg.Go(func() {
		for range 30 {
			_ = k.While(func() error {
				st, _ := h.Stats(context.Background())
				for _, p := range st.Parts {
					mu.Lock()
					was := onHold[p.Part]
					onHold[p.Part] = true
					mu.Unlock()
					if !was {
						kept = append(kept, p.Part)
						break
					}
				}
				return nil
			})
		}
	})
	wg.Wait()
	for _, p := range kept {
		if !slices.ContainsFunc(h.parts, func(x store.PartStats) bool { return x.Part == p }) {
			t.Errorf("%s was dropped", p)
		}
	}
}

// Where the events lie in a cluster its servers' clock says how old they are. A collector whose own is wrong, and has been for days that it stored, drops nothing of the others', and says
// it once; once the clock is right, days are dropped as ever.
func TestClusterClock(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 365 * 24 * time.Hour, "behind": -365 * 24 * time.Hour, "a little ahead": 20 * time.Hour} {
		h := days(today, 10)
		h.now = onDay(today)()
		for i := range 3 { // its own
			day := store.DayOf(h.now.Add(off)) - store.Day(2-i)
			h.parts = append(h.parts, store.PartStats{Part: store.Part{Day: day, N: 7}, Received: day, LastID: uint64(20 + i), Events: 1, DiskBytes: 10, Sealed: i < 2})
		}
		own := off
		k := keeper(h, Limits{MaxDays: 90, MaxBytes: 1000}, func() time.Time { return h.now.Add(own) })
		for range 3 {
			if err := k.apply(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		apart := name != "a little ahead"
		if h.left() != 13 || len(k.records) != 0 || k.ClockDoubted() != apart {
			t.Errorf("%s: %d parts are left of 13, records %q, the clock is doubted: %v", name, h.left(), k.records, k.ClockDoubted())
		}
		if n := strings.Count(k.log.String(), "clock"); apart && strings.Count(k.log.String(), "more than a day apart") != 1 || !apart && n != 0 {
			t.Errorf("%s: the log:\n%s", name, k.log.String())
		}
		k.SetLimits(Limits{MaxDays: 5})
		if dropped, err := k.DropOldest(t.Context(), "space"); dropped == apart || err != nil {
			t.Errorf("%s: the oldest for room: %v, %v", name, dropped, err)
		}
		own = 0
		if err := k.apply(t.Context()); err != nil || h.left() > 8 || k.ClockDoubted() {
			t.Errorf("%s, and right again: %d parts are left, %v", name, h.left(), err)
		}
	}
}
