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
	"testing"

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

// patient is a place whose writer tries again as long as the engine is busy, as the head does.
type patient struct{ *Outbox }

func (p patient) Append(ctx context.Context, b *store.Batch) error {
	for {
		if err := p.Outbox.Append(ctx, b); !errors.Is(err, errBusyEngine) {
			return err
		}
	}
}

// A place with an engine that fails now and then, before or after it has taken a batch,
// is as any other.
func TestContractOutbox(t *testing.T) {
	t.Parallel()
	env := storetest.Env{
		Open: func(t *testing.T) store.Store {
			m, rng := storetest.NewMemory(), rand.New(rand.NewPCG(1, 2))
			m.Fault = func(bool) error {
				if rng.IntN(3) == 0 {
					return errBusyEngine
				}
				return nil
			}
			return patient{NewOutbox(context.Background(), open(t, Options{Dir: t.TempDir()}), m)}
		},
		Reopen: func(t *testing.T, s store.Store) store.Store {
			must(t, s.Close())
			p := s.(patient)
			return patient{NewOutbox(context.Background(), open(t, Options{Dir: p.local.opts.Dir}), p.engine)}
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
		return NewOutbox(context.Background(), s, e)
	})
}

// While the engine does not take what an earlier process left, searches fail, and
// nothing new is begun. Once it does, the outbox is empty, and so are the files of
// days gone by.
func TestOutboxOwes(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	ctx := context.Background()
	down := true
	m.Fault = func(done bool) error {
		if down && done { // taken, and not said so
			return errBusyEngine
		}
		return nil
	}
	batch := func(id uint64, day int) *store.Batch {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		return &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: id}
	}
	o := NewOutbox(ctx, open(t, Options{Dir: dir}), m)
	if err := o.Append(ctx, batch(1, 0)); !errors.Is(err, errBusyEngine) {
		t.Fatalf("the engine is down: %v", err)
	}
	if snap, err := o.Snapshot(ctx); err != nil || snap.LastID() != 1 { // whoever appends has batch 1 in memory
		t.Errorf("a search by who appends: %v", err)
	}
	must(t, o.Close())

	ro := NewOutbox(ctx, open(t, Options{Dir: dir, ReadOnly: true}), m)
	if _, err := ro.Snapshot(ctx); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("a search of a store that is read only: %v", err)
	}
	must(t, ro.Close())

	o = NewOutbox(ctx, open(t, Options{Dir: dir}), m)
	if _, err := o.Snapshot(ctx); !errors.Is(err, errBusyEngine) {
		t.Errorf("a search while a batch is owed: %v", err)
	}
	if err := o.Append(ctx, batch(2, 1)); !errors.Is(err, errBusyEngine) {
		t.Errorf("a batch while another one is owed: %v", err)
	}
	if st, err := o.State(ctx); err != nil || st.ID != 1 {
		t.Errorf("the state has batch %+v, %v", st, err)
	}
	down = false
	if got := storetest.Collect(t, o, &query.Query{}); len(got) != 20 {
		t.Errorf("%d events, want the 20 of batch 1", len(got))
	}
	must(t, o.Append(ctx, batch(2, 1)))
	if st, err := o.Stats(ctx); err != nil || st.Events != 40 || len(st.Parts) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if n := len(o.local.sealed()); n != 0 {
		t.Errorf("%d groups are in the outbox", n)
	}
	files, err := filepath.Glob(filepath.Join(dir, layout.Partitions, "*"))
	if must(t, err); len(files) != 1 || filepath.Base(files[0]) != dayName(1)+layout.Suffix {
		t.Errorf("files: %v, want that of the second day", files)
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
				o := NewOutbox(ctx, open(t, Options{Dir: dir}), m)
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
			o := NewOutbox(ctx, open(t, Options{Dir: dir}), m)
			fill(t, o, 2, 1)
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
		o := NewOutbox(ctx, s, m)
		st, err := o.State(ctx)
		must(t, err)
		fill(t, o, int(st.ID)+1, 2)
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
		o := NewOutbox(ctx, s, m)
		fill(t, o, 1, 5)
		must(t, o.Close())
		must(t, attack(partPath(dir, 2)))
		for range 2 { // it is so after another start, too
			o = NewOutbox(ctx, open(t, Options{Dir: dir}), m)
			st, err := o.State(ctx)
			must(t, err)
			before, err := m.Stats(ctx)
			must(t, err)
			fill(t, o, int(st.ID)+1, 2)
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
	o := NewOutbox(ctx, open(t, Options{Dir: dir}), m)
	for id := uint64(1); id <= 4; id++ {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		must(t, o.Append(ctx, &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(id/3), Events: tab, LSN: id}))
		if id == 2 {
			must(t, o.Close())
			o = NewOutbox(ctx, open(t, Options{Dir: dir}), m)
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
