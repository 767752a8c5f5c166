package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Outbox opens the place in dir, with e as the engine that keeps its events.
type Outbox func(t *testing.T, dir string, e store.Engine) store.Store

// errKilled is what the engine returns once the process is dead.
var errKilled = errors.New("the process is dead")

// Kills tests that a place with an engine stores each event once, wherever the process dies.
// The steps are those that the engine sees: before it takes a batch, and after it has taken
// it and before the place knows. A run kills the process at one step, and at some later step
// again, and opens the place anew with what its files and the engine have; there is a run
// for the first step, the second, and so on. From that step on the engine is away, and the process goes
// on for some batches before it dies. In between, the engine fails at random. What
// the writer does not find stored it makes anew from its journal, in batches of other sizes.
func Kills(t *testing.T, open Outbox) {
	every := 1
	if testing.Short() {
		every = 4
	}
	for step := 1; ; step += every {
		k := &killed{t: t, at: step, dir: t.TempDir(), engine: NewMemory(), rng: rand.New(rand.NewPCG(uint64(step), 7))}
		k.engine.Fault = k.fault
		for life := 0; !k.run(open, life); life++ {
			if life == 20 {
				t.Fatalf("killed at step %d: it comes to no end", step)
			}
		}
		k.check()
		if k.at > k.steps {
			t.Logf("killed at %d steps", step/every)
			return
		}
	}
}

// killed is one run: a writer that dies at a step.
type killed struct {
	t      *testing.T
	dir    string
	engine *Memory
	rng    *rand.Rand
	at     int // the step at which it dies

	mu    sync.Mutex // guards what follows, and rng: the place may hand over while the writer goes on
	steps int        // so far, in all lives
	again int        // the one at which it dies once more
	dead  bool
}

// random returns a number below n.
func (k *killed) random(n int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rng.IntN(n)
}

// isDead reports whether the step has come at which the process dies.
func (k *killed) isDead() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead
}

// inJournal is how many records the writer has, an event each; its LSN is the event's serial.
const inJournal = 60

// fault is the engine's Fault, which it asks at each step.
func (k *killed) fault(bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return errKilled
	}
	k.steps++
	if k.steps == k.at || k.steps == k.again {
		k.dead = true
		k.again = k.at + 1 + k.rng.IntN(6)
		return errKilled
	}
	if k.rng.IntN(4) == 0 {
		return errors.New("the engine is busy")
	}
	return nil
}

// run is one life of the writer: from opening the place until it dies, or until everything
// is stored, which it returns.
func (k *killed) run(open Outbox, life int) (done bool) {
	k.mu.Lock()
	k.dead = false
	k.mu.Unlock()
	s := open(k.t, k.dir, k.engine)
	defer func() {
		if err := s.Close(); err != nil {
			k.t.Error(err)
		}
	}()
	ctx := context.Background()
	st, err := s.State(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	k.search(s, st)
	// The journal's records beyond the state, and those that were open.
	var todo []uint64
	todo = append(todo, st.Open...)
	for lsn := st.LSN + 1; lsn <= inJournal; lsn++ {
		todo = append(todo, lsn)
	}
	more := k.random(4) // batches once the engine is away
	for id, lsn := st.ID+1, st.LSN; len(todo) > 0 || lsn < inJournal; id++ {
		n := min(len(todo), 1+k.random(12))
		b := &store.Batch{ID: id, Day: store.DayOf(Start) + store.Day(lsn/20), Events: store.NewTable()}
		var left []uint64
		for _, l := range todo[:n] {
			lsn = max(lsn, l)
			if n > 1 && k.random(8) == 0 { // not complete yet
				left = append(left, l)
				continue
			}
			ev := oneEvent(fmt.Sprintf("host%d", l%3), Start.UnixMilli()-int64(l*7919%60), l)
			b.Events.Add(string(ev.Node), ev)
		}
		todo, b.LSN = append(left, todo[n:]...), lsn
		for _, l := range todo {
			if l <= lsn {
				b.Open = append(b.Open, l)
			}
		}
		slices.Sort(b.Open)
		for err := s.Append(ctx, b); err != nil; err = s.Append(ctx, b) {
			if k.isDead() {
				return false
			}
			if errors.Is(err, ErrChanged) {
				k.t.Fatalf("killed at step %d, life %d: %v", k.at, life, err)
			}
		}
		if k.isDead() {
			if more--; more < 0 {
				return false
			}
		}
	}
	return k.handedOver(s)
}

// handedOver waits until the engine has all, or the process is dead.
func (k *killed) handedOver(s store.Store) bool {
	place, err := store.Able[store.Spooler](s, "let batches wait")
	if err != nil {
		k.t.Fatal(err)
	}
	for until := time.Now().Add(2 * time.Minute); !k.isDead(); time.Sleep(time.Millisecond) {
		w := place.Waiting()
		switch {
		case w.Batches == 0:
			return true
		case errors.Is(w.Err, ErrChanged) || time.Now().After(until):
			k.t.Fatalf("killed at step %d: what waits is %+v", k.at, w)
		}
	}
	return false
}

// search wants a snapshot to have every event that the state counts as stored, or to fail.
func (k *killed) search(s store.Store, st *store.State) {
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		return
	}
	n := 0
	err = snap.Scan(context.Background(), &query.Query{}, func(*event.Event) error { n++; return nil })
	if want := int(st.LSN) - len(st.Open); err != nil || n != want {
		k.t.Errorf("killed at step %d: a search finds %d of %d stored events: %v", k.at, n, want, err)
	}
	if err := snap.Close(); err != nil {
		k.t.Error(err)
	}
}

// check wants the engine to have each event once.
func (k *killed) check() {
	times := map[uint64]int{}
	for _, e := range k.engine.events {
		times[e.ev.Serial]++
	}
	for lsn := uint64(1); lsn <= inJournal; lsn++ {
		if times[lsn] != 1 {
			k.t.Errorf("killed at step %d: event %d is stored %d times", k.at, lsn, times[lsn])
		}
	}
}
