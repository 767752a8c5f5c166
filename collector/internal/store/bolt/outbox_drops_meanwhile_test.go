package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// A drop that the account does not have yet is one that answers and copies of it have to add, until the look that puts it there; before the first look after a start nobody knows.
func TestOutboxUnaged(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	local := open(t, Options{Dir: t.TempDir()})
	m.Store = local.ID().String()
	o := newOutbox(local, m, outboxTimes{patience: 20 * time.Millisecond, again: time.Millisecond, most: time.Millisecond, look: time.Hour, file: usualTimes.file})
	defer func() { must(t, o.Close()) }()
	for d := range 3 {
		must(t, o.Append(t.Context(), goneBatch(t, uint64(d+1), d)))
	}
	empty(t, o)
	must(t, o.noteDrops(t.Context()))
	part := store.Part{Day: store.DayOf(goneDay(0)), N: 1}
	must(t, m.DropBy(part, "ffff", "max_days = 2"))
	if got := judged(t, o, "web1", 0)[0]; got != "22 records" {
		t.Fatalf("the account has it already: %s", got)
	}
	if parts, known, err := o.Unaged(t.Context()); err != nil || !known || !slices.Equal(parts, []store.Part{part}) {
		t.Errorf("dropped, and not looked at since: %v, %v, %v", parts, known, err)
	}
	must(t, o.noteDrops(t.Context()))
	if parts, known, err := o.Unaged(t.Context()); err != nil || !known || len(parts) != 0 {
		t.Errorf("looked at: %v, %v, %v", parts, known, err)
	}
	o.mu.Lock()
	o.aged = nil // as right behind a start
	o.mu.Unlock()
	if parts, known, err := o.Unaged(t.Context()); err != nil || known || len(parts) != 0 {
		t.Errorf("right behind a start: %v, %v, %v", parts, known, err)
	}
}

// What is known of days that are dropped is aged wherever it is: a file that is handed over meanwhile has passed it to one that was not there before.
func TestAgeWhileHandedOver(t *testing.T) {
	t.Parallel()
	var s *Store
	var meanwhile func() // appendMu is held, by who ages the first file
	s = open(t, Options{Dir: t.TempDir(), now: func() time.Time {
		if fn := meanwhile; fn != nil {
			meanwhile = nil
			fn()
		}
		return time.Now()
	}})
	s.elsewhere.Store(true)
	must(t, s.Append(t.Context(), goneBatch(t, 1, 0)))
	must(t, s.Append(t.Context(), goneBatch(t, 2, 1)))
	second := s.cur
	meanwhile = func() {
		must(t, s.rotate(second, math.MaxInt64))
		if more, err := s.passSome(second); err != nil || more {
			t.Errorf("%v, %v", more, err)
		}
		must(t, s.dropLocked(second.part, whyHandedOver, false))
	}
	must(t, s.age(gones{days: map[store.Day]int64{store.DayOf(goneDay(0)): goneDay(9).UnixMilli(), store.DayOf(goneDay(1)): goneDay(9).UnixMilli()}}))
	if meanwhile != nil {
		t.Fatal("nothing was handed over")
	}
	for d, want := range [][]string{{"0 records", "retention: 22 dropped, was complete"}, {"0 records", "retention: 24 dropped, was complete"}} {
		if diff := cmp.Diff(want, judged(t, s, "web1", d)); diff != "" {
			t.Errorf("day %d (-want +got):\n%s", d, diff)
		}
	}
}

// slowDrops is an engine whose account of drops is old by the time it is there.
type slowDrops struct{ *storetest.Memory }

// meanwhileKey is of a context: what happens once the account was read.
type meanwhileKey struct{}

func (m slowDrops) Drops(ctx context.Context) ([]store.DroppedPart, error) {
	list, err := m.Memory.Drops(ctx)
	if fn, ok := ctx.Value(meanwhileKey{}).(func()); ok {
		fn()
	}
	return list, err
}

// A day is not gone while a batch of it waits or has just been delivered, whatever the engine said before that.
func TestOutboxDropsLateBatch(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	var down atomic.Bool
	m.Fault = func(bool) error {
		if down.Load() {
			return errBusyEngine
		}
		return nil
	}
	times := outboxTimes{patience: 20 * time.Millisecond, again: time.Millisecond, most: time.Millisecond, look: time.Hour, file: usualTimes.file}
	o := newOutbox(open(t, Options{Dir: t.TempDir()}), slowDrops{m}, times)
	defer func() { must(t, o.Close()) }()
	must(t, o.Append(t.Context(), goneBatch(t, 1, 0)))
	must(t, o.Append(t.Context(), goneBatch(t, 2, 1)))
	empty(t, o)
	must(t, m.DropBy(store.Part{Day: store.DayOf(goneDay(0)), N: 1}, "ffff", "max_days = 1"))
	gone := func(ctx context.Context) bool {
		t.Helper()
		list, err := o.Drops(ctx)
		must(t, err)
		if len(list) != 1 {
			t.Fatalf("%d drops", len(list))
		}
		return list[0].DayGone
	}
	if !gone(t.Context()) {
		t.Error("the day is said to be there")
	}
	down.Store(true)
	late := func() { must(t, o.Append(t.Context(), goneBatch(t, 3, 0))) }
	if gone(context.WithValue(t.Context(), meanwhileKey{}, late)) {
		t.Error("the day is said to be gone, and a batch of it has come")
	}
	deliver := func() {
		down.Store(false)
		empty(t, o)
	}
	if gone(context.WithValue(t.Context(), meanwhileKey{}, deliver)) {
		t.Error("the day is said to be gone, and a batch of it was delivered")
	}
	if gone(t.Context()) {
		t.Error("the day is said to be gone, and the engine has events of it")
	}
}

// fewLeaves is a context that ends once it was asked about so often.
type fewLeaves struct {
	context.Context
	left int
}

func (c *fewLeaves) Err() error {
	if c.left--; c.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// Which drops the log has is known after some tries, where one has not the time for all of it.
func TestOutboxReadNotedInTime(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	o := quick(open(t, Options{Dir: t.TempDir()}), m)
	defer func() { must(t, o.Close()) }()
	for id := range uint64(6) {
		must(t, o.Append(t.Context(), goneBatch(t, id+1, int(id)/2)))
	}
	empty(t, o)
	part := store.Part{Day: store.DayOf(goneDay(0)), N: 1}
	must(t, o.Drop(t.Context(), part, "max_days = 2"))
	o.noting.Lock()
	defer o.noting.Unlock()
	want := o.drops.noted
	if want[part].first == 0 {
		t.Fatalf("noted are %v", want)
	}
	o.drops = drops{}
	tries := int(o.local.tree.Size())
	for range tries {
		err := o.readNoted(&fewLeaves{t.Context(), 3})
		if tries--; err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || o.drops.noted != nil {
			t.Fatalf("noted are %v: %v", o.drops.noted, err)
		}
	}
	if diff := cmp.Diff(want, o.drops.noted, cmp.AllowUnexported(noted{})); diff != "" || tries == 0 {
		t.Errorf("noted (-want +got):\n%s", diff)
	}
}

// A checkpoint has what others have dropped up to then, whenever it was looked for last, and does not wait for a look that is under way.
func TestOutboxDropsBeforeCheckpoint(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	o := newOutbox(open(t, Options{Dir: t.TempDir()}), m, outboxTimes{patience: time.Minute, again: time.Millisecond, most: time.Millisecond, look: time.Hour, file: usualTimes.file})
	defer func() { must(t, o.Close()) }()
	for d := range 3 {
		must(t, o.Append(t.Context(), goneBatch(t, uint64(d+1), d)))
	}
	empty(t, o)
	must(t, o.noteDrops(t.Context())) // behind the look at the start
	drops := func() (n int) {
		must(t, o.CatchUp(t.Context(), true))
		for _, l := range leavesOf(t, o.local, seal.Dropped) {
			if l.Flags&seal.Elsewhere != 0 {
				n++
			}
		}
		return n
	}
	must(t, m.DropBy(store.Part{Day: store.DayOf(goneDay(0)), N: 1}, "ffff", "max_days = 2"))
	if n := drops(); n != 1 {
		t.Errorf("the log has %d drops, of 1", n)
	}
	must(t, m.DropBy(store.Part{Day: store.DayOf(goneDay(1)), N: 1}, "ffff", "max_days = 1"))
	o.noting.Lock()
	n := drops()
	o.noting.Unlock()
	if n != 1 || drops() != 2 {
		t.Errorf("the log has %d drops beside a look", n)
	}
}

// What came of a class is aged while batches of other days come; one of that day may have events of the class, and the engine is asked again.
func TestAgeWhileBatchesCome(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir()})
	s.elsewhere.Store(true)
	must(t, s.Append(t.Context(), goneBatch(t, 1, 0)))
	g := gones{classes: map[dayClass]int64{{store.DayOf(goneDay(0)), "web*"}: goneDay(9).UnixMilli()}, last: 1}
	must(t, s.Append(t.Context(), goneBatch(t, 2, 1)))
	must(t, s.age(g))
	must(t, s.Append(t.Context(), goneBatch(t, 3, 0)))
	if err := s.age(g); !errors.Is(err, errLater) {
		t.Errorf("a batch of the day has come: %v", err)
	}
}

// What came of classes is in the order of its keys: a transaction moves what is behind each key that it puts before others.
func TestClassesReceivedInOrder(t *testing.T) {
	t.Parallel()
	b := &store.Batch{ID: 1, Day: store.DayOf(goneDay(1)), LSN: 1, Events: store.NewTable()}
	for i, host := range []string{"web1", "a-long-name", "db10", "z", "web10"} {
		for d := range 2 {
			for j, key := range []string{"(null)", `"noise"`} {
				b.Events.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.000:%d): arch=c000003e key=%s", host, goneDay(d).Unix(), 10*i+j, key)))
			}
		}
	}
	list := classesReceived(b, b.Events.Divide(store.Classes{{Key: "noise"}, {Hosts: "web*"}, {Hosts: "d*"}}))
	if len(list) != 20 {
		t.Fatalf("%d counts", len(list))
	}
	for i := 1; i < len(list); i++ {
		before, _ := list[i-1].Encode()
		if key, _ := list[i].Encode(); bytes.Compare(before, key) >= 0 {
			t.Errorf("%+v is before %+v", list[i-1], list[i])
		}
	}
}
