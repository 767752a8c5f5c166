package bolt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var errBusyEngine = errors.New("the engine is busy")

// quick is an outbox that does not wait long.
func quick(local *Store, e store.Engine) *Outbox { return quickOf(local, e, usualTimes.file) }

// quickOf is quick with files of another size.
func quickOf(local *Store, e store.Engine, file int64) *Outbox {
	return newOutbox(local, e, outboxTimes{patience: 20 * time.Millisecond, again: time.Millisecond, most: time.Millisecond, look: 5 * time.Millisecond, file: file})
}

// empty waits until the engine has everything, for who looks at the engine itself.
func empty(t *testing.T, o *Outbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := o.await(ctx); err != nil {
		t.Fatalf("what waits is %+v: %v", o.Waiting(), err)
	}
	for until := time.Now().Add(2 * time.Minute); len(o.local.sealed()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d groups are in the outbox", len(o.local.sealed()))
		}
	}
}

// A place with an engine that fails now and then, before or after it has taken a batch,
// is as any other.
func TestContractOutbox(t *testing.T) {
	t.Parallel()
	patient := func(t *testing.T, local *Store, e store.Engine) *Outbox {
		o := quick(local, e)
		t.Cleanup(func() { _ = o.Close() })
		o.times.patience = time.Minute // what is asked of parts is asked of the engine
		return o
	}
	env := storetest.Env{
		Open: func(t *testing.T) store.Store {
			m, rng := storetest.NewMemory(), rand.New(rand.NewPCG(1, 2))
			m.Fault = func(bool) error {
				if rng.IntN(3) == 0 {
					return errBusyEngine
				}
				return nil
			}
			return patient(t, open(t, Options{Dir: t.TempDir()}), m)
		},
		Reopen: func(t *testing.T, s store.Store) store.Store {
			must(t, s.Close())
			o := s.(*Outbox)
			return patient(t, open(t, Options{Dir: o.local.opts.Dir}), o.engine)
		},
	}
	storetest.Place(t, env)
	storetest.Events(t, env)
}

func TestOutboxKills(t *testing.T) {
	t.Parallel()
	storetest.Kills(t, func(t *testing.T, dir string, e store.Engine) store.Store {
		s, err := Open(Options{Dir: dir, LockTimeout: -1})
		must(t, err)
		return quick(s, e)
	})
}

// So it is where batches are divided by classes, and each process has other rules: a batch comes again as it was divided first.
func TestOutboxKillsDivided(t *testing.T) {
	t.Parallel()
	rules, n := []store.Classes{{{Hosts: "*"}}, nil, {{Key: "*"}, {Hosts: "a*"}}, {{Hosts: "nobody"}}}, 0
	storetest.Kills(t, func(t *testing.T, dir string, e store.Engine) store.Store {
		s, err := Open(Options{Dir: dir, LockTimeout: -1})
		must(t, err)
		o := quick(s, e)
		o.Divide(rules[n%len(rules)])
		n++
		return o
	})
}

// While the engine takes nothing, batches are appended all the same, and found; what is written of them is in files of some size. Once it takes them, it
// gets all in order and once, a process later, too, and the outbox is empty, and so are the files.
func TestOutboxWaits(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	ctx := context.Background()
	var down atomic.Bool
	down.Store(true)
	m.Fault = func(done bool) error {
		if down.Load() && done { // taken, and not said so
			return errBusyEngine
		}
		return nil
	}
	small := func() *Outbox {
		return quickOf(open(t, Options{Dir: dir}), m, 1)
	}
	ref, id := storetest.NewMemory(), uint64(0)
	o := small()
	add := func(day int) {
		t.Helper()
		id++
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		b := &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: id}
		must(t, o.Append(ctx, b))
		other := quick(open(t, Options{Dir: t.TempDir()}), ref)
		other.local.state.ID = id - 1
		must(t, other.Append(ctx, b))
		empty(t, other)
		must(t, other.Close())
	}
	same := func(when string) {
		t.Helper()
		for _, q := range []*query.Query{{}, {Reverse: true}, {AfterBatch: 2}} {
			if want, got := storetest.Collect(t, ref, q), storetest.Collect(t, o, q); !slices.Equal(want, got) {
				t.Errorf("%s: %d events of %+v, want %d in their order", when, len(got), q, len(want))
			}
		}
		want, err := ref.Stats(ctx)
		must(t, err)
		got, err := o.Stats(ctx)
		if err != nil || got.Events != want.Events || got.Records != want.Records || got.RawBytes != want.RawBytes || got.MinMs != want.MinMs || got.MaxMs != want.MaxMs || len(got.Parts) != len(want.Parts) {
			t.Errorf("%s: %+v, %v; want %+v", when, got, err, want)
		}
		for _, p := range want.Parts {
			if err := o.PartHosts(ctx, p.Part, func(string) {}); err != nil {
				t.Errorf("%s: hosts of %s: %v", when, p.Part, err)
			}
		}
	}
	files := func() int {
		list, err := filepath.Glob(filepath.Join(dir, layout.Partitions, "*"))
		must(t, err)
		return len(list)
	}
	for _, day := range []int{0, 0, 0, 1} {
		add(day)
		same("the engine is away")
	}
	if w := o.Waiting(); w.Batches != 4 || w.Events != 80 || w.Bytes == 0 || !errors.Is(w.Err, errBusyEngine) || w.Since.IsZero() {
		t.Errorf("what waits: %+v", w)
	}
	if n := files(); n < 3 {
		t.Errorf("%d files, want more than the days", n)
	}
	if err := o.Drop(ctx, store.Part{Day: store.DayOf(storetest.Start) + 1, N: 1}, "max_days = 1"); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a day that waits is dropped: %v", err)
	}
	if err := o.Rotate(ctx); !errors.Is(err, errBusyEngine) {
		t.Errorf("another part while batches wait: %v", err)
	}
	must(t, o.Close())

	ro := quick(open(t, Options{Dir: dir, ReadOnly: true}), m)
	if want, got := storetest.Collect(t, ref, &query.Query{}), storetest.Collect(t, ro, &query.Query{}); !slices.Equal(want, got) {
		t.Errorf("a store that is read only: %d events, want %d", len(got), len(want))
	}
	must(t, ro.Close())

	o = small()
	same("a process later")
	snap, err := o.Snapshot(ctx)
	must(t, err)
	down.Store(false)
	must(t, o.await(ctx))
	n := 0
	must(t, snap.Scan(ctx, &query.Query{}, func(*event.Event) error { n++; return nil })) // what it reads is not deleted under it
	if must(t, snap.Close()); n != 80 {
		t.Errorf("a snapshot from before has %d events, want 80", n)
	}
	empty(t, o)
	same("all was taken")
	add(1)
	same("one more")
	empty(t, o)
	if w := o.Waiting(); w != (store.Waiting{}) {
		t.Errorf("what waits: %+v", w)
	}
	for until := time.Now().Add(2 * time.Minute); files() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d files are left, want that of the last batch", files())
		}
	}
	must(t, o.Close())
}

// A group that is damaged while it is in the outbox is not handed over, and not lost
// without a word: it is set aside, searches that it concerns say so, and the next batches
// are delivered.
func TestOutboxDamaged(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int{"its head": 20, "its events": 400} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, m := t.TempDir(), storetest.NewMemory()
			ctx := context.Background()
			s := open(t, Options{Dir: dir})
			fill(t, s, 1, 1)
			must(t, s.Close())
			path := partPath(dir, 0)
			b, err := os.ReadFile(path)
			must(t, err)
			i := strings.Index(string(b), "AFGROUP\x00")
			b = slices.Clone(b)
			b[i+at] ^= 1
			must(t, os.WriteFile(path, b, 0o600))
			for range 2 {
				o := quick(open(t, Options{Dir: dir}), m)
				empty(t, o)
				snap, err := o.Snapshot(ctx)
				must(t, err)
				if err := snap.Scan(ctx, &query.Query{}, func(*event.Event) error { return nil }); !errors.Is(err, store.ErrDamaged) {
					t.Errorf("a search: %v", err)
				}
				if err := snap.Scan(ctx, &query.Query{StartMs: storetest.Start.UnixMilli() + 1e12}, func(*event.Event) error { return nil }); err != nil {
					t.Errorf("a search of another time: %v", err)
				}
				if _, err := snap.Tally(ctx, &query.Query{}, nil, nil); !errors.Is(err, store.ErrDamaged) {
					t.Errorf("a tally: %v", err)
				}
				must(t, snap.Close())
				if list := o.Missing(); len(list) != 1 || !strings.Contains(list[0].Error(), "60 events of batch 1") {
					t.Errorf("missing: %v", list)
				}
				if st, err := m.Stats(ctx); err != nil || st.Events != 0 {
					t.Errorf("the engine has %d events, %v", st.Events, err)
				}
				if n := len(o.local.sealed()); n != 0 {
					t.Errorf("%d groups are in the outbox", n)
				}
				must(t, o.Close())
			}
			aside, err := filepath.Glob(path + layout.AsideMark + "*")
			if must(t, err); len(aside) != 1 {
				t.Fatalf("set aside: %v", aside)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !slices.Equal(kept, b) {
				t.Errorf("what is set aside is not what was damaged: %d bytes of %d, %v", len(kept), len(b), err)
			}
			must(t, os.Remove(aside[0]))
			o := quick(open(t, Options{Dir: dir}), m)
			fill(t, o, 2, 1)
			empty(t, o)
			if st, err := m.Stats(ctx); err != nil || st.Events != 60 || len(o.Missing()) != 0 {
				t.Errorf("the engine has %d events, %v; missing %v", st.Events, err, o.Missing())
			}
			must(t, o.Close())
		})
	}
}

// Whatever is done to the files of a place whose outbox has a group, the next batches are
// delivered, and the engine has the group's events or the place says that they are missing.
func TestHandsOnAnOutbox(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	whole := made(t, 1)
	b, err := os.ReadFile(partPath(whole, 0))
	must(t, err)
	attacks := map[string]func(dir string) error{
		"nothing":               func(string) error { return nil },
		"the partition deleted": func(dir string) error { return os.Remove(partPath(dir, 0)) },
		"another store's": func(dir string) error {
			return os.WriteFile(partPath(dir, 0), mustRead(t, partPath(made(t, 1), 0)), 0o600)
		},
		"the manifest deleted": func(dir string) error { return os.Remove(filepath.Join(dir, manifest.Name)) },
		"another's manifest": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifest.Name), mustRead(t, filepath.Join(made(t, 1), manifest.Name)), 0o600)
		},
		"a second manifest": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifest.Name+".new"), mustRead(t, filepath.Join(dir, manifest.Name)), 0o600)
		},
	}
	for _, n := range []int{0, 100, 5000, len(b) / 2, len(b) - 4096} {
		attacks[fmt.Sprint("cut to ", n)] = func(dir string) error { return os.Truncate(partPath(dir, 0), int64(n)) }
	}
	used := strings.LastIndex(strings.TrimRight(string(b), "\x00"), "AFGROUP\x00") + 20_000
	for at := 16; at < min(used, len(b)); at += need.Size(499, 4999) {
		attacks[fmt.Sprint("bit of byte ", at)] = func(dir string) error {
			bad := slices.Clone(b)
			bad[at] ^= 1 << (at % 8)
			return os.WriteFile(partPath(dir, 0), bad, 0o600)
		}
	}
	for name, attack := range attacks {
		dir, m := filepath.Join(t.TempDir(), "store"), storetest.NewMemory()
		must(t, os.CopyFS(dir, os.DirFS(whole)))
		must(t, attack(dir))
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := quick(s, m)
		st, err := o.State(ctx)
		must(t, err)
		fill(t, o, int(st.ID)+1, 2)
		empty(t, o)
		got, err := m.Stats(ctx)
		must(t, err)
		if n := got.Events; n != 3*60 && (n != 2*60 || len(o.Missing()) == 0) {
			t.Errorf("%s: the engine has %d events, and missing is %v", name, n, o.Missing())
		}
		if n := len(o.local.sealed()); n != 0 {
			t.Errorf("%s: %d groups are in the outbox", name, n)
		}
		must(t, o.Close())
	}
}

// A place that has lost its partition, and with it the writer's place, uses no number again: the engine knows those, and would take the
// next batches for some that it has.
func TestOutboxGoesOn(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(path string) error{
		"deleted": os.Remove,
		"damaged": func(path string) error { return os.Truncate(path, 5000) },
	} {
		dir, m, ctx := t.TempDir(), storetest.NewMemory(), context.Background()
		s := open(t, Options{Dir: dir})
		must(t, s.MarkElsewhere())
		o := quick(s, m)
		fill(t, o, 1, 5)
		empty(t, o)
		must(t, o.Close())
		must(t, attack(partPath(dir, 2)))
		for range 2 { // it is so after another start, too
			o = quick(open(t, Options{Dir: dir}), m)
			st, err := o.State(ctx)
			must(t, err)
			before, err := m.Stats(ctx)
			must(t, err)
			fill(t, o, int(st.ID)+1, 2)
			empty(t, o)
			if got, err := m.Stats(ctx); err != nil || got.Events != before.Events+2*60 {
				t.Errorf("%s: the last batch is %d; of two more the engine has %d events, %v, want 120", name, st.ID, got.Events-before.Events, err)
			}
			must(t, o.Close())
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// The log of what was stored has a leaf for each batch, also once the engine alone has its events, and is whole after a reopen.
func TestOutboxSeals(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	ctx := context.Background()
	o := quick(open(t, Options{Dir: dir}), m)
	for id := uint64(1); id <= 4; id++ {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		must(t, o.Append(ctx, &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(id/3), Events: tab, LSN: id}))
		if id == 2 {
			must(t, o.Close())
			o = quick(open(t, Options{Dir: dir}), m)
		}
	}
	keeper, err := store.Able[seal.Keeper](o, "keep a log")
	must(t, err)
	must(t, keeper.CatchUp(ctx, true))
	list := leavesOf(t, o.local, seal.Batch)
	if len(list) != 4 {
		t.Fatalf("%d leaves, want one of each of 4 batches", len(list))
	}
	for i, l := range list {
		if l.Batch != uint64(i+1) || l.Events != 20 || l.Flags&seal.Elsewhere == 0 {
			t.Errorf("leaf %d: %+v", i, l)
		}
	}
	if _, err := store.Able[store.Compactor](o, "compact days"); !errors.Is(err, store.ErrUnable) {
		t.Errorf("it can be compacted: %v", err)
	}
	must(t, o.Close())
}
